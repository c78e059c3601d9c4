"""Planted trans-slit law among decoys: form and constants over many seeds.

dphi = I R_c (1 - gamma q) with decoy columns V, t, dQ/dt and salt content; and the null
control gamma = 0, where no term with q may be claimed. ``python -m
analysis.bench_planted``.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import sympy

from nanoslit.discovery.dimensions import exponents
from nanoslit.discovery.discover import choose, search_problem
from nanoslit.discovery.problem import Problem, SearchSettings

NAMES = ("I", "q", "V", "t", "dQdt", "salt")
UNITS = ("A/m", "", "V", "s", "A/m", "")
R_C, GAMMA = 2.3, 0.6


def planted(gamma: float, noise: float, seed: int, rows: int = 400) -> Problem:
    """Return smooth traces of one charging half cycle, different for each seed."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0.0, 1.0, rows)
    lag, shape = rng.uniform(0.1, 0.5, 2)
    q = t - lag * (1 - np.exp(-t / lag))
    q /= q.max()
    dQdt = np.gradient(q, t)
    current = dQdt * (1 + shape * np.cos(5 * t)) + 0.05 * rng.normal(size=rows)
    salt = 1 - 0.3 * q**2 + 0.02 * rng.normal(size=rows)
    V = 0.2 * t + 0.01 * np.sin(9 * t)
    y = R_C * current * (1 - gamma * q)
    y = y + noise * y.std() * rng.normal(size=rows)
    return Problem(
        NAMES,
        np.stack([current, q, V, t, dQdt, salt], axis=1),
        y,
        units=tuple(exponents(u) for u in UNITS),
        target_unit=exponents("V"),
        target="dphi",
    )


def terms(text: str) -> dict[str, float]:
    """Return the coefficients of the expanded expression."""
    symbols = {n: sympy.Symbol(n) for n in NAMES}
    value = sympy.expand(sympy.sympify(text, locals=symbols))
    parts = value.as_coefficients_dict(*symbols.values())
    return {str(k): float(v) for k, v in parts.items()} if _numeric(parts) else {}


def _numeric(parts: dict) -> bool:
    return all(v.is_number for v in parts.values())


def verdict(found: dict[str, float], gamma: float) -> tuple[bool, bool]:
    """Return whether the form is right, and the constants within 5 %."""
    if set(found) != ({"I", "I*q"} if gamma else {"I"}):
        return False, False
    r_c = found["I"]
    good = abs(r_c / R_C - 1) < 0.05
    if gamma:
        good = good and abs(-found["I*q"] / r_c / gamma - 1) < 0.05
    return True, good


def main() -> None:
    """Run and print one line per planted law and noise level."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=19_000)
    args = parser.parse_args()
    for gamma in (GAMMA, 0.0):
        for noise in (0.0, 0.01, 0.05):
            form = constants = 0
            most, begin = 0, time.perf_counter()
            for seed in range(args.seeds):
                problem = planted(gamma, noise, seed)
                settings = SearchSettings(
                    evaluations=args.evaluations,
                    islands=2,
                    seed=seed,
                    constant_units="scale",
                )
                laboratory, result = search_problem(problem, settings)
                chosen = choose(laboratory, result, args.evaluations)
                most = max(most, result.evaluations + chosen.evaluations)
                text = chosen.best.form.text(NAMES)
                right, good = verdict(terms(text), gamma)
                form += right
                constants += good
                if not (right and good):
                    print(f"   seed {seed}: {text}")
            print(
                f"gamma {gamma:g}, noise {noise:g}: form {form}/{args.seeds}, constants "
                f"within 5 % {constants}/{args.seeds}, at most {most} evaluations, "
                f"{time.perf_counter() - begin:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
