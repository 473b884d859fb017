"""Bad input gives an error that names the argument; odd but lawful input gives the right answer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from vfe_fast.arrays import borrow

N_VISIBLE, N_HIDDEN = 5, 3
PARAMETERS = ("weights", "visible_bias", "hidden_bias")
V = np.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 0, 1]], dtype=np.uint8)
H = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]], dtype=np.uint8)


@pytest.fixture
def rbm() -> vf.BernoulliRBM:
    return random_rbm(N_VISIBLE, N_HIDDEN)


@pytest.fixture
def deadline() -> Iterator[None]:
    """Turn a call that should have been refused, and runs for ever, into a failure."""

    def too_late(number: int, frame: Any) -> None:
        pytest.fail("still running after 2 s: the call was not refused")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


def named(error: Any, name: str) -> Any:
    """Expect an error whose message begins with the argument's name."""
    return pytest.raises(error, match=rf"^{name}: ")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = str(Path(vf.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- parameters -----------------------------------------------------------------------------------


def replaced(values: np.ndarray, value: float) -> np.ndarray:
    """Put `value` in the middle of a copy."""
    values = values.copy()
    values.flat[values.size // 2] = value
    return values


BAD_WEIGHTS = {
    "transposed": (lambda w: w.T.copy(), ValueError),
    "1-d": (lambda w: w.ravel(), ValueError),
    "3-d": (lambda w: w[None], ValueError),
    "0-d": (lambda w: w[0, 0], ValueError),
    "a row short": (lambda w: w[1:], ValueError),
    "a column long": (lambda w: np.hstack([w, w[:, :1]]), ValueError),
    "no rows": (lambda w: w[:0], ValueError),
    "ragged": (lambda w: [[1.0, 2.0, 3.0], [4.0]], (TypeError, ValueError)),
}
BAD_BIAS = {
    "2-d": (lambda b: b[None], ValueError),
    "0-d": (lambda b: b[0], ValueError),
    "ragged": (lambda b: [[1.0], [2.0, 3.0]], (TypeError, ValueError)),
}
BAD_NUMBERS = {
    "NaN": (lambda x: replaced(x, np.nan), ValueError),
    "infinity": (lambda x: replaced(x, np.inf), ValueError),
    "minus infinity": (lambda x: replaced(x, -np.inf), ValueError),
    "float16": (lambda x: x.astype(np.float16), TypeError),
    "longdouble": (lambda x: x.astype(np.longdouble), TypeError),
    "complex": (lambda x: x.astype(np.complex128), TypeError),
    "int64": (lambda x: x.astype(np.int64), TypeError),
    "bool": (lambda x: x > 0, TypeError),
    "list of bool": (lambda x: (x > 0).tolist(), TypeError),
    "list of complex": (lambda x: x.astype(np.complex128).tolist(), TypeError),
    "object": (lambda x: x.astype(object), TypeError),
    "string": (lambda x: x.astype(str), TypeError),
    "bytes": (lambda x: x.astype("S8"), TypeError),
    "datetime": (lambda x: x.astype("M8[s]"), TypeError),
    "structured": (lambda x: np.zeros(x.shape, dtype=[("re", "f8"), ("im", "f8")]), TypeError),
    "byte-swapped": (lambda x: x.astype(x.dtype.newbyteorder()), TypeError),
    "None": (lambda x: None, TypeError),
    "text": (lambda x: "text", TypeError),
    "dict": (lambda x: {"x": x}, TypeError),
    "set": (lambda x: {1.0, 2.0}, TypeError),
    "generator": (lambda x: (row for row in x), TypeError),
}
BAD_PARAMETERS = [
    pytest.param(name, change, error, id=f"{name}-{label}")
    for name in PARAMETERS
    for label, (change, error) in ((BAD_WEIGHTS if name == "weights" else BAD_BIAS) | BAD_NUMBERS).items()
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "change", "error"), BAD_PARAMETERS)
def test_bad_parameters_are_refused(name: str, change: Callable[[Any], Any], error: Any, dtype: Any) -> None:
    good = dict(zip(PARAMETERS, random_parameters(N_VISIBLE, N_HIDDEN, dtype=dtype), strict=True))
    rbm = vf.BernoulliRBM(**good)
    before = rbm.parameters
    bad = good | {name: change(good[name])}
    with named(error, name):
        vf.BernoulliRBM(**bad)
    with named(error, name):
        rbm.set_parameters(**bad)
    assert rbm.parameters is before


@pytest.mark.parametrize("name", PARAMETERS[1:])
@pytest.mark.parametrize("change", [lambda b: b[1:], lambda b: np.append(b, 0.5)], ids=["short", "long"])
def test_bias_of_the_wrong_length_is_refused(name: str, change: Callable[[Any], Any]) -> None:
    parameters = dict(zip(PARAMETERS, random_parameters(N_VISIBLE, N_HIDDEN), strict=True))
    with pytest.raises(ValueError, match=r"^(weights|visible_bias|hidden_bias): .*\(n_visible, n_hidden\)"):
        vf.BernoulliRBM(**parameters | {name: change(parameters[name])})


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_two_dtypes_are_refused(name: str) -> None:
    parameters = dict(zip(PARAMETERS, random_parameters(N_VISIBLE, N_HIDDEN), strict=True))
    parameters[name] = parameters[name].astype(np.float32)
    with pytest.raises(TypeError, match=r"^(visible_bias|hidden_bias): expected float(32|64) like weights"):
        vf.BernoulliRBM(**parameters)


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(0, 3), (5, 0), (0, 0)])
def test_empty_layers_are_refused(n_visible: int, n_hidden: int) -> None:
    with named(ValueError, "weights"):
        vf.BernoulliRBM(np.zeros((n_visible, n_hidden)), np.zeros(n_visible), np.zeros(n_hidden))
    with named(ValueError, "weights"):
        vf.BernoulliRBM(np.zeros((n_visible, n_hidden)), [0.0] * n_visible, [0.0] * n_hidden)


def test_set_parameters_keeps_the_shape(rbm: vf.BernoulliRBM) -> None:
    before = rbm.parameters
    with named(ValueError, "weights"):
        rbm.set_parameters(*random_parameters(N_VISIBLE + 1, N_HIDDEN))
    assert rbm.parameters is before


def spread_out(x: np.ndarray, filler: Any) -> np.ndarray:
    """View `x` with a filler after every element: reading without strides would meet it."""
    memory = np.full([2 * n for n in x.shape], filler, dtype=x.dtype)
    view = memory[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def backwards(x: np.ndarray) -> np.ndarray:
    """View `x` through negative strides."""
    flip = tuple(slice(None, None, -1) for _ in x.shape)
    return x[flip].copy()[flip]


def unaligned(x: np.ndarray) -> np.ndarray:
    """View `x` one byte off its natural alignment."""
    memory = np.zeros(x.nbytes + 1, dtype=np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.setflags(write=False)
    return x


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": np.array,
    "Fortran": lambda x: np.array(x, order="F"),
    "strided": lambda x: spread_out(x, 2),
    "negative strides": backwards,
    "unaligned": unaligned,
    "read-only": read_only,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_parameters_in_any_layout_are_copied(layout: str, dtype: Any) -> None:
    plain = random_parameters(N_VISIBLE, N_HIDDEN, dtype=dtype)
    given = [LAYOUTS[layout](x) for x in plain]
    rbm = vf.BernoulliRBM(*given)
    rbm.set_parameters(*given)
    for mine, theirs, expected in zip(rbm.parameters, given, plain, strict=True):
        assert mine.dtype == dtype
        assert mine.tobytes() == theirs.tobytes() == expected.tobytes()
        assert not np.shares_memory(mine, theirs)
        if theirs.flags.writeable:
            theirs[...] = np.nan
        assert mine.tobytes() == expected.tobytes()
    with pytest.raises(ValueError, match="read-only"):
        rbm.weights[0, 0] = 1.0


@pytest.mark.parametrize("kind", [list, tuple])
def test_parameters_as_nested_sequences(kind: Callable[[Any], Any]) -> None:
    weights, visible_bias, hidden_bias = random_parameters(N_VISIBLE, N_HIDDEN)
    rbm = vf.BernoulliRBM(kind(map(kind, weights.tolist())), kind(visible_bias), kind(hidden_bias))
    assert rbm.dtype == np.float64
    assert rbm.weights.tobytes() == weights.tobytes()


def test_whole_numbers_in_lists_become_float64() -> None:
    rbm = vf.BernoulliRBM([[1, -2], [0, 3], [2, 0]], [0, 1, -1], [1, 0])
    assert rbm.dtype == np.float64
    np.testing.assert_array_equal(rbm.energy([[1, 0, 1]], [[1, 0]]), [-(0 - 1) - 1 - (1 + 2)])


# --- states ---------------------------------------------------------------------------------------

STATE_CALLS: dict[str, tuple[str, Callable[[vf.BernoulliRBM, Any], Any]]] = {
    "energy": ("v", lambda rbm, v: rbm.energy(v, H)),
    "free_energy": ("v", lambda rbm, v: rbm.free_energy(v)),
    "mean_hidden": ("v", lambda rbm, v: rbm.mean_hidden(v)),
    "log_likelihood": ("v", lambda rbm, v: rbm.log_likelihood(v, 2.0)),
    "gibbs": ("v0", lambda rbm, v: np.hstack(vf.gibbs(rbm, v, 3, rng=1))),
    "GibbsChains": ("start", lambda rbm, v: vf.GibbsChains(rbm, len(V), start=v, rng=1).visible),
    "from_data": ("data", lambda rbm, v: vf.BernoulliRBM.from_data(v, 2, rng=1).visible_bias),
    "train": ("data", lambda rbm, v: trained(rbm, v)),
}
HIDDEN_CALLS: dict[str, tuple[str, Callable[[vf.BernoulliRBM, Any], Any]]] = {
    "energy": ("h", lambda rbm, h: rbm.energy(V, h)),
    "mean_visible": ("h", lambda rbm, h: rbm.mean_visible(h)),
}
ALL_STATE_CALLS = [
    *(pytest.param(V, *call, id=f"{label}-{call[0]}") for label, call in STATE_CALLS.items()),
    *(pytest.param(H, *call, id=f"{label}-{call[0]}") for label, call in HIDDEN_CALLS.items()),
]


def trained(rbm: vf.BernoulliRBM, data: Any) -> np.ndarray:
    copy = vf.BernoulliRBM(*rbm.parameters)
    vf.train(copy, data, n_epochs=2, batch_size=2, learning_rate=0.1, rng=1)
    return copy.weights


BAD_STATES = {
    "two": (lambda x: replaced(x, 2), ValueError),
    "255": (lambda x: replaced(x, 255), ValueError),
    "minus one, int8": (lambda x: replaced(x.astype(np.int8), -1), ValueError),
    "minus one, int64": (lambda x: replaced(x.astype(np.int64), -1), ValueError),
    "minus one, float": (lambda x: replaced(x.astype(np.float64), -1), ValueError),
    "2^32 + 1": (lambda x: replaced(x.astype(np.int64), 2**32 + 1), ValueError),
    "2^8 + 1": (lambda x: replaced(x.astype(np.int16), 257), ValueError),
    "a half": (lambda x: replaced(x.astype(np.float64), 0.5), ValueError),
    "a half, float32": (lambda x: replaced(x.astype(np.float32), 0.5), ValueError),
    "NaN": (lambda x: replaced(x.astype(np.float64), np.nan), ValueError),
    "NaN, float32": (lambda x: replaced(x.astype(np.float32), np.nan), ValueError),
    "infinity": (lambda x: replaced(x.astype(np.float64), np.inf), ValueError),
    "almost one": (lambda x: replaced(x.astype(np.float64), np.nextafter(1, 2)), ValueError),
    "subnormal": (lambda x: replaced(x.astype(np.float64), 5e-324), ValueError),
    "a bool that is 2": (lambda x: replaced(x, 2).view(np.bool_), ValueError),
    "strided two": (lambda x: spread_out(replaced(x, 2), 0), ValueError),
    "list with 2": (lambda x: replaced(x, 2).tolist(), ValueError),
    "float16": (lambda x: x.astype(np.float16), TypeError),
    "longdouble": (lambda x: x.astype(np.longdouble), TypeError),
    "complex": (lambda x: x.astype(np.complex64), TypeError),
    "object": (lambda x: x.astype(object), TypeError),
    "string": (lambda x: x.astype(str), TypeError),
    "datetime": (lambda x: x.astype("M8[s]"), TypeError),
    "timedelta": (lambda x: x.astype("m8[s]"), TypeError),
    "structured": (lambda x: np.zeros(x.shape, dtype=[("bit", "u1")]), TypeError),
    "byte-swapped int32": (lambda x: x.astype(np.dtype(np.int32).newbyteorder()), TypeError),
    "byte-swapped float64": (lambda x: x.astype(np.dtype(np.float64).newbyteorder()), TypeError),
    "1-d": (lambda x: x[0], ValueError),
    "3-d": (lambda x: x[None], ValueError),
    "0-d": (lambda x: x[0, 0], ValueError),
    "transposed": (lambda x: x.T.copy(), ValueError),
    "no columns": (lambda x: x[:, :0], ValueError),
    "empty list": (lambda x: [], ValueError),
    "ragged": (lambda x: [[0, 1, 1], [0]], (TypeError, ValueError)),
    "None": (lambda x: None, (TypeError, ValueError)),
    "text": (lambda x: "0101", (TypeError, ValueError)),
    "a number": (lambda x: 1, ValueError),
    "dict": (lambda x: {"x": x}, (TypeError, ValueError)),
    "generator": (lambda x: (row for row in x), (TypeError, ValueError)),
}


@pytest.mark.parametrize(("good", "name", "call"), ALL_STATE_CALLS)
@pytest.mark.parametrize("bad", BAD_STATES)
def test_bad_states_are_refused(
    rbm: vf.BernoulliRBM, bad: str, good: np.ndarray, name: str, call: Callable[..., Any]
) -> None:
    change, error = BAD_STATES[bad]
    if (bad, name) == ("None", "start") or (bad == "transposed" and call is STATE_CALLS["from_data"][1]):
        pytest.skip("lawful there")
    with named(error, name):
        call(rbm, change(good))


STATE_DTYPES = [
    np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
    np.longlong, np.ulonglong, np.intp, np.float32, np.float64,
]  # fmt: skip


def frozen(x: np.ndarray) -> tuple[bytes, Any, Any, Any]:
    """Everything of an array that a call must leave alone, the memory between its elements too."""
    base = x if x.base is None else x.base
    return base.tobytes(), x.shape, x.strides, x.flags.writeable


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", STATE_DTYPES, ids=lambda dtype: dtype.__name__)
def test_states_of_any_dtype_and_layout_are_only_read(rbm: vf.BernoulliRBM, dtype: Any, layout: str) -> None:
    for good, calls in ((V, STATE_CALLS), (H, HIDDEN_CALLS)):
        given = LAYOUTS[layout](good.astype(dtype))
        before = frozen(given)
        for label, (_, call) in calls.items():
            expected = call(rbm, good)
            found = call(rbm, given)
            assert found.dtype == expected.dtype, label
            assert found.tobytes() == expected.tobytes(), label
            assert found.flags.writeable or label in ("train", "from_data")
            assert not np.shares_memory(found, given), label
        assert frozen(given) == before


def test_numbers_in_a_list_are_checked() -> None:
    with named(ValueError, "hidden_bias"):
        vf.BernoulliRBM([[1.0, 2.0]], [0.5], [0.25, float("nan")])


def test_bad_numbers_have_a_place() -> None:
    """The first of them, and what it is; in the model's own checks as in the kernels'."""
    w, a, b = (np.zeros(shape, np.float32) for shape in [(4, 3), 4, 3])
    bad, large = w.copy(), b.copy()
    bad[2, 1] = bad[3, 0] = np.nan
    large[2] = -(2.0**100)
    for kind in (vf.BernoulliRBM, vf.SpinRBM, vf.GaussianRBM):
        with pytest.raises(ValueError, match=r"^weights: expected .* 2\^100, got nan at \(2, 1\)$"):
            kind(bad, a, b)
        with pytest.raises(ValueError, match=r"^hidden_bias: expected .* 2\^100, got -1.26\S* at \(2,\)$"):
            kind(w, a, large)
    with pytest.raises(ValueError, match=r"^hidden_bias: .* at \(2,\)$"):
        vf.BernoulliRBM(w, a, b).with_biases(hidden_bias=large)
    with pytest.raises(ValueError, match=r"^sigma: .*got -1 at \(3,\)$"):
        vf.GaussianRBM(w, a, b, [1.0, 1.0, 1.0, -1.0])
    with pytest.raises(ValueError, match=r"^fields: expected .* 2\^900, got inf at \(1,\)$"):
        vf.Ising(np.zeros((2, 2)), [0.0, np.inf])


@pytest.mark.parametrize("clamped", [[0, 1, 1], [[1], [0]], 1, np.zeros((2, 2, N_VISIBLE))])
def test_clamped_of_another_shape(rbm: vf.BernoulliRBM, clamped: Any) -> None:
    """Both shapes that it may have are named, and what it had, as it was given."""
    shape = re.escape(str(np.shape(clamped)))
    both = rf"\({N_VISIBLE},\) or \(n_chains, {N_VISIBLE}\)"
    for call in (vf.gibbs, lambda rbm, v, clamped: vf.GibbsChains(rbm, len(v), start=v, clamped=clamped)):
        with pytest.raises(ValueError, match=rf"^clamped: expected {both}, .*got {shape}$"):
            call(rbm, np.zeros((2, N_VISIBLE)), clamped=clamped)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_python_numbers_take_the_dtype_of_the_weights(dtype: Any) -> None:
    w = np.ones((2, 1), dtype)
    for numbers in ([0.1, 2], (0.1, 2)):
        for model in (vf.BernoulliRBM(w, numbers, [3]), vf.GaussianRBM(w, [1, 2], [3], numbers)):
            assert [p.dtype for p in model.parameters] == [dtype] * len(model.parameters)
            assert dtype(0.1) in (model.parameters[1][0], model.parameters[-1][0])
        assert vf.Ising(np.zeros((2, 2), dtype), numbers).fields.tolist() == [dtype(0.1), 2.0]
    rbm = vf.BernoulliRBM(w, [0, 0], [0])
    rbm.set_parameters(rbm.weights, [0.1, 2], [3])
    assert rbm.visible_bias.tolist() == [dtype(0.1), 2.0]
    with named(ValueError, "visible_bias"):
        vf.BernoulliRBM(np.ones((2, 1), np.float32), [1e300, 0.0], [0.0])
    other = np.float64 if dtype is np.float32 else np.float32
    with pytest.raises(TypeError, match=r"^visible_bias: expected float\d\d like weights, got float\d\d$"):
        vf.BernoulliRBM(w, np.zeros(2, other), [0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wide_states_in_any_layout(layout: str) -> None:
    """Several words a state, and a last word that is not full."""
    wide = random_rbm(150, 70, scale=0.2)
    v = np.random.default_rng(3).integers(0, 2, size=(9, 150), dtype=np.uint8)
    assert wide.free_energy(LAYOUTS[layout](v)).tobytes() == wide.free_energy(v).tobytes()
    last = v.copy()
    last[8, 149] = 3
    with named(ValueError, "v"):
        wide.free_energy(LAYOUTS[layout](last))


@pytest.mark.parametrize("kind", [int, bool, float])
def test_states_as_lists(rbm: vf.BernoulliRBM, kind: type) -> None:
    v, h = (np.asarray(x, dtype=kind).tolist() for x in (V, H))
    for label, (_, call) in STATE_CALLS.items():
        assert call(rbm, v).tobytes() == call(rbm, V).tobytes(), label
        assert call(rbm, tuple(map(tuple, v))).tobytes() == call(rbm, V).tobytes(), label
    for label, (_, call) in HIDDEN_CALLS.items():
        assert call(rbm, h).tobytes() == call(rbm, H).tobytes(), label


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_samples_give_empty_answers(dtype: Any) -> None:
    rbm = random_rbm(N_VISIBLE, N_HIDDEN, dtype=dtype)
    for v, h in ((V[:0], H[:0]), (np.empty((0, N_VISIBLE)), np.empty((0, N_HIDDEN)))):
        for found, shape in (
            (rbm.energy(v, h), (0,)),
            (rbm.free_energy(v), (0,)),
            (rbm.log_likelihood(v, 1.0), (0,)),
            (rbm.mean_hidden(v), (0, N_HIDDEN)),
            (rbm.mean_visible(h), (0, N_VISIBLE)),
        ):
            assert found.shape == shape
            assert found.dtype == dtype
        v1, h1 = vf.gibbs(rbm, v, 5, rng=0)
        assert (v1.shape, v1.dtype) == ((0, N_VISIBLE), np.uint8)
        assert (h1.shape, h1.dtype) == ((0, N_HIDDEN), np.uint8)


@pytest.mark.parametrize("shape", [0, (0,), (0, 3), (3, 0)])
def test_no_random_numbers(shape: Any) -> None:
    found = vf.random.uniform(shape, rng=0)
    assert found.shape == np.empty(shape).shape
    assert found.dtype == np.float64


def test_training_needs_a_sample(rbm: vf.BernoulliRBM) -> None:
    with named(ValueError, "data"):
        vf.train(rbm, V[:0], rng=0)
    with named(ValueError, "data"):
        vf.BernoulliRBM.from_data(V[:0], 2, rng=0)


def test_layers_that_do_not_match(rbm: vf.BernoulliRBM) -> None:
    with named(ValueError, "h"):
        rbm.energy(V, H[1:])
    with named(ValueError, "start"):
        vf.GibbsChains(rbm, 3, start=V)


def chains_of(rbm: vf.BernoulliRBM, n_chains: int, n_steps: int = 1) -> vf.GibbsChains:
    chains = vf.GibbsChains(rbm, n_chains, rng=0)
    chains.step(n_steps)
    return chains


def test_hidden_states_before_the_first_step(rbm: vf.BernoulliRBM) -> None:
    with named(ValueError, "hidden"):
        _ = vf.GibbsChains(rbm, 3, rng=0).hidden


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(lambda s: None, id="None"),
        pytest.param(lambda s: (s.visible, s.hidden, s.seed, s.step), id="tuple"),
        pytest.param(lambda s: chains_of(random_rbm(70, 66), 4).state, id="another model's"),
        pytest.param(lambda s: vf.sampling.ChainState(s.visible, s.hidden[:2], s.seed, s.step), id="torn"),
        pytest.param(lambda s: vf.sampling.ChainState(s.visible, s.hidden, s.seed, -1), id="negative step"),
        pytest.param(lambda s: vf.sampling.ChainState(s.visible, s.hidden, "x", 1), id="seed"),
        pytest.param(
            lambda s: vf.sampling.ChainState(s.visible * 1.0, s.hidden, s.seed, 1), id="float words"
        ),
    ],
)
def test_bad_chain_states_are_refused(rbm: vf.BernoulliRBM, state: Callable[[Any], Any]) -> None:
    chains = chains_of(rbm, 4)
    before = chains.state
    with pytest.raises((TypeError, ValueError), match=r"^(state|rng)"):
        chains.state = state(before)
    assert chains.state is before


# --- other arguments ------------------------------------------------------------------------------

BAD_BETA = {
    "negative": (-0.5, ValueError),
    "NaN": (np.nan, ValueError),
    "infinite": (np.inf, ValueError),
    "text": ("1", TypeError),
    "None": (None, TypeError),
    "complex": (1j, TypeError),
    "array": (np.array([1.0, 2.0]), TypeError),
}
BETA_CALLS: dict[str, Callable[..., Any]] = {
    "free_energy": lambda rbm, **kw: rbm.free_energy(V, **kw),
    "mean_hidden": lambda rbm, **kw: rbm.mean_hidden(V, **kw),
    "mean_visible": lambda rbm, **kw: rbm.mean_visible(H, **kw),
    "log_likelihood": lambda rbm, **kw: rbm.log_likelihood(V, 1.0, **kw),
    "gibbs": lambda rbm, **kw: vf.gibbs(rbm, V, rng=0, **kw),
    "exact": lambda rbm, **kw: vf.free_energy.exact(rbm, **kw),
    "GibbsChains.step": lambda rbm, **kw: vf.GibbsChains(rbm, 2, rng=0).step(**kw),
}


@pytest.mark.parametrize("call", BETA_CALLS)
@pytest.mark.parametrize("bad", BAD_BETA)
def test_bad_beta(rbm: vf.BernoulliRBM, call: str, bad: str) -> None:
    if bad == "array" and call in ("exact", "gibbs", "GibbsChains.step"):
        pytest.skip("lawful there: several temperatures")
    beta, error = BAD_BETA[bad]
    with named(error, "beta"):
        BETA_CALLS[call](rbm, beta=beta)


@pytest.mark.parametrize("call", ["free_energy", "log_likelihood"])
def test_beta_zero_has_no_clamped_free_energy(rbm: vf.BernoulliRBM, call: str) -> None:
    with named(ValueError, "beta"):
        BETA_CALLS[call](rbm, beta=0.0)


BAD_THREADS = {
    "0": (0, ValueError),
    "-1": (-1, ValueError),
    "1.5": (1.5, TypeError),
    "True": (True, TypeError),
    "text": ("2", TypeError),
    "1025": (1025, ValueError),
    "2^31": (2**31, ValueError),
    "2^70": (2**70, ValueError),
}
THREAD_CALLS: dict[str, Callable[..., Any]] = {
    **{label: call for label, call in BETA_CALLS.items() if label != "GibbsChains.step"},
    "GibbsChains": lambda rbm, **kw: vf.GibbsChains(rbm, 2, rng=0, **kw),
    "train": lambda rbm, **kw: vf.train(rbm, V, n_epochs=1, rng=0, **kw),
    "uniform": lambda rbm, **kw: vf.random.uniform(3, rng=0, **kw),
}


@pytest.mark.parametrize("call", THREAD_CALLS)
@pytest.mark.parametrize("bad", BAD_THREADS)
def test_bad_num_threads(rbm: vf.BernoulliRBM, call: str, bad: str) -> None:
    num_threads, error = BAD_THREADS[bad]
    with named(error, "num_threads"):
        THREAD_CALLS[call](rbm, num_threads=num_threads)


@pytest.mark.parametrize("call", THREAD_CALLS)
def test_num_threads_of_any_whole_kind(rbm: vf.BernoulliRBM, call: str) -> None:
    for num_threads in (1, 3, np.int32(2), 1024, None):
        THREAD_CALLS[call](rbm, num_threads=num_threads)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", "2x", "1025", "9" * 30])
def test_bad_thread_count_in_the_environment(
    rbm: vf.BernoulliRBM, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("VFE_NUM_THREADS", text)
    with named(ValueError, "VFE_NUM_THREADS"):
        rbm.free_energy(V)
    assert rbm.free_energy(V, num_threads=1).shape == (4,)  # asked for nothing, the variable says nothing


@pytest.mark.parametrize(("text", "expected"), [("3", "3"), ("", "default"), ("two", "ValueError")])
def test_thread_count_of_a_new_process(text: str, expected: str) -> None:
    code = """
    import os
    import vfe_fast as vf
    try:
        n = vf.show_config("dict")["num_threads"]
        print("default" if os.environ["VFE_NUM_THREADS"] == "" and n >= 1 else n)
    except ValueError as error:
        assert str(error).startswith("VFE_NUM_THREADS: "), error
        print("ValueError")
    """
    done = run_python(code, VFE_NUM_THREADS=text)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


RNG_CALLS: dict[str, Callable[..., Any]] = {
    "gibbs": lambda rbm, **kw: vf.gibbs(rbm, V, **kw),
    "GibbsChains": lambda rbm, **kw: vf.GibbsChains(rbm, 2, **kw),
    "from_data": lambda rbm, **kw: vf.BernoulliRBM.from_data(V, 2, **kw),
    "train": lambda rbm, **kw: vf.train(rbm, V, n_epochs=1, **kw),
    "uniform": lambda rbm, **kw: vf.random.uniform(3, **kw),
    "seed": lambda rbm, **kw: vf.random.seed(**kw),
}


@pytest.mark.parametrize("call", RNG_CALLS)
@pytest.mark.parametrize(
    ("rng", "error"),
    [
        (-1, ValueError),
        (2**64, ValueError),
        (1.5, TypeError),
        (True, TypeError),
        ("0", TypeError),
        ([1, 2], TypeError),
        (np.random.RandomState(0), TypeError),
        (np.random.PCG64(0), TypeError),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, int) else str(x),
)
def test_bad_rng(rbm: vf.BernoulliRBM, call: str, rng: Any, error: Any) -> None:
    with named(error, "rng"):
        RNG_CALLS[call](rbm, rng=rng)


@pytest.mark.parametrize("call", RNG_CALLS)
@pytest.mark.parametrize(
    "rng",
    [0, 2**64 - 1, np.int64(3), np.uint64(2**63), np.random.default_rng(0), np.random.SeedSequence(0), None],
    ids=lambda x: type(x).__name__,
)
def test_good_rng(rbm: vf.BernoulliRBM, call: str, rng: Any) -> None:
    RNG_CALLS[call](rbm, rng=rng)


@pytest.mark.parametrize("model", [None, "x", np.zeros((5, 3)), vf.BernoulliRBM, 1.5], ids=repr)
def test_models_of_the_wrong_type(model: Any) -> None:
    with named(TypeError, "rbm"):
        vf.gibbs(model, V)
    with named(TypeError, "rbm"):
        vf.GibbsChains(model, 2)
    with named(TypeError, "rbm"):
        vf.train(model, V)
    with named(TypeError, "model"):
        vf.free_energy.exact(model)


BAD_ARGUMENTS = [
    (lambda rbm: vf.gibbs(rbm, V, 0), ValueError, "n_steps"),
    (lambda rbm: vf.gibbs(rbm, V, 1.0), TypeError, "n_steps"),
    (lambda rbm: vf.gibbs(rbm, V, True), TypeError, "n_steps"),
    (lambda rbm: vf.gibbs(rbm, V, None), TypeError, "n_steps"),
    (lambda rbm: vf.gibbs(rbm, V, chain_offset=-1), ValueError, "chain_offset"),
    (lambda rbm: vf.gibbs(rbm, V, chain_offset=0.0), TypeError, "chain_offset"),
    (lambda rbm: vf.gibbs(rbm, V, chain_offset=2**32 - 3), ValueError, "chain_offset"),
    (lambda rbm: vf.gibbs(rbm, V, step_offset=-1), ValueError, "step_offset"),
    (lambda rbm: vf.gibbs(rbm, V, step_offset="0"), TypeError, "step_offset"),
    (lambda rbm: vf.gibbs(rbm, V, 2, step_offset=2**56 - 2), ValueError, "step_offset"),
    (lambda rbm: vf.GibbsChains(rbm, 0), ValueError, "n_chains"),
    (lambda rbm: vf.GibbsChains(rbm, -3), ValueError, "n_chains"),
    (lambda rbm: vf.GibbsChains(rbm, 2.0), TypeError, "n_chains"),
    (lambda rbm: vf.GibbsChains(rbm, 2, device="tpu"), ValueError, "device"),
    (lambda rbm: vf.GibbsChains(rbm, 2, device=None), ValueError, "device"),
    (lambda rbm: vf.GibbsChains(rbm, 2, rng=0).step(0), ValueError, "n_steps"),
    (lambda rbm: rbm.log_likelihood(V, None), TypeError, "log_z"),
    (lambda rbm: rbm.log_likelihood(V, "x"), (TypeError, ValueError), "log_z"),
    (lambda rbm: vf.free_energy.exact(rbm, max_seconds=0), ValueError, "max_seconds"),
    (lambda rbm: vf.free_energy.exact(rbm, max_seconds=np.nan), ValueError, "max_seconds"),
    (lambda rbm: vf.free_energy.exact(rbm, max_seconds="1"), TypeError, "max_seconds"),
    (lambda rbm: vf.free_energy.exact(rbm, max_seconds=None), TypeError, "max_seconds"),
    (lambda rbm: vf.BernoulliRBM.from_data(V, 0), ValueError, "n_hidden"),
    (lambda rbm: vf.BernoulliRBM.from_data(V, 2.0), TypeError, "n_hidden"),
    (lambda rbm: vf.BernoulliRBM.from_data(V, 2, scale=-1), ValueError, "scale"),
    (lambda rbm: vf.BernoulliRBM.from_data(V, 2, scale=np.nan), ValueError, "scale"),
    (lambda rbm: vf.BernoulliRBM.from_data(V, 2, scale="1"), TypeError, "scale"),
    (lambda rbm: vf.BernoulliRBM.from_data(V, 2, dtype=np.float16), TypeError, "dtype"),
    (lambda rbm: vf.BernoulliRBM.from_data(V, 2, dtype=np.int32), TypeError, "dtype"),
    (lambda rbm: vf.BernoulliRBM.from_data(V, 2, dtype="nonsense"), TypeError, "dtype"),
    (lambda rbm: vf.random.uniform(-1), ValueError, "shape"),
    (lambda rbm: vf.random.uniform((2, -1)), ValueError, "shape"),
    (lambda rbm: vf.random.uniform(2.5), TypeError, "shape"),
    (lambda rbm: vf.random.uniform((2.5,)), TypeError, "shape"),
    (lambda rbm: vf.random.uniform("ab"), TypeError, "shape"),
    (lambda rbm: vf.random.uniform(None), TypeError, "shape"),
    (lambda rbm: vf.random.uniform(3, dtype=np.int32), TypeError, "dtype"),
    (
        lambda rbm: vf.random.uniform(3, dtype=">f8" if sys.byteorder == "little" else "<f8"),
        TypeError,
        "dtype",
    ),
    (lambda rbm: vf.random.uniform(3, dtype="nonsense"), TypeError, "dtype"),
    (lambda rbm: vf.show_config("json"), ValueError, "mode"),
    (lambda rbm: vf.train(rbm, V, method="newton"), ValueError, "method"),
    (lambda rbm: vf.train(rbm, V, method=None), (TypeError, ValueError), "method"),
    (lambda rbm: vf.train(rbm, V, method=["pcd"]), (TypeError, ValueError), "method"),
    (lambda rbm: vf.train(rbm, V, n_epochs=-1), ValueError, "n_epochs"),
    (lambda rbm: vf.train(rbm, V, n_epochs=1.0), TypeError, "n_epochs"),
    (lambda rbm: vf.train(rbm, V, batch_size=0), ValueError, "batch_size"),
    (lambda rbm: vf.train(rbm, V, n_gibbs_steps=0), ValueError, "n_gibbs_steps"),
    (lambda rbm: vf.train(rbm, V, n_chains=0), ValueError, "n_chains"),
    (lambda rbm: vf.train(rbm, V, n_chains=1.5), TypeError, "n_chains"),
    (lambda rbm: vf.train(rbm, V, learning_rate=-0.1), ValueError, "learning_rate"),
    (lambda rbm: vf.train(rbm, V, learning_rate=np.nan), ValueError, "learning_rate"),
    (lambda rbm: vf.train(rbm, V, learning_rate="fast"), (TypeError, ValueError), "learning_rate"),
    (lambda rbm: vf.train(rbm, V, learning_rate=lambda epoch: np.nan), ValueError, "learning_rate"),
    (lambda rbm: vf.train(rbm, V, learning_rate=lambda epoch: "x"), (TypeError, ValueError), "learning_rate"),
    (lambda rbm: vf.train(rbm, V, momentum=1.0), ValueError, "momentum"),
    (lambda rbm: vf.train(rbm, V, momentum=-0.1), ValueError, "momentum"),
    (lambda rbm: vf.train(rbm, V, momentum="x"), TypeError, "momentum"),
    (lambda rbm: vf.train(rbm, V, optimizer="lbfgs"), ValueError, "optimizer"),
    (lambda rbm: vf.train(rbm, V, optimizer=np.zeros(2)), ValueError, "optimizer"),
    (lambda rbm: vf.train(rbm, V, progress="bar"), TypeError, "progress"),
    (lambda rbm: vf.train(rbm, V, checkpoint="x.npz", resume="yes"), TypeError, "resume"),
    (lambda rbm: vf.train(rbm, V, sparsity_target=1.0), ValueError, "sparsity_target"),
    (lambda rbm: vf.train(rbm, V, sparsity_cost=-1.0), ValueError, "sparsity_cost"),
    (lambda rbm: vf.train(rbm, V, weight_decay=-1.0), ValueError, "weight_decay"),
    (lambda rbm: vf.train(rbm, V, weight_decay=np.inf), ValueError, "weight_decay"),
    (lambda rbm: vf.train(rbm, V, checkpoint_every=0), ValueError, "checkpoint_every"),
    (lambda rbm: vf.train(rbm, V, callbacks=None), TypeError, "callbacks"),
    (lambda rbm: vf.train(rbm, V, callbacks=[1]), TypeError, "callbacks"),
    (lambda rbm: vf.training.ExactLogLikelihood(every=0, data=V), ValueError, "every"),
    (lambda rbm: vf.training.ExactLogLikelihood(every=1.5, data=V), TypeError, "every"),
    (lambda rbm: vf.training.LinearDecay(0.1, 0.01, 0), ValueError, "n_epochs"),
    (lambda rbm: vf.training.ExponentialDecay(0.1, 0), ValueError, "half_life"),
]


@pytest.mark.parametrize(
    ("call", "error", "name"),
    BAD_ARGUMENTS,
    ids=[f"{name}{k}" for k, (_, _, name) in enumerate(BAD_ARGUMENTS)],
)
def test_bad_arguments(rbm: vf.BernoulliRBM, call: Callable[[Any], Any], error: Any, name: str) -> None:
    before = rbm.parameters
    with named(error, name):
        call(rbm)
    assert rbm.parameters is before


LARGE = [(np.float64, 1e308), (np.float32, 3e38)]


@pytest.mark.parametrize(("dtype", "value"), LARGE)
@pytest.mark.parametrize("call", BETA_CALLS)
def test_weights_too_large_to_add(call: str, dtype: Any, value: float) -> None:
    """Finite, so lawful, but their sums may not be: an error, or a right answer, and never a silent NaN."""
    weights = np.full((N_VISIBLE, N_HIDDEN), value, dtype=dtype)
    try:
        rbm = vf.BernoulliRBM(weights, np.full(N_VISIBLE, 1.0, dtype), np.full(N_HIDDEN, value, dtype))
        found = BETA_CALLS[call](rbm) if call != "exact" else vf.free_energy.exact(rbm, moments=True)
    except (ValueError, OverflowError):
        return
    if call in ("mean_hidden", "mean_visible"):
        np.testing.assert_array_equal(found, np.ones_like(found))
    elif call == "gibbs":
        np.testing.assert_array_equal(np.hstack(found), 1)  # every unit is on, with certainty
    elif call == "exact":
        n = N_VISIBLE * N_HIDDEN + N_HIDDEN
        assert found.log_z == pytest.approx(n * float(dtype(value)), rel=1e-6)
        np.testing.assert_array_equal(found.moments.visible_hidden, 1.0)
    elif call == "free_energy":
        with np.errstate(over="ignore"):
            expected = -(V.sum(axis=1) + 1.0) * N_HIDDEN * value
        np.testing.assert_allclose(found, np.where(np.abs(expected) > np.finfo(dtype).max, -np.inf, expected))


@pytest.mark.parametrize("beta", [1e30, 1e-46, 1e-300])
@pytest.mark.parametrize("call", ["free_energy", "mean_hidden", "mean_visible"])
def test_extreme_beta(call: str, beta: float) -> None:
    """A float32 model at such a beta has the answers of its float64 twin, as far as float32 holds them.

    A free energy has none there below 2^-100.
    """
    parameters = random_parameters(N_VISIBLE, N_HIDDEN, dtype=np.float32)
    single, double = (
        vf.BernoulliRBM(*parameters),
        vf.BernoulliRBM(*(p.astype(np.float64) for p in parameters)),
    )
    if call == "free_energy" and beta < 2.0**-100:
        for rbm in (single, double):
            with named(ValueError, "beta"):
                rbm.free_energy(V, beta=beta)
        return
    found, expected = (BETA_CALLS[call](rbm, beta=beta) for rbm in (single, double))
    assert found.dtype == np.float32
    expected = np.where(np.abs(expected) > np.finfo(np.float32).max, np.copysign(np.inf, expected), expected)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with named(ValueError, "beta"):
        BETA_CALLS[call](single, beta=2.0**100)


# --- absurd sizes ---------------------------------------------------------------------------------

ENDLESS = {
    "gibbs": lambda rbm, n: vf.gibbs(rbm, V, n, rng=0),
    "GibbsChains.step": lambda rbm, n: vf.GibbsChains(rbm, 2, rng=0).step(n),
}


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("call", ENDLESS)
@pytest.mark.parametrize("power", [56, 60, 62, 64, 70])
def test_more_steps_than_there_are_counters(rbm: vf.BernoulliRBM, call: str, power: int) -> None:
    with pytest.raises(ValueError, match=r"^(n_steps|step_offset): "):
        ENDLESS[call](rbm, 2**power)


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("name", ["chain_offset", "step_offset"])
@pytest.mark.parametrize("offset", [2**56, 2**62, 2**63 - 3, 2**63 - 2, 2**63 - 1, 2**63, 2**70])
def test_offsets_beyond_the_counters(rbm: vf.BernoulliRBM, name: str, offset: int) -> None:
    with named(ValueError, name):
        vf.gibbs(rbm, V, rng=0, **{name: offset})


HUGE = {
    "GibbsChains": lambda rbm, n: vf.GibbsChains(rbm, n, rng=0),
    "from_data": lambda rbm, n: vf.BernoulliRBM.from_data(V, n, rng=0),
    "train, n_chains": lambda rbm, n: vf.train(rbm, V, n_chains=n, rng=0),
    "train, batch_size": lambda rbm, n: vf.train(rbm, V, batch_size=n, rng=0),
    "uniform": lambda rbm, n: vf.random.uniform(n, rng=0),
    "uniform, float32": lambda rbm, n: vf.random.uniform(n, rng=0, dtype=np.float32),
    "uniform, 2-d": lambda rbm, n: vf.random.uniform((n, n), rng=0),
}


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("call", HUGE)
@pytest.mark.parametrize("power", [46, 50, 60, 62, 63, 70])
def test_sizes_beyond_any_memory(rbm: vf.BernoulliRBM, call: str, power: int) -> None:
    with pytest.raises((MemoryError, ValueError), match=r"^(n_chains|n_hidden|batch_size|shape): "):
        HUGE[call](rbm, 2**power)


def test_sizes_beyond_this_memory() -> None:
    """Terabytes, where the system would promise them: with a limit on the process, which must survive."""
    code = """
    import resource
    import numpy as np
    import vfe_fast as vf
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    rbm = vf.BernoulliRBM([[1.0, -2.0], [0.5, 0.25], [0.0, 1.0]], [0.1, 0.2, 0.3], [-1.0, 1.0])
    wide = vf.BernoulliRBM(np.full((1, 3000), 0.1), [0.5], np.zeros(3000))
    many = np.broadcast_to(np.uint8(1), (2**38, 3))
    for call in (
        lambda: vf.GibbsChains(rbm, 2**31),
        lambda: vf.random.uniform(2**40),
        lambda: vf.BernoulliRBM.from_data([[0, 1, 1]], 2**34),
        lambda: rbm.free_energy(many),
        lambda: vf.gibbs(rbm, many),
        lambda: wide.mean_hidden(np.broadcast_to(np.uint8(1), (2**22, 1))),
        lambda: vf.train(rbm, [[0, 1, 1]], n_chains=2**31),
    ):
        try:
            call()
        except (MemoryError, ValueError) as error:
            print(type(error).__name__ if str(error).partition(":")[0].isidentifier() else repr(error))
    print(rbm.free_energy([[1, 0, 1]]).shape)
    """
    done = run_python(code, VFE_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert [line in ("MemoryError", "ValueError") for line in done.stdout.split("\n")[:7]] == [True] * 7, done
    assert done.stdout.endswith("(1,)\n")


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(784, 45), (50, 60), (63, 63), (64, 100), (1100, 1200)])
@pytest.mark.parametrize("moments", [False, True])
def test_enumeration_of_too_many_states(n_visible: int, n_hidden: int, moments: bool) -> None:
    """The message says how many states, how long they would take, and what to do instead."""
    n = min(n_visible, n_hidden)
    expected = rf"^model: .*2\^{n} states.*[0-9.e+]+ (years|days|hours|minutes).*max_seconds.*GibbsChains"
    with pytest.raises(ValueError, match=expected):
        vf.free_energy.exact(random_rbm(n_visible, n_hidden, scale=0.01), moments=moments)


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("n", [63, 64, 100, 1100])
@pytest.mark.parametrize("max_seconds", [1e99, np.inf])
def test_enumeration_that_cannot_be_counted(n: int, max_seconds: float) -> None:
    """However long one would wait."""
    with pytest.raises(ValueError, match=rf"^(model|weights): .*2\^{n} states"):
        vf.free_energy.exact(random_rbm(n, n + 1, scale=0.01), max_seconds=max_seconds)


# --- arrays of other libraries --------------------------------------------------------------------


class Elsewhere:
    """An array in the memory of a device for which there is no kernel."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.shape = V.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("exported before its device was checked")


class Host:
    """An array of an unknown library in host memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape = array.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)


@pytest.mark.parametrize("device", [2, 10, 13])  # CUDA, ROCm, CUDA managed memory
@pytest.mark.parametrize(("good", "name", "call"), ALL_STATE_CALLS)
def test_states_on_another_device(
    rbm: vf.BernoulliRBM, good: np.ndarray, name: str, call: Callable[..., Any], device: int
) -> None:
    with named(vf.TargetUnavailableError, name):
        call(rbm, Elsewhere(device))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_on_another_device(name: str) -> None:
    parameters = dict(zip(PARAMETERS, random_parameters(N_VISIBLE, N_HIDDEN), strict=True))
    with named(vf.TargetUnavailableError, name):
        vf.BernoulliRBM(**parameters | {name: Elsewhere(2)})


def test_cuda_that_is_not_there(rbm: vf.BernoulliRBM) -> None:
    config = vf.show_config("dict")
    if not config["cuda_problem"]:
        pytest.skip("CUDA is usable here")
    with pytest.raises(vf.TargetUnavailableError, match="cuda") as caught:
        vf.GibbsChains(rbm, 2, device="cuda")
    assert config["cuda_problem"] in str(caught.value)


@pytest.mark.parametrize("writable", [True, False])
def test_arrays_of_an_unknown_library(rbm: vf.BernoulliRBM, writable: bool) -> None:
    """They go in; NumPy arrays come out. (DLPack before 1.0 could not export a read-only array.)"""
    states = V.copy()
    states.setflags(write=writable)
    try:
        states.__dlpack__()
    except BufferError:
        pytest.skip("this NumPy exports no read-only arrays")
    for label, (_, call) in STATE_CALLS.items():
        assert call(rbm, Host(states)).tobytes() == call(rbm, V).tobytes(), label


def test_numbers_that_no_library_exports(rbm: vf.BernoulliRBM) -> None:
    with named(TypeError, "v"):
        rbm.free_energy(Host(V.astype(object)))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"])
def test_torch_states(rbm: vf.BernoulliRBM, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    v, h = (torch.from_numpy(x.copy()).to(getattr(torch, dtype)) for x in (V, H))
    before = v.clone()
    assert np.shares_memory(borrow(v, "v")[0], v.numpy())
    for found, expected in (
        (rbm.energy(v, h), rbm.energy(V, H)),
        (rbm.free_energy(v), rbm.free_energy(V)),
        (rbm.log_likelihood(v, 2.0), rbm.log_likelihood(V, 2.0)),
        (rbm.mean_hidden(v), rbm.mean_hidden(V)),
        (rbm.mean_visible(h), rbm.mean_visible(H)),
        *zip(vf.gibbs(rbm, v, 3, rng=1), vf.gibbs(rbm, V, 3, rng=1), strict=True),
    ):
        assert isinstance(found, torch.Tensor)
        assert found.device.type == "cpu"
        assert found.numpy().dtype == expected.dtype
        assert found.numpy().tobytes() == expected.tobytes()
        found.zero_()  # the caller's own
    assert torch.equal(v, before)
    np.testing.assert_array_equal(trained(rbm, v), trained(rbm, V))


@pytest.mark.parametrize("layout", ["strided", "transposed", "empty"])
def test_torch_layouts(rbm: vf.BernoulliRBM, layout: str) -> None:
    torch = pytest.importorskip("torch")
    v = torch.from_numpy(V.copy())
    given = {"strided": v[::2], "transposed": v.T.contiguous().T, "empty": v[:0]}[layout]
    found = rbm.free_energy(given)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_array_equal(found.numpy(), rbm.free_energy(given.numpy()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_parameters_are_copied(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    plain = random_parameters(N_VISIBLE, N_HIDDEN, dtype=dtype)
    given = [torch.from_numpy(x.copy()) for x in plain]
    rbm = vf.BernoulliRBM(*given)
    for tensor in given:
        tensor.fill_(float("nan"))
    for mine, expected in zip(rbm.parameters, plain, strict=True):
        assert mine.dtype == dtype
        assert mine.tobytes() == expected.tobytes()


BAD_TENSORS = {
    "two": (lambda torch, v: v * 2, ValueError),
    "float16": (lambda torch, v: v.half(), TypeError),
    "bfloat16": (lambda torch, v: v.bfloat16(), TypeError),
    "complex": (lambda torch, v: v.to(torch.complex64), TypeError),
    "conjugate": (lambda torch, v: v.to(torch.complex64).conj(), TypeError),
    "requires grad": (lambda torch, v: v.double().requires_grad_(), (TypeError, ValueError)),
    "sparse": (lambda torch, v: v.to_sparse(), (TypeError, ValueError)),
    "meta": (lambda torch, v: v.to("meta"), (TypeError, ValueError, vf.TargetUnavailableError)),
    "1-d": (lambda torch, v: v[0], ValueError),
    "0-d": (lambda torch, v: v[0, 0], ValueError),
}


@pytest.mark.parametrize("bad", BAD_TENSORS)
def test_bad_tensors_are_refused(rbm: vf.BernoulliRBM, bad: str) -> None:
    torch = pytest.importorskip("torch")
    change, error = BAD_TENSORS[bad]
    with named(error, "v"):
        rbm.free_energy(change(torch, torch.from_numpy(V.copy())))


def test_jax_states(rbm: vf.BernoulliRBM) -> None:
    jax = pytest.importorskip("jax")
    single = vf.BernoulliRBM(*(p.astype(np.float32) for p in rbm.parameters))
    for dtype in (np.bool_, np.uint8, np.int32, np.float32):
        v = jax.device_put(V.astype(dtype), jax.devices("cpu")[0])
        found = single.free_energy(v)
        assert isinstance(found, jax.Array)
        np.testing.assert_array_equal(np.asarray(found), single.free_energy(V))
        v1, h1 = vf.gibbs(single, v, 3, rng=1)
        assert isinstance(v1, jax.Array)
        assert isinstance(h1, jax.Array)
        np.testing.assert_array_equal(np.asarray(v1), vf.gibbs(single, V, 3, rng=1)[0])
        np.testing.assert_array_equal(np.asarray(v), V.astype(dtype))
