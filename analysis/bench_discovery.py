"""Recovered laws per method and noise level, at equal evaluations and equal wall time.

``python -m analysis.bench_discovery --peers PYTHON`` runs the development part of
``laws_benchmark.json``; ``--final`` adds the third that is held out. An evaluation is one
pass of an expression over the data, each residual and Jacobian column included. pyoperon
counts a Jacobian once whatever its columns, which is in its favour; gplearn has none.
nanoslit is given the columns' units, which the peers cannot use; ``--no-units`` shows the
same engine without them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from analysis import law_data
from nanoslit.discovery.discover import choose, offset_is_natural, search_problem
from nanoslit.discovery.problem import SearchSettings
from nanoslit.errors import LawError


def run_nanoslit(law: dict[str, Any], X: Any, y: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Return expression, seconds, evaluations of the package itself."""
    problem = law_data.problem_of(law, X, y, units=job["method"] == "nanoslit")
    settings = SearchSettings(
        evaluations=job["evaluations"] if not job["seconds"] else 10**9,
        operators=law_data.OPERATORS,
        seed=job["seed"],
        **job["settings"],
    )
    offset = offset_is_natural(problem, settings)
    settings = SearchSettings.from_dict(settings.to_dict() | {"offset": offset})
    begin = time.perf_counter()
    laboratory, result = search_problem(
        problem, settings, seconds=0.85 * job["seconds"] if job["seconds"] else 0.0
    )
    budget = settings.evaluations if not job["seconds"] else result.evaluations * 20 // 17
    chosen = choose(laboratory, result, budget)
    seconds = time.perf_counter() - begin
    text = chosen.best.form.text(problem.columns)
    done = result.evaluations + chosen.evaluations
    return {"expression": text, "seconds": seconds, "evaluations": done}


class Peer:
    """A worker process of :mod:`analysis.peer_runs`."""

    def __init__(self, python: str) -> None:
        worker = str(Path(__file__).with_name("peer_runs.py"))
        self.process = subprocess.Popen(
            [python, worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run one job."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("@@"):
                return json.loads(line[2:])
        return {"error": "the worker died"}


def warm_up(law: dict[str, Any]) -> None:
    """Compile what is not cached on this machine yet, so that no law pays for it."""
    X, y = law_data.sample(law, 100, 0)
    for method in ("nanoslit", "nanoslit-no-units"):
        job = {"method": method, "seed": 1, "evaluations": 500, "seconds": 0, "settings": {}}
        run_nanoslit(law, X, y, job)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="nanoslit,pyoperon,gplearn")
    parser.add_argument("--noise", default="0,0.001,0.01,0.1")
    parser.add_argument("--evaluations", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=0.0, help="equal wall time")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--final", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--set", default="{}", help="settings of nanoslit as JSON")
    parser.add_argument("--out", default="")
    parser.add_argument("-v", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Run and print the table."""
    args = arguments()
    laws = law_data.load_laws(args.final)
    laws = [x for x in laws if not args.only or x["name"] in args.only.split(",")]
    peer = Peer(args.peers)
    if "nanoslit" in args.methods:
        warm_up(laws[0])
    won: Counter[tuple[str, float]] = Counter()
    runs: Counter[tuple[str, float]] = Counter()
    spent: Counter[str] = Counter()
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for law in laws:
            for noise in map(float, args.noise.split(",")):
                for seed in range(args.seeds):
                    X, exact = law_data.sample(law, args.rows, seed)
                    y = law_data.noisy(exact, noise, seed)
                    data = str(Path(folder) / "data.npz")
                    np.savez(data, X=X, y=y)
                    for method in args.methods.split(","):
                        job = {
                            "method": method,
                            "data": data,
                            "seed": seed + 1,
                            "noise": noise,
                            "evaluations": args.evaluations,
                            "seconds": args.seconds,
                            "columns": list(law["columns"]),
                            "settings": json.loads(args.set),
                        }
                        try:
                            answer = (
                                run_nanoslit(law, X, y, job)
                                if method.startswith("nanoslit")
                                else peer.run(job)
                            )
                        except LawError as error:
                            answer = {"error": str(error)}
                        good, why = False, answer.get("error", "")
                        if "expression" in answer:
                            good, why = law_data.judge(answer["expression"], law, noise)
                        won[method, noise] += good
                        runs[method, noise] += 1
                        spent[method] += answer.get("seconds", 0.0)
                        records.append(
                            {"law": law["name"], "noise": noise, "seed": seed}
                            | {"method": method, "recovered": good, "why": why}
                            | answer
                        )
                        if args.v:
                            text = answer.get("expression", "")[:110]
                            print(
                                f"{law['name']:15} {noise:<6g} {method:9} "
                                f"{'yes' if good else 'NO ' + why:32} "
                                f"{answer.get('evaluations', 0):7d} "
                                f"{answer.get('seconds', 0):6.2f}s  {text}",
                                flush=True,
                            )
    budget = f"{args.seconds:g} s" if args.seconds else f"{args.evaluations} evaluations"
    print(f"{len(laws)} laws, {args.seeds} seed(s), {budget}: recovered per noise level")
    for method in args.methods.split(","):
        cells = [
            f"{float(n):g}: {won[method, float(n)]}/{runs[method, float(n)]}"
            for n in args.noise.split(",")
        ]
        print(f"{method:10} {'  '.join(cells)}   ({spent[method]:.0f} s)")
    if args.out:
        Path(args.out).write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
