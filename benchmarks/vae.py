"""What variational autoencoders reach by objective: ``python -m benchmarks.vae --help``.

ELBO, cumulant-corrected ELBO and IWAE at equal epochs or equal time, several seeds; -ln p(x) of the test set
by importance sampling. MNIST: 784-200-200-50 of Burda, Grosse, Salakhutdinov (2016); Caltech silhouettes:
784-500-200, batches of 20, 255 epochs at rates that fall (Li, Turner 2016, where K = 5 gives VAE 119.69, IWAE
117.89); digits: scikit-learn's, in two minutes.

Every so many epochs the validation set is looked at; the model that did best there is what is judged. With
--json each run is written as a line: ``--report FILE`` makes the table of all that are there.
"""

from __future__ import annotations

import argparse
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


def run(
    options: argparse.Namespace, number: int, name: str, objective: object, seed: int, parts: list[np.ndarray]
) -> dict[str, Any]:
    """Train one model, and judge it where it did best on the validation set."""
    setting, (train, valid, test) = SETTINGS[options.name], parts
    torch.manual_seed(seed)
    vae = vft.VAE.mlp(train.shape[1], setting.n_latents, hidden=setting.hidden)
    if options.compile:
        vae.compile()
    kept = None
    if options.checkpoints is not None:
        options.checkpoints.mkdir(exist_ok=True)
        kept = options.checkpoints / f"{options.name}_{number}_{seed}.npz"
    best, state = math.inf, copy.deepcopy(vae.state_dict())
    looked_for = 0.0  # seconds of the processor

    def look(vae: vft.VAE, record: dict[str, float]) -> dict[str, float] | None:
        nonlocal best, state, looked_for
        begin = time.process_time()
        found = {"processor_seconds": begin - started - looked_for}
        if record["epoch"] % options.every == 0:
            result = vft.evaluate(vae, valid[:LOOK_ROWS], n_samples=LOOK_SAMPLES, rng=7)
            found["valid_nll"] = float(result.nll.mean())
            if found["valid_nll"] < best:
                best, state = found["valid_nll"], copy.deepcopy(vae.state_dict())
        looked_for += time.process_time() - begin
        return found

    started = time.process_time()
    history = vft.fit(
        vae, train, objective=objective, n_epochs=10**6 if options.epochs is None else options.epochs,
        batch_size=setting.batch_size, learning_rate=setting.rate, rng=seed,
        max_seconds=options.seconds, checkpoint=kept, callback=look,
    )  # fmt: skip
    vae.load_state_dict(state)
    result = vft.evaluate(vae, test[: setting.n_test], n_samples=options.samples, rng=100 + seed)
    looks = [r for r in history.records if "valid_nll" in r]
    return {
        "data": options.name, "number": number, "objective": name, "seed": seed, "best_valid": best,
        "curve": [[r["epoch"], r["processor_seconds"], r["valid_nll"]] for r in looks],
        "nll": float(result.nll.mean()), "nll_stderr": float(result.nll_stderr.mean()),
        "nll_data_stderr": result.free_energy.stderr,
        "elbo": float(result.elbo.mean()), "ess": float(np.median(result.ess)), "samples": options.samples,
        "rows": len(result.nll), "seconds": history.seconds, "threads": torch.get_num_threads(),
    }  # fmt: skip


def report(runs: list[dict[str, Any]]) -> None:
    """A line an objective: the test set, and the validation set at equal epochs and equal time."""
    epochs = min(r["curve"][-1][0] for r in runs)
    seconds = min(r["curve"][-1][1] for r in runs)

    def until(r: dict[str, Any], column: int, limit: float) -> float:
        return min((look[2] for look in r["curve"] if look[column] <= limit), default=math.nan)

    def shown(values: list[float]) -> str:
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        return f"{statistics.mean(values):9.3f} ({spread:.3f})"

    print(
        f"-ln p(x), mean over seeds (deviation between them); validation set: best so far after {epochs:.0f} "
        f"epochs, after {seconds:.0f} s of one processor"
    )
    print(
        f"{'objective':<34}{'test':>17}{'-ELBO, test':>20}{'at equal epochs':>20}{'at equal time':>20}  "
        "best epoch  seeds"
    )
    for number in sorted({r["number"] for r in runs}):
        of = [r for r in runs if r["number"] == number]
        best = [min(r["curve"], key=lambda look: look[2])[0] for r in of]
        columns = (
            [r["nll"] for r in of],
            [r["elbo"] for r in of],
            [until(r, 0, epochs) for r in of],
            [until(r, 1, seconds) for r in of],
        )
        print(
            f"{of[0]['objective']:<34}"
            + "   ".join(shown(c) for c in columns)
            + f"  {statistics.mean(best):9.0f}  {len(of)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.vae", description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=SETTINGS)
    parser.add_argument("--epochs", type=int, help="of training (default: 40 if there is no --seconds)")
    parser.add_argument("--seconds", type=float, help="of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--every", type=int, default=5, help="epochs between looks at the validation set")
    parser.add_argument("--samples", type=int, default=5000, help="of a row, for -ln p(x)")
    parser.add_argument("--only", nargs="+", type=int, metavar="N", help="objectives by number, from 0")
    parser.add_argument("--threads", type=int, help="of PyTorch and of the kernels")
    parser.add_argument("--compile", action="store_true", help="the networks, by PyTorch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add a line a run")
    parser.add_argument("--report", type=Path, metavar="FILE", help="train nothing: the table of these runs")
    parser.add_argument(
        "--checkpoints", type=Path, metavar="FOLDER", help="keep runs there, and go on with them"
    )
    options = parser.parse_args()
    if options.report is not None:
        lines = [json.loads(line) for line in options.report.read_text().splitlines()]
        return report([r for r in lines if r["data"] == options.name])
    if options.epochs is None and options.seconds is None:
        options.epochs = 40
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
            print(
                f"seed {seed}, {name}: -ln p(x) {runs[-1]['nll']:.3f}, {runs[-1]['seconds']:.0f} s",
                flush=True,
            )
            if options.json is not None:
                with options.json.open("a") as file:
                    print(json.dumps(runs[-1]), file=file)
    report(runs)


if __name__ == "__main__":
    main()
