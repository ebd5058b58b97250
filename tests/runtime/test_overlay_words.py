"""What a method says and points at is on the picture, where it can be read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgevand_runtime.evaluation.pictures import draw_worst
from edgevand_runtime.methods import Mark
from edgevand_runtime.overlay import draw_overlay
from edgevand_runtime.results import Region, Result
from tests.runtime.streams import make_frame, make_result

if TYPE_CHECKING:
    from numpy.typing import NDArray

GREY = np.full((480, 640, 3), 128, np.uint8)
YELLOW = (64, 214, 255)
WORDS = "misplacement: 'a part in the wrong place' (0.83)"


def result(score: float | None = 0.8, **fields: object) -> Result:
    quiet = {"raw_map": np.zeros((8, 8), np.float32), "regions": (), "map_threshold": 1.0}
    return replace(make_result(make_frame(0), score), **{**quiet, **fields})  # type: ignore[arg-type]


def yellow(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(picture.astype(int) - YELLOW) < 12).all(axis=2))


def test_a_reason_is_a_line_of_its_own_below_the_frame() -> None:
    plain, told = draw_overlay(GREY, result()), draw_overlay(GREY, result(reason=WORDS))
    assert told.shape[0] > plain.shape[0]
    assert (told[: plain.shape[0]] == plain).all()
    assert yellow(told[plain.shape[0] :]).sum() > 100
    assert not yellow(plain).any()


def test_a_long_reason_takes_no_more_than_three_lines_and_stays_on_the_picture() -> None:
    one, long = (draw_overlay(GREY, result(reason=words)).shape[0] for words in ("loss", " ".join(["missing"] * 200)))
    plain = draw_overlay(GREY, result()).shape[0]
    assert plain < one < long <= plain + 3 * (one - plain)
    unbroken = draw_overlay(GREY, result(reason="x" * 900))
    assert unbroken.shape[1] == 640
    assert not yellow(unbroken)[:, -4:].any()


def test_a_mark_is_a_box_at_its_fractions_of_the_frame() -> None:
    drawn = draw_overlay(GREY, result(marks=(Mark("missing", (0.25, 0.5, 0.25, 0.25)),)))[:480]
    rows, columns = yellow(drawn).nonzero()
    box = rows >= 239  # the words stand above it
    assert columns[box].min() == pytest.approx(0.25 * 639, abs=3)
    assert columns[box].max() == pytest.approx(0.5 * 639, abs=3)
    assert rows[box].max() == pytest.approx(0.75 * 479, abs=3)
    assert yellow(drawn)[:239].any()


def test_words_of_marks_and_regions_do_not_cover_each_other() -> None:
    region = Region(160, 240, 160, 120, 100, 0.9)
    marks = tuple(Mark(f"word {number}", (0.25, 0.5, 0.25, 0.25)) for number in range(3))
    alone = sum(int(yellow(draw_overlay(GREY, result(marks=(mark,))))[:239].sum()) for mark in marks[:1])
    drawn = draw_overlay(GREY, result(regions=(region,), marks=marks[:1]))
    white = np.asarray((drawn[:480] > 200).all(axis=2))
    assert white[210:239].sum() > 20  # the region's number is above the box
    assert yellow(drawn[361:480]).sum() == pytest.approx(alone, rel=0.3)  # the mark's words went below it


@pytest.mark.parametrize("box", [(-0.5, -0.5, 3.0, 3.0), (0.999, 0.999, 0.5, 0.5), (0.0, 0.0, 0.0, 0.0)])
def test_a_mark_that_reaches_beyond_the_frame_is_cut_to_it(box: tuple[float, float, float, float]) -> None:
    drawn = draw_overlay(GREY, result(marks=(Mark("w" * 300, box),)))
    assert drawn.shape[1] == 640
    assert yellow(drawn[:480]).any()


def test_a_normal_frame_says_nothing_and_an_uncalibrated_one_does() -> None:
    words = {"reason": WORDS, "marks": (Mark("missing", (0.25, 0.5, 0.25, 0.25)),)}
    assert not yellow(draw_overlay(GREY, result(0.2, **words))).any()
    assert yellow(draw_overlay(GREY, result(None, map_threshold=None, **words))).any()


def test_a_report_s_pictures_carry_reason_and_marks() -> None:
    from io import BytesIO

    from PIL import Image

    sheets = [draw_worst(GREY, result(**words)) for words in ({}, {"reason": WORDS})]  # type: ignore[arg-type]
    plain, told = (Image.open(BytesIO(sheet)) for sheet in sheets)
    assert told.height > plain.height
