"""What is remembered of a result beside it, so that collecting opens no result file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CV_SAMPLES", "digest", "record_of"]

CV_SAMPLES = 201
"""Samples of the last cycle, equally spaced in time, that are kept."""


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(path: Path) -> dict[str, Any]:
    """Return size, digest, summary and voltammogram of a result file.

    Raises
    ------
    ResultFileError
        If it is none.
    """
    from nanoslit.results.files import read_summary, read_traces

    summary, traces = read_summary(path), read_traces(path)
    rows = traces.in_cycle()
    time = traces["time"][rows]
    at = np.linspace(time[0], time[-1], CV_SAMPLES)
    cv = {"time": at - at[0]}
    for name in ("applied_potential", "electrode_current", "electrode_charge"):
        data = traces[name][rows]
        cv[name] = np.interp(at, time, data[:, 0] if data.ndim > 1 else data)
    summary.pop("provenance", None)
    return {
        "size": path.stat().st_size, "sha256": digest(path), "summary": summary,
        "cv": {name: data.tolist() for name, data in cv.items()},
    }  # fmt: skip
