"""``edgevand monitor``: live detection on one source (docs/monitor.md)."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevand.cli.common import open_pair, print_json, say
from edgevand.cli.options import (
    BackendOption,
    BankOption,
    BundleOption,
    DeviceOption,
    JsonFlag,
    ObjectOption,
    OutputOption,
    PrecisionOption,
    QuietFlag,
    SourceOption,
    TextOption,
    ThreadsOption,
    ThresholdOption,
    VerboseFlag,
    wanted_precision,
)

if TYPE_CHECKING:
    from edgevand.bank import Bank
    from edgevand.bundle import Bundle
    from edgevand_runtime.camera_health import CameraHealth
    from edgevand_runtime.live_view import View
    from edgevand_runtime.monitor import Lane, Limits, Outputs
    from edgevand_runtime.sinks import Rotation
    from edgevand_runtime.stop import Ending

__all__ = ["monitor"]


def monitor(
    source: SourceOption = None,
    bank: BankOption = None,
    bundle: BundleOption = None,
    object_name: ObjectOption = None,
    text: TextOption = None,
    threshold: ThresholdOption = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The camera's name in results and events.")
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            "--event", metavar="M/N", help="An event starts with M of the last N frames, ends after N without."
        ),
    ] = "3/5",
    duration: Annotated[
        float | None, typer.Option("--duration", metavar="SECONDS", min=0.0, help="End after so many seconds.")
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", metavar="N", min=1, help="End after so many verdicts.")
    ] = None,
    output: OutputOption = None,
    events: Annotated[
        Path | None,
        typer.Option(
            "--events",
            metavar="DIR",
            help="Where events.jsonl and snapshots go; default: events/<camera> in edgevand's own directory.",
        ),
    ] = None,
    rotate: Annotated[
        float, typer.Option("--rotate", metavar="MB", min=0.001, help="Size at which a log is rotated.")
    ] = 64.0,
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=0, help="Rotated logs that are kept.")] = 4,
    keep_snapshots: Annotated[
        int, typer.Option("--keep-snapshots", metavar="N", min=0, help="Snapshots that are kept, the newest.")
    ] = 500,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    no_tui: Annotated[bool, typer.Option("--no-tui", help="Lines of text in place of the live view.")] = False,
    json_: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Watch a camera and report anomalies as events.

    Without --source the newest bank and the source it was enrolled from are used. --output writes every result as
    a JSON line ("-" is standard output). Ctrl-C ends it in order, a second one at once.
    """
    from edgevand.errors import UsageError
    from edgevand_runtime.detector import Detector
    from edgevand_runtime.events import EventRule
    from edgevand_runtime.monitor import Lane, Limits, Outputs, summary, warm_up
    from edgevand_runtime.sinks import Rotation, Snapshots
    from edgevand_runtime.sources import open_source
    from edgevand_runtime.threads import set_threads

    piped = output is not None and str(output) == "-"
    if piped and json_:
        raise UsageError("expected either --output - or --json on standard output, found both; give --output FILE")
    event_rule = EventRule.parse(rule)
    the_bundle, the_bank = open_pair(bundle, bank, need_bank=source is None, quiet=quiet or json_)
    uri = _uri(source, the_bank)
    camera = _camera_name(name, uri)
    directory = _events_directory(events, camera)
    with ExitStack() as stack:
        frames = stack.enter_context(open_source(uri))
        detector = Detector.open(
            the_bundle,
            the_bank,
            object_name=object_name,
            text_file=text,
            backend=backend,
            device=device,
            precision=wanted_precision(precision),
            threads=set_threads(threads),
            threshold=threshold,
            camera=camera,
        )
        stack.enter_context(detector)
        sinks = _sinks(output, directory, Rotation(rotate, keep))
        outputs = Outputs(sinks, Snapshots(directory / "snapshots", keep_snapshots))
        stack.callback(outputs.close)
        if frames.live:
            warm_up(detector, _size(the_bundle, the_bank))
        lane = Lane(frames, detector, outputs, camera=camera, rule=event_rule, health=_health(the_bank))
        why = _drive(lane, outputs, Limits(duration, max_frames), tui=not no_tui, quiet=quiet)
        document = summary(lane, outputs, why)
    _report(document, directory, as_json=json_, silent=quiet or piped)
    if verbose and document["scored"]:
        _say_budget(document)
    _judge(lane)


def _drive(lane: Lane, outputs: Outputs, limits: Limits, *, tui: bool, quiet: bool) -> Ending:
    """Show and run the lane until it ends or a signal asks it to."""
    from edgevand_runtime.monitor import watch
    from edgevand_runtime.stop import Stop, stop_on_signals

    stop = Stop()
    with stop_on_signals(stop):
        view = outputs.view = _view(f"edgevand monitor, {lane.stats.camera}, {lane.source.uri}", tui=tui, quiet=quiet)
        try:
            return watch(lane, view, limits, stop)
        finally:
            view.close()


def _uri(source: str | None, bank: Bank | None) -> str:
    """The source that was asked for, or the one that the bank was enrolled from, with its password where known."""
    from edgevand.errors import UsageError
    from edgevand.home import full_source

    if source is not None:
        return source
    if bank is None:
        raise UsageError("expected a source, but there is no bank to take it from; give --source URI")
    uri = full_source(bank.record.source)
    if "***" in uri:
        raise UsageError(
            f"expected the password of {uri}, but this machine does not know it; give --source with the password"
        )
    return uri


def _camera_name(name: str | None, uri: str) -> str:
    """A name that serves as the name of a directory and of a topic: given, or made from the source."""
    from edgevand.errors import UsageError

    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise UsageError(
                f"expected --name to be letters, digits, dots, dashes and underscores, found '{name}': choose another"
            )
        return name
    if uri.isdecimal():
        return f"camera-{uri}"
    scheme, separator, rest = uri.partition("://")
    # User, password and query may hold secrets and are no name.
    address = f"{scheme}-{rest.rpartition('@')[2]}" if separator else Path(uri).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", address.partition("?")[0]).strip("-.")[:64] or "camera"


def _events_directory(given: Path | None, camera: str) -> Path:
    from edgevand.home import home

    return (given if given is not None else home() / "events" / camera).absolute()


def _sinks(output: Path | None, directory: Path, rotation: Rotation) -> tuple[Any, ...]:
    from edgevand_runtime.sinks import EventLog, ResultLog, StandardOutput

    events = EventLog(directory, rotation)
    if output is None:
        return (events,)
    return (StandardOutput() if str(output) == "-" else ResultLog(output, rotation), events)


def _size(bundle: Bundle, bank: Bank | None) -> tuple[int, int]:
    """Width and height of the frames to come, as far as they are known."""
    image = bundle.manifest.image
    return (image.width, image.height) if bank is None else bank.record.frame_size


def _health(bank: Bank | None) -> CameraHealth:
    """Knows the view that was enrolled."""
    from edgevand_runtime.camera_health import CameraHealth
    from edgevand_runtime.preprocess import load_image

    if bank is None:
        return CameraHealth()
    thumbnails = [load_image(path) for path in sorted((bank.path / "frames").glob("*.jpg"))]
    return CameraHealth(thumbnails, bank.record.frame_size)


def _view(title: str, *, tui: bool, quiet: bool) -> View:
    """The live view where a person looks at a terminal; lines of text elsewhere; only events with -q."""
    from rich.console import Console

    from edgevand_runtime.live_view import LinesView, TerminalView

    console = Console(stderr=True)
    drawn = console.is_terminal and sys.stdout.isatty() and not console.is_dumb_terminal and console.encoding == "utf-8"
    if tui and drawn and not quiet:
        return TerminalView(title, console)
    return LinesView(sys.stderr, period=None if quiet else 10.0)


def _report(document: dict[str, Any], directory: Path, *, as_json: bool, silent: bool) -> None:
    """The summary: a document, or a table for people."""
    if as_json:
        print_json(document)
        return
    if silent:
        return
    events, latency = document["events"], document["latency_ms"] or {}
    faults = ", ".join(f"{count} {fault}" for fault, count in events["camera"].items()) or "none"
    lost = {name: count for name, count in document["sink_dropped"].items() if count}
    rows = {
        "camera": f"{document['camera']} ({document['source']})",
        "ended": f"{document['reason']}, after {document['seconds']:.1f} s",
        "frames": ", ".join(
            f"{document[key]} {key}"
            for key in ("scored", "dropped", "unreadable", "resized")
            if document[key] or key == "scored"
        ),
        "process": f"{document['process_fps']} fps",
        "latency": " / ".join(f"{value:.0f}" for value in latency.values()) + " ms (p50 / p95 / p99)"
        if latency
        else "-",
        "over": f"{document['anomalous']} frames over the threshold ({document['calibration']})",
        "anomalies": f"{events['anomaly']} events",
        "camera faults": faults,
        "written to": str(directory),
    }
    if lost:
        rows["not written"] = ", ".join(f"{count} {name}" for name, count in lost.items())
    for key, value in rows.items():
        print(f"{key:<14}{value}")


def _say_budget(document: dict[str, Any]) -> None:
    """What each step of a frame took, on standard error."""
    from edgevand_runtime.budget import budget_lines

    stages = {name: (times["p50"], times["p95"]) for name, times in document["stages_ms"].items()}
    say("\n".join(budget_lines(stages, document["interval_ms"])))


def _judge(lane: Lane) -> None:
    """A source of which nothing could be read is bad input, whatever else went well.

    Raises:
        BadInputError: frames came, and none could be decoded.
    """
    from edgevand.errors import BadInputError

    if lane.stats.unreadable and not lane.stats.scored:
        raise BadInputError(
            f"expected frames in {lane.source.uri}, but none of {lane.stats.unreadable} could be read: check the files"
        )
