"""Where the polynomial coefficients of src/cpp/numerics/ come from.

Each function is reduced to a smooth remainder on a short interval, interpolated at the
Chebyshev nodes in 60-digit arithmetic, and written out as powers. Run it to print the tables:

    python tests/oracles/fit_polynomials.py
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

# name in the header, remainder, interval, degree in float64, degree in float32 (None: float64 alone)
HALF_LN2 = mp.log(2) / 2 * mp.mpf("1.0001")
ATANH_LOG1P = mp.mpf(1) / 9  # z = s^2 with s = y / (2 + y), y in [0, 1]
ATANH_LOG = (3 - 2 * mp.sqrt(2)) ** 2 * mp.mpf("1.001")  # s = (m - 1) / (m + 1), m in [1/sqrt 2, sqrt 2]


def exp_remainder(r: mp.mpf) -> mp.mpf:
    """(e^r - 1 - r) / r^2."""
    return mp.mpf(1) / 2 + r / 6 if abs(r) < mp.mpf("1e-25") else (mp.exp(r) - 1 - r) / r**2


def atanh_remainder(z: mp.mpf) -> mp.mpf:
    """(atanh(s) / s - 1) / z with z = s^2."""
    if z < mp.mpf("1e-25"):
        return mp.mpf(1) / 3 + z / 5
    s = mp.sqrt(z)
    return (mp.atanh(s) / s - 1) / z


def sin_remainder(z: mp.mpf) -> mp.mpf:
    """(sin(pi f / 2) / f - pi / 2) / z with z = f^2."""
    if z < mp.mpf("1e-25"):
        return -((mp.pi / 2) ** 3) / 6
    f = mp.sqrt(z)
    return (mp.sin(mp.pi * f / 2) / f - mp.pi / 2) / z


def cos_remainder(z: mp.mpf) -> mp.mpf:
    """(cos(pi f / 2) - 1) / z with z = f^2."""
    return -((mp.pi / 2) ** 2) / 2 if z < mp.mpf("1e-25") else (mp.cos(mp.pi * mp.sqrt(z) / 2) - 1) / z


def power_of_two(f: mp.mpf) -> mp.mpf:
    """2^f, of which exp_roughly takes no remainder."""
    return mp.mpf(2) ** f


def coth_excess_remainder(z: mp.mpf) -> mp.mpf:
    """(x coth(x / 2) - 2) / z with z = x^2."""
    if z < mp.mpf("1e-25"):
        return mp.mpf(1) / 6 - z / 360
    x = mp.sqrt(z)
    return (x * mp.coth(x / 2) - 2) / z


def coth_excess_slope_remainder(z: mp.mpf) -> mp.mpf:
    """The derivative of x coth(x / 2) over x, z = x^2."""
    if z < mp.mpf("1e-25"):
        return mp.mpf(1) / 3 - z / 90
    x = mp.sqrt(z)
    return (mp.coth(x / 2) - x / 2 / mp.sinh(x / 2) ** 2) / x


FITS = {
    "exp": (exp_remainder, -HALF_LN2, HALF_LN2, 9, 5),
    "log1p": (atanh_remainder, mp.mpf(0), ATANH_LOG1P, 9, 4),
    "log": (atanh_remainder, mp.mpf(0), ATANH_LOG, 6, 3),
    "sin": (sin_remainder, mp.mpf(0), mp.mpf(1) / 4, 5, 3),
    "cos": (cos_remainder, mp.mpf(0), mp.mpf(1) / 4, 6, 3),
    "exp_roughly": (power_of_two, -mp.mpf(1) / 2, mp.mpf(1) / 2, 4, 4),
    "coth_excess": (coth_excess_remainder, mp.mpf(0), mp.mpf(4), 9, None),
    "coth_excess_slope": (coth_excess_slope_remainder, mp.mpf(0), mp.mpf(4), 10, None),
}


def interpolate(f: Callable[[mp.mpf], mp.mpf], a: mp.mpf, b: mp.mpf, degree: int) -> list[mp.mpf]:
    """Coefficients, lowest power first, of the Chebyshev interpolant of f on [a, b]."""
    n = degree + 1
    nodes = [(a + b) / 2 + (b - a) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * n)) for k in range(n)]
    powers = mp.matrix(n, n)
    for row, x in enumerate(nodes):
        for k in range(n):
            powers[row, k] = x**k
    solution = mp.lu_solve(powers, mp.matrix([f(x) for x in nodes]))
    return [solution[k] for k in range(n)]


if __name__ == "__main__":
    with mp.workdps(60):
        for name, (f, a, b, double_degree, single_degree) in FITS.items():
            for label, degree, digits in (("double", double_degree, 17), ("float", single_degree, 9)):
                if degree is None:
                    continue
                terms = ", ".join(mp.nstr(c, digits) for c in interpolate(f, a, b, degree))
                print(f"{name} {label}: {terms}")
