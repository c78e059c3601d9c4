"""What is searched: data in evaluation order, units, and settings of the search."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery.dimensions import (
    CONSTANT_UNITS,
    NONE,
    DimensionTable,
    Exponents,
)
from nanoslit.discovery.tokens import DEFAULT_OPERATORS, MAX_TOKENS, OPERATORS
from nanoslit.errors import LawError

__all__ = ["Problem", "SearchSettings"]

Array = NDArray[np.float64]
LOSSES = ("squares", "huber")


@dataclass(frozen=True)
class SearchSettings:
    """Settings of the search; equal settings, data and seed give an equal result.

    Parameters
    ----------
    evaluations : int
        Budget: passes of an expression over the data, each least-squares residual and
        Jacobian column included. Shared equally by the islands; a generation that has
        begun is finished.
    seed : int
        Key of the random numbers.
    islands, population : int
        Number of islands (not of ranks) and individuals on each.
    operators : tuple of str
        Out of ``+ - * / pow sqrt square exp log sin cos tanh sinh cosh abs cube inv``.
    max_size, max_depth, max_nesting, max_constants : int
        Largest number of tokens, depth, transcendental functions above one another,
        and constant leaves.
    constant_units : {"dimensionless", "scale", "free"}
        Constants are plain numbers; or only the overall scale carries a unit; or every
        constant takes the unit that its place demands.
    scale : bool
        Fit the overall scale in closed form during the search.
    offset : bool
        Fit an additive constant, too; removed afterwards unless it is significant.
    private_constants : bool
        Constants (and scale) may be private to each data set.
    migration_interval : int
        Generations between migrations (an epoch).
    migrants : int
        Individuals sent at each migration.
    topology : {"ring", "pairs", "none"}
        Next island; a random permutation drawn anew each epoch; no migration.
    local_search_share : float
        Share of the offspring whose constants are fitted by Levenberg-Marquardt.
    local_search_steps : int
        Its steps.
    immigrants : float
        Share of the offspring that is created at random (diversity).
    monomials : float
        Chance that a new subtree is a product of powers of columns drawn at once.
    loss : {"squares", "huber"}
        ``huber``: gross outliers count by their distance, not its square.
    stop_error : float
        Stop an island, and those that it can reach, once the misfit is below; 0 never.
    rates : tuple of float
        Chances of crossover, new subtree, new token, insertion, deletion, changed
        constants, new factor; scaled to sum 1.
    """

    evaluations: int = 100_000
    seed: int = 1
    islands: int = 4
    population: int = 100
    operators: tuple[str, ...] = DEFAULT_OPERATORS
    max_size: int = 30
    max_depth: int = 9
    max_nesting: int = 2
    max_constants: int = 6
    constant_units: str = "dimensionless"
    scale: bool = True
    offset: bool = False
    private_constants: bool = False
    migration_interval: int = 10
    migrants: int = 3
    topology: str = "ring"
    local_search_share: float = 0.2
    local_search_steps: int = 4
    immigrants: float = 0.08
    monomials: float = 0.25
    loss: str = "squares"
    stop_error: float = 0.0
    rates: tuple[float, ...] = (0.3, 0.18, 0.12, 0.15, 0.1, 0.05, 0.1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "operators", tuple(self.operators))
        object.__setattr__(self, "rates", tuple(self.rates))
        unknown = [o for o in self.operators if o not in OPERATORS]
        if unknown or not self.operators:
            raise LawError(f"unknown operators {unknown}; known: {' '.join(OPERATORS)}")
        if self.topology not in ("ring", "pairs", "none"):
            raise LawError(f"topology = {self.topology!r} must be 'ring', 'pairs' or 'none'")
        if self.loss not in LOSSES:
            raise LawError(f"loss = {self.loss!r} must be one of {LOSSES}")
        if self.constant_units not in CONSTANT_UNITS:
            raise LawError(
                f"constant units {self.constant_units!r} must be one of {CONSTANT_UNITS}"
            )
        for key, low in (
            ("evaluations", 1),
            ("islands", 1),
            ("population", 8),
            ("migration_interval", 1),
            ("migrants", 1),
            ("max_depth", 1),
        ):
            if getattr(self, key) < low:
                raise LawError(f"{key} = {getattr(self, key)!r} must be at least {low}")
        if not 0 <= self.seed < 2**63:
            raise LawError(f"seed = {self.seed!r} must be between 0 and 2**63 - 1")
        if not 1 <= self.max_size <= MAX_TOKENS:
            raise LawError(f"max_size = {self.max_size!r} must be between 1 and {MAX_TOKENS}")
        if len(self.rates) != 7 or min(self.rates) < 0 or not sum(self.rates) > 0:
            raise LawError("rates must be seven numbers >= 0, not all of them zero")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> SearchSettings:
        """Read :meth:`to_dict`'s record."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in record.items() if k in known})


@dataclass(frozen=True)
class Problem:
    """Columns, target, data sets and units of one regression.

    Parameters
    ----------
    columns : tuple of str
        Feature names.
    X : ndarray, shape (n, columns)
        Features.
    y : ndarray, shape (n,)
        Target.
    groups : ndarray of int, shape (n,), optional
        Data set of each row, 0, 1, ...; all 0 by default.
    weights : ndarray, shape (n,), optional
        Inverse variances up to a factor.
    units : tuple of Exponents, optional
        Of each column; None for no dimensional analysis.
    target_unit : Exponents
        Of the target.

    Raises
    ------
    LawError
        If the data are too few, not finite, constant, or the units inconsistent.
    """

    columns: tuple[str, ...]
    X: Array
    y: Array
    groups: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    weights: Array | None = None
    units: tuple[Exponents, ...] | None = None
    target_unit: Exponents = NONE
    target: str = "y"

    def __post_init__(self) -> None:
        if self.groups.size == 0:
            object.__setattr__(self, "groups", np.zeros(len(self.y), dtype=np.int64))
        _require_usable(self)

    @property
    def sets(self) -> int:
        """Number of data sets."""
        return int(self.groups.max()) + 1

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of names, units and numbers."""
        h = hashlib.sha256(json.dumps([self.columns, str(self.units)]).encode())
        for a in (self.X, self.y, self.groups, self.weights):
            if a is not None:
                h.update(np.ascontiguousarray(a).tobytes())
        return h.hexdigest()

    def dimension_table(self, settings: SearchSettings) -> DimensionTable:
        """Return the numbered dimensions of this problem."""
        units = self.units or (NONE,) * len(self.columns)
        mode = settings.constant_units if self.units else "dimensionless"
        target = self.target_unit if self.units else NONE
        if mode == "dimensionless" and self.units and settings.offset and target != NONE:
            raise LawError(
                f"an offset of {self.target!r} would be a constant with a unit; switch "
                "the offset off or allow constants with units"
            )
        return DimensionTable.build(units, target, settings.operators, mode, self.columns)


def _require_usable(problem: Problem) -> None:
    X, y, names = problem.X, problem.y, problem.columns
    if X.ndim != 2 or X.shape != (len(y), len(names)):
        raise LawError(f"features have shape {X.shape}, expected ({len(y)}, {len(names)})")
    needed = max(8, 2 * len(names))
    if len(y) < needed:
        raise LawError(
            f"{len(y)} row(s) for {len(names)} feature(s); at least {needed} are needed"
        )
    for name, column in [*zip(names, X.T, strict=True), (problem.target, y)]:
        bad = np.nonzero(~np.isfinite(column))[0]
        if bad.size:
            raise LawError(
                f"column {name!r} has {bad.size} value(s) that are not finite (nan or "
                f"inf), the first in row {bad[0]}; remove or mend these rows"
            )
        if np.ptp(column) == 0:
            raise LawError(
                f"column {name!r} is constant ({column[0]:.6g}): it can neither explain "
                "nor be explained; leave it out"
            )
    if len(set(names)) != len(names):
        raise LawError(f"feature names {list(names)} must differ from one another")
    if problem.target in names:
        raise LawError(f"the target {problem.target!r} is also a feature")
    w = problem.weights
    if w is not None and (w.shape != y.shape or not np.all(np.isfinite(w) & (w > 0))):
        raise LawError("weights must be positive, finite and one per row")
    for g in range(problem.sets):
        rows = int(np.sum(problem.groups == g))
        if rows < 4:
            raise LawError(f"data set {g} has {rows} row(s); at least 4 are needed")
        if not np.any(y[problem.groups == g]):
            raise LawError(f"the target is zero everywhere in data set {g}")
