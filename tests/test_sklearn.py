"""The drop-in for scikit-learn's RBM: its checks, its own tests, and what we add."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import vfe_fast as vf

pytest.importorskip("sklearn")
sklearn = pytest.importorskip("vfe_fast.sklearn", exc_type=ImportError)


def bits(n_samples: int = 60, n_features: int = 7, dtype: Any = np.float64) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.random((n_samples, n_features)) < np.linspace(0.2, 0.8, n_features)).astype(dtype)


def test_check_estimator() -> None:
    from sklearn.utils.estimator_checks import check_estimator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(sklearn.BernoulliRBM(n_components=4, n_iter=2), on_fail=None)
    assert len(results) > 40
    assert [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")] == []


# They ask for the numbers that NumPy's generator draws, and for 1e-6 of float32.
NOT_STATISTICAL = ["test_fit_gibbs", "test_convergence_dtype_consistency"]


def test_the_tests_of_scikit_learn(tmp_path: Path) -> None:
    found = importlib.util.find_spec("sklearn.neural_network.tests.test_rbm")
    if found is None or found.origin is None:
        pytest.skip("scikit-learn is here without its tests")
    source = Path(found.origin).read_text(encoding="utf-8")
    theirs = "from sklearn.neural_network import BernoulliRBM"
    assert source.count(theirs) == 1
    file = tmp_path / "test_rbm_swapped.py"
    file.write_text(source.replace(theirs, "from vfe_fast.sklearn import BernoulliRBM"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = thread_unsafe\n")
    paths = [str(Path(vf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    left_out = [option for name in NOT_STATISTICAL for option in ("--deselect", f"{file.name}::{name}")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file.name, *left_out],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= 15


@pytest.mark.parametrize("of_bits", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_update(dtype: Any, of_bits: bool) -> None:
    """The parameters move along the difference of averages, over fewer samples than there are chains."""
    X = bits(dtype=dtype)
    if not of_bits:
        X = (0.2 + 0.6 * X) * np.linspace(0.5, 1, 60, dtype=dtype)[:, None]
    rbm = sklearn.BernoulliRBM(n_components=5, batch_size=20, n_iter=3, random_state=1).fit(X)
    before = [rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_]
    w, a, b = (p.astype(np.float64) for p in before)
    state = rbm.h_samples_.copy()
    rbm.random_state_ = np.random.RandomState(4)
    rbm.partial_fit(X[:13])

    key = int(np.random.RandomState(4).randint(0, 1 << 63, dtype=np.uint64))
    *_, visible, hidden = vf._core.contrast(
        *(np.ascontiguousarray(p) for p in before), np.zeros((1, 1), np.uint64),
        vf._core.pack_states(state, 5, "h"), n_steps=1, seed=key, step_offset=0, num_threads=1,
    )  # fmt: skip

    def averages(v: np.ndarray) -> tuple[np.ndarray, ...]:
        h = 1 / (1 + np.exp(-(v @ w + b)))
        return v.T @ h / len(v), v.mean(axis=0), h.mean(axis=0)

    of_chains = averages(vf._core.unpack_states(visible, 7).astype(np.float64))
    after = rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_
    tolerance = 1e-6 if dtype == np.float32 else 1e-8  # weights of fields are in fixed point
    for new, old, data, model in zip(
        after, (w, a, b), averages(X[:13].astype(float)), of_chains, strict=True
    ):
        np.testing.assert_allclose(new, old + 0.1 * (data - model), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(rbm.h_samples_, vf._core.unpack_states(hidden, 5))
    assert rbm.components_.dtype == dtype
    assert rbm.components_.flags.writeable


@pytest.mark.parametrize("sparse", [False, True])
def test_law_of_a_gibbs_step(sparse: bool) -> None:
    """Chi-square of the 16 states after one step from a fixed one, of two calls: fresh numbers in each."""
    rbm = sklearn.BernoulliRBM(n_components=3, n_iter=1, random_state=0).fit(bits(n_features=4))
    w, a, b = (
        np.random.default_rng(1).normal(size=(3, 4)),
        np.array([0.5, -1, 0.2, 0.8]),
        np.array([0.3, -1, 1]),
    )
    rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_ = w, a, b
    start, n = np.array([1.0, 0.0, 0.0, 1.0]), 40_000
    v0 = np.tile(start, (n, 1))
    calls = [rbm.gibbs(sp.csr_array(v0) if sparse else v0) for _ in range(2)]
    assert calls[0].dtype == bool
    assert not np.array_equal(*calls)

    def each(on: np.ndarray, states: np.ndarray) -> np.ndarray:
        return np.where(states == 1, on, 1 - on).prod(axis=-1)

    v, h = (((np.arange(2**k)[:, None] >> np.arange(k)) & 1).astype(np.float64) for k in (4, 3))
    p_h = each(1 / (1 + np.exp(-(b + w @ start))), h)
    p_v = p_h @ each(1 / (1 + np.exp(-(a + h @ w)))[:, None], v[None])
    counts = np.bincount(np.concatenate(calls) @ (1 << np.arange(4)), minlength=16)
    # 15 degrees of freedom: a false alarm in 10^5 seeds; the seed is fixed.
    assert ((counts - 2 * n * p_v) ** 2 / (2 * n * p_v)).sum() < 50


@pytest.mark.parametrize("sparse", [False, True])
def test_real_numbers_take_the_same_way(monkeypatch: pytest.MonkeyPatch, sparse: bool) -> None:
    X = sp.csr_array(bits()) if sparse else bits()
    options = {"n_components": 5, "batch_size": 20, "n_iter": 3, "random_state": 1}
    packed = sklearn.BernoulliRBM(**options).fit(X)
    monkeypatch.setattr(sklearn, "_packed", lambda v: None)
    as_they_are = sklearn.BernoulliRBM(**options).fit(X)
    np.testing.assert_allclose(packed.components_, as_they_are.components_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        packed.intercept_visible_, as_they_are.intercept_visible_, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_array_equal(packed.h_samples_, as_they_are.h_samples_)


def pseudo_log_likelihood(rbm: Any, X: np.ndarray) -> np.ndarray:
    """Σ_i ln p(x_i | others), each conditional by normalizing two states."""

    def log_weight(v: np.ndarray) -> np.ndarray:
        fields = v @ rbm.components_.T + rbm.intercept_hidden_
        return v @ rbm.intercept_visible_ + np.log1p(np.exp(fields)).sum(axis=1)

    total = np.zeros(len(X))
    for i in range(X.shape[1]):
        other = X.copy()
        other[:, i] = 1 - other[:, i]
        total += log_weight(X) - np.logaddexp(log_weight(X), log_weight(other))
    return total


def test_score_samples_estimates_the_pseudo_likelihood() -> None:
    X = bits(40, 6)
    rbm = sklearn.BernoulliRBM(n_components=4, n_iter=20, random_state=0).fit(X)
    scores = []
    for seed in range(400):
        rbm.random_state = seed
        scores.append(rbm.score_samples(X))
    stderr = np.std(scores, axis=0) / np.sqrt(len(scores))
    # 40 samples at 5 standard errors: a false alarm in 40,000 sets of seeds; the seeds are fixed.
    deviation = np.abs(np.mean(scores, axis=0) - pseudo_log_likelihood(rbm, X)) / stderr
    assert deviation.max() < 5
    picks = np.array([sklearn._picks(X[:1], seed)[0] for seed in range(600)])
    assert set(picks) == set(range(6))


def test_picks_are_even_whatever_the_sample() -> None:
    """Also of samples of 0s, whose bits add nothing."""
    for x in (np.zeros(6), np.ones(6), np.eye(6)[2]):
        picks = [int(sklearn._picks(x[None], key)[0]) for key in range(6000)]
        counts = np.bincount(picks, minlength=6)
        # 5 degrees of freedom: three false alarms in 10^5 sets of keys.
        assert ((counts - 1000) ** 2 / 1000).sum() < 30


def test_partial_fit_takes_what_scikit_learn_takes() -> None:
    from sklearn.utils._param_validation import InvalidParameterError

    X = bits()
    rbm = sklearn.BernoulliRBM(n_components=4, batch_size=20, random_state=0).partial_fit(X)
    rbm.components_ = np.ascontiguousarray(rbm.components_)
    rbm.intercept_hidden_ = rbm.intercept_hidden_.astype(np.float32)
    before = rbm.components_.copy()
    assert rbm.partial_fit(X).n_iter == 10
    assert (rbm.components_ != before).all()
    with pytest.raises(InvalidParameterError):
        sklearn.BernoulliRBM(n_components=4, n_iter=-3).partial_fit(X)


def test_log_likelihood_and_model() -> None:
    X = bits(30, 6)
    rbm = sklearn.BernoulliRBM(n_components=4, n_iter=5, random_state=0).fit(X)
    states = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(np.float64)
    assert np.exp(rbm.log_likelihood(states)).sum() == pytest.approx(1.0, rel=1e-12)
    assert isinstance(rbm.model, vf.BernoulliRBM)
    np.testing.assert_array_equal(rbm.model.weights, rbm.components_.T)
    with pytest.raises(ValueError, match="0"):
        rbm.log_likelihood(states + 0.5)


def test_in_a_pipeline() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline

    X = bits(80)
    y = X[:, 0].astype(int)
    pipeline = Pipeline(
        [("rbm", sklearn.BernoulliRBM(n_iter=20, random_state=0)), ("classify", LogisticRegression())]
    )
    search = GridSearchCV(pipeline, {"rbm__n_components": [3, 30], "rbm__learning_rate": [0.05]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.8


def test_it_learns() -> None:
    """Against scikit-learn's own at the same settings: exact log-likelihoods within noise."""
    from sklearn.neural_network import BernoulliRBM as Theirs

    X = bits(400)
    X[:, 1] = X[:, 0]
    options = {"n_components": 6, "n_iter": 60, "batch_size": 20, "learning_rate": 0.05}
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for seed in range(4):
        ours = sklearn.BernoulliRBM(random_state=seed, **options).fit(X)
        theirs = Theirs(random_state=seed, **options).fit(X)
        found["ours"].append(ours.log_likelihood(X).mean())
        ours.components_ = theirs.components_
        ours.intercept_visible_, ours.intercept_hidden_ = theirs.intercept_visible_, theirs.intercept_hidden_
        found["theirs"].append(ours.log_likelihood(X).mean())
    ours_mean, theirs_mean = np.mean(found["ours"]), np.mean(found["theirs"])
    spread = np.hypot(np.std(found["ours"], ddof=1), np.std(found["theirs"], ddof=1)) / 2
    assert abs(ours_mean - theirs_mean) < 5 * spread + 0.01


def test_the_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "try:\n    import vfe_fast.sklearn\nexcept ModuleNotFoundError as error:\n    print(error)\n"
    )
    paths = [str(Path(vf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "extra 'sklearn'" in done.stdout
