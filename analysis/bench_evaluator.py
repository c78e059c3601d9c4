"""Scored trees per second and core: 20-node trees on 1,000 points, against pyoperon.

``python -m analysis.bench_evaluator --peers PYTHON``. The same random trees and data for
both, scored by least squares (scale and offset fitted, as in pyoperon's c2, the squared
correlation), timed in turn in one run, a hundred trees at a time, one thread each. nanoslit
computes in double precision, pyoperon's wheel in single. About half of the random trees with
all functions are not finite (a logarithm of a negative number, say); nanoslit leaves these as
soon as it knows, pyoperon evaluates them to the end. The third line has finite trees only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nanoslit.discovery import kernels, variation
from nanoslit.discovery.island import Island, Laboratory
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.tokens import OPERATORS

ROWS, COLUMNS, TREES, NODES = 1000, 5, 2000, 20
CHUNK = 100  # trees timed at a time: an undisturbed moment is short on a busy machine
PLAIN = ("+", "-", "*", "/")
ALL = (*PLAIN, "exp", "log", "sin", "sqrt", "tanh")
CASES = {"+ - * /": (PLAIN, False), "all": (ALL, False), "all, finite": (ALL, True)}
PEER_NAMES = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "exp": "Exp", "log": "Log",
              "sin": "Sin", "sqrt": "Sqrt", "tanh": "Tanh"}  # fmt: skip


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return features and target."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0.5, 2.0, (ROWS, COLUMNS))
    return X, X[:, 0] * X[:, 1] + 0.1 * rng.normal(size=ROWS)


def random_trees(operators: tuple[str, ...], finite: bool) -> tuple:
    """Return a laboratory and a packed population of 18 to 22 nodes each."""
    X, y = data()
    settings = SearchSettings(
        operators=operators, offset=True, max_size=24, max_depth=12, max_constants=9,
        monomials=0.0, max_nesting=3,
    )  # fmt: skip
    laboratory = Laboratory(Problem(tuple("abcde"), X, y), settings)
    island = Island(laboratory, 0)
    found: list[tuple] = []
    while len(found) < TREES:
        island.generation += 1
        T, N, C, D, H = laboratory.rows(4 * TREES)
        rng = island.generator()
        variation.create_rows(
            rng.integers(0, 2**63, len(T), dtype=np.uint64),
            rng.integers(19, 24, len(T)), laboratory.space, T, N, C, D, H,
        )  # fmt: skip
        good = (N >= NODES - 2) & (N <= NODES + 2)
        if finite:
            good[good] = laboratory.data.score(T[good], N[good], C[good])[0] < kernels.WORST
        found += [(T[k].copy(), N[k], C[k].copy()) for k in np.flatnonzero(good)]
    T, N, C = (np.array([f[j] for f in found[:TREES]]) for j in range(3))
    return laboratory, T, N, C


PEER = """
import json, sys, time
import numpy as np
import pyoperon as op
path, codes = sys.argv[1], json.loads(sys.argv[2])
file = np.load(path)
X, y, T, N, C = (file[k] for k in "XyTNC")
ds = op.Dataset(np.column_stack([X, y]).astype(np.float32))
rg, target = op.Range(0, len(y)), ds.Variables[-1]
inputs = [v.Hash for v in sorted(ds.Variables, key=lambda v: v.Index)]
unary = ("Exp", "Log", "Sin", "Sqrt", "Tanh")
def tree(tokens, constants):
    stack = []
    for t, c in zip(tokens.tolist(), constants[:, 0].tolist()):
        if t >= 100:
            node = op.Node(op.NodeType.Variable, inputs[t - 100]); node.Value = 1.0
            stack.append([node])
        elif t < 10:
            stack.append([op.Node.Constant(c)])
        else:
            name = codes[str(t)]
            node = op.Node(getattr(op.NodeType, name))
            a = stack.pop()
            # operands stand in reverse order in pyoperon's postfix
            stack.append(a + [node] if name in unary else a + stack.pop() + [node])
    return op.Tree(stack[0]).UpdateNodes()
population = [tree(t[:n], c[:n]) for t, n, c in zip(T, N, C)]
for line in sys.stdin:
    first, last = map(int, line.split())
    part = population[first:last]
    begin = time.perf_counter()
    f = op.CalculateFitness(part, ds, rg, target.Name, "c2")
    seconds = time.perf_counter() - begin
    f = np.asarray(f).ravel()
    print(json.dumps([seconds, [float(v) if np.isfinite(v) else None for v in f]]), flush=True)
"""


def agreement(errors: np.ndarray, theirs: list[float | None]) -> float:
    """Return the share of our finite trees whose scores agree to 1e-3."""
    other = np.array([np.nan if v is None else abs(v) for v in theirs])
    finite = errors < kernels.WORST
    return float(np.mean(np.abs(1.0 - errors - other)[finite] < 1e-3))


def main() -> None:
    """Time both in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--passes", type=int, default=15)
    args = parser.parse_args()
    codes = json.dumps({str(OPERATORS[k]): v for k, v in PEER_NAMES.items()})
    for name, (operators, finite) in CASES.items():
        laboratory, T, N, C = random_trees(operators, finite)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trees.npz"
            np.savez(path, X=data()[0], y=data()[1], T=T, N=N, C=C)
            peer = subprocess.Popen(
                [args.peers, "-c", PEER, str(path), codes],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert peer.stdin is not None
            assert peer.stdout is not None
            chunks = [(k, k + CHUNK) for k in range(0, TREES, CHUNK)]
            ours, theirs = np.zeros((2, args.passes + 1, len(chunks)))
            errors, fitness = np.empty(TREES), [None] * TREES
            for i in range(args.passes + 1):
                for j, (a, b) in enumerate(chunks):
                    begin = time.perf_counter()
                    errors[a:b], _ = laboratory.data.score(T[a:b], N[a:b], C[a:b])
                    ours[i, j] = time.perf_counter() - begin
                    peer.stdin.write(f"{a} {b}\n")
                    peer.stdin.flush()
                    line = peer.stdout.readline()
                    if not line:
                        raise SystemExit("the pyoperon worker ended")
                    theirs[i, j], fitness[a:b] = json.loads(line)
            peer.stdin.close()
            peer.wait()
        a, b = ours[1:].min(axis=0).sum(), theirs[1:].min(axis=0).sum()
        median = np.median(theirs[1:].sum(axis=1) / ours[1:].sum(axis=1))
        print(
            f"{name:12}: {N.mean():.1f} nodes, {np.mean(errors < kernels.WORST):4.0%} finite, "
            f"scores agree {agreement(errors, fitness):.1%}; best of {args.passes}: nanoslit "
            f"{TREES / a:.0f}/s, pyoperon {TREES / b:.0f}/s; ratio of bests {b / a:.2f}, "
            f"median ratio {median:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
