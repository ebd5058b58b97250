"""components on frames of words that a test lays out itself: what is missing, doubled or moved is found and named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.bank import Bank
from edgevand.errors import BadInputError, UsageError
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import EncoderOutput, open_engine
from edgevand_runtime.enroll import remove_frames
from edgevand_runtime.methods import open_method
from edgevand_runtime.sources.base import new_frame
from tests.tiny import GRID, SIZE, WIDTH, draw_part, enrol_tiny, write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle
    from edgevand_runtime.methods import Method, RawScore

THINGS = ((1, 0, 0), (2, 0, 5), (3, 5, 1), (3, 5, 5))
"""Kind, row and column of the 2 x 2 things in a good frame: two of the third kind."""

OPTIONS = {"words": [4, 5, 6]}


def tokens(number: int, things: tuple[tuple[int, int, int], ...] = THINGS) -> NDArray[np.float32]:
    """(P, C) unit vectors: kind 0 everywhere, things on it that lie a cell to the right in every other frame."""
    rng = np.random.default_rng(number)
    kinds = np.zeros((GRID, GRID), int)
    for kind, row, column in things:
        kinds[row : row + 2, column + number % 2 : column + number % 2 + 2] = kind
    found = np.eye(WIDTH)[kinds] + rng.normal(0, 0.04, (GRID, GRID, WIDTH))
    found /= np.linalg.norm(found, axis=-1, keepdims=True)
    return found.reshape(-1, WIDTH).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "bundle")


def opened(bundle: Bundle, inside: NDArray[np.bool_] | None = None, frames: int = 8, **settings: Any) -> Method:
    enrolled = np.stack([tokens(number)[None] for number in range(frames)])
    manifest = bundle.as_method("components", {**OPTIONS, **settings}).manifest
    return open_method(manifest, None, None, inside, features={"tokens_1": enrolled})


def score(method: Method, *frames: NDArray[np.float32]) -> list[RawScore]:
    batch = np.stack(frames)
    return method.score(EncoderOutput(embedding=np.zeros((len(batch), 6), np.float32), tokens=(batch,), logits=()))


WRONG = {
    "missing": THINGS[:1] + THINGS[2:],
    "doubled": (*THINGS, (1, 3, 3)),
    "swapped": ((2, 0, 0), (1, 0, 5), *THINGS[2:]),
    "moved": ((1, 0, 0), (2, 3, 3), *THINGS[2:]),
    "one of two": THINGS[:3],
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_lies_far_beyond_good_frames_that_it_never_saw(bundle: Bundle, kind: str) -> None:
    method = opened(bundle)
    good = [raw.raw_score for raw in score(method, *(tokens(number) for number in range(100, 110)))]
    wrong = [raw.raw_score for raw in score(method, *(tokens(number, WRONG[kind]) for number in range(200, 204)))]
    assert min(wrong) > 2 * max(good)


def test_the_reason_and_its_box_are_those_of_what_is_wrong(bundle: Bundle) -> None:
    lacking, doubled = score(opened(bundle), tokens(300, WRONG["missing"]), tokens(302, WRONG["doubled"]))
    assert lacking.reason is not None
    assert doubled.reason is not None
    assert "upper right" in lacking.reason
    assert "middle" in doubled.reason
    for raw, (row, column) in ((lacking, (0, 5)), (doubled, (3, 3))):
        boxes = [mark.box for mark in raw.marks]
        assert boxes
        x, y, width, height = boxes[-1]
        assert x <= (column + 1.5) / GRID <= x + width
        assert y <= (row + 1) / GRID <= y + height
        assert raw.raw_map is not None
        assert raw.raw_map.shape == (SIZE, SIZE)
        at = np.unravel_index(raw.raw_map.argmax(), raw.raw_map.shape)
        assert abs(at[0] / SIZE * GRID - row - 1) <= 2
        assert abs(at[1] / SIZE * GRID - column - 1.5) <= 2


def test_a_left_out_frame_is_scored_by_the_others_alone(bundle: Bundle) -> None:
    """Held against a method that was opened with the others only."""
    groups = [0, 1, 1, 2, 3, 4]
    whole = opened(bundle, frames=6)
    left_out = whole.leave_out(groups)
    for frame in range(6):
        others = [other for other, group in enumerate(groups) if group != groups[frame]]
        features = {"tokens_1": np.stack([tokens(other)[None] for other in others])}
        manifest = bundle.as_method("components", OPTIONS).manifest
        (alone,) = score(open_method(manifest, None, None, features=features), tokens(frame))
        assert left_out[frame].raw_score == pytest.approx(alone.raw_score, rel=1e-5)


def test_many_groups_are_left_out_in_eight_parts(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    method = opened(bundle, frames=20)
    asked: list[int] = []
    find = method._find  # type: ignore[attr-defined]

    def counted(frames: Sequence[object]) -> object:
        asked.append(len(frames))
        return find(frames)

    monkeypatch.setattr(method, "_find", counted)
    assert len(method.leave_out(range(20))) == 20
    assert sorted(asked) == [17, 17, 17, 17, 18, 18, 18, 18]


def test_the_same_seed_gives_the_same_scores_and_another_others(bundle: Bundle) -> None:
    frame = tokens(400, WRONG["moved"])
    first, again, other = (score(opened(bundle, seed=seed), frame)[0].raw_score for seed in (0, 0, 1))
    assert first == again
    assert np.isfinite(other)


def test_outside_the_region_of_interest_nothing_is_missed(bundle: Bundle) -> None:
    inside = np.zeros((SIZE, SIZE), bool)
    inside[:, : SIZE // 2] = True
    method = opened(bundle, inside)
    good, aside, within = score(method, tokens(500), tokens(500, WRONG["missing"]), tokens(500, THINGS[1:]))
    assert aside.raw_score == pytest.approx(good.raw_score, rel=0.2)
    assert within.raw_score > 3 * good.raw_score
    assert within.raw_map is not None
    assert not within.raw_map[~inside].any()


def test_a_stage_that_the_bundle_lacks_is_refused(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="expected a stage among 1 of the bundle, found 9; change --set stage"):
        opened(bundle, stage=9)


def test_it_is_enrolled_scored_and_gives_frames_back_like_any_method(bundle: Bundle, tmp_path: Path) -> None:
    view = bundle.as_method("components", {})
    enrol_tiny(view, tmp_path / "bank", shots=6)
    bank = Bank.open(tmp_path / "bank", bundle=bundle)
    assert bank.record.method == "components"
    fewer = remove_frames(bank, bundle, [2]).bank
    assert len(fewer.record.frames) == 5
    engine = open_engine(view, threads=1)
    detector = Detector(bundle, engine, fewer)
    good, bad = detector.detect([new_frame(draw_part(7), 0, "good"), new_frame(draw_part(8, defective=True), 1, "bad")])
    assert bad.raw_score > good.raw_score
    assert bad.reason is not None
    detector.close()


def test_too_few_frames_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="expected at least 4 independent frames to enrol with components, found 3"):
        enrol_tiny(bundle.as_method("components", {}), tmp_path / "bank", shots=3)
