"""The console command ``nanoslit``: one module per group of commands, all thin.

A command module defines functions, registers them with ``@app.command()`` and imports
whatever is heavy inside them. To add one, add its import at the end of this file; where
its commands stand in ``nanoslit --help`` is said in ``WORKFLOW``.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nanoslit.errors import NanoslitError

__all__ = ["app", "main"]

# the order of work: headings of the help screen and the commands below them
WORKFLOW = {
    "One case": ("new", "check", "run", "show", "plot", "export", "verify"),
    "Many cases": ("sweep", "scale", "predict", "job"),
    "Resistance law": ("discover",),
    "Circuits": ("circuit", "explore", "fit"),
    "From cases to report": ("study", "report"),
    "This machine": ("doctor",),
}
_RANK = {name: i for i, name in enumerate(sum(WORKFLOW.values(), ()))}
_HEADING = {name: title for title, names in WORKFLOW.items() for name in names}


class _Workflow(TyperGroup):
    """Command group that shows its commands in the order of work, under headings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, command in self.commands.items():
            command.rich_help_panel = _HEADING.get(name)  # type: ignore[attr-defined]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of work."""
        return sorted(self.commands, key=lambda name: (_RANK.get(name, 99), name))


app = typer.Typer(
    name="nanoslit",
    cls=_Workflow,
    help="Ion transport in nanoslit electrodes: case file -> simulated traces -> "
    "resistance law -> electrical circuit -> report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from nanoslit import __version__

        typer.echo(f"nanoslit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Options before the command (``--debug`` is also accepted after it)."""


def main() -> None:
    """Run the command line; a mistake ends with one message and its exit code."""
    debug = "--debug" in sys.argv
    try:
        app(args=[word for word in sys.argv[1:] if word != "--debug"])
    except NanoslitError as error:
        if debug:
            raise
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except MemoryError as error:
        if debug:
            raise
        print(f"MemoryError: the memory is not enough ({error})", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        text, code = _of_the_system(error)
        print(f"{type(error).__name__}: {text}", file=sys.stderr)
        sys.exit(code)


def _of_the_system(error: OSError) -> tuple[str, int]:
    """Return what the system said about a file, and the exit code."""
    if not error.filename or not error.strerror:
        return f"{error.strerror or error}: what was written is not there", 1
    path = Path(os.fsdecode(error.filename2 or error.filename))
    temporary = re.fullmatch(r"\.(.+)\.part(-\d+)?", path.name)
    if temporary is not None:  # files are written under such a name first
        path = path.with_name(temporary[1])
    if not path.parent.is_dir():
        return f"{path}: folder {path.parent} does not exist; make it first", 2
    mistakes = (FileExistsError, IsADirectoryError, NotADirectoryError)
    return f"{path}: {error.strerror}", 2 if isinstance(error, mistakes) else 1


# one line per command module
from nanoslit.cli import (  # noqa: E402, F401
    casefiles,
    circuit,
    discover,
    doctor,
    job,
    predict,
    results,
    run,
    study,
    sweep,
)
