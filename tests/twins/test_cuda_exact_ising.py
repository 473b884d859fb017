"""The CUDA twin of `exact_ising` against NumPy's matrix products, in small cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from oracles.ising import enumerate_ising
from vfe_fast.free_energy import triangle

BOUND = 1e-12


def random_ising(n: int, scale: float = 1.0, dtype: Any = np.float64) -> vf.Ising:
    rng = np.random.default_rng(n)
    upper = np.triu(scale * (rng.normal(size=(n, n)) + 0.2), 1).astype(dtype)
    return vf.Ising(upper + upper.T, (scale * (rng.normal(size=n) - 0.3)).astype(dtype))


def assert_agree(cpu: vf.FreeEnergy, cuda: vf.FreeEnergy, size: float) -> None:
    assert cuda.log_z == pytest.approx(cpu.log_z, rel=BOUND, abs=BOUND)
    np.testing.assert_allclose(cuda.moments.spins, cpu.moments.spins, atol=BOUND)
    np.testing.assert_allclose(cuda.moments.spin_spin, cpu.moments.spin_spin, atol=BOUND)
    assert cuda.moments.energy == pytest.approx(cpu.moments.energy, abs=BOUND * size)
    assert cuda.moments.energy_variance == pytest.approx(
        cpu.moments.energy_variance, rel=1e-10, abs=BOUND * size**2
    )


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10, 12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_brute_force(both: Any, n: int, dtype: Any) -> None:
    model = random_ising(n, dtype=dtype)
    size = triangle.energy_bound(model.couplings, model.fields)
    cpu, cuda = both(lambda device: vf.free_energy.exact(model, beta=0.9, moments=True, device=device))
    assert_agree(cpu, cuda, size)
    expected = enumerate_ising(model.couplings, model.fields, 0.9)
    assert cuda.log_z == pytest.approx(expected.log_z, rel=BOUND, abs=BOUND)
    np.testing.assert_allclose(cuda.moments.spin_spin, expected.spin_spin, atol=BOUND)
    assert cuda.moments.energy_variance == pytest.approx(expected.energy_variance, rel=1e-10, abs=BOUND)


# Groups of 6, 5, 5 spins; of 7: a whole tile; of 8, 7, 7: two by one, and the reduction over two.
@pytest.mark.parametrize("n", [16, 21, 22])
def test_tiles(both: Any, n: int) -> None:
    model = random_ising(n, 0.4)
    size = triangle.energy_bound(model.couplings, model.fields)
    assert_agree(*both(lambda device: vf.free_energy.exact(model, moments=True, device=device)), size)


@pytest.mark.parametrize("rows", [1, 64, 128])
def test_ranges(both: Any, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of parts of a tile, or whole ones, with a checkpoint; the same bits each time."""
    n = 22 if rows > 1 else 9
    monkeypatch.setattr(triangle, "_MOST_ROWS", rows)
    model = random_ising(n, 0.3)

    def run(device: Any) -> Any:
        path = tmp_path / f"{device}.npz"
        found = vf.free_energy.exact(model, moments=True, checkpoint=path, device=device)
        if device == "cuda" and n < 10:
            again = vf.free_energy.exact(model, moments=True, device=device)
            assert again.log_z == found.log_z
            assert again.moments.spin_spin.tobytes() == found.moments.spin_spin.tobytes()
        return found

    cpu, cuda = both(run)
    assert cuda.log_z == pytest.approx(cpu.log_z, rel=BOUND)
    np.testing.assert_allclose(cuda.moments.spins, cpu.moments.spins, atol=BOUND)
    np.testing.assert_allclose(cuda.moments.spin_spin, cpu.moments.spin_spin, atol=BOUND)


@pytest.mark.parametrize("scale", [1e-3, 3.0, 60.0, 2000.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_couplings_of_any_size(both: Any, scale: float, sign: float) -> None:
    """Beyond the range of products the CPU sums with exponentials, whatever the device."""
    upper = np.triu(np.random.default_rng(3).normal(size=(8, 8)), 1)
    model = vf.Ising(sign * scale * (upper + upper.T), sign * scale * np.linspace(-1, 2, 8))
    size = triangle.energy_bound(model.couplings, model.fields)
    cpu, cuda = both(lambda device: vf.free_energy.exact(model, moments=True, device=device))
    assert cuda.details["product_form"] == (size <= 300)
    assert_agree(cpu, cuda, size)


def test_large_fields_and_other_models(both: Any) -> None:
    couplings, fields = np.zeros((3, 3)), np.array([1e6, -1e17, 0.3])
    cpu, cuda = both(lambda device: vf.free_energy.exact(vf.Ising(couplings, fields), device=device))
    assert cuda.log_z == pytest.approx(cpu.log_z, rel=BOUND)
    rng = np.random.default_rng(4)
    rbm = vf.GaussianRBM(0.3 * rng.normal(size=(4, 9)), rng.normal(size=4), rng.normal(size=9))
    cpu, cuda = both(lambda device: vf.free_energy.exact(rbm, beta=[0.5, 1.0], device=device))
    assert [F.log_z for F in cuda] == pytest.approx([F.log_z for F in cpu], rel=BOUND)
    free = vf.Ising(np.zeros((9, 9)))
    assert both(lambda device: vf.free_energy.exact(free, device=device))[1].log_z == pytest.approx(
        9 * np.log(2)
    )


def test_limits(both: Any) -> None:
    """Tables take less memory than matrices, so there may be more spins; none of this is computed."""
    for n, device, message in (
        (46, "cpu", "at most 45"),
        (52, "cuda", "at most 51"),
        (50, "cuda", "would take"),
    ):
        with pytest.raises(ValueError, match=f"^model: .*{message}"):
            vf.free_energy.exact(vf.Ising(np.zeros((n, n))), device=device, max_seconds=1.0)  # type: ignore[call-overload]
