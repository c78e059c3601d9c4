"""Physical constants and the factors that turn laboratory units into SI.

Inside the package every number is SI. Quantities with units as text
(``"1.5 nm"``) exist only in files and on the command line, where
:func:`parse_quantity` reads them with pint.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from scipy import constants

__all__ = [
    "AVOGADRO",
    "BOLTZMANN",
    "ELEMENTARY_CHARGE",
    "FARADAY",
    "VACUUM_PERMITTIVITY",
    "format_quantity",
    "mV",
    "molar",
    "nm",
    "ns",
    "parse_quantity",
    "uF_per_cm2",
    "us",
]

ELEMENTARY_CHARGE: float = constants.e
BOLTZMANN: float = constants.k
AVOGADRO: float = constants.N_A
VACUUM_PERMITTIVITY: float = constants.epsilon_0
FARADAY: float = constants.e * constants.N_A

nm = 1e-9
ns = 1e-9
us = 1e-6
mV = 1e-3
molar = 1e3  # mol/m^3 per mol/L
uF_per_cm2 = 1e-2  # F/m^2 per uF/cm^2
