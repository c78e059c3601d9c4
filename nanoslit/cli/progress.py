"""How a run tells its progress: a bar on a terminal, a line a minute in a log, a file."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from nanoslit.atomic import write_text

if TYPE_CHECKING:
    from nanoslit.results.running import Progress

__all__ = ["Reporter", "StopRequest", "line"]

_LOG_EVERY = 60.0
_HEARTBEAT_EVERY = 2.0
_BAR_EVERY = 0.2


class StopRequest:
    """Remembers SIGTERM, SIGUSR1 or SIGINT; a second SIGINT ends the program at once."""

    signals = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> StopRequest:
        self._old = {n: signal.signal(n, self._note) for n in self.signals}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    def asked(self) -> bool:
        """Whether a signal came."""
        return self.number != 0


def duration_text(seconds: float) -> str:
    """Return a wall time as text: ``8 s``, ``3:05``, ``2:03:04``."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    hours, rest = divmod(whole, 3600)
    text = f"{rest // 60}:{rest % 60:02d}"
    return text if not hours else f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def line(p: dict[str, Any]) -> str:
    """Return the progress in one line without escape codes."""
    return (
        f"{100 * p['time'] / p['duration']:5.1f} %  t = {p['time']:.4g} s  "
        f"V = {p['potential']:+.4f} V  step {p['step_size']:.2g} s  "
        f"{p['steps']} steps  {p['newton_iterations']} Newton  "
        f"ETA {duration_text(p['remaining'])}"
    )


def _short(p: dict[str, Any]) -> str:
    """Return the progress beside a bar on 80 columns."""
    return (
        f"{p['time']:.3g} s  {p['potential']:+.3f} V  step {p['step_size']:.1e} s  "
        f"{p['newton_iterations']} Newton  ETA {duration_text(p['remaining'])}"
    )


class Reporter:
    """Shows the progress of one run on standard error and in a heartbeat file.

    Parameters
    ----------
    output : Path
        The result file, named in messages.
    heartbeat : Path, optional
        Rewritten every 2 seconds of the run.
    """

    def __init__(self, output: Path, heartbeat: Path | None = None) -> None:
        self.output, self.heartbeat = output, heartbeat
        self._bar: Any = None
        self._logged = self._beaten = self._drawn = -math.inf
        self._begin = time.monotonic()

    def start(self, name: str, ranks: int, bar: bool | None = None) -> None:
        """Say what starts; a bar only where a terminal reads, never under mpirun."""
        self._logged = time.monotonic()
        text = f"{name} on {ranks} rank{'s' if ranks > 1 else ''} -> {self.output}"
        wanted = sys.stderr.isatty() and ranks == 1 if bar is None else bar
        if wanted:
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                BarColumn(bar_width=16),
                TextColumn("{task.fields[text]}", markup=False),
                console=_console(),
            )
            self._bar.start()
            self._say(text)
            self._task = self._bar.add_task(name, total=1.0, text="starting")
        elif not self._quiet:
            self._say(text)
        self._beat({"state": "starting"}, force=True)
        self._beaten = -math.inf  # the first step is told at once: now the run can be stopped

    @property
    def _quiet(self) -> bool:
        """Whether a parent program shows the progress of these ranks instead."""
        return os.environ.get("NANOSLIT_PROGRESS") == "parent"

    def report(self, progress: Progress) -> None:
        """Show the progress, as often as a reader can follow."""
        now = time.monotonic()
        if now - min(self._drawn, self._logged, self._beaten) < _BAR_EVERY:
            return
        values = progress.as_dict()
        self.show(values)
        self._beat({"state": "running", **values})

    def show(self, values: dict[str, Any]) -> None:
        """Show progress that may come from another process."""
        now = time.monotonic()
        if self._bar is not None:
            if now - self._drawn >= _BAR_EVERY:
                self._drawn = now
                self._bar.update(
                    self._task,
                    completed=values["time"] / values["duration"],
                    text=_short(values),
                )
        elif now - self._logged >= _LOG_EVERY and not self._quiet:
            self._logged = now
            self._say(line(values))

    def _beat(self, values: dict[str, Any], force: bool = False) -> None:
        """Rewrite the heartbeat file; a full disk must not end the run."""
        now = time.monotonic()
        if self.heartbeat is None or (now - self._beaten < _HEARTBEAT_EVERY and not force):
            return
        self._beaten = now
        beat = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "written": time.time(),
            **values,
        }
        with contextlib.suppress(OSError):
            write_text(self.heartbeat, json.dumps(beat).replace("NaN", "null") + "\n")

    def warn(self, text: str) -> None:
        """Show a warning at once."""
        self._say(f"warning: {text}")

    def end(self, finished: bool) -> None:
        """Say how it ended."""
        self.close()
        self._beat({"state": "finished" if finished else "checkpointed"}, force=True)
        if finished:
            took = duration_text(time.monotonic() - self._begin)
            self._say(f"wrote {self.output} ({took}); next: nanoslit show {self.output}")
        else:
            self._say(
                f"stopped after a checkpoint of {self.output}; continue with the same "
                "command and --resume"
            )

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)
