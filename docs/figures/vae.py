"""Which way round a divergence is taken, and what corrects a bound where the truth is known."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from style import panels, save

import vfe_fast as vf
from vfe_fast.free_energy import FreeEnergyWarning, ais, cumulant_expansion, exact, mean_field
from vfe_fast.statistics.series import SeriesWarning

WEIGHTS, MEANS, WIDTHS = np.array([0.6, 0.4]), np.array([-2.0, 1.5]), np.array([0.5, 0.8])


def normal(x: np.ndarray, mean: Any, width: Any) -> np.ndarray:
    """Its density."""
    return np.exp(-0.5 * ((x - mean) / width) ** 2) / (width * np.sqrt(2 * np.pi))


def target(x: np.ndarray) -> np.ndarray:
    """Two humps of different weight and width."""
    return (WEIGHTS * normal(x[:, None], MEANS, WIDTHS)).sum(axis=1)


def divergences(x: np.ndarray, mean: float, width: float) -> tuple[float, float]:
    """KL(q || p) and KL(p || q), by sums on a grid."""
    p, q, dx = target(x), normal(x, mean, width), x[1] - x[0]
    inside = (p > 0) & (q > 0)
    log_ratio = np.log(q[inside] / p[inside])
    return float((q[inside] * log_ratio).sum() * dx), float(-(p[inside] * log_ratio).sum() * dx)


def directions(x: np.ndarray) -> dict[str, tuple[float, float, float, float]]:
    """The normal q that is best each way: mean, width, KL(q || p), KL(p || q)."""
    mean = float((WEIGHTS * MEANS).sum())
    width = float(np.sqrt((WEIGHTS * (WIDTHS**2 + MEANS**2)).sum() - mean**2))
    found = {"p || q": (mean, width, *divergences(x, mean, width))}
    tries = [(m, s) for m in np.linspace(-3, 3, 61) for s in np.linspace(0.3, 2.5, 45)]
    for name, side in (("q || p", tries), ("q || p, second minimum", [t for t in tries if t[0] > -0.5])):
        best, step = min(side, key=lambda t: divergences(x, *t)[0]), 0.05
        while step > 1e-6:  # shrinking crosses about the best of the grid
            near = [
                (best[0] + a * step, best[1] + b * step)
                for a, b in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
            ]
            closest = min(near, key=lambda t: divergences(x, *t)[0])
            step, best = (step / 2, best) if closest == best else (step, closest)
        found[name] = (*best, *divergences(x, *best))
    return found


def importance_bound(rbm: vf.BernoulliRBM, means: Any, n_samples: int, rng: np.random.Generator) -> float:
    """Mean over many groups of ln of the mean weight of so many samples of q."""
    m = np.concatenate(means)
    units = rng.random((400 * n_samples, len(m))) < m
    v, h = np.split(units.astype(np.uint8), [len(means[0])], axis=1)
    log_q = np.where(units, np.log(m), np.log1p(-m)).sum(axis=1)
    log_w = (-rbm.energy(v, h) - log_q).reshape(400, n_samples)
    top = log_w.max(axis=1)
    return float((top + np.log(np.exp(log_w - top[:, None]).mean(axis=1))).mean())


def compute(small: bool = False) -> dict[str, Any]:
    """Both fits, and errors of ln Z of RBMs of 8 x 6 units whose couplings grow, median of several."""
    x = np.linspace(-14, 14, 7001)  # a wide q has tails where p has none
    couplings = np.array([0.2, 1.0]) if small else np.geomspace(0.1, 3, 12)
    names = ["bound", "order 2", "order 4", "order 6", "IWAE-50", "AIS"]
    errors: dict[str, Any] = {name: [] for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreeEnergyWarning)
        warnings.simplefilter("ignore", SeriesWarning)
        for coupling in couplings:
            of: dict[str, list[float]] = {name: [] for name in names}
            for seed in range(2 if small else 15):
                rng = np.random.default_rng(seed)
                rbm = vf.BernoulliRBM(
                    coupling * rng.normal(size=(8, 6)), rng.normal(size=8) - 0.5, rng.normal(size=6)
                )
                truth = exact(rbm).log_z
                q = mean_field(rbm, rng=seed)
                means = (q.details["visible"], q.details["hidden"])
                F = cumulant_expansion(rbm, order=6, means=means)
                for name, order in (("bound", 1), ("order 2", 2), ("order 4", 4), ("order 6", 6)):
                    of[name].append(abs(F.details["series"].partial_sums[order - 1] - truth))
                of["IWAE-50"].append(abs(importance_bound(rbm, means, 50, rng) - truth))
                of["AIS"].append(abs(ais(rbm, n_chains=50, n_temperatures=200, rng=seed).log_z - truth))
            for name, values in of.items():
                errors[name].append(float(np.median(values)))
    return {"x": x, "fits": directions(x), "couplings": couplings, "errors": errors}


def draw(numbers: dict[str, Any]) -> Any:
    """Left both directions, right the errors."""
    figure, (left, right) = panels(2)
    x = numbers["x"]
    left.fill_between(x, target(x), color="0.85", label="p")
    for (name, (mean, width, reverse, forward)), color in zip(
        numbers["fits"].items(), ("C0", "C3", "C1"), strict=True
    ):
        label = f"best KL({name[:6]})" if "second" not in name else "second minimum of KL(q || p)"
        left.plot(x, normal(x, mean, width), color=color, label=f"{label}: {reverse:.2f}, {forward:.2f}")
    left.set(xlim=(-5, 6), yticks=[], title="KL(q || p), KL(p || q) of each fit")
    for name, values in numbers["errors"].items():
        right.loglog(numbers["couplings"], values, ".-", lw=1, label=name)
    right.set(xlabel="width of the couplings", title="error of ln Z, nats; q from mean field")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize="small")
    return figure


if __name__ == "__main__":
    found = compute()
    for name, (mean, width, reverse, forward) in found["fits"].items():
        print(
            f"best KL({name}): N({mean:.3f}, {width:.3f}^2), {reverse:.4f} one way, {forward:.4f} the other"
        )
    for name, values in found["errors"].items():
        print(f"{name:<8}", " ".join(f"{v:.2g}" for v in values))
    save(draw(found), __file__)
