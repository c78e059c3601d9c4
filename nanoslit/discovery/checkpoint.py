"""Checkpoints of a discovery run: text files, one per island and epoch, check-summed.

A set of files is complete when its manifest exists; the last two sets are kept. Any
number of ranks may continue. In-flight migrants are part of the state of their sender.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from nanoslit import __version__, atomic
from nanoslit.discovery.island import Island, Laboratory
from nanoslit.errors import ResultFileError

__all__ = ["IslandState", "load", "newest", "write_island", "write_manifest"]

IslandState = tuple[Island, dict[int, str]]
FORMAT = 1


def fingerprint(laboratory: Laboratory) -> dict[str, Any]:
    """Return what must not change between a run and its continuation."""
    settings = json.dumps(laboratory.settings.to_dict(), sort_keys=True)
    return {
        "format": FORMAT,
        "settings": hashlib.sha256(settings.encode()).hexdigest(),
        "data": laboratory.problem.data_hash,
    }


def serialise(island: Island, outbox: dict[int, str]) -> str:
    """Return an island as text, its last line a check sum."""
    write = island.laboratory.write
    head = {
        "island": island.number,
        "generation": island.generation,
        "evaluations": island.evaluations,
        "duplicates": island.duplicates,
        "rejected": island.rejected,
        "accepted_migrants": island.accepted_migrants,
        "solved": island.solved,
        "outbox": outbox,
        "population": len(island.population),
        "archive": len(island.archive),
    }
    lines = [json.dumps(head)]
    for i in island.population:
        # selection reads the crowding distance of the last sorting
        distance = float(getattr(i.fitness, "crowding_dist", 0.0))
        lines.append(f"{distance.hex()} {write(i)}")
    lines += [write(island.archive[k]) for k in sorted(island.archive)]
    body = "\n".join(lines) + "\n"
    return body + "sha256 " + hashlib.sha256(body.encode()).hexdigest() + "\n"


def deserialise(text: str, laboratory: Laboratory, where: str) -> IslandState:
    """Read :func:`serialise`'s text.

    Raises
    ------
    ResultFileError
        If the check sum does not agree.
    """
    body, mark, digest = text.rpartition("sha256 ")
    if not mark or hashlib.sha256(body.encode()).hexdigest() != digest.strip():
        raise ResultFileError(f"{where} is damaged (check sum)")
    lines = body.splitlines()
    head = json.loads(lines[0])
    island = Island(laboratory, head["island"])
    for key in ("generation", "evaluations", "duplicates", "rejected"):
        setattr(island, key, head[key])
    island.accepted_migrants = head["accepted_migrants"]
    island.solved = head["solved"]
    last = 1 + head["population"]
    for line in lines[1:last]:
        distance, rest = line.split(" ", 1)
        individual = laboratory.read(rest)
        individual.fitness.crowding_dist = float.fromhex(distance)
        island.population.append(individual)
    for line in lines[last : last + head["archive"]]:
        individual = laboratory.read(line)
        island.archive[individual.size] = individual
    return island, {int(k): v for k, v in head["outbox"].items()}


def _folder(root: Path, epoch: int) -> Path:
    return root / f"epoch-{epoch:08d}"


def write_island(root: Path, epoch: int, island: Island, outbox: dict[int, str]) -> None:
    """Write the file of one island."""
    folder = _folder(root, epoch)
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(folder / f"island-{island.number:04d}.txt", serialise(island, outbox))


def write_manifest(root: Path, epoch: int, laboratory: Laboratory) -> None:
    """Declare a set of files complete; remove all but the last two sets."""
    record = fingerprint(laboratory) | {
        "epoch": epoch,
        "islands": laboratory.settings.islands,
        "version": __version__,
    }
    atomic.write_text(
        _folder(root, epoch) / "manifest.json", json.dumps(record, indent=1) + "\n"
    )
    for old in sorted(root.glob("epoch-*"))[:-2]:
        shutil.rmtree(old)


def newest(root: Path, laboratory: Laboratory) -> int | None:
    """Return the epoch of the newest complete, undamaged set; None if there is none.

    Raises
    ------
    ResultFileError
        If the newest complete set belongs to other data or settings.
    """
    for folder in sorted(root.glob("epoch-*"), reverse=True):
        try:
            record = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            epoch = int(record["epoch"])
            _require_same(record, laboratory, folder)
            for k in range(laboratory.settings.islands):
                load(root, epoch, k, laboratory)
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, ResultFileError) and "belongs to" in str(error):
                raise
            continue
        return epoch
    return None


def _require_same(record: dict[str, Any], laboratory: Laboratory, folder: Path) -> None:
    for key, value in fingerprint(laboratory).items():
        if record.get(key) != value:
            raise ResultFileError(
                f"the checkpoint {folder} belongs to other {key}; give the same data and "
                "settings as before, or start anew with --overwrite"
            )


def load(root: Path, epoch: int, number: int, laboratory: Laboratory) -> IslandState:
    """Read the file of one island.

    Raises
    ------
    ResultFileError
        If it is missing or damaged.
    """
    path = _folder(root, epoch) / f"island-{number:04d}.txt"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultFileError(f"cannot read {path}: {error}") from None
    return deserialise(text, laboratory, str(path))
