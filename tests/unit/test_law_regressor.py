import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from nanoslit.discovery.estimator import LawRegressor
from nanoslit.errors import LawError

RNG = np.random.default_rng(0)
X = RNG.uniform(1, 3, (80, 2))
Y = 2.5 * X[:, 0] / X[:, 1]


def test_fit_predict_score_clone_and_pipeline():
    model = LawRegressor(3000, random_state=2)
    twin = clone(model)
    assert model.fit(X, Y) is model
    assert model.score(X, Y) == pytest.approx(1.0)
    assert twin.fit(X, Y).expression_ == model.expression_
    np.testing.assert_allclose(model.predict(X[:5]), Y[:5], rtol=1e-6)
    pipe = make_pipeline(FunctionTransformer(), LawRegressor(2000))
    assert cross_val_score(pipe, X, Y, cv=3).min() > 0.999


def test_weights_and_units():
    y = Y.copy()
    y[:8] += 5.0
    weights = np.ones(80)
    weights[:8] = 1e-9
    units = {"x0": "V", "x1": "A", "y": "ohm"}
    model = LawRegressor(3000, units=units).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(model.predict(X), Y, rtol=1e-4)
    with pytest.raises(LawError, match="no combination"):
        LawRegressor(1000, units=units | {"y": "kg"}).fit(X, Y)
    with pytest.raises(LawError, match="not of"):
        LawRegressor(1000, units={"x0": "V"}).fit(X, Y)
