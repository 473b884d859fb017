"""The operator of PyTorch: NumPy's numbers bit for bit, gradients by central differences, and compiled."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vfe_fast as vf
from test_reparameterize import DTYPES, FAMILIES, WITH_SPREAD, options, parameters
from vfe_fast import _core

torch = pytest.importorskip("torch")
vft = pytest.importorskip("vfe_fast.torch", exc_type=ImportError)
draw_with_log_prior = pytest.importorskip("vfe_fast.torch.operator").draw_with_log_prior

DOC = Path(__file__).parents[1] / "docs" / "reparameterize.md"
KEY = 2**63 + 11  # more than operators can take as it is


def tensors(x: Any) -> Any:
    """The same with copies as tensors; numbers and None stay."""
    if isinstance(x, dict):
        return {name: tensors(value) for name, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [tensors(value) for value in x]
    return torch.from_numpy(x.copy()) if isinstance(x, np.ndarray) else x


def results(z: Any) -> tuple[Any, Any, Any]:
    return z.sample, z.kl, z.log_q


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given_prior", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_same_bits_as_numpy(target: str, family: str, given_prior: bool, dtype: Any) -> None:
    """Results, and gradients of each of them alone and of all."""
    given = parameters(family, 4, 7, dtype)
    chosen = options(family, given_prior, dtype)
    z = vf.reparameterize(*given, 3, **chosen, rng=KEY, row_offset=5)
    to = [np.random.default_rng(k).normal(size=x.shape).astype(dtype) for k, x in enumerate(results(z))]
    for used in [(0,), (1,), (2,), (0, 1, 2)]:
        leaves = [None if x is None else x.requires_grad_() for x in tensors(given)]
        found = vft.reparameterize(*leaves, 3, **tensors(chosen), rng=KEY, row_offset=5, num_threads=2)
        assert found.kl_kind == z.kl_kind
        for mine, theirs in zip(results(found), results(z), strict=True):
            np.testing.assert_array_equal(mine.detach().numpy(), theirs, strict=True)
        sum((results(found)[k] * torch.from_numpy(to[k])).sum() for k in used).backward()
        expected = z.backward(*(to[k] if k in used else None for k in range(3)))
        expected = expected if isinstance(expected, tuple) else (expected,)
        for leaf, gradient in zip([x for x in leaves if x is not None], expected, strict=True):
            np.testing.assert_array_equal(leaf.grad.numpy(), gradient, strict=True)


@pytest.mark.parametrize("given_prior", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradcheck(family: str, given_prior: bool) -> None:
    leaves = [x.requires_grad_() for x in tensors(parameters(family, 3, 7)) if x is not None]
    chosen = tensors(options(family, given_prior))

    def function(*given: Any) -> Any:
        return results(vft.reparameterize(given[0], *given[1:] or [None], 2, **chosen, rng=KEY))

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_compiled(family: str, dtype: Any) -> None:
    """The same numbers and gradients in one graph; the operator in it is checked by differences, too."""
    chosen = tensors(options(family, True, dtype))

    def of(*given: Any) -> Any:
        z = vft.reparameterize(given[0], *given[1:] or [None], 2, **chosen, rng=3)
        return z.kl.sum() + (z.sample**2).sum() - z.log_q.mean()

    torch._dynamo.reset()
    found = []
    for function in (torch.compile(of, fullgraph=True, backend="aot_eager"), of):
        leaves = [x.requires_grad_() for x in tensors(parameters(family, 4, 7, dtype)) if x is not None]
        value = function(*leaves)
        value.backward()
        found.append([value, *(x.grad for x in leaves)])
    torch._dynamo.reset()
    tolerance = 1e-13 if dtype == np.float64 else 1e-5
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    if dtype == np.float64:
        leaves = [x.requires_grad_() for x in tensors(parameters(family, 3, 7)) if x is not None]
        prior = chosen["prior"] if family in WITH_SPREAD else [chosen["prior"], None]
        rest = (*prior, family, 2, chosen.get("temperature"), 3, 0, 0)
        operator = torch.ops.vfe_fast.reparameterize.default
        assert torch.autograd.gradcheck(
            lambda *given: operator(given[0], *given[1:] or [None], *rest), leaves
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_opcheck(family: str, dtype: Any) -> None:
    leaves = [None if x is None else x.requires_grad_() for x in tensors(parameters(family, 4, 7, dtype))]
    chosen = tensors(options(family, True, dtype))
    prior = chosen["prior"] if family in WITH_SPREAD else [chosen["prior"], None]
    rest = (*leaves, *prior, family, 2, chosen.get("temperature"), 3, 0, 0)
    ops = torch.ops.vfe_fast
    assert set(torch.library.opcheck(ops.reparameterize.default, rest).values()) == {"SUCCESS"}
    to = [torch.ones_like(x) for x in ops.reparameterize.default(*rest)]
    rest = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in rest)
    for grads in (to, (None, to[1], None)):
        found = torch.library.opcheck(ops.reparameterize_backward.default, (*grads, *rest))
        assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_operator_whose_gradient_is_compiled(dtype: Any) -> None:
    """`vfe_fast.torch.VAE` calls it in compiled functions: the same numbers, and their gradients."""
    leaves = tensors(parameters("gaussian", 4, 7, dtype))
    draw = torch.ops.vfe_fast.draw_gaussian.default
    expected = vft.reparameterize(*leaves, 3, rng=2**63 + 5, row_offset=2)
    found = draw(*leaves, 3, 5 - 2**63, 2)
    assert all(torch.equal(a, b) for a, b in zip(found, results(expected), strict=True))
    leaves = [x.requires_grad_() for x in leaves]
    assert set(torch.library.opcheck(draw, (*leaves, 3, 5, 2)).values()) == {"SUCCESS"}
    if dtype == np.float64:
        for k in range(3):
            assert torch.autograd.gradcheck(lambda *given, k=k: draw(*given, 3, 5, 2)[k], leaves)


def loss(mu: Any, log_var: Any, seed: Any) -> Any:
    z = vft.reparameterize(mu, log_var, 2, prior=(0.3, log_var.detach()[0]), rng=seed)
    return z.kl.sum() + (z.sample**2).sum() - z.log_q.mean()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled(backend: str) -> None:
    """In one graph, forward and backward; new seeds are arguments and compile nothing anew."""
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("inductor needs a C++ compiler")
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    frames = []
    for seed in (3, 4, 5, 6, 2**40, 0, 1, 2**63 - 1, KEY, 2**64 - 1):
        found = []
        for function in (compiled, loss):
            leaves = [x.requires_grad_() for x in tensors(parameters("gaussian", 4, 7))]
            value = function(*leaves, seed)
            value.backward()
            found.append([value, *(x.grad for x in leaves)])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)
        frames.append(counter.frame_count)
    # A constant seed, any seed below 2^63, any other.
    assert len(set(frames[1:5])) == 1
    assert frames[-1] == frames[-2] <= 3
    torch._dynamo.reset()


@pytest.mark.parametrize("rng", [None, "generator"])
def test_no_seed_is_compiled_in(rng: Any) -> None:
    leaves = tensors(parameters("gaussian", 4, 7))
    rng = np.random.default_rng(0) if rng == "generator" else None
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="rng: pass an int"):
        torch.compile(loss, fullgraph=True, backend="eager")(*leaves, rng)
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="eager")
    assert len({compiled(*leaves, rng).item() for _ in range(4)}) == 4
    torch._dynamo.reset()


def test_nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def spy(name: str) -> Any:
        kernel = getattr(_core, name)

        def call(*arguments: Any) -> Any:
            seen[name] = arguments, kernel(*arguments)
            return seen[name][1]

        return call

    for name in ("reparameterize", "reparameterize_backward"):
        monkeypatch.setattr(_core, name, spy(name))
    mu, log_var = (x.requires_grad_() for x in tensors(parameters("gaussian", 4, 7)))
    z = vft.reparameterize(mu, log_var, rng=0, num_threads=3)
    to = torch.ones_like(z.sample)
    gradients = torch.autograd.grad(z.sample, [mu, log_var], to)
    given, found = seen["reparameterize"]
    assert given[-1] == 3  # threads
    assert [x.ctypes.data for x in given[1:3]] == [mu.data_ptr(), log_var.data_ptr()]
    assert [x.ctypes.data for x in found[:3]] == [x.data_ptr() for x in results(z)]
    given, found = seen["reparameterize_backward"]
    assert given[-3].ctypes.data == to.data_ptr()
    assert given[-2:] == (None, None)
    assert [x.ctypes.data for x in found] == [x.data_ptr() for x in gradients]


def test_layouts() -> None:
    """What is not contiguous gives the same, and its gradient is its own."""
    mu, log_var = (x.requires_grad_() for x in tensors(parameters("gaussian", 4, 7)))
    expected = vf.reparameterize(mu.detach().numpy(), log_var.detach().numpy(), 2, rng=1)
    wide = torch.stack([mu, mu + 1], dim=-1).detach().requires_grad_()
    z = vft.reparameterize(wide[..., 0], log_var.detach().T.contiguous().T, 2, rng=1)
    np.testing.assert_array_equal(z.sample.detach().numpy(), expected.sample)
    z.sample.transpose(0, 2).sum().backward()
    np.testing.assert_array_equal(wide.grad[..., 0].numpy(), expected.backward(np.ones((2, 4, 7)))[0])
    assert not wide.grad[..., 1].any()


def test_what_autograd_refuses() -> None:
    mu, log_var = (x.requires_grad_() for x in tensors(parameters("gaussian", 4, 7)))
    moved = mu * 1
    z = vft.reparameterize(moved, log_var, rng=0)
    moved += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.kl.sum().backward()
    with pytest.raises(TypeError, match=r"^prior: expected a tensor without gradient"):
        vft.reparameterize(mu, log_var, prior=(mu[0], 0.0))
    with torch.no_grad():
        vft.reparameterize(mu, log_var, prior=(mu[0], 0.0))


@pytest.mark.parametrize("by", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("of", ["sample", "kl", "log_q"])
def test_second_derivatives_are_refused(of: str, by: tuple[bool, bool]) -> None:
    """Also where the first is added to what can be differentiated: a penalty must not be a constant."""
    mu, log_var = (
        x.requires_grad_(k) for x, k in zip(tensors(parameters("gaussian", 4, 7)), by, strict=True)
    )

    def loss_of_operator() -> Any:
        return getattr(vft.reparameterize(mu, log_var, rng=0), of).sum()

    def loss_with_prior() -> Any:
        names = "sample", "kl", "log_q", "log_prior"
        return draw_with_log_prior(mu, log_var, 1, 0, 0)[names.index(of)].sum()

    def loss_of_called_operator() -> Any:
        options = "gaussian", 1, None, 0, 0, 0
        results = torch.ops.vfe_fast.reparameterize(mu, log_var, None, None, *options)
        return results[("sample", "kl", "log_q").index(of)].sum()

    for loss in (loss_of_operator, loss_with_prior, loss_of_called_operator):
        leaf = mu if by[0] else log_var
        for function in (lambda x: x, torch.square):
            (once,) = torch.autograd.grad(function(loss()), leaf, create_graph=True)
            with pytest.raises(RuntimeError, match=r"expected to be differentiated by once"):
                (loss() + (once**2).sum()).backward()
    assert not torch.autograd.grad(loss(), leaf)[0].requires_grad


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_forward_mode_is_refused() -> None:
    """PyTorch would give the tangent 0."""
    mu, log_var = tensors(parameters("gaussian", 4, 7))
    for function in (
        lambda x: vft.reparameterize(x, log_var, rng=1).kl,
        lambda x: vft.reparameterize(mu, x, rng=1).kl,
    ):
        with pytest.raises(RuntimeError, match=r"^mu, log_var: expected tensors without tangents"):
            torch.func.jvp(function, (mu,), (torch.ones_like(mu),))


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # one call after another
def test_vmap() -> None:
    """Each call the same, with gradients; `torch.func.grad` is refused by PyTorch."""
    batch, log_var = (
        torch.randn(3, 4, 7, requires_grad=True),
        tensors(parameters("gaussian", 4, 7))[1].float(),
    )

    def square(mu: Any) -> Any:
        return vft.reparameterize(mu, log_var, rng=1).sample ** 2

    found = torch.vmap(square)(batch)
    (gradient,) = torch.autograd.grad(found.sum(), batch)
    for k in range(3):
        alone = batch.detach()[k].clone().requires_grad_()
        assert torch.equal(found[k], square(alone))
        assert torch.equal(gradient[k], torch.autograd.grad(square(alone).sum(), alone)[0])
    with pytest.raises(RuntimeError, match="functorch"):
        torch.func.grad(lambda mu: square(mu).sum())(batch[0])


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "array": (lambda mu, s: vft.reparameterize(mu.numpy(), s), TypeError, "mu: expected a tensor"),
    "half": (lambda mu, s: vft.reparameterize(mu.half(), s), TypeError, "mu: expected float32 or"),
    "mixed": (lambda mu, s: vft.reparameterize(mu, s.float()), TypeError, "log_var: expected float64"),
    "shape": (lambda mu, s: vft.reparameterize(mu, s[:2]), ValueError, r"log_var: expected \(4, 7\)"),
    "1-d": (lambda mu, s: vft.reparameterize(mu[0], s[0]), ValueError, r"mu: expected \(batch, n_l"),
    "none": (lambda mu, s: vft.reparameterize(mu), TypeError, "log_var: expected"),
    "nan": (lambda mu, s: vft.reparameterize(mu / 0, s), ValueError, "mu: expected finite"),
    "family": (lambda mu, s: vft.reparameterize(mu, s, family="x"), ValueError, "family: expected one"),
    "family 3": (lambda mu, s: vft.reparameterize(mu, s, family=3), TypeError, "family: expected a str"),
    "n_samples": (lambda mu, s: vft.reparameterize(mu, s, 2.5), TypeError, "n_samples: expected"),
    "heat": (lambda mu, s: vft.reparameterize(mu, s, temperature="x"), TypeError, "temperature: expected"),
    "offset": (lambda mu, s: vft.reparameterize(mu, s, row_offset=-1), ValueError, "row_offset: expected"),
    "threads": (lambda mu, s: vft.reparameterize(mu, s, num_threads=0), ValueError, "num_threads: expected"),
    "rng": (lambda mu, s: vft.reparameterize(mu, s, rng=-1), ValueError, "rng: expected"),
    "rng x": (lambda mu, s: vft.reparameterize(mu, s, rng="x"), TypeError, "rng: expected"),
    "prior": (lambda mu, s: vft.reparameterize(mu, s, prior=3), TypeError, r"prior: expected \(mean"),
    "prior none": (
        lambda mu, s: vft.reparameterize(mu, s, prior=(None, 0.0)),
        TypeError,
        r"prior: expected \(mean, log_var\)",
    ),
    "prior x": (
        lambda mu, s: vft.reparameterize(mu, s, prior=("x", 0)),
        TypeError,
        "prior: expected tensors",
    ),
    "prior 3": (lambda mu, s: vft.reparameterize(mu, s, prior=(mu[0, :3], 0)), ValueError, "prior: expected"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_the_argument(name: str) -> None:
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=f"^{message}"):
        call(*tensors(parameters("gaussian", 4, 7)))


def test_device() -> None:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        mu = torch.empty(4, 7, device="cuda")
    with pytest.raises(
        vf.TargetUnavailableError, match=r"^mu: expected a tensor in host memory.*no CUDA kernel"
    ):
        vft.reparameterize(mu, mu)


def test_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import vfe_fast.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        'ModuleNotFoundError: vfe_fast.torch needs PyTorch >= 2.9: pip install "vfe_fast[torch]"'
        in done.stderr
    )
    code = "import sys, vfe_fast; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_documented_example() -> None:
    """What docs/reparameterize.md shows runs, and learns."""
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if "vfe_fast.torch" in block)
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(compile(code, "reparameterize.md", "exec"), names)
    x = names["x"].numpy()
    residual = (x**2).sum() - (np.linalg.svd(x, compute_uv=False)[:3] ** 2).sum()
    assert residual < 1e-6 * (x**2).sum()  # three latents have all there is
    assert names["loss"].item() < 0.4 * (x**2).sum(axis=1).mean()
