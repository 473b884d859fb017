"""Reparameterized Gaussian samples with KL and log q, their gradients, and the normal numbers alone."""

from collections.abc import Iterator

from vfe_fast.bench.harness import Case
from vfe_fast.bench.reparam import REPARAM_NOTE, reparam_case

from . import rivals

NOTE = REPARAM_NOTE

SHAPES = [(4096, 256), (128, 20), (65536, 64)]
QUICK = [(128, 20), (1000, 100)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for batch, n_latents in QUICK if quick else SHAPES:
        for work in ("normals", "forward", "backward"):
            yield reparam_case(batch, n_latents, work, threads=threads, rivals=rivals.makers("reparam"))
