"""Command ``run``: simulate one case, alone, under mpirun, or on ranks that it starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nanoslit.cli import app
from nanoslit.cli.options import quantity
from nanoslit.errors import CaseError, NanoslitError, OutOfMemoryError

__all__ = ["run"]


@app.command()
def run(
    path: Annotated[Path, typer.Argument(metavar="CASE.toml", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="RESULT.h5",
            show_default=False,
            help="Result file; checkpoints stand beside it until it is finished.",
        ),
    ],
    ranks: Annotated[
        int, typer.Option(min=1, help="Start this many MPI ranks (without mpirun in front).")
    ] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest good checkpoint.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing result, start anew.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key; may be repeated."),
    ] = None,
    snapshots: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Fields to keep: 'none', or potentials and times such as '0.1 V, 50 ns'.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        str, typer.Option(metavar="TIME", help="Wall time between checkpoints.")
    ] = "10 min",
    heartbeat: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the progress there as JSON, for programs."),
    ] = None,
) -> None:
    """Simulate a case and write its result file.

    Under a bare mpirun, SIGUSR1 asks for a checkpoint and the end. Exit codes: 0 finished,
    85 stopped after a checkpoint (continue with --resume), 1 failed, 2 wrong input.
    """
    # before numpy is loaded: a rank that starts threads slows down its neighbours
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from nanoslit.cli.progress import Reporter
    from nanoslit.cli.ranks import run_on_ranks
    from nanoslit.parallel import under_launcher

    every = quantity("--checkpoint-every", checkpoint_every, "s", positive=False)
    if every < 0:
        raise CaseError(
            f"--checkpoint-every {checkpoint_every!r} must be positive, or 0 for every step"
        )
    changes = [*(set_ or ()), *_snapshot_changes(snapshots)]
    if ranks != 1:
        if under_launcher():
            raise CaseError(f"--ranks {ranks} under mpirun: give one of the two")
        words = [os.fspath(path), "-o", os.fspath(output), "--checkpoint-every", f"{every} s"]
        words += [word for change in changes for word in ("--set", change)]
        words += ["--resume"] * resume + ["--overwrite"] * overwrite
        raise typer.Exit(run_on_ranks(words, ranks, Reporter(output, heartbeat)))
    raise typer.Exit(
        _run_here(
            path,
            output,
            changes,
            heartbeat,
            resume=resume,
            overwrite=overwrite,
            checkpoint_every=every,
        )
    )


def _snapshot_changes(text: str | None) -> list[str]:
    """Return the changes of the output table that ``--snapshots`` stands for."""
    if text is None:
        return []
    words = [] if text.strip() == "none" else [w.strip() for w in text.split(",") if w.strip()]
    volts = [w for w in words if w.endswith("V")]
    times = [w for w in words if not w.endswith("V")]
    return [
        f"output.snapshot_potentials={volts!r}",
        f"output.snapshot_times={times!r}",
        "output.snapshot_vertices=false",
    ]


def _run_here(
    path: Path, output: Path, changes: list[str], heartbeat: Path | None, **settings: Any
) -> int:
    """Run in this process, which may be one rank of several; return the exit code."""
    from nanoslit.parallel import mpi_world

    comm = mpi_world()
    if comm.size > 1:  # Debian's h5py decides at import whether it is parallel
        os.environ.setdefault("H5PY_ALWAYS_USE_MPI", "1")
    from nanoslit.casefile import read_case
    from nanoslit.cli.progress import Reporter, StopRequest
    from nanoslit.launch import CHECKPOINTED
    from nanoslit.results.running import run_case

    try:
        with StopRequest() as stop:
            reporter = Reporter(output, heartbeat) if comm.rank == 0 else None
            case = read_case(path, changes)
            if reporter is not None:
                reporter.start(case.name, comm.size)
            finished = run_case(
                case,
                output,
                comm=comm,
                stop=stop.asked,
                report=reporter.report if reporter else None,
                warn=reporter.warn if reporter else _silent,
                **settings,
            )
            if reporter is not None:
                reporter.end(finished)
    except NanoslitError as error:  # raised on every rank alike
        if comm.rank == 0:
            raise
        return error.exit_code
    except BaseException as error:  # on one rank, perhaps: the others would wait for ever
        problem = _out_of_memory() if isinstance(error, MemoryError) else None
        if comm.size == 1:
            if problem is None:
                raise
            raise problem from error
        import traceback

        text = traceback.format_exc() if problem is None else f"{problem}\n"
        print(text, end="", file=sys.stderr, flush=True)
        comm.Abort(1)
    comm.Barrier()  # mpirun ends the others as soon as one rank exits with a code
    return 0 if finished else CHECKPOINTED


def _out_of_memory() -> OutOfMemoryError:
    """Return what to say if a run did not fit into the memory."""
    return OutOfMemoryError(
        "the memory is not enough for this run; 'nanoslit check' estimates what it takes. "
        'numerics.linear_solver = "iterative", a coarser mesh or a smaller stack take less, '
        "--ranks on several nodes share it"
    )


def _silent(_: str) -> None:
    """Rank 0 speaks for all."""
