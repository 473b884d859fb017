"""Sums over states that travel, stop and go on: always the same bits."""

from __future__ import annotations

import importlib.util
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from vfe_fast import _core
from vfe_fast.free_energy.ranges import sum_ranges

SPAWN = multiprocessing.get_context("spawn")
SHAPE = (150, 18)  # 8 ranges


def bits(result: vf.free_energy.FreeEnergy) -> tuple[Any, ...]:
    moments = result.moments
    assert moments is not None
    return result.log_z, moments.energy, moments.visible_hidden.tobytes(), moments.visible.tobytes()


@pytest.fixture(scope="module")
def rbm() -> vf.BernoulliRBM:
    assert _core.exact_rbm_ranges(SHAPE[1], SHAPE[0]) == 8
    return random_rbm(*SHAPE, scale=0.2)


@pytest.fixture(scope="module")
def expected(rbm: vf.BernoulliRBM) -> tuple[Any, ...]:
    return bits(vf.free_energy.exact(rbm, moments=True, num_threads=1))


def test_same_bits_in_a_process_pool(rbm: vf.BernoulliRBM, expected: tuple[Any, ...]) -> None:
    with ProcessPoolExecutor(2, mp_context=SPAWN) as executor:
        assert bits(vf.free_energy.exact(rbm, moments=True, executor=executor)) == expected


def test_same_bits_in_a_thread_pool(rbm: vf.BernoulliRBM, expected: tuple[Any, ...]) -> None:
    with ThreadPoolExecutor(3) as executor:
        assert bits(vf.free_energy.exact(rbm, moments=True, executor=executor)) == expected


def test_same_bits_with_dask(rbm: vf.BernoulliRBM, expected: tuple[Any, ...]) -> None:
    distributed = pytest.importorskip("distributed")
    code = """
import sys
import pickle
import vfe_fast as vf
from distributed import Client, LocalCluster

if __name__ == "__main__":
    rbm = vf.load(sys.argv[1])
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        F = vf.free_energy.exact(rbm, moments=True, executor=client.get_executor())
    with open(sys.argv[2], "wb") as file:
        pickle.dump(F, file)
"""
    assert distributed is not None
    assert run_elsewhere(rbm, [sys.executable], code) == expected


def test_a_dask_worker_that_is_killed() -> None:
    """Dask starts another one, which does the range again."""
    pytest.importorskip("distributed")
    code = """
import os
import pickle
import signal
import sys
import threading
import vfe_fast as vf
from distributed import Client, LocalCluster

if __name__ == "__main__":
    rbm = vf.load(sys.argv[1])
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        victim = cluster.workers[0].pid
        killed = threading.Event()

        def kill():
            os.kill(victim, signal.SIGKILL)
            killed.set()

        threading.Timer(0.3, kill).start()
        F = vf.free_energy.exact(rbm, moments=True, executor=client.get_executor())
        assert killed.is_set(), "it was too fast to be killed"
    with open(sys.argv[2], "wb") as file:
        pickle.dump(F, file)
"""
    big = random_rbm(500, 22, scale=0.05)
    expected = bits(vf.free_energy.exact(big, moments=True))
    assert run_elsewhere(big, [sys.executable], code) == expected


class FailingExecutor(ThreadPoolExecutor):
    """Fails each task the first `times` times that it is sent."""

    def __init__(self, times: int) -> None:
        super().__init__(2)
        self.times, self.sent = times, Counter[Any]()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.sent[args] += 1
        return super().submit(lose if self.sent[args] <= self.times else fn, *args, **kwargs)


def lose(first: int, *others: int) -> None:
    raise ValueError(f"lost {first}")


def test_a_batch_that_fails_is_sent_once_more(rbm: vf.BernoulliRBM, expected: tuple[Any, ...]) -> None:
    """distributed 2026.8 fails a future whose result was lost with its worker and found before it looked."""
    with FailingExecutor(1) as executor:
        assert bits(vf.free_energy.exact(rbm, moments=True, executor=executor)) == expected
    with FailingExecutor(2) as executor, pytest.raises(ValueError, match="lost 0"):
        vf.free_energy.exact(rbm, moments=True, executor=executor)


def test_same_bits_with_mpi(rbm: vf.BernoulliRBM, expected: tuple[Any, ...]) -> None:
    pytest.importorskip("mpi4py")
    mpiexec = shutil.which("mpiexec") or shutil.which("mpiexec", path=os.path.dirname(sys.executable))
    if mpiexec is None:
        pytest.skip("mpi4py is here, mpiexec is not")
    code = """
import sys
import pickle
import vfe_fast as vf
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        F = vf.free_energy.exact(vf.load(sys.argv[1]), moments=True, executor=executor)
    with open(sys.argv[2], "wb") as file:
        pickle.dump(F, file)
"""
    about = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, check=True).stdout
    options = ["--allow-run-as-root", "--oversubscribe"] if "Open" in about else []
    command = [mpiexec, *options, "-n", "3", sys.executable, "-m", "mpi4py.futures"]
    assert run_elsewhere(rbm, command, code) == expected


def run_elsewhere(rbm: vf.BernoulliRBM, command: list[str], code: str) -> tuple[Any, ...]:
    """The bits of what a script leaves behind."""
    import pickle
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        script, model, answer = (Path(folder) / name for name in ("script.py", "model.npz", "answer"))
        script.write_text(code)
        rbm.save(model)
        paths = [os.path.dirname(os.path.dirname(vf.__file__)), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [*command, str(script), str(model), str(answer)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return bits(pickle.loads(answer.read_bytes()))


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_a_worker_that_is_killed(rbm: vf.BernoulliRBM) -> None:
    """The pool breaks; what is left is done here, with a warning, and the answer is the same.

    The tasks fit a pipe: a pool of Python 3.11 that breaks while it writes to a full one hangs (gh-94777).
    """
    big = random_rbm(100, 22, scale=0.1)
    expected = vf.free_energy.exact(big).log_z
    with ProcessPoolExecutor(2, mp_context=SPAWN) as executor:
        assert executor.submit(os.getpid).result() > 0
        (victim, *_) = executor._processes
        killer = threading.Timer(0.01, os.kill, (victim, signal.SIGKILL))
        killer.start()
        with pytest.warns(RuntimeWarning, match="executor: it broke"):
            found = {vf.free_energy.exact(big, executor=executor).log_z for _ in range(20)}
        killer.join()
    assert found == {expected}


@dataclass(frozen=True)
class DyingSum:
    """Large rows; the worker that computes the second one dies while it sends it."""

    marker: Path
    n_ranges: int = 8
    n_states: int = 8
    row_size: int = 1 << 22
    ranges_at_once: int = 1

    def rows(self, first: int, count: int, num_threads: int) -> np.ndarray:
        if first == 1 and multiprocessing.parent_process() is not None and not self.marker.exists():
            self.marker.touch()
            writing = multiprocessing.connection.__file__
            thread = threading.main_thread().ident

            def die_while_writing() -> None:
                while (frame := sys._current_frames()[thread]).f_code.co_filename != writing:
                    pass
                del frame
                os.kill(os.getpid(), signal.SIGKILL)

            threading.Thread(target=die_while_writing, daemon=True).start()
        return np.full((count, self.row_size), float(first))

    def identity(self) -> tuple[object, ...]:
        return ()


def test_a_worker_that_is_killed_while_it_sends(tmp_path: Path) -> None:
    """Its pool waits for the rest of the result; the sum does not."""
    task = DyingSum(tmp_path / "died")
    expected = sum_ranges(task)
    warned = pytest.warns(RuntimeWarning, match="executor: it broke")
    with ProcessPoolExecutor(2, mp_context=SPAWN) as executor, warned:
        found = sum_ranges(task, executor=executor)
    assert task.marker.exists()
    np.testing.assert_array_equal(found, expected)


LONG = """
import sys
import numpy as np
import vfe_fast as vf
rng = np.random.default_rng(0)
rbm = vf.BernoulliRBM(0.1 * rng.normal(size=(600, 22)), rng.normal(size=600), rng.normal(size=22))
checkpoint = sys.argv[1] if len(sys.argv) > 1 else None
F = vf.free_energy.exact(rbm, moments=True, checkpoint=checkpoint, num_threads=1)
print(F.log_z.hex(), F.moments.energy.hex(), F.moments.visible_hidden.sum().hex())
"""


def long_run(*arguments: str) -> subprocess.Popen[str]:
    paths = [os.path.dirname(os.path.dirname(vf.__file__)), os.environ.get("PYTHONPATH", "")]
    often = "import vfe_fast.files\nvfe_fast.files._WRITE_SECONDS = 0\n"
    code = LONG.replace("import vfe_fast as vf\n", f"import vfe_fast as vf\n{often}")
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    checkpoint = tmp_path / "sum.npz"
    with long_run() as whole:
        expected, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0
    with long_run(str(checkpoint)) as child:
        give_up = time.monotonic() + 60
        while not checkpoint.exists() and time.monotonic() < give_up:
            time.sleep(0.005)
        child.send_signal(how)
        child.communicate(timeout=60)
    assert child.returncode != 0
    done = int(np.load(checkpoint)["done"])
    assert 0 < done < _core.exact_rbm_ranges(22, 600)
    with long_run(str(checkpoint)) as again:
        found, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert found == expected


def test_checkpoints_of_another_version_are_refused(
    tmp_path: Path, rbm: vf.BernoulliRBM, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sum.npz"
    vf.free_energy.exact(rbm, checkpoint=path)
    monkeypatch.setattr("vfe_fast.free_energy.ranges.version", lambda: "0.0.1")
    with pytest.raises(ValueError, match=r"^checkpoint: .*version of vfe_fast"):
        vf.free_energy.exact(rbm, checkpoint=path)


@pytest.mark.parametrize("kind", ["Ising", "SpinRBM", "GaussianRBM"])
def test_same_bits_of_all_models_from_an_executor(kind: str) -> None:
    w, a, b = random_parameters(17, 13, scale=0.3)
    model: Any = {
        "Ising": lambda: vf.Ising((w @ w.T) * (1 - np.eye(17)), a),
        "SpinRBM": lambda: vf.SpinRBM(w, a, b),
        "GaussianRBM": lambda: vf.GaussianRBM(w, a, b),
    }[kind]()
    here = vf.free_energy.exact(model, moments=True)
    with ThreadPoolExecutor(2) as executor:
        there = vf.free_energy.exact(model, moments=True, executor=executor)
    assert there.log_z == here.log_z
    assert there.moments.energy == here.moments.energy
    assert there.moments.energy_variance == here.moments.energy_variance


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sum.npz"
    w, a, b = random_parameters(9, 12)
    rbm = vf.BernoulliRBM(w, a, b)
    first = vf.free_energy.exact(rbm, checkpoint=path).log_z
    assert vf.free_energy.exact(rbm, checkpoint=path).log_z == first  # nothing left to do
    others: list[tuple[vf.BernoulliRBM, dict[str, Any]]] = [
        (vf.BernoulliRBM(w, a, b + 1e-9), {}),
        (vf.BernoulliRBM(w.T.copy(), b, a), {}),
        (rbm, {"beta": 0.5}),
        (rbm, {"moments": True}),
    ]
    for model, options in others:
        with pytest.raises(ValueError, match=r"^checkpoint: .*another model"):
            vf.free_energy.exact(model, checkpoint=path, **options)
    contents = path.read_bytes()
    for broken in (contents[:-30], b"", b"nonsense"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="checkpoint"):
            vf.free_energy.exact(rbm, checkpoint=path)
    rbm.save(path)
    with pytest.raises(ValueError, match="checkpoint"):
        vf.free_energy.exact(rbm, checkpoint=path)
    with pytest.raises(ValueError, match=r"^checkpoint: expected a single beta"):
        vf.free_energy.exact(rbm, beta=[1.0], checkpoint=path)


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rbm = random_rbm(30, 20, scale=0.2)
    expected = vf.free_energy.exact(rbm).log_z
    if importlib.util.find_spec("tqdm") is not None:
        assert vf.free_energy.exact(rbm, progress=True).log_z == expected
        assert "states/s" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert vf.free_energy.exact(rbm, progress=True).log_z == expected


def test_executor_must_be_one(rbm: vf.BernoulliRBM) -> None:
    for bad in (ThreadPoolExecutor, "pool"):
        with pytest.raises(TypeError, match=r"^executor: expected a concurrent.futures.Executor, got "):
            vf.free_energy.exact(rbm, executor=bad)
    with pytest.raises(TypeError, match=r"^progress: expected True or False, got str"):
        vf.free_energy.exact(rbm, progress="no")
    with pytest.raises(TypeError, match=r"^checkpoint: expected a path, got int"):
        vf.free_energy.exact(rbm, checkpoint=3)
    with pytest.raises(FileNotFoundError, match=r"^checkpoint: expected a file in an existing folder"):
        vf.free_energy.exact(rbm, checkpoint="no/such/folder.npz")
    with pytest.raises(TypeError, match=r"^executor: expected a concurrent.futures.Executor, got int"):
        vf.free_energy.exact(rbm, executor=2)  # type: ignore[call-overload]


def test_errors_of_workers_arrive(rbm: vf.BernoulliRBM, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> Any:
            return super().submit(lambda: 1 / 0)

    with Failing(1) as executor, pytest.raises(ZeroDivisionError):
        vf.free_energy.exact(rbm, executor=executor)


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 3), (2, 1), (1, 2)])
def test_ranges_that_are_not_there(first: int, count: int) -> None:
    with pytest.raises(ValueError, match=r"^ranges: expected a part of 0 to 2"):
        _core.exact_rbm(
            *random_parameters(16, 180),
            beta=1.0,
            what=_core.RbmSums.log_z,
            first_range=first,
            n_ranges=count,
            products=_core.RbmProducts.double,
            num_threads=1,
        )
