"""Ions and electrolyte: what moves, how fast, and the scales that follow.

One ion size ``a`` per electrolyte (Kilic, Bazant & Ajdari, Phys. Rev. E 75, 021503
(2007)); ``a = 0`` is the classical point-ion theory. Ideal (infinite-dilution)
conductivity is used throughout unless an ion carries a ``diffusivity_factor``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nanoslit.errors import CaseError
from nanoslit.mobility import CompositionFactor
from nanoslit.units import (
    AVOGADRO,
    BOLTZMANN,
    ELEMENTARY_CHARGE,
    FARADAY,
    VACUUM_PERMITTIVITY,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Electrolyte", "Ion"]


@dataclass(frozen=True)
class Ion:
    """One kind of ion.

    Parameters
    ----------
    name : str
        Label, for instance ``"K+"``.
    charge : int
        Charge number z [-], not zero.
    diffusivity : float
        D [m^2 s^-1], positive; the value at infinite dilution if a factor is given.
    concentration : float
        Bulk concentration [mol m^-3], positive.
    diffusivity_factor : CompositionFactor, optional
        Dimensionless factor of D as a function of the local composition.

    Raises
    ------
    CaseError
        If a value is not finite or has an impossible sign.
    """

    name: str
    charge: int
    diffusivity: float
    concentration: float
    diffusivity_factor: CompositionFactor | None = None

    def __post_init__(self) -> None:
        if isinstance(self.charge, bool) or self.charge != int(self.charge):
            raise CaseError(
                f"ion {self.name!r}: charge = {self.charge!r} must be a whole number"
            )
        if self.charge == 0:
            raise CaseError(
                f"ion {self.name!r}: charge = 0, but neutral species are not modelled"
            )
        for key in ("diffusivity", "concentration"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value > 0):
                raise CaseError(
                    f"ion {self.name!r}: {key} = {value!r} must be positive and finite"
                )


@dataclass(frozen=True)
class Electrolyte:
    """A solution of ions in a dielectric continuum.

    Parameters
    ----------
    ions : tuple of Ion
        At least two; the bulk must be electroneutral.
    permittivity : float
        Relative permittivity [-].
    temperature : float
        T [K].
    ion_size : float
        Steric size a [m]; 0 for point ions.

    Raises
    ------
    CaseError
        If the bulk is not neutral, fills space, or a value is impossible.
    """

    ions: tuple[Ion, ...]
    permittivity: float = 78.5
    temperature: float = 298.15
    ion_size: float = 0.4e-9

    def __post_init__(self) -> None:
        object.__setattr__(self, "ions", tuple(self.ions))
        if len(self.ions) < 2:
            raise CaseError(f"{len(self.ions)} ion(s) given; an electrolyte needs at least 2")
        names = [ion.name for ion in self.ions]
        if len(set(names)) != len(names):
            raise CaseError(f"ion names {names} must differ from one another")
        for key in ("permittivity", "temperature"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value > 0):
                raise CaseError(f"{key} = {value!r} must be positive and finite")
        if not (math.isfinite(self.ion_size) and self.ion_size >= 0):
            raise CaseError(f"ion_size = {self.ion_size!r} m must be >= 0 and finite")
        net = sum(ion.charge * ion.concentration for ion in self.ions)
        total = sum(abs(ion.charge) * ion.concentration for ion in self.ions)
        if abs(net) > 1e-9 * total:
            terms = " ".join(f"{i.charge:+d} x {i.concentration:.6g}" for i in self.ions)
            raise CaseError(
                f"the bulk is not electroneutral: charge x concentration of {names} is "
                f"{terms} = {net:.6g} mol/m^3; it must be 0: balance the concentrations"
            )
        if self.bulk_packing >= 1:
            raise CaseError(
                f"packing fraction of the bulk = {self.bulk_packing:.3g} with ion_size = "
                f"{self.ion_size:.3g} m; it must be below 1: lower ion_size or concentration"
            )

    @classmethod
    def symmetric(
        cls,
        concentration: float,
        *,
        diffusivity: float = 2e-9,
        ion_size: float = 0.4e-9,
        permittivity: float = 78.5,
        temperature: float = 298.15,
        names: tuple[str, str] = ("K+", "Cl-"),
    ) -> Electrolyte:
        """Return a 1:1 salt with equal diffusivities [SI units]."""
        return cls(
            (
                Ion(names[0], 1, diffusivity, concentration),
                Ion(names[1], -1, diffusivity, concentration),
            ),
            permittivity=permittivity,
            temperature=temperature,
            ion_size=ion_size,
        )

    @cached_property
    def thermal_voltage(self) -> float:
        """k T / e [V]."""
        return BOLTZMANN * self.temperature / ELEMENTARY_CHARGE

    @cached_property
    def eps(self) -> float:
        """Absolute permittivity [F m^-1]."""
        return self.permittivity * VACUUM_PERMITTIVITY

    @cached_property
    def ionic_strength(self) -> float:
        """Half the sum of z^2 c over the ions [mol m^-3]."""
        return 0.5 * sum(i.charge**2 * i.concentration for i in self.ions)

    @cached_property
    def debye_length(self) -> float:
        """Return sqrt(eps kT / (2 e F I)) with the ionic strength I [m]."""
        return math.sqrt(self.eps * self.thermal_voltage / (2 * FARADAY * self.ionic_strength))

    @cached_property
    def bulk_packing(self) -> float:
        """Volume fraction a^3 N_A sum(c) of ions in the bulk [-]."""
        return self.ion_volume * sum(i.concentration for i in self.ions)

    @property
    def ion_volume(self) -> float:
        """Molar volume of an ion, a^3 N_A [m^3 mol^-1]."""
        return self.ion_size**3 * AVOGADRO

    @property
    def steric_fraction(self) -> float:
        """Return nu, the bulk packing fraction (2 a^3 c0 for a 1:1 salt) [-]."""
        return self.bulk_packing

    @cached_property
    def bulk_diffusivities(self) -> tuple[float, ...]:
        """Diffusivity of each ion at bulk composition [m^2 s^-1]."""
        import numpy as np

        c = np.array([[i.concentration] for i in self.ions])
        return tuple(
            i.diffusivity
            * (1.0 if i.diffusivity_factor is None else float(i.diffusivity_factor(c)[0][0]))
            for i in self.ions
        )

    def counterion_mean(self, by_ion: ArrayLike, charge: ArrayLike) -> NDArray[np.float64]:
        """Return the mean over the ions that an electrode attracts.

        Parameters
        ----------
        by_ion : array_like, shape (times, ..., ions)
        charge : array_like, shape (times,)
            Charge of the electrode; where it is zero, it counts as positive.

        Returns
        -------
        ndarray, shape (times, ...)
        """
        import numpy as np

        values = np.asarray(by_ion, float)
        z = np.array([i.charge for i in self.ions])
        anions, cations = values[..., z < 0].mean(-1), values[..., z > 0].mean(-1)
        positive = np.asarray(charge, float).reshape(-1, *([1] * (values.ndim - 2))) >= 0
        return np.where(positive, anions, cations)

    @cached_property
    def conductivity(self) -> float:
        """Nernst-Einstein conductivity of the bulk, sum z^2 F D c / (kT/e) [S m^-1]."""
        return sum(
            i.charge**2 * FARADAY * d * i.concentration / self.thermal_voltage
            for i, d in zip(self.ions, self.bulk_diffusivities, strict=True)
        )

    @cached_property
    def debye_time(self) -> float:
        """Relaxation time eps / conductivity of the bulk [s]."""
        return self.eps / self.conductivity

    @cached_property
    def debye_capacitance(self) -> float:
        """Low-voltage capacitance eps / Debye length of one wall [F m^-2]."""
        return self.eps / self.debye_length
