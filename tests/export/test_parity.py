from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.bundle import StageRecord
from edgevand.errors import GateError
from edgevand_export.parity import compare
from edgevand_runtime.maps import sigmoid, upsample

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = (20, 24)
STAGES = (StageRecord(index=1, width=6, grid=(4, 5), head=True), StageRecord(index=2, width=3, grid=(2, 2), head=False))


def unit(x: NDArray[Any]) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
    return rows


@pytest.fixture
def outputs() -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(0)
    return {
        "embedding": unit(random.normal(size=(2, 4))),
        "tokens_1": unit(random.normal(size=(2, 20, 6))),
        "tokens_2": unit(random.normal(size=(2, 4, 3))),
        "logits_1": random.normal(size=(2, 4, 5)).astype(np.float32),
    }


TEXT = unit(np.random.default_rng(1).normal(size=(2, 4)))


def moved(outputs: dict[str, NDArray[np.float32]], name: str, by: float) -> dict[str, NDArray[np.float32]]:
    changed = {key: each.copy() for key, each in outputs.items()}
    changed[name].flat[3] += by
    return changed


def test_equal_outputs_pass_with_nothing_between_them(outputs: dict[str, NDArray[np.float32]]) -> None:
    four = {name: np.concatenate([each, each]) for name, each in outputs.items()}
    record = compare(outputs, {2: outputs, 4: four}, STAGES, SIZE, "fp32", TEXT)
    assert record.batches == (2, 4)
    assert [each.output for each in record.outputs] == list(outputs)
    assert all(each.max_abs == 0 and each.cosine == pytest.approx(1) for each in record.outputs)
    assert (record.map_max_abs, record.score_max_abs) == (0, 0)


def test_a_batch_of_fewer_pictures_than_the_sample_is_held_against_its_first_rows(
    outputs: dict[str, NDArray[np.float32]],
) -> None:
    first = {name: each[:1] for name, each in outputs.items()}
    assert compare(outputs, {1: first, 2: outputs}, STAGES, SIZE, "fp32", TEXT).map_max_abs == 0
    with pytest.raises(GateError, match="output tokens_2"):
        compare(outputs, {1: moved(first, "tokens_2", 0.01), 2: outputs}, STAGES, SIZE, "fp32", TEXT)


@pytest.mark.parametrize("name", ["embedding", "tokens_1", "tokens_2", "logits_1"])
@pytest.mark.parametrize("batch", [1, 2])
def test_one_number_off_in_one_batch_fails_fp32(name: str, batch: int, outputs: dict[str, NDArray[np.float32]]) -> None:
    results = {1: outputs, 2: outputs, batch: moved(outputs, name, 0.01)}
    with pytest.raises(GateError, match=rf"output {name} of the graph to agree with torch"):
        compare(outputs, results, STAGES, SIZE, "fp32", TEXT)


def test_what_fp16_may_do_is_recorded_and_passes(outputs: dict[str, NDArray[np.float32]]) -> None:
    found = moved(outputs, "tokens_1", 0.001)
    record = compare(outputs, {1: found}, STAGES, SIZE, "fp16", TEXT)
    row = next(each for each in record.outputs if each.output == "tokens_1")
    assert row.max_abs == pytest.approx(0.001, rel=1e-3)
    assert 0.999 <= row.cosine < 1
    assert 0 < record.map_max_abs < 0.02


@pytest.mark.parametrize(
    ("name", "by", "sentence"),
    [("tokens_1", 0.5, "cosine of 0.999"), ("logits_1", 5.0, "the anomaly map"), ("embedding", 0.2, "cosine of 0.999")],
)
def test_what_fp16_may_not_do_fails(
    name: str, by: float, sentence: str, outputs: dict[str, NDArray[np.float32]]
) -> None:
    with pytest.raises(GateError, match=sentence):
        compare(outputs, {1: moved(outputs, name, by)}, STAGES, SIZE, "fp16", TEXT)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_fails(value: float, outputs: dict[str, NDArray[np.float32]]) -> None:
    with pytest.raises(GateError, match=r"logits_1, found .*NaN or infinity"):
        compare(outputs, {1: moved(outputs, "logits_1", value)}, STAGES, SIZE, "fp32", TEXT)


def test_an_output_of_another_shape_fails(outputs: dict[str, NDArray[np.float32]]) -> None:
    wrong = {**outputs, "tokens_2": outputs["tokens_2"][:, :3]}
    with pytest.raises(GateError, match=r"shape \(2, 4, 3\).*found \(2, 3, 3\)"):
        compare(outputs, {1: wrong}, STAGES, SIZE, "fp32", TEXT)


def test_the_map_that_is_compared_is_the_runtimes_map(outputs: dict[str, NDArray[np.float32]]) -> None:
    """A change of the logits moves the certificate's map by what the runtime's own code says."""
    found = moved(outputs, "logits_1", 0.02)
    error = compare(outputs, {1: found}, STAGES, SIZE, "fp16", TEXT).map_max_abs
    maps = [sigmoid(upsample(each["logits_1"], SIZE)) for each in (outputs, found)]
    assert error == pytest.approx(float(np.abs(maps[0] - maps[1]).max()), abs=1e-6)
