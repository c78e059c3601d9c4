"""Scored trees per second and core: 20-node trees on 1,000 points, against pyoperon.

``python -m analysis.bench_evaluator --peers PYTHON``. Both score by least squares (scale
and offset fitted, as pyoperon's r2 and C2 do); the same kind of random trees; best of
several passes, both timed in turn in one run. nanoslit computes in double precision,
pyoperon's wheel in single.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from nanoslit.discovery.island import Island, Laboratory
from nanoslit.discovery.problem import Problem, SearchSettings

ROWS, COLUMNS, TREES, NODES = 1000, 5, 2000, 20
SETS = {"+ - * /": "add,sub,mul,div", "all": "add,sub,mul,div,exp,log,sin,sqrt,tanh"}
OURS = {"+ - * /": ("+", "-", "*", "/"), "all": ("+", "-", "*", "/", "exp", "log", "sin",
        "sqrt", "tanh")}  # fmt: skip


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return features and target."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0.5, 2.0, (ROWS, COLUMNS))
    return X, X[:, 0] * X[:, 1] + 0.1 * rng.normal(size=ROWS)


def our_trees(operators: tuple[str, ...]) -> tuple:
    """Return a packed population of about 20 nodes each."""
    X, y = data()
    settings = SearchSettings(
        operators=operators, offset=True, max_size=24, max_depth=12, max_constants=9,
        monomials=0.0, max_nesting=3,
    )  # fmt: skip
    laboratory = Laboratory(Problem(tuple("abcde"), X, y), settings)
    island = Island(laboratory, 0)
    found = []
    while len(found) < TREES:
        island.generation += 1
        T, N, C, D, H = laboratory.rows(4 * TREES)
        from nanoslit.discovery import variation

        rng = island.generator()
        d = laboratory.dimensions
        variation.create_rows(
            rng.integers(0, 2**63, len(T), dtype=np.uint64),
            rng.integers(19, 24, len(T)), laboratory.ops, laboratory.tables,
            d.variables, np.int64(d.target), d.constant_allowed, d.smallest, d.witness,
            laboratory.library, laboratory.private, laboratory.limits, T, N, C, D, H,
        )  # fmt: skip
        for k in np.flatnonzero((N >= NODES - 2) & (N <= NODES + 2)):
            found.append((T[k].copy(), N[k], C[k].copy()))
    T, N, C = (np.array([f[j] for f in found[:TREES]]) for j in range(3))
    return laboratory, T, N, C


PEER = """
import json, sys, time
import numpy as np
import pyoperon as op
rows, cols, trees, nodes, allowed = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
X = rng.uniform(0.5, 2.0, (rows, cols)); y = X[:, 0]*X[:, 1] + 0.1*rng.normal(size=rows)
ds = op.Dataset(np.column_stack([X, y]).astype(np.float32))
rg = op.Range(0, rows)
target = ds.Variables[-1]
names = {"add": op.NodeType.Add, "sub": op.NodeType.Sub, "mul": op.NodeType.Mul,
    "div": op.NodeType.Div, "exp": op.NodeType.Exp, "log": op.NodeType.Log,
    "sin": op.NodeType.Sin, "sqrt": op.NodeType.Sqrt, "tanh": op.NodeType.Tanh}
pset = op.PrimitiveSet()
config = op.NodeType.Constant | op.NodeType.Variable
for a in allowed.split(","): config = config | names[a]
pset.SetConfig(config)
inputs = [v.Hash for v in ds.Variables if v.Hash != target.Hash]
creator = op.BalancedTreeCreator(pset, inputs, 0.0)
r = op.RomuTrio(1)
population = [creator(r, nodes, 0, 12) for _ in range(trees)]
for line in sys.stdin:
    begin = time.perf_counter()
    op.CalculateFitness(population, ds, rg, target.Name, "r2")
    print(json.dumps([time.perf_counter() - begin,
        float(np.mean([t.Length for t in population]))]), flush=True)
"""


def main() -> None:
    """Time both in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--passes", type=int, default=15)
    args = parser.parse_args()
    for name, allowed in SETS.items():
        laboratory, T, N, C = our_trees(OURS[name])
        job = json.dumps([ROWS, COLUMNS, TREES, NODES, allowed])
        peer = subprocess.Popen(
            [args.peers, "-c", PEER, job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )
        assert peer.stdin is not None
        assert peer.stdout is not None
        laboratory.score(T[:10], N[:10], C[:10])
        ours, theirs, length = [], [], 0.0
        for _ in range(args.passes):
            begin = time.perf_counter()
            laboratory.score(T, N, C)
            ours.append(time.perf_counter() - begin)
            peer.stdin.write("\n")
            peer.stdin.flush()
            line = peer.stdout.readline()
            if not line:
                raise SystemExit("the pyoperon worker ended")
            seconds, length = json.loads(line)
            theirs.append(seconds)
        peer.stdin.close()
        a, b = TREES / min(ours), TREES / min(theirs)
        medians = np.median(theirs) / np.median(ours)
        print(
            f"{name:8}: nanoslit {a:8.0f}/s (mean {N.mean():.1f} nodes), pyoperon {b:8.0f}/s "
            f"(mean {length:.1f} nodes), ratio {a / b:.2f} (medians {medians:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
