"""The CUDA twin of `exact_rbm` against the CPU kernel, in small cases."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from oracles.rbm import enumerate_float64, marginal_mpmath
from vfe_fast import _core
from vfe_fast.free_energy.enumeration import Enumeration
from vfe_fast.free_energy.ranges import sum_ranges

BOUND = 1e-12


def exact(model: Any, device: str, **options: Any) -> vf.FreeEnergy:
    return vf.free_energy.exact(model, device=device, **options)


@pytest.mark.parametrize("shape", [(1, 1), (6, 70), (7, 9), (8, 33), (9, 8), (40, 10), (13, 64), (12, 1030)])
@pytest.mark.parametrize("scale", [1e-3, 0.3, 3.0, 60.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_z(both: Any, shape: tuple[int, int], scale: float, dtype: Any) -> None:
    rbm = random_rbm(*shape, scale=scale, dtype=dtype)
    cpu, cuda = both(lambda device: exact(rbm, device, beta=0.9))
    assert cuda.log_z == pytest.approx(cpu.log_z, rel=BOUND, abs=BOUND)
    if scale < 60:  # at the end of the range another cut in low and high bits may decide otherwise
        assert cuda.details["product_form"] == cpu.details["product_form"]


@pytest.mark.parametrize("shape", [(7, 9), (9, 8)])
@pytest.mark.parametrize("scale", [1e-3, 3.0, 60.0, 2000.0])
def test_log_z_against_mpmath(both: Any, shape: tuple[int, int], scale: float) -> None:
    rbm = random_rbm(*shape, scale=scale)
    _, cuda = both(lambda device: exact(rbm, device))
    expected = float(marginal_mpmath(*rbm.parameters).log_z)
    assert cuda.log_z == pytest.approx(expected, rel=BOUND, abs=BOUND)


@pytest.mark.parametrize("shape", [(9, 9), (10, 200), (300, 11)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 5.0, 500.0])
def test_float32_products(both: Any, shape: tuple[int, int], scale: float) -> None:
    rbm = random_rbm(*shape, scale=scale)
    cpu, cuda = both(lambda device: exact(rbm, device, precision="single"))
    assert cuda.details["precision"] == cpu.details["precision"]
    bound = 3e-6 if cuda.details["precision"] == "single" else BOUND
    assert cuda.log_z == pytest.approx(exact(rbm, "cpu").log_z, rel=bound, abs=bound)


def test_ranges(both: Any) -> None:
    """Rows do not depend on how many are asked for at once, and each is that of the CPU."""
    rbm = random_rbm(14, 1024, scale=0.1)
    n_ranges = _core.exact_rbm_ranges(14, 1024)
    assert n_ranges == 4

    def rows(device: str) -> Any:
        task = Enumeration(rbm.parameters, 1.0, cuda=device == "cuda")
        all_rows = task.rows(0, n_ranges, 1)
        parts = [task.rows(0, 1, 1), task.rows(1, 2, 1), task.rows(3, 1, 1), task.rows(2, 0, 1)]
        assert np.array_equal(all_rows, np.concatenate(parts))
        return all_rows

    cpu, cuda = both(rows)
    assert cuda[:, 0] * math.log(2) + np.log(cuda[:, 1]) == pytest.approx(
        cpu[:, 0] * math.log(2) + np.log(cpu[:, 1]), rel=BOUND
    )


def test_same_bits_twice(both: Any) -> None:
    rbm = random_rbm(13, 40)
    assert (
        both(lambda device: exact(rbm, "cuda").log_z)[0] == both(lambda device: exact(rbm, device).log_z)[1]
    )


@pytest.mark.parametrize("products", [True, False])
@pytest.mark.parametrize("order", ["first", "last"])
def test_dominant_states(both: Any, products: bool, order: str) -> None:
    """One state outweighs all others by far, in the first or the last tile."""
    w, a, b = random_parameters(13, 16, scale=0.1)
    a[:] = -200.0 if order == "first" else 200.0
    task = Enumeration((w, a, b), 1.0, products="double" if products else "none")
    cpu, cuda = both(
        lambda device: sum_ranges(Enumeration((w, a, b), 1.0, products=task.products, cuda=device == "cuda"))
    )
    assert cuda[0] * math.log(2) + math.log(cuda[1]) == pytest.approx(
        cpu[0] * math.log(2) + math.log(cpu[1]), rel=BOUND, abs=BOUND
    )


def test_exponents_taken_out(both: Any) -> None:
    """Products of many units far beyond the range of float64."""
    rbm = random_rbm(9, 900, scale=3.0)
    cpu, cuda = both(lambda device: exact(rbm, device))
    assert cpu.log_z > 5e3
    assert cuda.log_z == pytest.approx(cpu.log_z, rel=BOUND)


@pytest.mark.parametrize("size", [1e13, 1e30, 1e250])
def test_biases_of_any_size(both: Any, size: float) -> None:
    w, a, b = random_parameters(8, 9)
    w[0, 0] = size
    rbm = vf.BernoulliRBM(w, a, b)
    cpu, cuda = both(lambda device: exact(rbm, device))
    assert cuda.log_z == pytest.approx(cpu.log_z, rel=BOUND)


def test_spin_rbm(both: Any) -> None:
    rbm = vf.SpinRBM(*random_parameters(9, 12, scale=0.4))
    cpu, cuda = both(lambda device: exact(rbm, device, beta=[0.5, 1.0]))
    for of_cpu, of_cuda in zip(cpu, cuda, strict=True):
        assert of_cuda.log_z == pytest.approx(of_cpu.log_z, rel=BOUND)


def test_checkpoint_belongs_to_a_device(both: Any, tmp_path: Path) -> None:
    rbm = random_rbm(12, 9)
    path = tmp_path / "sum.npz"
    expected, found = both(lambda device: exact(rbm, device, checkpoint=tmp_path / device))
    assert found.log_z == pytest.approx(expected.log_z, rel=BOUND)

    def crosswise(device: str) -> None:
        if device == "cuda":
            with pytest.raises(ValueError, match="belongs to another"):
                exact(rbm, device, checkpoint=path)
        else:
            exact(rbm, device, checkpoint=path)

    both(crosswise)


def test_device_is_checked() -> None:
    with pytest.raises(ValueError, match="device: expected"):
        exact(random_rbm(2, 2), "gpu")


@pytest.mark.parametrize("shape", [(1, 1), (3, 20), (6, 5), (7, 9), (40, 10), (13, 33), (12, 70)])
@pytest.mark.parametrize("scale", [1e-3, 0.5, 5.0, 60.0])
def test_moments(both: Any, shape: tuple[int, int], scale: float) -> None:
    rbm = random_rbm(*shape, scale=scale)
    cpu, cuda = both(lambda device: exact(rbm, device, beta=0.8, moments=True))
    assert cuda.log_z == pytest.approx(cpu.log_z, rel=BOUND, abs=BOUND)
    if scale < 60:  # at the end of the range another cut in low and high bits may decide otherwise
        assert cuda.details["product_form"] == cpu.details["product_form"]
    for name in ("visible", "hidden", "visible_hidden"):
        expected = getattr(cpu.moments, name)
        assert getattr(cuda.moments, name) == pytest.approx(expected, rel=2 * BOUND, abs=1e-150)


@pytest.mark.parametrize("shape", [(6, 9), (12, 10)])
@pytest.mark.parametrize("products", ["double", "none"])
def test_moments_against_brute_force(both: Any, shape: tuple[int, int], products: str) -> None:
    parameters = random_parameters(*shape)
    expected = enumerate_float64(*parameters, 0.7)

    def found(device: str) -> Any:
        task = Enumeration(parameters, 0.7, "moments", products=products, cuda=device == "cuda")
        return task.moments_of(sum_ranges(task), None)

    _, cuda = both(lambda device: (found(device), found(device).energy_variance))
    for name in ("visible", "hidden", "visible_hidden"):
        assert getattr(cuda[0], name) == pytest.approx(getattr(expected, name), rel=BOUND)
    energy = vf.free_energy.exact(vf.BernoulliRBM(*parameters), beta=0.7, moments=True).moments
    assert cuda[1] == pytest.approx(energy.energy_variance, rel=BOUND)


def test_moments_of_ranges(both: Any) -> None:
    """Bits below, in and above the tiles and the ranges."""
    rbm = random_rbm(14, 1024, scale=0.05)
    cpu, cuda = both(
        lambda device: Enumeration(rbm.parameters, 1.0, "moments", cuda=device == "cuda").rows(2, 1, 1)
    )
    scale = np.exp2(cuda[:, :1] - cpu[:, :1])
    assert cuda[:, 1:] * scale == pytest.approx(cpu[:, 1:], rel=BOUND)


@pytest.mark.parametrize("shape", [(3, 9), (9, 13), (60, 10)])
@pytest.mark.parametrize("scale", [0.02, 2.0, 400.0])
def test_energy_variance(both: Any, shape: tuple[int, int], scale: float) -> None:
    rbm = random_rbm(*shape, scale=scale)
    energy = exact(rbm, "cpu", moments=True).moments.energy
    cpu, cuda = both(
        lambda device: sum_ranges(
            Enumeration(rbm.parameters, 1.0, "variance", energy=energy, cuda=device == "cuda")
        )
    )
    assert cuda[2] / cuda[1] == pytest.approx(cpu[2] / cpu[1], rel=1e-11, abs=1e-24 * energy**2)
