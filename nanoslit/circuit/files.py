"""HDF5 files of circuits: traces with the names of the field solver, and studies."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.explorer import StudyResult
    from nanoslit.circuit.impedance import Spectrum
    from nanoslit.circuit.ladder import NanoCircuit
    from nanoslit.circuit.response import CircuitResponse

__all__ = [
    "new_file",
    "write_data",
    "write_response",
    "write_scale",
    "write_spectrum",
    "write_study",
    "write_table",
]

SCHEMA = 1

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

    Group ``traces`` of an HDF5 file with dimension scales (xarray opens it with
    ``group="traces"``). One circuit: dimensions time, slit, opening, as in a result of
    the field solver. Several: a leading dimension circuit, and point instead of time.

    Parameters
    ----------
    path : path
        Overwritten; written under a temporary name first.
    response : CircuitResponse
    name : str
        Label.
    """
    import h5py

    many = response.circuits > 1
    slits = response.circuit.n_slits
    basis = BASES.index(response.circuit.basis)
    with _Part(path) as part, h5py.File(part, "w") as file:
        _head(file, name, "nanoslit-circuit")
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
    for key, value in response.circuit._values.items():
        group.create_dataset(key, data=value)
    group.create_dataset("q_max_used", data=response.q_max)


def write_spectrum(
    path: str | Path, circuit: NanoCircuit, spectrum: Spectrum, name: str = "circuit"
) -> None:
    """Write an impedance spectrum: group ``impedance`` with ``frequency``, ``real``, ``imag``.

    Parameters
    ----------
    path : path
        Overwritten; written under a temporary name first.
    circuit : NanoCircuit
        One circuit.
    spectrum : Spectrum
    name : str
        Label.
    """
    import h5py

    z = spectrum.of(circuit)[0]
    unit = TRACES["slit_resistance"][0][BASES.index(circuit.basis)]
    with _Part(path) as part, h5py.File(part, "w") as file:
        _head(file, name, "nanoslit-impedance")
        file.attrs["options"] = json.dumps(circuit.options(), default=str)
        file.attrs["bias"] = spectrum.bias
        group = file.create_group("impedance")
        write_scale(group, "frequency", spectrum.frequency, "Hz", "frequency")
        write_data(group, "real", z.real, ["frequency"], unit, "real part of the impedance")
        write_data(
            group, "imag", z.imag, ["frequency"], unit, "imaginary part of the impedance"
        )


def write_study(path: str | Path, result: StudyResult) -> None:
    """Write samples, features, indices and fronts of a study.

    Groups ``samples`` and ``features`` with the dimension ``sample``, ``sobol`` with
    first-order and total indices (feature x variable), ``pareto`` with row numbers.
    """
    import h5py

    from nanoslit.circuit.observables import FEATURES

    with _Part(path) as part, h5py.File(part, "w") as file:
        _head(file, result.study.name, "nanoslit-study")
        file.attrs["options"] = json.dumps(result.options, default=str)
        count = len(next(iter(result.samples.values())))
        for group_name, table in (("samples", result.samples), ("features", result.features)):
            group = file.create_group(group_name)
            write_scale(group, "sample", np.arange(count), "")
            for key, value in table.items():
                unit, meaning = FEATURES.get(key, ("", key))
                write_data(group, key, value, ["sample"], unit, meaning)
        file.create_dataset("feasible", data=result.feasible)
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
def new_file(path: str | Path, name: str, kind: str) -> Iterator[Any]:
    """Open an HDF5 file to be written, under a temporary name until it is whole."""
    import h5py

    with _Part(path) as part, h5py.File(part, "w") as file:
        _head(file, name, kind)
        yield file


class _Part:
    """Temporary name beside a file; renamed at the end, removed after an error."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(f".{self.path.name}.part-{os.getpid()}")

    def __enter__(self) -> Path:
        return self.part

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.part.replace(self.path)
        else:
            self.part.unlink(missing_ok=True)


def _head(file: Any, name: str, kind: str) -> None:
    from nanoslit import __version__

    file.attrs["name"] = name
    file.attrs["kind"] = kind
    file.attrs["schema"] = SCHEMA
    file.attrs["nanoslit_version"] = __version__


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
