"""``run --ranks N``: start the ranks, show their progress, pass on requests to stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoslit.launch import CHECKPOINTED, Child, explain_exit, start
from nanoslit.scratch import Scratch

if TYPE_CHECKING:
    from nanoslit.cli.progress import Reporter

__all__ = ["run_on_ranks"]

_LOOK_EVERY = 0.25
_READY_WITHIN = 120.0


def run_on_ranks(words: list[str], ranks: int, reporter: Reporter) -> int:
    """Run ``nanoslit run WORDS`` on ranks of its own and return the exit code.

    The ranks are in a process group of their own: SIGTERM and SIGINT reach this process
    alone, even when its whole group gets them. It asks the ranks for a checkpoint with
    SIGUSR1 and waits.
    """
    from nanoslit.cli.progress import StopRequest

    with Scratch() as folder, StopRequest() as stop:
        beat = reporter.heartbeat or Path(folder) / "heartbeat.json"
        beat.unlink(missing_ok=True)
        bar = sys.stderr.isatty()
        environment = dict(os.environ)
        if bar:
            environment["NANOSLIT_PROGRESS"] = "parent"
        with start(
            ["run", *words, "--heartbeat", str(beat)], ranks=ranks, environment=environment
        ) as child:
            if bar:
                reporter.start(Path(words[0]).stem, ranks, bar=True)
            try:
                code = _watch(child, beat, stop, reporter if bar else None)
            finally:
                reporter.close()
    if code not in (0, 1, 2, CHECKPOINTED):
        print(f"run on {ranks} ranks: {explain_exit(code)}", file=sys.stderr)
        return 1
    return code


def _watch(child: Child, beat: Path, stop: Any, reporter: Reporter | None) -> int:
    """Wait for the ranks; pass on a request to stop once they can hear it."""
    passed_on = False
    while True:
        try:
            return child.wait(_LOOK_EVERY)
        except subprocess.TimeoutExpired:
            pass
        values = _read(beat)
        if reporter is not None and values and "time" in values:
            reporter.show({k: float("nan") if v is None else v for k, v in values.items()})
        if stop.asked() and not passed_on:
            if values is None:  # nothing computed yet: nothing to save
                child.end()
                return CHECKPOINTED
            child.request_checkpoint()
            passed_on = True


def _read(beat: Path) -> dict[str, Any] | None:
    """Return the newest heartbeat, None before the first."""
    try:
        return dict(json.loads(beat.read_text()))
    except (OSError, ValueError):
        return None
