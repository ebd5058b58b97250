"""What ``edgevand train`` does: from options to ``heads.safetensors``.

The directory of a run holds ``config.json`` (what the run is), ``log.csv``, ``checkpoint.safetensors`` and at the end
``heads.safetensors``. Each appears whole or not at all.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgevand.errors import OutputError
from edgevand.home import home
from edgevand.records import dump_record
from edgevand.staging import is_filled, output_error, write_atomic
from edgevand_export.heads import Heads, write_heads
from edgevand_export.text import embed_objects
from edgevand_export.training.cache import MASK, TokenCache
from edgevand_export.training.digests import digest_of
from edgevand_export.training.feed import Feed
from edgevand_export.training.loop import Training
from edgevand_export.training.losses import LinearHeads
from edgevand_export.training.prepare import TrainOptions, completed, prepare
from edgevand_export.training.record import CONFIG, check_same, read_run, run_hash
from edgevand_export.training.state import CHECKPOINT, make_state, read_checkpoint
from edgevand_runtime.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from edgevand_export.training.config import TrainConfig
    from edgevand_export.training.loop import EpochFigures, TrainWatcher
    from edgevand_export.training.prepare import Prepared
    from edgevand_export.training.record import RunRecord

__all__ = ["HEADS", "TrainOptions", "TrainResult", "train"]

HEADS = "heads.safetensors"
GIGABYTE = 10**9


@dataclass(frozen=True)
class TrainResult:
    """What a training came to.

    Attributes:
        output: directory of the run.
        record: ``config.json``.
        steps: done, and in all.
        epochs: what each cost in this process.
        unreadable: a sentence for each file that could not be read.
        cache: figures of the cache and its folder; None without one.
        finished: whether ``heads.safetensors`` is written; False after an interruption.
    """

    output: Path
    record: RunRecord
    steps: tuple[int, int]
    epochs: tuple[EpochFigures, ...]
    unreadable: tuple[str, ...]
    cache: dict[str, Any] | None
    finished: bool


def train(
    options: TrainOptions,
    watcher: TrainWatcher,
    report: Callable[[str], None] = lambda _: None,
    stop: Stop | None = None,
    guard: AbstractContextManager[None] | None = None,
) -> TrainResult:
    """Train heads, or go on with it.

    Args:
        options: what to train on what.
        watcher: told of the beginning, pictures, steps and epochs.
        report: called with a line for people when a part begins, and about classes that teach little.
        stop: a request to end; looked at between pictures.
        guard: entered around the steps, for signals that ask ``stop``; before, they end the program as always.

    Raises:
        UsageError: arguments that do not exist or do not fit together.
        BadInputError: data, weights, prompts or a checkpoint that cannot be used.
        UnavailableError: weights or GPU are not there.
        GateError: the training diverged.
        OutputError: the output is there already or cannot be written.
    """
    stop = stop or Stop()
    recorded = _recorded(options)
    prepared = prepare(options if recorded is None else completed(options, recorded), recorded, report)
    record, config, tower = prepared.record, prepared.plan.config, prepared.tower
    if recorded is not None:
        check_same(recorded, record, options.output)
    for sentence in prepared.warnings:
        report(sentence)
    heads = LinearHeads(tower.stages, tower.widths, prepared.dim, config.seed).to(prepared.encoder.device)
    state, steps, run = make_state(heads, config), prepared.plan.steps * config.epochs, run_hash(record)
    if recorded is not None and (options.output / CHECKPOINT).exists():
        read_checkpoint(options.output / CHECKPOINT, state, run)
        report(f"goes on after step {state.step} of {steps}")
    texts = _texts(prepared, report)
    if recorded is None:
        _make_folder(options.output, record)
    cache = _open_cache(prepared)
    feed = Feed(
        prepared.encoder,
        prepared.image,
        _dtype(config),
        identity=_identity(record),
        cache=cache,
        workers=config.workers,
        watcher=watcher,
    )
    training = Training(state, feed, prepared.plan, texts, tower.grids, options.output, run)
    with guard or nullcontext():
        epochs = training.fit(watcher, stop)
    finished = stop.why is None
    if finished:
        layers = tuple((layer.weight.detach(), layer.bias.detach()) for layer in heads.layers)
        activation = record.encoder.activation
        write_heads(options.output / HEADS, Heads(layers, tower.stages, activation, trained_on(record)))
    return TrainResult(
        output=options.output,
        record=record,
        steps=(state.step, steps),
        epochs=tuple(epochs),
        unreadable=tuple(feed.unreadable.values()),
        cache=None if cache is None else cache.to_json(),
        finished=finished,
    )


def trained_on(record: RunRecord) -> str:
    """What heads were trained on, in words, for their file."""
    data, encoder, config = record.data, record.encoder, record.config
    return (
        f"{data.recognised or data.layout}, test split, {sum(data.classes.values())} pictures of "
        f"{', '.join(data.classes)}; {encoder.name} {encoder.pretrained}, {encoder.image_size} px, prompts "
        f"{encoder.prompts}; {config.epochs} epochs, batch {config.batch}, seed {config.seed}"
    )


def _recorded(options: TrainOptions) -> RunRecord | None:
    """The run that lies in the output directory and is to go on; None where a new one begins."""
    path = options.output / CONFIG
    if options.resume and path.is_file():
        return read_run(path)
    if is_filled(options.output):
        found = "a directory without config.json" if options.resume else "that something is there already"
        remedy = "give another -o" if options.resume else "add --resume to go on with it, or give another -o"
        raise OutputError(f"expected a new directory for the training at {options.output}, found {found}; {remedy}")
    return None


def _texts(prepared: Prepared, report: Callable[[str], None]) -> dict[str, torch.Tensor]:
    """Text embeddings (2, D) of each class, on the heads' device."""
    names = list(prepared.record.data.classes)
    report(f"text embeddings of {', '.join(names)} with the prompts {prepared.pack.name}")
    embedded = embed_objects(prepared.model, prepared.tokenizer, prepared.pack, names)
    return {name: torch.from_numpy(array).to(prepared.encoder.device) for name, array in embedded.items()}


def _make_folder(output: Path, record: RunRecord) -> None:
    """The directory of a new run, with its record."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output, error) from error
    write_atomic(output / CONFIG, dump_record(record))


def _open_cache(prepared: Prepared) -> TokenCache | None:
    """The cache of tokens, unless it is off."""
    config, tower = prepared.plan.config, prepared.tower
    if config.cache == "off":
        return None
    shapes: dict[str, tuple[int, ...]] = {
        f"stage.{stage}": (grid[0] * grid[1], width)
        for stage, grid, width in zip(tower.stages, tower.grids, tower.widths, strict=True)
    }
    shapes[MASK] = tower.size
    folder = Path(config.cache_dir).expanduser() if config.cache_dir else home() / "cache" / "tokens"
    return TokenCache(folder, int(config.cache_limit_gb * GIGABYTE), shapes, _dtype(config))


def _dtype(config: TrainConfig) -> np.dtype[np.floating[Any]]:
    """In which tokens are kept."""
    return np.dtype(np.float16) if config.tokens == "float16" else np.dtype(np.float32)


def _identity(record: RunRecord) -> str:
    """Hash of all that tokens depend on beside the picture; names, text and prompts are not among it."""
    fields = record.encoder.model_dump(mode="json", exclude={"name", "pretrained", "prompts", "prompts_sha256"})
    return digest_of({**fields, "tokens": record.config.tokens, "torch": torch.__version__})
