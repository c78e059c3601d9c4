"""Draw the benchmark's laws from the pool, with a fixed seed; a third is held out.

``python -m analysis.draw_laws`` writes ``analysis/laws_benchmark.json``: 14 laws of the
Feynman collection, 6 of the Strogatz collection and 12 of electrochemistry and circuits.
Of each collection a third is ``final``: it is not looked at before the final run.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
DRAWN = {"feynman": 14, "strogatz": 6, "electro": 12}
SEED = 20210301


def read_pool(path: Path) -> dict[str, list[dict]]:
    """Return the laws of each collection."""
    pool: dict[str, list[dict]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            current = pool.setdefault(line.strip("[]"), [])
            continue
        name, formula, unit, columns = (part.strip() for part in line.split("|"))
        law = {"name": name, "formula": formula, "unit": unit, "columns": {}}
        for column in columns.split(";"):
            key, rest = column.split(":")
            column_unit, low, high = rest.split()
            law["columns"][key.strip()] = {
                "unit": column_unit,
                "range": [float(low), float(high)],
            }
        current.append(law)
    return pool


def main() -> None:
    """Draw and write."""
    rng = random.Random(SEED)
    chosen = []
    for collection, laws in read_pool(HERE / "laws_pool.txt").items():
        drawn = rng.sample(laws, DRAWN[collection])
        for k, law in enumerate(drawn):
            final = k < DRAWN[collection] // 3
            chosen.append({"collection": collection, "final": final, **law})
    text = json.dumps({"seed": SEED, "laws": chosen}, indent=1)
    (HERE / "laws_benchmark.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(chosen)} laws, {sum(law['final'] for law in chosen)} for the final run")


if __name__ == "__main__":
    main()
