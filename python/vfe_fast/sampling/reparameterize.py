r"""Samples that are functions of their parameters, with the KL divergence from a prior and all gradients.

.. math:: z = \mu + e^{\ell / 2} \epsilon

(D. Kingma, M. Welling, "Auto-Encoding Variational Bayes", 2013; C. Martin, "Free Energies and Variational
Inference", 2017, "Variational autoencoders"). Kernel: ``src/cpp/kernels/reparam.hpp``.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from .. import _core
from ..arguments import count, on_cuda, real, threads
from ..arrays import Array, GiveBack, borrow
from ..random import seed

__all__ = ["Family", "Reparameterized", "ReparameterizedArrays", "reparameterize"]

Family = Literal["gaussian", "laplace", "logistic", "log_normal", "concrete", "gumbel_softmax"]

_FAMILIES = {name: _core.Family[name] for name in get_args(Family)}
RELAXED = ("concrete", "gumbel_softmax")
_MOST_ROWS = 1 << 62

# What both kernels take first, in their order: names would take as long as ten numbers.
KernelArguments = tuple[int, Array, Array | None, Array | None, Array | None, int, float, int, int, int]


class Reparameterized:
    """Samples, their KL divergence and log density, in arrays of NumPy or of the library that asked.

    Attributes
    ----------
    sample : array, (n_samples, batch, n_latents) or (n_samples, batch, n_latents, n_categories)
        The samples z.
    kl : array, (batch,)
        KL(q || prior), summed over latents.
    log_q : array, (n_samples, batch)
        Log density of each sample, summed over latents.
    family : str
        The family of q.
    kl_kind : str
        ``"analytic"``; ``"sample"`` if `kl` is the mean over samples of log q - log prior.
    """

    __slots__ = ("family", "kl", "log_q", "sample")

    def __init__(self, sample: Any, kl: Any, log_q: Any, family: Family) -> None:
        self.sample, self.kl, self.log_q, self.family = sample, kl, log_q, family

    @property
    def kl_kind(self) -> Literal["analytic", "sample"]:
        """Where `kl` comes from."""
        return "sample" if self.family == "gumbel_softmax" else "analytic"

    def __repr__(self) -> str:
        shape = getattr(self.sample, "shape", self.sample)
        return f"{type(self).__name__}(family={self.family!r}, sample={shape}, kl_kind={self.kl_kind!r})"


class ReparameterizedArrays(Reparameterized):
    """A `Reparameterized` with the way back to gradients, for arrays without automatic differentiation.

    Attributes
    ----------
    sample, kl, log_q : array
        See `Reparameterized`.
    family, kl_kind : str
        See `Reparameterized`.
    """

    __slots__ = ("_arguments", "_cuda", "_give_back")

    def __init__(
        self,
        sample: Any,
        kl: Any,
        log_q: Any,
        family: Family,
        _arguments: KernelArguments,
        _give_back: GiveBack,
        _cuda: bool = False,
    ) -> None:
        super().__init__(sample, kl, log_q, family)
        self._arguments, self._give_back, self._cuda = _arguments, _give_back, _cuda

    def backward(self, grad_sample: Any = None, grad_kl: Any = None, grad_log_q: Any = None) -> Any:
        """Gradients of a loss by the parameters, given those by the results.

        The noise is computed once more, not stored, on the device that drew the samples. The parameters are
        not copied: they must be what they were when the samples were drawn.

        Parameters
        ----------
        grad_sample : array_like, optional
            Gradient by `sample`, of its shape; None for zeros, here and below.
        grad_kl : array_like, optional
            Gradient by `kl`, (batch,).
        grad_log_q : array_like, optional
            Gradient by `log_q`, (n_samples, batch), which depends on the parameters directly and through the
            sample; both count.

        Returns
        -------
        tuple of array, or array
            Gradients by `mu` and `log_var`; of a relaxed family, by the logits alone.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or not finite.
        """
        mu = self._arguments[1]
        of_sample, of_kl, of_log_q = (
            None if x is None else _reals(x, name, mu.dtype, self._cuda)[0]
            for x, name in (
                (grad_sample, "grad_sample"),
                (grad_kl, "grad_kl"),
                (grad_log_q, "grad_log_q"),
            )
        )
        try:
            grad_mu, grad_log_var = _core.reparameterize_backward(
                *self._arguments, of_sample, of_kl, of_log_q, None, None, self._cuda
            )
        except MemoryError as error:  # not memory_for: this runs in every call
            raise MemoryError(f"mu: expected a size that fits in memory, got {mu.shape}: {error}") from None
        if grad_log_var is None:
            return self._give_back(grad_mu)
        return self._give_back(grad_mu), self._give_back(grad_log_var)


def reparameterize(
    mu: Any,
    log_var: Any = None,
    n_samples: int = 1,
    *,
    family: Family = "gaussian",
    prior: Any = None,
    temperature: float | None = None,
    rng: Any = None,
    row_offset: int = 0,
    num_threads: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
) -> ReparameterizedArrays:
    r"""Draw samples of a variational distribution q, with KL(q || prior) and log q, in one pass.

    ==================  ============================================  ===============================
    `family`            sample, s = exp(`log_var` / 2)                prior (default); KL
    ==================  ============================================  ===============================
    ``gaussian``        mu + s eps, eps normal                        normal (N(0, 1)); analytic
    ``laplace``         mu + s eps, eps of density exp(-abs(eps))/2   the same
    ``logistic``        mu + s eps, eps logistic                      the same
    ``log_normal``      exp(mu + s eps), eps normal                   the same
    ``concrete``        sigmoid((mu + eps) / temperature)             concrete (logits 0); analytic
    ``gumbel_softmax``  softmax((mu + g) / temperature), g Gumbel     the same kind (0); by sample
    ==================  ============================================  ===============================

    Parameters
    ----------
    mu : array_like, (batch, n_latents)
        Locations, float32 or float64; for relaxed families the logits, and for ``gumbel_softmax`` of shape
        (batch, n_latents, n_categories).
    log_var : array_like, (batch, n_latents)
        Twice the logarithm of the scale s: the log variance of the (underlying) normal; the variance of
        ``laplace`` is 2 s^2, that of ``logistic`` pi^2 s^2 / 3. None for relaxed families.
    n_samples : int
        Samples of each row.
    family : str
        See above. The relaxed ones are those of C. Maddison, A. Mnih, Y. W. Teh (2017) and E. Jang, S. Gu,
        B. Poole (2017).
    prior : tuple of array_like, or array_like
        (mean, log variance) of the normal prior, each a number or of the shape of a row or of `mu`. For
        relaxed families: the logits of the prior, which has the same temperature.
    temperature : float
        Of the relaxed families, 2^-20 to 2^20; 1 by default.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`.
    row_offset : int
        Rows that come before these in a batch that is cut into several calls: with the same `rng` they get
        the noise that they have in the whole.
    num_threads : int, optional
        Threads to use; the result does not depend on it.
    device : {"cpu", "cuda"}, optional
        Where the kernel runs, `backward` too: where `mu` is, if not given. Arrays in host memory are moved to
        a CUDA device; those that are there must be in C order. Results are where `mu` is. They do not depend
        on the device.

    Returns
    -------
    ReparameterizedArrays
        Arrays of the caller's kind and dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or not finite.
    TargetUnavailableError
        If there is no such device; the message says which.

    Notes
    -----
    Where the KL is an estimate by samples, `kl_kind` says so. Equations, accuracy and where the tails of the
    noise end: docs/reparameterize.md.

    Examples
    --------
    >>> z = reparameterize([[0.5, -1.0]], [[0.0, 0.2]], n_samples=3, rng=0)
    >>> z.sample.shape, z.kl.round(6).tolist()
    ((3, 1, 2), [0.635701])
    >>> grad_mu, grad_log_var = z.backward(grad_kl=[1.0])
    >>> grad_mu.tolist()
    [[0.5, -1.0]]
    """
    cuda = on_cuda(device, mu)
    arguments, give_back = prepared(
        mu, log_var, n_samples, family, split_prior(prior, family), temperature, seed(rng), row_offset,
        num_threads, cuda,
    )  # fmt: skip
    try:
        sample, kl, log_q, _ = _core.reparameterize(*arguments, False, cuda)
    except MemoryError as error:  # not memory_for: this runs in every call
        raise MemoryError(
            f"n_samples: expected a size that fits in memory, got {n_samples} of {arguments[1].shape}: "
            f"{error}"
        ) from None
    return ReparameterizedArrays(
        give_back(sample), give_back(kl), give_back(log_q), family, arguments, give_back, cuda
    )


def split_prior(prior: Any, family: Any) -> tuple[Any, Any]:
    """Mean and log variance; of relaxed families logits and None; None twice if there is no prior."""
    if prior is None or family in RELAXED:
        return prior, None
    if not isinstance(prior, (tuple, list)) or len(prior) != 2 or any(x is None for x in prior):
        raise TypeError(f"prior: expected (mean, log_var), got {type(prior).__name__}")
    return prior[0], prior[1]


def prepared(
    mu: Any,
    log_var: Any,
    n_samples: int,
    family: str,
    prior: tuple[Any, Any],
    temperature: float | None,
    key: int,
    row_offset: int,
    num_threads: int | None,
    cuda: bool = False,
) -> tuple[KernelArguments, GiveBack]:
    """Turn what users pass into the arguments of both kernels; the adapters start here, too."""
    chosen = _FAMILIES.get(family) if isinstance(family, str) else None
    if chosen is None:
        raise ValueError(f"family: expected one of {', '.join(_FAMILIES)}, got {family!r}")
    location, give_back = _reals(mu, "mu", None, cuda)
    spread = None if log_var is None else _reals(log_var, "log_var", location.dtype, cuda)[0]
    prior_mean, prior_log_var = _prior(prior, location, cuda)
    if temperature is None:
        temperature = 1.0
    elif family not in RELAXED:
        raise ValueError(f"temperature: expected None for the family {family}, got {temperature}")
    arguments = (
        chosen, location, spread, prior_mean, prior_log_var, count(n_samples, "n_samples"),
        real(temperature, "temperature"), key, count(row_offset, "row_offset", 0, _MOST_ROWS),
        threads(num_threads),
    )  # fmt: skip
    return arguments, give_back


def _reals(x: Any, name: str, dtype: np.dtype[Any] | None, cuda: bool) -> tuple[Array, GiveBack]:
    """View an array in C order; Python's numbers become float64, or the dtype given."""
    array, give_back = borrow(x, name, cuda=cuda)
    if array is not x and not hasattr(x, "__dlpack__") and array.dtype.kind in "iuf":
        array = array.astype(np.float64 if dtype is None else dtype)
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = _in_order(array, name)
    return array, give_back


def _in_order(array: Array, name: str) -> Array:
    """Copy to C order what is in host memory."""
    if _core.on_device(array):
        raise ValueError(f"{name}: expected an array in C order, as it is on a device")
    return np.array(array, order="C")


def _prior(prior: tuple[Any, Any], location: Array, cuda: bool) -> tuple[Array | None, Array | None]:
    """What `split_prior` gives as rows that the kernel reads, both of as many."""
    if prior[0] is None:
        return None, None
    mean, log_var = (None if x is None else _rows(x, location, cuda) for x in prior)
    if mean is not None and log_var is not None and len(mean) != len(log_var):
        mean, log_var = (
            x if x.shape == location.shape else _in_order(np.broadcast_to(x, location.shape), "prior")
            for x in (mean, log_var)
        )
    return mean, log_var


def _rows(x: Any, location: Array, cuda: bool) -> Array:
    array, _ = _reals(x, "prior", location.dtype, cuda)
    if array.dtype != location.dtype:
        raise TypeError(f"prior: expected {location.dtype} like mu, got {array.dtype}")
    rows = (1, *location.shape[1:])
    try:
        if array.shape == location.shape:
            return array
        of_row: Array = np.broadcast_to(array, rows)
    except ValueError:
        raise ValueError(
            f"prior: expected numbers, {rows[1:]} or {location.shape}, got {array.shape}"
        ) from None
    return of_row if of_row.flags.c_contiguous else _in_order(of_row, "prior")
