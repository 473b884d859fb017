"""What variational autoencoders reach by objective: ``python -m benchmarks.vae --help``.

ELBO, cumulant-corrected ELBO and IWAE at equal epochs or equal time, several seeds; -ln p(x) of the test set
by importance sampling. MNIST: 784-200-200-50 of Burda, Grosse, Salakhutdinov (2016); Caltech silhouettes:
784-200-200-50, K = 5 (Li, Turner 2016: VAE 119.69, IWAE 117.89); digits: scikit-learn's, in two minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
from pathlib import Path

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


SETTINGS = {
    "digits": Setting((64,), 8, 8, 297, 50, 3e-3),
    "silhouettes": Setting((200, 200), 50, 5, 2307),
    "mnist": Setting((200, 200), 50, 5, 1000),
}


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "digits":
        from sklearn.datasets import load_digits

        bits = (load_digits().data > 7).astype(np.float32)
        bits = bits[np.random.default_rng(0).permutation(len(bits))]
        return bits[:1500], bits[1500:]
    from scipy.io import loadmat

    if name == "silhouettes":
        found = loadmat(FOLDER / "silhouettes" / "caltech101_silhouettes_28_split1.mat")
        return found["train_data"].astype(np.float32), found["test_data"].astype(np.float32)
    folder = FOLDER / "binarized_mnist"
    train, test = (
        loadmat(folder / f"binarized_mnist_{part}.amat")["X"].astype(np.float32) for part in ("train", "test")
    )
    return train, test[np.random.default_rng(0).permutation(len(test))]


def objectives(k: int) -> dict[str, object]:
    return {
        "ELBO": vft.ELBO(k),
        "cumulants, order 2": vft.CumulantELBO(2, max(k, 3)),
        "cumulants, order 3": vft.CumulantELBO(3, max(k, 4)),
        f"IWAE-{k}": vft.IWAE(k),
        f"IWAE-{k}, doubly reparameterized": vft.IWAE(k, doubly_reparameterized=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.vae", description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=SETTINGS)
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--epochs", type=int, default=40)
    limit.add_argument("--seconds", type=float, help="of training, instead of epochs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=5000, help="of a row, for -ln p(x)")
    parser.add_argument("--only", nargs="+", type=int, metavar="N", help="objectives by number, from 0")
    parser.add_argument(
        "--checkpoints", type=Path, metavar="FOLDER", help="keep runs there, and go on with them"
    )
    options = parser.parse_args()
    setting, (train, test) = SETTINGS[options.name], data(options.name)
    test = test[: setting.n_test]
    n_epochs = options.epochs if options.seconds is None else 10**6
    print(f"{options.name}: {len(train)} rows, {len(test)} test rows, {train.shape[1]} units, {setting}")
    for number, (name, objective) in enumerate(objectives(setting.n_samples).items()):
        if options.only and number not in options.only:
            continue
        nll, elbo, epochs, seconds, ess = [], [], [], [], []
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            vae = vft.VAE.mlp(train.shape[1], setting.n_latents, hidden=setting.hidden)
            kept = None
            if options.checkpoints is not None:
                options.checkpoints.mkdir(exist_ok=True)
                kept = options.checkpoints / f"{options.name}_{number}_{seed}.npz"
            history = vft.fit(
                vae, train, objective=objective, n_epochs=n_epochs, batch_size=setting.batch_size,
                learning_rate=setting.learning_rate, rng=seed, max_seconds=options.seconds, checkpoint=kept,
            )  # fmt: skip
            result = vft.evaluate(vae, test, n_samples=options.samples, rng=100 + seed)
            nll.append(float(result.nll.mean()))
            elbo.append(float(result.elbo.mean()))
            ess.append(float(np.median(result.ess)))
            epochs.append(len(history.records))
            seconds.append(history.seconds)
        spread = statistics.stdev(nll) if len(nll) > 1 else math.nan
        print(
            f"{name:<33} -ln p(x) {statistics.mean(nll):8.3f} (deviation over seeds {spread:.3f}), "
            f"-ELBO {statistics.mean(elbo):8.3f}, ESS {statistics.median(ess):.0f}, "
            f"{statistics.mean(epochs):.0f} epochs, {statistics.mean(seconds):.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
