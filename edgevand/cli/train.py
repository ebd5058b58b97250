"""``edgevand train``: linear heads from a dataset with masks (docs/training.md)."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from edgevand.cli.common import print_json, require_torch, say
from edgevand.cli.options import DeviceOption, JsonFlag, QuietFlag, SourceOption, VerboseFlag
from edgevand.errors import BadInputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgevand_export.training.loop import EpochFigures, StepReport, TrainWatcher
    from edgevand_export.training.run import TrainResult

__all__ = ["train"]

TRAIN_SCHEMA = "edgevand.train/1"
EXIT_INTERRUPTED = 130


def train(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Directory of the run; must not be there yet.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Dataset with masks; its test split, normal and anomalous, is trained on."),
    ] = None,
    dataset: Annotated[
        Literal["auto", "mvtec", "visa", "loco", "folder"] | None,
        typer.Option(help="Layout of --data. Default: auto."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these, separated by commas. Default: all.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="As for `edgevand export`. Default: ViT-L-14-336."),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(metavar="TAG|FILE", help="As for `edgevand export`. Default: openai, or the only tag."),
    ] = None,
    preset: Annotated[
        Literal["april-gan-mvtec", "april-gan-visa"] | None,
        typer.Option(help="Published numbers. Default: april-gan-visa for the layout visa, else april-gan-mvtec."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Change one number of the preset, or of the method; repeatable."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option("--method", metavar="NAME", help="april-gan (heads, on --data), or one trained on good frames."),
    ] = "april-gan",
    source: SourceOption = None,
    shots: Annotated[
        int | None, typer.Option("--shots", "-k", metavar="K", min=1, help="With --source: frames. Default: all.")
    ] = None,
    bank: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --method: train on the frames of this bank.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --method: the bundle it is for; default: the newest.")
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option("--weights", metavar="FILE", help="With --method: weights of its backbone; repeatable."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Side in pixels; default: 518 for ViTs of patch 14, else native."),
    ] = None,
    stages: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="1-based blocks; default: four equal groups.")
    ] = None,
    activation: Annotated[
        Literal["auto", "gelu", "quick-gelu"] | None,
        typer.Option(help="Of both towers. Default: auto, what the weights were trained with."),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="PACK|FILE", help="Prompt pack or prompts file; default: april-gan.")
    ] = None,
    device: DeviceOption = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in -o; what is not given is taken from there.")
    ] = False,
    json_: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Train linear heads on a frozen encoder, as APRIL-GAN publishes it.

    Writes heads.safetensors, which `edgevand export --heads` reads, beside config.json, log.csv and the checkpoint. A
    run that was killed goes on with --resume and ends with the same bytes.
    """
    require_torch("training")
    if method != "april-gan":
        if data is not None or model is not None or preset is not None:
            raise UsageError(
                f"expected --source or --bank with --method {method}, which is trained on good frames, found --data, "
                "--model or --preset; leave them out"
            )
        frames = _GoodFrames(source, shots, bank)
        _train_method(method, frames, bundle, settings or (), weights or (), output, resume, as_json=json_, quiet=quiet)
        return
    from edgevand_export.training.run import TrainOptions
    from edgevand_export.training.run import train as run
    from edgevand_runtime.stop import Stop, stop_on_signals

    short = [f"image_size={image_size}"] * (image_size is not None) + [f"stages={stages}"] * (stages is not None)
    options = TrainOptions(
        output=output,
        model=model,
        pretrained=pretrained,
        data=data,
        dataset=dataset,
        classes=_names(classes),
        preset=preset,
        settings=(*short, *(settings or ())),
        activation=activation,
        prompts=prompts,
        resume=resume,
        device=None if device == "auto" else device,
    )
    stop = Stop()
    with _watcher(quiet=quiet) as watcher:
        result = run(options, watcher, lambda line: say(f"edgevand: {line}", quiet=quiet), stop, stop_on_signals(stop))
    if not result.finished:
        done, steps = result.steps
        say(f"edgevand: interrupted after step {done} of {steps}; go on with `edgevand train --resume -o {output}`")
        raise typer.Exit(EXIT_INTERRUPTED)
    if json_:
        print_json(_document(result))
    else:
        print(output / "heads.safetensors")
        say(_sentence(result), quiet=quiet)
    if result.unreadable:
        raise BadInputError(
            f"expected every picture to be readable, but {len(result.unreadable)} could not be read and were not "
            "trained on; the heads are written: replace the pictures and train anew if they matter"
        )


class _GoodFrames(NamedTuple):
    """Where the frames come from that a method is trained on."""

    source: str | None
    shots: int | None
    bank: Path | None

    def take(self) -> list[NDArray[np.uint8]]:
        """Take them.

        Raises:
            UsageError: neither a source nor a bank was given, or both.
        """
        from edgevand_export.methods.training import frames_of_bank, frames_of_source

        if self.bank is not None and self.source is None:
            return frames_of_bank(self.bank)
        if self.source is None or self.bank is not None:
            found = "neither" if self.bank is None else "both"
            raise UsageError(f"expected --source of good frames or --bank, found {found}; give one of the two")
        return frames_of_source(self.source, self.shots)


def _train_method(
    method: str,
    frames: _GoodFrames,
    bundle: Path | None,
    settings: Sequence[str],
    weights: Sequence[Path],
    output: Path,
    resume: bool,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train a method on good frames, or go on with it."""
    from edgevand.cli.common import open_bundle
    from edgevand_export.methods.training import train_method
    from edgevand_runtime.stop import Stop, stop_on_signals

    opened = open_bundle(bundle, quiet=quiet or as_json)
    taken = frames.take()
    stop = Stop()

    def report(line: str) -> None:
        say(f"edgevand: {line}", quiet=quiet)

    with stop_on_signals(stop):
        file = train_method(opened, method, taken, settings, weights, output, report=report, stop=stop, resume=resume)
    if file is None:
        say("edgevand: interrupted; the same command with --resume goes on")
        raise typer.Exit(EXIT_INTERRUPTED)
    if as_json:
        print_json({"schema": TRAIN_SCHEMA, "method": method, "file": str(file), "frames": len(taken)})
    else:
        print(file)
        command = f"edgevand export --method {method} --bundle {bundle or 'builtin'} --weights {file}"
        say(f"edgevand: trained on {len(taken)} frames; put it into a bundle with `{command}`", quiet=quiet)


def _names(text: str | None) -> tuple[str, ...] | None:
    """``a,b`` as names."""
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UsageError(f"expected --classes as names separated by commas, found {text!r}; leave it out for all")
    return names


class _Lines:
    """A training's progress where nobody looks at a bar: one line for each epoch."""

    def __init__(self, *, quiet: bool) -> None:
        """Say nothing but warnings with ``quiet``."""
        self.quiet = quiet

    def begin(self, done: int, total: int) -> None:
        """Nothing to say yet."""

    def picture(self) -> None:
        """Too often for a line."""

    def step(self, report: StepReport) -> None:
        """Too often for a line."""

    def unreadable(self, sentence: str) -> None:
        """Say it at once."""
        say(f"edgevand: {sentence}")

    def epoch(self, figures: EpochFigures) -> None:
        """One line."""
        say(f"edgevand: {_epoch_sentence(figures)}", quiet=self.quiet)


@contextmanager
def _watcher(*, quiet: bool) -> Iterator[TrainWatcher]:
    """A progress bar on a terminal, lines elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield _Lines(quiet=quiet)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("train"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar)


class _Bar(_Lines):
    """A training's progress on a terminal: pictures, remaining time, losses."""

    def __init__(self, bar: Any) -> None:  # noqa: ANN401 (rich is imported where it is used)
        """Draw on rich's progress display."""
        super().__init__(quiet=False)
        self._bar = bar
        self._task = bar.add_task("train", total=None, state="", start=False)

    def begin(self, done: int, total: int) -> None:
        """Start the clock; what an earlier process did does not count for the remaining time."""
        self._bar.update(self._task, completed=done, total=total)
        self._bar.start_task(self._task)

    def picture(self) -> None:
        """Move the bar."""
        self._bar.advance(self._task)

    def step(self, report: StepReport) -> None:
        """Show the losses."""
        state = f"epoch {report.epoch}, loss {report.loss:.4f} = focal {report.focal:.4f} + dice {report.dice:.4f}"
        self._bar.update(self._task, state=state)

    def unreadable(self, sentence: str) -> None:
        """Above the bar."""
        self._bar.console.print(f"edgevand: {sentence}", markup=False, highlight=False, soft_wrap=True)

    def epoch(self, figures: EpochFigures) -> None:
        """Above the bar."""
        text = f"edgevand: {_epoch_sentence(figures)}"
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _epoch_sentence(figures: EpochFigures) -> str:
    """What an epoch came to."""
    loss = "nothing to train on" if figures.loss is None else f"mean loss {figures.loss:.4f}"
    part = "" if figures.whole else " (the rest of it)"
    return (
        f"epoch {figures.epoch}{part}: {loss}, {figures.seconds:.1f} s, {figures.encoded} pictures encoded, "
        f"{figures.cached} from the cache"
    )


def _document(result: TrainResult) -> dict[str, Any]:
    """The summary for machines."""
    record = result.record
    return {
        "schema": TRAIN_SCHEMA,
        "heads": str(result.output / "heads.safetensors"),
        "encoder": record.encoder.model_dump(mode="json"),
        "data": record.data.model_dump(mode="json"),
        "config": record.config.model_dump(mode="json"),
        "steps": result.steps[0],
        "epochs": [asdict(each) for each in result.epochs],
        "cache": result.cache,
        "unreadable": list(result.unreadable),
    }


def _sentence(result: TrainResult) -> str:
    """What was done, for people."""
    record, cache = result.record, result.cache
    held = "" if cache is None else f"; {cache['bytes'] / 1e9:.2f} GB of tokens are in {cache['folder']}"
    return (
        f"edgevand: heads of the stages {','.join(map(str, record.encoder.stages))} for {record.encoder.name}, "
        f"{record.encoder.image_size} px, {record.encoder.activation}: {result.steps[0]} steps on "
        f"{sum(record.data.classes.values())} pictures of {len(record.data.classes)} classes{held}"
    )
