"""``edgevand enroll``: k normal frames become a bank."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgevand.cli.common import open_bank, open_bundle, open_pair, print_json, say
from edgevand.cli.options import (
    AugmentOption,
    BackendOption,
    BankOption,
    BundleOption,
    DeviceOption,
    JsonFlag,
    LocalityOption,
    MethodOption,
    ObjectOption,
    OutputOption,
    QuietFlag,
    SetOption,
    SourceOption,
    TextOption,
    VerboseFlag,
    poses,
    wanted_precision,
    with_locality,
)
from edgevand.errors import GateError, UnavailableError, UsageError

if TYPE_CHECKING:
    from edgevand.bank import Bank
    from edgevand.bundle import Bundle, Precision
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.enroll import Enrolment, EnrolOptions
    from edgevand_runtime.shots import RefusedFrame, Shot

_DEFAULT_SHOTS = 8
_DEFAULT_RATE = 0.01
_POSES = {"rotate": "eight turns", "flip": "its mirror image"}


def enroll(
    source: SourceOption = None,
    bundle: BundleOption = None,
    shots: Annotated[
        int | None, typer.Option("--shots", "-k", metavar="K", help="Normal frames to take (default 8).")
    ] = None,
    method: MethodOption = None,
    settings: SetOption = None,
    locality: LocalityOption = None,
    take_all: Annotated[bool, typer.Option("--all", help="Take every frame of a folder or video.")] = False,
    object_name: ObjectOption = None,
    text: TextOption = None,
    interval: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Least time between frames of a video or camera (default 0.5)."),
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(metavar="X,Y,W,H|MASK", help="Region to look at: pixels of the frame, or a mask image."),
    ] = None,
    false_alarm_rate: Annotated[
        float | None, typer.Option(metavar="R", help="Wanted false alarms per frame (default 0.01).")
    ] = None,
    augment: AugmentOption = None,
    bank_memory: Annotated[
        float | None,
        typer.Option(metavar="MB", help="Most that the searched patches take in memory (default 48)."),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add frames to a bank that is there.")] = False,
    remove: Annotated[
        list[int] | None, typer.Option(metavar="FRAME", help="Take this frame out of the bank (repeatable).")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Go back to the bank's former version.")] = False,
    bank: BankOption = None,
    output: OutputOption = None,
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="PRECISION", help="auto (the fastest that passes the gate on these frames), fp32, fp16 or int8."
        ),
    ] = "auto",
    json: JsonFlag = False,
    verbose: VerboseFlag = 0,
    quiet: QuietFlag = False,
) -> None:
    """Build a bank from normal frames of one camera."""
    edits = [name for name, given in (("--append", append), ("--remove", bool(remove)), ("--undo", undo)) if given]
    fixed = {
        "--method": method,
        "--set": settings or None,
        "--locality": locality,
        "--roi": roi,
        "--object": object_name,
        "--augment": augment,
        "--false-alarm-rate": false_alarm_rate,
        "--bank-memory": bank_memory,
        "--precision": wanted_precision(precision),
        "-o": output,
    }
    _check_usage(edits, [name for name, value in fixed.items() if value is not None])
    if undo:
        _undo(bank, json=json, quiet=quiet)
        return
    if remove:
        _remove(bundle, bank, remove, json=json, quiet=quiet)
        return
    from edgevand_runtime.methods.choosing import seen_as

    options = _options(
        shots=shots,
        take_all=take_all,
        interval=interval,
        object_name=object_name,
        text=text,
        roi=roi,
        false_alarm_rate=false_alarm_rate,
        augment=augment,
        bank_memory=bank_memory,
    )
    edited: Bank | None = None
    if append:
        opened, edited = open_pair(bundle, bank, need_bank=True, quiet=quiet or json)
    else:
        opened = seen_as(open_bundle(bundle, quiet=quiet or json), method, pairs=with_locality(settings, locality))
    wanted = wanted_precision(precision) if edited is None else edited.record.precision
    done = _take(
        source, opened, edited, options, output, device=device, backend=backend, precision=wanted, quiet=quiet or json
    )
    _report(done, json=json, quiet=quiet)


def _check_usage(edits: list[str], fixed: list[str]) -> None:
    if len(edits) > 1:
        message = f"expected one of --append, --remove and --undo, found {' and '.join(edits)}; do one after the other."
        raise UsageError(message)
    if edits and fixed:
        message = (
            f"expected {edits[0]} to keep the bank's own settings, found {', '.join(fixed)} beside it; leave that out "
            "or enrol anew."
        )
        raise UsageError(message)


def _options(
    *,
    shots: int | None,
    take_all: bool,
    interval: float | None,
    object_name: str | None,
    text: Path | None,
    roi: str | None,
    false_alarm_rate: float | None,
    augment: str | None,
    bank_memory: float | None,
) -> EnrolOptions:
    from edgevand.bank import BANK_MEMORY
    from edgevand_runtime.enroll import EnrolOptions
    from edgevand_runtime.roi import Roi
    from edgevand_runtime.shots import STREAM_INTERVAL

    if take_all and shots is not None:
        message = f"expected --shots or --all, found both; --shots {shots} takes the first {shots}, --all every frame."
        raise UsageError(message)
    return EnrolOptions(
        shots=None if take_all else _DEFAULT_SHOTS if shots is None else shots,
        interval=STREAM_INTERVAL if interval is None else interval,
        object_name=object_name,
        text_file=text,
        roi=None if roi is None else Roi.parse(roi),
        false_alarm_rate=_DEFAULT_RATE if false_alarm_rate is None else false_alarm_rate,
        augment=poses(augment),
        memory_mb=BANK_MEMORY if bank_memory is None else bank_memory,
    )


def _take(
    source: str | None,
    bundle: Bundle,
    bank: Bank | None,
    options: EnrolOptions,
    output: Path | None,
    *,
    device: str,
    backend: str,
    precision: Precision | None,
    quiet: bool,
) -> Enrolment:
    """Open source and engine, enrol or append, and remember the bank."""
    from edgevand.home import full_source, home, remember, remember_source
    from edgevand_runtime.engines import open_engine
    from edgevand_runtime.enroll import append_frames, enroll
    from edgevand_runtime.gate import told_of_precision
    from edgevand_runtime.methods import kind_of
    from edgevand_runtime.sources import open_source

    if source is None:
        if bank is None:
            message = (
                "expected a source of normal frames, found none; give --camera 0, a video or a folder of good parts."
            )
            raise UsageError(message)
        source = full_source(bank.record.source)
    follow = kind_of(bundle.manifest).poses
    if bank is None and options.augment is None and bundle.manifest.enrol.augment and follow:
        named = " and ".join(_POSES[name] for name in bundle.manifest.enrol.augment)
        say(f"each frame goes in {named}, as the bundle recommends; --augment none for a fixed view", quiet=quiet)
    target = output or home() / "banks" / _slug(source)
    with open_source(source) as opened:
        with ExitStack() as engines:
            engine = open_engine(bundle, backend=backend, device=device, precision=precision)
            engines.callback(engine.close)
            told = _Teller(options.shots, quiet=quiet)
            if bank is not None:
                done = append_frames(bank, opened, bundle, engine, options, told)
            else:
                variants = [] if precision else _variants(bundle, engine, backend=backend, device=device, quiet=quiet)
                for variant in variants:
                    engines.callback(variant.close)
                replace = output is None and target.exists()
                done = enroll(opened, bundle, engine, target, options, told, variants=variants, replace=replace)
                if not precision:
                    line = told_of_precision(done.bank.record, [variant.precision for variant in variants])
                    say(line or "", quiet=quiet or line is None)
        remember_source(opened.uri, source)
    remember("bank", done.bank.path)
    return done


def _variants(bundle: Bundle, engine: Engine, *, backend: str, device: str, quiet: bool) -> list[Engine]:
    """Engines of the bundle's other precisions that run here; enrolment takes one where it passes the gate."""
    from edgevand_runtime.engines import open_engine

    found = []
    for precision in bundle.precisions:
        if precision != engine.precision:
            try:
                found.append(open_engine(bundle, backend=backend, device=device, precision=precision))
            except (GateError, UnavailableError) as error:
                say(f"{precision} is left out: {error}", quiet=quiet)
    return found


class _Teller:
    """Tells every frame taken or refused, as it is decided."""

    def __init__(self, wanted: int | None, *, quiet: bool) -> None:
        self._wanted = "" if wanted is None else f"/{wanted}"
        self._taken = 0
        self._quiet = quiet

    def __call__(self, item: Shot | RefusedFrame) -> None:
        from edgevand_runtime.shots import Shot

        if isinstance(item, Shot):
            self._taken += 1
            say(f"taken {self._taken}{self._wanted}  {_where(item.frame.source, item.frame.index)}", quiet=self._quiet)
        else:
            say(f"refused    {_where(item.source, item.index)}: {item.reason}", quiet=self._quiet)


def _where(source: str, index: int) -> str:
    return f"frame {index} of {Path(source).name or source}"


def _report(done: Enrolment, *, json: bool, quiet: bool) -> None:
    if json:
        print_json(done.to_json())
        return
    record = done.bank.record
    if done.skipped:
        say(f"{done.skipped} frames passed over for too little spacing.", quiet=quiet)
    for sentence in done.decided:
        say(sentence, quiet=quiet)
    for warning in done.warnings:
        say(f"warning: {warning}", quiet=quiet)
    if done.compressed is not None:
        say(done.compressed, quiet=quiet)
    say(done.promise, quiet=quiet)
    say(f"contact sheet: {done.bank.path / 'contact-sheet.jpg'}", quiet=quiet)
    say(f"bank of {len(record.frames)} frames, version {record.version}: {done.bank.path}", quiet=quiet)


def _remove(bundle: Path | None, bank: Path | None, frames: list[int], *, json: bool, quiet: bool) -> None:
    from edgevand_runtime.enroll import remove_frames

    opened, edited = open_pair(bundle, bank, need_bank=True, quiet=quiet or json)
    _report(remove_frames(edited, opened, frames), json=json, quiet=quiet)


def _undo(path: Path | None, *, json: bool, quiet: bool) -> None:
    from edgevand.bank import undo_bank

    restored = undo_bank(open_bank(path, quiet=quiet or json).path)
    if json:
        print_json(
            {
                "schema": "edgevand.enrolment/1",
                "bank": str(restored.path),
                "hash": restored.hash,
                "version": restored.record.version,
            }
        )
        return
    say(
        f"back to version {restored.record.version} with {len(restored.record.frames)} frames: {restored.path}",
        quiet=quiet,
    )


def _slug(source: str) -> str:
    """Directory name of a source's bank: the same for the same source."""
    import re

    if source.isdigit():
        return f"camera-{source}"
    without_secret = re.sub(r"//[^/@]*@", "//", source)
    words = re.sub(r"[^A-Za-z0-9]+", "-", without_secret).strip("-").lower()
    return words[-64:].strip("-") or "source"
