"""Which code runs where: instruction sets, devices, the import, and the files that belong to a kernel."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vfe_fast as vf

ROOT = Path(__file__).parents[1]
USABLE = vf.show_config("dict")["usable_targets"]
LINES = re.findall(
    r"^VFE_(KERNEL|TWINS)\((\w+), (\w+)\)", (ROOT / "src/cpp/runtime/kernel_list.inc").read_text(), flags=re.M
)
KERNELS = [(stem, arguments) for _, stem, arguments in LINES]
TWINS = {stem: arguments for kind, stem, arguments in LINES if kind == "TWINS"}


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", USABLE)
def test_forced_target_really_runs(name):
    """`compiled_for` is what the compiler said of the very file whose kernels are in the table."""
    code = "import vfe_fast as vf; c = vf.show_config('dict'); print(c['target'], c['compiled_for'])"
    assert run(code, VFE_TARGET=name).stdout.split() == [name, name]


def test_best_target_is_the_default():
    code = "import vfe_fast as vf; print(vf.show_config('dict')['target'])"
    assert run(code, VFE_TARGET="").stdout.strip() == USABLE[0]


def test_unknown_target_is_refused():
    result = run("import vfe_fast", VFE_TARGET="x86-64-v9")
    assert result.returncode != 0
    assert "VFE_TARGET=x86-64-v9: not built; built are" in result.stderr


def test_target_the_processor_lacks_is_refused():
    lacking = [t for t in vf.show_config("dict")["built_targets"] if t not in USABLE]
    if not lacking:
        pytest.skip("this processor runs every target that is built")
    result = run("import vfe_fast", VFE_TARGET=lacking[0])
    assert "this processor lacks it" in result.stderr


RBM = vf.BernoulliRBM([[0.1, 0.2]], [0.3], [0.4, 0.5])


@pytest.mark.parametrize(
    "call",
    [
        lambda: vf.GibbsChains(RBM, 2, device="cuda"),
        lambda: vf.gibbs(RBM, [[1]], 1, device="cuda"),
        lambda: RBM.free_energy([[1]], device="cuda"),
        lambda: RBM.mean_hidden([[1]], device="cuda"),
        lambda: vf.cumulants([1.0, 2.0, 4.0], order=2, device="cuda"),
        lambda: vf.random.normal(3, device="cuda"),
        lambda: vf.random.uniform(3, device="cuda"),
        lambda: vf.reparameterize([[0.5]], [[0.1]], device="cuda"),
    ],
)
def test_cuda_is_refused_with_a_reason(call):
    problem = vf.show_config("dict")["cuda_problem"]
    if not problem:
        pytest.skip("CUDA is usable here")
    with pytest.raises(vf.TargetUnavailableError, match="device='cuda'") as caught:
        call()
    assert problem in str(caught.value)


def test_import_is_light():
    """NumPy and the standard library; nothing of the extras, no numpy.random beyond what NumPy loads."""
    heavy = ("scipy", "sklearn", "matplotlib", "tqdm", "torch", "jax", "safetensors")
    code = f"import sys, vfe_fast; print([m for m in {heavy} if m in sys.modules])"
    assert run(code).stdout.strip() == "[]"


def test_version_has_one_source():
    assert vf.__version__ == importlib.metadata.version("vfe_fast") == vf.show_config("dict")["version"]


def test_show_config_prints(capsys):
    vf.show_config()
    shown = capsys.readouterr().out
    for word in ("target", "num_threads", "cuda_problem", vf.__version__):
        assert word in shown
    with pytest.raises(ValueError, match="mode"):
        vf.show_config("other")


@pytest.mark.parametrize("stem", [stem for stem, _ in KERNELS])
def test_every_kernel_has_its_files(stem):
    """The set that ARCHITECTURE.md names under "Adding a kernel"."""
    (arguments,) = (a for s, a in KERNELS if s == stem)
    header = (ROOT / f"src/cpp/kernels/{stem}.hpp").read_text()
    assert re.search(rf"struct {arguments} (: \w+ )?{{", header)
    assert f"inline void check(const {arguments}&" in header
    assert f"void {stem}(const {arguments}& args)" in (ROOT / f"src/cpp/kernels/{stem}.cpp").read_text()
    assert f"void bind_{stem}(" in (ROOT / f"src/cpp/bindings/{stem}.cpp").read_text()
    assert f'#include "../kernels/{stem}.hpp"' in (ROOT / "src/cpp/runtime/dispatch.hpp").read_text()


def test_no_file_without_a_kernel():
    shared = {
        "rbm",
        "bit_layer",
        "bit_dot",
        "bit_pairs",
        "coarse_layer",
        "gaussian_sweep",
        "gibbs_sweep",
        "lanes",
        "product_form",
        "real_layer",
        "rbm_product",
        "rbm_product_moments",
        "rbm_product_variance",
        "vectors",
    }
    stems = {path.stem for path in (ROOT / "src/cpp/kernels").iterdir()}
    assert stems - shared == {stem for stem, _ in KERNELS}


def test_every_twin_has_its_file():
    shared = {"layer", "states"}
    assert {path.stem for path in (ROOT / "src/cuda").glob("*.cu")} - shared == set(TWINS)
    for stem, arguments in TWINS.items():
        source = (ROOT / f"src/cuda/{stem}.cu").read_text()
        assert f'#include "../cpp/kernels/{stem}.hpp"' in source
        assert f"void {stem}(const kernels::{arguments}& args)" in source
        assert (ROOT / f"tests/twins/test_cuda_{stem}.py").is_file()


def test_threads_are_started_in_one_place():
    starts = re.compile(r"pthread_create|std::j?thread(?!::hardware_concurrency)|std::async")
    users = [p.name for p in (ROOT / "src").rglob("*.*pp") if starts.search(p.read_text())]
    assert users == ["helpers.cpp"]


def test_cuda_conditionals_are_in_one_place():
    users = {p.parent.name for p in (ROOT / "src").rglob("*.*pp") if "__CUDACC__" in p.read_text()}
    assert users == {"numerics"}
