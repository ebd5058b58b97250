from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgevand.bank import Bank
from edgevand.bundle import GateRecord
from edgevand.errors import BadInputError
from edgevand_runtime.calibration import SD_FLOOR
from edgevand_runtime.drawn.blemish import blemish
from edgevand_runtime.engines import EncoderOutput
from edgevand_runtime.engines.fake import FakeEngine
from edgevand_runtime.enroll import EnrolOptions, append_frames, enroll
from edgevand_runtime.gate import MOVED_LIMIT, Judgement, judge, look, told_of_precision
from edgevand_runtime.sources import open_source
from tests.tiny import GRID, SIZE, draw_part, write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle, Precision


class Altered(FakeEngine):
    """The fake engine as another precision of itself: its tokens changed, its runs slowed down.

    Tokens lose their common direction first, which leaves distances that half precision can hold.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: Precision,
        change: Callable[[Any], Any] = lambda tokens: tokens,
        wait: float = 0,
    ) -> None:
        super().__init__(bundle.manifest)
        self.precision, self.name = precision, f"altered:{precision}"
        self._change, self._wait = change, wait

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        time.sleep(self._wait)
        found = super().run(images, text)
        centred = [unit(tokens - tokens.mean(axis=1, keepdims=True)) for tokens in found.tokens]
        return EncoderOutput(found.embedding, tuple(map(self._change, centred)), found.logits)


def noisy(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Tokens with much noise."""
    return unit(tokens + np.random.default_rng(tokens.size).normal(0, 0.3, tokens.shape))


def rounded(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Tokens with hardly any noise."""
    return unit(np.rint(tokens * 2000) / 2000)


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of length 1."""
    found: NDArray[np.float32] = (rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)).astype(
        np.float32
    )
    return found


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "bundle")


def parts(count: int) -> list[NDArray[np.uint8]]:
    return [draw_part(number) for number in range(count)]


def naive_scores(engine: FakeEngine, bundle: Bundle, frames: Sequence[NDArray[np.uint8]]) -> Any:
    """Logarithms of each frame's and each blemished frame's score against the other frames, in float64 and by torch."""
    seen = look(bundle.manifest, engine, frames, None)
    plain, blemished = (side["tokens_1"][:, 0].astype(np.float64) for side in (seen.features, seen.blemished))
    scores = []
    for each in (plain, blemished):
        row = []
        for number in range(len(frames)):
            others = np.concatenate([plain[other] for other in range(len(frames)) if other != number])
            grid = torch.from_numpy(1 - (each[number] @ others.T).max(axis=1)).reshape(1, 1, GRID, GRID)
            row.append(
                np.log(functional.interpolate(grid, (SIZE, SIZE), mode="bilinear", align_corners=True).max().item())
            )
        scores.append(np.array(row))
    return scores


def judged(
    bundle: Bundle,
    engines: tuple[Altered, Altered],
    frames: list[NDArray[np.uint8]],
    groups: Sequence[int] | None = None,
) -> Judgement:
    """Both engines look at the frames, the second is held against the first."""
    reference, other = (look(bundle.manifest, engine, frames, None) for engine in engines)
    return judge(bundle.manifest, reference, other, groups or range(len(frames)), None)


def test_an_engine_held_against_itself_moves_nothing(bundle: Bundle) -> None:
    record = judged(bundle, (Altered(bundle, "fp32"), Altered(bundle, "int8")), parts(4)).record
    assert record.passed
    assert record.moved < 0.02, "what is no fp32 is kept in half precision"
    assert (record.ranking, record.frames) == (1, 4)
    assert (record.precision, record.engine) == ("int8", "altered:int8")


def test_what_moved_is_what_a_naive_restatement_finds(bundle: Bundle) -> None:
    frames = parts(5)
    engines = Altered(bundle, "fp32"), Altered(bundle, "int8", noisy)
    record = judged(bundle, engines, frames).record
    (normal, defective), (found, found_defective) = (naive_scores(engine, bundle, frames) for engine in engines)
    spread = max(float(np.std(normal, ddof=1)), SD_FLOOR)
    assert record.moved == pytest.approx(np.abs(found - normal).max() / spread, rel=1e-2)
    pairs = [(d, n) for d in range(5) for n in range(5) if abs(defective[d] - normal[n]) > MOVED_LIMIT * spread]
    kept = [(defective[d] > normal[n]) == (found_defective[d] > found[n]) for d, n in pairs]
    assert record.ranking == pytest.approx(np.mean(kept))
    assert not record.passed


def test_what_moved_is_told_frame_by_frame(bundle: Bundle) -> None:
    engines = Altered(bundle, "fp32"), Altered(bundle, "int8", noisy)
    judgement = judged(bundle, engines, parts(4))
    lines = judgement.table().splitlines()
    assert len(lines) == 5
    assert "int8" in lines[0]
    assert f"{judgement.moved[2]:+.2f}" in lines[3]


def test_near_copies_are_no_independent_frames(bundle: Bundle) -> None:
    engines = Altered(bundle, "fp32"), Altered(bundle, "int8")
    with pytest.raises(BadInputError, match=r"at least 4 independent frames .* found 3"):
        judged(bundle, engines, parts(5), [0, 0, 1, 1, 2])


@pytest.mark.parametrize("number", range(6))
def test_a_blemish_changes_a_small_part_of_the_frame_and_always_the_same(number: int) -> None:
    image = draw_part(3)
    found = blemish(image, number)
    changed = (found != image).any(axis=2)
    assert 0 < changed.mean() < 0.2
    np.testing.assert_array_equal(found, blemish(image, number))
    assert (blemish(image, number + 6) != found).any()


def test_a_blemish_s_middle_lies_in_the_region_of_interest() -> None:
    image = np.full((96, 128, 3), 120, np.uint8)
    inside = np.zeros((32, 32), np.bool_)
    inside[24:28, 24:28] = True
    for number in (1, 4, 7, 10):
        rows, columns = np.nonzero((blemish(image, number, inside) != image).any(axis=2))
        assert abs(rows.mean() - 78) < 10
        assert abs(columns.mean() - 104) < 10


def enrolled(bundle: Bundle, folder: Path, variants: Sequence[Altered], shots: int = 6, wait: float = 0) -> Bank:
    write_parts(folder / "parts", "." * shots)
    with open_source(folder / "parts") as source:
        engine = Altered(bundle, "fp32", wait=wait)
        return enroll(source, bundle, engine, folder / "bank", EnrolOptions(shots=shots), variants=variants).bank


def test_a_bank_takes_the_faster_precision_that_passes_on_its_own_frames(bundle: Bundle, tmp_path: Path) -> None:
    bank = enrolled(bundle, tmp_path, [Altered(bundle, "int8", rounded)], wait=0.05)
    record = bank.record
    assert record.precision == "int8"
    assert [gate.passed for gate in record.gates] == [True]
    assert bank.features["tokens_1"][0].dtype == np.float16
    assert "int8 (altered:int8) moves scores by at most" in (told_of_precision(record, ["int8"]) or "")
    assert Bank.open(bank.path, bundle).record == record
    alone = enrolled(bundle, tmp_path / "alone", [])
    assert record.calibration.scores != alone.record.calibration.scores, "thresholds follow from int8's own scores"
    np.testing.assert_allclose(record.calibration.scores, alone.record.calibration.scores, rtol=0.05)


def test_frames_that_are_added_keep_the_bank_s_precision(bundle: Bundle, tmp_path: Path) -> None:
    bank = enrolled(bundle, tmp_path, [Altered(bundle, "int8", rounded)], wait=0.05)
    write_parts(tmp_path / "more", "..", start=50)
    with open_source(tmp_path / "more") as source:
        longer = append_frames(bank, source, bundle, Altered(bundle, "int8", rounded), EnrolOptions(shots=2)).bank
    assert (longer.record.precision, longer.record.gates) == ("int8", bank.record.gates)
    assert len(longer.record.frames) == 8


def test_a_precision_that_moves_scores_is_refused_and_the_bank_says_why(bundle: Bundle, tmp_path: Path) -> None:
    bank = enrolled(bundle, tmp_path, [Altered(bundle, "int8", noisy)], wait=0.02)
    assert bank.record.precision == "fp32"
    assert [gate.passed for gate in bank.record.gates] == [False]
    line = told_of_precision(bank.record, ["int8"]) or ""
    assert line.startswith("precision fp32: int8")
    assert line.endswith("does not pass")


def test_a_precision_that_is_no_faster_is_left_alone(bundle: Bundle, tmp_path: Path) -> None:
    bank = enrolled(bundle, tmp_path, [Altered(bundle, "int8", rounded, wait=0.05)])
    assert bank.record.precision == "fp32"
    assert (told_of_precision(bank.record, ["int8"]) or "").endswith("passes, but is not the fastest here")


def test_few_frames_judge_no_precision(bundle: Bundle, tmp_path: Path) -> None:
    bank = enrolled(bundle, tmp_path, [Altered(bundle, "int8", rounded)], shots=3, wait=0.02)
    assert (bank.record.precision, bank.record.gates) == ("fp32", ())
    assert told_of_precision(bank.record, ["int8"]) == (
        "precision fp32: fewer than 4 independent frames cannot judge int8"
    )
    assert told_of_precision(bank.record, []) is None


def test_a_gate_s_record_has_no_place_for_a_share_above_one() -> None:
    fields: dict[str, Any] = {"precision": "int8", "engine": "x", "frames": 4, "moved": 0.1, "moved_limit": 0.5}
    with pytest.raises(ValueError, match="less than or equal to 1"):
        GateRecord(**fields, ranking=1.5, ranking_limit=0.98, passed=True)
