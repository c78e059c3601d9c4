"""Groups of labelled arrays in the netCDF-4 dialect of HDF5.

A group is a set of variables with named dimensions; a dimension whose name is also that
of a variable is a coordinate. Everything carries a unit and a long name, so that xarray,
HDFView and plain h5py show what a number is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Table", "Variable", "create", "write_scalars", "write_table"]

_COMPRESS = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
_SMALL = 32768  # bytes that are not worth compressing
_TEXT_DTYPE = h5py.string_dtype()
_TEXT = h5py.h5t.py_create(_TEXT_DTYPE, logical=True)  # in the file, and in memory
_TEXT_OBJECT = h5py.h5t.py_create(_TEXT_DTYPE)
_SCALAR = h5py.h5s.create(h5py.h5s.SCALAR)
_CHUNK = 1 << 17  # values in a chunk: 1 MB


@dataclass(frozen=True)
class Variable:
    """Values with dimensions, unit and description."""

    dims: tuple[str, ...]
    data: Any
    unit: str
    long_name: str


@dataclass
class Table:
    """Variables of one group; ``lengths`` gives dimensions without a variable."""

    variables: dict[str, Variable] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    def add(
        self, name: str, dims: tuple[str, ...], data: Any, unit: str, long_name: str
    ) -> None:
        """Add one variable."""
        self.variables[name] = Variable(dims, data, unit, long_name)


def create(
    group: Any,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    chunks: tuple[int, ...] | None = None,
) -> Any:
    """Create a dataset: compressed and check-summed unless it is a number or empty."""
    if not shape or 0 in shape:
        return group.create_dataset(name, shape, dtype)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size < _SMALL:
        return group.create_dataset(name, shape, dtype, chunks=shape, fletcher32=True)
    if chunks is None:
        rows = max(1, min(shape[0], _CHUNK // max(1, int(np.prod(shape[1:])))))
        chunks = (rows, *shape[1:])
    return group.create_dataset(name, shape, dtype, chunks=chunks, **_COMPRESS)


def _write(group: Any, name: str, v: Variable) -> Any:
    data = np.asarray(v.data)
    if data.dtype.kind in "UO":
        data = data.astype(object)
        dataset = group.create_dataset(name, data=data, dtype=h5py.string_dtype())
    else:
        dataset = create(group, name, data.shape, data.dtype)
        dataset[...] = data
    return dataset


def label(dataset: Any, v: Variable) -> None:
    """Attach unit and long name."""
    set_text(dataset, "units", v.unit)
    set_text(dataset, "long_name", v.long_name)


def set_text(item: Any, name: str, text: str) -> None:
    """Set a new attribute to a text: h5py's own way takes three times as long."""
    attribute = h5py.h5a.create(item.id, name.encode(), _TEXT, _SCALAR)
    attribute.write(np.array(text, dtype=_TEXT_DTYPE), mtype=_TEXT_OBJECT)


def write_table(group: Any, table: Table) -> None:
    """Write the variables of a table and link them by dimension scales.

    A variable without data exists already (a field) and is only labelled.
    """
    for name, value in table.attributes.items():
        group.attrs[name] = value
    datasets = {}
    for name, v in table.variables.items():
        datasets[name] = group[name] if v.data is None else _write(group, name, v)
        label(datasets[name], v)
        if v.dims == (name,):
            datasets[name].make_scale(name)
    for name, v in table.variables.items():
        if v.dims == (name,):
            continue
        for i, dim in enumerate(v.dims):
            datasets[name].dims[i].attach_scale(datasets[dim])


def write_scalars(
    group: Any, values: Mapping[str, Any], units: Mapping[str, tuple[str, str]]
) -> None:
    """Write single numbers as datasets with unit and long name."""
    for name, value in values.items():
        dataset = group.create_dataset(name, data=np.nan if value is None else value)
        unit, text = units.get(name, ("1", name.replace("_", " ")))
        set_text(dataset, "units", unit)
        set_text(dataset, "long_name", text)
