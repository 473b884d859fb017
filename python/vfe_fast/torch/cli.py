"""The command line: ``vfe-fast vae train | evaluate | sample``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .. import random
from ..arguments import count, threads
from ..arrays import Array
from ..cli import INTERRUPTED, add_seed, add_threads, check_output, read_states
from ..files import write_atomically
from .evaluate import as_rows, evaluate
from .files import load, save
from .fit import fit, seed_of
from .objectives import OBJECTIVES
from .vae import POSTERIORS, VAE

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Run one command; return the exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.threads is not None:
        torch.set_num_threads(threads(arguments.threads))
    return int(arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vfe-fast vae", description="Variational autoencoders.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train one on a file of data")
    train.add_argument("data", metavar="DATA", help=".npy or .npz file, (n_samples, n_visible)")
    train.add_argument("--output", required=True, metavar="MODEL", help="where the model goes (.npz)")
    train.add_argument("--latents", type=int, default=20, metavar="N", help="latent units (default: 20)")
    train.add_argument("--network", choices=["mlp", "convolutional"], default="mlp", help="default: mlp")
    train.add_argument(
        "--hidden", type=int, nargs="+", metavar="N",
        help="sizes of hidden layers from x to z (default: 200 200); channels, if convolutional (16 32)",
    )  # fmt: skip
    train.add_argument(
        "--likelihood", choices=["bernoulli", "gaussian"], default="bernoulli", help="default: bernoulli"
    )
    train.add_argument("--posterior", choices=POSTERIORS, default="gaussian", help="default: gaussian")
    train.add_argument(
        "--temperature", type=float, default=1.0, help="0: a deterministic autoencoder (default: 1)"
    )
    train.add_argument("--objective", choices=sorted(OBJECTIVES), default="elbo", help="default: elbo")
    train.add_argument(
        "--samples", type=int, metavar="K", help="samples of z a row (default: the objective's)"
    )
    train.add_argument("--order", type=int, metavar="N", help="of the cumulant objective (default: 2)")
    train.add_argument("--alpha", type=float, help="of the renyi objective (default: 0.5)")
    train.add_argument("--beta", type=float, help="of the beta objective (default: 4)")
    train.add_argument("--epochs", type=int, default=50, help="default: 50")
    train.add_argument("--batch-size", type=int, default=100, help="default: 100")
    train.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam (default: 0.001)")
    train.add_argument(
        "--held-out", type=float, default=0.1, metavar="SHARE", help="not trained on (default: 0.1)"
    )
    train.add_argument(
        "--picture", metavar="FILE", help="curves, samples, reconstructions, latent plane (.png)"
    )
    train.add_argument("--checkpoint", metavar="FILE", help="write the run there; continue it if it exists")
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    add_threads(train)
    add_seed(train, None)
    train.set_defaults(run=_train)

    judge = commands.add_parser("evaluate", help="ln p(x) by importance sampling, beside its bounds")
    judge.add_argument("model", metavar="MODEL")
    judge.add_argument("data", metavar="DATA")
    judge.add_argument("--samples", type=int, default=5000, metavar="S", help="a row (default: 5000)")
    judge.add_argument("--rows", type=int, metavar="N", help="only the first N rows of the data")
    judge.add_argument("--order", type=int, default=4, help="cumulants to show (default: 4)")
    judge.add_argument("--quiet", action="store_true", help="no progress bar")
    add_threads(judge)
    add_seed(judge, None)
    judge.set_defaults(run=_evaluate)

    sample = commands.add_parser("sample", help="new data of a saved model")
    sample.add_argument("model", metavar="MODEL")
    sample.add_argument("--output", required=True, metavar="FILE", help="where they go (.npy)")
    sample.add_argument("-n", type=int, default=100, metavar="N", help="how many (default: 100)")
    sample.add_argument("--means", action="store_true", help="means given z, not draws")
    sample.add_argument("--picture", metavar="FILE", help="square images, too (.png)")
    add_threads(sample)
    add_seed(sample, None)
    sample.set_defaults(run=_sample)
    return parser


def _objective(arguments: argparse.Namespace) -> Any:
    options = {"n_samples": arguments.samples}
    for name, of in (("order", "cumulant"), ("alpha", "renyi"), ("beta", "beta")):
        value = getattr(arguments, name)
        if value is not None and arguments.objective != of:
            raise ValueError(f"--{name}: expected none with --objective {arguments.objective}, got {value}")
        options[name] = value
    return OBJECTIVES[arguments.objective](**{k: v for k, v in options.items() if v is not None})


def _train(arguments: argparse.Namespace) -> int:
    data = read_states(arguments.data)
    check_output(arguments.output, not_over=[arguments.data, arguments.checkpoint])
    for name in ("checkpoint", "picture"):
        path = getattr(arguments, name)
        if path is not None:
            check_output(path, f"--{name}", not_over=[arguments.data, arguments.output])
    if not arguments.output.endswith(".npz"):
        raise ValueError(f"--output: expected a name that ends in .npz, got {arguments.output}")
    if not 0 <= arguments.held_out < 1:
        raise ValueError(f"--held-out: expected 0 <= share < 1, got {arguments.held_out}")
    if data.ndim != 2:
        raise ValueError(f"{arguments.data}: expected (n_samples, n_visible), got {data.shape}")
    if arguments.picture is not None:
        import matplotlib.figure  # noqa: F401  before the work, so that a missing extra is known at once
    objective = _objective(arguments)
    key = _seed_of(arguments)
    how: dict[str, Any] = {
        "likelihood": arguments.likelihood, "posterior": arguments.posterior,
        "temperature": arguments.temperature,
    }  # fmt: skip
    if arguments.hidden is not None:
        how["hidden" if arguments.network == "mlp" else "channels"] = tuple(arguments.hidden)
    torch.manual_seed(key % (1 << 63))
    vae = getattr(VAE, arguments.network)(data.shape[1], arguments.latents, **how)
    order = random.generator(key, "minibatches", (1 << 56) - 1).permutation(len(data))
    n_held_out = int(arguments.held_out * len(data))
    held_out, rest = data[order[:n_held_out]], data[order[n_held_out:]]
    history = fit(
        vae, rest, objective=objective, n_epochs=arguments.epochs, batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate, valid=held_out if n_held_out else None, rng=key,
        progress=not arguments.quiet, checkpoint=arguments.checkpoint,
    )  # fmt: skip
    save(vae, arguments.output)
    if history.records:
        print("  ".join(f"{name} {value:.6g}" for name, value in history.records[-1].items()))
    if arguments.picture is not None:
        from .plot import plot_vae

        shown = as_rows(vae, held_out if n_held_out else rest)
        plot_vae(vae, shown, history, arguments.picture, rng=key ^ 1)
    stopped = " (interrupted)" if history.interrupted else ""
    sizes = f"{data.shape[1]} units and {arguments.latents} latents"
    print(f"VAE of {sizes} saved to {arguments.output} (seed {key}){stopped}")
    return INTERRUPTED if history.interrupted else 0


def _seed_of(arguments: argparse.Namespace) -> int:
    """That of the checkpoint, if there is one: initial parameters and held-out rows follow from it."""
    path = arguments.checkpoint
    if path is None or not os.path.exists(path):
        return random.seed(arguments.seed)
    return seed_of(path)


def _evaluate(arguments: argparse.Namespace) -> int:
    vae, data = load(arguments.model), read_states(arguments.data)
    n_rows = len(data) if arguments.rows is None else count(arguments.rows, "--rows")
    result = evaluate(
        vae, data[:n_rows], n_samples=arguments.samples, order=arguments.order,
        iwae=tuple(k for k in (5, 50) if k <= arguments.samples), rng=random.seed(arguments.seed),
        progress=not arguments.quiet,
    )  # fmt: skip
    print(result)
    F = result.free_energy
    print(F if F.converged else f"{F}: {F.problem}")
    return 0


def _sample(arguments: argparse.Namespace) -> int:
    check_output(arguments.output, not_over=[arguments.model])
    if not arguments.output.endswith(".npy"):
        raise ValueError(f"--output: expected a name that ends in .npy, got {arguments.output}")
    if arguments.picture is not None:
        check_output(arguments.picture, "--picture", not_over=[arguments.model, arguments.output])
    if arguments.n < 1:
        raise ValueError(f"-n: expected n >= 1, got {arguments.n}")
    key = random.seed(arguments.seed)
    vae = load(arguments.model)
    with torch.no_grad():
        output = vae.decoder(vae.sample_prior(arguments.n, vae.n_latents, rng=key))
        generator = torch.Generator().manual_seed(key % (1 << 63))
        likelihood = vae.likelihood
        found = likelihood.mean(output) if arguments.means else likelihood.sample(output, generator)
    drawn: Array = found.numpy()
    write_atomically(arguments.output, lambda file: np.save(file, drawn))
    if arguments.picture is not None:
        from .plot import plot_images

        plot_images(drawn, arguments.picture)
    print(f"{len(drawn)} samples saved to {arguments.output} (seed {key})")
    return 0
