"""The nonlinear solve on MPI ranks: vectors, matrix and SNES of one cell.

The only module that imports petsc4py. Nodes are numbered along the longer direction and
each rank owns a contiguous range, so the parts are strips with one line of ghosts.

Linear solver ``direct``: an LU factorisation that is kept as long as it is a good
preconditioner, with a few GMRES iterations on the current Jacobian; it is renewed when
GMRES needs more than ``RENEW_ABOVE`` iterations. It is that of a chain
(:mod:`nanoslit.mpnp.chain`), on any number of ranks; MUMPS where the mesh is wider than
``CHAIN_WIDTH`` lines or a rank's piece would touch others than its neighbours'.
``iterative``: a coarse problem and an incomplete LU (:mod:`nanoslit.mpnp.twolevel`), for
domains whose LU does not fit into memory; renewed when the iterations grow.
Everything can be changed through PETSc's options with the prefix ``mpnp_``.
"""

from __future__ import annotations

import time
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import ConvergenceError, MissingExtraError
from nanoslit.mpnp.chain import ChainLU, is_chain, partition
from nanoslit.mpnp.residual import LocalEquations, Subdomain
from nanoslit.mpnp.twolevel import TwoLevel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from nanoslit.case import Case
    from nanoslit.mpnp.grid import Grid

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["PetscCell", "SolverCost", "StepFailedError", "petsc"]

RENEW_ABOVE = 4
"""GMRES iterations of one linear solve above which a factorisation is renewed."""

ACCURACY = 1e-3
"""Relative residual of linear solves: the Jacobian is that of the extrapolated state, so
more exactness would not make Newton's method faster."""

CHAIN_WIDTH = 250
"""Lines across the mesh up to which the LU of a chain is used instead of MUMPS: on a long
strip it is several times faster (analysis/bench_mpnp.py --solvers); the factorisation of
very wide meshes needs MUMPS' dense kernels."""


def petsc() -> Any:
    """Return the petsc4py module ``PETSc``, initialised without its signal handlers.

    Raises
    ------
    MissingExtraError
        If petsc4py is not installed.
    """
    try:
        import petsc4py
    except ImportError as error:
        raise MissingExtraError(
            "the field solver needs petsc4py and mpi4py: run jobs/bootstrap.sh, or "
            "install nanoslit[mpi] into an environment with PETSc"
        ) from error
    petsc4py.init(["nanoslit", "-no_signal_handler"])  # signals are ours: checkpoints
    from petsc4py import PETSc

    return PETSc


class StepFailedError(Exception):
    """Newton's method did not converge for this step; the stepper decides what to do."""


@dataclass
class SolverCost:
    """What the solves of one run cost on this rank (counts; wall times in s)."""

    newton_iterations: int = 0
    linear_iterations: int = 0
    factorisations: int = 0
    residuals: int = 0
    jacobians: int = 0
    failed_solves: int = 0
    residual_time: float = 0.0
    assembly_time: float = 0.0
    factor_time: float = 0.0
    solve_time: float = 0.0


class _Kept:
    """A factorisation of ours as PETSc's preconditioner, of later matrices too.

    Parameters
    ----------
    lu : ChainLU or TwoLevel
    diagonal : ndarray of int
        The diagonal blocks among those of a matrix.
    """

    def __init__(self, lu: ChainLU | TwoLevel, diagonal: Ints) -> None:
        self.lu, self._at = lu, diagonal

    def factor(self, blocks: Floats) -> None:
        """Factorise a matrix (collective)."""
        self.lu.factor(blocks)
        self._diagonal = self._diagonals(blocks)
        self.scale = np.ones_like(self._diagonal)

    def follow(self, blocks: Floats) -> None:
        """Make the kept factorisation a better preconditioner of a later matrix.

        Its rows are scaled to the new diagonal: an ion's row grows with its concentration
        in the double layer and with the inverse of the time step.
        """
        self.scale = self._diagonal / self._diagonals(blocks)

    def _diagonals(self, blocks: Floats) -> Floats:
        """Return the diagonal of the owned rows (n_owned, size)."""
        return np.array(np.einsum("nii->ni", blocks[self._at]))

    def apply(self, pc: Any, x: Any, y: Any) -> None:
        """Solve for x into y (collective)."""
        r, out = x.array_r.reshape(self.scale.shape), y.array.reshape(self.scale.shape)
        if isinstance(self.lu, ChainLU):
            self.lu.solve(r, self.scale, out)
            return
        self.lu.correct(r, self.scale, out)
        rest = x.duplicate()
        pc.getOperators()[0].mult(y, rest)
        rest.aypx(-1.0, x)
        out = y.array.reshape(self.scale.shape)  # PETSc must see that it changes
        self.lu.smooth(rest.array_r.reshape(self.scale.shape), self.scale, out)
        rest.destroy()


@dataclass
class _Step:
    """What the residual of the present solve needs besides the state."""

    voltage: float = 0.0
    shift: float = 0.0
    history: Any = 0.0
    source: Any = None
    atol: float = 1e-10
    balance: float = np.inf
    polished: bool = False
    norms: list[float] = field(default_factory=list)
    error: Exception | None = None


class PetscCell:
    """Distributed state and nonlinear solver of one case; use as a context manager.

    Parameters
    ----------
    case : Case
    grid : Grid
    comm : mpi4py or petsc4py communicator, optional
        One process alone by default.
    """

    def __init__(self, case: Case, grid: Grid, comm: Any = None) -> None:
        PETSc = self.PETSc = petsc()
        self.comm = PETSc.Comm(PETSc.COMM_SELF if comm is None else comm)
        rank, size = self.comm.rank, self.comm.size
        self.rank, self.size = rank, size
        bounds = partition(grid, size)
        self.sub = Subdomain(grid, bounds[rank], bounds[rank + 1])
        self.equations = LocalEquations(case, grid, self.sub)
        self.cost = SolverCost()
        self.step = _Step()
        self._mpi = self.comm.tompi4py()
        n, b = grid.n_nodes, self.equations.n_fields
        own = (self.sub.n_owned * b, n * b)
        self._ghosted = PETSc.Vec().createGhost(
            self.sub.ghosts.astype(PETSc.IntType), own, bsize=b, comm=self.comm
        )
        self._x = PETSc.Vec().createMPI(own, bsize=b, comm=self.comm)
        self._f = self._x.duplicate()
        self._matrix(own, b)
        self.direct = case.numerics.linear_solver == "direct"
        self.kept: _Kept | None = None
        if is_chain(grid, bounds):
            self.kept = self._own_solver(grid, bounds)
        self._solver()

    # -- set-up ---------------------------------------------------------------

    def _matrix(self, own: tuple[int, int], b: int) -> None:
        """Create the matrix."""
        PETSc, pattern = self.PETSc, self.sub.pattern
        self._indptr = pattern.start.astype(PETSc.IntType)
        self._indices = pattern.columns.astype(PETSc.IntType)
        self._A = PETSc.Mat().createBAIJ(
            (own, own), b, csr=(self._indptr, self._indices), comm=self.comm
        )
        self._A.setOption(PETSc.Mat.Option.NEW_NONZERO_LOCATION_ERR, True)

    def _own_solver(self, grid: Grid, bounds: Ints) -> _Kept | None:
        """Return our solver for a chain of ranks; None where MUMPS is the better one."""
        comm, b = None if self.size == 1 else self._mpi, self.equations.n_fields
        lu: ChainLU | TwoLevel
        if not self.direct:
            lu = TwoLevel(grid, bounds, self.sub, b, self._fill_reducing, comm)
        elif min(grid.node.shape) <= CHAIN_WIDTH:
            lu = ChainLU(self.sub, b, self._fill_reducing, comm)
        else:
            return None
        return _Kept(lu, self.sub.pattern.diagonal)

    def _fill_reducing(self, start: Ints, columns: Ints) -> Ints:
        """Return a minimum-degree order of a pattern."""
        PETSc, n = self.PETSc, start.size - 1
        if n == 0:
            return np.zeros(0, dtype=np.int64)
        csr = start.astype(PETSc.IntType), columns.astype(PETSc.IntType)
        pattern = PETSc.Mat().createAIJ(
            (n, n), csr=(*csr, np.ones(columns.size)), comm=PETSc.COMM_SELF
        )
        rows, columns_ = pattern.getOrdering("qmd")
        order = np.array(rows.getIndices(), dtype=np.int64)
        for thing in (rows, columns_, pattern):
            thing.destroy()
        return order

    def _solver(self) -> None:
        PETSc = self.PETSc
        snes = self.snes = PETSc.SNES().create(self.comm)
        snes.setOptionsPrefix("mpnp_")
        snes.setType("newtonls")
        snes.getLineSearch().setType("bt") if hasattr(snes, "getLineSearch") else None
        snes.setFunction(self._residual, self._f)
        snes.setJacobian(self._jacobian, self._A)
        snes.setTolerances(rtol=0.0, stol=0.0, max_it=25)
        snes.setConvergenceTest(self._converged)
        ksp = self.ksp = snes.getKSP()
        # fgmres keeps the preconditioned vectors: one application less, twice the memory
        ksp.setType("fgmres" if self.direct else "gmres")
        ksp.setPCSide(PETSc.PC.Side.RIGHT)
        ksp.setTolerances(rtol=ACCURACY, max_it=30 if self.direct else 100)
        ksp.setGMRESRestart(30)
        pc = self.pc = ksp.getPC()
        if self.kept is not None:
            pc.setType("python")
            pc.setPythonContext(self.kept)
            # PETSc must let go of Python objects before the interpreter ends
            self._release = weakref.finalize(self, pc.setType, PETSc.PC.Type.NONE)
        else:
            self.use_mumps()
        with self._options():
            snes.setFromOptions()
        if pc.getType() != "python":
            self.kept = None  # someone chose another preconditioner
        self._renew = True
        self._factored_shift = 0.0
        self._factored_at = 0
        self._fresh: int | None = None  # iterations of its first linear solve
        self._factored_state = np.zeros(self.sub.n_owned * self.equations.n_fields)

    def use_mumps(self) -> None:
        """Have MUMPS factorise from now on."""
        if self.kept is not None:
            self._release()
            self.kept = None
        self.pc.setType("lu")
        self.pc.setFactorSolverType("mumps")

    @contextmanager
    def _options(self) -> Iterator[None]:
        """Have PETSc's options hold our defaults for a while: they belong to this cell."""
        options = self.PETSc.Options()
        ours = {k: v for k, v in _DEFAULTS.items() if not options.hasName(k)}
        for key, value in ours.items():
            options[key] = value
        try:
            yield
        finally:
            for key in ours:
                options.delValue(key)

    def __enter__(self) -> PetscCell:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.destroy()

    def destroy(self) -> None:
        """Free the PETSc objects (collective; garbage collection is not)."""
        if self.kept is not None:
            self._release()
        for thing in (self.snes, self._A, self._x, self._f, self._ghosted):
            thing.destroy()

    # -- callbacks --------------------------------------------------------------

    def _with_ghosts(self, x: Any) -> Floats:
        """Return the local state (n_local + 1, fields): zeros last, the reservoir."""
        n, b = self.sub.n_local, self.equations.n_fields
        out = np.zeros((n + 1, b))
        if self.size == 1:
            out[:n] = x.array_r.reshape(n, b)
            return out
        x.copy(self._ghosted)
        self._ghosted.ghostUpdate()
        with self._ghosted.localForm() as local:
            out[:n] = local.array_r.reshape(n, b)
        return out

    def _residual(self, snes: Any, x: Any, f: Any) -> None:
        start = time.perf_counter()
        s = self.step
        local = self._with_ghosts(x)
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                r = self.equations.residual(local, s.voltage, s.shift, s.history, s.source)
        except Exception as error:  # of one rank: the others must not wait for it for ever
            # without its traceback, whose frames would keep PETSc objects alive here alone
            s.error = error.with_traceback(None)
            r = np.full((self.sub.n_owned, self.equations.n_fields), np.nan)
        if s.shift:  # Poisson rows in units of current, like the others
            r[:, 0] *= s.shift
        f.array = r.ravel()
        self.cost.residuals += 1
        self.cost.residual_time += time.perf_counter() - start

    def _jacobian(self, snes: Any, x: Any, A: Any, P: Any) -> None:
        start = time.perf_counter()
        shift = self.step.shift
        blocks = self.equations.jacobian(self._with_ghosts(x), shift)
        if shift:
            blocks[:, 0, :] *= shift
        A.setValuesBlockedCSR(self._indptr, self._indices, blocks.ravel())
        A.assemble()
        # a factorisation of another time step is kept while it preconditions well
        ratio = shift / self._factored_shift if self._factored_shift else np.inf
        renew = self._renew or not 0.25 < ratio < 4.0
        self.pc.setReusePreconditioner(not renew)
        if renew:
            start += self._factor(blocks, np.array(x.array_r), shift)
        elif self.kept is not None:
            self.kept.follow(blocks)
        self.cost.jacobians += 1
        self.cost.assembly_time += time.perf_counter() - start

    def _factor(self, blocks: Floats, state: Floats, shift: float) -> float:
        """Factorise the matrix, which was assembled at a state; return the seconds."""
        begin = time.perf_counter()
        if self.kept is not None:
            self.kept.factor(blocks)
        self.ksp.setOperators(self._A, self._A)
        with self._options():  # those of blocks are read here
            self.pc.setUp()
        self._renew, self._factored_shift, self._factored_state = False, shift, state
        self._fresh = None
        self._factored_at = self.cost.jacobians + 1
        self.cost.factorisations += 1
        seconds = time.perf_counter() - begin
        self.cost.factor_time += seconds
        return seconds

    @property
    def factorisation(self) -> dict[str, Any]:
        """What the kept factorisation follows from: numbers, and ``state`` by node."""
        return {
            "shift": self._factored_shift,
            "at": self._factored_at,
            "renew": self._renew,
            "fresh": -1 if self._fresh is None else self._fresh,
            "state": self._factored_state.reshape(self.sub.n_owned, -1),
        }

    def factorise(self, kept: dict[str, Any]) -> None:
        """Make the factorisation that a run had when ``factorisation`` was asked for.

        With it a resumed run takes the very same iterations.
        """
        shift = float(kept["shift"])
        if shift:
            u = np.array(kept["state"], dtype=float)
            self.step.shift = shift
            self._x.array = u.ravel()
            # by way of SNES, which then knows that the first one was built
            self.snes.computeJacobian(self._x, self._A, self._A)
        self._renew, self._factored_at = bool(kept["renew"]), int(kept["at"])
        self._fresh = int(kept["fresh"]) if kept["fresh"] >= 0 else None

    def _converged(self, snes: Any, iteration: int, norms: tuple[float, ...]) -> Any:
        """Stop at the absolute tolerance; ask for a new factorisation when it is stale."""
        reason = self.PETSc.SNES.ConvergedReason
        fnorm = norms[2]
        s = self.step
        s.norms.append(fnorm)
        if not np.isfinite(fnorm):
            return reason.DIVERGED_FNORM_NAN
        if fnorm <= s.atol and (s.polished or self._imbalance(snes) <= s.balance):
            return reason.CONVERGED_FNORM_ABS
        if iteration:
            self._judge(self.ksp.getIterationNumber())
        s.polished = fnorm <= s.atol
        enough = 0.0 if s.polished else 0.2 * s.atol / fnorm
        self.ksp.setTolerances(rtol=max(ACCURACY, enough))
        return reason.ITERATING

    def _imbalance(self, snes: Any) -> float:
        """Return the largest sum of residuals before any node: what two cuts differ by.

        Residuals of many nodes with one sign add up, although each is small.
        """
        nodes = self._x.size / self.equations.n_fields
        if self.step.atol * nodes**0.5 <= self.step.balance:
            return 0.0  # the norm bounds every sum
        sums = snes.getFunction()[0].array_r.reshape(self.sub.n_owned, -1).cumsum(axis=0)
        before = np.zeros(sums.shape[1])
        if self.size > 1:
            parts = self._mpi.allgather(sums[-1])
            before = np.sum([before, *parts[: self.rank]], axis=0)
        return self.max(float(np.abs(before + sums).max()))

    def _judge(self, iterations: int) -> None:
        """Ask for a new factorisation when the last linear solve took too many."""
        if self.direct:
            self._renew |= iterations > RENEW_ABOVE
        elif self._fresh is None:
            self._fresh = iterations
        else:
            self._renew |= iterations > 1.3 * self._fresh + 2

    # -- solving ------------------------------------------------------------------

    def solve(
        self,
        guess: Floats,
        *,
        voltage: float,
        shift: float = 0.0,
        history: Floats | float = 0.0,
        source: Floats | None = None,
        atol: float = 1e-10,
        balance: float = np.inf,
    ) -> Floats:
        """Solve one implicit step or, with shift = 0, a steady state.

        Parameters
        ----------
        guess : ndarray, shape (n_owned, fields)
        voltage, shift, history, source
            See :meth:`LocalEquations.residual`.
        atol : float
            Bound of the 2-norm of the residual.
        balance : float
            Bound of its sum over the nodes on one side of a cut [current; charge if steady];
            where it does not follow from ``atol`` one more iteration is made for it.

        Returns
        -------
        ndarray, shape (n_owned, fields)

        Raises
        ------
        StepFailedError
            If Newton's method does not converge (on all ranks alike).
        Exception
            What a diffusivity raised on any rank, on all ranks.
        """
        self.step = _Step(voltage, shift, history, source, atol, balance)
        for last in (False, True):
            self._x.array = guess.ravel()
            self._newton()
            if self.snes.getConvergedReason() > 0 or self._at_rounding():
                return np.array(self._x.array_r).reshape(self.sub.n_owned, -1)
            self.cost.failed_solves += 1
            self.fail_together(self.step.error)
            if last or self._factored_at == self.cost.jacobians:
                break  # failed with a fresh factorisation: not the linear solver's fault
            self._renew = True
        self._renew = True
        raise StepFailedError(self.reason)

    def _newton(self) -> None:
        """Run SNES from the present vector and add up what it cost."""
        c = self.cost
        start = time.perf_counter()
        spent = c.residual_time + c.assembly_time + c.factor_time
        self.step.norms.clear()
        self.step.polished = False
        try:
            self.snes.solve(None, self._x)
        except self.PETSc.Error as error:
            if "PetscMalloc" not in str(error):  # its code varies
                raise
            self.snes.incRef()  # PETSc crashes when it frees vectors that it half made
            raise MemoryError("PETSc could not allocate its vectors") from error
        spent = c.residual_time + c.assembly_time + c.factor_time - spent
        c.solve_time += time.perf_counter() - start - spent
        c.newton_iterations += self.snes.getIterationNumber()
        c.linear_iterations += self.snes.getLinearSolveIterations()

    def _at_rounding(self) -> bool:
        """Whether the line search gave up only because rounding stops progress."""
        norms = self.step.norms
        return bool(norms and len(norms) > 1 and norms[-1] <= 20 * self.step.atol)

    @property
    def reason(self) -> str:
        """The solver's own words for how the last solve ended."""
        names = {
            v: k for k, v in vars(self.PETSc.SNES.ConvergedReason).items() if isinstance(v, int)
        }
        code = self.snes.getConvergedReason()
        return (
            f"{names.get(code, code)} after {self.snes.getIterationNumber()} Newton "
            f"iterations, residual {self.step.norms[-1] if self.step.norms else 0:.3g}"
        )

    # -- ranks ----------------------------------------------------------------------

    def sum(self, values: Floats) -> Floats:
        """Return the sum over ranks of an array."""
        if self.size == 1:
            return values
        total = np.empty_like(values)
        self._mpi.Allreduce(np.ascontiguousarray(values), total)
        return total

    def max(self, value: float) -> float:
        """Return the maximum over ranks."""
        if self.size == 1:
            return value
        from mpi4py import MPI

        return float(self._mpi.allreduce(value, MPI.MAX))

    def with_ghosts(self, u: Floats) -> Floats:
        """Return the local state (n_local + 1, fields) from that of owned nodes."""
        self._x.array = u.ravel()
        return self._with_ghosts(self._x)

    def gather(self, values: Floats) -> Floats | None:
        """Return the values of all nodes in natural order on rank 0, else None."""
        if self.size == 1:
            return values
        parts = self._mpi.gather(values)
        return None if parts is None else np.concatenate(parts)

    def scatter(self, values: Floats | None) -> Floats:
        """Return this rank's part of values that rank 0 holds in natural order."""
        if self.size == 1:
            assert values is not None
            return values
        everything = self._mpi.bcast(values)
        return np.array(everything[self.sub.start : self.sub.stop])

    def share(self, value: Any) -> Any:
        """Return rank 0's value on every rank (collective)."""
        return value if self.size == 1 else self._mpi.bcast(value)

    def exchange(self, parts: list[Any]) -> list[Any]:
        """Give parts[r] to rank r; return what every rank gave to this one (collective)."""
        return parts if self.size == 1 else list(self._mpi.alltoall(parts))

    def fail_together(self, error: Exception | None) -> None:
        """Raise the first error of any rank on every rank (collective)."""
        if self.size == 1:
            if error is not None:
                raise error
            return
        errors = [e for e in self._mpi.allgather(error) if e is not None]
        if errors:
            raise errors[0]


_DEFAULTS = {
    # SNES never rebuilds the preconditioner by itself: _jacobian decides when
    "mpnp_snes_lag_preconditioner": "-2",
    # the extrapolated start is so good that one Jacobian serves most solves
    "mpnp_snes_lag_jacobian": "5",
}


def unreachable(
    case: Case, time_: float, voltage: float, step: float, reason: str
) -> ConvergenceError:
    """Return the error of a run that cannot go on."""
    return ConvergenceError(
        f"case {case.name!r}: no convergence at t = {time_:.6g} s, potential "
        f"{voltage:.4g} V, although the time step was cut to {step:.3g} s ({reason}); "
        "lower numerics.tolerance, use a finer mesh, add a Stern layer, or lower the "
        "potential"
    )
