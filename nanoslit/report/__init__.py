"""One self-contained page of what a study computed, found, and how sure it is.

``data`` gathers, ``figures`` and ``fields`` draw, ``page`` writes. Only this package
imports bokeh; its scripts are written into the page, which needs no network.
"""

from __future__ import annotations

from pathlib import Path

from nanoslit import atomic
from nanoslit.errors import MissingExtraError

__all__ = ["write_report"]


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` of a study's folder and return its path.

    Raises
    ------
    ResultFileError
        If the study is not finished.
    MissingExtraError
        If bokeh is missing.
    """
    from nanoslit.report.data import gather
    from nanoslit.report.page import page

    data = gather(folder)
    try:
        text = page(data)
    except ImportError as error:
        raise MissingExtraError(
            f"the report needs bokeh ({error}): pip install 'nanoslit[report]'"
        ) from None
    target = Path(folder) / "report.html"
    atomic.write_text(target, text)
    return target
