from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgevand.errors import BadInputError
from edgevand_export.training.config import TrainConfig
from edgevand_export.training.pictures import collage, read_draw
from edgevand_export.training.plan import MOSAIC, Draw, Plan
from edgevand_runtime.datasets import DatasetClass, Sample, open_dataset

if TYPE_CHECKING:
    from tests.export.training.workshop import Workshop


def dataset_class(name: str, kinds: dict[str, int]) -> DatasetClass:
    test = tuple(
        Sample(Path(kind, f"{number}.png"), f"{name}/{kind}/{number}", kind, kind != "good")
        for kind, count in kinds.items()
        for number in range(count)
    )
    return DatasetClass(name, (), (), test)


def names(draws: list[Draw]) -> list[tuple[str, ...]]:
    return [tuple(part.name for part in draw.parts) for draw in draws]


CLASSES = [
    dataset_class("cable", {"good": 40, "bent": 2}),
    dataset_class("wood", {"good": 8, "hole": 30, "scratch": 4}),
]


def test_an_epoch_shows_every_picture_once_where_there_are_no_mosaics() -> None:
    plan = Plan(CLASSES, TrainConfig(mosaic=0.0, batch=16))
    shown = names(plan.epoch(0))
    assert sorted(shown) == sorted((sample.name,) for each in CLASSES for sample in each.test)
    assert len(plan) == 84
    assert plan.steps == 6


def test_an_epoch_is_a_pure_function_of_seed_and_number() -> None:
    plan = Plan(CLASSES, TrainConfig(mosaic=0.5))
    again = Plan(CLASSES, TrainConfig(mosaic=0.5))
    plan.epoch(0)
    assert names(plan.epoch(3)) == names(again.epoch(3))
    assert names(plan.epoch(3)) != names(plan.epoch(4))
    assert names(plan.epoch(3)) != names(Plan(CLASSES, TrainConfig(mosaic=0.5, seed=112)).epoch(3))


def test_mosaics_take_the_place_of_pictures_of_their_class_with_the_probability_asked_for() -> None:
    plan = Plan(CLASSES, TrainConfig(mosaic=0.2))
    draws = [draw for number in range(100) for draw in plan.epoch(number)]
    mosaics = [draw for draw in draws if len(draw.parts) == MOSAIC]
    assert abs(len(mosaics) / len(draws) - 0.2) < 0.015  # 8400 draws: one deviation is 0.0044
    assert all(part.name.startswith(draw.class_name) for draw in draws for part in draw.parts)
    assert Counter(draw.class_name for draw in draws) == {"cable": 4200, "wood": 4200}


def test_a_mosaic_draws_a_kind_first_and_then_a_picture_of_it() -> None:
    plan = Plan(CLASSES, TrainConfig())
    parts = [part for number in range(1500) for part in plan.collage("wood", number).parts]
    shares = {kind: count / len(parts) for kind, count in Counter(part.kind for part in parts).items()}
    assert shares == pytest.approx({"good": 1 / 3, "hole": 1 / 3, "scratch": 1 / 3}, abs=0.03)
    rare = Counter(part.name for part in parts if part.kind == "scratch")
    assert min(rare.values()) / max(rare.values()) > 0.75


def test_mosaics_come_from_a_finite_pool_of_each_class_or_are_all_new() -> None:
    draws = [
        {
            draw
            for number in range(60)
            for draw in Plan(CLASSES, TrainConfig(mosaic=1.0, mosaic_pool=pool)).epoch(number)
        }
        for pool in (3, 0)
    ]
    assert len(draws[0]) == 6
    assert len(draws[1]) > 0.9 * 60 * 84  # four of a few pictures are now and then the same four


def test_the_fingerprint_tells_datasets_apart() -> None:
    whole = Plan(CLASSES, TrainConfig()).fingerprint()
    assert whole == Plan(CLASSES, TrainConfig(seed=1)).fingerprint()
    assert whole != Plan(CLASSES[::-1], TrainConfig()).fingerprint()


def test_a_dataset_without_test_pictures_is_refused() -> None:
    with pytest.raises(BadInputError, match="expected pictures in the test split"):
        Plan([DatasetClass("empty", (), (), ())], TrainConfig())


def test_a_collage_has_four_pictures_at_full_size_row_by_row() -> None:
    pictures = [np.full((3, 5, 3), value, np.uint8) for value in (1, 2, 3, 4)]
    masks = [np.full((3, 5), value) for value in (True, False, False, True)]
    whole, mask = collage(pictures, masks)
    assert (whole.shape, mask.shape) == ((6, 10, 3), (6, 10))
    assert [whole[row, column, 0] for row in (0, 5) for column in (0, 9)] == [1, 2, 3, 4]
    assert (whole[:3, :5] == 1).all()
    np.testing.assert_array_equal(mask, np.kron([[True, False], [False, True]], np.ones((3, 5), bool)))


def test_pictures_of_other_sizes_are_squashed_to_the_cell_of_the_first() -> None:
    blue = np.zeros((8, 4, 3), np.uint8)
    blue[..., 0] = 200
    pictures = [np.zeros((3, 5, 3), np.uint8), blue, blue, blue]
    whole, mask = collage(pictures, [np.zeros((3, 5), bool), *[np.ones((8, 4), bool)] * 3])
    assert whole.shape == (6, 10, 3)
    assert (whole[0, 9] == (200, 0, 0)).all()
    assert mask.sum() == 3 * 15


def test_a_collage_reaches_the_encoder_at_the_usual_size(workshop: Workshop) -> None:
    from edgevand.bundle import ImageRecord

    dataset = open_dataset(workshop.data)
    plan = Plan(dataset.classes, TrainConfig())
    picture = read_draw(plan.collage("disc", 0), ImageRecord(height=24, width=24, mean=(0, 0, 0), std=(1, 1, 1)))
    assert picture.pixels.shape == (3, 24, 24)
    assert picture.mask.shape == (24, 24)
    assert picture.mask.dtype == np.bool_


def test_any_value_above_zero_in_a_mask_is_anomalous(workshop: Workshop, tmp_path: Path) -> None:
    from PIL import Image

    from edgevand.bundle import ImageRecord

    sample = next(sample for sample in open_dataset(workshop.data).classes[0].test if sample.anomalous)
    values = np.asarray(Image.open(sample.masks[0]))
    Image.fromarray(np.minimum(values, 3)).save(tmp_path / "mask.png")
    other = Sample(sample.image, sample.name, sample.kind, anomalous=True, masks=(tmp_path / "mask.png",))
    image = ImageRecord(height=24, width=24, mean=(0, 0, 0), std=(1, 1, 1))
    marked = [read_draw(Draw("disc", (each,)), image).mask for each in (sample, other)]
    np.testing.assert_array_equal(marked[0], marked[1])
    assert marked[0].any()
