"""The nano-circuitry model and its design-space explorer."""

from importlib import import_module
from typing import Any

_HOME = {
    "CircuitResponse": "nanoslit.circuit.response",
    "CyclicVoltammetry": "nanoslit.protocol",
    "Galvanostatic": "nanoslit.circuit.galvanostatic",
    "LadderLaw": "nanoslit.circuit.laws",
    "NanoCircuit": "nanoslit.circuit.ladder",
    "Tolerance": "nanoslit.circuit.integrator",
    "observables": "nanoslit.circuit.observables",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module 'nanoslit.circuit' has no attribute {name!r}")
    module = import_module(_HOME[name])
    return module if name == "observables" else getattr(module, name)


def __dir__() -> list[str]:
    return list(__all__)
