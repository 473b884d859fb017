"""``python -m benchmarks.gpu``: what the CUDA twins reach on the GPU at hand, and rivals beside them.

Medians over rounds after one that is not counted, the device synchronized before and after; arrays lie on the
device before the clock starts, unless a case says otherwise. Rivals and peaks are those of PyTorch, eager and
compiled, of CuPy and of JAX, where they are installed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import vfe_fast as vf
from vfe_fast.bench.models import model_of
from vfe_fast.device import DeviceArray

Call = Callable[[], Any]
Found = dict[str, Any]
Figures = Iterator[tuple[str, Any]]  # name and value, as they come: the next may take too long
GIB = 1 << 30
WHERE = "cuda"  # for PyTorch; "cpu" tries its part without a GPU


class SkippedError(Exception):
    """A case that cannot be run, and why."""


def library(name: str) -> Any:
    """A library that sees the GPU."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes most of the memory
    try:
        found = importlib.import_module(name)
    except Exception as error:  # not installed, or broken
        raise SkippedError(f"{name} cannot be imported: {error}") from error
    sees = {
        "torch": lambda: found.cuda.is_available(),
        "cupy": lambda: found.cuda.is_available(),
        "jax": lambda: found.default_backend() == "gpu",
    }
    if WHERE == "cuda" and not sees[name]():
        raise SkippedError(f"{name} sees no GPU")
    return found


def synchronize() -> None:
    """Wait for the whole device, or at least for our stream."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()
    elif WHERE == "cuda":
        DeviceArray(np.zeros(1)).numpy()


def seconds(call: Call, *, most: float = 10.0) -> float:
    """Median seconds of a call, over 5 to 30 rounds, fewer if they do not fit into `most` seconds."""
    call()
    synchronize()
    found: list[float] = []
    started = time.perf_counter()
    while len(found) < 5 or (len(found) < 30 and time.perf_counter() - started < 2.0):
        begin = time.perf_counter()
        call()
        synchronize()
        found.append(time.perf_counter() - begin)
        if time.perf_counter() - started > most:
            break
    return statistics.median(found)


def beside(work: float, unit: str, rivals: Mapping[str, Callable[[], Call]]) -> Figures:
    """The rates of rivals, or why there is none."""
    for name, make in rivals.items():
        try:
            yield f"{name}, {unit}", work / seconds(make())
        except SkippedError as why:
            yield name, str(why)
        except Exception as error:  # theirs; the others are still worth knowing
            yield name, f"{type(error).__name__}: {error}".splitlines()[0]


def share(name: str, rate: float, peak: Callable[[], float]) -> Figures:
    """A rate over a measured peak."""
    try:
        yield f"of {name}", rate / peak()
    except SkippedError as why:
        yield f"of {name}", str(why)


def numbers(*shape: int) -> DeviceArray:
    """Normal numbers of float32 on the device."""
    return vf.random.normal(shape, rng=1, dtype=np.float32, device="cuda")


# --- peaks ----------------------------------------------------------------------------------------


def product_rate(size: int = 8192) -> float:
    """float64, flop/s."""
    t = library("torch")
    a = t.randn(size, size, device=WHERE, dtype=t.float64)
    out = t.empty_like(a)
    return 2.0 * size**3 / seconds(lambda: t.mm(a, a, out=out), most=5.0)


def memory_rate(what: str, count: int = GIB) -> float:
    """Bytes a second of `count` float32: "reading", "writing", or "copying", which does both."""
    t = library("torch")
    x = t.ones(count, device=WHERE)
    if what == "copying":
        out = t.empty_like(x)
        return 8.0 * count / seconds(lambda: out.copy_(x), most=5.0)
    return 4.0 * count / seconds(x.sum if what == "reading" else lambda: x.fill_(2.0), most=5.0)


# --- cases ----------------------------------------------------------------------------------------


def gibbs(n_chains: int = 65_536, steps: int = 10) -> Figures:
    """Connections updated a second: two for each weight, chain and step."""
    model = model_of(784, 500, np.float32, 0.05)
    chains = vf.GibbsChains(vf.BernoulliRBM(*model), n_chains, rng=0, device="cuda")
    work, unit = 2.0 * model[0].size * n_chains * steps, "connections/s"
    yield unit, work / seconds(lambda: chains.step(steps))
    rivals = {
        "torch float32": lambda: torch_gibbs(model, n_chains, steps, tf32=False),
        "torch TF32": lambda: torch_gibbs(model, n_chains, steps, tf32=True),
        "torch TF32, compiled": lambda: torch_gibbs(model, n_chains, steps, tf32=True, compiled=True),
        "jax, its default precision": lambda: jax_gibbs(model, n_chains, steps),
    }
    yield from beside(work, unit, rivals)


def torch_gibbs(model: Any, n: int, steps: int, *, tf32: bool, compiled: bool = False) -> Call:
    t = library("torch")
    w, a, b = (t.from_numpy(x).to(WHERE) for x in model)
    v, h = (t.rand(n, len(bias), device=WHERE).round_() for bias in (a, b))
    uniform, field = (t.empty_like(v), t.empty_like(h)), (t.empty_like(v), t.empty_like(h))

    def in_place() -> None:
        t.lt(uniform[1].uniform_(), t.addmm(b, v, w, out=field[1]).sigmoid_(), out=h)
        t.lt(uniform[0].uniform_(), t.addmm(a, h, w.T, out=field[0]).sigmoid_(), out=v)

    @t.compile
    def fused(v: Any) -> Any:
        h = (t.rand_like(field[1]) < t.addmm(b, v, w).sigmoid()).to(v.dtype)
        return (t.rand_like(v) < t.addmm(a, h, w.T).sigmoid()).to(v.dtype)

    @t.inference_mode()
    def call() -> None:
        nonlocal v
        t.backends.cuda.matmul.allow_tf32 = tf32
        for _ in range(steps):
            if compiled:
                v = fused(v)
            else:
                in_place()

    return call


def jax_gibbs(model: Any, n: int, steps: int) -> Call:
    jax = library("jax")
    w, a, b = map(jax.numpy.asarray, model)

    def layer(key: Any, field: Any) -> Any:
        return (jax.random.uniform(key, field.shape) < jax.nn.sigmoid(field)).astype(field.dtype)

    def step(_: Any, state: Any) -> Any:
        v, key = state
        key, of_hidden, of_visible = jax.random.split(key, 3)
        return layer(of_visible, layer(of_hidden, v @ w + b) @ w.T + a), key

    run = jax.jit(lambda state: jax.lax.fori_loop(0, steps, step, state))
    state = jax.numpy.zeros((n, len(a)), w.dtype), jax.random.key(0)

    def call() -> None:
        nonlocal state
        state = run(state)
        state[0].block_until_ready()

    return call


def exact_rbm(n_visible: int = 784, n_hidden: int = 30) -> Figures:
    """ln Z from host parameters; (state, unit) pairs of the larger layer a second."""
    rbm = vf.BernoulliRBM(*model_of(n_visible, n_hidden, np.float64, 0.05))
    log_z = {}
    for precision in ("double", "single"):
        call = lambda p=precision: vf.free_energy.exact(rbm, precision=p, device="cuda")  # noqa: E731
        log_z[precision] = call().log_z
        yield f"{precision}, (state, unit)/s", 2.0**n_hidden * n_visible / seconds(call)
    yield "off in single precision", abs(log_z["single"] - log_z["double"])


def exact_rbm_36(n_visible: int = 784, n_hidden: int = 36) -> Figures:
    """The same of 64 times as many states, in float64, once."""
    rbm = vf.BernoulliRBM(*model_of(n_visible, n_hidden, np.float64, 0.05))
    yield "seconds", vf.free_energy.exact(rbm, device="cuda").details["seconds"]


def exact_ising(n_spins: int = 42) -> Figures:
    """ln Z of a spin glass, two flops a state, over measured dgemm; from host parameters."""
    rng = np.random.default_rng(n_spins)
    upper = np.triu(rng.normal(size=(n_spins, n_spins)) / n_spins**0.5, 1)
    model = vf.Ising(upper + upper.T, 0.3 * rng.normal(size=n_spins))
    took = seconds(lambda: vf.free_energy.exact(model, device="cuda"))
    rate = 2.0 * 2.0**n_spins / took
    yield "seconds", took
    yield "flop/s", rate
    yield from share("dgemm", rate, product_rate)


def cumulants(count: int = GIB) -> Figures:
    """Order 8 with errors of one row of float32; its bytes once, over the rate at which PyTorch adds."""
    x = numbers(count)
    rate = 4.0 * count / seconds(lambda: vf.cumulants(x, 8))
    yield "B/s", rate
    yield from share("reading", rate, lambda: memory_rate("reading", count))


def normals(count: int = GIB // 4) -> Figures:
    """1 GiB of float32, made on the device and left there."""
    rate, unit = count / seconds(lambda: numbers(count)), "numbers/s"
    yield unit, rate
    yield from share("writing", 4.0 * rate, lambda: memory_rate("writing", count))
    rivals = {
        "torch": lambda: torch_normals(count),
        "cupy": lambda: cupy_normals(count),
        "jax": lambda: jax_normals(count),
    }
    yield from beside(count, unit, rivals)


def torch_normals(count: int) -> Call:
    out: Any = library("torch").empty(count, device=WHERE)
    return lambda: out.normal_()


def cupy_normals(count: int) -> Call:
    cupy = library("cupy")
    return lambda: cupy.random.standard_normal(count, dtype=cupy.float32)


def jax_normals(count: int) -> Call:
    jax = library("jax")
    run, key = jax.jit(lambda key: jax.random.normal(key, (count,), jax.numpy.float32)), jax.random.key(0)
    return lambda: run(key).block_until_ready()


def samples(rows: int = GIB // 4 // 256, n_latents: int = 256) -> Figures:
    """z of 1 GiB of float32 with KL and log q; bytes of mu, log var and z together."""
    mu, log_var = numbers(rows, n_latents), numbers(rows, n_latents)
    count, unit = rows * n_latents, "numbers/s"
    rate = count / seconds(lambda: vf.reparameterize(mu, log_var, rng=0))
    yield unit, rate
    yield from share("copying", 12.0 * rate, lambda: memory_rate("copying", count))
    rivals = {
        "torch": lambda: torch_samples(mu, log_var),
        "torch, compiled": lambda: torch_samples(mu, log_var, compiled=True),
        "jax": lambda: jax_samples(mu, log_var),
    }
    yield from beside(count, unit, rivals)


def torch_samples(mu: Any, log_var: Any, *, compiled: bool = False) -> Call:
    t = library("torch")
    given = t.from_dlpack(mu), t.from_dlpack(log_var)

    def draw(mu: Any, log_var: Any) -> Any:
        noise = t.randn_like(mu)
        kl = 0.5 * (mu * mu + log_var.exp() - 1 - log_var).sum(1)
        log_q = -0.5 * (noise * noise + log_var + math.log(2 * math.pi)).sum(1)
        return mu + (0.5 * log_var).exp() * noise, kl, log_q

    run = t.compile(draw) if compiled else draw
    return t.inference_mode()(lambda: run(*given))


def jax_samples(mu: Any, log_var: Any) -> Call:
    jax = library("jax")
    given, np_ = (jax.dlpack.from_dlpack(mu), jax.dlpack.from_dlpack(log_var)), jax.numpy

    @jax.jit
    def draw(key: Any, mu: Any, log_var: Any) -> Any:
        noise = jax.random.normal(key, mu.shape, mu.dtype)
        kl = 0.5 * (mu * mu + np_.exp(log_var) - 1 - log_var).sum(1)
        log_q = -0.5 * (noise * noise + log_var + math.log(2 * math.pi)).sum(1)
        return mu + np_.exp(0.5 * log_var) * noise, kl, log_q

    key = jax.random.key(0)
    return lambda: jax.block_until_ready(draw(key, *given))


def small_calls(calls: int = 100) -> Figures:
    """Seconds of a small call, of many in a row: some wait for the device's answer, others for its queue."""
    rbm = vf.BernoulliRBM(*model_of(8, 8, np.float32, 1.0))
    chains = vf.GibbsChains(rbm, 4, rng=0, device="cuda")
    here = np.zeros((4, 8), np.float32)
    there = DeviceArray(here)
    of: dict[str, Call] = {
        "GibbsChains.step": lambda: chains.step(1),
        "gibbs": lambda: vf.gibbs(rbm, there, 1, rng=0),
        "free_energy": lambda: rbm.free_energy(there),
        "cumulants": lambda: vf.cumulants(there, 2),
        "reparameterize": lambda: vf.reparameterize(there, there, rng=0),
        "normal(8)": lambda: numbers(8),
        "gibbs, host arrays": lambda: vf.gibbs(rbm, here, 1, rng=0, device="cuda"),
    }
    for name, call in of.items():
        yield name, seconds(lambda call=call: [call() for _ in range(calls)]) / calls


CASES = (gibbs, exact_rbm, exact_rbm_36, exact_ising, cumulants, normals, samples, small_calls)


def run(case: Callable[[], Figures]) -> Figures:
    """What a case finds; last, why it has ended early if it has."""
    try:
        yield from case()
    except (SkippedError, vf.TargetUnavailableError) as why:
        yield "skipped", str(why)
    except Exception as error:  # out of memory, say: the others are still worth knowing
        yield "failed", f"{type(error).__name__}: {error}"
    finally:
        vf.device.empty_cache()
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
            sys.modules["torch"].cuda.empty_cache()


def versions() -> Found:
    """Of the rivals, which are slow to import."""
    packages = metadata.packages_distributions()
    return {
        name: metadata.version(packages[name][0]) if name in packages else None
        for name in ("torch", "cupy", "jax")
    }


def main(argv: list[str]) -> int:
    names = [case.__name__ for case in CASES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(names)}")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="add the figures to those there, case by case"
    )
    parser.add_argument("--list", action="store_true", help="print the names, and no more")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(names):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    if options.list:
        print("\n".join(names))
        return 0
    config = vf.show_config("dict")
    if config["cuda_problem"]:
        print(f"nothing to time: {config['cuda_problem']}")
        return int(os.environ.get("VFE_REQUIRE_GPU") == "1")
    report: Found = {
        "device": config["cuda_devices"],
        "driver": config["cuda_driver"],
        "toolkit": config["cuda_toolkit"],
        "vfe_fast": config["version"],
    } | versions()
    print(report)
    if options.json is not None and options.json.exists():
        report = json.loads(options.json.read_text(encoding="utf-8")) | report
    failed = False
    for case in CASES:
        if options.names and case.__name__ not in options.names:
            continue
        report[case.__name__] = found = {}
        for name, value in run(case):
            found[name] = value
            figure = f"{value:.4g}" if isinstance(value, float) else value
            print(f"{case.__name__}: {name}: {figure}", flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        failed |= "failed" in found
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
