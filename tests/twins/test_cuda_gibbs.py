"""The CUDA twin of `gibbs` against the CPU kernel, in small cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters


@pytest.fixture(params=[9, 7], ids=["matrix unit", "rows"])
def generation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute capability of the processor that plays a GPU."""
    monkeypatch.setenv("VFE_ON_HOST_CAPABILITY", str(request.param))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 70, 3), (63, 65, 5), (64, 128, 40), (150, 31, 33)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gibbs(both: Any, generation: None, shape: tuple[int, int, int], order: Any, dtype: Any) -> None:
    n_visible, n_hidden, n_chains = shape
    w, a, b = random_parameters(n_visible, n_hidden, scale=2 / np.sqrt(n_visible), dtype=dtype)
    rbm = vf.BernoulliRBM(np.asarray(w, order=order), a, b)
    v0 = np.random.default_rng(1).integers(0, 2, (n_chains, n_visible), dtype=np.uint8)
    beta = np.linspace(0.1, 1.5, n_chains)
    for offset, clamped in ((0, None), (7, v0[:1] * v0[-1:]), (2**31 + 2, 1 - v0)):
        cpu, cuda = both(
            lambda device, offset=offset, clamped=clamped: vf.gibbs(
                rbm, v0, 3, beta=beta, rng=5, clamped=clamped, chain_offset=offset, device=device
            )
        )
        assert np.array_equal(cpu[0], cuda[0])
        assert np.array_equal(cpu[1], cuda[1])


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e25])
def test_gibbs_of_extreme_weights(both: Any, generation: None, scale: float) -> None:
    rbm = vf.BernoulliRBM(*random_parameters(40, 70, scale=scale))
    v0 = np.random.default_rng(2).integers(0, 2, (20, 40), dtype=np.uint8)
    beta = np.geomspace(1e-20, 1e10, 20)
    cpu, cuda = both(lambda device: vf.gibbs(rbm, v0, 2, beta=beta, rng=1, device=device))
    assert np.array_equal(cpu[0], cuda[0])
    assert np.array_equal(cpu[1], cuda[1])


def test_persistent_chains(both: Any) -> None:
    rbm = vf.BernoulliRBM(*random_parameters(70, 20))

    def run(device: Any) -> Any:
        chains = vf.GibbsChains(rbm, 10, rng=4, device=device)
        for _ in range(3):
            chains.step(2, beta=0.7)
        visible, hidden = chains.visible, chains.hidden
        return (visible, hidden) if device == "cpu" else (visible.numpy(), hidden.numpy())

    cpu, cuda = both(run)
    assert np.array_equal(cpu[0], cuda[0])
    assert np.array_equal(cpu[1], cuda[1])


def test_real_units_have_no_twin(both: Any) -> None:
    rbm = vf.GaussianRBM(*random_parameters(3, 2))
    with pytest.raises(vf.TargetUnavailableError, match="real units"):
        both(lambda device: vf.gibbs(rbm, np.zeros((1, 3)), device=device))
