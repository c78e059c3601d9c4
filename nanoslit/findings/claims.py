"""The paper's claims against what the runs of a study show (Zhan et al. 2021).

Each claim is a function from :class:`Evidence` to checks (:mod:`nanoslit.findings.verdict`);
its bounds are our choice, since the paper gives words, and stand with the claim. Where the
claim is a trend, neighbouring runs that differ in one key are compared, and a check is the
slope d ln y / d ln x between them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nanoslit import atomic
from nanoslit.findings.runs import VOLTAGES, Measured, Run, numbers_of, read_runs
from nanoslit.findings.verdict import Check, judge

__all__ = [
    "CLAIMS",
    "Claim",
    "Evidence",
    "RunEvidence",
    "circuit_shapes",
    "evidence_of",
    "judge_all",
    "labels_of",
    "names_of",
    "write_claims",
]

ALWAYS = 0.95
"""Share of the cycle that counts as all of it: signs change at the reversal, not at once."""
EXACT = 0.05
"""Misfit, spread or change up to which two things count as the same."""
FLAT = 0.1
"""Largest |d ln y / d ln x| that counts as constant."""
SOON = 0.1
"""Fraction of the half cycle that counts as just after its start."""
CLOSE = 0.1
"""Relative deviation up to which an extreme of R counts as the value that is claimed."""
GOOD = 0.05
"""Deviation of voltammograms that counts as very good agreement."""

THETAS = (0.14, 0.3, 0.54, 1.0, 1.6)
GAMMAS = (-0.9, -0.5, 0.0, 0.5, 0.9)
RESISTANCES = (1.0, 2.0, 4.0, 6.0, 8.0, 10.0)
SHAPES = ("asymmetry", "relative_area", "corner", "contrast", "relative_top_charge")


@dataclass(frozen=True)
class RunEvidence:
    """Labels (case parameters in SI), numbers, and name for people of one run."""

    labels: Mapping[str, float]
    numbers: Mapping[str, Measured]
    where: str


@dataclass(frozen=True)
class Evidence:
    """All that the claims are judged by.

    Parameters
    ----------
    runs : sequence of RunEvidence
    shapes : dict
        Features of circuits: ``gamma:THETA:FEATURE`` over :data:`GAMMAS` and
        ``r_c:THETA:FEATURE`` over :data:`RESISTANCES`, each a list.
    deviations : dict of str to dict of str to float
        For each model of a circuit: deviation from the solved current by case.
    laws : dict of str to float
        Error of laws on the discharging half, by name.
    """

    runs: Sequence[RunEvidence] = ()
    shapes: Mapping[str, Sequence[float]] = field(default_factory=dict)
    deviations: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    laws: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """One claim: number in our list, text, where it stands, how it is tested.

    Parameters
    ----------
    number, text, place : str
    criterion : str
        What the check asks for, with its bound (our choice).
    checks : callable
        Takes :class:`Evidence`, returns checks.
    reason : str
        Why the evidence may be missing.
    """

    number: str
    text: str
    place: str
    criterion: str
    checks: Callable[[Evidence], list[Check]]
    reason: str


# -- how claims are tested -----------------------------------------------------------------


def _bounded(name: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """Return a test that a number of every run lies between bounds."""

    def checks(evidence: Evidence) -> list[Check]:
        return [
            Check(r.where, m.value, m.total, low, high)
            for r in evidence.runs
            if (m := r.numbers.get(name)) is not None
        ]

    return checks


def _signs(place: str, part: str, low: float, high: float) -> Any:
    """Return a test of the share of time in which migration and a part have one sign."""

    def checks(evidence: Evidence) -> list[Check]:
        found = []
        for r in evidence.runs:
            for name, m in r.numbers.items():
                words = name.split(":")
                if words[0] == "same" and words[3] == part and place in words[1]:
                    found.append(Check(r.where, m.value, m.total, low, high, words[1]))
        return found

    return checks


def _steric(evidence: Evidence) -> list[Check]:
    """Check that migration and steric flux agree below 2 nm, and only there."""
    found = []
    for r in evidence.runs:
        small = r.labels["slit_size"] < 2e-9
        for name, m in r.numbers.items():
            words = name.split(":")
            if words[0] == "same" and words[3] == "steric" and "slit" in words[1]:
                low, high = (ALWAYS, math.inf) if small else (-math.inf, ALWAYS)
                found.append(Check(r.where, m.value, m.total, low, high, words[1]))
    return found


def neighbours(
    runs: Sequence[RunEvidence], key: str
) -> Iterable[tuple[RunEvidence, RunEvidence]]:
    """Yield pairs of runs, neighbours along a key, that agree in every other label."""
    groups: dict[tuple[tuple[str, float], ...], list[RunEvidence]] = {}
    for r in runs:
        rest = tuple(sorted((k, v) for k, v in r.labels.items() if k != key))
        groups.setdefault(rest, []).append(r)
    for members in groups.values():
        members.sort(key=lambda r: r.labels[key])
        for a, b in zip(members[:-1], members[1:], strict=True):
            if b.labels[key] > a.labels[key] > 0:
                yield a, b


UNITS = {
    "slit_size": (1e9, "nm"), "ion_size": (1e9, "nm"), "concentration": (1e-3, "mol/L"),
    "sheets": (1.0, "sheets"), "scan_rate": (1.0, "V/s"), "window": (1.0, "V"),
}  # fmt: skip


def _trend(name: str, key: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """Return a test of d ln(number) / d ln(key) between neighbouring runs."""

    def checks(evidence: Evidence) -> list[Check]:
        found = []
        factor, unit = UNITS[key]
        for a, b in neighbours(evidence.runs, key):
            if name not in a.numbers or name not in b.numbers:
                continue
            x, y = a.numbers[name], b.numbers[name]
            if not (x.value > 0 and y.value > 0):
                continue
            run = math.log(b.labels[key] / a.labels[key])
            change = x.common / x.value - y.common / y.value
            error = math.hypot(x.error / x.value, y.error / y.value, change) / run
            where = f"{factor * a.labels[key]:.3g} to {factor * b.labels[key]:.3g} {unit}"
            if key != "slit_size":
                where = f"d = {1e9 * a.labels['slit_size']:.3g} nm, {where}"
            found.append(Check(where, math.log(y.value / x.value) / run, error, low, high))
        return found

    return checks


def _each_voltage(
    numbers: Sequence[tuple[str, str, float, float]],
) -> Callable[[Evidence], list[Check]]:
    """Return a test of numbers that every voltage has: (name, what it is, low, high)."""

    def checks(evidence: Evidence) -> list[Check]:
        return [
            Check(r.where, m.value, m.total, low, high, f"{what}{words}")
            for v, words in VOLTAGES.items()
            for name, what, low, high in numbers
            for r in evidence.runs
            if (m := r.numbers.get(f"{name}:{v}")) is not None
        ]

    return checks


def _rivals(evidence: Evidence) -> list[Check]:
    """Check that no rival with as many constants is more accurate on unseen data."""
    paper = {k: v for k, v in evidence.laws.items() if k.startswith("paper")}
    if not paper:
        return []
    best = min(paper.values())
    rivals = {k: v for k, v in evidence.laws.items() if not k.startswith("paper")}
    return [Check(f"against {k}", best / v, 0.0, high=1.0) for k, v in rivals.items() if v > 0]


def _at_surface(evidence: Evidence) -> list[Check]:
    """Check that more than half of the current flows within a Debye length of the walls."""
    return _bounded("surface_share", low=0.5)(evidence)  # type: ignore[no-any-return]


def _agreement(model: str) -> Any:
    def checks(evidence: Evidence) -> list[Check]:
        values = evidence.deviations.get(model, {})
        return [Check(where, v, 0.0, high=GOOD) for where, v in values.items()]

    return checks


def _shape(scan: str, feature: str, low: float, high: float, at: int | None = None) -> Any:
    """Return a test of the slopes of a feature along a scan of circuits, for each theta.

    With ``at`` the feature itself is tested at that place of the scan.
    """
    values = np.array(GAMMAS if scan == "gamma" else RESISTANCES)

    def checks(evidence: Evidence) -> list[Check]:
        found = []
        for theta in THETAS:
            y = evidence.shapes.get(f"{scan}:{theta}:{feature}")
            if y is None:
                continue
            numbers = np.asarray(y, float)
            where = f"theta = {theta}"
            if at is not None:
                found.append(Check(where, float(numbers[at]), 1e-6, low, high))
                continue
            slopes = np.diff(numbers) / np.diff(values)
            worst = slopes.min() if low > -math.inf else slopes.max()
            found.append(Check(where, float(worst), 1e-5, low, high))
        return found

    return checks


M = "mid"
NO_FIELDS = "the runs kept no fields, or no slit is wider than two Debye lengths"
NO_RUNS = "no runs of half cells with two sheets or more"
NO_PLACE = "no part of the current there is above 1 % of its maximum"


def _needs(key: str) -> str:
    return f"the plan has no runs that differ in {key} alone"


CLAIMS: tuple[Claim, ...] = (
    Claim("1a", "In front of the electrode migration is opposite to diffusion all cycle",
          "Fig. 2c", f"one sign for at most {1 - ALWAYS:.0%} of the time, at each plane",
          _signs("in front", "diffusion", -math.inf, 1 - ALWAYS), NO_PLACE),
    Claim("1b", "In front of the electrode migration is opposite to the steric flux",
          "Fig. 2c", f"one sign for at most {1 - ALWAYS:.0%} of the time, at each plane",
          _signs("in front", "steric", -math.inf, 1 - ALWAYS), NO_PLACE),
    Claim("2a", "Along the slits migration and diffusion have one sign all cycle",
          "Fig. 2f", f"at least {ALWAYS:.0%} of the time, minus equilibrium, line midway "
          "between openings", _signs("slit", "diffusion", ALWAYS, math.inf), NO_PLACE),
    Claim("2b", "Through the openings migration and diffusion have one sign all cycle",
          "Fig. 2f", f"at least {ALWAYS:.0%} of the time, mid-plane of each inner sheet",
          _signs("opening", "diffusion", ALWAYS, math.inf), NO_PLACE),
    Claim("2c", "The same at the mouth", "Fig. 2f", f"at least {ALWAYS:.0%} of the time",
          _signs("mouth", "diffusion", ALWAYS, math.inf), NO_PLACE),
    Claim("3", "In slits the steric flux has the sign of migration only for d < 2 nm",
          "text", f"at least {ALWAYS:.0%} of the time below 2 nm, less from 2 nm on",
          _steric, NO_PLACE),
    Claim("4", "The slit with more charge has the lower potential (positive electrode)",
          "Fig. 2g", f"at least {ALWAYS:.0%} of the time, neighbouring slits",
          _bounded("lower_potential", low=ALWAYS), NO_RUNS),
    Claim("5", "Voltage and current of an opening do not overlap after scaling", "Fig. 3a",
          f"best constant resistance leaves more than {EXACT:.0%}",
          _each_voltage([("misfit_constant", "", EXACT, math.inf)]), NO_RUNS),
    Claim("6a", "dphi = I R_c (1 - gamma Q/Q_max) with 0 < gamma < 1", "eq. 1, 2",
          f"misfit at most {EXACT:.0%} and gamma in (0, 1), each potential",
          _each_voltage([("misfit", "misfit, ", -math.inf, EXACT),
                         ("gamma", "gamma, ", 0.0, 1.0)]), NO_RUNS),
    Claim("6b", "This law rather than another", "eq. 1, 2",
          "error on the discharging half at most that of each rival (ratio <= 1)", _rivals,
          "no law search in this folder"),
    Claim("7", "One R_c and gamma for all slits", "SF 6, 7",
          f"range over the openings at most {EXACT:.0%}",
          _each_voltage([("spread_r_c", "R_c, ", -math.inf, EXACT),
                         ("spread_gamma", "gamma, ", -math.inf, EXACT)]), NO_RUNS),
    Claim("8a", "R is largest, about R_c, just after charging starts", "Fig. 3b",
          f"within the first {SOON:.0%} of the half cycle, R_c within {CLOSE:.0%}",
          _each_voltage([("phase_max", "time, ", -math.inf, SOON),
                         ("start_ratio", "value, ", 1 - CLOSE, 1 + CLOSE)]), NO_RUNS),
    Claim("8b", "R is smallest, about (1 - gamma) R_c, just after discharging starts",
          "Fig. 3b", f"within the first {SOON:.0%} of the half cycle, value within {CLOSE:.0%}",
          _each_voltage([("phase_min", "time, ", -math.inf, SOON),
                         ("end_ratio", "value, ", 1 - CLOSE, 1 + CLOSE)]), NO_RUNS),
    Claim("9a", "The largest R does not depend on d", "Fig. 3c", f"|slope| <= {FLAT}",
          _trend(f"r_max:{M}", "slit_size", -FLAT, FLAT), _needs("slit size")),
    Claim("9b", "The smallest R falls as d falls", "Fig. 3c", "slope > 0",
          _trend(f"r_min:{M}", "slit_size", 0.0), _needs("slit size")),
    Claim("10a", "The largest resistivity falls as d falls", "Fig. 3d", "slope > 0",
          _trend(f"resistivity_max:{M}", "slit_size", 0.0), _needs("slit size")),
    Claim("10b", "The smallest resistivity falls as d falls", "Fig. 3d", "slope > 0",
          _trend(f"resistivity_min:{M}", "slit_size", 0.0), _needs("slit size")),
    Claim("10c", "Their difference does not depend on d", "Fig. 3d", f"|slope| <= {FLAT}",
          _trend(f"resistivity_range:{M}", "slit_size", -FLAT, FLAT), _needs("slit size")),
    Claim("11", "The current runs mainly at the surface", "SF 10a",
          "more than half within a Debye length of a wall, line midway between openings",
          _at_surface, NO_FIELDS),
    Claim("12a", "C_slit does not depend on d above 1 nm", "SF 11", f"|slope| <= {FLAT}",
          _trend("c_slit", "slit_size", -FLAT, FLAT), _needs("slit size")),
    Claim("12b", "C_slit does not change during the cycle", "SF 11",
          f"range of Q/u above a fifth of the largest u at most {EXACT:.0%} of its mean",
          _bounded("c_time", high=EXACT), NO_RUNS),
    Claim("13", "Voltammograms of circuit and field equations agree very well", "Fig. 4c",
          f"deviation (L2) at most {GOOD:.0%}, paper's law, numbers from the traces",
          _agreement("paper"), "no circuit with the paper's law in this folder"),
    Claim("14a", "The voltammogram is asymmetric", "Fig. 4c",
          f"A > {EXACT} (A = 0: both sweeps alike)", _bounded("asymmetry", low=EXACT),
          "no voltammograms of two equal sweeps"),
    Claim("14b", "more so with more sheets", "SF 12", "slope > 0",
          _trend("asymmetry", "sheets", 0.0), _needs("number of sheets")),
    Claim("14c", "and at higher scan rate", "SF 12", "slope > 0",
          _trend("asymmetry", "scan_rate", 0.0), _needs("scan rate")),
    Claim("15", "A transmission line (gamma = 0) gives no asymmetry", "SF 11c-13a",
          "A = 0 in the periodic state (true; the converse is not: C(u) breaks it too)",
          _shape("gamma", "asymmetry", -1e-3, 1e-3, at=GAMMAS.index(0.0)), "no circuits"),
    Claim("16a", "The area of the voltammogram grows with gamma", "Fig. 4d, SF 14",
          "slope > 0 for gamma from -0.9 to 0.9, at each theta",
          _shape("gamma", "relative_area", 0.0, math.inf), "no circuits"),
    Claim("16b", "from an ellipse to a trapezoid: current at the vertex grows", "Fig. 4d",
          "slope > 0, at each theta", _shape("gamma", "corner", 0.0, math.inf), "no circuits"),
    Claim("17a", "A peak at the upper right, stronger with R_c: over the mid-sweep current",
          "Fig. 4e", "slope >= 0 for R_c from 1 to 10 Ohm at gamma = 0.9 (theta at 5 Ohm)",
          _shape("r_c", "contrast", -1e-4, math.inf), "no circuits"),
    Claim("17b", "and in height itself", "Fig. 4e", "slope > 0, current at the vertex",
          _shape("r_c", "corner", 0.0, math.inf), "no circuits"),
    Claim("18", "Larger gamma stores more charge", "SF 14",
          "slope of the charge at the upper vertex > 0, at each theta",
          _shape("gamma", "relative_top_charge", 0.0, math.inf), "no circuits"),
    Claim("19a", "gamma is larger for smaller d", "text", "slope < 0",
          _trend(f"gamma:{M}", "slit_size", -math.inf, 0.0), _needs("slit size")),
    Claim("19b", "for smaller ions", "text", "slope < 0",
          _trend(f"gamma:{M}", "ion_size", -math.inf, 0.0), _needs("ion size")),
    Claim("19c", "for higher concentration", "text", "slope > 0",
          _trend(f"gamma:{M}", "concentration", 0.0), _needs("concentration")),
    Claim("19d", "and for a wider window", "text", "slope > 0",
          _trend(f"gamma:{M}", "window", 0.0), _needs("window")),
    Claim("20", "Molecular dynamics confirms it", "SF 4", "-", lambda _: [],
          "out of the scope of a continuum model"),
)  # fmt: skip
"""The list, in the paper's order. Figures and SF (supplementary figures) are the paper's."""


# -- evidence ------------------------------------------------------------------------------


def labels_of(run: Run) -> dict[str, float]:
    """Return the parameters by which runs are told apart, in SI units."""
    case, g = run.case, run.network
    protocol: Any = case.protocol
    low, high = protocol.bounds
    mesh = {"coarse": 1.0, "standard": 2.0, "fine": 3.0}.get(run.mesh, 0.0)
    stern = case.electrode.stern_capacitance
    return {
        "slit_size": g.slit_size, "sheet_length": g.sheet_length, "opening": g.opening,
        "sheets": float(g.sheets), "ion_size": case.electrolyte.ion_size,
        "concentration": case.electrolyte.ions[0].concentration,
        "permittivity": case.electrolyte.permittivity,
        "scan_rate": float(getattr(protocol, "scan_rate", 0.0)),
        "lower": float(low), "window": float(high - low), "mesh": mesh,
        "stern": 0.0 if stern is None else float(stern),
        "thickness": g.sheet_thickness, "aligned": float(g.arrangement == "aligned"),
    }  # fmt: skip


def names_of(runs: Sequence[Run]) -> list[str]:
    """Return names for people: slit size, and whatever else tells the runs apart."""
    labels = [labels_of(run) for run in runs]
    varied = [k for k in UNITS if k != "slit_size" and len({d[k] for d in labels}) > 1]
    out = []
    for d in labels:
        words = [f"d = {1e9 * d['slit_size']:.3g} nm"]
        words += [f"{UNITS[k][0] * d[k]:.3g} {UNITS[k][1]}" for k in varied]
        out.append(", ".join(words))
    return out


def circuit_shapes() -> dict[str, list[float]]:
    """Return the features of the paper's two scans of circuits, periodic state.

    gamma at R_c = 5 Ohm and R_c at gamma = 0.9 are the paper's; N = 6, R_open = 2.5 Ohm,
    C_open = C_slit / 2 = 0.2 mF, window 0 to 1 V and theta are our choice.
    """
    from nanoslit.circuit import observables
    from nanoslit.circuit.ladder import NanoCircuit
    from nanoslit.protocol import CyclicVoltammetry

    out: dict[str, list[float]] = {}
    n, r, c = 6, 5.0, 4e-4
    for theta in THETAS:
        sweep = CyclicVoltammetry(0.0, 1.0, theta / (n * n * r * c), cycles=1)
        for scan, r_c, gamma in (
            ("gamma", r, np.array(GAMMAS)),
            ("r_c", np.array(RESISTANCES), 0.9),
        ):
            circuit = NanoCircuit(n, r_c, gamma, c, 0.5 * r, 0.5 * c)
            found = observables.features(circuit.simulate(sweep, cycle="periodic"))
            for name in SHAPES:
                out[f"{scan}:{theta}:{name}"] = found[name].tolist()
    return out


def evidence_of(folder: str | Path) -> Evidence:
    """Return what the folder of a study holds.

    Raises
    ------
    ResultFileError
        If it has no results.
    """
    folder = Path(folder)
    runs = read_runs(folder)
    names = names_of(runs)
    items = [
        RunEvidence(labels_of(run), numbers_of(run), name)
        for run, name in zip(runs, names, strict=True)
    ]
    items.sort(key=lambda r: tuple(r.labels.values()))
    return Evidence(
        items, circuit_shapes(), _deviations(folder / "circuits.json"),
        _law_errors(folder / "LAW.json"),
    )  # fmt: skip


def _deviations(path: Path) -> dict[str, dict[str, float]]:
    """Return the deviations in ``circuits.json`` by model, then by case."""
    if not path.exists():
        return {}
    out: dict[str, dict[str, float]] = {}
    for cell in json.loads(path.read_text(encoding="utf-8")).get("cells", []):
        where = f"d = {1e9 * cell['slit_size']:.3g} nm"
        if cell.get("sheets"):
            where += f", {cell['sheets']} sheets"
        for model, outcome in cell.get("outcomes", {}).items():
            value = outcome.get("deviation")
            if value is not None and math.isfinite(value):
                out.setdefault(model, {})[where] = float(value)
    return out


def _law_errors(path: Path) -> dict[str, float]:
    if not path.exists():
        return {}
    rivals = json.loads(path.read_text(encoding="utf-8")).get("baselines", {})
    wanted = ("paper", "rational", "exponential", "donnan")
    return {
        name: float(form["error_test"])
        for name, form in rivals.items()
        if name.startswith(wanted) and "bulk" not in name and form.get("error_test")
    }


# -- result --------------------------------------------------------------------------------


def judge_all(evidence: Evidence) -> list[dict[str, Any]]:
    """Return every claim with its checks, verdict and boundary, ready for JSON."""
    out = []
    for claim in CLAIMS:
        checks = claim.checks(evidence)
        verdict, boundary = judge(checks, claim.reason)
        out.append({
            "number": claim.number, "claim": claim.text, "place": claim.place,
            "criterion": claim.criterion, "verdict": verdict, "boundary": boundary,
            "checks": [asdict(c) | {"where": c.where, "holds": c.holds} for c in checks],
        })  # fmt: skip
    return out


def declared_range(evidence: Evidence) -> str:
    """Return in words what the runs cover."""
    words = []
    for key, (factor, unit) in UNITS.items():
        values = sorted({factor * r.labels[key] for r in evidence.runs})
        shown = ", ".join(f"{v:.3g}" for v in values[:8])
        label = key.replace("_", " ")
        words.append(f"{label} {shown}" + ("" if key == "sheets" else f" {unit}"))
    return "; ".join(words)


def write_claims(folder: str | Path) -> Path:
    """Judge all claims by the runs of a study and write ``claims.json`` in its folder.

    Raises
    ------
    ResultFileError
        If the folder has no results.
    """
    folder = Path(folder)
    evidence = evidence_of(folder)
    text = {
        "range": declared_range(evidence), "claims": judge_all(evidence),
        "numbers": [
            {"labels": dict(r.labels), "numbers": {k: asdict(m) for k, m in r.numbers.items()}}
            for r in evidence.runs
        ],
    }  # fmt: skip
    target = folder / "claims.json"
    atomic.write_json(target, text)
    return target
