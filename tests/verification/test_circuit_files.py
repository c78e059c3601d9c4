"""Measured voltammograms as potentiostats write them: EC-Lab text and Gamry's DTA."""

import json

import numpy as np
import pytest

from nanoslit import CyclicVoltammetry, NanoCircuit
from nanoslit.circuit.measurement import read_measurement
from nanoslit.errors import CaseError

CYCLES, POINTS = 2, 240


def voltammogram():
    """Return time [s], potential [V], current [A] and cycle of a simulated measurement."""
    circuit = NanoCircuit(6, 5.0, 0.6, 4e-4, 2.0, 3e-4)
    r = circuit.simulate(CyclicVoltammetry(0, 1, 25.0, cycles=CYCLES))
    t = np.linspace(0, r.time[0, -1], POINTS * CYCLES + 1)
    v, i = (np.interp(t, r.time[0], y[0]) for y in (r.applied_potential, r.electrode_current))
    cycle = np.minimum(1 + (t / (t[-1] / CYCLES) + 1e-9).astype(int), CYCLES)
    return t, v, i, cycle


HEAD = """EC-Lab ASCII FILE
Nb header lines : {count}

Cyclic Voltammetry

Run on channel : 3 (SN 10456)
Electrode connection : standard
Potential control : Ewe
Ewe ctrl range : min = -2,50 V, max = 2,50 V
Acquisition started on : 03/14/2021 10:21:33
Saved on :
\tFile : slits_C03.mpr
\tDirectory : C:\\Data\\
Device : SP-150 (SN 0541)
EC-LAB for windows v11.33 (software)
Electrode surface area : 0.500 cm\u00b2
Characteristic mass : 0.001 g
Ei (V)              0,000
vs.                 Eoc
dE/dt               25,000
dE/dt unit          V/s
nc cycles           1

"""
COLUMNS = (
    "mode\tox/red\terror\tcontrol changes\tcounter inc.\ttime/s\tcontrol/V\tEwe/V\t<I>/mA\t"
    "cycle number\t(Q-Qo)/C\tI Range\tP/W\t"
)


def write_mpt(path, *, comma=True, head=True, start=12.5):
    t, v, i, cycle = voltammogram()
    rows = []
    for a, b, c, n in zip(t, v, i, cycle, strict=True):
        numbers = (a + start, b, b, 1e3 * c, n, 0.0, 41, b * c)
        rows.append("2\t1\t0\t0\t0\t" + "\t".join(f"{x:.15E}" for x in numbers) + "\t")
    text = COLUMNS + "\n" + "\n".join(rows) + "\n"
    if head:
        text = HEAD.format(count=HEAD.count("\n") + 1) + text
    if comma:
        text = text.replace(".", ",")
    path.write_bytes(text.replace("\n", "\r\n").encode("cp1252"))


GAMRY = """EXPLAIN
TAG\tCV
TITLE\tLABEL\tCyclic Voltammetry\tTest &Identifier
DATE\tLABEL\t3/14/2021\tDate
TIME\tLABEL\t10:21:33\tTime
NOTES\tNOTES\t1\tNotes...
\tslits
PSTAT\tPSTAT\tIFC1010-23086\tPotentiostat
VINIT\tPOTEN\t0.00000E+000\tF\tInitial E (V)
VLIMIT1\tPOTEN\t1.00000E+000\tF\tScan Limit 1 (V)
SCANRATE\tQUANT\t2.50000E+004\tScan Rate (mV/s)
AREA\tQUANT\t5.00000E-001\tElectrode Area (cm^2)
CYCLES\tIQUANT\t2\tCycles (#)
EOC\tQUANT\t0.0105\tOpen Circuit (V)
OCVCURVE\tTABLE\t2
\tPt\tT\tVf\tVm\tAch
\t#\ts\tV vs. Ref.\tV\tV
\t0\t0.5\t1.05E-002\t0.0\t0.0
\t1\t1.0\t1.06E-002\t0.0\t0.0
"""


def write_dta(path):
    t, v, i, cycle = voltammogram()
    text = GAMRY
    for n in range(1, CYCLES + 1):
        text += f"CURVE{n}\tTABLE\n\tPt\tT\tVf\tIm\tVu\tSig\tAch\tIERange\tOver\n"
        text += "\t#\ts\tV vs. Ref.\tA\tV\tV\tV\t#\tbits\n"
        for k in np.flatnonzero(cycle == n):
            text += f"\t{k}\t{t[k]:.8g}\t{v[k]:.8E}\t{i[k]:.8E}\t0\t0\t0\t8\t...........\n"
    path.write_text(text + "EXPERIMENTABORTED\tTOGGLE\tF\tExperiment Aborted\n")


@pytest.mark.parametrize("comma", [True, False])
@pytest.mark.parametrize("head", [True, False])
def test_ec_lab_text(comma, head, tmp_path):
    path = tmp_path / "cv.mpt"
    write_mpt(path, comma=comma, head=head)
    t, v, i, cycle = voltammogram()
    data = read_measurement(path)
    assert np.allclose(data.time - data.time[0], t, atol=1e-12)
    assert np.allclose(data.potential, v, atol=1e-12)
    assert np.allclose(data.current, i, rtol=1e-12)
    assert np.isclose(data.scan_rate, 25.0, rtol=1e-6)
    assert "current: mA -> A" in data.notes
    second = read_measurement(path, cycles=(2, 2))
    assert np.allclose(second.current, i[cycle == 2])
    with pytest.raises(CaseError, match="only 1 to 2"):
        read_measurement(path, cycles=(3, 3))


def test_gamry_text(tmp_path):
    path = tmp_path / "cv.DTA"
    write_dta(path)
    t, v, i, cycle = voltammogram()
    data = read_measurement(path)
    assert np.allclose(data.time, t, rtol=1e-7, atol=1e-12)
    assert np.allclose(data.potential, v, atol=1e-8)
    assert np.allclose(data.current, i, rtol=1e-6, atol=1e-12)
    assert np.allclose(read_measurement(path, cycles=(2, 2)).current, i[cycle == 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.mpt", "EC-Lab ASCII FILE\nno count\n", "header lines"),
        ("a.mpt", "EC-Lab ASCII FILE\nNb header lines : 3\nmode\ttime/s\tEwe/V\n1\t0\t0\n",
         "current"),
        ("a.DTA", GAMRY, "no CURVE"),
        ("a.mpr", "binary", "export it as text"),
        ("a.csv", "", "no data"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(name, text, words, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(CaseError, match=words):
        read_measurement(tmp_path / name)


def test_fit_of_both_files_together(nanoslit, tmp_path):
    write_mpt(tmp_path / "a.mpt")
    write_dta(tmp_path / "b.DTA")
    out = nanoslit(
        "fit", tmp_path / "a.mpt", tmp_path / "b.DTA", "--slits", 6, "--starts", 4, "--json"
    )
    assert out.returncode == 0, out.stderr
    values = json.loads(out.stdout)["values"]
    assert abs(values["gamma"]["value"] - 0.6) < 0.05
    assert abs(values["r_c"]["value"] / 5 - 1) < 0.05
    assert "a.mpt: 481 points, 0..1 V, 25 V/s" in out.stderr
    assert "current: mA -> A" in out.stderr
