"""Files come back bit for bit, or are refused by name; writing one leaves nothing half done."""

from __future__ import annotations

import io
import os
import pickle
import re
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from conftest import random_parameters, random_rbm
from vfe_fast.training.checkpoints import read_checkpoint

SUFFIXES = ["npz", "safetensors"]


@pytest.fixture(params=SUFFIXES)
def suffix(request: pytest.FixtureRequest) -> str:
    if request.param == "safetensors":
        pytest.importorskip("safetensors")
    return str(request.param)


def same_bits(a: vf.BernoulliRBM, b: vf.BernoulliRBM) -> bool:
    return all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for x, y in zip(a.parameters, b.parameters, strict=True)
    )


def refused(path: Path) -> Any:
    """Expect the file to be refused in an error that names it."""
    return pytest.raises(ValueError, match=re.escape(str(path)))


def put(path: Path, content: bytes) -> None:
    """Write a new file; rewriting one in place is slow on some file systems."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def outcome(read: Callable[[Path], Any], path: Path) -> Any:
    """Return what was read, or None for a refusal that names the file."""
    try:
        return read(path)
    except ValueError as error:
        if str(path) not in str(error):
            raise
        return None


# --- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 3), (1, 1), (70, 130)])
def test_round_trip(tmp_path: Path, suffix: str, dtype: Any, shape: tuple[int, int]) -> None:
    weights, visible_bias, hidden_bias = random_parameters(*shape, dtype=dtype)
    weights.flat[0] = -0.0
    visible_bias[0] = np.finfo(dtype).smallest_subnormal
    hidden_bias[0] = -(2.0**99.5 if dtype is np.float32 else 2.0**899.5)  # just within the limit
    rbm = vf.BernoulliRBM(weights, visible_bias, hidden_bias)
    rbm.save(tmp_path / f"model.{suffix}")
    assert os.listdir(tmp_path) == [f"model.{suffix}"]
    loaded = vf.load(tmp_path / f"model.{suffix}")
    assert type(loaded) is vf.BernoulliRBM
    assert same_bits(loaded, rbm)


@pytest.mark.parametrize("name", ["model", "model.npz", "a model.v2", "モデル.npz", "model.safetensors.bak"])
@pytest.mark.parametrize("kind", [str, Path])
def test_any_name(tmp_path: Path, name: str, kind: Callable[[str], Any]) -> None:
    rbm = random_rbm(4, 3)
    path = kind(str(tmp_path / name))
    rbm.save(path)
    assert os.listdir(tmp_path) == [name]
    assert same_bits(vf.load(path), rbm)


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    rbm = random_rbm(4, 3)
    rbm.save(f"model.{suffix}")
    assert same_bits(vf.load(f"model.{suffix}"), rbm)


def test_overwriting(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model.{suffix}"
    random_rbm(9, 8).save(path)
    rbm = random_rbm(4, 3)
    rbm.save(path)
    assert same_bits(vf.load(path), rbm)
    assert len(os.listdir(tmp_path)) == 1


def test_compressed_by_somebody_else(tmp_path: Path) -> None:
    """The file is plain npz, so any tool may rewrite it."""
    rbm = random_rbm(4, 3)
    rbm.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        np.savez_compressed(tmp_path / "small.npz", **file)
    assert same_bits(vf.load(tmp_path / "small.npz"), rbm)


# --- damage ---------------------------------------------------------------------------------------


def test_truncated_anywhere(tmp_path: Path, suffix: str) -> None:
    random_rbm(3, 2).save(tmp_path / f"model.{suffix}")
    whole = (tmp_path / f"model.{suffix}").read_bytes()
    path = tmp_path / f"truncated.{suffix}"
    for size in range(len(whole)):
        put(path, whole[:size])
        with refused(path):
            vf.load(path)


def flipped(whole: bytes, positions: range, bit: int | None = None) -> Iterator[bytes]:
    """Flip one bit of one byte, for each position; which bit varies unless given."""
    for k in positions:
        damaged = bytearray(whole)
        damaged[k] ^= 1 << (k % 8 if bit is None else bit)
        yield bytes(damaged)


def test_flipped_bit_in_an_npz(tmp_path: Path) -> None:
    """The zip's checksums catch it, or it was in a field (a date, say) that does not matter."""
    rbm = random_rbm(3, 2)
    rbm.save(tmp_path / "model.npz")
    whole = (tmp_path / "model.npz").read_bytes()
    path = tmp_path / "damaged.npz"
    n_refused = 0
    for damaged in flipped(whole, range(len(whole))):
        put(path, damaged)
        loaded = outcome(vf.load, path)
        n_refused += loaded is None
        assert loaded is None or same_bits(loaded, rbm)
    assert n_refused > len(whole) // 2


def test_encrypted_zip(tmp_path: Path) -> None:
    """One flag in the directory; the standard library reports it in a class of its own."""
    random_rbm(3, 2).save(tmp_path / "model.npz")
    damaged = bytearray((tmp_path / "model.npz").read_bytes())
    damaged[damaged.index(b"PK\x01\x02") + 8] ^= 1
    path = tmp_path / "encrypted.npz"
    path.write_bytes(damaged)
    with refused(path):
        vf.load(path)


def test_flipped_bit_in_a_safetensors_header(tmp_path: Path) -> None:
    """The format has no checksum: damage to the numbers themselves cannot be seen, to the header it can."""
    pytest.importorskip("safetensors")
    rbm = random_rbm(3, 2)
    rbm.save(tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    assert len(whole) == header + 8 * (3 * 2 + 3 + 2)
    path = tmp_path / "damaged.safetensors"
    for damaged in flipped(whole, range(header)):
        put(path, damaged)
        loaded = outcome(vf.load, path)
        assert loaded is None or same_bits(loaded, rbm)


def test_damaged_checkpoint(tmp_path: Path) -> None:
    """Refused by name, or read back whole: every array, every number."""
    path = tmp_path / "run.npz"
    data = np.random.default_rng(0).integers(0, 2, size=(20, 4))
    vf.train(random_rbm(4, 3), data, n_epochs=1, batch_size=10, rng=0, centered=True, checkpoint=path)
    whole = path.read_bytes()
    expected = repr(read_checkpoint(path, {}))
    directory = whole.index(b"PK\x01\x02")
    for damaged in (
        *(whole[:size] for size in range(0, len(whole), 23)),
        *flipped(whole, range(0, directory, 5)),
        *flipped(whole, range(directory, len(whole))),
        *flipped(whole, range(directory, len(whole)), bit=0),  # parameter_0 becomes parameter_1
    ):
        put(path, damaged)
        found = outcome(lambda name: read_checkpoint(name, {}), path)
        assert found is None or repr(found) == expected


@pytest.mark.parametrize("method", ["pcd", "fpcd"])
@pytest.mark.parametrize("change", ["missing", "a row short", "transposed", "float16", "not finite", "text"])
def test_checkpoint_with_other_arrays(tmp_path: Path, change: str, method: str) -> None:
    """Each array in turn: a run that cannot go on says so at once, by the name of the file."""
    data = np.random.default_rng(0).integers(0, 2, size=(20, 4))
    options = {"batch_size": 10, "n_chains": 6, "rng": 0, "centered": True, "optimizer": "adam"}
    options["method"] = method
    vf.train(random_rbm(4, 3), data, n_epochs=1, checkpoint=tmp_path / "run.npz", **options)
    with np.load(tmp_path / "run.npz", allow_pickle=False) as file:
        arrays = dict(file)
    groups = {"parameter": 3, "velocity": 3, "squares": 3, "offset": 2}
    names = [f"{group}_{k}" for group, n in groups.items() for k in range(n)]
    names += ["chains_visible", "chains_hidden"]
    names += [f"chains_fast_{k}" for k in range(3)] if method == "fpcd" else []
    assert set(names) <= set(arrays)
    for name in names:
        good = arrays[name]
        if (change == "transposed" and good.ndim == 1) or (change == "not finite" and good.dtype.kind == "u"):
            continue
        changed = arrays | {
            name: {
                "missing": good,
                "a row short": good[1:],
                "transposed": good.T,
                "float16": good.astype(np.float16),
                "not finite": np.full_like(good, 0 if good.dtype.kind == "u" else np.nan),
                "text": np.array(["x"]),
            }[change]
        }
        if change == "missing":
            del changed[name]
        path = tmp_path / f"{name}.npz"
        np.savez(path, **changed)
        rbm = random_rbm(4, 3)
        before = rbm.parameters
        with refused(path):
            vf.train(rbm, data, n_epochs=2, checkpoint=path, resume=True, **options)
        assert rbm.parameters is before


# --- foreign files --------------------------------------------------------------------------------

HEADER = {"format": "vfe_fast.model", "format_version": "1", "kind": "BernoulliRBM"}
WEIGHTS, VISIBLE_BIAS, HIDDEN_BIAS = random_parameters(4, 3)
ARRAYS = {"weights": WEIGHTS, "visible_bias": VISIBLE_BIAS, "hidden_bias": HIDDEN_BIAS}


class Trap:
    """An object whose unpickling leaves a trace."""

    trace: str

    def __reduce__(self) -> tuple[Any, Any]:
        return os.mkdir, (self.trace,)


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return file.getvalue()


def claiming(shape: tuple[int, ...]) -> bytes:
    """Build a model whose weights say that they are much larger than the file."""
    with zipfile.ZipFile(io.BytesIO(npz(**HEADER, **ARRAYS))) as archive:
        members = {name.replace(".", "__"): archive.read(name) for name in archive.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return zipped(**members | {"weights__npy": header.getvalue() + WEIGHTS.tobytes()})


def without(name: str) -> dict[str, Any]:
    return {k: v for k, v in (HEADER | ARRAYS).items() if k != name}


FOREIGN: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "one byte": lambda: b"P",
    "text": lambda: b"visible,hidden\n1,2\n",
    "zeros": lambda: bytes(1000),
    "pickle": lambda: pickle.dumps(ARRAYS),
    "npy": lambda: npy(WEIGHTS),
    "npy of objects": lambda: npy(np.array([{}, None], dtype=object)),
    "empty npz": lambda: npz(),
    "somebody's npz": lambda: npz(x=WEIGHTS),
    "somebody's zip": lambda: zipped(readme__txt=b"hello", weights=b"1 2 3"),
    "no header": lambda: npz(**ARRAYS),
    "another format": lambda: npz(**HEADER | ARRAYS | {"format": "sklearn"}),
    "a checkpoint": lambda: npz(**HEADER | ARRAYS | {"format": "vfe_fast.checkpoint"}),
    "another version": lambda: npz(**HEADER | ARRAYS | {"format_version": "2"}),
    "no version": lambda: npz(**without("format_version")),
    "another kind": lambda: npz(**HEADER | ARRAYS | {"kind": "GaussianRBM"}),
    "no weights": lambda: npz(**without("weights")),
    "no visible bias": lambda: npz(**without("visible_bias")),
    "no hidden bias": lambda: npz(**without("hidden_bias")),
    "transposed weights": lambda: npz(**HEADER | ARRAYS | {"weights": WEIGHTS.T}),
    "long bias": lambda: npz(**HEADER | ARRAYS | {"hidden_bias": np.zeros(4)}),
    "NaN": lambda: npz(**HEADER | ARRAYS | {"weights": np.where(WEIGHTS > 1, np.nan, WEIGHTS)}),
    "infinite": lambda: npz(**HEADER | ARRAYS | {"visible_bias": np.full(4, np.inf)}),
    "float16": lambda: npz(**HEADER | {k: v.astype(np.float16) for k, v in ARRAYS.items()}),
    "integers": lambda: npz(**HEADER | {k: v.astype(np.int64) for k, v in ARRAYS.items()}),
    "mixed dtypes": lambda: npz(**HEADER | ARRAYS | {"hidden_bias": HIDDEN_BIAS.astype(np.float32)}),
    "text weights": lambda: npz(**HEADER | ARRAYS | {"weights": np.array("weights")}),
    "no hidden units": lambda: npz(
        **HEADER, weights=WEIGHTS[:, :0], visible_bias=VISIBLE_BIAS, hidden_bias=[]
    ),
    "2^45 weights": lambda: claiming((2**45, 3)),
    "2^66 weights": lambda: claiming((2**60, 64)),
    "2^100 weights": lambda: claiming((2**100,)),
    "fewer weights": lambda: claiming((3, 3)),
}


@pytest.mark.parametrize("label", FOREIGN)
def test_foreign_files_are_refused(tmp_path: Path, label: str) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(FOREIGN[label]())
    with refused(path):
        vf.load(path)


def test_the_refusal_says_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    for label, found in (
        ("another kind", "GaussianRBM"),
        ("another version", "2"),
        ("a checkpoint", "checkpoint"),
    ):
        path.write_bytes(FOREIGN[label]())
        with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{found}"):
            vf.load(path)


@pytest.mark.parametrize("where", ["weights", "format", "a member of no importance"])
def test_pickled_objects_are_not_unpickled(tmp_path: Path, where: str) -> None:
    trap = Trap()
    trap.trace = str(tmp_path / "unpickled")
    objects = np.array([trap], dtype=object)
    path = tmp_path / "model.npz"
    path.write_bytes(npz(**HEADER | ARRAYS | {where: objects}))
    with refused(path):
        vf.load(path)
    path.write_bytes(pickle.dumps(trap))
    with refused(path):
        vf.load(path)
    assert os.listdir(tmp_path) == ["model.npz"]


@pytest.mark.parametrize(
    "label",
    [
        "empty",
        "text",
        "npz",
        "no header",
        "another version",
        "no weights",
        "NaN",
        "float16",
        "bfloat16",
        "long bias",
    ],
)
def test_foreign_safetensors_are_refused(tmp_path: Path, label: str) -> None:
    numpy_format = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    save = numpy_format.save
    if label == "bfloat16":
        torch = pytest.importorskip("torch")
        save_torch = pytest.importorskip("safetensors.torch").save
        content = save_torch({k: torch.tensor(v).bfloat16() for k, v in ARRAYS.items()}, metadata=HEADER)
    else:
        content = {
            "empty": lambda: b"",
            "text": lambda: b"hello, this is no model",
            "npz": lambda: npz(**HEADER, **ARRAYS),
            "no header": lambda: save(ARRAYS),
            "another version": lambda: save(ARRAYS, metadata=HEADER | {"format_version": "2"}),
            "no weights": lambda: save({"visible_bias": VISIBLE_BIAS}, metadata=HEADER),
            "NaN": lambda: save(ARRAYS | {"hidden_bias": np.full(3, np.nan)}, metadata=HEADER),
            "float16": lambda: save({k: v.astype(np.float16) for k, v in ARRAYS.items()}, metadata=HEADER),
            "long bias": lambda: save(ARRAYS | {"hidden_bias": np.zeros(4)}, metadata=HEADER),
        }[label]()
    path.write_bytes(content)
    with refused(path):
        vf.load(path)


def test_safetensors_under_another_name(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    random_rbm(4, 3).save(tmp_path / "model.safetensors")
    path = (tmp_path / "model.safetensors").rename(tmp_path / "model.npz")
    with refused(path):
        vf.load(path)


def test_no_file(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        vf.load(tmp_path / f"nowhere.{suffix}")
    (tmp_path / f"folder.{suffix}").mkdir()
    with pytest.raises(OSError, match="folder"):
        vf.load(tmp_path / f"folder.{suffix}")


# --- writing --------------------------------------------------------------------------------------


def broken_savez(file: Any, **arrays: Any) -> None:
    file.write(b"PK half a file")
    raise OSError(28, "No space left on device")


def interrupted(*args: Any) -> None:
    raise KeyboardInterrupt


def failing(*args: Any) -> None:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize(
    ("where", "what", "error"),
    [
        ("numpy.savez", broken_savez, OSError),
        ("os.fsync", failing, OSError),
        ("os.replace", failing, OSError),
        ("os.fsync", interrupted, KeyboardInterrupt),
        ("os.replace", interrupted, KeyboardInterrupt),
    ],
)
def test_a_failed_save_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    where: str,
    what: Any,
    error: Any,
    existing: bool,
) -> None:
    if (where, suffix) == ("numpy.savez", "safetensors"):
        pytest.skip("not how that file is written")
    path = tmp_path / f"model.{suffix}"
    old = random_rbm(4, 3)
    if existing:
        old.save(path)
    before = path.read_bytes() if existing else b""
    with monkeypatch.context() as patch:
        patch.setattr(where, what)
        with pytest.raises(error):
            random_rbm(5, 2).save(path)
    assert os.listdir(tmp_path) == [path.name] * existing
    if existing:
        assert path.read_bytes() == before
        assert same_bits(vf.load(path), old)


def test_a_failed_checkpoint_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.npz"
    data = np.random.default_rng(0).integers(0, 2, size=(20, 4))
    vf.train(random_rbm(4, 3), data, n_epochs=1, rng=0, checkpoint=path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("numpy.savez", broken_savez)
        with pytest.raises(OSError, match="No space left"):
            vf.train(random_rbm(4, 3), data, n_epochs=2, rng=0, checkpoint=path, resume=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.npz"]


def test_nowhere_to_write(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(OSError, match="nowhere"):
        random_rbm(4, 3).save(tmp_path / "nowhere" / f"model.{suffix}")
    (tmp_path / f"folder.{suffix}").mkdir()
    with pytest.raises(OSError, match="folder"):
        random_rbm(4, 3).save(tmp_path / f"folder.{suffix}")
    assert os.listdir(tmp_path) == [f"folder.{suffix}"]


def test_interrupt_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C within NumPy's writer: the file is finished, then KeyboardInterrupt is raised."""
    real = np.lib.format.write_array
    calls = []

    def interrupted(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        real(*arguments, **options)

    monkeypatch.setattr(np.lib.format, "write_array", interrupted)
    rbm = random_rbm(4, 3)
    with pytest.raises(KeyboardInterrupt):
        rbm.save(tmp_path / "model.npz")
    assert os.listdir(tmp_path) == ["model.npz"]
    assert same_bits(vf.load(tmp_path / "model.npz"), rbm)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
