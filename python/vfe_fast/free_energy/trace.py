"""ln Z of a quantum system, as the trace of its Boltzmann operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from ..arguments import count, inverse_temperature, memory_for
from ..arrays import Array
from ..random import generator, seed
from ..warned import warn
from .lanczos import Product, Rule, Tridiagonal, lanczos, low_states, project_out
from .log_weights import LogMean, too_few
from .result import FreeEnergy, FreeEnergyWarning

__all__ = ["TraceWarning", "trace"]

_HERMITIAN = 1e-12  # of the largest element: what rounding may add
_SELF_ADJOINT = 1e-10  # of |x| |H y|
_LARGEST_STDERR = 0.3  # of ln Z, beyond which the spread of a few probes is no measure of it
_LARGEST_BIAS = 0.5  # in standard errors
_ROUNDING = 1e-11  # of ln Z
_SETTLED = 1e-12  # of ln Z by one probe, which further steps would not change
_SEARCH = 3  # times the steps of a probe, to find the lowest states
_LARGEST = 1e140  # element of a product, whose square is a float64
_LOW_STATES = 1 << 40  # where the random numbers of the search for them begin


class TraceWarning(FreeEnergyWarning):
    """A stochastic trace whose probes or whose Lanczos steps are too few."""


@overload
def trace(
    hamiltonian: Any, *, beta: float = ..., n_states: int | None = ..., n_probes: int = ..., order: int = ...,
    n_deflated: int = ..., rng: Any = ...,
) -> FreeEnergy: ...  # fmt: skip


@overload
def trace(
    hamiltonian: Any, *, beta: Sequence[float] | Array, n_states: int | None = ..., n_probes: int = ...,
    order: int = ..., n_deflated: int = ..., rng: Any = ...,
) -> list[FreeEnergy]: ...  # fmt: skip


def trace(
    hamiltonian: Any,
    *,
    beta: float | Sequence[float] | Array = 1.0,
    n_states: int | None = None,
    n_probes: int = 32,
    order: int = 64,
    n_deflated: int = 8,
    rng: Any = None,
) -> FreeEnergy | list[FreeEnergy]:
    r"""Free energy of a quantum system, :math:`\ln Z = \ln \mathrm{Tr}\, e^{-\beta H}`.

    A dense matrix is diagonalized. Of an operator, the trace over the states |k⟩ that Lanczos finds at the
    lower end of the spectrum is their sum, and over the rest, with projector P, an average over random probes
    z with elements of modulus 1, each integrated by Gauss's rule in its Krylov space,

    .. math:: Z = \sum_k e^{-\beta E_k} + \left\langle z^\dagger P e^{-\beta H} P z \right\rangle_z,
        \qquad z^\dagger P e^{-\beta H} P z \approx |Pz|^2 \sum_j \tau_j^2 e^{-\beta \theta_j}.

    Parameters
    ----------
    hamiltonian : array_like, (n_states, n_states); operator; or callable
        A dense Hermitian matrix, real or complex; anything else with ``@`` and ``shape``
        (`TransverseFieldIsing`, a sparse matrix or LinearOperator of SciPy); or a function that takes a
        state (n_states,) to H times it.
    beta : float, sequence of float or ndarray
        Inverse temperature, 0 or in [2^-100, 2^100); for several a list of free energies is returned, all
        from the same diagonalization or the same probes.
    n_states : int, optional
        Dimension of the space, for a callable only.
    n_probes : int
        Random states, >= 2; a dense matrix needs none of this and what follows.
    order : int
        Most Lanczos steps of each, >= 4; fewer where more change nothing.
    n_deflated : int
        Most of the lowest states that are summed by themselves; at most an eighth of all.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.

    Returns
    -------
    FreeEnergy
        Of a dense matrix, of kind ``"exact"``; `details` holds ``"energies"``, the eigenvalues in ascending
        order. Else ``"consistent"``, `stderr` from the jackknife over probes, widened as in `ais`. `details`
        then holds ``"low_energies"``, those summed by themselves, ``"log_weights"``, ln Z by each probe, and
        ``"order_bias"``, what the last quarter of the Lanczos steps added to ln Z. `converged` is False if
        that is more than half a standard error (and 1e-11 of ln Z), or the standard error more than 0.3,
        or that of fewer than ten probes.

    Warns
    -----
    TraceWarning
        If `converged` is False.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, the Hamiltonian is not finite or not Hermitian, or ln Z is out of
        range.

    Notes
    -----
    Sums in log space, with the lowest energy taken out, so that no β overflows. Gauss's rule never exceeds
    the integral of e^(-βE) and rises with the order: ``order_bias`` is not negative, and ln Z by each probe
    a little low. Probes are ±1, of random phases for a complex Hamiltonian. Dense: n_states^3 operations and
    n_states^2 numbers; else n_probes order products with H, n_probes order^2 n_states operations, and up to
    3 order n_states numbers (order n_states without deflation). S. Ubaru, J. Chen, Y. Saad, SIAM J. Matrix
    Anal. Appl. 38 (2017) 1075; J. Jaklič, P. Prelovšek, Phys. Rev. B 49 (1994) 5065.

    Examples
    --------
    >>> import vfe_fast as vf
    >>> round(vf.free_energy.trace([[0.5, -1.0], [-1.0, -0.5]], beta=2.0).log_z, 6)
    2.247426
    >>> spins = vf.TransverseFieldIsing(vf.Ising(0.1 * (1 - np.eye(8))), 0.5)
    >>> F = vf.free_energy.trace(spins, rng=0)
    >>> bool(abs(F.log_z - vf.free_energy.trace(spins.matrix()).log_z) < 4 * F.stderr)
    True
    """
    several = isinstance(beta, (Sequence, np.ndarray)) and np.ndim(beta) > 0
    betas = [inverse_temperature(b) for b in beta] if several else [inverse_temperature(beta)]  # type: ignore[union-attr]
    n_probes, order = count(n_probes, "n_probes", 2), count(order, "order", 4)
    n_deflated = count(n_deflated, "n_deflated", 0)
    if _is_operator(hamiltonian):
        product, n, dtype = _operator(hamiltonian, n_states)
        found = _stochastic(product, n, dtype, betas, n_probes, min(order, n), n_deflated, seed(rng))
    else:
        if n_states is not None:
            raise ValueError("n_states: expected only with a callable, which has no shape")
        found = _dense(hamiltonian, betas)
    return found if several else found[0]


def _dense(hamiltonian: Any, betas: list[float]) -> list[FreeEnergy]:
    energies = np.linalg.eigvalsh(_hermitian(hamiltonian))
    details = {"energies": energies}
    return [_free_energy(_log_sum(energies, b), 0.0, math.inf, b, details, "exact") for b in betas]


def _log_sum(energies: Array, beta: float) -> float:
    """ln Σ e^(-βE) of ascending energies."""
    with np.errstate(over="ignore"):  # far above the lowest, e^-inf is the 0 that it should be
        rest = math.log(math.fsum(np.exp(-beta * (energies - energies[0]))))
    return -beta * float(energies[0]) + rest


def _stochastic(
    product: Product, n: int, dtype: Any, betas: list[float], n_probes: int, order: int, n_deflated: int,
    key: int,
) -> list[FreeEnergy]:  # fmt: skip
    n_deflated = min(n_deflated, n // 8)
    n_rows = min(n, max(order, _SEARCH * order if n_deflated else 0) + n_deflated)
    with memory_for("order", order):
        basis = np.empty((n_rows, n), dtype)

    def probe(index: int) -> Array:
        return _probe(generator(key, "trace probes", index), n, dtype)

    _check_self_adjoint(product, generator(key, "trace probes", _LOW_STATES), n, dtype)
    low = low_states(product, lambda run: probe(_LOW_STATES + 1 + run), _SEARCH * order, n_deflated, basis)
    steps, coldest = min(order, n - len(low)), max(betas)
    rules = [_rules(product, probe(s), steps, basis, len(low), coldest) for s in range(n_probes)]
    low.sort()
    return [_average(rules, low, n, b) for b in betas]


def _rules(
    product: Product, z: Array, order: int, basis: Array, n_low: int, beta: float
) -> tuple[Rule, Rule]:  # fmt: skip
    """Those of Pz with all steps and with three quarters of them; weights add up to |Pz|^2."""

    def rules(form: Tridiagonal) -> tuple[Rule, Rule]:
        steps = len(form.diagonal)
        return form.rule(), form.rule(steps if form.complete else steps - steps // 4)

    def enough(form: Tridiagonal) -> bool:
        full, fewer = (rule.log_mean(beta) for rule in rules(form))
        return abs(full - fewer) <= _SETTLED * max(1.0, abs(full))

    z = project_out(basis[:n_low], z)
    found = rules(lanczos(product, z, order, basis, n_low, enough))
    log_norm = 2.0 * math.log(float(np.linalg.norm(z)))
    full, fewer = (Rule(r.nodes, r.log_weights + log_norm) for r in found)
    return full, fewer


def _average(rules: list[tuple[Rule, Rule]], low: Array, n: int, beta: float) -> FreeEnergy:
    of_low = _log_sum(low, beta) if len(low) else -math.inf
    log_weights, fewer = (
        np.array([np.logaddexp(of_low, pair[which].log_mean(beta)) for pair in rules]) for which in (0, 1)
    )
    if not np.isfinite(log_weights).all():
        raise ValueError(
            f"beta: ln Z of energies as low as {low.min(initial=math.inf):.3g} is no float64 at {beta:.3g}"
        )
    mean = LogMean.of(log_weights)
    bias = mean.value - LogMean.of(fewer).value
    log_z, stderr, problem = mean.value, mean.stderr, ""
    if beta == 0:
        log_z, stderr, bias = math.log(n), 0.0, 0.0  # known without probes
    if bias > max(_LARGEST_BIAS * stderr, _ROUNDING * max(1.0, abs(log_z))):
        problem = (
            f"the last quarter of the Lanczos steps changed ln Z by {bias:.2g}: a larger order is needed"
        )
    elif stderr > _LARGEST_STDERR:
        problem = f"probes differ so much that ln Z is known to {stderr:.2g} only: more n_probes are needed"
    elif stderr > _ROUNDING * max(1.0, abs(log_z)):
        problem = too_few(len(log_weights), "probes")
    if problem:
        warn(f"ln Z is not reliable: {problem}", TraceWarning)
    details = {"low_energies": low, "log_weights": log_weights, "order_bias": bias, "problem": problem}
    return _free_energy(log_z, stderr, mean.ess, beta, details, "consistent")


def _free_energy(
    log_z: float, stderr: float, ess: float, beta: float, details: dict[str, Any], kind: Any
) -> FreeEnergy:
    if not math.isfinite(log_z):
        raise ValueError(f"beta: ln Z of this Hamiltonian is no float64 at {beta:.3g}")
    return FreeEnergy(
        value=-log_z / beta if beta > 0 else -math.inf,
        log_z=log_z,
        stderr=stderr,
        kind=kind,
        ess=ess,
        converged=not details.get("problem"),
        beta=beta,
        details=details,
    )


def _probe(random: np.random.Generator, n: int, dtype: Any) -> Array:
    """Elements of modulus 1 and mean 0."""
    if np.dtype(dtype).kind == "c":
        phases: Array = np.exp(2j * np.pi * random.random(n))
        return phases
    return 1.0 - 2.0 * random.integers(0, 2, n)


def _is_operator(hamiltonian: Any) -> bool:
    if hasattr(hamiltonian, "shape"):
        return hasattr(hamiltonian, "__matmul__") and not hasattr(hamiltonian, "__array__")
    return callable(hamiltonian)


def _operator(hamiltonian: Any, n_states: int | None) -> tuple[Callable[[Array], Array], int, Any]:
    """Its product with a state, checked, the dimension, and whether states are real or complex."""
    if hasattr(hamiltonian, "shape"):
        if n_states is not None:
            raise ValueError("n_states: expected only with a callable, which has no shape")
        shape = tuple(hamiltonian.shape)
        if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 1:
            raise ValueError(f"hamiltonian: expected a square operator, got shape {shape}")
        n = int(shape[0])

        def apply(x: Array) -> Any:
            return hamiltonian @ x
    else:
        if n_states is None:
            raise TypeError("hamiltonian: expected n_states= with a callable, which has no shape")
        n, apply = count(n_states, "n_states"), hamiltonian
    trial = np.asarray(apply(np.ones(n)))
    dtype = np.complex128 if "c" in (trial.dtype.kind, _kind(hamiltonian)) else np.float64

    def product(x: Array) -> Array:
        y = np.asarray(apply(x.copy()))
        if y.shape != (n,) or y.dtype.kind not in "biufc":
            raise ValueError(
                f"hamiltonian: expected a product of {n} numbers, got {y.dtype} of shape {y.shape}"
            )
        if dtype is np.float64 and y.dtype.kind == "c":
            raise ValueError("hamiltonian: expected a real product as before, got a complex one")
        y = y.astype(dtype, copy=False)
        if not (np.abs(y) < _LARGEST).all():
            raise ValueError(f"hamiltonian: expected finite products, below {_LARGEST:g}")
        return y

    return product, n, dtype


def _kind(hamiltonian: Any) -> str:
    dtype = getattr(hamiltonian, "dtype", None)
    return "" if dtype is None else np.dtype(dtype).kind


def _check_self_adjoint(product: Product, random: np.random.Generator, n: int, dtype: Any) -> None:
    x, y = random.normal(size=(2, n)).astype(dtype)
    if np.dtype(dtype).kind == "c":
        x, y = x + 1j * y[::-1], y - 1j * x
    hx, hy = product(x), product(y)
    difference = abs(complex(np.vdot(x, hy)) - complex(np.vdot(hx, y)))
    size = np.linalg.norm(x) * max(float(np.linalg.norm(hx)), float(np.linalg.norm(hy)))
    if difference > _SELF_ADJOINT * size:
        raise ValueError("hamiltonian: expected a Hermitian operator")


def _hermitian(hamiltonian: Any) -> Any:
    matrix = np.asarray(hamiltonian)
    if matrix.dtype.kind not in "biufc":
        raise TypeError(
            "hamiltonian: expected a dense matrix of numbers, or an operator such as TransverseFieldIsing, "
            f"got {type(hamiltonian).__name__}"
        )
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"hamiltonian: expected a square matrix, got shape {matrix.shape}")
    matrix = matrix.astype(np.complex128 if matrix.dtype.kind == "c" else np.float64)
    if not np.isfinite(matrix).all():
        raise ValueError("hamiltonian: expected finite elements")
    if np.abs(matrix - matrix.conj().T).max() > _HERMITIAN * np.abs(matrix).max():
        raise ValueError("hamiltonian: expected a Hermitian matrix")
    return matrix
