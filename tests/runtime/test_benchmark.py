"""The benchmark counts what it says it counts."""

from __future__ import annotations

import io
import json
import statistics
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import psutil
import pytest
from PIL import Image

from edgevand.bundle import Bundle
from edgevand.cli import main
from edgevand.errors import UsageError
from edgevand.home import builtin_bundle
from edgevand_runtime.benchmark import (
    STAGES,
    BenchmarkOptions,
    Case,
    Failure,
    Measurement,
    Report,
    Timing,
    benchmark,
    cases,
    draw_report,
    measure,
)
from edgevand_runtime.benchmark.meters import Nvml, Rails, open_meter
from edgevand_runtime.benchmark.work import count_operations, matrix_peak
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines.choose import ENGINES
from tests.core.builders import make_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand_runtime.engines import EncoderOutput

CONVEYOR = "test://conveyor?live=0&frames=40&defects=0"
CPU = Case("onnxruntime", "cpu", "fp32", 1)
FEW = BenchmarkOptions(batches=3, warm_up=1, shots=2, threads=1)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", heads=False, objects=())


def run(bundle: Bundle, options: BenchmarkOptions = FEW, case: Case = CPU, **more: Any) -> tuple[Measurement, Report]:
    report = benchmark(bundle, None, CONVEYOR, [case], options, **more)
    (row,) = report.rows
    assert isinstance(row, Measurement)
    return row, report


def test_time_is_booked_to_the_stage_that_takes_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Detector.encode

    def slowly(self: Detector, tensors: list[NDArray[np.float32]]) -> EncoderOutput:
        time.sleep(0.05)
        return encode(self, tensors)

    monkeypatch.setattr(Detector, "encode", slowly)
    row, _ = run(bundle)
    assert row.stages["encode"].median >= 50
    assert row.stages["total"].median >= row.stages["encode"].median
    assert row.frames_per_second <= 1000 / 50
    assert row.first_s >= 0.05


def test_percentiles_leave_the_warm_up_out_and_are_those_of_the_statistics_module(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([9.0, 9.0, *(number / 1000 for number in range(1, 101))])

    def scripted(*_: Any) -> tuple[float, ...]:
        total = next(seconds)
        return total / 4, total / 2, total / 8, total / 16, total / 16, total

    monkeypatch.setattr(measure, "_time_batch", scripted)
    case = Case("onnxruntime", "cpu", "fp32", 4)
    row, _ = run(bundle, BenchmarkOptions(batches=100, warm_up=2, shots=2, threads=1), case)
    cuts = statistics.quantiles(range(1, 101), n=100, method="inclusive")
    total = row.stages["total"]
    assert (total.median, total.p95, total.p99) == pytest.approx((cuts[49], cuts[94], cuts[98]))
    assert row.stages["encode"].median == pytest.approx(cuts[49] / 2)
    assert row.frames_per_second == pytest.approx(400 / (5050 / 1000))
    assert (row.first_s, row.batches) == (9.0, 100)


def test_a_row_ends_when_its_time_is_over_but_times_three_batches(bundle: Bundle) -> None:
    row, _ = run(bundle, BenchmarkOptions(batches=50, warm_up=5, seconds=0.0, shots=2, threads=1))
    assert row.batches == 3


def test_peak_memory_is_that_of_this_process(bundle: Bundle) -> None:
    row, _ = run(bundle)
    assert 0.5 * psutil.Process().memory_info().rss < row.peak_memory < psutil.virtual_memory().total


def test_an_engine_that_does_not_start_is_a_failure_and_the_others_go_on(bundle: Bundle) -> None:
    absent = Case("tensorrt", "cuda:0", "fp32", 1)
    told: list[Any] = []
    report = benchmark(bundle, None, CONVEYOR, [absent, CPU], FEW, tell=lambda _, row: told.append(row))
    assert isinstance(report.rows[0], Failure)
    assert "ensor" in report.rows[0].error
    assert isinstance(report.rows[1], Measurement)
    assert told == report.rows


def test_there_is_a_row_for_every_engine_precision_and_batch(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ENGINES["onnxruntime"]
    table = {"onnxruntime": kind, "other": replace(kind, name="other")}
    monkeypatch.setattr("edgevand_runtime.benchmark.measure.ENGINES", table)
    monkeypatch.setattr(Bundle, "precisions", ("fp32", "int8"))
    found = cases(bundle, [1, 8])
    assert len(found) == len(set(found)) == 8 * len(kind.devices())
    assert Case("onnxruntime", "cpu", "int8", 8) in found


def test_a_person_chooses_rows(bundle: Bundle) -> None:
    assert cases(bundle, [2], backend="onnxruntime", device="cpu", precision="fp32") == [
        Case("onnxruntime", "cpu", "fp32", 2)
    ]
    with pytest.raises(UsageError, match="int8"):
        cases(bundle, precision="int8")
    with pytest.raises(UsageError, match="--batch of at least 1, found 0"):
        cases(bundle, [4, 0])


@pytest.mark.parametrize("wrong", [{"batches": 0}, {"warm_up": -1}, {"seconds": -1.0}, {"shots": 0}, {"threads": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    option = next(iter(wrong)).replace("_", "-")
    with pytest.raises(UsageError, match=f"--{option} of at least"):
        BenchmarkOptions(**wrong)


def test_the_operations_of_a_patch_encoder_are_those_of_its_matrices(tmp_path: Path) -> None:
    """16 patches of 8 x 8 x 3 pixels times one matrix for each stage; the mean patch times another one."""
    bundle = make_bundle(tmp_path / "bundle", size=32, grid=4, width=8, dim=16, stages=(1, 2), heads=False, objects=())
    graph = onnx.load(bundle.graph_in("fp32")).graph
    shapes = [tuple(each.dims) for each in graph.initializer if len(each.dims) == 2]
    patches = {8: 16, 16: 1}  # rows that each of the matrices is applied to, by its columns
    assert count_operations(bundle) == sum(2 * patches[columns] * rows * columns for rows, columns in shapes)


def test_the_operations_of_the_built_in_bundle_are_those_that_its_shapes_say() -> None:
    """Counted again from the weights in the file and the shapes that onnx infers, convolution by convolution."""
    bundle = Bundle.open(builtin_bundle())
    model = onnx.shape_inference.infer_shapes(onnx.load(bundle.graph_in("fp32")))
    graph = model.graph
    halves = {node.output[0]: node.input[0] for node in graph.node if node.op_type in {"Cast", "Unsqueeze"}}
    weights = {each.name: tuple(each.dims) for each in graph.initializer}
    shapes = {each.name: [d.dim_value for d in each.type.tensor_type.shape.dim] for each in graph.value_info}
    total = 0
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        name = node.input[1]
        while name in halves:
            name = halves[name]
        _, channels, rows, columns = shapes[node.output[0]]
        total += 2 * channels * rows * columns * int(np.prod(weights[name][1:]))
    # The rest are the heads' and the embedding's few products.
    assert total < count_operations(bundle) < 1.02 * total


def test_the_peak_of_more_threads_is_no_other_product() -> None:
    assert 1e8 < matrix_peak(1, seconds=0.0) < 1e14
    assert 1e8 < matrix_peak(3, seconds=0.0) < 1e14


def test_the_share_of_the_peak_is_the_encoders_operations_a_second_over_it(bundle: Bundle) -> None:
    row, report = run(bundle, FEW, Case("onnxruntime", "cpu", "fp32", 2))
    speed = 2 * report.operations / (row.stages["encode"].median / 1000)
    assert row.peak_share == pytest.approx(speed / report.peak)


def write_rails(root: Path, rails: dict[str, tuple[int, int]], chip: str = "ina3221") -> None:
    for number, (label, (millivolts, milliamperes)) in enumerate(rails.items()):
        folder = root / "sys/class/hwmon" / f"hwmon{number // 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"{chip}\n")
        (folder / f"in{number % 3 + 1}_label").write_text(f"{label}\n")
        (folder / f"in{number % 3 + 1}_input").write_text(f"{millivolts}\n")
        (folder / f"curr{number % 3 + 1}_input").write_text(f"{milliamperes}\n")


@pytest.mark.parametrize(
    ("rails", "watts"),
    [
        ({"VDD_IN": (5000, 1200), "VDD_CPU_GPU_CV": (5000, 400), "VDD_SOC": (5000, 300)}, 6.0),
        (
            {
                "VDD_GPU_SOC": (19000, 100),
                "VDD_CPU_CV": (19000, 50),
                "VIN_SYS_5V0": (5000, 500),
                "VDDQ_VDD2_1V8AO": (5000, 70),
            },
            5.35,
        ),
    ],
)
def test_the_power_of_a_jetson_is_that_of_the_rails_that_feed_its_module(
    tmp_path: Path, rails: dict[str, tuple[int, int]], watts: float
) -> None:
    write_rails(tmp_path, rails)
    meter = open_meter("cuda:0", tmp_path)
    assert isinstance(meter, Rails)
    assert meter.watts() == pytest.approx(watts)


def test_energy_is_power_times_time(tmp_path: Path) -> None:
    write_rails(tmp_path, {"VDD_IN": (10_000, 2_000)})
    meter = open_meter("cpu", tmp_path)
    assert meter is not None
    start = time.monotonic()
    meter.start()
    time.sleep(0.2)
    joules = meter.stop()
    longest = time.monotonic() - start
    assert joules is not None
    assert 20 * 0.2 <= joules <= 20 * longest


def test_a_machine_without_rails_has_no_meter_for_its_processor(tmp_path: Path) -> None:
    assert open_meter("cpu", tmp_path) is None
    write_rails(tmp_path, {"VDD_IN": (5000, 1200)}, chip="coretemp")
    assert open_meter("cpu", tmp_path) is None


class FakeNvml:
    """What ``pynvml`` says of a card that has used 1.5 J more at each question."""

    class NVMLError(Exception):
        """NVML's."""

    def __init__(self, *, old: bool = False) -> None:
        self.millijoules, self.old = 1000, old

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 (NVML's name)
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, card: int) -> int:  # noqa: N802
        if self.old:
            raise self.NVMLError
        self.millijoules += 1500
        return self.millijoules

    def nvmlDeviceGetMemoryInfo(self, card: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=700 << 20)


def test_a_cards_energy_and_memory_are_nvmls() -> None:
    meter = Nvml(FakeNvml(), 0)
    meter.start()
    assert meter.stop() == pytest.approx(1.5)
    assert meter.memory() == 700 << 20


def test_a_card_that_does_not_tell_its_energy_has_none() -> None:
    meter = Nvml(FakeNvml(old=True), 0)
    meter.start()
    assert meter.stop() is None


class Rival:
    """Answers what the detector does, with 0.25 more, and takes its time."""

    name = "rival"

    def __init__(self, bundle: Bundle, bank: Any) -> None:
        self._detector = Detector(bundle, ENGINES["onnxruntime"].open(bundle, "cpu", "fp32", 1), bank)

    def score(self, tensor: NDArray[np.float32]) -> tuple[float, NDArray[np.float32] | None]:
        time.sleep(0.05)
        (raw,) = self._detector.search(self._detector.encode([tensor.copy()]))
        assert raw.raw_map is not None
        return raw.raw_score + 0.25, raw.raw_map - 0.5


def test_a_rival_is_compared_on_the_same_frames_with_the_same_bank(bundle: Bundle) -> None:
    row, report = run(bundle, rival=lambda bank: Rival(bundle, bank))
    assert row.against is not None
    assert report.rival is not None
    assert row.against.score_max_abs == pytest.approx(0.25, abs=1e-5)
    assert row.against.map_max_abs == pytest.approx(0.5, abs=1e-5)
    frame = sum(row.stages[stage].median for stage in ("encode", "search", "judge"))
    assert row.against.times == pytest.approx(report.rival.frame.median / frame, rel=0.5)
    assert report.rival.frame.median >= 50


def test_the_picture_has_a_bar_for_each_row_that_ran(bundle: Bundle) -> None:
    row, report = run(bundle)
    report.rows = [replace(row, stages={stage: Timing(10.0, 11.0, 12.0) for stage in STAGES})]
    one = Image.open(io.BytesIO(draw_report(report, "one")))
    report.rows += [*report.rows, Failure(CPU, "absent")]
    two = Image.open(io.BytesIO(draw_report(report, "two")))
    assert two.height > one.height
    green = (np.asarray(two.convert("RGB")) == (0x1A, 0x7F, 0x37)).all(axis=2)[76:]  # the encoder's, under the legend
    rows = np.flatnonzero(green.any(axis=1))
    assert 1 + np.count_nonzero(np.diff(rows) > 1) == 2


def test_the_command_prints_one_json_document_and_draws(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--bundle", str(bundle.path), "--batches", "2", "--warm-up", "1", "--shots", "2", "--json"]
    picture = tmp_path / "rows.png"
    more = ["--backend", "onnxruntime", "--device", "cpu", "--batch", "1,2", "--picture", str(picture)]
    assert main(["benchmark", *arguments, *more]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "edgevand.benchmark/2"
    assert document["bundle"] == bundle.hash
    assert [row["batch"] for row in document["engines"]] == [1, 2]
    (row, _) = document["engines"]
    assert set(row["stages"]) == {"preprocess", "encode", "search", "judge", "sinks", "total"}
    assert row["engine"] == "onnxruntime:cpu"
    assert row["parity"]["passed"] is True
    assert document["decode"]["median"] > 0
    assert Image.open(picture).format == "PNG"


def test_the_command_ends_with_3_where_the_engine_asked_for_is_not_here(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--bundle", str(bundle.path), "--backend", "tensorrt", "--shots", "1", "--json"]
    assert main(["benchmark", *arguments]) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["engines"][0]["error"]
    assert "edgevand: tensorrt:" in captured.err


def test_the_command_refuses_what_it_cannot_compare_before_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    builtin = str(builtin_bundle())
    assert main(["benchmark", "--bundle", builtin, "--against", "reference"]) == 2
    assert "vision transformer" in capsys.readouterr().err
    assert main(["benchmark", "--bundle", builtin, "--heads", "heads.safetensors"]) == 2
    assert "--against" in capsys.readouterr().err
    assert main(["benchmark", "--bundle", builtin, "--batch", "one"]) == 2
    assert "--batch as numbers" in capsys.readouterr().err
