"""What variational autoencoders reach by objective: ``python -m benchmarks.vae --help``.

ELBO, cumulant-corrected ELBO and IWAE at equal epochs and equal time, several seeds; -ln p(x) of the test set
by importance sampling. MNIST: 784-200-200-50 of Burda, Grosse, Salakhutdinov (2016); Caltech silhouettes:
784-500-200, batches of 20, 255 epochs at rates that fall (Li, Turner 2016, where K = 5 gives VAE 119.69, IWAE
117.89); digits: scikit-learn's, in two minutes.

Every so many epochs the validation set is looked at; the model that did best there, of those after no more
than --epochs and of those after no more than --seconds, is what is judged: a run ends where both are over.
With --json it is written as a line: ``--report FILE`` makes the table of all that are there.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import json
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vfe_fast.torch as vft

from .data import FOLDER


@dataclasses.dataclass(frozen=True)
class Setting:
    hidden: tuple[int, ...]
    n_latents: int
    n_samples: int  # K of IWAE and of the cumulants
    n_test: int  # rows evaluated
    batch_size: int = 100
    learning_rate: float = 1e-3
    falls: bool = False  # to 10^(-i / 7) of it in epochs 2^i to 2^(i + 1) - 1

    def rate(self, epoch: float) -> float:
        """The learning rate after so many epochs."""
        return self.learning_rate * (10 ** (-math.floor(math.log2(epoch + 1)) / 7) if self.falls else 1)


SETTINGS = {
    "digits": Setting((64,), 8, 8, 297, 50, 3e-3),
    "silhouettes": Setting((500,), 200, 5, 2307, 20, falls=True),
    "mnist": Setting((200, 200), 50, 5, 1000),
}
LOOK_ROWS, LOOK_SAMPLES = 500, 200  # of the validation set
EQUAL = ("epochs", "time")


def data(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on, to choose by, to judge by."""
    if name == "digits":
        from sklearn.datasets import load_digits

        bits = (load_digits().data > 7).astype(np.float32)
        bits = bits[np.random.default_rng(0).permutation(len(bits))]
        return bits[:1300], bits[1300:1500], bits[1500:]
    from scipy.io import loadmat

    if name == "silhouettes":
        found = loadmat(FOLDER / "silhouettes" / "caltech101_silhouettes_28_split1.mat")
        parts = [found[f"{part}_data"].astype(np.float32) for part in ("train", "val", "test")]
    else:
        folder = FOLDER / "binarized_mnist"
        files = [folder / f"binarized_mnist_{part}.amat" for part in ("train", "valid", "test")]
        parts = [loadmat(file)["X"].astype(np.float32) for file in files]
    train, valid, test = parts
    shuffle = np.random.default_rng(0).permutation
    return train, valid[shuffle(len(valid))], test[shuffle(len(test))]


def objectives(k: int) -> dict[str, object]:
    return {
        "ELBO": vft.ELBO(k),
        "cumulants, order 2": vft.CumulantELBO(2, max(k, 3)),
        "cumulants, order 3": vft.CumulantELBO(3, max(k, 4)),
        f"IWAE-{k}": vft.IWAE(k),
        f"IWAE-{k}, doubly reparameterized": vft.IWAE(k, doubly_reparameterized=True),
    }


class _Enough(Exception):
    """The run has all that it is judged by."""


def run(
    options: argparse.Namespace, number: int, name: str, objective: object, seed: int, parts: list[np.ndarray]
) -> dict[str, Any]:
    """Train one model; judge it where it did best on the validation set, after so many epochs and seconds."""
    setting, (train, valid, test) = SETTINGS[options.name], parts
    torch.manual_seed(seed)
    vae = vft.VAE.mlp(train.shape[1], setting.n_latents, hidden=setting.hidden)
    if options.compile:
        vae.compile()
    limits = dict(zip(EQUAL, (options.epochs, options.seconds), strict=True))
    curve: list[list[float]] = []
    best: dict[str, int] = {}  # the look that is the best so far, by what is equal
    states: dict[int, dict[str, torch.Tensor]] = {}
    looked_for = 0.0  # seconds of the processor

    def look(vae: vft.VAE, record: dict[str, float]) -> None:
        nonlocal looked_for
        begin = time.process_time()
        passed = dict(zip(EQUAL, (record["epoch"], begin - started - looked_for), strict=True))
        if record["epoch"] % options.every == 0:
            result = vft.evaluate(vae, valid[:LOOK_ROWS], n_samples=LOOK_SAMPLES, rng=7)
            curve.append([*passed.values(), float(result.nll.mean())])
            for what, limit in limits.items():
                better = curve[-1][2] < (curve[best[what]][2] if what in best else math.inf)
                if limit is not None and passed[what] <= limit and better:
                    best[what] = len(curve) - 1
                    states[len(curve) - 1] = copy.deepcopy(vae.state_dict())
        if all(limit is None or passed[what] >= limit for what, limit in limits.items()):
            raise _Enough
        looked_for += time.process_time() - begin

    started, begun = time.process_time(), time.perf_counter()
    with contextlib.suppress(_Enough):
        vft.fit(
            vae, train, objective=objective, n_epochs=10**6, batch_size=setting.batch_size,
            learning_rate=setting.rate, rng=seed, callback=look,
        )  # fmt: skip
        raise KeyboardInterrupt  # which `fit` takes for a wish to end it
    found = {
        "data": options.name, "number": number, "objective": name, "seed": seed, "limits": limits,
        "curve": curve, "samples": options.samples, "seconds": time.perf_counter() - begun,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    judged: dict[int, dict[str, float]] = {}
    for what, at in best.items():
        if at not in judged:
            vae.load_state_dict(states[at])
            result = vft.evaluate(vae, test[: setting.n_test], n_samples=options.samples, rng=100 + seed)
            judged[at] = {
                "epoch": curve[at][0], "nll": float(result.nll.mean()),
                "nll_stderr": float(result.nll_stderr.mean()), "nll_data_stderr": result.free_energy.stderr,
                "elbo": float(result.elbo.mean()), "ess": float(np.median(result.ess)),
                "rows": len(result.nll),
            }  # fmt: skip
        found[what] = judged[at]
    return found


def report(runs: list[dict[str, Any]]) -> None:
    """A line an objective and what is equal."""

    def shown(values: list[float]) -> str:
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        return f"{statistics.mean(values):9.3f} ({spread:.3f})"

    print("Means over seeds (deviations between them) of the test set; less: the same seed's ELBO.")
    print(f"{'objective':<34}{'equal':<8}{'-ln p(x)':>17}{'less':>17}{'-ELBO':>20}  best epoch  seeds")
    of_elbo = {
        (r["seed"], what): r[what]["nll"] for r in runs for what in EQUAL if r["number"] == 0 and what in r
    }
    for number in sorted({r["number"] for r in runs}):
        of = [r for r in runs if r["number"] == number]
        for what in EQUAL:
            there = [r for r in of if what in r]
            if not there:
                continue
            keys = [(r["seed"], what) for r in there]
            less = [r[what]["nll"] - of_elbo[k] for r, k in zip(there, keys, strict=True) if k in of_elbo]
            columns = [r[what]["nll"] for r in there], less or [math.nan], [r[what]["elbo"] for r in there]
            epoch = statistics.mean(r[what]["epoch"] for r in there)
            print(
                f"{of[0]['objective']:<34}{what:<8}"
                + "   ".join(shown(c) for c in columns)
                + f"  {epoch:9.0f}  {len(there)}"
            )


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.vae", description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument(
        "--epochs", type=int, help="judge after as many (default: 40, if there are no --seconds)"
    )
    parser.add_argument("--seconds", type=float, help="judge after as many of a processor")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--every", type=int, default=5, help="epochs between looks at the validation set")
    parser.add_argument("--samples", type=int, default=5000, help="of a row, for -ln p(x)")
    parser.add_argument("--only", nargs="+", type=int, metavar="N", help="objectives by number, from 0")
    parser.add_argument("--threads", type=int, help="of PyTorch and of the kernels")
    parser.add_argument("--compile", action="store_true", help="the networks, by PyTorch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add a line a run")
    parser.add_argument("--report", type=Path, metavar="FILE", help="train nothing: the table of these runs")
    options = parser.parse_args()
    if options.report is not None:
        lines = [json.loads(line) for line in options.report.read_text().splitlines()]
        return report([r for r in lines if r["data"] == options.name])
    if options.epochs is None and options.seconds is None:
        options.epochs = 40
    if options.epochs is not None and options.epochs < options.every:
        parser.error(f"--epochs: expected at least --every ({options.every}), got {options.epochs}")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
        os.environ["VFE_NUM_THREADS"] = str(options.threads)
    setting, parts = SETTINGS[options.name], data(options.name)
    print(f"{options.name}: {' + '.join(str(len(p)) for p in parts)} rows, {setting}", flush=True)
    runs = []
    for seed in options.seeds:
        for number, (name, objective) in enumerate(objectives(setting.n_samples).items()):
            if options.only and number not in options.only:
                continue
            runs.append(run(options, number, name, objective, seed, list(parts)))
            found = ", ".join(f"{runs[-1][what]['nll']:.3f}" for what in EQUAL if what in runs[-1])
            print(f"seed {seed}, {name}: -ln p(x) {found}, {runs[-1]['seconds']:.0f} s", flush=True)
            if options.json is not None:
                with options.json.open("a") as file:
                    print(json.dumps(runs[-1]), file=file)
    report(runs)


if __name__ == "__main__":
    main()
