"""Laws given as expressions: discovered ones (LAW.json), and C(u)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["LadderLaw", "charge_at", "law_from", "resistor_of"]


@dataclass(frozen=True)
class LadderLaw:
    expression: str
    constants: dict[str, Any] = field(default_factory=dict)
    governor: str = "inner"
    charge: str = "abs"
    basis: str = "absolute"
    voltage: str = "not stated"


def law_from(law: Any, case: str | None) -> LadderLaw:
    raise NotImplementedError


def resistor_of(circuit: Any, largest: Any, cycle_charge: Any) -> Any:
    raise NotImplementedError


def charge_at(circuit: Any, largest: Any) -> Any:
    return circuit.value("c_slit") * largest[:, None]
