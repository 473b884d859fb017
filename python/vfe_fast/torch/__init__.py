"""Variational autoencoders, and the kernels they stand on as operators of PyTorch (extra ``torch``).

Networks, automatic differentiation and optimizers are PyTorch's; sampling, the KL divergence, cumulants,
bounds and what is reported of them are ours.
"""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'vfe_fast.torch needs PyTorch >= 2.9: pip install "vfe_fast[torch]" ({error})', name=error.name
    ) from error

from ..sampling.reparameterize import Reparameterized
from .evaluate import Evaluation, evaluate
from .files import load, save
from .fit import fit
from .flows import PlanarFlow
from .likelihoods import Bernoulli, Categorical, Gaussian
from .linear import LinearVAE
from .networks import Heads, convolutional, mlp
from .objectives import ELBO, IWAE, BetaELBO, Bound, CumulantELBO, Renyi
from .operator import reparameterize
from .vae import VAE, Draw

__all__ = [
    "ELBO", "IWAE", "VAE", "Bernoulli", "BetaELBO", "Bound", "Categorical", "CumulantELBO", "Draw",
    "Evaluation", "Gaussian", "Heads", "LinearVAE", "PlanarFlow", "Renyi", "Reparameterized",
    "convolutional", "evaluate", "fit", "load", "mlp", "reparameterize", "save",
]  # fmt: skip
