"""The benchmark counts what it says it counts."""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from edgevand.cli import main
from edgevand.errors import UsageError
from edgevand_runtime import benchmark as module
from edgevand_runtime.benchmark import BenchmarkOptions, Failure, Measurement, available_devices, benchmark
from edgevand_runtime.detector import Detector
from tests.core.builders import make_bundle

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle
    from edgevand_runtime.engines import EncoderOutput
    from edgevand_runtime.frame import Frame

CONVEYOR = "test://conveyor?live=0&frames=40&defects=0"
CPU = [("onnxruntime", "cpu")]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", heads=False, objects=())


def measure(bundle: Bundle, options: BenchmarkOptions) -> Measurement:
    (row,) = benchmark(bundle, None, CONVEYOR, CPU, options)
    assert isinstance(row, Measurement)
    return row


def test_time_is_booked_to_the_stage_that_takes_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Detector.encode

    def slowly(self: Detector, tensors: list[NDArray[np.float32]]) -> EncoderOutput:
        time.sleep(0.05)
        return encode(self, tensors)

    monkeypatch.setattr(Detector, "encode", slowly)
    row = measure(bundle, BenchmarkOptions(batches=3, warm_up=1, shots=2))
    assert row.stages["encode"].median >= 50
    assert row.stages["total"].median >= row.stages["encode"].median
    assert row.frames_per_second <= 1000 / 50
    assert row.first_s >= 0.05


def test_percentiles_leave_the_warm_up_out_and_are_those_of_the_statistics_module(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([9.0, 9.0, *(number / 1000 for number in range(1, 101))])

    def scripted(detector: Detector, frames: list[Frame]) -> tuple[float, float, float, float]:
        total = next(seconds)
        return total / 4, total / 2, total / 4, total

    monkeypatch.setattr(module, "_time_batch", scripted)
    row = measure(bundle, BenchmarkOptions(batches=100, warm_up=2, batch=4, shots=2))
    cuts = statistics.quantiles(range(1, 101), n=100, method="inclusive")
    total = row.stages["total"]
    assert (total.median, total.p95, total.p99) == pytest.approx((cuts[49], cuts[94], cuts[98]))
    assert row.stages["encode"].median == pytest.approx(cuts[49] / 2)
    assert row.frames_per_second == pytest.approx(400 / (5050 / 1000))
    assert row.first_s == 9.0


def test_peak_memory_is_that_of_this_process(bundle: Bundle) -> None:
    row = measure(bundle, BenchmarkOptions(batches=1, warm_up=0, shots=1))
    assert 0.5 * psutil.Process().memory_info().rss < row.peak_memory < psutil.virtual_memory().total


def test_an_engine_that_does_not_start_is_a_failure_and_the_others_go_on(bundle: Bundle) -> None:
    rows = list(benchmark(bundle, None, CONVEYOR, [("tensorrt", "auto"), *CPU], BenchmarkOptions(batches=1, shots=1)))
    assert isinstance(rows[0], Failure)
    assert "tensorrt" in rows[0].error
    assert isinstance(rows[1], Measurement)


def test_the_processor_is_always_among_the_devices() -> None:
    assert available_devices()[0] == ("onnxruntime", "cpu")


@pytest.mark.parametrize("wrong", [{"batches": 0}, {"warm_up": -1}, {"batch": 0}, {"shots": 0}, {"threads": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    option = next(iter(wrong)).replace("_", "-")
    with pytest.raises(UsageError, match=f"--{option} of at least"):
        BenchmarkOptions(**wrong)


def test_the_command_prints_one_json_document(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--bundle", str(bundle.path), "--batches", "2", "--warm-up", "1", "--shots", "2", "--json"]
    assert main(["benchmark", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "edgevand.benchmark/1"
    assert document["bundle"] == bundle.hash
    (engine,) = [row for row in document["engines"] if row["engine"] == "onnxruntime:cpu"]
    assert set(engine["stages"]) == {"preprocess", "encode", "score", "total"}
    assert engine["parity"]["passed"] is True


def test_the_command_ends_with_3_where_the_engine_asked_for_is_not_here(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--bundle", str(bundle.path), "--backend", "tensorrt", "--shots", "1", "--json"]
    assert main(["benchmark", *arguments]) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["engines"][0]["error"]
    assert "edgevand: tensorrt:auto: " in captured.err
