"""The command line: every command, and one line instead of a traceback when something is wrong."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_rbm
from vfe_fast.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.npz"
    random_rbm(6, 4, scale=0.5).save(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npy"
    np.save(path, (np.random.default_rng(0).random((50, 6)) < np.linspace(0.2, 0.8, 6)).astype(np.uint8))
    return path


def succeed(capsys: Capture, *argv: Any) -> str:
    assert main([str(word) for word in argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def fail(capsys: Capture, *argv: Any) -> str:
    """Run a command that must end with status 1, nothing on standard output and one line of error."""
    assert main([str(word) for word in argv]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("vfe-fast: ")
    assert captured.err.count("\n") == 1
    return captured.err


# --- the commands ---------------------------------------------------------------------------------


def test_demo(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    folder = tmp_path / "new" / "folder"
    assert main(["demo", "--epochs", "3", "--output", str(folder)]) == 0
    captured = capsys.readouterr()
    assert sorted(os.listdir(folder)) == ["vfe_fast_demo.npz", "vfe_fast_demo.png"]
    assert (folder / "vfe_fast_demo.png").read_bytes().startswith(b"\x89PNG")
    rbm = vf.load(folder / "vfe_fast_demo.npz")
    assert (rbm.n_visible, rbm.n_hidden) == (64, 20)
    assert "test (exact)" in captured.out
    assert "independent pixels" in captured.out
    assert "3/3" in captured.err  # the progress bar


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib"])
def test_demo_without_an_extra(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Said before the training, not after it."""
    for name in [missing, *(name for name in sys.modules if name.startswith(f"{missing}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("vfe_fast.demo.train", lambda *args, **kwargs: pytest.fail("it trained"))
    assert main(["demo", "--epochs", "1", "--output", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert missing in message
    assert "the extra 'demo'" in message


def test_an_extra_is_named_once(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What says how to install it is not told again by the command line."""
    for name in [name for name in sys.modules if name.startswith("vfe_fast.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    message = fail(capsys, "vae", "train")
    assert "pip install" in message
    assert "the extra" not in message


@pytest.mark.parametrize("method", ["cd", "pcd", "exact"])
def test_train(tmp_path: Path, capsys: Capture, data: Path, method: str) -> None:
    def trained(name: str) -> vf.BernoulliRBM:
        out = succeed(
            capsys, "train", data, "--output", tmp_path / name, "--hidden", 3, "--method", method,
            "--epochs", 4, "--batch-size", 20, "--learning-rate", 0.1, "--momentum", 0.5, "--centered",
            "--weight-decay", 0.001, "--steps", 2, "--chains", 10, "--exact-every", 2, "--seed", 7, "--quiet",
        )  # fmt: skip
        assert "log_likelihood_train -" in out
        assert str(tmp_path / name) in out
        return vf.load(tmp_path / name)

    rbm = trained("a.npz")
    assert (rbm.n_visible, rbm.n_hidden) == (6, 3)
    again = trained("b.npz")
    assert [p.tobytes() for p in rbm.parameters] == [p.tobytes() for p in again.parameters]


def test_train_is_the_train_of_the_package(tmp_path: Path, capsys: Capture, data: Path) -> None:
    succeed(capsys, "train", data, "--output", tmp_path / "m.npz", "--epochs", 2, "--seed", 3, "--quiet")
    states = np.load(data)
    expected = vf.BernoulliRBM.from_data(states, 20, rng=3)
    vf.train(expected, states, n_epochs=2, learning_rate=0.05, rng=3)
    found = vf.load(tmp_path / "m.npz")
    assert [p.tobytes() for p in found.parameters] == [p.tobytes() for p in expected.parameters]


def test_train_goes_on_from_its_checkpoint(tmp_path: Path, capsys: Capture, data: Path) -> None:
    options = ["train", data, "--hidden", 3, "--seed", 7, "--quiet", "--batch-size", 20]
    straight, parts, checkpoint = (tmp_path / name for name in ("straight.npz", "parts.npz", "run.npz"))
    succeed(capsys, *options, "--epochs", 5, "--output", straight)
    for epochs in (2, 5):
        succeed(capsys, *options, "--epochs", epochs, "--output", parts, "--checkpoint", checkpoint)
    assert vf.load(parts).weights.tobytes() == vf.load(straight).weights.tobytes()
    message = fail(
        capsys, *options, "--epochs", 6, "--output", parts, "--checkpoint", checkpoint, "--momentum", 0.5
    )
    assert "momentum" in message
    assert str(checkpoint) in message


def test_train_on_an_npz_and_to_safetensors(tmp_path: Path, capsys: Capture, data: Path) -> None:
    pytest.importorskip("safetensors")
    np.savez(tmp_path / "data.npz", states=np.load(data))
    output = tmp_path / "m.safetensors"
    succeed(capsys, "train", tmp_path / "data.npz", "--output", output, "--epochs", 1, "--quiet")
    assert vf.load(output).n_visible == 6


@pytest.mark.parametrize(("units", "kind"), [("spin", vf.SpinRBM), ("real", vf.GaussianRBM)])
def test_train_and_sample_other_units(tmp_path: Path, capsys: Capture, units: str, kind: type) -> None:
    rng = np.random.default_rng(0)
    states = rng.choice([-1, 1], (50, 6)).astype(np.int8) if units == "spin" else rng.normal(size=(50, 6))
    np.save(tmp_path / "data.npy", states)
    more = ["--learn-sigma"] if units == "real" else []
    succeed(
        capsys, "train", tmp_path / "data.npy", "--output", tmp_path / "m.npz", "--units", units, "--seed", 1,
        "--hidden", 3, "--epochs", 2, "--exact-every", 1, "--quiet", *more,
    )  # fmt: skip
    rbm = vf.load(tmp_path / "m.npz")
    assert isinstance(rbm, kind)
    succeed(capsys, "sample", tmp_path / "m.npz", "--output", tmp_path / "s.npy", "-n", 7, "--steps", 3)
    samples = np.load(tmp_path / "s.npy")
    assert samples.shape == (7, 6)
    assert samples.dtype == (np.int8 if units == "spin" else np.float64)


def test_only_real_units_have_a_sigma(tmp_path: Path, capsys: Capture, data: Path) -> None:
    error = fail(capsys, "train", data, "--output", tmp_path / "m.npz", "--learn-sigma", "--quiet")
    assert "--learn-sigma: expected a GaussianRBM" in error


def test_train_shows_its_progress(tmp_path: Path, capsys: Capture, data: Path) -> None:
    assert main(["train", str(data), "--output", str(tmp_path / "m.npz"), "--epochs", "2"]) == 0
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_log_z(capsys: Capture, model: Path, beta: float) -> None:
    out = succeed(capsys, "log-z", model, "--beta", beta)
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    weights, visible_bias, hidden_bias = vf.load(model).parameters
    v = (np.arange(2**6)[:, None] >> np.arange(6)) & 1
    terms = beta * (v @ visible_bias) + np.logaddexp(0, beta * (v @ weights + hidden_bias)).sum(axis=1)
    log_z = np.log(np.exp(terms).sum())
    assert float(rows["ln"].split()[1]) == pytest.approx(log_z, rel=1e-12)
    assert float(rows["F"]) == pytest.approx(-log_z / beta, rel=1e-12)
    assert float(rows["stderr"]) == 0.0
    assert rows["kind"] == "exact"
    assert rows["states"].startswith("16 ")


def test_log_z_of_several_betas(capsys: Capture, model: Path) -> None:
    rbm = vf.load(model)
    out = succeed(capsys, "log-z", model, "--beta", "1", "0.5", "--precision", "single")
    found = [float(line.split()[-1]) for line in out.splitlines() if line.startswith("ln Z")]
    assert found == pytest.approx([vf.free_energy.exact(rbm, beta=b).log_z for b in (1.0, 0.5)], abs=1e-6)
    assert [line for line in out.splitlines() if line.startswith("beta")] == ["beta   1", "beta   0.5"]


@pytest.mark.parametrize("method", ["mean_field", "tap_2", "ais"])
def test_log_z_by_other_methods(capsys: Capture, model: Path, method: str) -> None:
    out = succeed(
        capsys, "log-z", model, "--method", method, "--beta", "0.7", "--seed", "3", "--threads", "1"
    )
    name = method.replace("_2", " 2")
    F = vf.free_energy.compare(vf.load(model), [name], beta=0.7, rng=3)[name]
    assert f"ln Z   {F.log_z:.15g}" in out
    assert f"kind   {F.kind}" in out
    assert "seed   3" in out


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_log_z_by_a_density_of_states(tmp_path: Path, capsys: Capture, scale: float) -> None:
    """Exact of whole-numbered couplings, with a bound of others."""
    path, ising = (
        tmp_path / "ising.npz",
        vf.Ising(scale * (np.ones((4, 4)) - np.eye(4)), np.full(4, 0.2 * scale**2)),
    )
    ising.save(path)
    out = succeed(capsys, "log-z", path, "--method", "density_of_states")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if line)
    bound = float(rows["bound"].split(",")[0]) if "bound" in rows else 0.0
    assert abs(float(rows["ln"].split()[1]) - vf.free_energy.exact(ising).log_z) < bound + 1e-12
    assert (rows["kind"] == "exact") == (bound == 0)


def test_log_z_by_all_methods(capsys: Capture, model: Path) -> None:
    pytest.importorskip("pymbar")
    out = succeed(capsys, "log-z", model, "--method", "all", "--seed", "0")
    assert all(name in out for name in ("exact", "mean_field", "reverse_ais"))


def test_log_z_with_moments(capsys: Capture, model: Path) -> None:
    out = succeed(capsys, "log-z", model, "--moments")
    moments = vf.free_energy.exact(vf.load(model), moments=True).moments
    assert moments is not None
    energy = next(line.split()[1] for line in out.splitlines() if line.startswith("<E>"))
    assert float(energy) == pytest.approx(moments.energy, rel=1e-12)


def test_log_z_writes_the_moments(tmp_path: Path, capsys: Capture, model: Path) -> None:
    out = succeed(capsys, "log-z", model, "--output", tmp_path / "moments.npz")
    result = vf.free_energy.exact(vf.load(model), moments=True)
    moments = result.moments
    assert isinstance(moments, vf.free_energy.Moments)
    assert "Var E" in out
    names = ("energy", "energy_variance", "visible", "hidden", "visible_hidden")
    with np.load(tmp_path / "moments.npz") as written:
        assert sorted(written) == sorted(["log_z", *names])
        assert written["log_z"] == result.log_z
        assert written["energy_variance"] == moments.energy_variance
        np.testing.assert_array_equal(written["visible_hidden"], moments.visible_hidden)


def test_log_z_that_would_take_too_long(tmp_path: Path, capsys: Capture) -> None:
    random_rbm(70, 60, scale=0.01).save(tmp_path / "large.npz")
    message = fail(capsys, "log-z", tmp_path / "large.npz")
    assert "2^60 states" in message
    assert "years" in message


def test_sample(tmp_path: Path, capsys: Capture, model: Path) -> None:
    options = ["--chains", 30, "--steps", 5, "--seed", 2, "--beta", 0.7]
    out = succeed(capsys, "sample", model, "--output", tmp_path / "a.npy", *options)
    assert "30 samples of 6 units" in out
    chains = vf.GibbsChains(vf.load(model), 30, rng=2)
    chains.step(5, beta=0.7)
    found = np.load(tmp_path / "a.npy")
    assert (found.dtype, found.shape) == (np.uint8, (30, 6))
    np.testing.assert_array_equal(found, chains.visible)
    succeed(capsys, "sample", model, "--output", tmp_path / "b.npy", "-n", 30, *options[2:])
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_info(capsys: Capture, model: Path) -> None:
    out = succeed(capsys, "info")
    for name in ("version", "target", "num_threads", "cuda"):
        assert name in out
    out = succeed(capsys, "info", model)
    assert "n_visible=6, n_hidden=4" in out
    assert "visible_bias" in out


def test_bench_describes_itself(capsys: Capture) -> None:
    pytest.importorskip("vfe_fast.bench")
    with pytest.raises(SystemExit) as end:
        main(["bench", "--help"])
    assert end.value.code == 0
    assert "usage:" in capsys.readouterr().out


# --- what goes wrong ------------------------------------------------------------------------------

BAD_MODELS = {
    "missing": None,
    "empty": b"",
    "text": b"not a model\n",
    "pickle": pickle.dumps({"weights": [1.0]}),
    "truncated": b"PK\x03\x04 and no more",
    "multi-line": b"\x93NUMPY\x01\x00\x10\x00not\na\nheader\n  \n",
}


@pytest.mark.parametrize("command", ["log-z", "sample", "info"])
@pytest.mark.parametrize("bad", BAD_MODELS)
def test_bad_model_files(tmp_path: Path, capsys: Capture, command: str, bad: str) -> None:
    path = tmp_path / "bad.npz"
    content = BAD_MODELS[bad]
    if content is not None:
        path.write_bytes(content)
    output = ["--output", tmp_path / "samples.npy"] if command == "sample" else []
    assert str(path) in fail(capsys, command, path, *output)
    assert not (tmp_path / "samples.npy").exists()


def test_what_takes_too_long_is_said_in_words_of_a_shell(tmp_path: Path, capsys: Capture) -> None:
    """2^60 states: the option that allows them where there is one, and no advice where there is none."""
    random_rbm(60, 60, scale=0.1).save(tmp_path / "model.npz")
    error = fail(capsys, "log-z", tmp_path / "model.npz", "--max-seconds", "5")
    assert "(--max-seconds = 5). Raise --max-seconds" in error
    assert "--method ais" in error
    np.save(tmp_path / "data.npy", np.random.default_rng(0).integers(0, 2, (50, 60), np.uint8))
    training = ["train", tmp_path / "data.npy", "--output", tmp_path / "m.npz", "--hidden", "60", "--quiet"]
    for option in (["--method", "exact"], ["--exact-every", "1"]):
        error = fail(capsys, *training, *option)
        assert error.startswith(f"vfe-fast: {option[0]}:")
        assert "max" not in error


BAD_DATA = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("0,1\n1,0\n"),
    "pickle": lambda path: path.write_bytes(pickle.dumps([[0, 1]])),
    "objects": lambda path: np.savez(path, np.array([[0, None]], dtype=object)),
    "truncated npz": lambda path: path.write_bytes(b"PK\x03\x04 and no more"),
    "two arrays": lambda path: np.savez(path, a=np.eye(3), b=np.eye(3)),
    "no array": lambda path: np.savez(path),
    "1-d": lambda path: np.savez(path, np.ones(3)),
    "grey": lambda path: np.savez(path, np.full((4, 3), 0.5)),
    "no samples": lambda path: np.savez(path, np.ones((0, 3))),
    "a zip of something else": lambda path: zip_of_text(path),
}


def zip_of_text(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


@pytest.mark.parametrize("bad", BAD_DATA)
def test_bad_data_files(tmp_path: Path, capsys: Capture, bad: str) -> None:
    path = tmp_path / "bad.npz"
    BAD_DATA[bad](path)
    fail(capsys, "train", path, "--output", tmp_path / "model.npz", "--quiet")
    assert not (tmp_path / "model.npz").exists()


@pytest.mark.parametrize(
    ("command", "options", "named"),
    [
        ("log-z", ["--beta", "-1"], "--beta:"),
        ("log-z", ["--beta", "nan"], "--beta:"),
        ("log-z", ["--max-seconds", "0"], "--max-seconds:"),
        ("log-z", ["--output", "m.npy"], "--output:"),
        ("log-z", ["--output", "m.npz", "--beta", "1", "2"], "--output:"),
        ("log-z", ["--method", "ais", "--beta", "1", "2"], "--beta:"),
        ("log-z", ["--method", "ais", "--moments"], "--method:"),
        ("sample", ["--steps", "0"], "--steps:"),
        ("sample", ["--steps", str(2**70)], "--steps:"),
        ("sample", ["--chains", "0"], "--chains:"),
        ("sample", ["--chains", str(2**46)], ""),
        ("sample", ["--seed", "-1"], "--seed:"),
        ("sample", ["--output", os.path.join("nowhere", "x.npy")], "nowhere"),
        ("train", ["--hidden", "0"], "--hidden:"),
        ("train", ["--hidden", str(2**46)], ""),
        ("train", ["--epochs", "-1"], "--epochs:"),
        ("train", ["--learning-rate", "-1"], "--learning-rate:"),
        ("train", ["--momentum", "1"], "--momentum:"),
        ("train", ["--exact-every", "0"], "--exact-every:"),
        ("train", ["--output", os.path.join("nowhere", "x.npz")], "nowhere"),
        ("train", ["--checkpoint", os.path.join("nowhere", "x.npz")], "nowhere"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else x,
)
def test_bad_options(
    tmp_path: Path, capsys: Capture, model: Path, data: Path, command: str, options: list[str], named: str
) -> None:
    given = {"log-z": [model], "sample": [model, "--output", tmp_path / "x.npy"], "train": [data, "--quiet"]}
    if command == "train":
        given["train"] += ["--output", tmp_path / "y.npz"]
    assert named in fail(capsys, command, *given[command], *options)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["log-z"],
        ["sample", "m.npz"],
        ["train"],
        ["info", "--fast"],
        ["log-z", "m", "--beta", "x"],
    ],
)
def test_wrong_usage(capsys: Capture, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage:" in captured.err


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["log-z", "--help"]])
def test_help(capsys: Capture, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 0
    assert "usage: vfe-fast" in capsys.readouterr().out


def test_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"vfe_fast {vf.__version__}\n"


def test_interrupt(capsys: Capture, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vf._core, "exact_rbm", interrupted)
    assert main(["log-z", str(model)]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


# --- as a process ---------------------------------------------------------------------------------


def command(*argv: Any) -> dict[str, Any]:
    return {
        "args": [sys.executable, "-m", "vfe_fast", *map(str, argv)],
        "env": {**os.environ, "PYTHONPATH": str(Path(vf.__file__).parents[1])},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def test_as_a_process(tmp_path: Path, model: Path) -> None:
    done = subprocess.run(**command("log-z", model), timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ln Z ")
    done = subprocess.run(**command("info", tmp_path / "nothing.npz"), timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("vfe-fast: ")
    assert "Traceback" not in done.stderr


def test_interrupted_process(tmp_path: Path, data: Path) -> None:
    """It keeps the model it has, and says so."""
    checkpoint, output = tmp_path / "run.npz", tmp_path / "model.npz"
    options = ["--output", output, "--checkpoint", checkpoint, "--epochs", 10**6, "--quiet", "--seed", 1]
    with subprocess.Popen(**command("train", data, *options)) as child:
        give_up = time.monotonic() + 30
        while not checkpoint.exists() and time.monotonic() < give_up:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert child.returncode == 130, err
    assert "(interrupted)" in out
    assert err == ""
    assert vf.load(output).n_visible == 6


@pytest.mark.parametrize(
    "options",
    [
        ["--output", "data.npz"],
        ["--output", "model.npy"],
        ["--output", "model.npz", "--checkpoint", "data.npz"],
        ["--output", "model.npz", "--checkpoint", "./model.npz"],
    ],
)
def test_training_destroys_no_file(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """Data, checkpoint and model are three files; said before any work."""
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", states=np.random.default_rng(0).integers(0, 2, (20, 5)))
    before = (tmp_path / "data.npz").read_bytes()
    assert fail(capsys, "train", "data.npz", "--quiet", *options).count("expected") == 1
    assert (tmp_path / "data.npz").read_bytes() == before
    assert os.listdir(tmp_path) == ["data.npz"]


def test_log_z_of_an_ising_model(tmp_path: Path, capsys: Capture) -> None:
    ising = vf.Ising(np.ones((6, 6)) - np.eye(6), np.arange(6.0))
    ising.save(tmp_path / "ising.npz")
    arguments = ["log-z", str(tmp_path / "ising.npz"), "--moments", "--beta", "0.5"]
    assert main([*arguments, "--checkpoint", str(tmp_path / "sum.npz"), "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert f"{vf.free_energy.exact(ising, beta=0.5).log_z:.12g}" in out
    assert "<s>" in out
    assert main(["info", str(tmp_path / "ising.npz")]) == 0
    assert "couplings" in capsys.readouterr().out


def test_files_that_are_no_states(tmp_path: Path, capsys: Capture, model: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("0,1\n1,0\n")
    assert "expected states in a .npy or .npz file" in fail(
        capsys, "train", path, "--output", tmp_path / "m.npz"
    )
    assert "--output: expected a name that ends in .npy" in fail(
        capsys, "sample", model, "--output", tmp_path / "s.csv"
    )


# --- variational autoencoders ---------------------------------------------------------------------


def test_vae(tmp_path: Path, data: Path, capsys: Capture) -> None:
    """Train, go on from the checkpoint, evaluate, sample; the same seed gives the same bits."""
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    vae, run, drawn = tmp_path / "vae.npz", tmp_path / "run.npz", tmp_path / "drawn.npy"
    how = [data, "--output", vae, "--latents", "2", "--hidden", "8", "--batch-size", "10", "--quiet"]
    objective = ["--objective", "cumulant", "--order", "3", "--samples", "6"]
    out = succeed(
        capsys, "vae", "train", *how, *objective, "--epochs", "2", "--seed", "5", "--checkpoint", run
    )
    assert "VAE of 6 units and 2 latents" in out
    succeed(capsys, "vae", "train", *how, *objective, "--epochs", "4", "--checkpoint", run)
    continued = vae.read_bytes()
    picture = tmp_path / "vae.png"
    succeed(capsys, "vae", "train", *how, *objective, "--epochs", "4", "--seed", "5", "--picture", picture)
    with np.load(vae) as a, np.load(io.BytesIO(continued)) as b:
        assert all(np.array_equal(a[name], b[name]) for name in a.files)
    assert picture.read_bytes().startswith(b"\x89PNG")
    judge = ["vae", "evaluate", vae, data, "--samples", "60", "--rows", "20", "--seed", "1"]
    out = succeed(capsys, *judge, "--quiet")
    assert "IWAE-50" in out
    assert "F is an upper bound" in out
    assert "--rows: expected" in fail(capsys, "vae", "evaluate", vae, data, "--rows", "-1")
    assert main([str(x) for x in judge]) == 0
    shown = capsys.readouterr()
    assert shown.out == out
    assert "20/20" in shown.err or "tqdm" not in sys.modules
    out = succeed(capsys, "vae", "sample", vae, "--output", drawn, "-n", "7", "--seed", "2")
    states = np.load(drawn)
    assert states.shape == (7, 6)
    assert set(np.unique(states)) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--order", "3"], "--order:"),
        (["--objective", "iwae", "--samples", "0"], "--samples:"),
        (["--held-out", "1"], "--held-out:"),
        (["--latents", "0"], "--latents:"),
        (["--output", "x.pt"], "--output:"),
        (["--network", "convolutional"], "square"),
        (["--hidden", "0"], "--hidden:"),
        (["--threads", "0"], "--threads:"),
        (["--likelihood", "gaussian", "--learning-rate", "1e30"], "--learning-rate:"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else x,
)
def test_bad_options_of_vae(
    tmp_path: Path, data: Path, capsys: Capture, options: list[str], named: str
) -> None:
    pytest.importorskip("torch")
    given = ["vae", "train", data, "--quiet", "--output", tmp_path / "vae.npz"]
    assert named in fail(capsys, *given, *options)


def test_vae_of_other_files(tmp_path: Path, model: Path, data: Path, capsys: Capture) -> None:
    pytest.importorskip("torch")
    assert "VAE of vfe_fast" in fail(capsys, "vae", "evaluate", model, data)
    assert "VAE of vfe_fast" in fail(capsys, "vae", "sample", model, "--output", tmp_path / "x.npy")
