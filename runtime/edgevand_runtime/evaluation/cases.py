"""The rows to come of one class: for each number of shots and seed a detector with the bank of exactly these frames.

Every training frame is encoded once, however many rows enrol it. Banks are made by the code of enrolment
(``features``, ``bank_writer.calibrated_bank``), and stay in memory; no frame is refused for its looks, but near-copies
share a group and count once in calibration, as they do there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevand.errors import BadInputError, UsageError
from edgevand_runtime.augment import chosen_poses
from edgevand_runtime.bank_writer import calibrated_bank
from edgevand_runtime.detector import Detector
from edgevand_runtime.evaluation.draws import drawn_order, time_order
from edgevand_runtime.features import Features, Memory, decide, encode_frame, make_memory, stack
from edgevand_runtime.frame import iso_time
from edgevand_runtime.methods import kind_of
from edgevand_runtime.methods.texts import ChosenText, choose_text, known_objects
from edgevand_runtime.preprocess import load_image
from edgevand_runtime.quality import Look, group_looks, look_at
from edgevand_runtime.sources.base import new_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgevand.bundle import Bundle
    from edgevand_runtime.datasets import DatasetClass, Sample
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.evaluation.options import EvaluateOptions
    from edgevand_runtime.frame import Frame

__all__ = ["Case", "CaseMaker", "frames_to_enrol", "text_for"]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One row to be measured.

    Attributes:
        shots: enrolled frames.
        seed: of the draw; the first of the seeds where nothing is drawn (zero-shot, order of time).
        object_name: whose text is used; None without text.
        enrolled: the frames of the bank.
        detector: what scores; None where nothing can.
        reason: why nothing can; empty otherwise.
        decided: sentences on the settings that the method left to the enrolled frames.
    """

    shots: int
    seed: int
    object_name: str | None
    enrolled: tuple[Sample, ...]
    detector: Detector | None
    reason: str = ""
    decided: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    """A training frame's features and what its bank records of it."""

    features: Features
    look: Look
    frame: Frame


def text_for(bundle: Bundle, class_name: str, options: EvaluateOptions) -> ChosenText:
    """Object and text of a class: the one wanted, else the class's own, else ``object``.

    Raises:
        UsageError: the bundle has text, but none that fits.
    """
    known = known_objects(bundle, options.text_file)
    name = options.object_name or (class_name if class_name in known else None)
    try:
        return choose_text(bundle, name, options.text_file)
    except UsageError as error:
        if options.object_name is not None:
            raise
        message = (
            f"expected text embeddings of {class_name!r} or of 'object' in the bundle, found only "
            f"{', '.join(map(repr, known))}; choose one with --object, or export the bundle with --object {class_name}"
        )
        raise UsageError(message) from error


def frames_to_enrol(dataset_class: DatasetClass, *, ordered: bool) -> list[Sample]:
    """The normal frames that may be enrolled; in order of time, and then of the test split where none is for training.

    Without training frames an ordered evaluation enrols the first of the test's normal frames, which are then not
    judged.
    """
    if not ordered:
        return list(dataset_class.train)
    normal = dataset_class.train or [sample for sample in dataset_class.test if not sample.anomalous]
    return time_order(normal)


class CaseMaker:
    """Makes the cases of one class."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        dataset_class: DatasetClass,
        options: EvaluateOptions,
        failed: Callable[[Sample, str], None],
        told: Callable[[], None],
    ) -> None:
        """Encode nothing yet.

        Args:
            bundle: an opened bundle.
            engine: runs its graph; stays open.
            dataset_class: whose frames are enrolled.
            options: which rows are wanted.
            failed: called with every frame that cannot be read, and why.
            told: called for every frame encoded.
        """
        self._bundle = bundle
        self._engine = engine
        self._class = dataset_class
        self._options = options
        self._augment = chosen_poses(options.augment, bundle.manifest, follow=kind_of(bundle.manifest).poses)
        self._failed = failed
        self._told = told
        self.object_name, self._text, self._own = text_for(bundle, dataset_class.name, options)
        self._encoded: dict[str, _Encoded | None] = {}
        self.pictures = 0
        """Pictures encoded so far: frames with their augmented copies."""

    @property
    def copies(self) -> int:
        """Pictures that a frame is in the bank: itself and its augmented copies."""
        return (8 if "rotate" in self._augment else 1) * (2 if "flip" in self._augment else 1)

    def cases(self) -> list[Case]:
        """Encode what is enrolled and make every case, in the order of shots, then seeds."""
        cases = [self._zero_shot()] if 0 in self._options.shots else []
        for seed, taken, features in self._draws():
            cases += self._few_shot(seed, taken, features)
        self._encoded = dict.fromkeys(self._encoded)  # the banks hold what they need
        return sorted(cases, key=lambda case: self._options.shots.index(case.shots))

    def _draws(self) -> Iterator[tuple[int, list[Sample], Features]]:
        """For each seed the frames of the largest bank and their features; smaller banks are views of its front."""
        most = max(self._options.shots)
        if most == 0:
            return
        frames = frames_to_enrol(self._class, ordered=self._options.ordered)
        if self._options.ordered:
            orders = [(self._options.seeds[0], frames)]
        else:
            orders = [(seed, drawn_order(frames, self._class.name, seed)) for seed in self._options.seeds]
        for seed, order in orders:
            taken = self._take(order, most)
            yield seed, taken, stack([self._of(sample).features for sample in taken]) if taken else {}

    def _take(self, order: Sequence[Sample], count: int) -> list[Sample]:
        """The first frames of an order that can be read."""
        taken: list[Sample] = []
        for sample in order:
            if len(taken) == count:
                break
            if sample.name not in self._encoded:
                self._encoded[sample.name] = self._encode(sample)
                self._told()
            if self._encoded[sample.name] is not None:
                taken.append(sample)
        return taken

    def _encode(self, sample: Sample) -> _Encoded | None:
        try:
            frame = new_frame(load_image(sample.image), 0, sample.name)
        except BadInputError as error:
            self._failed(sample, str(error))
            return None
        self._settle(frame)
        features = encode_frame(frame.image, self._bundle.manifest, self._engine, self._text, self._augment)
        self.pictures += self.copies
        return _Encoded(features, look_at(frame.image), frame)

    def _settle(self, frame: Frame) -> None:
        """Settle by the class's first frame what a method settles at enrolment before anything is encoded."""
        kind = kind_of(self._bundle.manifest)
        if kind.at_first is not None and not self.pictures:
            settled = kind.at_first(self._bundle, frame.image, None)
            self._bundle = self._bundle.as_method(kind.name, settled.model_dump(mode="json"))

    def _of(self, sample: Sample) -> _Encoded:
        encoded = self._encoded[sample.name]
        if encoded is None:
            raise ValueError(sample.name)
        return encoded

    def _zero_shot(self) -> Case:
        kind = kind_of(self._bundle.manifest)
        if kind.needs_frames or (self._text is None and kind.searches):
            reason = "the bundle has no text embeddings, without which nothing scores before a frame is enrolled"
            if kind.needs_frames:
                reason = f"{kind.name} scores nothing before frames are enrolled"
            return Case(0, self._options.seeds[0], None, (), None, reason)
        detector = Detector(self._bundle, self._engine, object_name=self.object_name, text_file=self._options.text_file)
        return Case(0, self._options.seeds[0], self.object_name, (), detector)

    def _few_shot(self, seed: int, taken: list[Sample], features: Features) -> Iterator[Case]:
        """The cases of one draw, the smallest bank first, each searching only what it has beyond the one before."""
        kind = kind_of(self._bundle.manifest)
        stages = [f"tokens_{stage.index}" for stage in self._bundle.manifest.stages] if kind.searches else []
        widened = [features[name].astype(np.float32, copy=False) for name in stages] if taken else []
        memory: Memory | None = None
        for shots in sorted(set(self._options.shots) - {0}):
            if len(taken) < shots:
                reason = f"only {len(taken)} of {shots} frames to enrol could be read"
                yield Case(shots, seed, self.object_name, tuple(taken), None, reason)
                continue
            if shots < kind.least_frames:
                reason = f"{kind.name} needs at least {kind.least_frames} frames to enrol"
                yield Case(shots, seed, self.object_name, tuple(taken), None, reason)
                continue
            first = {name: tensor[:shots] for name, tensor in features.items()} | self._own
            if self._text is not None:
                first["text"] = self._text
            encoded = [self._of(sample) for sample in taken[:shots]]
            records = _records(encoded)
            bundle, told = decide(self._bundle, first, [record["group"] for record in records], None)
            fields, rate = self._fields(encoded[0].frame), self._options.false_alarm_rate
            bank = calibrated_bank(bundle, fields, records, first, rate)
            if kind.searches:
                memory = make_memory(bundle.manifest, [stage[:shots] for stage in widened], smaller=memory)
            detector = Detector(bundle, self._engine, bank, memory=memory)
            yield Case(shots, seed, self.object_name, tuple(taken[:shots]), detector, decided=told)

    def _fields(self, frame: Frame) -> dict[str, Any]:
        return {
            "object": self.object_name,
            "source": self._class.name,
            "frame_size": frame.size,
            "roi": None,
            "augment": self._augment,
            "interval": 0.0,
        }


def _records(encoded: Sequence[_Encoded]) -> list[dict[str, Any]]:
    """What the bank records of its frames."""
    groups = group_looks([item.look for item in encoded])
    return [
        {
            "id": number,
            "source": item.frame.source,
            "frame": 0,
            "time": iso_time(item.frame.time),
            "media_time": None,
            "group": group,
        }
        for number, (item, group) in enumerate(zip(encoded, groups, strict=True), start=1)
    ]
