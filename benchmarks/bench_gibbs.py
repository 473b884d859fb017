"""Block Gibbs sampling: full sweeps, the hidden layer given the visible one and back.

One case runs the 784 x 500 model that Salakhutdinov and Murray trained on MNIST (2008), if VFE_DATA or
../shared/data has it: its states are mostly dark, unlike those of random weights.
"""

from collections.abc import Iterator

from vfe_fast.bench.gaussian_gibbs import gaussian_gibbs_case
from vfe_fast.bench.gibbs import GIBBS_NOTE, gibbs_case
from vfe_fast.bench.harness import Case

from . import rivals
from .data import published_rbm

NOTE = GIBBS_NOTE

# n_visible, n_hidden, n_chains, sweeps in a call
SHAPES = [
    (784, 500, 1024, 5),
    (784, 500, 64, 20),
    (64, 64, 100, 100),
    (784, 500, 1, 1000),
    (100, 30, 10_000, 5),
    (4096, 4096, 256, 1),
]
QUICK = [(784, 500, 64, 20), (64, 64, 100, 100)]


def cases(threads: int, quick: bool) -> Iterator[Case]:
    for n_visible, n_hidden, n_chains, n_steps in QUICK if quick else SHAPES:
        yield gibbs_case(
            n_visible, n_hidden, n_chains, n_steps=n_steps, threads=threads, rivals=rivals.makers("gibbs")
        )
    yield gibbs_case(8, 8, 1, n_steps=1, threads=threads, rivals=rivals.makers("gibbs"), function=True)
    if not quick:
        yield gaussian_gibbs_case(
            784, 500, 512, n_steps=10, threads=threads, rivals=rivals.makers("gaussian_gibbs")
        )
    if not quick and (model := published_rbm()) is not None:
        yield gibbs_case(
            784, 500, 1024, n_steps=5, threads=threads, rivals=rivals.makers("gibbs"), trained=model
        )
