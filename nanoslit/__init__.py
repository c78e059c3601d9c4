"""Ion transport in nanoslit electrodes: field solver, law discovery, circuit model.

The public names below are loaded when they are first used, so that ``import nanoslit``
starts neither PETSc nor MPI nor Dask and takes no time.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("nanoslit")
except PackageNotFoundError:  # used from a source tree that is not installed
    __version__ = "0+unknown"

_HOME = {
    "Case": "nanoslit.case",
    "CyclicVoltammetry": "nanoslit.protocol",
    "Electrolyte": "nanoslit.electrolyte",
    "Ion": "nanoslit.electrolyte",
    "NanoCircuit": "nanoslit.circuit.ladder",
    "NanoslitNetwork": "nanoslit.geometry",
    "content_key": "nanoslit.casefile",
    "open_result": "nanoslit.results.result",
    "open_sweep": "nanoslit.sweep.dataset",
    "read_case": "nanoslit.casefile",
    "run": "nanoslit.results.result",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module 'nanoslit' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
