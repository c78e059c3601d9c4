"""The console command ``nanoslit``: one module per group of commands, all thin."""

from __future__ import annotations

import sys

import typer

from nanoslit.errors import NanoslitError

__all__ = ["app", "main"]

app = typer.Typer(
    name="nanoslit",
    help="Ion transport in nanoslit electrodes: case -> traces -> law -> circuit -> report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; a user's mistake ends with one message and its exit code."""
    try:
        app()
    except NanoslitError as error:
        if "--debug" in sys.argv:
            raise
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
