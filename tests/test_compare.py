"""`compare`: each method's own result, named, timed and put in words; bounds on their sides."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_rbm
from oracles.rbm import all_states
from vfe_fast.free_energy.as_ising import as_ising
from vfe_fast.free_energy.compare import METHODS, Comparison, compare

FIGURES = Path(__file__).parents[1] / "docs" / "figures"


@pytest.fixture(scope="module")
def rbm():
    return random_rbm(9, 6, scale=0.5)


@pytest.fixture(scope="module")
def found(rbm):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the table says it instead
        return compare(rbm, beta=0.8, rng=3)


def brute_force(rbm, beta):
    v, h = all_states(rbm.n_visible), all_states(rbm.n_hidden)
    energy = -(v @ rbm.visible_bias)[:, None] - (h @ rbm.hidden_bias)[None] - v @ rbm.weights @ h.T
    return float(np.logaddexp.reduce(-beta * energy, axis=None))


def test_all_methods_of_an_rbm(rbm, found):
    log_z = brute_force(rbm, 0.8)
    fit = [name for name, method in METHODS.items() if vf.BernoulliRBM in method.models + method.as_ising]
    assert list(found.results) == [name for name in fit if name not in found.skipped]
    assert set(found.skipped) <= {"mbar", "bar", "umbrella"}  # without pymbar
    assert found.reference == "exact"
    for name, F in found.results.items():
        assert F.beta == 0.8
        assert F.value == pytest.approx(-F.log_z / 0.8, rel=1e-12)
        apart = F.log_z - log_z
        if F.kind == "exact":
            assert abs(apart) < 1e-10
        elif F.kind == "upper_bound":
            assert apart < 3 * F.stderr + 1e-10
        elif F.kind == "lower_bound":
            assert apart > -3 * F.stderr
        elif F.kind == "consistent":
            # Of nine methods: one false alarm in 1,700 sets of seeds.
            assert abs(apart) < 4 * F.stderr + F.details.get("error_bound", 0.0) + 1e-10, name
        else:
            assert abs(apart) < 0.2


def test_bar_reads_the_run_of_mbar(rbm, found):
    pytest.importorskip("pymbar")
    assert found["bar"].details["run"] is found["mbar"].details["run"]
    few = {"n_sweeps": 50, "betas": 6}
    own = compare(rbm, ["mbar", "bar"], options={"mbar": few, "bar": few}, rng=3)
    assert own["bar"].details["run"] is not own["mbar"].details["run"]


def test_bounds_read_the_chains_of_annealing(rbm, found):
    ends = found["ais bound"], found["reverse_ais bound"]
    assert [F.kind for F in ends] == ["upper_bound", "lower_bound"]
    sandwich = vf.free_energy.AisSandwich(found["ais"], found["reverse_ais"])
    assert [F.log_z for F in ends] == [F.log_z for F in sandwich.bounds]
    alone = compare(rbm, ["ais bound", "reverse_ais bound"], beta=0.8, rng=3)
    assert [F.log_z for F in alone.results.values()] == [F.log_z for F in ends]


@pytest.mark.parametrize("kind", [vf.SpinRBM, vf.Ising, vf.GaussianRBM])
def test_models_of_each_kind(kind):
    draw = np.random.default_rng(5)
    if kind is vf.Ising:
        upper = np.triu(draw.normal(size=(7, 7)) / 4, 1)
        model = vf.Ising(upper + upper.T, draw.normal(size=7))
    else:
        parts = [draw.normal(size=(4, 3)) / 3, draw.normal(size=4), draw.normal(size=3)]
        model = kind(*parts, *([np.full(4, 1.2)] if kind is vf.GaussianRBM else []))
    found = compare(model, rng=1)
    assert found["exact"].log_z == vf.free_energy.exact(model).log_z
    for name, F in found.results.items():
        assert abs(F.log_z - found["exact"].log_z) < 0.5, name
        if F.kind == "consistent" and F.converged:
            bound = 4 * F.stderr + F.details.get("error_bound", 0.0) + 1e-10
            assert abs(F.log_z - found["exact"].log_z) < bound, name
        if F.kind == "upper_bound":
            assert F.log_z < found["exact"].log_z + 3 * F.stderr + 1e-10
    of_reals = {"integral", "laplace"}
    without_pymbar = {"mbar", "bar", "umbrella"}
    expected = set(METHODS) if kind is vf.GaussianRBM else set(METHODS) - of_reals
    assert expected - without_pymbar <= set(found.results) <= expected
    assert found["wang_landau"].converged


@pytest.mark.parametrize("beta", [0.4, 1.3])
@pytest.mark.parametrize("kind", [vf.BernoulliRBM, vf.SpinRBM, vf.GaussianRBM])
def test_an_rbm_as_an_ising_model(kind, beta):
    """ln Z of both by sums over all states as their energies are written down."""
    draw = np.random.default_rng(6)
    w, a, b = draw.normal(size=(4, 3)), draw.normal(size=4), draw.normal(size=3)
    low = -1.0 if kind is vf.SpinRBM else 0.0
    v, h = (np.array(list(itertools.product((low, 1.0), repeat=n))) for n in (4, 3))
    if kind is vf.GaussianRBM:  # v given h is normal: completing the square by hand
        sigma = np.array([0.7, 1.1, 0.9, 1.6])
        model, x = vf.GaussianRBM(w, a, b, sigma), h @ w.T
        energies = -h @ b - (x**2 / 2 + x * a) @ sigma**-2
        log_z = np.logaddexp.reduce(-beta * energies) + 0.5 * np.log(2 * np.pi * sigma**2 / beta).sum()
    else:
        model = kind(w, a, b)
        energies = -(v @ a)[:, None] - h @ b - v @ w @ h.T
        log_z = np.logaddexp.reduce(-beta * energies, axis=None)
    ising, constant = as_ising(model, beta)
    s = np.array(list(itertools.product((-1.0, 1.0), repeat=ising.n_spins)))
    of_spins = -0.5 * np.einsum("ni,ij,nj->n", s, ising.couplings, s) - s @ ising.fields
    assert np.logaddexp.reduce(-beta * of_spins) + constant == pytest.approx(log_z, abs=1e-12)


def test_quantum_spins():
    draw = np.random.default_rng(7)
    upper = np.triu(draw.normal(size=(6, 6)) / 2, 1)
    model = vf.TransverseFieldIsing(vf.Ising(upper + upper.T, draw.normal(size=6)), draw.normal(size=6))
    found = compare(model, beta=0.7, rng=1)
    assert list(found.results) == ["exact", "trace"]
    energies = np.linalg.eigvalsh(model @ np.eye(64))
    assert found["exact"].log_z == pytest.approx(np.logaddexp.reduce(-0.7 * energies), abs=1e-12)
    assert abs(found["trace"].log_z - found["exact"].log_z) < 4 * found["trace"].stderr
    large = vf.TransverseFieldIsing(vf.Ising(np.zeros((11, 11))), 1.0)
    assert "at most 10 spins" in compare(large, ["exact"]).skipped["exact"]


def test_windows_that_are_given(rbm):
    pytest.importorskip("pymbar")
    windows = {"centers": np.arange(10.0), "spring": 1.0, "order": np.ones(9), "n_units": 1}
    found = compare(rbm, ["exact", "umbrella"], options={"umbrella": windows}, rng=2)
    assert abs(found["umbrella"].log_z - found["exact"].log_z) < 4 * found["umbrella"].stderr
    middle = windows | {"centers": [4.0, 5.0], "spring": 50.0, "n_steps": 200}
    with pytest.raises(ValueError, match="no window has reached an end"):
        compare(rbm, "umbrella", options={"umbrella": middle}, rng=2)


def test_options_and_data_reach_their_methods(rbm):
    data = (np.random.default_rng(0).random((40, 9)) < 0.3).astype(np.uint8)
    found = compare(rbm, ["ais", "mean_field"], data=data, options={"ais": {"n_chains": 17}}, rng=4)
    assert list(found.results) == ["ais", "mean_field"]
    own = vf.free_energy.ais(rbm, n_chains=17, data=data, rng=4)
    assert found["ais"].log_z == own.log_z
    assert found["mean_field"].log_z == vf.free_energy.mean_field(rbm, data=data, rng=4).log_z
    assert found.reference == "ais"


def test_table(rbm, found):
    table = str(found).splitlines()
    assert table[0] == f"{rbm!r} at beta = 0.8"
    assert "- exact" in table[1]
    (row,) = [line for line in table if line.startswith("mean_field")]
    assert "upper bound" in row
    assert f"{found['mean_field'].log_z:.4f}" in row


def test_what_did_not_converge_says_why():
    strong = vf.BernoulliRBM(*(6 * x for x in random_rbm(12, 9).parameters))
    found = compare(strong, ["tap 2"], rng=0)
    assert not found["tap 2"].converged
    assert found["tap 2"].problem
    assert f"tap 2: {found['tap 2'].problem}" in str(found)
    assert found.reference is None


def test_the_reference_is_the_best_estimate_that_is_reliable() -> None:
    """Neither a bound, nor what is only asymptotic or has not converged, however small its error."""
    F = compare(random_rbm(3, 2), ["ais"], rng=0)["ais"]
    results = {
        "loose": dataclasses.replace(F, stderr=0.3),
        "good": dataclasses.replace(F, stderr=0.2),
        "not converged": dataclasses.replace(F, stderr=0.01, converged=False),
        "asymptotic": dataclasses.replace(F, stderr=0.01, kind="asymptotic"),
        "bound": dataclasses.replace(F, stderr=0.0, kind="upper_bound"),
        "last": dataclasses.replace(F, stderr=0.25),
    }
    assert Comparison("a model", results, {}).reference == "good"
    del results["good"], results["last"], results["loose"]
    assert Comparison("a model", results, {}).reference is None


def test_what_is_out_of_reach_is_skipped_with_its_reason():
    large, counted = random_rbm(90, 80, scale=0.05), ["density_of_states", "trace", "wang_landau", "umbrella"]
    found = compare(large, ["exact", "mean_field", *counted], rng=0)
    assert list(found.results) == ["mean_field"]
    assert all("at most" in found.skipped[name] for name in counted)
    assert "would take" in found.skipped["exact"]
    assert "exact: none, " in str(found)
    found = compare(vf.Ising(np.zeros((3, 3))), ["laplace", "exact"])
    assert found.skipped == {"laplace": "it does not take a Ising"}


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"model": 3}, TypeError, "model"),
        ({"methods": ["aiz"]}, ValueError, "methods: expected names of exact"),
        ({"options": {"aiz": {}}}, ValueError, "options: expected names of exact"),
        ({"methods": ["exact"], "options": {"ais": {}}}, ValueError, "options: .* compared, got 'ais'"),
        ({"options": {"ais": None}}, TypeError, "options: expected a mapping of keywords"),
        ({"options": {"ais": {"n_chains": 0}}}, ValueError, "n_chains"),
        ({"beta": 0.0}, ValueError, "beta"),
        ({"beta": float("nan")}, ValueError, "beta"),
        ({"rng": -1}, ValueError, "rng"),
        ({"data": np.zeros((4, 3), np.uint8)}, ValueError, r"data: expected \(n_samples, 9\), got \(4, 3\)"),
        ({"data": np.zeros(9, np.uint8)}, ValueError, "data"),
        ({"options": {"ais": {"beta": 0.5}}}, ValueError, "options: expected no beta of ais"),
        ({"methods": ["exact"], "options": {"exact": {"nonsense": 1}}}, TypeError, "nonsense"),
    ],
)
def test_bad_input(rbm, bad, error, message):
    with pytest.raises(error, match=message):
        compare(**{"model": rbm, **bad})


def test_no_data_of_hidden_units():
    gaussian = vf.GaussianRBM(np.ones((2, 2)), np.zeros(2), np.zeros(2))
    quantum = vf.TransverseFieldIsing(vf.Ising(np.zeros((2, 2))), 1.0)
    for model in (gaussian, quantum):
        with pytest.raises(ValueError, match="data: expected None"):
            compare(model, ["exact"], data=np.zeros((3, 2)))
    with pytest.raises(TypeError, match="nonsense"):
        compare(quantum, ["exact"], options={"exact": {"nonsense": 1}})


@pytest.mark.parametrize("kind", [vf.BernoulliRBM, vf.SpinRBM, vf.GaussianRBM])
def test_what_is_not_of_the_ising_model(kind):
    """Details are; the constant leads from them to ln Z of the model."""
    draw = np.random.default_rng(7)
    model = kind(0.4 * draw.normal(size=(5, 4)), draw.normal(size=5), draw.normal(size=4))
    F = compare(model, ["density_of_states"], beta=0.7)["density_of_states"]
    details = F.details
    assert details["ising_constant"] + details["density"].log_z(0.7) == pytest.approx(F.log_z, rel=1e-13)
    assert abs(F.log_z - vf.free_energy.exact(model, beta=0.7).log_z) <= F.error_bound


def test_errors_of_bins_count():
    """In the table, and where the reference is chosen."""
    draw = np.random.default_rng(1)
    upper = np.triu(draw.normal(size=(8, 8)) / 3, 1)
    model = vf.Ising(upper + upper.T, draw.normal(size=8))
    found = compare(model, ["density_of_states", "ais"], options={"density_of_states": {"n_bins": 20}}, rng=0)
    F = found["density_of_states"]
    assert F.stderr == 0 < F.error_bound == F.details["error_bound"]
    (row,) = [line for line in str(found).splitlines() if line.startswith("density_of_states")]
    assert f"{F.error_bound:.2g}" in row
    assert found.reference == "ais"


def test_plot(found, tmp_path):
    pytest.importorskip("matplotlib")
    figure = found.plot(tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 1000
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [name.replace("_", " ") for name in found.results]


def test_plot_without_a_reference():
    pytest.importorskip("matplotlib")
    strong = vf.BernoulliRBM(*(6 * x for x in random_rbm(12, 9).parameters))
    compare(strong, ["tap 2"], rng=0).plot()


@pytest.mark.parametrize("script", sorted(FIGURES.glob("*.py")), ids=lambda path: path.stem)
def test_figures_of_the_docs(script, monkeypatch):
    """Each draws: those with real data need it."""
    pytest.importorskip("matplotlib")
    if script.stem == "style":
        return
    if script.stem in ("compare", "gibbs") and importlib.util.find_spec("scipy") is None:
        pytest.skip("scipy reads the images")
    monkeypatch.syspath_prepend(str(FIGURES))
    names = runpy.run_path(str(script))
    figure = names["draw"](names["compute"](small=True))
    assert figure.axes


def test_one_method_may_be_named_alone() -> None:
    rbm = random_rbm(5, 3, seed=2)
    assert compare(rbm, "exact")["exact"].log_z == compare(rbm, ["exact"])["exact"].log_z
