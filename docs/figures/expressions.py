"""One free energy in five notations: a magnet as a sum, a density, an integral, a trace, and a mean."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.statistics import SeriesWarning

N, FIELD = 12, 0.25
BETAS = np.array([0.2, 0.5, 0.8, 1.0, 1.2, 1.6, 2.0])


def magnet() -> vf.Ising:
    """E = -Σ_{i<j} s_i s_j / N - h Σ s_i."""
    return vf.Ising((np.ones((N, N)) - np.eye(N)) / N, np.full(N, FIELD))


def by_sum(beta: float) -> float:
    """ln Σ_k e^(-β E_k), over all states."""
    return vf.free_energy.exact(magnet(), beta=beta).log_z


def by_density(beta: float) -> float:
    """ln Σ_E ρ(E) e^(-β E), over levels: those of N E are whole numbers."""
    whole = vf.Ising(np.ones((N, N)) - np.eye(N), np.full(N, N * FIELD))
    return vf.free_energy.density_of_states(whole, beta=beta / N).log_z


def by_integral(beta: float) -> float:
    """ln ∫ dm p(m) e^(-β N E(m)), over the field of Hubbard and Stratonovich."""
    found = vf.free_energy.integral(
        lambda m: m[:, 0] ** 2 / 2 - np.logaddexp(beta * (m[:, 0] + FIELD), -beta * (m[:, 0] + FIELD)) / beta,
        [(-math.inf, math.inf)],
        beta=N * beta,
    )
    log_norm = 0.5 * math.log(N * beta / (2 * math.pi))  # of the field's normal law p(m)
    return found.log_z + log_norm - beta / 2  # E leaves out the spins' own s_i s_i / 2N


def by_trace(beta: float) -> float:
    """ln Tr e^(-β H), H a matrix that is turned so that it is not diagonal."""
    s = np.where(np.arange(1 << N)[:, None] >> np.arange(N) & 1, 1.0, -1.0)
    energies = magnet().energy(s)
    levels, counts = np.unique(np.round(energies, 12), return_counts=True)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(len(levels),) * 2))
    # A level of n states is one of energy E - ln(n) / β.
    return vf.free_energy.trace((turn * (levels - np.log(counts) / beta)) @ turn.T, beta=beta).log_z


def by_mean(beta: float) -> tuple[float, float]:
    """ln Z_0 + ln ⟨e^(-β V)⟩_0, over 200,000 samples of independent spins, and its standard error."""
    up = 1 / (1 + math.exp(-2 * beta * FIELD))
    s = np.where(np.random.default_rng(1).random((200_000, N)) < up, 1.0, -1.0)
    V = magnet().energy(s) + FIELD * s.sum(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeriesWarning)  # the direct mean is taken, not the series
        found = vf.log_mean_exp_cumulants(V, beta=beta, order=4)
    log_z_0 = N * math.log(2 * math.cosh(beta * FIELD))
    return log_z_0 + float(found.direct), float(found.direct_stderr)


def compute(small: bool = False) -> dict[str, Any]:
    """-βF a spin by each."""
    betas = BETAS[::3] if small else BETAS
    return {
        "betas": betas,
        "sum": np.array([by_sum(beta) for beta in betas]),
        "density of states": np.array([by_density(beta) for beta in betas]),
        "integral": np.array([by_integral(beta) for beta in betas]),
        "trace": np.array([by_trace(beta) for beta in betas]),
        "mean": np.array([by_mean(beta) for beta in betas]),
    }


def draw(numbers: dict[str, Any]) -> Any:
    """Left the values, right how far each is from the sum."""
    figure, (left, right) = panels(2)
    betas, exact = numbers["betas"], numbers["sum"]
    left.plot(betas, exact / N, color="gray", label="sum over states")
    for name, marker in (("density of states", "s"), ("integral", "o"), ("trace", "^")):
        left.plot(betas, numbers[name] / N, marker, mfc="none", label=name)
        right.semilogy(
            betas, np.maximum(np.abs(numbers[name] - exact), 1e-16), marker, mfc="none", label=name
        )
    mean, stderr = numbers["mean"].T
    left.errorbar(betas, mean / N, stderr / N, fmt="x", color="C3", label="mean ⟨e^(-βV)⟩₀")
    right.semilogy(betas, np.abs(mean - exact), "x", color="C3", label="mean")
    right.semilogy(betas, stderr, color="C3", lw=0.8, label="its standard error")
    left.set(xlabel="β", ylabel="-βF / N", title="Curie-Weiss, 12 spins")
    right.set(xlabel="β", ylabel="|difference| in ln Z", title="from the sum over states")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize="small")
    return figure


if __name__ == "__main__":
    save(draw(compute()), __file__)
