"""NumPy: the rival that is always there, so the package itself holds the code."""

from vfe_fast.bench.ais import numpy_ais as ais
from vfe_fast.bench.cumulants import numpy_cumulants as cumulants
from vfe_fast.bench.exact_ising import numpy_exact_ising as exact_ising
from vfe_fast.bench.exact_rbm import numpy_exact_rbm as exact_rbm
from vfe_fast.bench.flat_histogram import numpy_flat_histogram as flat_histogram
from vfe_fast.bench.free_energy import numpy_free_energy as free_energy
from vfe_fast.bench.gaussian_gibbs import numpy_gaussian_gibbs as gaussian_gibbs
from vfe_fast.bench.gibbs import numpy_gibbs as gibbs
from vfe_fast.bench.hamiltonian import numpy_hamiltonian as hamiltonian
from vfe_fast.bench.reparam import numpy_reparam as reparam
from vfe_fast.bench.train import numpy_train as train

__all__ = [
    "ais",
    "cumulants",
    "exact_ising",
    "exact_rbm",
    "flat_histogram",
    "free_energy",
    "gaussian_gibbs",
    "gibbs",
    "hamiltonian",
    "reparam",
    "train",
]
