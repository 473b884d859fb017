"""A training step of a variational autoencoder, and its stochastic part alone."""

import importlib.util
from collections.abc import Iterator

from vfe_fast.bench.harness import Case
from vfe_fast.bench.vae import VAE_NOTE, vae_case

from . import rivals

NOTE = VAE_NOTE

PURPOSES = [("elbo", 1), ("iwae", 50)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    if importlib.util.find_spec("torch") is None:
        return
    for purpose, n_samples in PURPOSES:
        for part in ("step", "stochastic part"):
            yield vae_case(
                20 if quick else 100, n_samples, purpose, part, threads=threads, rivals=rivals.makers("vae")
            )
