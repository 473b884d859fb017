"""The command line: ``vfe-fast demo | train | log-z | sample | vae | info | bench``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import __version__, free_energy, random
from .arrays import Array
from .config import show_config
from .files import read_arrays, write_atomically
from .free_energy.compare import METHODS as ALL_METHODS
from .models import BernoulliRBM, GaussianRBM, Ising, SpinRBM, load
from .sampling import GibbsChains
from .training import METHODS, OPTIMIZERS, ExactLogLikelihood, train

__all__ = ["INTERRUPTED", "add_seed", "add_threads", "check_output", "main", "read_states"]

INTERRUPTED = 130  # what a shell expects of a program ended by Ctrl-C

# Arguments of the library whose options have other names.
_OPTIONS = {
    "num_threads": "--threads",
    "rng": "--seed",
    "every": "--exact-every",
    "callbacks": "--exact-every",
    "method": "--method",
    "n_gibbs_steps": "--steps",
    "n_steps": "--steps",
    "n_epochs": "--epochs",
    "n_chains": "--chains",
    "n_hidden": "--hidden",
    "batch_size": "--batch-size",
    "learning_rate": "--learning-rate",
    "learn_sigma": "--learn-sigma",
    "weight_decay": "--weight-decay",
    "momentum": "--momentum",
    "checkpoint_every": "--checkpoint-every",
    "max_seconds": "--max-seconds",
    "beta": "--beta",
    "n_samples": "--samples",
    "n_latents": "--latents",
    "channels": "--hidden",
    "hidden": "--hidden",
    "temperature": "--temperature",
    "order": "--order",
    "alpha": "--alpha",
}

# What the library advises to do, in a shell.
_ADVICE = {"max_seconds": "--max-seconds", "free_energy.": "--method "}

# Their names in a shell, where a space would be in the way.
_METHODS = {name.replace(" ", "_"): name for name in ALL_METHODS}

_UNITS: dict[str, type[BernoulliRBM | GaussianRBM | SpinRBM]] = {
    "binary": BernoulliRBM,
    "real": GaussianRBM,
    "spin": SpinRBM,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status. Errors in the input are one line, not a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["bench"]:
            from .bench import main as bench

            return bench(words[1:])
        if words[:1] == ["vae"]:
            from .torch.cli import main as vae

            return vae(words[1:])
        arguments = _parser().parse_args(words)
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except ModuleNotFoundError as error:
        extra = error.name if error.name in ("safetensors", "torch") else "demo"
        advice = "" if "pip install" in str(error) else f"; it comes with the extra '{extra}'"
        print(f"vfe-fast: {error}{advice}", file=sys.stderr)
        return 1
    except (ValueError, TypeError, OSError, MemoryError, FloatingPointError) as error:
        name, colon, rest = str(error).partition(":")
        for word, option in _ADVICE.items():
            rest = rest.replace(word, option)
        print(f"vfe-fast: {_OPTIONS.get(name, name)}{colon}{rest}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vfe-fast", description="Free energies and variational inference.")
    parser.add_argument("--version", action="version", version=f"vfe_fast {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train an RBM on real digits and judge it exactly")
    demo.add_argument(
        "--output", default=".", metavar="FOLDER", help="where picture and model go (default: here)"
    )
    demo.add_argument("--epochs", type=int, default=200, help="default: 200")
    add_seed(demo, 0)
    demo.set_defaults(run=_demo)

    fit = commands.add_parser("train", help="train an RBM on a file of states")
    fit.add_argument("data", metavar="DATA", help=".npy or .npz file, (n_samples, n_visible)")
    fit.add_argument(
        "--output", required=True, metavar="MODEL", help="where the model goes (.npz, .safetensors)"
    )
    fit.add_argument(
        "--units", choices=sorted(_UNITS), default="binary", help="what the data are (default: binary, 0/1)"
    )
    fit.add_argument("--learn-sigma", action="store_true", help="of real units: learn their spreads too")
    fit.add_argument("--hidden", type=int, default=20, metavar="N", help="hidden units (default: 20)")
    fit.add_argument("--method", choices=sorted(METHODS), default="pcd", help="default: pcd")
    fit.add_argument("--epochs", type=int, default=50, help="default: 50")
    fit.add_argument("--batch-size", type=int, default=100, help="default: 100")
    fit.add_argument("--learning-rate", type=float, default=0.05, help="default: 0.05")
    fit.add_argument("--momentum", type=float, help="default: 0.0, of adam 0.9")
    fit.add_argument("--weight-decay", type=float, default=0.0, help="default: 0.0")
    fit.add_argument(
        "--centered",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="follow the centered gradient (default: yes)",
    )
    fit.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="default: sgd")
    fit.add_argument("--steps", type=int, default=1, metavar="K", help="Gibbs steps an update (default: 1)")
    fit.add_argument("--chains", type=int, metavar="N", help="persistent chains (default: the batch size)")
    fit.add_argument("--exact-every", type=int, metavar="N", help="exact log-likelihood every N epochs")
    fit.add_argument("--checkpoint", metavar="FILE", help="write the run there; continue it if it exists")
    fit.add_argument("--checkpoint-every", type=int, default=1, metavar="N", help="every N epochs")
    add_threads(fit)
    fit.add_argument("--quiet", action="store_true", help="no progress bar")
    add_seed(fit, None)
    fit.set_defaults(run=_train)

    log_z = commands.add_parser(
        "log-z", help="free energy of a saved model", usage="vfe-fast log-z MODEL [options]"
    )  # the model first: --beta takes all numbers that follow it
    log_z.add_argument("model", metavar="MODEL")
    log_z.add_argument(
        "--method",
        choices=[*_METHODS, "all"],
        default="exact",
        metavar="METHOD",
        help=f"{', '.join(_METHODS)}, or all of them in a table (default: exact; the others take one beta, "
        "--seed and --threads)",
    )
    log_z.add_argument(
        "--beta", type=float, nargs="+", default=[1.0], help="inverse temperatures (default: 1)"
    )
    log_z.add_argument(
        "--precision",
        choices=["double", "single"],
        default="double",
        help="of an RBM's products (default: double)",
    )
    log_z.add_argument("--moments", action="store_true", help="also the energy's and the units' averages")
    log_z.add_argument("--output", metavar="FILE", help="where the moments go, of one beta (.npz)")
    log_z.add_argument(
        "--max-seconds",
        type=float,
        default=600.0,
        help="refuse longer runs (default: 600; those of about a second always run)",
    )
    log_z.add_argument("--progress", action="store_true", help="show states done and time left")
    log_z.add_argument("--checkpoint", metavar="FILE", help="keep what is done there; continue if it exists")
    add_seed(log_z, None)
    add_threads(log_z)
    log_z.set_defaults(run=_log_z)

    sample = commands.add_parser("sample", help="Gibbs samples of a saved model")
    sample.add_argument("model", metavar="MODEL")
    sample.add_argument("--output", required=True, metavar="FILE", help="where the visible states go (.npy)")
    sample.add_argument(
        "-n", "--chains", type=int, default=100, metavar="N", help="samples, a chain each (default: 100)"
    )
    sample.add_argument("--steps", type=int, default=1000, help="Gibbs steps (default: 1000)")
    sample.add_argument("--beta", type=float, default=1.0, help="inverse temperature (default: 1)")
    add_seed(sample, None)
    add_threads(sample)
    sample.set_defaults(run=_sample)

    info = commands.add_parser("info", help="this build and machine, or a saved model")
    info.add_argument("model", metavar="MODEL", nargs="?")
    info.set_defaults(run=_info)

    # These read their own arguments.
    commands.add_parser("vae", help="train, evaluate and sample variational autoencoders")
    commands.add_parser("bench", help="a short benchmark against NumPy")
    return parser


def add_seed(parser: argparse.ArgumentParser, default: int | None) -> None:
    """Let a command take ``--seed``."""
    text = "random" if default is None else str(default)
    parser.add_argument("--seed", type=int, default=default, help=f"seed (default: {text})")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Let a command take ``--threads``."""
    parser.add_argument("--threads", type=int, metavar="N", help="threads to use (default: all cores)")


def _demo(arguments: argparse.Namespace) -> int:
    from .demo import show_demo

    os.makedirs(arguments.output, exist_ok=True)
    check_output(os.path.join(arguments.output, "vfe_fast_demo.npz"))
    result = show_demo(arguments.output, n_epochs=arguments.epochs, rng=arguments.seed)
    return INTERRUPTED if result.history.interrupted else 0


def _train(arguments: argparse.Namespace) -> int:
    data = read_states(arguments.data)
    check_output(arguments.output, not_over=[arguments.data, arguments.checkpoint])
    if not arguments.output.endswith((".npz", ".safetensors")):
        raise ValueError(
            f"--output: expected a name that ends in .npz or .safetensors, got {arguments.output}"
        )
    if arguments.checkpoint is not None:
        check_output(arguments.checkpoint, "--checkpoint", not_over=[arguments.data])
    # A run that is continued has its seed in the checkpoint.
    continued = arguments.checkpoint is not None and os.path.exists(arguments.checkpoint)
    seed = arguments.seed if continued else random.seed(arguments.seed)
    if arguments.units == "real" and data.dtype.kind in "iub":
        data = data.astype(np.float32)
    rbm = _UNITS[arguments.units].from_data(data, arguments.hidden, rng=seed)
    finished: list[int] = []
    callbacks: list[Any] = [lambda epoch: finished.append(epoch.number)]
    if arguments.exact_every is not None:
        callbacks.append(ExactLogLikelihood(every=arguments.exact_every, train=data))
    history = train(
        rbm,
        data,
        method=arguments.method,
        n_epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        optimizer=arguments.optimizer,
        momentum=arguments.momentum,
        weight_decay=arguments.weight_decay,
        centered=arguments.centered,
        learn_sigma=arguments.learn_sigma,
        n_gibbs_steps=arguments.steps,
        n_chains=arguments.chains,
        rng=seed,
        callbacks=callbacks,
        progress=not arguments.quiet,
        checkpoint=arguments.checkpoint,
        checkpoint_every=arguments.checkpoint_every,
        resume=arguments.checkpoint is not None,
        num_threads=arguments.threads,
    )
    rbm.save(arguments.output)
    if continued and not finished and not history.interrupted:
        print(f"nothing was left to do: the checkpoint has {len(history.records)} epochs")
    if history.records:
        print("  ".join(f"{name} {value:.6g}" for name, value in history.records[-1].items()))
    known = "" if seed is None else f" (seed {seed})"
    print(f"{rbm!r} saved to {arguments.output}{known}{' (interrupted)' if history.interrupted else ''}")
    return INTERRUPTED if history.interrupted else 0


def _estimate(arguments: argparse.Namespace) -> int:
    """Any method but the exact one, or all of them."""
    if len(arguments.beta) > 1:
        raise ValueError(f"--beta: expected one with --method {arguments.method}, got {len(arguments.beta)}")
    if arguments.moments or arguments.output is not None or arguments.checkpoint is not None:
        raise ValueError("--method: expected exact with --moments, --output or --checkpoint")
    name = _METHODS.get(arguments.method)
    key = random.seed(arguments.seed)
    found = free_energy.compare(
        load(arguments.model), None if name is None else [name], beta=arguments.beta[0], rng=key,
        num_threads=arguments.threads,
    )  # fmt: skip
    if name is None:
        print(found)
    elif name in found.skipped:
        raise ValueError(f"{arguments.model}: {found.skipped[name]}")
    else:
        _print_free_energy(found[name])
    print(f"seed   {key}")
    return 0


def _log_z(arguments: argparse.Namespace) -> int:
    if arguments.method != "exact":
        return _estimate(arguments)
    several = len(arguments.beta) > 1
    if arguments.output is not None:
        if several:
            raise ValueError("--output: expected a single --beta to write the moments of")
        if not arguments.output.endswith(".npz"):
            raise ValueError(f"--output: expected a name that ends in .npz, got {arguments.output}")
        check_output(arguments.output, not_over=[arguments.model, arguments.checkpoint])
    results = free_energy.exact(
        load(arguments.model),
        beta=arguments.beta if several else arguments.beta[0],
        moments=arguments.moments or arguments.output is not None,
        precision=arguments.precision,
        max_seconds=arguments.max_seconds,
        num_threads=arguments.threads,
        progress=arguments.progress,
        checkpoint=arguments.checkpoint,
    )
    for result in results if several else [results]:
        if several:
            print(f"beta   {result.beta:g}")
        _print_free_energy(result)
    if arguments.output is not None:
        averages = _averages(results)
        write_atomically(arguments.output, lambda file: np.savez(file, log_z=results.log_z, **averages))
        print(f"{', '.join(averages)} saved to {arguments.output}")
    return 0


def _averages(result: free_energy.FreeEnergy) -> dict[str, Any]:
    """All moments by name."""
    names = ("energy", "energy_variance", "visible", "hidden", "visible_hidden", "spins", "spin_spin")
    return {name: getattr(result.moments, name) for name in names if hasattr(result.moments, name)}


def _print_free_energy(result: free_energy.FreeEnergy) -> None:
    print(f"ln Z   {result.log_z:.15g}")
    print(f"F      {result.value:.15g}")
    print(f"stderr {result.stderr:g}")
    print(f"kind   {result.kind}")
    if result.error_bound > 0 and result.kind != "exact":
        print(f"bound  {result.error_bound:g}, of what else may be wrong with ln Z")
    if not result.converged:
        print(f"not converged: {result.problem}")
    if "n_states" not in result.details:
        return
    layer = result.details.get("enumerated_layer")
    print(f"states {result.details['n_states']}{f' of the {layer} layer' if layer else ''}")
    if result.moments is not None:
        print(f"<E>    {result.moments.energy:.15g}")
        print(f"Var E  {result.moments.energy_variance:.15g}")
        for label, name in (("<v>", "visible"), ("<h>", "hidden"), ("<s>", "spins")):
            if hasattr(result.moments, name):
                print(f"{label}    mean {getattr(result.moments, name).mean():.6g}")


def _sample(arguments: argparse.Namespace) -> int:
    check_output(arguments.output, not_over=[arguments.model])
    if not arguments.output.endswith(".npy"):
        raise ValueError(f"--output: expected a name that ends in .npy, got {arguments.output}")
    seed = random.seed(arguments.seed)
    rbm = load(arguments.model)
    if isinstance(rbm, Ising):
        raise ValueError(f"{arguments.model}: expected an RBM to sample from, got {rbm!r}")
    chains = GibbsChains(rbm, arguments.chains, rng=seed, num_threads=arguments.threads)
    chains.step(arguments.steps, beta=arguments.beta)
    write_atomically(arguments.output, lambda file: np.save(file, chains.visible))
    print(f"{chains.n_chains} samples of {rbm.n_visible} units saved to {arguments.output} (seed {seed})")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    if arguments.model is None:
        show_config()
        return 0
    model = load(arguments.model)
    print(repr(model))
    for name, array in zip(model.names, model.parameters, strict=True):
        print(
            f"{name:<13} {array.shape!s:<12} mean {array.mean():+.4g}  rms {np.sqrt((array**2).mean()):.4g}"
        )
    return 0


def check_output(path: str, option: str = "--output", *, not_over: Sequence[str | None] = ()) -> None:
    """Raise now what would otherwise be found when the work is done, or destroy what is there."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ValueError(f"{option}: expected a file in a folder that can be written, got {path}")
    if any(other is not None and os.path.realpath(other) == os.path.realpath(path) for other in not_over):
        raise ValueError(f"{option}: expected a file of its own, got {path}, which is used otherwise")
    if path.endswith(".safetensors"):
        importlib.import_module("safetensors")


def read_states(path: str) -> Array:
    """Read the data in an ``.npy`` file, or the only array of an ``.npz`` file."""
    with open(path, "rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    if not is_archive:
        try:
            array: Array = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path}: expected states in a .npy or .npz file of NumPy's") from error
        return array
    arrays = read_arrays(path, "a file of states")
    if len(arrays) != 1:
        raise ValueError(f"{path}: expected one array, got {', '.join(arrays) or 'none'}")
    return next(iter(arrays.values()))
