"""An evaluation's figures are those of score's results and scikit-learn; what is undefined is null with its reason."""

from __future__ import annotations

import csv
import errno
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from edgevand.bundle import Bundle
from edgevand.errors import MissingDependencyError, OutputError, UsageError
from edgevand_runtime.datasets import open_dataset
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.evaluation import EvaluateOptions, evaluate
from edgevand_runtime.evaluation.map_file import MapFile
from edgevand_runtime.evaluation.published import published_rows
from edgevand_runtime.score import ScoreOptions, ScoreRun
from edgevand_runtime.sources import open_source
from tests.runtime.evaluation.scenes import (
    CountingEngine,
    copy_in_order,
    defect_mask,
    make_loco,
    make_mvtec,
    without_times,
)
from tests.tiny import SIZE, draw_part, write_parts, write_tiny_bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevand.bank import Bank


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Neither text nor heads."""
    return write_tiny_bundle(tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Text of one class and of any object, and heads."""
    return write_tiny_bundle(tmp_path_factory.mktemp("whole") / "bundle", heads=True, objects=("object", "bolt"))


def run(root: Path, bundle: Bundle, target: Path, **options: Any) -> dict[str, Any]:
    """Evaluate with one engine thread, without the page."""
    keywords = {name: options.pop(name) for name in ("resume", "engine") if name in options}
    engine = keywords.pop("engine", None) or open_engine(bundle, threads=1)
    try:
        return evaluate(open_dataset(root), bundle, engine, target, EvaluateOptions(**options), html=False, **keywords)
    finally:
        engine.close()


def row_of(report: dict[str, Any], shots: int, seed: int = 0, name: str | None = None) -> dict[str, Any]:
    found: list[dict[str, Any]] = [
        row for row in report["rows"] if (row["shots"], row["seed"]) == (shots, seed) and name in {None, row["class"]}
    ]
    (row,) = found
    return row


def scored(
    root: Path, bundle: Bundle, row: dict[str, Any], folder: Path, object_name: str | None = None
) -> tuple[list[dict[str, Any]], list[NDArray[np.float32]], Bank | None]:
    """What enroll and score say of the same pictures, bank on the disk and all."""
    engine = open_engine(bundle, threads=1)
    bank = None
    if row["enrolled"]:
        with open_source(copy_in_order(root, row["enrolled"], folder / "enrolled")) as source:
            bank = enroll(
                source, bundle, engine, folder / "bank", EnrolOptions(shots=None, object_name=object_name)
            ).bank
        assert len(bank.record.frames) == row["shots"]
    with Detector(bundle, engine, bank, object_name=object_name) as detector:
        paths = [str(root / entry["image"]) for entry in row["scores"]]
        lines = list(ScoreRun(detector, paths, ScoreOptions(maps=folder / "maps")).lines())
    return lines, [np.load(line["map"]) for line in lines], bank


def best_f1(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.nanmax(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


@pytest.mark.parametrize("shots", [0, 1, 4])
def test_every_figure_follows_from_scores_results_and_scikit_learn(whole: Bundle, tmp_path: Path, shots: int) -> None:
    root = make_mvtec(tmp_path / "data", bad=4)
    row = row_of(run(root, whole, tmp_path / "report", shots=(shots,), seeds=(1,)), shots, 1)
    lines, maps, bank = scored(root, whole, row, tmp_path, "bolt")
    assert row["object"] == "bolt"
    labels = np.array([entry["anomalous"] for entry in row["scores"]])
    assert labels.tolist() == [False] * 4 + [True] * 4
    scores = np.array([line["raw_score"] for line in lines])
    assert [entry["raw_score"] for entry in row["scores"]] == pytest.approx(scores.tolist(), abs=1e-6)
    found = row["metrics"]
    assert found["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["image_ap"] == pytest.approx(average_precision_score(labels, scores))
    assert found["image_f1_max"] == pytest.approx(best_f1(labels, scores))
    assert found["image_f1_trivial"] == pytest.approx(2 * 0.5 / 1.5)
    small = Image.fromarray(defect_mask()).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    mask = np.asarray(small) > 127
    truth = np.concatenate([(mask if label else np.zeros_like(mask)).ravel() for label in labels])
    values = np.concatenate([each.ravel() for each in maps])
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-6)
    assert found["pixel_ap"] == pytest.approx(average_precision_score(truth, values), abs=1e-4)
    assert found["pixel_f1_max"] == pytest.approx(best_f1(truth, values), abs=1e-4)
    false, true, _ = roc_curve(truth, values, drop_intermediate=False)
    inside = false <= 0.3
    false, true = np.append(false[inside], 0.3), np.append(true[inside], np.interp(0.3, false, true))
    pro = np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2) / 0.3  # the regions are alike, so overlap is recall
    assert found["pro"] == pytest.approx(pro, abs=1e-4)
    vand = 2 * found["image_f1_max"] * found["pixel_f1_max"] / (found["image_f1_max"] + found["pixel_f1_max"])
    assert found["vand_score"] == pytest.approx(vand)
    assert [entry["called_anomalous"] for entry in row["scores"]] == [line["anomalous"] for line in lines]
    judged = row["calibration"]
    if shots < 4:
        assert (judged["kind"], judged["false_alarm_rate"], judged["detections"]) == ("none", None, None)
    else:
        alarms = sum(line["anomalous"] for line, label in zip(lines, labels, strict=True) if not label)
        hits = sum(line["anomalous"] for line, label in zip(lines, labels, strict=True) if label)
        assert bank is not None
        assert bank.record.calibration.image is not None
        assert (judged["kind"], judged["n"], judged["wanted"]) == ("extrapolated", 4, 0.01)
        assert judged["threshold"] == pytest.approx(bank.record.calibration.image.threshold)
        assert (judged["false_alarms"], judged["false_alarm_rate"], judged["normals"]) == (alarms, alarms / 4, 4)
        assert (judged["detections"], judged["detection_rate"], judged["anomalies"]) == (hits, hits / 4, 4)


def test_each_picture_is_encoded_once_for_all_shots_and_seeds(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data")
    engine = CountingEngine(plain)
    report = run(root, plain, tmp_path / "report", shots=(1, 2, 4), seeds=(0, 1), engine=engine)
    enrolled = {name for row in report["rows"] for name in row["enrolled"]}
    assert engine.pictures == len(enrolled) + 7
    (work,) = report["work"]
    assert work["encoded"] == engine.pictures
    assert work["encoded_without_sharing"] == 2 * (3 * 7 + 1 + 2 + 4)


def test_augmented_copies_are_encoded_once_too(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data")
    engine = CountingEngine(plain)
    report = run(root, plain, tmp_path / "report", shots=(2,), seeds=(0,), augment=("flip",), engine=engine)
    assert engine.pictures == 2 * 2 + 7
    (work,) = report["work"]
    assert (work["encoded"], work["encoded_without_sharing"]) == (11, 11)


@pytest.mark.parametrize(("given", "used", "pictures"), [(None, ["flip"], 2), ((), [], 1)])
def test_frames_are_enrolled_in_the_poses_that_the_bundle_recommends_unless_told_otherwise(
    plain: Bundle, tmp_path: Path, given: tuple[str, ...] | None, used: list[str], pictures: int
) -> None:
    folder = Path(shutil.copytree(plain.path, tmp_path / "bundle"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["enrol"] = {"augment": ["flip"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    engine = CountingEngine(plain)
    root = make_mvtec(tmp_path / "data")
    report = run(root, Bundle.open(folder), tmp_path / "report", shots=(2,), seeds=(0,), augment=given, engine=engine)
    assert engine.pictures == 2 * pictures + 7
    assert report["options"]["augment"] == used


def test_batches_change_no_figure(whole: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data")
    one, three = (run(root, whole, tmp_path / f"{n}", shots=(0, 2), seeds=(0,), batch=n) for n in (1, 3))
    for row, other in zip(one["rows"], three["rows"], strict=True):
        assert row["metrics"] == pytest.approx(other["metrics"], abs=1e-5)


def test_draws_are_without_replacement_prefixes_of_each_other_and_of_their_class_alone(
    plain: Bundle, tmp_path: Path
) -> None:
    root = make_mvtec(tmp_path / "data", ("bolt", "nut"), train=20, good=1, bad=1)
    report = run(root, plain, tmp_path / "all", shots=(1, 4, 16), seeds=(0, 1, 2))
    for name in ("bolt", "nut"):
        for seed in (0, 1, 2):
            drawn = [row_of(report, shots, seed, name)["enrolled"] for shots in (1, 4, 16)]
            assert len(set(drawn[2])) == 16
            assert drawn[0] == drawn[1][:1]
            assert drawn[1] == drawn[2][:4]
            assert all(each.startswith(f"{name}/train/good/") for each in drawn[2])
    assert len({tuple(row_of(report, 4, seed, "bolt")["enrolled"]) for seed in (0, 1, 2)}) == 3
    shutil.rmtree(root / "bolt")
    alone = run(root, plain, tmp_path / "alone", shots=(4,), seeds=(1,))
    assert alone["rows"][0]["enrolled"] == row_of(report, 4, 1, "nut")["enrolled"]


def test_an_interrupted_run_goes_on_at_the_unfinished_class_and_ends_as_if_never_interrupted(
    plain: Bundle, tmp_path: Path
) -> None:
    root = make_mvtec(tmp_path / "data", ("bolt", "nut"))
    options: dict[str, Any] = {"shots": (1, 4), "seeds": (0, 1)}
    straight = run(root, plain, tmp_path / "straight", **options)
    first, second = (work["encoded"] for work in straight["work"])
    with pytest.raises(KeyboardInterrupt):
        run(root, plain, tmp_path / "report", **options, engine=CountingEngine(plain, stop_after=first + second - 2))
    assert not (tmp_path / "report" / "report.json").exists()
    assert not (tmp_path / "report" / ".work" / "maps").exists()
    with pytest.raises(OutputError, match="--resume"):
        run(root, plain, tmp_path / "report", **options)
    with pytest.raises(UsageError, match="found another --shots"):
        run(root, plain, tmp_path / "report", shots=(1, 2), seeds=(0, 1), resume=True)
    engine = CountingEngine(plain)
    report = run(root, plain, tmp_path / "report", **options, resume=True, engine=engine)
    assert engine.pictures == second
    assert without_times(report) == without_times(straight)
    assert not (tmp_path / "report" / ".work").exists()
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == report


def test_resuming_a_finished_report_gives_it_back_and_another_one_is_refused(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data")
    report = run(root, plain, tmp_path / "report", shots=(1,), seeds=(0,))
    engine = CountingEngine(plain)
    assert run(root, plain, tmp_path / "report", shots=(1,), seeds=(0,), resume=True, engine=engine) == report
    assert engine.pictures == 0
    (root / "bolt" / "test" / "good" / "003.png").unlink()
    with pytest.raises(UsageError, match="found another dataset"):
        run(root, plain, tmp_path / "report", shots=(1,), seeds=(0,), resume=True)


def test_the_report_has_its_schema_and_the_csv_a_line_for_each_row(whole: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data")
    report = run(root, whole, tmp_path / "report", shots=(0, 4), seeds=(0, 1))
    assert report["schema"] == "edgevand.report/1"
    assert report["dataset"] == {"root": str(root), "layout": "mvtec", "recognised": None}
    assert report["bundle"]["hash"] == whole.hash
    assert report["published"] == []
    assert [(row["shots"], row["seed"]) for row in report["rows"]] == [(0, 0), (4, 0), (4, 1)]
    row = row_of(report, 4)
    assert row["images"] == {"normal": 4, "anomalous": 3, "unreadable": 0}
    assert row["undefined"] == {}
    assert all(0 <= value <= 1 for value in row["metrics"].values())
    assert row["curves"]["roc"][0][0] == 0
    assert row["curves"]["pro"][0][-1] == pytest.approx(0.3)
    histogram = row["histogram"]
    assert (sum(histogram["normal"]), sum(histogram["anomalous"])) == (4, 3)
    assert len(histogram["edges"]) == len(histogram["normal"]) + 1
    assert histogram["threshold"] == row["calibration"]["threshold"]
    assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"]
    lines = list(csv.DictReader(io.StringIO((tmp_path / "report" / "report.csv").read_text())))
    assert [line["image_auroc"] for line in lines] == [str(row["metrics"]["image_auroc"]) for row in report["rows"]]
    for entry in report["worst"]:
        picture = cv2.imread(str(tmp_path / "report" / "pictures" / f"{entry['picture']}.jpg"))
        assert picture is not None


def test_the_summary_averages_classes_first_and_then_takes_the_spread_over_seeds(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data", ("bolt", "nut"))
    report = run(root, plain, tmp_path / "report", shots=(4,), seeds=(0, 1, 2))
    entries = {entry["class"]: entry for entry in report["summary"]}
    assert list(entries) == ["bolt", "nut", "mean"]
    values = np.array(
        [[row_of(report, 4, seed, name)["metrics"]["pixel_ap"] for seed in (0, 1, 2)] for name in ("bolt", "nut")]
    )
    bolt, mean = (entries[name]["metrics"]["pixel_ap"] for name in ("bolt", "mean"))
    assert (bolt["mean"], bolt["std"], bolt["n"]) == pytest.approx((values[0].mean(), values[0].std(ddof=1), 3))
    averaged = values.mean(axis=0)
    assert (mean["mean"], mean["std"], mean["n"]) == pytest.approx((averaged.mean(), averaged.std(ddof=1), 3))
    assert (mean["classes"], bolt["classes"]) == (2, 1)
    counts = [row["calibration"] for row in report["rows"]]
    assert entries["mean"]["calibration"]["detections"] == sum(each["detections"] for each in counts)
    assert entries["mean"]["calibration"]["normals"] == 24


def test_unreadable_pictures_are_recorded_and_the_run_goes_on(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data", train=5)
    clean = run(root, plain, tmp_path / "clean", shots=(4,), seeds=(0,))
    unread = row_of(clean, 4)["enrolled"][1]
    for name in (unread, "bolt/test/good/001.png", "bolt/test/square/002.png"):
        data = bytearray((root / name).read_bytes())
        data[60:] = bytes(len(data) - 60)  # the header stays whole, so only decoding finds out
        (root / name).write_bytes(data)
    report = run(root, plain, tmp_path / "report", shots=(4,), seeds=(0,))
    assert {failure["image"] for failure in report["failures"]} == {
        unread,
        "bolt/test/good/001.png",
        "bolt/test/square/002.png",
    }
    assert all("damaged" in failure["error"] for failure in report["failures"])
    row = row_of(report, 4)
    assert row["images"] == {"normal": 3, "anomalous": 2, "unreadable": 2}
    assert len(row["scores"]) == 5
    left = [name for name in row_of(clean, 4)["enrolled"] if name != unread]
    assert row["enrolled"][:3] == left
    assert row["metrics"]["pixel_auroc"] is not None


def test_more_shots_than_readable_frames_leave_a_row_without_figures(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data", train=2)
    data = (root / "bolt" / "train" / "good" / "001.png").read_bytes()
    (root / "bolt" / "train" / "good" / "001.png").write_bytes(data[:60] + bytes(len(data) - 60))
    report = run(root, plain, tmp_path / "report", shots=(1, 2), seeds=(0,))
    assert row_of(report, 1)["metrics"]["image_auroc"] is not None
    row = row_of(report, 2)
    assert set(row["metrics"].values()) == {None}
    assert row["undefined"]["image_auroc"] == "only 1 of 2 frames to enrol could be read"


def test_more_shots_than_training_frames_are_refused_at_the_start(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data", ("bolt", "nut"), train=3)
    engine = CountingEngine(plain)
    with pytest.raises(UsageError, match=r"at least 4 training images .* bolt \(3\), nut \(3\)"):
        run(root, plain, tmp_path / "report", shots=(1, 4), engine=engine)
    assert engine.pictures == 0
    assert not (tmp_path / "report").exists()


def test_a_class_without_anomalous_pictures_has_null_metrics_but_a_false_alarm_rate(
    plain: Bundle, tmp_path: Path
) -> None:
    row = row_of(run(make_mvtec(tmp_path / "data", bad=0), plain, tmp_path / "report", shots=(4,), seeds=(0,)), 4)
    assert set(row["metrics"].values()) == {None}
    assert row["undefined"]["image_auroc"].startswith("All 4 images are normal")
    assert "empty" in row["undefined"]["pixel_auroc"] or "no pixel" in row["undefined"]["pixel_auroc"]
    assert row["calibration"]["false_alarm_rate"] == 0
    assert row["calibration"]["detection_rate"] is None
    assert row["curves"] == {"roc": None, "pro": None}


def test_a_single_test_picture_is_judged(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data", good=0, bad=1)
    shutil.rmtree(root / "bolt" / "test" / "good")
    row = row_of(run(root, plain, tmp_path / "report", shots=(4,), seeds=(0,)), 4)
    assert row["metrics"]["image_auroc"] is None
    assert row["undefined"]["image_auroc"].startswith("The only image is anomalous")
    assert row["metrics"]["pixel_auroc"] > 0.5
    assert row["calibration"]["detection_rate"] == 1
    assert row["calibration"]["false_alarm_rate"] is None


def test_empty_masks_leave_pixel_metrics_undefined_and_image_metrics_whole(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data")
    for path in (root / "bolt" / "ground_truth" / "square").iterdir():
        cv2.imwrite(str(path), np.zeros((96, 128), np.uint8))
    row = row_of(run(root, plain, tmp_path / "report", shots=(1,), seeds=(0,)), 1)
    assert row["metrics"]["image_auroc"] == 1
    assert row["metrics"]["pixel_auroc"] is None
    assert "masks are empty" in row["undefined"]["pixel_auroc"]


def test_any_value_above_zero_marks_a_pixel(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data")
    before = row_of(run(root, plain, tmp_path / "before", shots=(1,), seeds=(0,)), 1)
    for value, path in enumerate(sorted((root / "bolt" / "ground_truth" / "square").iterdir()), start=1):
        cv2.imwrite(str(path), np.where(defect_mask() > 0, np.uint8(value), np.uint8(0)))
    after = row_of(run(root, plain, tmp_path / "after", shots=(1,), seeds=(0,)), 1)
    assert before["metrics"] == after["metrics"]


def test_pictures_of_several_sizes_are_judged_together(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data")
    for part in ("test/square/001.png", "ground_truth/square/001_mask.png", "test/good/002.png", "train/good/001.png"):
        path = root / "bolt" / part
        with Image.open(path) as picture:
            larger = picture.resize((200, 110), Image.Resampling.NEAREST)
        larger.save(path)
    row = row_of(run(root, plain, tmp_path / "report", shots=(6,), seeds=(0,)), 6)
    assert row["undefined"] == {}
    assert row["images"] == {"normal": 4, "anomalous": 3, "unreadable": 0}


def test_pictures_of_one_name_in_different_folders_stay_apart(plain: Bundle, tmp_path: Path) -> None:
    row = row_of(run(make_mvtec(tmp_path / "data"), plain, tmp_path / "report", shots=(1,), seeds=(0,)), 1)
    names = [entry["image"] for entry in row["scores"]]
    assert {"bolt/test/good/000.png", "bolt/test/square/000.png"} <= set(names)
    assert len(set(names)) == 7


def test_a_dataset_without_masks_has_image_metrics_only(plain: Bundle, tmp_path: Path) -> None:
    write_parts(tmp_path / "line" / "train" / "good", "......")
    write_parts(tmp_path / "line" / "test" / "good", "...", start=100)
    write_parts(tmp_path / "line" / "test" / "odd", "xxx", start=200)
    report = run(tmp_path / "line", plain, tmp_path / "report", shots=(1,), seeds=(0,))
    row = row_of(report, 1)
    assert (report["dataset"]["layout"], row["class"]) == ("folder", "line")
    assert row["metrics"]["image_auroc"] == 1
    assert row["undefined"]["pro"] == "the dataset has no masks"


def test_without_text_there_is_no_zero_shot_row_and_without_heads_no_zero_shot_map(
    plain: Bundle, tmp_path: Path
) -> None:
    root = make_mvtec(tmp_path / "data")
    row = row_of(run(root, plain, tmp_path / "plain", shots=(0, 1), seeds=(0,)), 0)
    assert set(row["metrics"].values()) == {None}
    assert "no text embeddings" in row["undefined"]["image_auroc"]
    assert "no text embeddings" in row["undefined"]["pixel_auroc"]
    told = write_tiny_bundle(tmp_path / "told", objects=("object",))
    row = row_of(run(root, told, tmp_path / "told-report", shots=(0,), seeds=(0,)), 0)
    assert row["object"] == "object"
    assert row["metrics"]["image_auroc"] is not None
    assert "no heads" in row["undefined"]["pixel_auroc"]


def test_the_text_is_the_classs_own_else_the_general_one_or_the_one_asked_for(whole: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data", ("bolt", "nut"))
    report = run(root, whole, tmp_path / "own", shots=(0, 1), seeds=(0,))
    assert [(row["class"], row["object"]) for row in report["rows"]] == [
        ("bolt", "bolt"),
        ("bolt", "bolt"),
        ("nut", "object"),
        ("nut", "object"),
    ]
    asked = run(root, whole, tmp_path / "asked", shots=(0,), seeds=(0,), object_name="bolt")
    assert {row["object"] for row in asked["rows"]} == {"bolt"}
    narrow = write_tiny_bundle(tmp_path / "narrow", heads=True, objects=("bolt", "cable"))
    with pytest.raises(UsageError, match="text embeddings of 'nut' or of 'object'"):
        run(root, narrow, tmp_path / "none", shots=(0,))


def test_the_released_rule_is_the_min_max_over_the_test_set_and_leaves_zero_shot_and_threshold_alone(
    whole: Bundle, tmp_path: Path
) -> None:
    root = make_mvtec(tmp_path / "data")
    stream = run(root, whole, tmp_path / "stream", shots=(0, 4), seeds=(0,))
    released = run(root, whole, tmp_path / "released", shots=(0, 4), seeds=(0,), score_rule="released")
    scores = row_of(released, 4)["scores"]
    tops = np.array([entry["map_max"] for entry in scores])
    texts = np.array([entry["text_score"] for entry in scores])
    expected = 0.5 * (texts + (tops - tops.min()) / (tops.max() - tops.min()))
    assert [entry["used"] for entry in scores] == pytest.approx(expected.tolist())
    labels = [entry["anomalous"] for entry in scores]
    assert row_of(released, 4)["metrics"]["image_ap"] == pytest.approx(average_precision_score(labels, expected))
    assert row_of(released, 0)["metrics"] == row_of(stream, 0)["metrics"]
    assert row_of(released, 4)["calibration"] == row_of(stream, 4)["calibration"]
    assert row_of(released, 4)["histogram"]["threshold"] is None
    assert released["options"]["score_rule"] == "released"


def test_the_released_rule_is_undefined_where_the_maxima_do_not_differ(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data", good=0, bad=1)
    shutil.rmtree(root / "bolt" / "test" / "good")
    row = row_of(run(root, plain, tmp_path / "r", shots=(1,), seeds=(0,), score_rule="released"), 1)
    assert row["metrics"]["image_auroc"] is None
    assert "spread" in row["undefined"]["image_auroc"]
    assert row["metrics"]["pixel_auroc"] is not None


def test_ordered_enrols_the_first_frames_in_natural_order_and_shows_drift_by_thirds(
    plain: Bundle, tmp_path: Path
) -> None:
    line = tmp_path / "line"
    for folder, numbers in (("train/good", range(1, 13)), ("test/good", range(20, 140, 13)), ("test/odd", [200])):
        (line / folder).mkdir(parents=True)
        for number in numbers:
            brighter = draw_part(number).astype(np.int64) + (number - 20 if number < 200 else 100)
            cv2.imwrite(str(line / folder / f"{number}.png"), brighter.clip(0, 255).astype(np.uint8))
    report = run(line, plain, tmp_path / "report", shots=(4, 10), seeds=(5, 6), ordered=True)
    assert [(row["shots"], row["seed"]) for row in report["rows"]] == [(4, 5), (10, 5)]
    row = row_of(report, 4, 5)
    assert row["enrolled"] == [f"train/good/{number}.png" for number in (1, 2, 3, 4)]
    assert [part["third"] for part in row["ordered"]] == ["first", "middle", "last"]
    assert [part["normals"] for part in row["ordered"]] == [4, 3, 3]
    by_name = {entry["image"]: entry for entry in row["scores"]}
    normal = [by_name[f"test/good/{number}.png"] for number in range(20, 140, 13)]
    medians = [
        float(np.median([entry["raw_score"] for entry in part])) for part in (normal[:4], normal[4:7], normal[7:])
    ]
    assert [part["median_score"] for part in row["ordered"]] == pytest.approx(medians)
    assert medians == sorted(medians)
    alarms = [sum(entry["called_anomalous"] for entry in part) for part in (normal[:4], normal[4:7], normal[7:])]
    assert [part["false_alarms"] for part in row["ordered"]] == alarms
    assert sum(alarms) == row["calibration"]["false_alarms"]
    assert row_of(run(line, plain, tmp_path / "drawn", shots=(4,), seeds=(0,)), 4)["ordered"] is None


def test_loco_adds_each_kind_by_itself_and_spro_at_the_pictures_size(plain: Bundle, tmp_path: Path) -> None:
    root = make_loco(tmp_path / "loco")
    row = row_of(run(root, plain, tmp_path / "report", shots=(4,), seeds=(0,)), 4)
    assert row["undefined"] == {}
    lines, maps, _ = scored(root, plain, row, tmp_path)
    scores = np.array([line["raw_score"] for line in lines])
    kinds = np.array([entry["kind"] for entry in row["scores"]])
    found = row["metrics"]
    areas = []
    for short, folder in (("structural", "structural_anomalies"), ("logical", "logical_anomalies")):
        chosen = (kinds == "good") | (kinds == folder)
        expected = roc_auc_score(kinds[chosen] == folder, scores[chosen])
        assert found[f"image_auroc_{short}"] == pytest.approx(expected)
        areas.append(naive_spro(root, row, maps, chosen, limit=0.05))
        assert found[f"spro_{short}_0.05"] == pytest.approx(areas[-1], abs=1e-4)
    assert found["image_auroc_kinds"] == pytest.approx(
        (found["image_auroc_structural"] + found["image_auroc_logical"]) / 2
    )
    assert found["spro_0.05"] == pytest.approx(sum(areas) / 2, abs=1e-4)
    assert {f"spro_{limit}" for limit in (0.01, 0.05, 0.1, 0.3, 1.0)} <= set(found)


def naive_spro(
    root: Path, row: dict[str, Any], maps: list[NDArray[np.float32]], chosen: NDArray[np.bool_], limit: float
) -> float:
    """AU-sPRO by its definition: every distinct score as a threshold."""
    overlaps, defects, free = [], [], []
    for place in np.flatnonzero(chosen):
        raw = cv2.resize(maps[place], (128, 96), interpolation=cv2.INTER_LINEAR)
        entry = row["scores"][place]
        union = np.zeros(raw.shape, bool)
        folder = root / "bag" / "ground_truth" / entry["kind"] / entry["image"].rsplit("/", 1)[1].removesuffix(".png")
        for path in sorted(folder.glob("*.png")) if folder.is_dir() else []:
            mask = np.asarray(Image.open(path))
            size = int((mask > 0).sum())
            saturation = {1: size, 2: int(0.5 * size), 3: 100}[int(mask.max())]
            defects.append((np.sort(raw[mask > 0]), saturation))
            union |= mask > 0
        free.append(raw[~union])
    background = np.sort(np.concatenate(free))
    everything = np.unique(np.concatenate([background, *(scores for scores, _ in defects)]))[::-1]
    rates = 1 - np.searchsorted(background, everything, "left") / background.size
    overlaps = [
        np.minimum((scores.size - np.searchsorted(scores, everything, "left")) / saturation, 1)
        for scores, saturation in defects
    ]
    x = np.concatenate([[0], rates])
    y = np.concatenate([[0], np.mean(overlaps, axis=0)])
    inside = x <= limit
    x, y = np.append(x[inside], limit), np.append(y[inside], np.interp(limit, x, y))
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / limit)


def test_a_loco_mask_that_no_entry_explains_is_a_failure_of_its_picture_and_not_of_the_run(
    plain: Bundle, tmp_path: Path
) -> None:
    root = make_loco(tmp_path / "loco")
    path = root / "bag" / "ground_truth" / "logical_anomalies" / "001" / "001.png"
    Image.fromarray(np.where(defect_mask() > 0, np.uint8(77), np.uint8(0))).save(path)
    report = run(root, plain, tmp_path / "report", shots=(1,), seeds=(0,))
    (failure,) = report["failures"]
    assert failure["image"] == "bag/test/logical_anomalies/001.png"
    assert "77" in failure["error"]
    row = row_of(report, 1)
    assert row["images"] == {"normal": 4, "anomalous": 3, "unreadable": 1}
    assert row["metrics"]["spro_0.05"] is not None


def test_without_training_frames_an_ordered_run_enrols_the_first_normal_test_frames_and_judges_the_others(
    plain: Bundle, tmp_path: Path
) -> None:
    dataset = open_dataset(make_mvtec(tmp_path / "data", good=6))
    (only,) = dataset.classes
    dataset = replace(dataset, classes=(replace(only, train=()),))
    engine = open_engine(plain, threads=1)
    options = EvaluateOptions(shots=(1, 4), ordered=True)
    report = evaluate(dataset, plain, engine, tmp_path / "report", options, html=False)
    assert row_of(report, 4)["enrolled"] == [f"bolt/test/good/{number:03d}.png" for number in range(4)]
    judged = [entry["image"] for entry in row_of(report, 4)["scores"] if not entry["anomalous"]]
    assert judged == ["bolt/test/good/004.png", "bolt/test/good/005.png"]
    assert [row_of(report, shots)["images"]["normal"] for shots in (1, 4)] == [5, 2]


def test_a_full_disk_ends_the_run_with_a_sentence_and_what_is_finished_stays(
    plain: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_mvtec(tmp_path / "data", ("bolt", "nut"))
    written: list[int] = []
    append = MapFile.append

    def until_full(self: MapFile, raw_map: NDArray[np.float32]) -> None:
        written.append(1)
        if len(written) > 10:
            monkeypatch.setattr(self, "_file", Full())
        append(self, raw_map)

    class Full:
        def write(self, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr(MapFile, "append", until_full)
    with pytest.raises(OutputError, match="the disk is full"):
        run(root, plain, tmp_path / "report", shots=(1,), seeds=(0,))
    assert [path.name for path in (tmp_path / "report" / ".work" / "classes").iterdir()] == ["0000.json"]
    assert not (tmp_path / "report" / ".work" / "maps").exists()


def test_aufc_is_there_with_one_two_four_and_eight_shots(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data", train=8)
    report = run(root, plain, tmp_path / "report", shots=(1, 2, 4, 8), seeds=(0, 1))
    means = {k: np.mean([row_of(report, k, seed)["metrics"]["image_f1_max"] for seed in (0, 1)]) for k in (1, 2, 4, 8)}
    raw = sum((b - a) * (means[a] + means[b]) / 2 for a, b in ((1, 2), (2, 4), (4, 8)))
    assert report["aufc"]["raw"] == pytest.approx(raw)
    assert report["aufc"]["normalised"] == pytest.approx(raw / 7)
    other = run(root, plain, tmp_path / "other", shots=(1, 2), seeds=(0,))
    assert other["aufc"] is None
    assert "1, 2, 4 and 8" in other["aufc_reason"]


def test_a_recognised_dataset_has_the_published_rows_beside_the_measured_ones(plain: Bundle, tmp_path: Path) -> None:
    names = (
        "bottle",
        "cable",
        "capsule",
        "carpet",
        "grid",
        "hazelnut",
        "leather",
        "metal_nut",
        "pill",
        "screw",
        "tile",
        "toothbrush",
        "transistor",
        "wood",
        "zipper",
    )
    root = make_mvtec(tmp_path / "data", names, train=1, good=1, bad=1)
    report = run(root, plain, tmp_path / "report", shots=(1,), seeds=(0,))
    assert report["dataset"]["recognised"] == "MVTec AD"
    rows = {(row["source"].split(" ")[0], row["class"], row["shots"]): row["metrics"] for row in report["published"]}
    assert rows["APRIL-GAN", "mean", 1]["image_auroc"] == 0.92
    assert rows["APRIL-GAN", "zipper", 0]["pro_released"] == 0.107
    assert rows["AnomalyDINO", "mean", 4] == {"image_auroc": 0.977}


def test_published_means_stand_beside_means_over_the_same_classes_only() -> None:
    assert published_rows(None, ["zipper"]) == []
    rows = published_rows("MVTec AD", ["zipper", "wood"])
    assert {row["class"] for row in rows} == {"zipper", "wood"}
    loco = ["breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors"]
    rows = published_rows("MVTec LOCO", loco)
    (mean,) = [row for row in rows if row["class"] == "mean" and row["source"].startswith("USTC")]
    assert (mean["shots"], mean["metrics"]["image_f1_max"]) == (None, 0.785)
    assert all(0 <= value <= 1 for row in rows for value in row["metrics"].values())


def test_a_run_that_is_under_way_is_not_disturbed_by_another(plain: Bundle, tmp_path: Path) -> None:
    root = make_mvtec(tmp_path / "data")
    other: list[str] = []

    class Meddling(CountingEngine):
        def run(self, images: NDArray[np.float32], text: Any) -> Any:
            if not other:
                other.append("")
                with pytest.raises(OutputError, match="another at work"):
                    run(root, plain, tmp_path / "report", shots=(1,), seeds=(0,), resume=True)
            return super().run(images, text)

    assert run(root, plain, tmp_path / "report", shots=(1,), seeds=(0,), engine=Meddling(plain))["rows"]
    assert other


def test_what_the_page_lacks_is_said_before_anything_is_encoded(
    plain: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    engine = CountingEngine(plain)
    with pytest.raises(MissingDependencyError, match="--no-html"):
        evaluate(
            open_dataset(make_mvtec(tmp_path / "data")), plain, engine, tmp_path / "report", EvaluateOptions(shots=(1,))
        )
    assert engine.pictures == 0
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"shots": ()}, "--shots"),
        ({"shots": (1, 1)}, "--shots"),
        ({"seeds": (-1,)}, "--seeds"),
        ({"score_rule": "median"}, "--score-rule"),
        ({"false_alarm_rate": 1.0}, "--false-alarm-rate"),
        ({"augment": ("shear",)}, "--augment"),
        ({"batch": 0}, "--batch"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        EvaluateOptions(**options)
