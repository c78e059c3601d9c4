"""Independent peer: the network case with FEniCSx finite elements.

Solves the same steric Poisson-Nernst-Planck case as ``nanoslit run``, from the same
case file, with none of its code: Lagrange elements (P1/P2 triangles or Q1/Q2
quadrilaterals) for the electrochemical potentials mu_i [kT] and the electric potential
phi [kT/e], a Jacobian derived by UFL, variable-step BDF2 on the concentrations
themselves, MUMPS LU. It serves as cross-check (reference numbers with error estimates)
and as the peer of the benchmark (what a careful user of a general finite-element
package has to pay).

Install on Debian 12 and run (the system's Python, not the project's environment)::

    apt-get install -y --no-install-recommends python3-dolfinx
    /usr/bin/python3 analysis/peer_fenicsx.py network-1.5nm   # or a CASE.toml
    /usr/bin/python3 analysis/peer_fenicsx.py network-1.5nm --preset "2 %"
    /usr/bin/python3 analysis/peer_study.py cost        # seconds against error
    /usr/bin/python3 analysis/peer_study.py reference   # writes peer_reference.json

The Debian package is dolfinx 0.5.2 on PETSc 3.18 and numpy 1.24; a numpy of pip must
not shadow it. Kernels are compiled once (some 20 s) and kept in ``~/.cache/fenics``.

Units: inside, lengths in nm, potentials in kT/e, time in nm^2/D_1, concentrations in
units of the first ion's bulk value; JSON output in SI units, extensive values per metre
of depth and for the simulated half period, as in the result files of ``nanoslit run``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import re
import sys
import time
import tomllib
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one core

import dolfinx
import numpy as np
import petsc4py
import ufl
from dolfinx import fem
from mpi4py import MPI
from petsc4py import PETSc

logging.disable(logging.INFO)  # dolfinx announces every compiler call

CHARGE, BOLTZMANN, AVOGADRO = 1.602176634e-19, 1.380649e-23, 6.02214076e23
VACUUM_PERMITTIVITY = 8.8541878128e-12
NM = 1e-9

UNITS = {
    "m": 1.0, "um": 1e-6, "nm": 1e-9, "angstrom": 1e-10,
    "V": 1.0, "mV": 1e-3, "K": 1.0,
    "V/s": 1.0, "mV/s": 1e-3, "V/us": 1e6, "V/ns": 1e9,
    "m^2/s": 1.0, "cm^2/s": 1e-4,
    "mol/m^3": 1.0, "mol/L": 1e3, "mmol/L": 1.0, "M": 1e3,
}  # fmt: skip


# ---------------------------------------------------------------------------- cases


CASE_FILE = """\
name = "{name}"
[electrolyte]
permittivity = 78.5
temperature = "298.15 K"
ion_size = "{ion_size}"
[[electrolyte.ions]]
name = "K+"
charge = 1
diffusivity = "2e-9 m^2/s"
concentration = "{concentration}"
[[electrolyte.ions]]
name = "Cl-"
charge = -1
diffusivity = "2e-9 m^2/s"
concentration = "{concentration}"
[geometry]
kind = "nanoslit-network"
slit_size = "{slit_size}"
sheet_length = "{sheet_length}"
sheet_thickness = "0.335 nm"
opening = "{opening}"
sheets = {sheets}
arrangement = "staggered"
reservoir = "10 nm"
[protocol]
kind = "cyclic-voltammetry"
lower = "0 V"
upper = "{upper}"
scan_rate = "{scan_rate}"
cycles = 2
"""

_VALUES = """
name           sheets  slit_size  sheet_length  opening  ion_size  concentration  scan_rate  upper
network-1.5nm  3       1.5 nm     10 nm         1 nm     0.4 nm    1 mol/L        1e5 V/s    0.2 V
network-3nm    3       3 nm       16 nm         1 nm     0.66 nm   0.5 mol/L      3e4 V/s    0.15 V
network-1nm    2       1 nm       8 nm          1.2 nm   0.3 nm    2 mol/L        1e6 V/s    0.2 V
"""  # noqa: E501


def _built_in_cases() -> dict[str, str]:
    header, *rows = (re.split(r"\s{2,}", line) for line in _VALUES.split("\n") if line)
    values = [dict(zip(header, row, strict=True)) for row in rows]
    return {entry["name"]: CASE_FILE.format(**entry) for entry in values}


#: Built-in cases: text of their case files by name.
CASES = _built_in_cases()


@dataclass(frozen=True)
class Problem:
    """A case in SI units, as far as this program supports it."""

    z: tuple[int, ...]
    diffusivity: tuple[float, ...]
    bulk: tuple[float, ...]  # mol/m^3
    permittivity: float
    temperature: float
    ion_size: float
    slit: float
    length: float
    thickness: float
    opening: float
    sheets: int
    staggered: bool
    reservoir: float
    lower: float
    upper: float
    scan_rate: float
    cycles: int

    @property
    def height(self) -> float:
        """Simulated height (half the period) [m]."""
        return 0.5 * (self.length + self.opening)

    @property
    def thermal_voltage(self) -> float:
        """Return kT/e [V]."""
        return BOLTZMANN * self.temperature / CHARGE

    @property
    def absolute_permittivity(self) -> float:
        """Permittivity [F/m]."""
        return VACUUM_PERMITTIVITY * self.permittivity

    @property
    def debye_length(self) -> float:
        """Debye length [m]."""
        ionic = AVOGADRO * sum(z * z * c for z, c in zip(self.z, self.bulk, strict=True))
        return math.sqrt(self.absolute_permittivity * self.thermal_voltage / (CHARGE * ionic))

    @property
    def ramp_time(self) -> float:
        """Time from one vertex to the next [s]."""
        return (self.upper - self.lower) / self.scan_rate


def quantity(text: str) -> float:
    """Return the SI value of a quantity such as ``"1.5 nm"``."""
    match = re.fullmatch(r"\s*(\S+)\s+(\S.*?)\s*", text)
    unit = match[2].replace(" ", "").replace("**", "^") if match else ""
    if not match or unit not in UNITS:
        sys.exit(f"{text!r}: give a number and one of the units {', '.join(UNITS)}")
    return float(match[1]) * UNITS[unit]


def read_case(text: str) -> Problem:
    """Read the text of a case file; stop at what this program does not model."""
    case = tomllib.loads(text)
    electrolyte, geometry, protocol = (
        case[key] for key in ("electrolyte", "geometry", "protocol")
    )
    unsupported = [
        what
        for what, found in (
            ("a Stern layer", "stern_capacitance" in case.get("electrode", {})),
            ("a full cell", "full" in json.dumps(case.get("cell", "half"))),
            ("a planar wall", geometry["kind"] != "nanoslit-network"),
            ("a protocol other than cyclic-voltammetry from the lower vertex",
             protocol["kind"] != "cyclic-voltammetry"
             or quantity(protocol.get("start", protocol["lower"]))
             != quantity(protocol["lower"])),
            ("a diffusivity factor",
             any("diffusivity_factor" in ion for ion in electrolyte["ions"])),
        )
        if found
    ]  # fmt: skip
    if unsupported:
        sys.exit(f"the peer does not model {' or '.join(unsupported)}")
    ions = electrolyte["ions"]
    return Problem(
        z=tuple(int(ion["charge"]) for ion in ions),
        diffusivity=tuple(quantity(ion["diffusivity"]) for ion in ions),
        bulk=tuple(quantity(ion["concentration"]) for ion in ions),
        permittivity=float(electrolyte["permittivity"]),
        temperature=quantity(electrolyte["temperature"]),
        ion_size=quantity(electrolyte["ion_size"]),
        slit=quantity(geometry["slit_size"]),
        length=quantity(geometry["sheet_length"]),
        thickness=quantity(geometry.get("sheet_thickness", "0.335 nm")),
        opening=quantity(geometry["opening"]),
        sheets=int(geometry["sheets"]),
        staggered=geometry.get("arrangement", "staggered") == "staggered",
        reservoir=quantity(geometry.get("reservoir", "10 nm")),
        lower=quantity(protocol["lower"]),
        upper=quantity(protocol["upper"]),
        scan_rate=quantity(protocol["scan_rate"]),
        cycles=int(protocol["cycles"]),
    )


# ----------------------------------------------------------------------------- mesh


@dataclass(frozen=True)
class Discretisation:
    """Mesh, element and step numbers.

    Parameters
    ----------
    cells : {"triangle", "quadrilateral"}
    degree : int
        Polynomial degree, 1 or 2.
    mesh : float
        Mesh level s: cells are 1/s as large, at walls and sheet ends 1/s**2, so that
        the error of the corner singularities falls with that of the smooth part.
    wall : float
        Cell size at walls and sheet ends at level 1, in Debye lengths.
    growth : float
        Increase of the cell size per distance from a wall at level 1.
    largest : float
        Largest cell size at level 1, in Debye lengths.
    steps : int
        Time steps per ramp, graded from small to large.
    grading : float
        Logarithm of the ratio of the last to the first step of a ramp.
    quadrature : int
        Degree of the quadrature.
    newton_tolerance : float
        The error left in a potential [kT] is about the square of this.
    reuse : bool
        Keep a factorisation, over steps as well, while the iteration contracts by 4.
    """

    cells: str = "quadrilateral"
    degree: int = 2
    mesh: float = 1.0
    wall: float = 0.1
    growth: float = 0.7
    largest: float = 4.0
    steps: int = 40
    grading: float = 3.0
    quadrature: int = 5
    newton_tolerance: float = 3e-3
    reuse: bool = True


#: Settings that reach an error of R_c and gamma on the first built-in case.
PRESETS = {
    "2 %": Discretisation(wall=0.2, growth=1.4, largest=8.0, steps=15, grading=2.0),
    "0.2 %": Discretisation(largest=5.6, steps=70, grading=2.0),
}


def graded(left: float, right: float, walls: tuple[bool, bool], size: tuple[float, ...]):
    """Divide an interval: h = min(wall + growth * distance to a wall end, largest).

    Parameters
    ----------
    left, right : float
        Ends of the interval.
    walls : pair of bool
        Which end needs small cells.
    size : (float, float, float)
        Wall, growth and largest.

    Returns
    -------
    ndarray
        Points without the left end.
    """
    wall, growth, largest = size
    x = np.linspace(0.0, 1.0, 2001)
    x = left + (right - left) * (0.5 - 0.5 * np.cos(np.pi * x))  # dense at both ends
    h = np.full_like(x, largest)
    for is_wall, end in zip(walls, (left, right), strict=True):
        if is_wall:
            h = np.minimum(h, wall + growth * np.abs(x - end))
    density = np.concatenate([[0.0], np.cumsum(np.diff(x) * 0.5 * (1 / h[1:] + 1 / h[:-1]))])
    count = max(1, math.ceil(density[-1] - 0.05))
    points = np.interp(np.linspace(0.0, density[-1], count + 1), density, x)
    points[-1] = right
    return points[1:]


def lines(problem: Problem, disc: Discretisation) -> tuple[np.ndarray, np.ndarray]:
    """Return the mesh lines x and y [nm]."""
    s, debye = disc.mesh, problem.debye_length / NM
    size = (disc.wall * debye / s**2, disc.growth / s, disc.largest * debye / s)
    d, t, h = problem.slit / NM, problem.thickness / NM, problem.height / NM
    x, front = [np.zeros(1)], problem.reservoir / NM
    x.append(graded(0.0, front, (False, True), size))
    for _ in range(problem.sheets):
        middle, back, centre = front + t / 2, front + t, front + t + d / 2
        x.append(graded(front, middle, (True, False), size))
        x.append(graded(middle, back, (False, True), size))
        x.append(graded(back, centre, (True, False), size))
        front = back + d
        x.append(graded(centre, front, (False, True), size))
    ends = (problem.opening / 2 / NM, problem.length / 2 / NM)
    if problem.staggered:
        y = [np.zeros(1), graded(0.0, ends[0], (False, True), size),
             graded(ends[0], h / 2, (True, False), size)]  # fmt: skip
    else:
        y = [np.zeros(1), graded(0.0, h / 2, (False, False), size)]
    y.append(graded(h / 2, ends[1], (False, True), size))
    y.append(graded(ends[1], h, (True, False), size))
    return np.concatenate(x), np.concatenate(y)


def solid(problem: Problem, x: np.ndarray, y: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Whether points [nm] lie in a sheet, its surface included if slack is positive."""
    d, t = problem.slit / NM, problem.thickness / NM
    inside = np.zeros(np.broadcast(x, y).shape, dtype=bool)
    for k in range(problem.sheets):
        front = problem.reservoir / NM + k * (d + t)
        across = (x > front - slack) & (x < front + t + slack)
        if problem.staggered and k % 2:
            along = y > problem.opening / 2 / NM - slack
        else:
            along = y < problem.length / 2 / NM + slack
        inside |= across & along
    return inside


def build_mesh(problem: Problem, disc: Discretisation) -> dolfinx.mesh.Mesh:
    """Mesh the fluid: a tensor grid without the sheets, of either kind of cell."""
    x, y = lines(problem, disc)
    xc, yc = 0.5 * (x[1:] + x[:-1]), 0.5 * (y[1:] + y[:-1])
    i, j = np.nonzero(~solid(problem, xc[:, None], yc[None, :]))
    node = np.arange(x.size * y.size).reshape(x.size, y.size)
    corners = np.stack([node[i, j], node[i + 1, j], node[i, j + 1], node[i + 1, j + 1]], axis=1)
    if disc.cells == "triangle":  # alternating diagonals: no preferred direction
        even = ((i + j) % 2 == 0)[:, None]
        first = np.where(even, corners[:, [0, 1, 3]], corners[:, [0, 1, 2]])
        second = np.where(even, corners[:, [0, 2, 3]], corners[:, [1, 2, 3]])
        corners = np.stack([first, second], axis=1).reshape(-1, 3)
    used, cells = np.unique(corners, return_inverse=True)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)[used]
    domain = ufl.Mesh(ufl.VectorElement("Lagrange", disc.cells, 1))
    return dolfinx.mesh.create_mesh(
        MPI.COMM_SELF, cells.reshape(corners.shape).astype(np.int64), points, domain
    )


# --------------------------------------------------------------------------- solver


class Solver:
    """Space discretisation, Newton iteration and observables of one case."""

    def __init__(self, problem: Problem, disc: Discretisation) -> None:
        self.problem, self.disc = problem, disc
        self.ions = len(problem.z)
        self.mesh = build_mesh(problem, disc)
        element = ufl.VectorElement(
            "Lagrange", self.mesh.ufl_cell(), disc.degree, dim=self.ions + 1
        )
        self.space = fem.FunctionSpace(self.mesh, element)
        # (mu_1, ..., mu_m, phi); zero is the equilibrium at the potential of zero charge
        self.u = fem.Function(self.space)
        self.rate = fem.Constant(self.mesh, 1.0)  # leading BDF coefficient
        self.unknowns = self.u.vector.getSize()
        self.newton_iterations = self.factorisations = 0
        self.seconds = {"assembly": 0.0, "linear": 0.0}
        self._boundaries()
        self._forms()
        self._linear_solver()

    def _boundaries(self) -> None:
        p = self.problem
        end = (p.reservoir + p.sheets * (p.slit + p.thickness)) / NM

        def metal(points: np.ndarray) -> np.ndarray:
            at_sheet = solid(p, points[0], points[1], slack=1e-9)
            return at_sheet | (points[0] > end - 1e-9)

        def dofs(marker: Any, component: int) -> np.ndarray:
            facets = dolfinx.mesh.locate_entities_boundary(self.mesh, 1, marker)
            return fem.locate_dofs_topological(self.space.sub(component), 1, facets)

        self.mesh.topology.create_connectivity(1, 2)
        self.electrode = dofs(metal, self.ions)
        zero = fem.Constant(self.mesh, 0.0)
        bath = [dofs(lambda q: q[0] < 1e-9, k) for k in range(self.ions + 1)]
        self.conditions = [
            fem.dirichletbc(zero, d, self.space.sub(k)) for k, d in enumerate(bath)
        ]
        self.conditions.append(fem.dirichletbc(zero, self.electrode, self.space.sub(self.ions)))
        self.fixed = np.concatenate([self.electrode, *bath])

    def concentrations(self, u: Any) -> list[Any]:
        """Concentrations over the first ion's bulk value: Bikerman's closed inverse.

        c_i = b_i w_i / (1 - nu + v sum_j b_j w_j), w_i = exp(mu_i - z_i phi), where nu
        is the bulk's packing fraction: 0 < packing < 1 for any mu and phi.
        """
        p = self.problem
        volume = AVOGADRO * p.ion_size**3 * p.bulk[0]
        share = [c / p.bulk[0] for c in p.bulk]
        v = fem.Constant(self.mesh, volume)
        rest = fem.Constant(self.mesh, 1.0 - volume * sum(share))
        w = [
            fem.Constant(self.mesh, share[i]) * ufl.exp(u[i] - p.z[i] * u[self.ions])
            for i in range(self.ions)
        ]
        return [wi / (rest + v * sum(w[1:], w[0])) for wi in w]

    def _forms(self) -> None:
        p, m = self.problem, self.ions
        dx = ufl.dx(metadata={"quadrature_degree": self.disc.quadrature})
        test = ufl.TestFunction(self.space)
        c = self.concentrations(self.u)
        # coupling of Poisson's equation: -lap phi = coupling * sum z c (nm, kT/e)
        screening = AVOGADRO * CHARGE * p.bulk[0] * NM**2
        coupling = fem.Constant(
            self.mesh, screening / (p.absolute_permittivity * p.thermal_voltage)
        )
        density = sum(zi * ci for zi, ci in zip(p.z, c, strict=True))
        storage = sum(c[i] * test[i] for i in range(m)) * dx
        flux = sum(
            fem.Constant(self.mesh, p.diffusivity[i] / p.diffusivity[0])
            * c[i]
            * ufl.inner(ufl.grad(self.u[i]), ufl.grad(test[i]))
            for i in range(m)
        )
        poisson = (
            ufl.inner(ufl.grad(self.u[m]), ufl.grad(test[m])) - coupling * density * test[m]
        )
        residual = self.rate * storage + (flux + poisson) * dx
        cellwise = fem.FunctionSpace(self.mesh, ("DG", 0))
        jit = {"cffi_extra_compile_args": ["-O3", "-march=native"]}
        forms = {
            "storage": storage,
            "residual": residual,
            "poisson": poisson * dx,
            "jacobian": ufl.derivative(residual, self.u),
            "charge": density * ufl.TestFunction(cellwise) * dx,
        }
        self.form = {key: fem.form(f, jit_params=jit) for key, f in forms.items()}
        self.vector = {
            key: fem.petsc.create_vector(f) for key, f in self.form.items() if f.rank == 1
        }
        cells = np.arange(cellwise.dofmap.index_map.size_local, dtype=np.int32)
        middle = dolfinx.mesh.compute_midpoints(self.mesh, 2, cells)
        dof = cellwise.dofmap.list.array[cells]
        planes = p.reservoir + p.thickness / 2 + np.arange(p.sheets) * (p.slit + p.thickness)
        self.region = np.empty(cells.size, dtype=int)  # 0 outside, k inside slit k
        self.region[dof] = np.searchsorted(planes / NM, middle[:, 0])
        self._reading_points()

    def _reading_points(self) -> None:
        p = self.problem
        k = np.arange(p.sheets)
        x = (p.reservoir + p.thickness + p.slit / 2 + k * (p.slit + p.thickness)) / NM
        nodes = self.space.tabulate_dof_coordinates()
        away = np.hypot(nodes[None, :, 0] - x[:, None], nodes[None, :, 1] - p.height / NM / 2)
        self.reading = away.argmin(axis=1)
        if away.min(axis=1).max() > 1e-9:
            raise RuntimeError("no mesh node at a reading point")

    def _linear_solver(self) -> None:
        self.matrix = fem.petsc.create_matrix(self.form["jacobian"])
        self.update = self.u.vector.duplicate()
        self.ksp = PETSc.KSP().create(MPI.COMM_SELF)
        self.ksp.setOperators(self.matrix)
        self.ksp.setType("preonly")
        self.ksp.getPC().setType("lu")
        self.ksp.getPC().setFactorSolverType("mumps")
        self.ksp.setFromOptions()

    def assemble(self, name: str) -> PETSc.Vec:
        """Assemble a vector form at the present state."""
        start = time.perf_counter()
        b = self.vector[name]
        b.set(0.0)
        fem.petsc.assemble_vector(b, self.form[name])
        self.seconds["assembly"] += time.perf_counter() - start
        return b

    def newton(self, history: np.ndarray, rate: float, wall: float) -> None:
        """Solve one implicit step from the present value of ``u``.

        Parameters
        ----------
        history : ndarray
            Storage of the earlier time levels with their BDF coefficients.
        rate : float
            Leading BDF coefficient.
        wall : float
            Potential of the electrode [kT/e].
        """
        self.rate.value = rate
        u = self.u.vector.array_w
        u[self.fixed] = 0.0
        u[self.electrode] = wall
        size = math.inf
        fresh = not self.disc.reuse or self.factorisations == 0
        for _ in range(40):
            r = self.assemble("residual")
            r.array_w[:] += history
            r.array_w[self.fixed] = 0.0
            if fresh:
                self._factorise()
            start = time.perf_counter()
            self.ksp.solve(r, self.update)
            self.seconds["linear"] += time.perf_counter() - start
            self.newton_iterations += 1
            du = self.update.array_r
            u -= du
            last, size = size, float(np.abs(du).max())
            if not math.isfinite(size):
                break
            # remaining error: the square of the update, or its contraction if J is old
            contraction = size if fresh else min(1.0, size / last) if last < math.inf else 1.0
            if contraction * size < self.disc.newton_tolerance**2:
                return
            fresh = not self.disc.reuse or (last < math.inf and size > 0.25 * last)
        raise RuntimeError("Newton's iteration failed: use more steps or a finer mesh")

    def _factorise(self) -> None:
        start = time.perf_counter()
        self.matrix.zeroEntries()
        fem.petsc.assemble_matrix(self.matrix, self.form["jacobian"], self.conditions)
        self.matrix.assemble()
        self.seconds["assembly"] += time.perf_counter() - start
        start = time.perf_counter()
        self.ksp.getPC().setUp()
        self.seconds["linear"] += time.perf_counter() - start
        self.factorisations += 1

    def observe(self) -> dict[str, Any]:
        """Return charges of electrode and slits [C/m] and potentials read [V]."""
        p, m = self.problem, self.ions
        unit = p.absolute_permittivity * p.thermal_voltage
        gauss = self.assemble("poisson").array_r[self.electrode].sum() * unit
        cell_charge = self.assemble("charge").array_r
        unit = AVOGADRO * CHARGE * p.bulk[0] * NM**2
        slits = -unit * np.bincount(self.region, cell_charge, minlength=p.sheets + 1)[1:]
        values = self.u.vector.array_r.reshape(-1, m + 1)[self.reading] * p.thermal_voltage
        chemical = (values[:, :m] / np.array(p.z)).mean(axis=1)
        return {
            "electrode": gauss,
            "slit": slits,
            "phi": values[:, m],
            "chemical": chemical,
        }


# ------------------------------------------------------------------------ time steps


def graded_ramp(steps: int, grading: float) -> np.ndarray:
    """Return fractions of a ramp, without 0: small steps first, then larger ones."""
    return np.expm1(grading * np.arange(1, steps + 1) / steps) / math.expm1(grading)


def extrapolate(times: list[float], states: list[np.ndarray], t: float) -> np.ndarray:
    """Lagrange extrapolation through the last one to three states."""
    weights = [
        math.prod((t - s) / (ti - s) for s in times if s != ti) for ti in times
    ]  # fmt: skip
    return sum(w * x for w, x in zip(weights, states, strict=True))


def ramp(
    solver: Solver, start: float, wall: tuple[float, float], rows: list[dict[str, Any]]
) -> None:
    """Integrate one ramp by BDF2, restarted with one small implicit Euler step.

    The derivative of the slits' charge is taken by the formula of the step itself, so
    that the opening currents obey the discrete conservation law.
    """
    p, disc = solver.problem, solver.disc
    scale = p.diffusivity[0] / NM**2
    fractions = graded_ramp(disc.steps, disc.grading)
    times, states = [0.0], [solver.u.vector.array_r.copy()]
    stored = [solver.assemble("storage").array_r.copy()]
    charges = [rows[-1]["slit"]]
    for fraction in fractions:
        t = fraction * p.ramp_time
        dt = t - times[-1]
        if len(times) == 1:
            a = (1 / dt, -1 / dt)
        else:
            ratio = dt / (times[-1] - times[-2])
            a = (
                (1 + 2 * ratio) / (1 + ratio) / dt,
                -(1 + ratio) / dt,
                ratio**2 / (1 + ratio) / dt,
            )
        past = list(reversed(stored))
        history = sum(ai * s for ai, s in zip(a[1:], past[: len(a) - 1], strict=True)) / scale
        if len(times) > 1:
            solver.u.vector.array_w[:] = extrapolate(times, states, t)
        solver.newton(
            history,
            a[0] / scale,
            (wall[0] + fraction * (wall[1] - wall[0])) / p.thermal_voltage,
        )
        row = solver.observe()
        series = [row["slit"], *reversed(charges)][: len(a)]
        row["slit_rate"] = sum(ai * q for ai, q in zip(a, series, strict=True))
        row["time"], row["step"] = start + t, dt
        rows.append(row)
        times = [*times[-2:], t]
        states = [*states[-2:], solver.u.vector.array_r.copy()]
        stored = [stored[-1], solver.assemble("storage").array_r.copy()]
        charges = [charges[-1], row["slit"]]


def simulate(problem: Problem, disc: Discretisation) -> dict[str, Any]:
    """Run the cyclic voltammetry and return the observables of the last cycle."""
    setup = time.perf_counter()
    solver = Solver(problem, disc)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    equilibrium(solver, problem.lower)
    rows = [solver.observe()]
    rows[0] |= {"time": 0.0, "step": 0.0, "slit_rate": np.zeros(problem.sheets)}
    up, down = (problem.lower, problem.upper), (problem.upper, problem.lower)
    for k in range(2 * problem.cycles):
        ramp(solver, k * problem.ramp_time, down if k % 2 else up, rows)
    wall_time = time.perf_counter() - begin
    cpu_time = time.process_time() - begin_cpu
    return {
        **evaluate(problem, disc.steps, rows),
        "traces": traces(rows),
        "cost": {
            "unknowns": solver.unknowns,
            "cells": int(solver.region.size),
            "steps": len(rows) - 1,
            "newton_iterations": solver.newton_iterations,
            "factorisations": solver.factorisations,
            "wall_time_s": round(wall_time, 3),
            "cpu_time_s": round(cpu_time, 3),
            "setup_time_s": round(begin - setup, 3),
            "assembly_s": round(solver.seconds["assembly"], 3),
            "linear_s": round(solver.seconds["linear"], 3),
        },
        "discretisation": asdict(disc),
    }


def equilibrium(solver: Solver, potential: float) -> None:
    """Bring the electrode to its start potential without storage: mu = 0 everywhere."""
    if potential == 0.0:
        return
    nothing = np.zeros(solver.unknowns)
    levels = np.linspace(0.0, potential, max(2, math.ceil(abs(potential) / 0.1) + 1))
    for level in levels[1:]:
        solver.newton(nothing, 0.0, level / solver.problem.thermal_voltage)


# ---------------------------------------------------------------------- observables


def resistance_law(
    drop: np.ndarray, current: np.ndarray, charge: np.ndarray, weight: np.ndarray
) -> tuple[float, float]:
    """Fit drop = current * R_c * (1 - gamma |charge|/Q_max), weighted least squares."""
    root = np.sqrt(weight)
    relative = np.abs(charge) / np.abs(charge).max()
    columns = np.stack([current, -current * relative], axis=1) * root[:, None]
    (r_c, slope), *_ = np.linalg.lstsq(columns / current.max(), drop * root, rcond=None)
    return r_c / current.max(), slope / r_c


def evaluate(problem: Problem, steps: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Reduce the last cycle: resistance laws, CV area, charges at the vertices."""
    last = rows[-2 * steps - 1 :]
    slit, rate, phi, chemical = (
        np.array([row[key] for row in last]) for key in ("slit", "slit_rate", "phi", "chemical")
    )
    step = np.array([row["step"] for row in last])
    # positive towards the reservoir; what passes opening k charges the slits behind it
    current = np.cumsum(rate[:, ::-1], axis=1)[:, ::-1][:, 1:]
    weight = 0.5 * (step[1:] + np.append(step[2:], 0.0))  # trapezoidal
    openings = []
    for k in range(problem.sheets - 1):
        entry: dict[str, float] = {}
        for suffix, potential in (("", phi), ("_chemical", chemical)):
            drop = potential[:, k + 1] - potential[:, k]
            law = resistance_law(drop[1:], current[1:, k], slit[1:, k], weight)
            entry["r_c" + suffix], entry["gamma" + suffix] = law
        openings.append(entry)
    vertex = [0, steps, 2 * steps]
    q = np.array([row["electrode"] for row in last])
    return {
        "openings": openings,
        "cv_area": problem.scan_rate * (2 * q[steps] - q[0] - q[-1]),
        "vertices": {
            "electrode_charge": q[vertex].tolist(),
            "slit_charge": slit[vertex].tolist(),
            "slit_potential": phi[vertex].tolist(),
            "slit_electrochemical_potential": chemical[vertex].tolist(),
        },
    }


def traces(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return what was observed at every step, named as in result files."""
    names = {
        "time": "time", "electrode": "electrode_charge", "slit": "slit_charge",
        "phi": "slit_potential", "chemical": "slit_electrochemical_potential",
    }  # fmt: skip
    return {name: np.array([row[key] for row in rows]).tolist() for key, name in names.items()}


# --------------------------------------------------------------------- command line


def provenance() -> dict[str, str]:
    """Return the versions that produced a number."""
    return {
        "dolfinx": dolfinx.__version__,
        "ufl": ufl.__version__,
        "petsc": ".".join(map(str, PETSc.Sys.getVersion())),
        "petsc4py": petsc4py.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def run(arguments: argparse.Namespace) -> None:
    """Solve one case and print its observables as JSON."""
    if arguments.case not in CASES and not Path(arguments.case).is_file():
        sys.exit(f"{arguments.case}: no such case file, none of {', '.join(CASES)}")
    text = CASES.get(arguments.case) or Path(arguments.case).read_text("utf-8")
    disc = PRESETS[arguments.preset] if arguments.preset else Discretisation()
    given = {key: getattr(arguments, key) for key in asdict(disc)}
    disc = replace(disc, **{key: v for key, v in given.items() if v is not None})
    try:
        result = simulate(read_case(text), disc)
    except RuntimeError as problem:
        sys.exit(f"{arguments.case}: {problem}")
    if not arguments.traces:
        del result["traces"]
    print(json.dumps({"case": arguments.case, **result, "provenance": provenance()}))


def main() -> None:
    """Solve one case and print its observables as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", help=f"a case file or one of {', '.join(CASES)}")
    parser.add_argument("--preset", choices=PRESETS, help="error aimed at")
    parser.add_argument("--traces", action="store_true", help="include every step")
    for key, default in asdict(Discretisation()).items():
        option = "--" + key.replace("_", "-")
        if isinstance(default, bool):
            switch = argparse.BooleanOptionalAction
            parser.add_argument(option, action=switch, help=f"default {default}")
        else:
            parser.add_argument(option, type=type(default), help=f"default {default}")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
