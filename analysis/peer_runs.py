"""Worker of the benchmark: run a peer on one data set; JSON in, JSON out.

Also run with another interpreter than the package's, so it imports nothing of it.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np


def run_pyoperon(X, y, job):
    """Return expression, seconds, evaluations."""
    from pyoperon.sklearn import SymbolicRegressor

    budget = job["evaluations"]
    limit = job["seconds"]
    model = SymbolicRegressor(
        allowed_symbols="add,sub,mul,div,sqrt,square,exp,log,sin,cos,tanh,constant,variable",
        objectives=["r2", "length"],
        optimizer_iterations=4,
        population_size=200,
        pool_size=200,
        generations=1_000_000 if limit else 10_000,
        max_evaluations=int(1e12) if limit else budget,
        time_limit=int(np.ceil(limit)) if limit else None,
        max_length=30,
        max_depth=9,
        n_threads=1,
        random_state=job["seed"],
        model_selection_criterion="minimum_description_length",
        uncertainty=[max(job["noise"] * float(np.std(y)), 1e-6 * float(np.std(y)))],
    )
    begin = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - begin
    text = model.get_model_string(model.model_, 12, job["columns"])
    stats = model.stats_
    done = stats["residual_evaluations"] + stats["jacobian_evaluations"]
    return text.replace("^", "**"), seconds, int(done)


def _infix(program, columns):
    """Turn gplearn's prefix program into infix text."""
    forms = {
        "add": "({}+{})",
        "sub": "({}-{})",
        "mul": "({}*{})",
        "div": "({}/{})",
        "sqrt": "sqrt(Abs({}))",
        "log": "log(Abs({}))",
        "square": "({})**2",
    }
    iterator = iter(program.program)

    def read():
        node = next(iterator)
        if isinstance(node, (int, np.integer)):
            return columns[node]
        if isinstance(node, (float, np.floating)):
            return f"({float(node)!r})"
        operands = [read() for _ in range(node.arity)]
        return forms.get(node.name, node.name + "({})").format(*operands)

    return read()


def run_gplearn(X, y, job):
    """Return expression, seconds, evaluations."""
    from gplearn.functions import make_function
    from gplearn.genetic import SymbolicRegressor

    def exp(x):
        with np.errstate(over="ignore"):
            return np.nan_to_num(np.exp(np.minimum(x, 300.0)))

    extra = [
        make_function(function=exp, name="exp", arity=1),
        make_function(function=np.square, name="square", arity=1),
        make_function(function=np.tanh, name="tanh", arity=1),
    ]
    population = 500
    generations = max(1, job["evaluations"] // population)
    model = SymbolicRegressor(
        population_size=population,
        generations=1 if job["seconds"] else generations,
        warm_start=bool(job["seconds"]),
        function_set=["add", "sub", "mul", "div", "sqrt", "log", "sin", "cos", *extra],
        metric="mse",
        stopping_criteria=1e-20,
        parsimony_coefficient=0.001,
        const_range=(-5.0, 5.0),
        random_state=job["seed"],
    )
    begin = time.perf_counter()
    # its penalty on length is absolute and it fits no scale: a target of order one
    scale = float(np.std(y))
    y = y / scale
    model.fit(X, y)
    while job["seconds"] and time.perf_counter() - begin < job["seconds"]:
        model.set_params(generations=model.generations + 1)
        model.fit(X, y)
    seconds = time.perf_counter() - begin
    return (
        f"({scale!r})*({_infix(model._program, job['columns'])})",
        seconds,
        population * len(model.run_details_["generation"]),
    )


RUNNERS = {"pyoperon": run_pyoperon, "gplearn": run_gplearn}


def main() -> None:
    """Serve jobs, one a line, until the input ends."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        job = json.loads(line)
        with np.load(job["data"]) as data:
            X, y = data["X"], data["y"]
        try:
            text, seconds, done = RUNNERS[job["method"]](X, y, job)
            answer = {"expression": text, "seconds": seconds, "evaluations": done}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print("@@" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
