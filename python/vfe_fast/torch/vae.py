r"""The variational autoencoder: a model p(x, z) and a distribution q(z | x) that goes with it.

.. math:: E(x, z) = -\ln p(x|z) - \ln p(z), \quad
          F(x) = -\ln \int e^{-E(x, z)} dz \le \langle E \rangle_q - S_q

(D. Kingma, M. Welling, "Auto-Encoding Variational Bayes", 2013; C. Martin, "Free Energies and Variational
Inference", 2017, "Variational autoencoders": free energy = expected energy - entropy.)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ..arguments import count, real
from ..brief import brief
from ..random import seed
from ..sampling.reparameterize import split_prior
from .densities import log_density, standard_normal_log_density
from .likelihoods import LIKELIHOODS, Bernoulli, Categorical
from .networks import convolutional, mlp, sizes
from .operator import draw_with_log_prior, reparameterize

__all__ = ["VAE", "Draw"]

POSTERIORS = ("gaussian", "laplace", "logistic", "log_normal", "concrete")

Posterior = Literal["gaussian", "laplace", "logistic", "log_normal", "concrete"]


@dataclass(frozen=True, eq=False)
class Draw:
    """Samples of q(z | x) and what is known of them. Log densities are summed over units.

    Attributes
    ----------
    z : Tensor, (n_samples, batch, n_latents)
        The samples.
    log_q, log_prior, log_likelihood : Tensor, (n_samples, batch)
        ln q(z | x), ln p(z), ln p(x | z).
    kl : Tensor, (batch,)
        KL(q || prior), analytic where `kl_kind` says so, otherwise the mean of log_q - log_prior.
    kl_kind : {"analytic", "sample"}
        Where `kl` comes from.
    temperature : float
        T of the model.
    z_before_flow : Tensor, (n_samples, batch, n_latents), or None
        The samples that the flow has moved to z, if there is one.
    """

    z: torch.Tensor
    log_q: torch.Tensor
    log_prior: torch.Tensor
    log_likelihood: torch.Tensor
    kl: torch.Tensor
    kl_kind: str
    temperature: float
    z_before_flow: torch.Tensor | None = None

    __repr__ = brief

    @property
    def energy(self) -> torch.Tensor:
        """E = -ln p(x, z), (n_samples, batch)."""
        return -(self.log_likelihood + self.log_prior)

    @functools.cached_property
    def log_weights(self) -> torch.Tensor:
        """-E / T - ln q, (n_samples, batch): q's average of its exponential is exp(-F / T)."""
        if self.temperature == 0:
            raise ValueError("temperature: expected temperature > 0, for at 0 nothing is averaged")
        energy = self.energy if self.temperature == 1 else self.energy / self.temperature
        return -energy - self.log_q


class VAE(nn.Module):
    """A decoder p(x | z), a prior p(z) and an encoder for q(z | x).

    Parameters
    ----------
    encoder : Module
        Maps x, (batch, n_visible), to (mu, log_var), each (batch, n_latents), or to both side by side in one
        tensor; for a Concrete posterior, to its logits.
    decoder : Module
        Maps z, (n_samples, batch, n_latents), to what the likelihood takes, (n_samples, batch, n_outputs).
    prior : (mean, log_var), or Module, optional
        A normal prior, by default N(0, 1); for a Concrete posterior its logits (0). Or a module with
        ``log_prob(z)``, (n_samples, batch), and ``sample(n)``, (n, n_latents), which may be learned; the KL
        is then taken by sample.
    likelihood : {"bernoulli", "gaussian"} or Module
        See `Bernoulli`, `Gaussian`, `Categorical`; or any module with ``log_prob(x, output)``,
        ``mean(output)`` and ``sample(output)``, and if it likes ``check(x, name)``, which refuses data.
    posterior : {"gaussian", "laplace", "logistic", "log_normal", "concrete"}
        Family of q, as in `reparameterize`.
    flow : Module, optional
        Maps samples z to (z', ln det) and makes q a structured one; see `PlanarFlow`. The KL is then taken by
        sample.
    relaxation : float
        Temperature of the Concrete relaxation (2 / 3, C. Maddison et al. 2017).
    temperature : float
        T in F = ⟨E⟩ - T S. 1 is the variational autoencoder. 0 is a deterministic autoencoder: z is the
        encoder's mu (exp(mu), log-normal; sigmoid(mu), Concrete), nothing is drawn, and E(x, z) is minimized.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> vae = VAE.mlp(n_visible=64, n_latents=8, hidden=(32,))
    >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
    >>> draw = vae.draw(x, n_samples=3, rng=0)
    >>> draw.z.shape, draw.log_weights.shape, draw.kl.shape
    (torch.Size([3, 5, 8]), torch.Size([3, 5]), torch.Size([5]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: Any = None,
        likelihood: str | nn.Module = "bernoulli",
        *,
        posterior: Posterior = "gaussian",
        flow: nn.Module | None = None,
        relaxation: float = 2 / 3,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if posterior not in POSTERIORS:
            raise ValueError(f"posterior: expected one of {', '.join(POSTERIORS)}, got {posterior!r}")
        for module, name in ((encoder, "encoder"), (decoder, "decoder"), (flow, "flow")):
            if not isinstance(module, nn.Module) and not (name == "flow" and module is None):
                raise TypeError(f"{name}: expected a module of PyTorch, got {type(module).__name__}")
        if not 0 <= real(temperature, "temperature") < float("inf"):
            raise ValueError(f"temperature: expected 0 <= temperature, got {temperature}")
        if flow is not None and posterior == "concrete":
            raise ValueError("flow: expected None for a Concrete posterior, whose samples are in (0, 1)")
        self.encoder, self.decoder, self.flow = encoder, decoder, flow
        self.likelihood = _likelihood(likelihood)
        self.posterior: Posterior = posterior
        self.temperature = float(temperature)
        self.relaxation = (
            real(relaxation, "relaxation", 2.0**-20, 2.0**20) if posterior == "concrete" else None
        )
        self.prior = prior if isinstance(prior, nn.Module) else None
        mean, log_var = (None, None) if self.prior is not None else split_prior(prior, posterior)
        self.register_buffer("prior_mean", None if mean is None else torch.as_tensor(mean).double())
        self.register_buffer("prior_log_var", None if log_var is None else torch.as_tensor(log_var).double())
        self.recipe: dict[str, Any] | None = None
        self.n_latents: int | None = None

    @classmethod
    def mlp(cls, n_visible: int, n_latents: int, **how: Any) -> VAE:
        """Make one with fully connected networks.

        Parameters
        ----------
        n_visible, n_latents : int
            Units of x and of z.
        **how
            ``hidden``, ``activation``: see `mlp`. The rest: arguments of the class. Only such a model can be
            saved whole by `save`.

        Returns
        -------
        VAE
        """
        return cls._ready_made("mlp", n_visible, n_latents, how)

    @classmethod
    def convolutional(cls, n_visible: int, n_latents: int, **how: Any) -> VAE:
        """Make one with convolutional networks.

        Parameters
        ----------
        n_visible, n_latents : int
            Pixels of the square images x, and units of z.
        **how
            ``channels``, ``activation``: see `convolutional`. The rest: arguments of the class.

        Returns
        -------
        VAE
        """
        return cls._ready_made("convolutional", n_visible, n_latents, how)

    @classmethod
    def _ready_made(cls, kind: str, n_visible: int, n_latents: int, how: dict[str, Any]) -> VAE:
        likelihood = _likelihood(how.pop("likelihood", "bernoulli"))
        names = ("hidden" if kind == "mlp" else "channels", "activation")
        shape = {name: how.pop(name) for name in names if name in how}
        if names[0] in shape:
            shape[names[0]] = sizes(shape[names[0]], names[0])
        spread = how.get("posterior") != "concrete"
        make: Any = mlp if kind == "mlp" else convolutional
        if kind == "convolutional" and isinstance(likelihood, Categorical):
            raise ValueError("likelihood: expected one of real or binary pixels, got a Categorical one")
        n_outputs = likelihood.n_outputs(count(n_visible, "n_visible"))
        encoder, decoder = make(n_visible, n_latents, n_outputs, spread=spread, **shape)
        if isinstance(likelihood, Categorical):
            encoder = _OneHot(likelihood, n_visible, n_latents, shape, spread)
        vae = cls(encoder, decoder, likelihood=likelihood, **how)
        vae.n_latents = int(n_latents)
        simple = {k: getattr(vae, k) for k in how if k in ("posterior", "relaxation", "temperature")}
        if simple.keys() == how.keys() and type(likelihood) in LIKELIHOODS.values():
            named = {v: k for k, v in LIKELIHOODS.items()}[type(likelihood)]
            vae.recipe = {
                "kind": kind, "n_visible": int(n_visible), "n_latents": int(n_latents),
                "likelihood": [named, likelihood.options()],
                "how": shape | simple,
            }  # fmt: skip
        return vae

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Parameters of q(z | x) before the flow.

        Parameters
        ----------
        x : Tensor, (batch, n_visible)

        Returns
        -------
        mu : Tensor, (batch, n_latents)
            Locations, of a Concrete posterior logits.
        log_var : Tensor, (batch, n_latents), or None
            Twice the logarithm of the scale.

        Raises
        ------
        TypeError, ValueError
            If the encoder gives something else.
        """
        found = self.encoder(x)
        if self.posterior == "concrete":
            return found, None
        if isinstance(found, torch.Tensor):
            if found.shape[-1] % 2:
                raise ValueError(f"encoder: expected (batch, 2 n_latents), got {tuple(found.shape)}")
            return found.chunk(2, dim=-1)
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(f"encoder: expected mu and log_var, got {type(found).__name__}")
        return found

    def draw(
        self,
        x: torch.Tensor,
        n_samples: int = 1,
        *,
        rng: Any = None,
        path_only: bool = False,
        row_offset: int = 0,
    ) -> Draw:
        """Draw z from q(z | x) and look at p(x, z) there.

        Parameters
        ----------
        x : Tensor, (batch, n_visible)
            Data, of the dtype of the model. Whether the likelihood can mean them is looked at by `fit` and
            `evaluate`, not here.
        n_samples : int
            Samples of each row. At T = 0 there is one, mu.
        rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
            See `vfe_fast.random.seed`.
        path_only : bool
            Whether gradients reach the encoder through z alone, not through the parameters of ln q directly,
            whose average vanishes (G. Roeder, Y. Wu, D. Duvenaud 2017).
        row_offset : int
            Rows that come before these where data are cut into several calls.

        Returns
        -------
        Draw

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or not finite.
        """
        if not isinstance(x, torch.Tensor) or x.ndim != 2:
            got = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise ValueError(f"x: expected a tensor (batch, n_visible), got {got}")
        mu, log_var = self.encode(x)
        if self.temperature == 0:
            return self._point(x, mu)
        standard = self.prior is None and self.prior_mean is None
        if standard and self.posterior == "gaussian" and self.flow is None and not path_only:
            at_once = draw_with_log_prior(mu, log_var, n_samples, rng, row_offset)
            if at_once is not None:
                z, kl, log_q, log_prior = at_once
                log_likelihood = self._log_likelihood(x, z)
                return Draw(z, log_q, log_prior, log_likelihood, kl, "analytic", self.temperature)
        prior = None if self.prior is not None else self._prior_of(mu)
        found = reparameterize(
            mu, log_var, n_samples, family=self.posterior, prior=prior, temperature=self.relaxation, rng=rng,
            row_offset=row_offset,
        )  # fmt: skip
        z, log_q, kl, kl_kind = found.sample, found.log_q, found.kl, found.kl_kind
        if path_only:
            fixed = (mu.detach(), None if log_var is None else log_var.detach())
            log_q = log_density(self.posterior, z, *fixed, self.relaxation)
        before = None if self.flow is None else z
        if self.flow is not None:
            z, log_det = self.flow(z)
            log_q = log_q - log_det
        log_prior = self.log_prior(z)
        if self.flow is not None or self.prior is not None:
            kl, kl_kind = (log_q - log_prior).mean(0), "sample"
        log_likelihood = self._log_likelihood(x, z)
        return Draw(z, log_q, log_prior, log_likelihood, kl, kl_kind, self.temperature, before)

    def _log_likelihood(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        output = self._decoded(z)
        found: torch.Tensor = self.likelihood.log_prob(x, output)
        if found.shape != z.shape[:-1]:
            raise ValueError(
                f"decoder: expected (n_samples, batch, n_outputs) = ({z.shape[0]}, {z.shape[1]}, ...), "
                f"got {tuple(output.shape)}, and of the likelihood {tuple(found.shape)}"
            )
        return found

    def _decoded(self, z: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.decoder(z)
        return output

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Have the networks compiled by `torch.compile`; and the likelihood, unless a kernel computes it.

        That takes PyTorch half a minute in the first steps, and pays where there are many samples a row.

        Parameters
        ----------
        *args, **kwargs
            Of `torch.compile`.
        """
        self.encoder.compile(*args, **kwargs)
        # Not the modules' own `compile`, which leaves a Sequential as it is.
        name = "_decoded" if isinstance(self.likelihood, Bernoulli) else "_log_likelihood"
        compiled = torch.compile(getattr(type(self), name), *args, **kwargs)
        setattr(self, name, functools.partial(compiled, self))

    def _point(self, x: torch.Tensor, mu: torch.Tensor) -> Draw:
        z = self.without_noise(mu)[None]
        if self.flow is not None:
            z, _ = self.flow(z)
        nothing = z.new_zeros(z.shape[:2])
        log_likelihood = self._log_likelihood(x, z)
        log_prior = self.log_prior(z)
        return Draw(z, nothing, log_prior, log_likelihood, nothing[0], "analytic", 0.0)

    def without_noise(self, mu: torch.Tensor) -> torch.Tensor:
        """z before the flow, without noise: mu, of log-normal posteriors exp(mu), Concrete ones sigmoid(mu).

        Parameters
        ----------
        mu : Tensor, (batch, n_latents)
            From `encode`.

        Returns
        -------
        Tensor, (batch, n_latents)
        """
        if self.posterior == "log_normal":
            return torch.exp(mu)
        return torch.sigmoid(mu) if self.posterior == "concrete" else mu

    def _prior_of(self, like: torch.Tensor) -> Any:
        mean, log_var = (
            None if p is None else p.to(like.dtype) for p in (self.prior_mean, self.prior_log_var)
        )
        return mean if self.posterior == "concrete" or mean is None else (mean, log_var)

    def log_prior(self, z: torch.Tensor) -> torch.Tensor:
        """ln p(z).

        Parameters
        ----------
        z : Tensor, (..., n_latents)

        Returns
        -------
        Tensor, (...)
        """
        if self.prior is not None:
            found: torch.Tensor = self.prior.log_prob(z)
            if found.shape != z.shape[:-1]:
                raise ValueError(f"prior: expected ln p of {tuple(z.shape[:-1])}, got {tuple(found.shape)}")
            return found
        if self.posterior == "concrete":
            logits = 0.0 if self.prior_mean is None else self.prior_mean.to(z.dtype)
            return log_density("concrete", z, logits, None, self.relaxation)
        if self.prior_mean is None:
            return standard_normal_log_density(z)
        mean, log_var = self._prior_of(z)
        return log_density("gaussian", z, mean, log_var.expand_as(z), None)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Means of x given z, without gradients.

        Parameters
        ----------
        z : Tensor, (..., n_latents)

        Returns
        -------
        Tensor, (..., n_visible)
            Of categories their probabilities, (..., n_visible, n_categories).
        """
        with torch.no_grad():
            return self.likelihood.mean(self.decoder(z))

    def sample_prior(self, n: int, n_latents: int | None = None, *, rng: Any = None) -> torch.Tensor:
        """Draw z from the prior.

        Parameters
        ----------
        n, n_latents : int
            Samples, and units of each; a ready-made model knows the latter.
        rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
            See `vfe_fast.random.seed`. A prior that is a module draws as it does, by PyTorch's generator.

        Returns
        -------
        Tensor, (n, n_latents)
        """
        like = next(self.parameters())
        if self.prior is not None:
            return self.prior.sample(n)
        n_latents = count(self.n_latents if n_latents is None else n_latents, "n_latents")
        mean, log_var = (
            0.0 if p is None else p.to(like.dtype) for p in (self.prior_mean, self.prior_log_var)
        )
        zeros = torch.zeros(count(n, "n"), n_latents, dtype=like.dtype)
        if self.posterior == "concrete":
            found = reparameterize(
                zeros + mean, family="concrete", temperature=self.relaxation, rng=seed(rng)
            )
        else:
            found = reparameterize(zeros + mean, zeros + log_var, rng=seed(rng))
        return found.sample[0]


class _OneHot(nn.Module):
    """An encoder of categories."""

    def __init__(
        self, likelihood: Categorical, n_visible: int, n_latents: int, shape: dict[str, Any], spread: bool
    ) -> None:
        super().__init__()
        self.likelihood = [likelihood]  # not a part of this module
        n = n_visible * likelihood.n_categories
        self.encoder, _ = mlp(n, n_latents, 1, spread=spread, **shape)

    def forward(self, x: torch.Tensor) -> Any:
        return self.encoder(self.likelihood[0].one_hot(x).to(self.encoder.linear.weight.dtype))


def _likelihood(likelihood: str | nn.Module) -> Any:
    if isinstance(likelihood, nn.Module):
        return likelihood
    if likelihood not in ("bernoulli", "gaussian"):
        raise ValueError(f"likelihood: expected 'bernoulli', 'gaussian' or a module, got {likelihood!r}")
    return LIKELIHOODS[likelihood]()
