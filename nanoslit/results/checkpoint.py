"""Checkpoints of a run: two slots that take turns, sealed, for any number of ranks.

A slot holds all that the rest of a run depends on (see ``Simulation.state``): the history
of the multistep method, its order and step, the rows recorded so far and the snapshots
taken. The older slot is always the one that is overwritten, so that a checkpoint that was
torn by a crash or a full disk leaves the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import DamagedFileError, ResultFileError
from nanoslit.results import sealed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHECKPOINT_VERSION", "Checkpoints"]

SCHEMA = "nanoslit-checkpoint"
CHECKPOINT_VERSION = 2


def _fill(group: Any, values: dict[str, Any]) -> None:
    """Write a nested dictionary of arrays, numbers and texts."""
    for name, value in values.items():
        if isinstance(value, dict):
            _fill(group.create_group(name), value)
        elif isinstance(value, np.ndarray) and value.size > 1:
            group.create_dataset(name, data=value, chunks=True, fletcher32=True)
        else:
            group.create_dataset(name, data=value)


def _read(group: Any) -> dict[str, Any]:
    """Return a group as a nested dictionary."""
    return {
        name: _read(item)
        if hasattr(item, "keys")
        else (item[()] if item.shape else item[()].item())
        for name, item in group.items()
    }


@dataclass
class Checkpoints:
    """The two slots that belong to a result file; used on rank 0 only.

    Parameters
    ----------
    result : Path
        The result file that the run will write.
    key : str
        Content key of the case.
    """

    result: Path
    key: str

    @property
    def slots(self) -> list[Path]:
        """Paths of the two slots."""
        return [self.result.with_name(f"{self.result.name}.checkpoint-{i}") for i in (0, 1)]

    def exist(self) -> bool:
        """Whether there is any slot, good or bad."""
        return any(slot.exists() for slot in self.slots)

    def write(self, state: dict[str, Any]) -> Path:
        """Write a state into the older slot and return its path.

        Raises
        ------
        ResultFileError
            If it cannot be written; the newer slot is untouched.
        """
        numbers = [self._number(slot) for slot in self.slots]
        slot = self.slots[int(np.argmin(numbers))]

        def fill(file: Any) -> None:
            file.attrs["schema"], file.attrs["schema_version"] = SCHEMA, CHECKPOINT_VERSION
            file.attrs["number"] = max(numbers) + 1
            file.attrs["content_key"] = self.key
            _fill(file, state)

        sealed.write_sealed(slot, fill)
        return slot

    def _number(self, slot: Path) -> int:
        """Return the serial number of a slot, 0 if there is none or it is unreadable."""
        try:
            with sealed.open_sealed(slot) as file:
                return int(file.attrs["number"])
        except (OSError, RuntimeError, KeyError):
            return 0

    def read(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        """Return the newest good state, None if there is no checkpoint.

        Parameters
        ----------
        warn : callable
            Told about a slot that is damaged.

        Raises
        ------
        ResultFileError
            If the checkpoints belong to another case or another version.
        DamagedFileError
            If no slot is good.
        """
        present = [slot for slot in self.slots if slot.exists()]
        good: list[tuple[int, dict[str, Any]]] = []
        for slot in present:
            try:
                sealed.check(slot)
                with sealed.open_sealed(slot) as file:
                    self._require_mine(slot, file.attrs)
                    good.append((int(file.attrs["number"]), _read(file)))
            except (DamagedFileError, RuntimeError, KeyError) as error:
                warn(f"checkpoint {slot} is damaged and left out ({error})")
        if present and not good:
            raise DamagedFileError(
                f"{self.result}: every checkpoint is damaged; start again with --overwrite"
            )
        return max(good, key=lambda pair: pair[0])[1] if good else None

    def _require_mine(self, slot: Path, attributes: Any) -> None:
        if attributes.get("schema") != SCHEMA or (
            attributes.get("schema_version") != CHECKPOINT_VERSION
        ):
            raise ResultFileError(
                f"{slot}: is no checkpoint of this version of nanoslit; start again with "
                "--overwrite"
            )
        if attributes["content_key"] != self.key:
            raise ResultFileError(
                f"{slot}: belongs to another case (key {attributes['content_key'][:12]}, "
                f"this case has {self.key[:12]}); resume with the case file it was started "
                "with, or start again with --overwrite"
            )

    def remove(self) -> None:
        """Delete both slots and unfinished ones."""
        for slot in self.slots:
            slot.unlink(missing_ok=True)
            for part in slot.parent.glob(f".{slot.name}.part-*"):
                part.unlink(missing_ok=True)
