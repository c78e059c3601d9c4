"""Coefficients of RODAS4 and the rules of its step control, shared by both back ends.

RODAS4: linearly implicit Runge-Kutta method of order 4 with an embedded method of order
3, L-stable, stiffly accurate, one matrix factorisation and six solves a step, with a
continuous extension of order 3 (E. Hairer, G. Wanner, Solving Ordinary Differential
Equations II, 2nd ed., sec. IV.10). For ``M u' = F(t, u)`` with constant M a step of
length h solves, for i = 1..6,

    (M/(g h) - F_u) k_i = F(t + alpha_i h, u + sum_j a_ij k_j)
                          + M sum_j (c_ij/h) k_j + d_i h F_t,

and ends at ``u + sum_j a_6j k_j + k_6``; ``k_6`` is the estimate of the local error.
"""

from __future__ import annotations

# numba freezes these numbers into the cached kernel: touch kernel.py after a change here
import numpy as np

__all__ = [
    "ALPHA",
    "A_MATRIX",
    "C_MATRIX",
    "D_TIME",
    "BEND_FLOOR",
    "DENSE_3",
    "DENSE_4",
    "EVENT_TOLERANCE",
    "EVEN_SHARE",
    "KINK",
    "KINK_SIZE",
    "LAYER",
    "LAYER_WEIGHT",
    "GAMMA",
    "LEAST_BEND",
    "MAX_GROWTH",
    "MIN_GROWTH",
    "PARTS",
    "SAFETY",
    "TOO_MANY_STEPS",
    "UNDER_RESOLVED",
]

GAMMA = 0.25
ALPHA = np.array([0.0, 0.386, 0.21, 0.63, 1.0, 1.0])
D_TIME = np.array([0.25, -0.1043, 0.1035, -0.0362, 0.0, 0.0])

A_MATRIX = np.zeros((6, 6))
A_MATRIX[1, :1] = 1.544
A_MATRIX[2, :2] = 0.9466785280815826, 0.2557011698983284
A_MATRIX[3, :3] = 3.314825187068521, 2.896124015972201, 0.9986419139977817
A_MATRIX[4, :4] = (
    1.221224509226641,
    6.019134481288629,
    12.53708332932087,
    -0.6878860361058950,
)
A_MATRIX[5, :5] = *A_MATRIX[4, :4], 1.0

C_MATRIX = np.zeros((6, 6))
C_MATRIX[1, :1] = -5.6688
C_MATRIX[2, :2] = -2.430093356833875, -0.2063599157091915
C_MATRIX[3, :3] = -0.1073529058151375, -9.594562251023355, -20.47028614809616
C_MATRIX[4, :4] = (
    7.496443313967647,
    -10.24680431464352,
    -33.99990352819905,
    11.70890893206160,
)
C_MATRIX[5, :5] = (
    8.083246795921522,
    -7.981132988064893,
    -31.52159432874371,
    16.31930543123136,
    -6.058818238834054,
)

# u(t + x h) = u0 + x (u1 - u0) + x (1 - x) (q3 + x q4), q = sum_j dense_j k_j
DENSE_3 = np.array(
    [
        10.12623508344586,
        -7.487995877610167,
        -34.80091861555747,
        -7.992771707568823,
        1.025137723295662,
    ]
)
DENSE_4 = np.array(
    [
        -0.6762803392801253,
        6.087714651680015,
        16.43084320892478,
        24.76722511418386,
        -6.594389125716872,
    ]
)

SAFETY = 0.9
MIN_GROWTH = 0.2
MAX_GROWTH = 5.0

KINK = 20.0  # factor of the error of a resistor's current if its law has a kink in the step
KINK_SIZE = 1e-3  # smaller changes of Q/Q_max through zero are rounding, not a kink
EVENT_TOLERANCE = 1e-9  # of the potential range: how closely a limit is met
LAYER = 25.0  # shortest steps: the time after a kink that gets fewer stored points
LAYER_WEIGHT = 0.25  # of the points that its curvature asks for
PARTS = 4  # of a step, each with its own density of stored points
BEND_FLOOR = 1e-10  # of the change in a step: smaller curvatures are rounding
LEAST_BEND = 0.7  # of the largest curvature in a step: what all of its parts count with
EVEN_SHARE = 0.10  # of stored points spread evenly in time, the rest by curvature
UNDER_RESOLVED, TOO_MANY_STEPS = 1, 2  # status of a circuit that could not be solved
