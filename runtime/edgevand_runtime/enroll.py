"""Enrolment: k normal frames of one camera become a bank.

Frames are taken (shots.py), encoded once, held against each other (leave one out), calibrated and written. What
the encoder said of every frame is kept in the bank, so that appending and removing never encode anything again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import replace as replace_field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevand.bank import BANK_MEMORY
from edgevand.errors import BadInputError, UsageError
from edgevand_runtime.augment import chosen_poses
from edgevand_runtime.bank_writer import Enrolment, decoded, thumbnail, write_calibrated
from edgevand_runtime.calibration import MIN_GROUPS
from edgevand_runtime.detector import roi_at_image_size
from edgevand_runtime.features import Features, Judged, decide, encode_frame, judge, stack
from edgevand_runtime.frame import iso_time
from edgevand_runtime.gate import MIN_FRAMES, look
from edgevand_runtime.gate import judge as judge_gate
from edgevand_runtime.methods import kind_of, usual_sd
from edgevand_runtime.methods.choosing import seen_as
from edgevand_runtime.methods.texts import ChosenText, choose_text
from edgevand_runtime.quality import Look, Refusal, blurred, look_at
from edgevand_runtime.shots import STREAM_INTERVAL, RefusedFrame, Shot, ShotTaker
from edgevand_runtime.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from edgevand.bank import Bank
    from edgevand.bundle import Bundle, GateRecord, Precision
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.frame import Frame
    from edgevand_runtime.gate import Seen
    from edgevand_runtime.roi import Roi
    from edgevand_runtime.sources import Source

__all__ = ["EnrolOptions", "Enrolment", "append_frames", "enroll", "remove_frames"]

_JUDGED = 16
"""Frames that a precision is judged on: encoding each four times must not take longer than the enrolment is worth."""

_OUT_OF_PLACE = 2.0
_DEVIATIONS_OUT_OF_PLACE = 3.5
"""A frame whose leave-one-out score is so many times that of every other frame does not belong to them.

At least ``_OUT_OF_PLACE`` times, and ``exp(3.5 sd)`` where the bundle says what deviation sd of ln(score) is usual:
3.1 for the built-in one, where the largest normal score of a scene was at most 3.0 times the second
(docs/enrolment.md).
"""


@dataclass(frozen=True, slots=True)
class EnrolOptions:
    """What a person may choose at enrolment.

    Attributes:
        shots: frames to take; None for all of a finite source.
        interval: least seconds between frames of a video or camera.
        object_name: whose text embeddings to use; None for the bundle's only or general one.
        text_file: embeddings made later by ``edgevand export --text-only``.
        roi: region of interest; None for the whole frame.
        false_alarm_rate: wanted, per frame, in (0, 1).
        augment: ``rotate`` and ``flip`` add copies to the bank; None adds those that the bundle recommends.
        memory_mb: most that the searched rows of the bank take in memory, in 2^20 bytes.
    """

    shots: int | None = 8
    interval: float = STREAM_INTERVAL
    object_name: str | None = None
    text_file: Path | None = None
    roi: Roi | None = None
    false_alarm_rate: float = 0.01
    augment: tuple[str, ...] | None = None
    memory_mb: float = BANK_MEMORY

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            UsageError: names the option.
        """
        if self.shots is not None and self.shots < 1:
            message = f"expected --shots of at least 1, found {self.shots}; ten good parts are a fine start."
            raise UsageError(message)
        if not 0 < self.false_alarm_rate < 1:
            message = (
                f"expected --false-alarm-rate between 0 and 1, found {self.false_alarm_rate}; 0.01 is one frame in a "
                "hundred."
            )
            raise UsageError(message)
        if not (math.isfinite(self.interval) and self.interval >= 0):
            message = f"expected --interval of 0 or more seconds, found {self.interval}; 0.5 is the default."
            raise UsageError(message)
        if not (math.isfinite(self.memory_mb) and self.memory_mb > 0):
            message = (
                f"expected --bank-memory of more than 0 MB, found {self.memory_mb}; {BANK_MEMORY:g} is the default."
            )
            raise UsageError(message)
        unknown = set(self.augment or ()) - {"rotate", "flip"}
        if unknown:
            message = (
                f"expected --augment rotate, flip, rotate,flip or none, found {', '.join(sorted(unknown))}; none is "
                "for fixed views."
            )
            raise UsageError(message)


def enroll(  # noqa: PLR0913 - the variants are optional, and named
    source: Source,
    bundle: Bundle,
    engine: Engine,
    target: Path,
    options: EnrolOptions,
    told: Callable[[Shot | RefusedFrame], None] = lambda _: None,
    *,
    variants: Sequence[Engine] = (),
    replace: bool = False,
) -> Enrolment:
    """Enrol frames of a source into a new bank.

    Args:
        source: an open source; read until enough frames are taken.
        bundle: an opened bundle.
        engine: runs the bundle's graph.
        target: directory to write.
        options: what to take and how to calibrate.
        told: called with every frame taken or refused, as it is decided.
        variants: engines of the bundle's other precisions; the fastest that passes the gate on these frames
            (``gate``) encodes the bank in place of ``engine``.
        replace: put the bank in the place of one that is there, which stays as its former version.

    Raises:
        BadInputError: no frame could be taken, or the region of interest does not fit the frames.
        UsageError: more shots wanted than the source has frames.
        OutputError: the bank cannot be written.
    """
    if options.shots is None and source.live:
        message = f"expected a source with an end for --all, found the live {source.uri}; give --shots K."
        raise UsageError(message)
    bundle = seen_as(bundle)
    text = choose_text(bundle, options.object_name, options.text_file)
    augment = chosen_poses(options.augment, bundle.manifest, follow=kind_of(bundle.manifest).poses)
    options = replace_field(options, augment=augment)
    session = _Session(bundle, engine, text, options, target.parent)
    taker = session.take(source, options.shots, told)
    size = taker.shots[0].frame.size
    session, gates = _earned(session, taker.shots, variants)
    features = session.with_own(taker.shots)
    undecided, groups = session.bundle, [shot.group for shot in taker.shots]
    _check_count(undecided, groups)
    bundle, decided = decide(undecided, features, groups, session.inside)
    fields = {
        "object": text.object_name,
        "source": _recorded(source),
        "frame_size": size,
        "roi": None if options.roi is None else options.roi.record,
        "augment": augment,
        "interval": options.interval,
        "memory_mb": options.memory_mb,
        "precision": session.precision,
        "gates": gates,
    }
    records = _records(taker.shots, first=1)
    return write_calibrated(
        bundle,
        target,
        fields,
        records,
        features,
        options.false_alarm_rate,
        roi_mask=None if options.roi is None else options.roi.mask(size),
        roi_png=None if options.roi is None else options.roi.png,
        thumbnails={
            record["id"]: thumbnail(shot.frame.image) for record, shot in zip(records, taker.shots, strict=True)
        },
        taker=taker,
        replace=replace,
        judged=session.judged(taker.shots) if bundle.manifest.settings == undecided.manifest.settings else None,
        told=decided,
    )


def append_frames(
    bank: Bank,
    source: Source,
    bundle: Bundle,
    engine: Engine,
    options: EnrolOptions,
    told: Callable[[Shot | RefusedFrame], None] = lambda _: None,
) -> Enrolment:
    """Enrol further frames into a bank and calibrate anew; the former bank stays as a version.

    Object, region of interest, augmentation and false-alarm rate are the bank's; ``options`` gives shots and interval.

    Raises:
        BadInputError: no frame could be taken, or frames of another size than the enrolled ones.
        UsageError: more shots wanted than the source has frames.
        OutputError: the bank cannot be written.
    """
    record = bank.record
    bundle = bundle.as_method(record.method, record.settings)
    options = EnrolOptions(
        shots=options.shots,
        interval=options.interval,
        false_alarm_rate=record.calibration.false_alarm_rate,
        augment=record.augment,
        memory_mb=record.memory_mb,
    )
    thumbnails = _thumbnails(bank)
    looks = [(look_at(decoded(thumbnails[frame.id])), frame.group) for frame in record.frames]
    own = {name: tensor for name, tensor in bank.features.items() if name.startswith("own_")}
    text = ChosenText(record.object, bank.features.get("text"), own)
    session = _Session(bundle, engine, text, options, bank.path.parent, known=looks, size=record.frame_size)
    taker = session.take(source, options.shots, told)
    added = session.features(taker.shots)
    features: Features = dict(bank.features)
    new = _records(taker.shots, first=max(frame.id for frame in record.frames) + 1)
    extend = kind_of(bundle.manifest).extend
    if record.layout == "summary" and extend is not None:
        features = extend(
            features, added, [*(frame.group for frame in record.frames), *(each["group"] for each in new)]
        )
        added = {}
    for name, tensor in added.items():
        former = bank.features[name]
        features[name] = [*former, *tensor] if isinstance(tensor, list) else np.concatenate([former, tensor])
    thumbnails |= {entry["id"]: thumbnail(shot.frame.image) for entry, shot in zip(new, taker.shots, strict=True)}
    return _rewrite(bank, bundle, [*(frame.model_dump() for frame in record.frames), *new], features, thumbnails, taker)


def remove_frames(bank: Bank, bundle: Bundle, ids: Collection[int]) -> Enrolment:
    """Take frames out of a bank and calibrate anew; the former bank stays as a version.

    Raises:
        UsageError: an id that the bank does not have, or no frame would be left.
        OutputError: the bank cannot be written.
    """
    frames = bank.record.frames
    unknown = sorted(set(ids) - {frame.id for frame in frames})
    if unknown:
        known = ", ".join(str(frame.id) for frame in frames)
        message = (
            f"expected --remove with frames of the bank ({known}), found {', '.join(map(str, unknown))}; see its "
            "contact sheet."
        )
        raise UsageError(message)
    keep = [position for position, frame in enumerate(frames) if frame.id not in ids]
    if not keep:
        message = "expected at least one frame to stay in the bank, found all of them in --remove; enrol anew instead."
        raise UsageError(message)
    if bank.record.layout == "summary":
        message = (
            f"expected --remove on a bank that keeps its frames one by one, found one of {bank.record.method}, which "
            "keeps a summary of all of them; enrol the others anew."
        )
        raise UsageError(message)
    bundle = bundle.as_method(bank.record.method, bank.record.settings)
    features = {name: _chosen(name, tensor, keep) for name, tensor in bank.features.items()}
    thumbnails = _thumbnails(bank)
    records = [frames[position].model_dump() for position in keep]
    return _rewrite(
        bank, bundle, records, features, {record["id"]: thumbnails[record["id"]] for record in records}, None
    )


def _chosen(name: str, tensor: NDArray[Any], keep: Sequence[int]) -> NDArray[Any] | list[NDArray[Any]]:
    """What a tensor of a bank says of some of its frames; tokens stay where they are, which may be the disk."""
    if name == "text" or name.startswith("own_"):
        return tensor
    return [tensor[position] for position in keep] if name.startswith("tokens_") else tensor[keep]


class _Session:
    """Takes shots and encodes each once, as it is taken; tokens go to the disk."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        text: ChosenText,
        options: EnrolOptions,
        folder: Path,
        known: Sequence[tuple[Look, int]] = (),
        size: tuple[int, int] | None = None,
    ) -> None:
        self.bundle = bundle
        self._chosen = text
        self._engine = engine
        self._text = text.text
        self._options = options
        self._known = known
        self._size = size
        self.inside: NDArray[np.bool_] | None = None
        self._folder = folder
        self._spools: dict[str, Spool] = {}
        self._encoded: dict[int, Features] = {}
        self._judged: tuple[list[Shot], Judged] | None = None

    def take(self, source: Source, wanted: int | None, told: Callable[[Shot | RefusedFrame], None]) -> ShotTaker:
        """Take fit shots, replacing those that turn out unfit beside the others while the source has more."""

        def decided(item: Shot | RefusedFrame) -> None:
            told(item)  # before encoding, which takes seconds for a large model
            if isinstance(item, Shot):
                self._encode(item)

        taker = ShotTaker(source, self._options.interval, self._check, decided, self._known)
        taker.take(wanted)
        while unfit := self._unfit(taker.shots):
            for shot, refusal in unfit:
                taker.refuse(shot, refusal)
            taker.take(wanted)
        taker.leave_copies()
        if wanted is not None and not source.live and taker.seen < wanted:
            message = (
                f"expected {wanted} frames for --shots {wanted}, found only {taker.seen} in {source.uri}; "
                f"give --shots {max(taker.seen, 1)}, or --all for every one."
            )
            raise UsageError(message)
        if not taker.shots:
            raise taker.nothing_taken()
        return taker

    def features(self, shots: Sequence[Shot]) -> Features:
        """Features of the shots, in their order; tokens as a list of each shot's own, on the disk."""
        encoded = [self._encoded[id(shot)] for shot in shots]
        features = stack(encoded)
        for name, spool in self._spools.items():
            arrays = spool.arrays()
            features[name] = [arrays[frame[name]] for frame in encoded]
        return features

    @property
    def precision(self) -> Precision:
        """Of the graph that encodes."""
        return self._engine.precision

    def of(self, engine: Engine) -> _Session:
        """A session of another engine that has encoded nothing yet."""
        other = _Session(self.bundle, engine, self._chosen, self._options, self._folder)
        other.inside = self.inside
        return other

    def encode(self, shots: Sequence[Shot]) -> None:
        """Encode those of the shots that are not encoded yet."""
        for shot in shots:
            if id(shot) not in self._encoded:
                self._encode(shot)

    def look(self, shots: Sequence[Shot]) -> Seen:
        """What the gate compares."""
        self.encode(shots)
        images = [shot.frame.image for shot in shots]
        poses, features = self._options.augment or (), self.features(shots)
        return look(self.bundle.manifest, self._engine, images, self._text, poses, self.inside, features)

    def gate(self, reference: Seen, seen: Seen, shots: Sequence[Shot]) -> GateRecord:
        """Hold what this session's engine saw against the reference."""
        groups = [shot.group for shot in shots]
        return judge_gate(self.bundle.manifest, reference, seen, groups, self._text, self.inside).record

    def judged(self, shots: Sequence[Shot]) -> Judged | None:
        """What came of holding exactly these shots against each other, where that was done."""
        return self._judged[1] if self._judged is not None and self._judged[0] == list(shots) else None

    def _encode(self, shot: Shot) -> None:
        features = encode_frame(
            shot.frame.image, self.bundle.manifest, self._engine, self._text, self._options.augment or ()
        )
        for name in [name for name in features if name.startswith("tokens_")]:
            if name not in self._spools:
                self._spools[name] = Spool(self._folder, features[name])
            features[name] = self._spools[name].add(features[name])
        self._encoded[id(shot)] = features

    def _check(self, frame: Frame) -> Refusal | None:
        """Fix the frame size with the first frame; with a region of interest every frame must have it."""
        roi = self._options.roi
        if self._size is None:
            self._size = frame.size
            mask = None if roi is None else roi.mask(frame.size)
            settle = kind_of(self.bundle.manifest).at_first
            if settle is not None and not self._known:
                settled = settle(self.bundle, frame.image, mask)
                self.bundle = self.bundle.as_method(self.bundle.manifest.method, settled.model_dump(mode="json"))
            if mask is not None:
                image = self.bundle.manifest.image
                self.inside = roi_at_image_size(mask, (image.height, image.width))
        if (roi is not None or self._known) and frame.size != self._size:
            return Refusal(f"another size than {self._size[0]}x{self._size[1]}", frame.size[0], self._size[0], "width")
        return None

    def _unfit(self, shots: Sequence[Shot]) -> list[tuple[Shot, Refusal]]:
        """Shots that are blurred beside the others, or do not look like any of them."""
        found = [(shot, refusal) for shot in shots if (refusal := blurred(shot.look, [other.look for other in shots]))]
        groups = [shot.group for shot in shots]
        if found or len(set(groups)) <= MIN_GROUPS:
            return found
        if len(set(groups)) < kind_of(self.bundle.manifest).least_frames + 1:
            return found
        judged = judge(self.bundle.manifest, self.with_own(shots), groups, self.inside, self._options.memory_mb)
        self._judged = list(shots), judged
        scores = [raw.raw_score for raw in judged.raws]
        worst = int(np.argmax(scores))
        usual = usual_sd(self.bundle.manifest) or 0.0
        limit = max(_OUT_OF_PLACE, math.exp(_DEVIATIONS_OUT_OF_PLACE * usual)) * max(
            score for score, group in zip(scores, groups, strict=True) if group != groups[worst]
        )
        if scores[worst] > limit:
            found.append((shots[worst], Refusal("out of place", scores[worst], limit, "score against the others")))
        return found

    def with_own(self, shots: Sequence[Shot]) -> Features:
        """Features of the shots, the text and the method's own tensors."""
        features = {**self.features(shots), **self._chosen.own}
        return features if self._text is None else {**features, "text": self._text}


def _check_count(bundle: Bundle, groups: Sequence[int]) -> None:
    """Refuse fewer independent frames than the method can use.

    Raises:
        BadInputError: there are fewer.
    """
    kind = kind_of(bundle.manifest)
    found = len(set(groups))
    if found < kind.least_frames:
        message = (
            f"expected at least {kind.least_frames} independent frames to enrol with {kind.name}, found {found}; give "
            "more with --shots, or another --method."
        )
        raise BadInputError(message)


def _earned(
    session: _Session, shots: Sequence[Shot], variants: Sequence[Engine]
) -> tuple[_Session, tuple[GateRecord, ...]]:
    """The session of the fastest engine that passes the gate, with all shots encoded, and what every gate found."""
    shown = shots[:_JUDGED]
    if not variants or len({shot.group for shot in shown}) < MIN_FRAMES:
        return session, ()
    reference = session.look(shown)
    best, seconds, gates = session, reference.seconds, []
    for engine in variants:
        other = session.of(engine)
        seen = other.look(shown)
        gates.append(other.gate(reference, seen, shown))
        if gates[-1].passed and seen.seconds < seconds:
            best, seconds = other, seen.seconds
    best.encode(shots)
    return best, tuple(gates)


def _rewrite(
    bank: Bank,
    bundle: Bundle,
    records: Sequence[dict[str, Any]],
    features: Features,
    thumbnails: dict[int, bytes],
    taker: ShotTaker | None,
) -> Enrolment:
    """Write a bank's next version, with everything else as it was."""
    record = bank.record
    fields = {
        name: getattr(record, name)
        for name in (
            "object",
            "source",
            "frame_size",
            "roi",
            "augment",
            "interval",
            "memory_mb",
            "precision",
            "gates",
        )
    }
    return write_calibrated(
        bundle,
        bank.path,
        fields,
        records,
        features,
        record.calibration.false_alarm_rate,
        roi_mask=bank.roi_mask(),
        roi_png=(bank.path / "roi.png").read_bytes() if record.roi == "roi.png" else None,
        thumbnails=thumbnails,
        taker=taker,
        replace=True,
    )


def _recorded(source: Source) -> str:
    """The source as ``monitor`` opens it from any directory: paths are made absolute."""
    if source.live or "://" in source.uri:
        return source.uri
    return str(Path(source.uri).expanduser().absolute())


def _records(shots: Sequence[Shot], first: int) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "source": shot.frame.source,
            "frame": shot.frame.index,
            "time": iso_time(shot.frame.time),
            "media_time": shot.frame.media_time,
            "group": shot.group,
        }
        for number, shot in enumerate(shots, start=first)
    ]


def _thumbnails(bank: Bank) -> dict[int, bytes]:
    return {frame.id: bank.thumbnail(frame.id).read_bytes() for frame in bank.record.frames}
