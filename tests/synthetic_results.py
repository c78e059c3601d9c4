"""Result files with a planted resistance law, in the layout of ``nanoslit run``."""

import h5py
import numpy as np

from example_case import EXAMPLE
from nanoslit.units import BOLTZMANN, ELEMENTARY_CHARGE, FARADAY

# of the example case: 1 mol/L, slits of 1.5 nm and a half period of 5.5 nm
BULK_CHARGE = FARADAY * 2000.0 * 1.5e-9 * 5.5e-9
THERMAL_VOLTAGE = BOLTZMANN * 298.15 / ELEMENTARY_CHARGE
CONDUCTANCE = 2000.0 * FARADAY * 2e-9 / THERMAL_VOLTAGE * 1.5e-9 / 5.5e-9


def write_result(
    path,
    *,
    r_c=2.0,
    gamma=0.5,
    governor="outer",
    slits=3,
    noise=0.0,
    seed=0,
    rate=1.0,
    text=None,
    salt=None,
):
    """Write one cycle whose openings obey dphi = I R_c (1 - gamma |Q|/Q_max).

    With ``salt`` (a factor) the file holds ion contents, and the electrochemical voltages
    obey dphi = R_c (I + salt X I_salt)/S instead, in the columns of discovery.
    """
    rng = np.random.default_rng(seed)
    n = 600
    t = np.linspace(0.0, 2.0, n) * 1e-6 / rate
    phase = t / t[-1]
    V = 0.1 * (1 - np.abs(2 * phase - 1))
    lag = 0.25 * (1 + np.arange(slits))
    # each slit follows the potential late: charge with hysteresis, rate-dependent
    Q = np.empty((n, slits))
    for k in range(slits):
        q = 0.0
        for i in range(n):
            q += (V[i] - q) * (2.0 / n) / (lag[k] / (0.4 + rate))
            Q[i, k] = q
    Q *= 1e-9
    current = np.gradient(Q[:, ::-1].cumsum(axis=1)[:, ::-1], t, axis=0)[:, 1:]
    current *= 1 + 0.2 * np.sin(9 * phase)[:, None]
    q = np.abs(Q) / np.abs(Q).max(axis=0)
    chosen = {"outer": q[:, :-1], "inner": q[:, 1:]}[governor]
    voltage = current * r_c * (1 - gamma * chosen)
    voltage *= 1 + noise * rng.normal(size=voltage.shape)
    virtual = np.zeros((n, slits))
    virtual[:, 1:] = np.cumsum(0.8 * voltage, axis=1)
    content = None
    if salt is not None:
        Q *= 20
        current *= 20
        X = Q / BULK_CHARGE
        S = np.sqrt(1 + X**2) * (1.1 + 0.01 * np.sin(5 * phase[:, None] + np.arange(slits)))
        strength = np.log(S**2 - X**2)
        drive = CONDUCTANCE * 0.5 * THERMAL_VOLTAGE * np.diff(strength, axis=1)
        mean_X, mean_S = ((a[:, 1:] + a[:, :-1]) / 2 for a in (X, S))
        virtual[:, 1:] = np.cumsum(r_c * (current + salt * mean_X * drive) / mean_S, axis=1)
        voltage = 0.9 * np.diff(virtual, axis=1)
        content = np.stack([S + X, S - X], axis=-1) * BULK_CHARGE / (2 * FARADAY)
    with h5py.File(path, "w") as file:
        traces = file.create_group("traces")
        for name, value in {
            "time": t,
            "cycle": np.ones(n, dtype=int),
            "applied_potential": V,
            "slit_charge": Q,
            "slit_electrochemical_potential": virtual,
            "slit_ion_potential": np.stack([virtual, 0.9 * virtual], axis=-1),
            "electrode_charge": Q.sum(axis=1),
            "trans_slit_voltage": voltage,
            "opening_current": current,
        }.items():
            traces[name] = value
        if content is not None:
            traces["slit_ion_content"] = content
        file["provenance/case"] = text or EXAMPLE
    return path
