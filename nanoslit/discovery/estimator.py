"""``LawRegressor``: the search behind scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nanoslit.discovery.dimensions import exponents
from nanoslit.discovery.discover import (
    choose,
    make_law,
    offset_is_natural,
    search_problem,
    table_rivals,
)
from nanoslit.discovery.law import ResistanceLaw
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.tokens import DEFAULT_OPERATORS
from nanoslit.errors import LawError, MissingExtraError

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise MissingExtraError(
        "LawRegressor needs scikit-learn >= 1.6: pip install 'nanoslit[discovery]'"
    ) from None

__all__ = ["LawRegressor"]


class LawRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Find a formula ``y = f(X)`` by evolutionary search.

    Parameters
    ----------
    evaluations : int
        Budget, least-squares steps included.
    operators : sequence of str
        See :class:`~nanoslit.discovery.problem.SearchSettings`.
    islands, population : int
    units : mapping of str to str, optional
        Unit of every column (``x0``, ``x1``, ... if X has no column names) and of the
        target, which is called ``y``.
    constant_units : {"dimensionless", "scale", "free"}
    loss : {"squares", "huber"}
        ``huber`` for data with gross outliers.
    max_size : int
        Largest number of nodes.
    offset : bool, optional
        Whether an additive constant is tried; by default where units allow it.
    random_state : int, optional
        Key of the random numbers; 1 by default.

    Attributes
    ----------
    law_ : ResistanceLaw
        Law, front and baselines.
    expression_ : str
        The chosen formula.
    front_ : list of LawForm
        Best of each complexity.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(1, 2, (50, 2))
    >>> model = LawRegressor(evaluations=3000).fit(X, X[:, 0] * X[:, 1])
    >>> round(model.score(X, X[:, 0] * X[:, 1]), 6)
    1.0
    """

    def __init__(
        self,
        evaluations: int = 50_000,
        *,
        operators: Sequence[str] = DEFAULT_OPERATORS,
        islands: int = 4,
        population: int = 100,
        units: Mapping[str, str] | None = None,
        constant_units: str = "dimensionless",
        loss: str = "squares",
        max_size: int = 30,
        offset: bool | None = None,
        random_state: int | None = None,
    ) -> None:
        self.evaluations = evaluations
        self.operators = operators
        self.islands = islands
        self.population = population
        self.units = units
        self.constant_units = constant_units
        self.loss = loss
        self.max_size = max_size
        self.offset = offset
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> LawRegressor:
        """Search.

        Parameters
        ----------
        X : array_like, shape (rows, columns)
        y : array_like, shape (rows,)
        sample_weight : array_like, shape (rows,), optional
            Inverse variances of y up to a factor.

        Raises
        ------
        LawError
            If data or units are unusable.
        """
        rows: NDArray[np.float64]
        rows, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        names = tuple(
            getattr(self, "feature_names_in_", [f"x{j}" for j in range(rows.shape[1])])
        )
        bad = [n for n in names if not str(n).isidentifier()]
        if bad:
            raise LawError(f"column names {bad} cannot stand in a formula; rename them")
        units, target_unit = None, exponents("")
        if self.units:
            missing = [n for n in (*names, "y") if n not in self.units]
            if missing:
                raise LawError(f"units are given, but not of {missing}")
            units = tuple(exponents(self.units[n]) for n in names)
            target_unit = exponents(self.units["y"])
        weights = None
        if sample_weight is not None:
            weights = np.asarray(sample_weight, dtype=np.float64)
        problem = Problem(
            names, rows, np.asarray(y, float), weights=weights, units=units,
            target_unit=target_unit,
        )  # fmt: skip
        settings = self._settings(problem)
        laboratory, result = search_problem(problem, settings)
        chosen = choose(laboratory, result, settings.evaluations)
        rivals = table_rivals(problem, None, chosen.independent_samples, settings)
        self.law_: ResistanceLaw = make_law(
            problem, settings, chosen, result, baselines=rivals, eligible=()
        )
        self.expression_ = self.law_.best.expression
        self.front_ = list(self.law_.front)
        return self

    def _settings(self, problem: Problem) -> SearchSettings:
        settings = SearchSettings(
            evaluations=self.evaluations,
            seed=1 if self.random_state is None else int(self.random_state),
            islands=self.islands,
            population=self.population,
            operators=tuple(self.operators),
            constant_units=self.constant_units,
            loss=self.loss,
            max_size=self.max_size,
        )
        offset = self.offset
        if offset is None:
            offset = offset_is_natural(problem, settings)
        return SearchSettings.from_dict(settings.to_dict() | {"offset": bool(offset)})

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the law's values, shape (rows,)."""
        check_is_fitted(self)
        rows: NDArray[np.float64]
        rows = validate_data(self, X, reset=False, dtype=np.float64)
        columns: dict[str, Any] = dict(zip(self.law_.columns, rows.T, strict=True))
        return self.law_(columns)
