"""Live table on a terminal, one line a minute in a log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanoslit.discovery.islands import Progress
    from nanoslit.discovery.problem import SearchSettings

__all__ = ["Display"]


class Display:
    """Show the state of a search on stderr."""

    interval = 60.0  # seconds between lines of a log

    def __init__(self, settings: SearchSettings, quiet: bool) -> None:
        self.settings = settings
        self.quiet = quiet
        self.live: Any = None
        self.last = 0.0

    def __enter__(self) -> Display:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), refresh_per_second=4)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def update(self, state: Progress) -> None:
        """Show a state."""
        if self.live is not None:
            self.live.update(_table(state))
        elif not self.quiet and time.monotonic() - self.last > self.interval:
            self.last = time.monotonic()
            best = min((e for e, _ in state.best.values()), default=float("nan"))
            print(
                f"generation {state.generation}  evaluations {state.evaluations}  "
                f"{state.rate:.0f}/s  best misfit {best:.3e}  front {len(state.best)}",
                file=sys.stderr,
                flush=True,
            )


def _table(state: Progress) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=f"generation {state.generation}, {state.evaluations} evaluations, "
        f"{state.rate:.0f}/s, {state.duplicates} duplicates, "
        f"{state.migrants} migrants accepted"
    )
    table.add_column("complexity", justify="right")
    table.add_column("misfit", justify="right")
    table.add_column("expression, scale left out")
    lowest = float("inf")
    for size, (error, text) in state.best.items():
        if error < lowest:
            lowest = error
            table.add_row(str(size), f"{error:.3e}", escape(text[:100]))
    return table
