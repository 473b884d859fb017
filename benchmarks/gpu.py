"""``python -m benchmarks.gpu``: what the CUDA twins reach on the GPU at hand, and PyTorch beside them.

Medians over rounds after one that is not counted, the device synchronized before and after; arrays lie on the
device before the clock starts, unless a case says otherwise. Peaks are those that PyTorch reaches.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import vfe_fast as vf
from vfe_fast.bench.models import model_of
from vfe_fast.device import DeviceArray

try:
    import torch
except Exception:  # not installed or broken
    torch = None

Call = Callable[[], Any]
GIB = 1 << 30


class SkippedError(Exception):
    """A case that cannot be run, and why."""


def synchronize() -> None:
    DeviceArray(np.zeros(1)).numpy()  # our stream; PyTorch uses the same default one
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(call: Call, *, most: float = 20.0) -> float:
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


def need_device(function: Callable[..., Any]) -> None:
    if "device" not in inspect.signature(function).parameters:
        raise SkippedError(f"{function.__name__} has no `device` yet")


def need_torch() -> Any:
    if torch is None or not torch.cuda.is_available():
        raise SkippedError("PyTorch with CUDA is not installed")
    return torch


def on_device(array: np.ndarray) -> Any:
    return (
        torch.from_numpy(array).cuda()
        if torch is not None and torch.cuda.is_available()
        else DeviceArray(array)
    )


def product_rate(dtype: str, tf32: bool = False) -> float:
    t, size = need_torch(), 8192
    t.backends.cuda.matmul.allow_tf32 = tf32
    a = t.randn(size, size, device="cuda", dtype=getattr(t, dtype))
    out = t.empty_like(a)
    return 2.0 * size**3 / seconds(lambda: t.mm(a, a, out=out), most=5.0)


def read_rate() -> float:
    t = need_torch()
    x = t.ones(GIB, device="cuda")  # 4 GiB of float32
    return 4.0 * GIB / seconds(lambda: x.sum(), most=5.0)


def gibbs(n_chains: int = 65_536, steps: int = 10) -> dict[str, Any]:
    """Connections updated a second: two for each weight, chain and step."""
    weights, visible_bias, hidden_bias = model_of(784, 500, np.float32, 0.05)
    chains = vf.GibbsChains(
        vf.BernoulliRBM(weights, visible_bias, hidden_bias), n_chains, rng=0, device="cuda"
    )
    work = 2.0 * weights.size * n_chains * steps
    found = {"connections/s": work / seconds(lambda: chains.step(steps))}
    for name, tf32 in (("torch float32", False), ("torch TF32", True)):
        try:
            found[f"{name}, connections/s"] = work / seconds(
                torch_gibbs(weights, visible_bias, hidden_bias, n_chains, steps, tf32)
            )
        except SkippedError as why:
            found[name] = str(why)
    return found


def torch_gibbs(
    weights: np.ndarray, visible_bias: np.ndarray, hidden_bias: np.ndarray, n: int, steps: int, tf32: bool
) -> Call:
    t = need_torch()
    t.backends.cuda.matmul.allow_tf32 = tf32
    w, a, b = (t.from_numpy(x).cuda() for x in (weights, visible_bias, hidden_bias))
    v, h = (t.rand(n, len(bias), device="cuda").round_() for bias in (a, b))
    uniform, field = (t.empty_like(v), t.empty_like(h)), (t.empty_like(v), t.empty_like(h))

    @t.inference_mode()
    def call() -> None:
        for _ in range(steps):
            t.lt(uniform[1].uniform_(), t.addmm(b, v, w, out=field[1]).sigmoid_(), out=h)
            t.lt(uniform[0].uniform_(), t.addmm(a, h, w.T, out=field[0]).sigmoid_(), out=v)

    return call


def exact_rbm(n_visible: int = 784, n_hidden: int = 30) -> dict[str, Any]:
    """ln Z from host parameters; (state, unit) pairs of the larger layer a second."""
    need_device(vf.free_energy.exact)
    rbm = vf.BernoulliRBM(*model_of(n_visible, n_hidden, np.float64, 0.05))
    took = seconds(lambda: vf.free_energy.exact(rbm, device="cuda"), most=60.0)
    return {"seconds": took, "(state, unit)/s": 2.0**n_hidden * n_visible / took}


def exact_ising(n_spins: int = 42) -> dict[str, Any]:
    """ln Z of a spin glass, two flops a state, over measured dgemm; from host parameters."""
    need_device(vf.free_energy.exact)
    rng = np.random.default_rng(n_spins)
    upper = np.triu(rng.normal(size=(n_spins, n_spins)) / n_spins**0.5, 1)
    model = vf.Ising(upper + upper.T, 0.3 * rng.normal(size=n_spins))
    took = seconds(lambda: vf.free_energy.exact(model, device="cuda"), most=60.0)
    rate = 2.0 * 2.0**n_spins / took
    return {"seconds": took, "flop/s": rate, "of dgemm": rate / product_rate("float64")}


def cumulants(count: int = GIB) -> dict[str, Any]:
    """Order 8 of one row of float32; its bytes once, over the rate at which PyTorch adds them up."""
    need_device(vf.cumulants)
    t = need_torch()
    x = t.randn(count, device="cuda")
    rate = 4.0 * count / seconds(lambda: vf.cumulants(x, 8, device="cuda"))
    return {"B/s": rate, "of reading": rate / read_rate()}


def normals(count: int = GIB // 4) -> dict[str, Any]:
    """1 GiB of float32, made on the device and left there."""
    shape = {"shape": count, "dtype": np.float32}
    found = {"numbers/s": count / seconds(lambda: vf.random.normal(rng=0, device="cuda", **shape))}
    try:
        t = need_torch()
        out = t.empty(count, device="cuda")
        found["torch, numbers/s"] = count / seconds(lambda: out.normal_())
    except SkippedError as why:
        found["torch"] = str(why)
    return found


def samples(rows: int = GIB // 4 // 256, n_latents: int = 256) -> dict[str, Any]:
    """z of 1 GiB of float32 with KL and log q; bytes of mu, log var and z together."""
    need_device(vf.reparameterize)
    mu, log_var = (on_device(np.full((rows, n_latents), x, np.float32)) for x in (0.1, -0.2))
    took = seconds(lambda: vf.reparameterize(mu, log_var, rng=0, device="cuda"))
    return {"numbers/s": rows * n_latents / took, "B/s": 12.0 * rows * n_latents / took}


def small_calls() -> dict[str, Any]:
    """Seconds of one small call, from the call to the device's answer."""
    rbm = vf.BernoulliRBM(*model_of(8, 8, np.float32, 1.0))
    chains = vf.GibbsChains(rbm, 1, rng=0, device="cuda")
    start = np.zeros((1, 8), np.uint8)
    return {
        "chains.step": seconds(lambda: chains.step(1)),
        "gibbs, host arrays": seconds(lambda: vf.gibbs(rbm, start, 1, rng=0, device="cuda")),
        "normal(8), left there": seconds(lambda: vf.random.normal(8, rng=0, device="cuda")),
    }


CASES = (gibbs, exact_rbm, exact_ising, cumulants, normals, samples, small_calls)


def run(case: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return case()
    except (SkippedError, vf.TargetUnavailableError) as why:
        return {"skipped": str(why)}
    except Exception as error:  # out of memory, say: the others are still worth knowing
        return {"failed": f"{type(error).__name__}: {error}"}
    finally:
        vf.device.empty_cache()
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def main(argv: list[str]) -> int:
    names = [case.__name__ for case in CASES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(names)}")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(names):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    config = vf.show_config("dict")
    if config["cuda_problem"]:
        print(f"nothing to time: {config['cuda_problem']}")
        return 0
    report: dict[str, Any] = {
        "device": config["cuda_devices"],
        "driver": config["cuda_driver"],
        "toolkit": config["cuda_toolkit"],
        "vfe_fast": config["version"],
        "torch": torch and torch.__version__,
    }
    print(report)
    for case in CASES:
        if options.names and case.__name__ not in options.names:
            continue
        report[case.__name__] = found = run(case)
        figures = (f"{k} = {v:.4g}" if isinstance(v, float) else f"{k}: {v}" for k, v in found.items())
        print(f"{case.__name__}: " + ", ".join(figures), flush=True)
    if options.json is not None:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
    return int(any("failed" in found for found in report.values() if isinstance(found, dict)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
