"""Training of variational autoencoders, to the bit where it was stopped."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable
from typing import Any

import torch

from ..arguments import count, real
from ..arrays import Array
from ..files import read_arrays, write_arrays
from ..random import generator, seed
from ..training.loop import History
from ..training.progress import ProgressBar
from ..training.schedules import described
from .evaluate import as_rows
from .objectives import ELBO, Bound
from .vae import VAE

__all__ = ["fit", "seed_of"]

CHECKPOINT_FORMAT = "vfe_fast.vae_checkpoint"
FORMAT_VERSION = "1"


def fit(
    vae: VAE,
    data: Any,
    *,
    objective: Callable[..., Bound] | None = None,
    n_epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float | Callable[[float], float] = 1e-3,
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
    valid: Any = None,
    callback: Callable[[VAE, dict[str, float]], dict[str, float] | None] | None = None,
    rng: Any = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    max_seconds: float | None = None,
) -> History:
    """Train a VAE in place, by Adam on minibatches.

    Parameters
    ----------
    vae : VAE
        The model, whose parameters are replaced.
    data : array_like or Tensor, (n_data, n_visible)
        Training data.
    objective : callable
        One of `vfe_fast.torch`: `ELBO` (default), `CumulantELBO`, `IWAE`, `Renyi`, `BetaELBO`; or any
        function of (vae, x, rng=...) that returns a `Bound`.
    n_epochs : int
        Epochs in all, those of a checkpoint included.
    batch_size : int
        Rows of a minibatch.
    learning_rate : float or callable
        Of Adam: a number, or a function of the epochs that are done, such as the schedules of
        `vfe_fast.training`.
    optimizer : callable, optional
        Takes the parameters and makes another optimizer of PyTorch's; `learning_rate` is then not used.
    valid : array_like or Tensor, (n_valid, n_visible), optional
        Data on which the objective is evaluated after each epoch, with noise that does not change.
    callback : callable, optional
        Called with the model and the record after each epoch; what it returns is added to the record.
    rng : int, numpy.random.Generator, numpy.random.SeedSequence or None
        See `vfe_fast.random.seed`: names minibatches and noise. (Initial parameters: ``torch.manual_seed``.)
    progress : bool
        Show a bar.
    checkpoint : path, optional
        Write the run there, and if the file exists go on from it: the same bits as a run without a stop,
        if networks, objective and callback draw nothing by PyTorch's own generator (dropout does).
    checkpoint_every : int
        Epochs between checkpoints; one more is written where `max_seconds` ends the run.
    max_seconds : float, optional
        Stop before the first epoch that begins after as much training.

    Returns
    -------
    vfe_fast.training.History
        Its records have ``epoch``, ``seconds`` (of training in all, without validation and callbacks),
        ``objective`` (mean estimate of ln p(x) over the epoch), the objective's details, ``valid`` if there
        are validation data, and what the callback returned. `interrupted`: by Ctrl-C or `max_seconds`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the checkpoint is of another run.
    FloatingPointError
        If the loss is no longer finite; the model keeps the parameters before that update.
    """
    objective = ELBO() if objective is None else objective
    if not callable(objective):
        raise TypeError(f"objective: expected one such as ELBO(), got {objective!r}")
    if max_seconds is not None:
        max_seconds = real(max_seconds, "max_seconds")
    n_epochs, batch_size = count(n_epochs, "n_epochs", 0), count(batch_size, "batch_size")
    checkpoint_every = count(checkpoint_every, "checkpoint_every")
    x = as_rows(vae, data)
    held_out = None if valid is None else as_rows(vae, valid, "valid")
    parameters = [p for p in vae.parameters() if p.requires_grad]
    schedule = learning_rate if callable(learning_rate) else None
    rate = real(learning_rate if schedule is None else schedule(0.0), "learning_rate", 0.0)
    if optimizer is None:
        in_order = all(p.layout == torch.strided and p.is_contiguous() for p in parameters)
        made = torch.optim.Adam(parameters, lr=rate, fused=in_order)  # fused, it would ignore their strides
    else:
        made = optimizer(parameters)
    continued = checkpoint is not None and os.path.exists(checkpoint)
    settings = {
        "objective": repr(objective),
        "batch_size": batch_size,
        "data": [len(x), zlib.crc32(x.contiguous().numpy())],
        "learning_rate": rate if schedule is None else described(schedule),
        "optimizer": type(made).__name__,
        "posterior": vae.posterior,
        "temperature": vae.temperature,
        "relaxation": vae.relaxation,
        "likelihood": _described(vae.likelihood),
    }
    key, seconds = seed(rng), 0.0
    records: list[dict[str, float]] = []
    if continued:
        assert checkpoint is not None
        key, records, seconds = _read(checkpoint, settings, vae, made)
    vae.train()
    interrupted = False
    with ProgressBar(n_epochs, len(records), enabled=progress) as bar:
        try:
            for epoch in range(len(records), n_epochs):
                if max_seconds is not None and seconds >= max_seconds:
                    interrupted = True
                    if checkpoint is not None and len(records) % checkpoint_every:
                        _write(checkpoint, settings, vae, made, key, records, seconds)
                    break
                begin = time.perf_counter()
                if schedule is not None and optimizer is None:
                    rate = real(schedule(float(epoch)), "learning_rate", 0.0)
                    made.param_groups[0]["lr"] = rate
                record = {"epoch": epoch + 1.0}
                record |= _epoch(vae, x, objective, made, batch_size, key, epoch)
                seconds += time.perf_counter() - begin
                record["seconds"] = seconds
                if held_out is not None:
                    record["valid"] = _validated(vae, held_out, objective, batch_size, key)
                if callback is not None:
                    vae.eval()
                    record |= {name: float(v) for name, v in (callback(vae, record) or {}).items()}
                    vae.train()
                records.append(record)
                bar.update(record)
                if checkpoint is not None and ((epoch + 1) % checkpoint_every == 0 or epoch + 1 == n_epochs):
                    _write(checkpoint, settings, vae, made, key, records, seconds)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            vae.eval()
    return History(tuple(records), interrupted, seconds)


def _epoch(
    vae: VAE, x: torch.Tensor, objective: Callable[..., Bound], optimizer: torch.optim.Optimizer,
    batch_size: int, key: int, epoch: int,
) -> dict[str, float]:  # fmt: skip
    """One pass over the data; the order and the noise are functions of key and epoch."""
    order = torch.from_numpy(generator(key, "minibatches", epoch).permutation(len(x)))
    keys = generator(key, "latent noise", epoch)
    totals: dict[str, float] = {"objective": 0.0}
    for first in range(0, len(x), batch_size):
        rows = x[order[first : first + batch_size]]
        bound = objective(vae, rows, rng=seed(keys))
        if not isinstance(bound, Bound):
            raise TypeError(f"objective: expected one that returns a Bound, got {type(bound).__name__}")
        loss = bound.loss
        if not torch.isfinite(loss):
            raise FloatingPointError(
                "learning_rate: expected one at which the loss stays finite, "
                f"got {loss.item()} in epoch {epoch + 1}"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        share = len(rows) / len(x)
        totals["objective"] += share * float(bound.value.detach().mean())
        for name, value in bound.details.items():
            totals[name] = totals.get(name, 0.0) + share * value
    return totals


@torch.no_grad()
def _validated(
    vae: VAE, x: torch.Tensor, objective: Callable[..., Bound], batch_size: int, key: int
) -> float:
    vae.eval()
    keys = generator(key, "latent noise", (1 << 56) - 1)
    total = 0.0
    for first in range(0, len(x), batch_size):
        rows = x[first : first + batch_size]
        total += float(objective(vae, rows, rng=seed(keys)).value.sum())
    vae.train()
    return total / len(x)


def _write(
    path: Any, settings: dict[str, Any], vae: VAE, optimizer: torch.optim.Optimizer, key: int,
    records: list[dict[str, float]], seconds: float,
) -> None:  # fmt: skip
    state = optimizer.state_dict()
    arrays: dict[str, Any] = {f"model.{n}": v.detach().numpy() for n, v in vae.state_dict().items()}
    for index, members in state["state"].items():
        arrays |= {f"optimizer.{index}.{n}": torch.as_tensor(v).numpy() for n, v in members.items()}
    about = json.dumps({"settings": settings, "key": key, "records": records, "seconds": seconds})
    write_arrays(
        path, {"format": CHECKPOINT_FORMAT, "format_version": FORMAT_VERSION, "about": about, **arrays}
    )


def _read(
    path: Any, settings: dict[str, Any], vae: VAE, optimizer: torch.optim.Optimizer
) -> tuple[int, list[dict[str, float]], float]:
    name = os.fspath(path)
    arrays = _arrays(path)
    try:
        about = json.loads(str(arrays["about"]))
        for setting, expected in settings.items():
            if about["settings"][setting] != expected:
                raise ValueError(
                    f"this run has {setting} = {expected}, the checkpoint's had {about['settings'][setting]}"
                )
        state = {n[6:]: torch.from_numpy(v) for n, v in arrays.items() if n.startswith("model.")}
        mine, theirs = ({n: tuple(v.shape) for n, v in of.items()} for of in (vae.state_dict(), state))
        if mine != theirs:
            name_of, shape = next((item for item in theirs.items() if item not in mine.items()), (None, None))
            raise ValueError(f"it is of another model, with {name_of or 'fewer parameters'} of {shape}")
        vae.load_state_dict(state)
        members: dict[int, dict[str, torch.Tensor]] = {}
        for label, value in arrays.items():
            if label.startswith("optimizer."):
                _, index, member = label.split(".", 2)
                members.setdefault(int(index), {})[member] = torch.from_numpy(value)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": members})
        return seed(about["key"]), list(about["records"]), float(about["seconds"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: cannot continue from this checkpoint: {error}") from error


def _described(likelihood: Any) -> str:
    options = likelihood.options() if hasattr(likelihood, "options") else {}
    return f"{type(likelihood).__name__}({', '.join(f'{name}={value!r}' for name, value in options.items())})"


def seed_of(path: str | os.PathLike[str]) -> int:
    """The seed of the run in a checkpoint."""
    try:
        return seed(json.loads(str(_arrays(path)["about"]))["key"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: cannot continue from this checkpoint: {error}") from error


def _arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    return read_arrays(path, "a checkpoint of a VAE", CHECKPOINT_FORMAT)
