"""How results show themselves at a prompt."""

from __future__ import annotations

import numpy as np

import vfe_fast as vf
from conftest import random_rbm


def test_numbers_in_full_arrays_by_their_shapes() -> None:
    rbm = random_rbm(40, 9, seed=0)
    found = vf.free_energy.ais(rbm, 50, 20, rng=0)
    shown = repr(found)
    assert len(shown) < 1000
    assert shown.startswith(f"FreeEnergy(value={found.value!r}, log_z=")
    assert "'log_weights': <float64 (20,)>" in shown
    few = vf.cumulants(np.arange(5.0) ** 2, order=2)
    assert repr(few.values.tolist()) in repr(few)
    assert "_give_back" not in repr(few)
    compared = vf.free_energy.compare(rbm, ["exact", "tap 2"], rng=0)
    assert repr(compared) == str(compared)
    moments = vf.free_energy.exact(rbm, moments=True).moments
    assert repr(moments) == (
        f"Moments(energy={moments.energy!r}, visible=<float64 (40,)>, hidden=<float64 (9,)>, "
        "visible_hidden=<float64 (40, 9)>)"
    )
