"""One island: a population of laws that varies, competes and is selected (NSGA-II).

Selection, fitness and toolbox are DEAP's; creation, variation and evaluation are the
compiled functions of :mod:`nanoslit.discovery.variation` and
:mod:`nanoslit.discovery.kernels`. A generation is a pure function of the island's state
and of (seed, island, generation).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery import kernels, variation
from nanoslit.discovery.founders import MINUS, suggest
from nanoslit.discovery.packed import PackedData
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.tokens import (
    BINARY,
    FIXED,
    MAX_TOKENS,
    OPERATORS,
    PRIVATE,
    complexity,
    decode,
    encode,
)
from nanoslit.errors import MissingExtraError

try:
    from deap import base, tools
except ImportError:
    raise MissingExtraError(
        "law discovery needs DEAP: pip install 'nanoslit[discovery]'"
    ) from None

__all__ = ["Individual", "Island", "Laboratory"]


class ErrorAndComplexity(base.Fitness):  # type: ignore[misc]
    """Two aims, both to be made small."""

    weights = (-1.0, -1.0)


class Individual:
    """An expression with its fitted constants, misfit and complexity."""

    __slots__ = ("cdim", "constants", "error", "fitness", "hash", "size", "tokens")

    def __init__(
        self,
        tokens: NDArray[np.int16],
        constants: NDArray[np.float64],
        cdim: NDArray[np.int64],
        hash_: int,
        error: float,
    ) -> None:
        self.tokens = tokens
        self.constants = constants
        self.cdim = cdim
        self.hash = hash_
        self.size = complexity(tokens)
        self.error = error
        self.fitness = ErrorAndComplexity((error, float(self.size)))


class Laboratory:
    """What all islands share: data laid out for the kernels, dimensions, limits."""

    def __init__(self, problem: Problem, settings: SearchSettings) -> None:
        self.problem = problem
        self.settings = settings
        self.data = PackedData.build(problem, settings)
        self.dimensions = problem.dimension_table(settings)
        d = self.dimensions
        ops = np.array([OPERATORS[o] for o in settings.operators], dtype=np.int64)
        self.suggestions = suggest(problem, set(ops.tolist()))
        monomials = d.with_products(self.suggestions.groups)
        self.space = variation.Space(
            ops,
            (d.product, d.quotient, np.stack([d.square, d.root, d.cube, d.inverse])),
            d.variables,
            np.int64(d.target),
            d.constant_allowed,
            d.smallest,
            d.witness,
            (
                *monomials,
                settings.monomials,
                np.isin(np.arange(d.count), d.variables),
            ),
            settings.private_constants and problem.sets > 1,
            np.array(
                [
                    settings.max_size,
                    settings.max_depth,
                    settings.max_nesting,
                    settings.max_constants,
                ],
                dtype=np.int64,
            ),
        )
        self.smallest = int(d.smallest[d.target] if d.target >= 0 else d.smallest.min())

    def rows(self, count: int) -> tuple[Any, ...]:
        """Return empty token, length, constant, dimension and hash arrays."""
        return (
            np.zeros((count, MAX_TOKENS), dtype=np.int16),
            np.zeros(count, dtype=np.int64),
            np.zeros((count, MAX_TOKENS, self.problem.sets)),
            np.zeros((count, MAX_TOKENS), dtype=np.int64),
            np.zeros(count, dtype=np.uint64),
        )

    def annotate(self, tokens: Any, cdim: Any) -> int | None:
        """Return the hash of an acceptable expression, None of any other."""
        n = len(tokens)
        dims, start = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        hashes = np.zeros(n, dtype=np.uint64)
        target = self.space.target
        good = variation.annotate(tokens, n, cdim, self.space, target, dims, start, hashes)
        return int(hashes[-1]) if good else None

    def write(self, individual: Individual) -> str:
        """Return an individual as one line of text."""
        body = encode(individual.tokens, individual.constants, self.problem.columns)
        dims = ",".join(
            str(d)
            for t, d in zip(individual.tokens, individual.cdim, strict=True)
            if t < BINARY
        )
        return f"{individual.error.hex()} {dims or '-'} {body}"

    def read(self, line: str) -> Individual:
        """Read :meth:`write`'s line."""
        error, dims, body = line.split(" ", 2)
        tokens, constants = decode(body, self.problem.columns, self.problem.sets)
        cdim = np.zeros(len(tokens), dtype=np.int64)
        if dims != "-":
            cdim[tokens < BINARY] = [int(d) for d in dims.split(",")]
        hash_ = self.annotate(tokens, cdim)
        return Individual(tokens, constants, cdim, hash_ or 0, float.fromhex(error))


@dataclass
class Island:
    """State of one island.

    Parameters
    ----------
    laboratory : Laboratory
    number : int
        Index of the island; part of the random key.
    """

    laboratory: Laboratory
    number: int
    population: list[Individual] = field(default_factory=list)
    archive: dict[int, Individual] = field(default_factory=dict)
    generation: int = 0
    evaluations: int = 0
    duplicates: int = 0
    rejected: int = 0
    accepted_migrants: int = 0
    solved: bool = False

    def __post_init__(self) -> None:
        toolbox = base.Toolbox()
        toolbox.register("evaluate", self._evaluate)
        toolbox.register("mate_and_mutate", self._breed)
        toolbox.register("select", tools.selNSGA2, nd="log")
        self.toolbox = toolbox

    def generator(self, purpose: int = 0) -> np.random.Generator:
        """Return the generator of this island and generation."""
        key = (self.number << 40) | (self.generation << 4) | purpose
        return np.random.Generator(np.random.Philox(key=[self.laboratory.settings.seed, key]))

    @property
    def budget(self) -> int:
        """Evaluations of this island."""
        return -(-self.laboratory.settings.evaluations // self.laboratory.settings.islands)

    @property
    def finished(self) -> bool:
        """Whether the budget is used up or the misfit is small enough."""
        return self.solved or self.evaluations >= self.budget

    @property
    def best_error(self) -> float:
        """Smallest misfit found."""
        return min((i.error for i in self.archive.values()), default=kernels.WORST)

    def step(self) -> None:
        """Advance by one generation."""
        settings = self.laboratory.settings
        if not self.population:
            offspring = self._create(2 * settings.population)
            if self.number == 0:
                offspring += self._found()
        else:
            strangers = int(round(settings.immigrants * settings.population))
            offspring = self.toolbox.mate_and_mutate(settings.population - strangers)
            offspring += self._create(strangers)
        self._select(self._refine(offspring))
        self.generation += 1
        if settings.stop_error > 0 and self.best_error < settings.stop_error:
            self.solved = True

    def emigrants(self) -> list[Individual]:
        """Return the best and random non-dominated individuals."""
        count = min(self.laboratory.settings.migrants, len(self.population))
        front = tools.sortLogNondominated(
            self.population, len(self.population), first_front_only=True
        )
        rng = self.generator(purpose=2)
        best = min(self.population, key=lambda i: (i.error, i.size))
        rest = [i for i in front if i is not best]
        picks = rng.permutation(len(rest))[: count - 1]
        return [best, *(rest[int(k)] for k in picks)]

    def receive(self, migrants: list[Individual]) -> None:
        """Let migrants replace the worst."""
        known = {i.hash for i in self.population}
        new = [m for m in migrants if m.hash not in known]
        self.accepted_migrants += len(new)
        for m in new:
            self._remember(m)
        if new:
            self._select(new)

    def _create(self, count: int) -> list[Individual]:
        lab = self.laboratory
        rng = self.generator(purpose=1)
        seeds = rng.integers(0, 2**63, count, dtype=np.uint64)
        sizes = lab.smallest + rng.integers(0, 16, count)
        rows = lab.rows(count)
        variation.create_rows(seeds, sizes, lab.space, *rows)
        return self.toolbox.evaluate(*rows)  # type: ignore[no-any-return]

    def _found(self) -> list[Individual]:
        """Return what a regression of logarithms suggests; it counts one pass per column."""
        lab = self.laboratory
        self.evaluations += len(lab.problem.columns)
        laws = [law for law in lab.suggestions.laws if len(law) <= lab.settings.max_size]
        T, N, C, D, H = lab.rows(len(laws))
        for k, law in enumerate(laws):
            n = len(law)
            T[k, :n] = [FIXED if t < 0 else t for t in law]
            C[k, :n] = [[-1.0 if t == MINUS else 1.0] for t in law]
            hash_ = lab.annotate(T[k, :n], D[k])
            N[k], H[k] = 0 if hash_ is None else n, hash_ or 0
        return [
            self._fitted(i) if np.any(i.tokens <= PRIVATE) else i
            for i in self.toolbox.evaluate(T, N, C, D, H)
        ]

    def _breed(self, count: int) -> list[Individual]:
        lab = self.laboratory
        rng = self.generator()
        parents = self._parents(rng, 2 * count)
        seeds = rng.integers(0, 2**63, count, dtype=np.uint64)
        PT, PN, PC, PD, _ = lab.rows(len(self.population))
        for k, individual in enumerate(self.population):
            n = len(individual.tokens)
            PT[k, :n], PC[k, :n], PD[k, :n] = (
                individual.tokens,
                individual.constants,
                individual.cdim,
            )
            PN[k] = n
        rates = np.cumsum(lab.settings.rates) / np.sum(lab.settings.rates)
        rows = lab.rows(count)
        first, second = parents[:count], parents[count:]
        variation.breed_rows(seeds, first, second, rates, lab.space, PT, PN, PC, PD, *rows)
        return self.toolbox.evaluate(*rows)  # type: ignore[no-any-return]

    def _parents(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Tournaments of two: by misfit, or by dominance then crowding, half each."""
        error = np.array([i.error for i in self.population])
        size = np.array([i.size for i in self.population])
        crowd = np.array([getattr(i.fitness, "crowding_dist", 0.0) for i in self.population])
        a, b, c = rng.integers(0, len(error), (3, count))
        by_error = rng.random(count) < 0.5
        best = np.where(error[b] < error[a], b, a)
        best = np.where(error[c] < error[best], c, best)
        b_better = (error[b] <= error[a]) & (size[b] <= size[a])
        a_better = (error[a] <= error[b]) & (size[a] <= size[b])
        crowded = np.where(crowd[b] > crowd[a], b, a)
        by_rank = np.where(b_better & ~a_better, b, np.where(a_better & ~b_better, a, crowded))
        return np.where(by_error, best, by_rank)

    def _evaluate(self, T: Any, N: Any, C: Any, D: Any, H: Any) -> list[Individual]:
        """Score rows that are new; reject duplicates and what is not finite."""
        known = {i.hash for i in self.population}
        keep = []
        for k in range(len(T)):
            if N[k] == 0:
                self.rejected += 1
            elif int(H[k]) in known:
                self.duplicates += 1
            else:
                known.add(int(H[k]))
                keep.append(k)
        if not keep:
            return []
        T, N, C, D, H = T[keep], N[keep], C[keep], D[keep], H[keep]
        errors, _ = self.laboratory.data.score(T, N, C)
        self.evaluations += len(T)
        return [
            Individual(T[k, :n].copy(), C[k, :n].copy(), D[k, :n].copy(), int(H[k]), float(e))
            for k, (n, e) in enumerate(zip(N.tolist(), errors, strict=True))
            if e < kernels.WORST
        ]

    def _refine(self, offspring: list[Individual]) -> list[Individual]:
        """Fit the constants of part of the offspring; enter all in the archive."""
        settings = self.laboratory.settings
        lucky = self.generator(purpose=3).random(len(offspring))
        result = []
        for individual, u in zip(offspring, lucky, strict=True):
            if u < settings.local_search_share and np.any(individual.tokens <= PRIVATE):
                individual = self._fitted(individual)
            self._remember(individual)
            result.append(individual)
        return result

    def _fitted(self, individual: Individual) -> Individual:
        """Return the individual with its constants improved by a few steps."""
        lab = self.laboratory
        C = individual.constants.copy()
        steps = lab.settings.local_search_steps
        error, count, _ = lab.data.fit(individual.tokens, C, steps)
        self.evaluations += count
        if error >= individual.error:
            return individual
        return Individual(individual.tokens, C, individual.cdim, individual.hash, error)

    def _remember(self, individual: Individual) -> None:
        kept = self.archive.get(individual.size)
        if kept is None or individual.error < kept.error:
            self.archive[individual.size] = individual

    def _select(self, offspring: list[Individual]) -> None:
        """NSGA-II over parents and offspring; of equals in misfit the simplest stays.

        Equal misfit means, up to scale, equal values: the same law written longer.
        """
        pool, seen = [], set()
        everybody = [*self.population, *offspring]
        for individual in sorted(everybody, key=lambda i: i.size):
            mark = f"{individual.error:.9e}"
            if mark not in seen:
                seen.add(mark)
                pool.append(individual)
        size = self.laboratory.settings.population
        if len(pool) > 2:
            self.population = self.toolbox.select(pool, min(size, len(pool)))
        else:
            self.population = pool
