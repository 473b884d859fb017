"""What training reaches on MNIST, in exact test log-likelihood: ``python -m benchmarks.mnist --help``.

Reads the four IDX files of MNIST from ``mnist/`` in the folder that VFE_DATA names (or ../shared/data); a
pixel is 1 above half of full intensity.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

import vfe_fast as vf

from . import rivals
from .data import FOLDER

Curve = list[tuple[float, float]]  # seconds, mean log-likelihood of the test set


def images(name: str) -> np.ndarray:
    with gzip.open(FOLDER / "mnist" / f"{name}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16)
    return (pixels.reshape(-1, 784) > 127).astype(np.uint8)


def log_likelihood(rbm: vf.BernoulliRBM, data: np.ndarray) -> float:
    log_z = vf.free_energy.exact(rbm).log_z
    return float(rbm.log_likelihood(data, log_z).mean(dtype=np.float64))


def published(seeds: int, epochs: int) -> None:
    """784 x 16, PCD-1, batch 100, 100 chains, rate 0.01: PyDeep has about -149, centered -142.6."""
    train, test = images("train"), images("t10k")
    for centered in (False, True):
        found, begin = [], time.perf_counter()
        for seed in range(seeds):
            rbm = vf.BernoulliRBM.from_data(train, 16, rng=seed)
            vf.train(
                rbm, train, n_epochs=epochs, batch_size=100, learning_rate=0.01, centered=centered, rng=seed
            )
            found.append(log_likelihood(rbm, test))
        spread = statistics.stdev(found) if seeds > 1 else float("nan")
        took = (time.perf_counter() - begin) / seeds
        print(
            f"{'centered' if centered else 'normal':<9} ln p(test) {statistics.mean(found):.2f} "
            f"(standard deviation over {seeds} seeds {spread:.2f}), {took:.1f} s a run",
            flush=True,
        )


def compare(epochs: int, rate: float, path: str | None) -> None:
    """784 x 20, PCD-1, batch 100, the same start and rate for all: likelihood by epoch and by time."""
    train, test = images("train"), images("t10k")
    start = vf.BernoulliRBM.from_data(train, 20, rng=0)
    curves: dict[str, Curve] = {}
    for name, steps in runners(train, start, epochs, rate):
        curve = [(seconds, log_likelihood(vf.BernoulliRBM(*found), test)) for seconds, found in steps]
        curves[name] = curve
        marks = [k for k in (0, 1, 4, 9, 19, 49) if k < len(curve)]
        line = "  ".join(f"{k + 1}: {curve[k][1]:.1f}" for k in marks)
        print(
            f"{name:<14} {curve[-1][0] / len(curve):.3f} s an epoch   ln p(test) after epoch {line}",
            flush=True,
        )
    if path is not None:
        plot(curves, path)


Steps = Iterator[tuple[float, tuple[np.ndarray, ...]]]  # seconds of training alone, parameters then


def runners(
    train: np.ndarray, start: vf.BernoulliRBM, epochs: int, rate: float
) -> Iterator[tuple[str, Steps]]:
    def ours(centered: bool) -> Steps:
        rbm = vf.BernoulliRBM(*start.parameters)
        found: list[tuple[np.ndarray, ...]] = []
        history = vf.train(  # one run, so that chains persist from epoch to epoch, as those of others
            rbm, train, n_epochs=epochs, batch_size=100, learning_rate=rate, centered=centered, rng=0,
            callbacks=[lambda epoch: found.append(epoch.rbm.parameters)],
        )  # fmt: skip
        return zip(history.metric("seconds")[1], found, strict=True)

    yield "vfe_fast", ours(False)
    yield "  centered", ours(True)
    for name, maker in rivals.makers("train").items():
        if isinstance(maker, str):
            print(f"{name}: {maker}")
            continue

        def theirs(maker: Callable[..., Callable[[], tuple[np.ndarray, ...]]] = maker) -> Steps:
            call = maker(train, *start.parameters, batch_size=100, n_steps=1, learning_rate=rate, threads=2)
            seconds = 0.0
            for _ in range(epochs):
                begin = time.perf_counter()
                parameters = call()
                seconds += time.perf_counter() - begin
                yield seconds, tuple(np.ascontiguousarray(p, np.float32) for p in parameters)

        yield name, theirs()


def plot(curves: dict[str, Curve], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (by_epoch, by_time) = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
    for name, curve in curves.items():
        seconds, values = zip(*curve, strict=True)
        by_epoch.plot(range(1, len(values) + 1), values, label=name.strip())
        by_time.semilogx(seconds, values, label=name.strip())
    by_epoch.set(xlabel="epoch", ylabel="exact ln p of the test set, nats")
    by_time.set(xlabel="seconds of training")
    by_time.legend(fontsize="small")
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist", description=main.__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    first = commands.add_parser("published", help=published.__doc__)
    first.add_argument("--seeds", type=int, default=3)
    first.add_argument("--epochs", type=int, default=50)
    second = commands.add_parser("compare", help=compare.__doc__)
    second.add_argument("--epochs", type=int, default=20)
    second.add_argument("--rate", type=float, default=0.05)
    second.add_argument("--plot", metavar="FILE")
    options = parser.parse_args()
    if options.command == "published":
        published(options.seeds, options.epochs)
    else:
        compare(options.epochs, options.rate, options.plot)


if __name__ == "__main__":
    main()
