"""HDF5 files of circuits: traces with the names of the field solver, and studies."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.results.sealed import new_sealed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.curves import Curve
    from nanoslit.circuit.explorer import StudyResult
    from nanoslit.circuit.ladder import NanoCircuit
    from nanoslit.circuit.response import CircuitResponse

__all__ = [
    "new_file",
    "write_curve",
    "write_data",
    "write_response",
    "write_scale",
    "write_study",
    "write_table",
]

VERSION = 1

# name: (unit by basis: absolute, per depth, per area; axes after the circuit; meaning)
_CURRENT = ("A", "A/m", "A/m^2")
_CHARGE = ("C", "C/m", "C/m^2")
_VOLT = ("V", "V", "V")
TRACES: dict[str, tuple[tuple[str, str, str], tuple[str, ...], str]] = {
    "time": (("s", "s", "s"), ("time",), "time"),
    "applied_potential": (_VOLT, ("time",), "potential of the electrode or cell"),
    "electrode_current": (_CURRENT, ("time",), "charging current of the electrode"),
    "electrode_charge": (_CHARGE, ("time",), "charge of the electrode"),
    "open_potential": (_VOLT, ("time",), "potential of the open space against the bulk"),
    "mouth_current": (_CURRENT, ("time",), "current into the first slit"),
    "slit_potential": (_VOLT, ("time", "slit"), "potential in each slit against the bulk"),
    "slit_charge": (_CHARGE, ("time", "slit"), "stored charge of each slit"),
    "slit_resistance": (
        ("Ohm", "Ohm m", "Ohm m^2"),
        ("time", "slit"),
        "resistance that feeds each slit",
    ),
    "trans_slit_voltage": (
        _VOLT,
        ("time", "opening"),
        "potential of slit k+1 minus that of slit k",
    ),
    "opening_current": (_CURRENT, ("time", "opening"), "current from slit k to slit k+1"),
}
BASES = ("absolute", "per depth", "per area")


def write_response(path: str | Path, response: CircuitResponse, name: str = "circuit") -> None:
    """Write the traces of a response.

    Group ``traces`` of a sealed HDF5 file with dimension scales (xarray opens it with
    ``group="traces"``). One circuit: dimensions time, slit, opening, as in a result of
    the field solver. Several: a leading dimension circuit, and point instead of time.

    Parameters
    ----------
    path : path
        Overwritten.
    response : CircuitResponse
    name : str
        Label.
    """
    many = response.circuits > 1
    slits = response.circuit.n_slits
    basis = BASES.index(response.circuit.basis)
    size = 8 * len(TRACES) * response.slit_charge.size
    with new_file(path, name, "nanoslit-circuit", size) as file:
        file.attrs["options"] = json.dumps(response.options, default=str)
        group = file.create_group("traces")
        scales: dict[str, Any] = {}
        if many:
            scales["circuit"] = np.arange(response.circuits)
            scales["point"] = np.arange(response.time.shape[1])
        scales["slit"] = np.arange(1, slits + 1)
        scales["opening"] = np.arange(1, slits)
        for key, value in scales.items():
            write_scale(group, key, value, "")
        for key, (units, axes, meaning) in TRACES.items():
            if "opening" in axes and slits == 1:
                continue
            value = np.asarray(getattr(response, key))
            if key == "time" and not many:
                write_scale(group, "time", value[0], "s", meaning)
                continue
            dims = (["circuit"] if many else []) + [
                "point" if many and a == "time" else a for a in axes
            ]
            write_data(group, key, value if many else value[0], dims, units[basis], meaning)
        axis = ["point"] if many else ["time"]
        write_data(group, "cycle", response.cycle, axis, "", "cycle number, from 1")
        _parameters(file, response)


def _parameters(file: Any, response: CircuitResponse) -> None:
    group = file.create_group("parameters")
    basis = BASES.index(response.circuit.basis)
    kinds = {"r": TRACES["slit_resistance"][0], "c": ("F", "F/m", "F/m^2"), "q": _CHARGE}
    values = {**response.circuit._values, "q_max_used": response.q_max}
    for key, value in values.items():
        data = group.create_dataset(key, data=value)
        kind = key[0] if key[1:2] == "_" and " " not in key else ""  # r_open; gamma; c_law ...
        data.attrs["units"] = kinds[kind][basis] if kind in kinds else "1"
        data.attrs["long_name"] = key.replace("_", " ")


def write_curve(
    path: str | Path, circuit: NanoCircuit, curve: Curve, name: str = "circuit"
) -> None:
    """Write an impedance spectrum or a Ragone plot: a group of its kind with its columns.

    Parameters
    ----------
    path : path
        Overwritten.
    circuit : NanoCircuit
        One circuit.
    curve : Curve
    name : str
        Label.
    """
    with new_file(path, name, f"nanoslit-{curve.kind}") as file:
        file.attrs["options"] = json.dumps(circuit.options(), default=str)
        for key, value in curve.attributes.items():
            file.attrs[key] = value
        group = file.create_group(curve.kind)
        first = next(iter(curve.columns))
        for key, c in curve.columns.items():
            if key == first:
                write_scale(group, key, c.values, c.unit, c.heading)
            else:
                write_data(group, key, c.values, [first], c.unit, c.heading)


def write_study(path: str | Path, result: StudyResult) -> None:
    """Write samples, features, indices and fronts of a study.

    Groups ``samples`` and ``features`` with the dimension ``sample``, ``sobol`` with
    first-order and total indices (feature x variable), ``pareto`` with row numbers.
    """
    import h5py

    from nanoslit.circuit.observables import FEATURES

    count = len(next(iter(result.samples.values())))
    size = 8 * count * (len(result.samples) + len(result.features))
    with new_file(path, result.study.name, "nanoslit-study", size) as file:
        file.attrs["options"] = json.dumps(result.options, default=str)
        for group_name, table in (("samples", result.samples), ("features", result.features)):
            group = file.create_group(group_name)
            write_scale(group, "sample", np.arange(count), "")
            for key, value in table.items():
                unit, meaning = FEATURES.get(key, ("", key))
                write_data(group, key, value, ["sample"], unit, meaning)
        feasible = file.create_dataset("feasible", data=result.feasible)
        feasible.attrs["units"] = "1"
        feasible.attrs["long_name"] = "whether all constraints hold"
        if result.pareto is not None:
            file.create_dataset("pareto", data=result.pareto)
        if result.first is not None and result.total is not None:
            group = file.create_group("sobol")
            text = h5py.string_dtype()
            group.create_dataset("feature", data=list(result.index_features), dtype=text)
            names = [v.name for v in result.study.variables]
            group.create_dataset("variable", data=names, dtype=text)
            group.create_dataset("first_order", data=result.first)
            group.create_dataset("total_order", data=result.total)


def write_table(path: str | Path, columns: dict[str, NDArray[Any]]) -> None:
    """Write columns of equal length as CSV, names with units as header."""
    from nanoslit.atomic import write_text

    rows = np.column_stack(list(columns.values()))
    lines = [",".join(columns)]
    lines += [",".join(f"{x:.10g}" for x in row) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


@contextlib.contextmanager
def new_file(path: str | Path, name: str, kind: str, size: int = 0) -> Iterator[Any]:
    """Open an HDF5 file to be written, which gets its name and its seal when it is whole.

    Parameters
    ----------
    path : path
        Overwritten.
    name : str
        Label.
    kind : str
        What the file is, ``nanoslit-...``.
    size : int
        Bytes of its arrays, if they may be many.
    """
    from nanoslit import __version__

    with new_sealed(Path(path), size) as file:
        file.attrs["name"] = name
        file.attrs["schema"], file.attrs["schema_version"] = kind, VERSION
        file.attrs["nanoslit_version"] = __version__
        yield file


def write_scale(group: Any, key: str, value: Any, unit: str, meaning: str = "") -> None:
    """Write a dimension scale."""
    data = group.create_dataset(key, data=value)
    data.make_scale(key)
    data.attrs["units"] = unit
    data.attrs["long_name"] = meaning or key


def write_data(
    group: Any, key: str, value: Any, dims: list[str], unit: str, meaning: str
) -> None:
    """Write a compressed variable on dimension scales of its group."""
    data = group.create_dataset(
        key, data=value, compression="gzip", shuffle=True, fletcher32=True
    )
    for axis, dim in enumerate(dims):
        data.dims[axis].attach_scale(group[dim])
    data.attrs["units"] = unit
    data.attrs["long_name"] = meaning
