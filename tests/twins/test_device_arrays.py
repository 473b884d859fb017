"""Arrays that stay on a device: in, out, and to other libraries."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import cuda_on_host, random_parameters
from vfe_fast import _core
from vfe_fast.device import DeviceArray


@pytest.mark.parametrize("dtype", ["u1", "i1", "?", "i2", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 64), (3, 65), (40, 200)])
def test_states_of_a_device(both: Any, dtype: Any, shape: tuple[int, int]) -> None:
    """Packed on the device, drawn there, unpacked there."""
    states = np.random.default_rng(3).integers(0, 2, shape).astype(dtype)
    rbm = vf.BernoulliRBM(*random_parameters(shape[1], 7))
    cpu, cuda = both(lambda device: vf.gibbs(rbm, states if device == "cpu" else DeviceArray(states), rng=1))
    for here, there in zip(cpu, cuda, strict=True):
        assert isinstance(there, DeviceArray)
        assert there.shape == here.shape
        assert there.dtype == np.uint8
        assert np.array_equal(here, there.numpy())


@pytest.mark.parametrize("value", [2, -1, 0.5, np.nan])
def test_states_that_are_none(both: Any, value: float) -> None:
    states = np.zeros((40, 70), np.float64)
    states[33, 66] = value
    rbm = vf.BernoulliRBM(*random_parameters(70, 7))
    with pytest.raises(ValueError, match="v0: expected states of 0s and 1s"):
        both(lambda device: device == "cpu" or vf.gibbs(rbm, DeviceArray(states)))


def test_another_library_takes_and_gives(both: Any) -> None:
    """NumPy's own consumer refuses a device; the protocol is that of torch, CuPy and JAX."""
    x = np.arange(12.0).reshape(3, 4)

    def exchange(device: str) -> Any:
        if device == "cpu":
            return x
        ours = DeviceArray(x)
        assert ours.__dlpack_device__() == (2, 0)
        borrowed = DeviceArray.of(_core.borrow_device_array(ours.__dlpack__(stream=1)))
        del ours
        gc.collect()
        assert borrowed.shape == (3, 4)
        assert len(borrowed) == 3
        unused = borrowed.__dlpack__(stream=None)
        del unused  # frees what it held
        with pytest.raises(BufferError, match="copy"):
            borrowed.__dlpack__(copy=True)
        return borrowed.numpy()

    cpu, cuda = both(exchange)
    assert np.array_equal(cpu, cuda)


class Foreign:
    """Another library's array, its own consumer of DLPack."""

    def __init__(self, of: Any) -> None:
        assert of.__dlpack_device__() == (2, 0)
        self.taken = DeviceArray.of(_core.borrow_device_array(of.__dlpack__(stream=1)))

    def __array_namespace__(self) -> Any:
        return SimpleNamespace(from_dlpack=Foreign)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.taken.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        assert options == {"stream": 1}
        return self.taken.__dlpack__(**options)


def test_results_are_of_the_callers_kind(both: Any) -> None:
    """In a row the arrays of another library pass from kernel to kernel."""
    rbm = vf.BernoulliRBM(*random_parameters(12, 7, dtype=np.float32))
    states = np.random.default_rng(3).integers(0, 2, (40, 12)).astype(np.float32)

    def run(device: str) -> list[np.ndarray]:
        move: Any = np.asarray if device == "cpu" else lambda x: Foreign(DeviceArray(x))
        v, _ = vf.gibbs(rbm, move(states), 2, rng=1)
        energies, means = rbm.free_energy(v), rbm.mean_hidden(v)
        k = vf.cumulants(energies, 4)
        z = vf.reparameterize(means, means, 2, rng=3)
        grad_mu, grad_log_var = z.backward(grad_sample=z.sample, grad_kl=energies)
        found = [k.values, k.stderr, k.stderr_independent, v, energies, means, z.sample, z.kl, z.log_q]
        found += [grad_mu, grad_log_var]
        assert device == "cpu" or all(type(x) is Foreign for x in found)
        return found if device == "cpu" else [x.taken.numpy() for x in found]

    cpu, cuda = both(run)
    for here, there in zip(cpu[:3], cuda[:3], strict=True):  # cumulants, within their bound
        np.testing.assert_allclose(there, here, rtol=1e-9)
    assert all(map(np.array_equal, cpu[3:], cuda[3:]))


def test_a_device_array_stays_out_of_other_kernels(both: Any) -> None:
    def use(device: str) -> None:
        if device == "cuda":
            rbm = vf.BernoulliRBM(*random_parameters(4, 3))
            with pytest.raises(vf.TargetUnavailableError, match="expected an array in host memory"):
                vf.train(rbm, DeviceArray(np.zeros((5, 4))), n_epochs=1)
            with pytest.raises(vf.TargetUnavailableError, match="v0: expected an array in host memory"):
                vf.gibbs(rbm, DeviceArray(np.zeros((5, 4))), device="cpu")

    both(use)


def test_out_of_memory_is_an_error_and_no_more(both: Any) -> None:
    """The processor that plays a GPU has 2 GiB."""

    def fill(device: str) -> None:
        if device == "cuda":
            with pytest.raises(MemoryError, match=r"\d{14} bytes on the device"):
                vf.random.uniform(1 << 43, device=device)
            assert vf.random.uniform(3, rng=0, device=device).shape == (3,)
            vf.device.empty_cache()

    both(fill)


def test_memory_is_used_again() -> None:
    """By what fits without wasting half a block; left to itself the processor that plays a GPU keeps none."""
    code = (
        "import numpy as np; from vfe_fast.device import DeviceArray;"
        "place = lambda array: array.array.ctypes.data;"
        "first = DeviceArray(np.ones(1000)); at = place(first); del first;"
        "small, again, other = (DeviceArray(np.zeros(n)) for n in (10, 900, 900));"
        "assert place(small) != at == place(again) != place(other);"
        "assert not any(array.numpy().any() for array in (small, again, other))"
    )
    _in_a_process(code, {"VFE_CUDA_CACHE": "1"})


@pytest.mark.parametrize(("stream", "kept"), [("None", True), ("1", True), ("64", False), ("-1", False)])
def test_memory_that_another_stream_reads_is_not_used_again(stream: str, kept: bool) -> None:
    """What is kept for the next array has what was in it; a new block has the pattern of unwritten memory."""
    code = (
        "import ctypes, numpy as np; from vfe_fast.device import DeviceArray;"
        "lent = DeviceArray(np.ones(1000));"
        f"taken = _core.borrow_device_array(lent.__dlpack__(stream={stream})); del lent, taken;"
        "place = (next := DeviceArray(np.zeros(900))).array.ctypes.data;"
        "behind = ctypes.c_double.from_address(place + 8 * 950).value;"
        f"assert (behind == 1.0) == {kept}"
    )
    _in_a_process(code, {"VFE_CUDA_CACHE": "1"})


def _in_a_process(code: str, environment: dict[str, str]) -> None:
    library = os.environ.get("VFE_CUDA_ON_HOST")
    if not library:
        pytest.skip("VFE_CUDA_ON_HOST does not name the library of CUDA twins for this processor")
    code = f"import sys; from vfe_fast import _core; _core.use_cuda_library(sys.argv[1]);{code}"
    subprocess.run([sys.executable, "-c", code, library], env=os.environ | environment, check=True)


def test_another_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays, and what is kept of a model; the processor that plays a GPU says which one is in use."""
    with cuda_on_host():
        rbm, v = vf.BernoulliRBM(*random_parameters(5, 4)), np.zeros((3, 5))
        states = DeviceArray(v)
        calls = (
            lambda: vf.gibbs(rbm, states, device="cuda"),
            lambda: vf.gibbs(rbm, v, device="cuda"),
            lambda: rbm.free_energy(v, device="cuda"),
            lambda: vf.cumulants(states, 2),
            lambda: vf.reparameterize(states, states),
        )
        for call in calls:
            call()
        monkeypatch.setenv("VFE_ON_HOST_DEVICE", "1")
        for call in calls:
            with pytest.raises(ValueError, match="on CUDA device 1, which is in use, got one on device 0"):
                call()
        fresh = vf.BernoulliRBM(*random_parameters(5, 4))
        assert vf.gibbs(fresh, v, device="cuda")[0].shape == (3, 5)


def test_streams(both: Any) -> None:
    def draw(device: str) -> Any:
        if device == "cpu":
            return vf.random.normal(10, rng=1)
        with vf.device.stream(0):
            return vf.random.normal(10, rng=1, device=device).numpy()

    cpu, cuda = both(draw)
    assert np.array_equal(cpu, cuda)


def test_without_a_device() -> None:
    if not vf.show_config("dict")["cuda_problem"]:
        pytest.skip("CUDA is usable here")
    with pytest.raises(vf.TargetUnavailableError, match="device='cuda'"):
        DeviceArray(np.zeros(3))
    with pytest.raises(vf.TargetUnavailableError, match="device='cuda'"):
        vf.random.normal(3, device="cuda")


def test_every_twin_takes_the_place_of_its_kernel() -> None:
    """VFE_TARGET=cuda, for the processor that plays a GPU as use_target() after import."""
    code = (
        "import vfe_fast as vf; expected = vf.random.normal(99, rng=2).tobytes(); _core.use_target('cuda');"
        "assert vf.show_config('dict')['target'] == 'cuda';"
        "assert vf.random.normal(99, rng=2).tobytes() == expected"
    )
    _in_a_process(code, {})
