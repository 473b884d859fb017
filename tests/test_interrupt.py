"""Signals, forks and threads: a long kernel stops at Ctrl-C, and the package keeps out of everybody's way."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_rbm

PROMISED = 0.2  # seconds to stop, on a machine that is not busy
TOLERATED = 1.0  # on one that is

# Each would run for minutes at least. What comes before is done before "ready" is printed.
LONG_CALLS = {
    "gibbs": """
        rbm, v = make(784, 500), states(512, 784)
        call = lambda: vf.gibbs(rbm, v, 10**6, rng=0, num_threads=N)
    """,
    "gibbs, one chain": """
        rbm, v = make(784, 500), states(1, 784)
        call = lambda: vf.gibbs(rbm, v, 10**8, rng=0, num_threads=N)
    """,
    "chains of a contrast": """
        rbm = make(200, 200)
        data = vf._core.pack_states(np.zeros((64, 200), np.uint8), 200, "data")
        call = lambda: vf._core.contrast(
            *rbm.parameters, data, None, n_steps=10**6, seed=0, step_offset=0, num_threads=N
        )
    """,
    "GibbsChains": """
        chains = vf.GibbsChains(make(784, 500), 512, rng=0, num_threads=N)
        call = lambda: chains.step(10**6)
    """,
    "exact": """
        rbm = make(784, 40)
        call = lambda: vf.free_energy.exact(rbm, max_seconds=1e99, num_threads=N)
    """,
    "exact with moments": """
        rbm = make(784, 40)
        call = lambda: vf.free_energy.exact(rbm, moments=True, max_seconds=1e99, num_threads=N)
    """,
    "exact, visible layer smaller": """
        rbm = make(45, 300)
        call = lambda: vf.free_energy.exact(rbm, moments=True, max_seconds=1e99, num_threads=N)
    """,
    "exact, Ising": """
        rng = np.random.default_rng(0)
        upper = np.triu(0.02 * rng.normal(size=(33, 33)), 1)
        ising = vf.Ising(upper + upper.T, rng.normal(size=33))
        call = lambda: [vf.free_energy.exact(ising, moments=True, num_threads=N) for _ in range(100)]
    """,
    "ais": """
        rbm = make(784, 500)
        call = lambda: vf.free_energy.ais(rbm, 10**6, 128, num_threads=N)
    """,
    "Hamiltonian dynamics": """
        rbm = make(784, 500)
        normal = vf.GaussianRBM(*(p.astype(float) for p in rbm.parameters), np.ones(784))
        call = lambda: vf.sampling.hmc(normal, np.zeros((64, 784)), 10**6, step_size=0.01, num_threads=N)
    """,
    "free_energy": """
        rbm, v = make(16, 200_000), states(300_000, 16)
        call = lambda: rbm.free_energy(v, num_threads=N)
    """,
}

CHILD = """
import time
import numpy as np
import vfe_fast as vf

N = {num_threads}

def make(n_visible, n_hidden):
    rng = np.random.default_rng(0)
    draw = lambda *shape: (0.05 * rng.standard_normal(shape) + 0.01).astype(np.float32)
    return vf.BernoulliRBM(draw(n_visible, n_hidden), draw(n_visible), draw(n_hidden))

def states(*shape):
    return np.random.default_rng(1).integers(0, 2, size=shape, dtype=np.uint8)

{setup}

begin = time.monotonic()
print("ready", flush=True)
try:
    call()
    print("finished", time.monotonic() - begin)
except KeyboardInterrupt:
    print("interrupted", time.monotonic())
small = vf.BernoulliRBM([[1.0, -2.0], [0.5, 0.25], [0.0, 1.0]], [0.1, 0.2, 0.3], [-1.0, 1.0])
print(vf.free_energy.exact(small).log_z.hex(), vf.gibbs(small, [[1, 0, 1]] * 40, 9, rng=3)[0].sum())
"""


def environment() -> dict[str, str]:
    """Of a process without threads of NumPy's BLAS, which take signals and run where they like."""
    alone = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(vf.__file__).parents[1])}
    return {**os.environ, **alone}


def outcome(code: str, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a process of its own; warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("label", LONG_CALLS)
def test_ctrl_c_stops_a_long_kernel(label: str, num_threads: int) -> None:
    code = CHILD.format(num_threads=num_threads, setup=textwrap.dedent(LONG_CALLS[label]))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.35)
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        try:
            output, errors = child.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            raise
    assert errors == ""
    how, when = output.splitlines()[0].split()
    assert how == "interrupted"
    seconds = float(when) - sent
    print(f"{label}, {num_threads} threads: stopped in {seconds:.3f} s (promised: {PROMISED} s)")
    assert seconds < TOLERATED
    # The next calls work, and give what they always give.
    small = vf.BernoulliRBM([[1.0, -2.0], [0.5, 0.25], [0.0, 1.0]], [0.1, 0.2, 0.3], [-1.0, 1.0])
    sample = vf.gibbs(small, [[1, 0, 1]] * 40, 9, rng=3)[0]
    assert output.splitlines()[1] == f"{vf.free_energy.exact(small).log_z.hex()} {sample.sum()}"


@pytest.mark.parametrize("num_threads", [1, 2])
def test_any_signal_handler_may_end_a_call(num_threads: int) -> None:
    """The handler runs during the call; what it raises comes out; the chains are as before."""

    class TooLateError(Exception):
        pass

    def handler(number: int, frame: object) -> None:
        raise TooLateError

    chains = vf.GibbsChains(random_rbm(200, 100, scale=0.05), 300, rng=0, num_threads=num_threads)
    chains.step(2)
    before = chains.state
    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(TooLateError):
            chains.step(10**7)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert chains.state is before
    assert chains.n_steps == 2


def test_a_handler_that_raises_nothing_ends_nothing() -> None:
    rbm = random_rbm(100, 60, scale=0.1)
    v = np.zeros((64, 100), dtype=np.uint8)
    expected = vf.gibbs(rbm, v, 3000, rng=0)[0]
    ticks: list[int] = []
    old = signal.signal(signal.SIGALRM, lambda number, frame: ticks.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        found = vf.gibbs(rbm, v, 3000, rng=0)[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert ticks
    np.testing.assert_array_equal(found, expected)


def test_fork_after_a_threaded_call() -> None:
    """Helpers that wait for the next call are sent home, and the child does not look for them."""
    code = """
    import multiprocessing
    import numpy as np
    import vfe_fast as vf

    rng = np.random.default_rng(0)
    rbm = vf.BernoulliRBM(0.1 * rng.normal(size=(100, 80)), rng.normal(size=100), rng.normal(size=80))
    v = rng.integers(0, 2, size=(2000, 100), dtype=np.uint8)

    def work(seed):
        a, h = vf.gibbs(rbm, v, 20, rng=seed, num_threads=4)
        return a.sum(), h.sum(), rbm.free_energy(a, num_threads=4).sum()

    if __name__ == "__main__":
        expected = [work(seed) for seed in range(4)]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(work, range(4)) == expected
        assert [work(seed) for seed in range(4)] == expected
        print("same")
    """
    assert outcome(code) == (0, "same\n", "")


@pytest.mark.parametrize("seconds", [0, 0.005])
def test_fork_while_helpers_wait(seconds: float) -> None:
    """A child that took the helpers of its parent for its own would wait for ever; asleep ones, too."""
    code = """
    import os
    import sys
    import time
    import vfe_fast as vf

    draw = vf.random.normal
    expected = draw(100_000, rng=0, num_threads=2).sum()
    for _ in range(60):
        draw(100_000, rng=0, num_threads=2)
        time.sleep(float(sys.argv[1]))
        child = os.fork()
        found = draw(100_000, rng=0, num_threads=2).sum()
        if child == 0:
            os._exit(int(found != expected))
        assert os.waitpid(child, 0)[1] == 0 and found == expected
    """
    assert outcome(code, str(seconds)) == (0, "", "")


def test_helpers_that_have_not_begun() -> None:
    """On one processor callers are often through before them: they must not begin on what is gone by then."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs sched_setaffinity")
    code = """
    import os
    import pathlib
    import time
    import numpy as np
    import vfe_fast as vf

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    tasks = pathlib.Path("/proc/self/task")
    before = len(list(tasks.iterdir())) if tasks.is_dir() else 0
    mu = np.random.default_rng(1).normal(size=(100, 50)).astype(np.float32)
    expected = [vf.reparameterize(mu, mu, 20, rng=k, num_threads=1).log_q for k in range(5)]
    for k in range(500):
        found = vf.reparameterize(mu, mu, 20, rng=k % 5, num_threads=8).log_q
        assert np.array_equal(found, expected[k % 5])
    deadline = time.monotonic() + 5
    while tasks.is_dir() and len(list(tasks.iterdir())) > before:
        assert time.monotonic() < deadline
    """
    assert outcome(code) == (0, "", "")


def test_a_call_leaves_no_thread_behind() -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("no /proc here")
    code = """
    import os
    import threading
    import time
    import numpy as np
    import vfe_fast as vf

    rng = np.random.default_rng(0)
    rbm = vf.BernoulliRBM(0.1 * rng.normal(size=(100, 80)), rng.normal(size=100), rng.normal(size=80))
    before = len(os.listdir("/proc/self/task"))
    most, done = before, threading.Event()

    def watch():
        global most
        while not done.is_set():
            most = max(most, len(os.listdir("/proc/self/task")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    vf.gibbs(rbm, np.zeros((2000, 100), dtype=np.uint8), 300, rng=0, num_threads=4)
    done.set()
    watcher.join()
    assert most > before + 1  # besides the watcher: the call did use threads
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    """
    assert outcome(code) == (0, "", "")


@pytest.mark.parametrize("seconds", [0, 0.01])
def test_blocked_signals_do_not_come_to_helpers(seconds: float) -> None:
    """They would end the process, or interrupt what must not be interrupted."""
    if not hasattr(signal, "pthread_sigmask"):
        pytest.skip("needs signal.pthread_sigmask")
    code = """
    import os
    import signal
    import sys
    import time
    import vfe_fast as vf

    for _ in range(5):
        vf.random.normal(1_000_000, rng=1, num_threads=2)
        time.sleep(float(sys.argv[1]))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGINT})
        for number in (signal.SIGUSR1, signal.SIGINT):
            os.kill(os.getpid(), number)
            assert number in signal.sigpending()
            assert signal.sigwait({number}) == number
    """
    assert outcome(code, str(seconds)) == (0, "", "")


def test_a_fork_ends_helpers_first() -> None:
    """Python 3.12 warns of forks of a process that has threads, by the number that the system counts."""
    if not Path("/proc/self/stat").is_file():
        pytest.skip("no /proc here")
    code = """
    import os
    import time
    import vfe_fast as vf

    for _ in range(20):
        vf.random.normal(1_000_000, rng=1, num_threads=3)
        time.sleep(0.005)
        child = os.fork()
        if child == 0:
            os._exit(0)
        with open("/proc/self/stat") as file:
            n_threads = file.read().rpartition(")")[2].split()[17]
        assert n_threads == "1", n_threads
        os.waitpid(child, 0)
    """
    assert outcome(code) == (0, "", "")


def test_helpers_go_where_their_caller_may() -> None:
    """Also one that fell asleep before its caller was bound to one processor."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs sched_setaffinity and two processors")
    code = """
    import os
    import time
    import vfe_fast as vf

    processors = os.sched_getaffinity(0)
    for _ in range(10):
        os.sched_setaffinity(0, processors)
        vf.random.normal(1_000_000, rng=1, num_threads=2)
        time.sleep(0.01)
        os.sched_setaffinity(0, {min(processors)})
        vf.random.normal(8_000_000, rng=1, num_threads=2)
        for task in os.listdir("/proc/self/task"):
            assert os.sched_getaffinity(int(task)) == {min(processors)}
    """
    assert outcome(code) == (0, "", "")


@pytest.mark.parametrize("seconds", [0, 0.002])
def test_helpers_round_as_their_caller_does(seconds: float) -> None:
    """Those that have waited or slept since a call of another mode, too: results do not depend on threads."""
    if platform.machine() != "x86_64" or not sys.platform.startswith("linux"):
        pytest.skip("the number of the mode is that of Linux on x86")
    libm, upward, to_nearest = ctypes.CDLL("libm.so.6"), 0x800, 0

    def draw(num_threads: int) -> np.ndarray:
        return vf.random.normal(100_000, rng=1, num_threads=num_threads)

    nearest, found = draw(1), []
    for _ in range(50):
        draw(2)
        time.sleep(seconds)
        libm.fesetround(upward)  # if at once: the helper waits awake for 0.1 ms
        found.append(draw(2))
        alone = draw(1)
        libm.fesetround(to_nearest)
    for x in found:
        np.testing.assert_array_equal(x, alone)
    assert (nearest != alone).any()
    np.testing.assert_array_equal(draw(2), nearest)


def test_helpers_that_sleep_are_woken() -> None:
    """Calls that come every few milliseconds, as those of training do, start no thread each."""
    if not Path("/proc/self/task").is_dir() or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs /proc and two processors")
    code = """
    import os
    import time
    import vfe_fast as vf

    before, seen = set(os.listdir("/proc/self/task")), set()
    for _ in range(30):
        vf.random.normal(1_000_000, rng=1, num_threads=2)
        time.sleep(0.005)
        seen |= set(os.listdir("/proc/self/task"))
    print(0 < len(seen - before) < 10)  # one, unless others hold it up
    """
    assert outcome(code) == (0, "True\n", "")


def test_concurrent_calls() -> None:
    """Kernels release the interpreter lock, and share nothing."""
    models = [random_rbm(60 + k, 11, scale=0.2, seed=k) for k in range(4)]
    inputs = [np.random.default_rng(k).integers(0, 2, size=(500, 60 + k), dtype=np.uint8) for k in range(4)]

    def work(k: int) -> list[bytes]:
        rbm, v = models[k % 4], inputs[k % 4]
        exact = vf.free_energy.exact(rbm, moments=True, num_threads=1 + k % 3)
        assert exact.moments is not None
        return [
            rbm.free_energy(v, num_threads=1 + k % 3).tobytes(),
            rbm.mean_hidden(v, num_threads=2).tobytes(),
            vf.gibbs(rbm, v, 20, rng=k % 4, num_threads=1 + k % 2)[0].tobytes(),
            exact.moments.visible_hidden.tobytes(),
            vf.random.uniform(10_001, rng=k % 4, num_threads=2).tobytes(),
        ]

    expected = [work(k) for k in range(4)]
    with ThreadPoolExecutor(8) as pool:
        for k, found in enumerate(pool.map(work, range(48))):
            assert found == expected[k % 4]


def test_concurrent_use_of_one_model() -> None:
    """Parameters are replaced all at once: a reader sees the old or the new, never a mixture."""
    first, second = random_rbm(30, 20, seed=1), random_rbm(30, 20, seed=2)
    v = np.random.default_rng(0).integers(0, 2, size=(50, 30), dtype=np.uint8)
    allowed = {first.free_energy(v).tobytes(), second.free_energy(v).tobytes()}
    shared = vf.BernoulliRBM(*first.parameters)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            shared.set_parameters(*second.parameters)
            shared.set_parameters(*first.parameters)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = {shared.free_energy(v).tobytes() for _ in range(1000)}
    finally:
        stop.set()
        writer.join()
    assert found <= allowed


def test_errors_do_not_cross_threads() -> None:
    rbm = random_rbm(6, 4)
    good, bad = np.ones((3, 6), dtype=np.uint8), np.full((3, 6), 2, dtype=np.uint8)

    def work(k: int) -> str:
        try:
            return str(rbm.free_energy(bad if k % 2 else good).shape)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        for k, found in enumerate(pool.map(work, range(200))):
            assert (found.startswith("v: ")) if k % 2 else (found == "(3,)")


DAEMON = """
import threading, time
import numpy as np
import vfe_fast as vf

rbm = vf.BernoulliRBM(np.full((784, 500), 0.01), np.zeros(784), np.zeros(500))
v = np.zeros((64, 784), np.uint8)
threading.Thread(target=lambda: vf.gibbs(rbm, v, 10**7, rng=0), daemon=True).start()
time.sleep(0.3)
"""


def test_exit_while_another_thread_is_in_a_kernel():
    """Only the main thread asks Python for signals, so a daemon thread never waits for a finished one."""
    result = subprocess.run(
        [sys.executable, "-c", DAEMON], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_signal_handlers_may_call_kernels() -> None:
    """And Ctrl-C is heard afterwards."""
    code = """
import os, signal, threading, time
import vfe_fast as vf
from conftest import random_rbm

chains = vf.GibbsChains(random_rbm(784, 500, scale=0.05), 512, rng=0)
signal.signal(signal.SIGALRM, lambda *_: chains.rbm.free_energy(chains.visible[:3]))
signal.setitimer(signal.ITIMER_REAL, 0.3)
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
begin = time.perf_counter()
try:
    chains.step(10**6)
except KeyboardInterrupt:
    print(time.perf_counter() - begin < 3.0)
"""
    paths = [os.path.dirname(os.path.dirname(vf.__file__)), os.path.dirname(__file__)]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "True\n", done.stderr
