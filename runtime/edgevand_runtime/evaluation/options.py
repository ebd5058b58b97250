"""What a person may choose of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgevand.errors import UsageError
from edgevand.files import sha256_file
from edgevand_runtime.enroll import EnrolOptions

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EvaluateOptions", "ScoreRule"]

ScoreRule = Literal["max", "released"]


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """The rows wanted, and how banks and scores are made.

    Attributes:
        shots: enrolled frames of each row, 0 for zero-shot; each number once.
        seeds: of the draws of frames; with ``ordered`` nothing is drawn and they are not used.
        score_rule: ``max`` takes the stream's raw score; ``released`` the min-max over the test set that the
            reference's code takes, which no stream can.
        false_alarm_rate: wanted of the enrolled threshold, per frame, in (0, 1).
        augment: ``rotate`` and ``flip`` add copies to the bank, as for ``enroll``; None adds those that the bundle
            recommends, which ``evaluate`` then writes into the report.
        object_name: whose text embeddings to use for every class; None: the class's own, else ``object``.
        text_file: embeddings made later by ``edgevand export --text-only``.
        ordered: enrol the first frames in order of time, and judge the rest in that order.
        batch: pictures that go through the encoder together.
    """

    shots: tuple[int, ...] = (0, 1, 2, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    score_rule: ScoreRule = "max"
    false_alarm_rate: float = 0.01
    augment: tuple[str, ...] | None = None
    object_name: str | None = None
    text_file: Path | None = None
    ordered: bool = False
    batch: int = 1

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            UsageError: names the option.
        """
        _check_list("--shots", self.shots)
        _check_list("--seeds", self.seeds)
        if self.score_rule not in {"max", "released"}:
            raise UsageError(f"expected --score-rule max or released, found {self.score_rule!r}; choose one of the two")
        if self.batch < 1:
            raise UsageError(f"expected at least 1 picture in a batch, found {self.batch}; give --batch 1 or more")
        EnrolOptions(false_alarm_rate=self.false_alarm_rate, augment=self.augment)  # refuses what enrolment refuses

    def to_json(self) -> dict[str, Any]:
        """The options that decide the figures; a text file goes by its hash."""
        return {
            "shots": list(self.shots),
            "seeds": list(self.seeds),
            "score_rule": self.score_rule,
            "false_alarm_rate": self.false_alarm_rate,
            "augment": sorted(self.augment or ()),
            "object": self.object_name,
            "text": None if self.text_file is None else f"sha256:{sha256_file(self.text_file)}",
            "ordered": self.ordered,
        }


def _check_list(option: str, numbers: tuple[int, ...]) -> None:
    """At least one number, none below 0, each once."""
    wrong = sorted({number for number in numbers if number < 0 or numbers.count(number) > 1})
    if not numbers or wrong:
        found = "none" if not numbers else f"{', '.join(map(str, wrong))} below 0 or repeated"
        raise UsageError(f"expected {option} with whole numbers from 0 on, each once, found {found}; give 0,1,2 say")
