"""The runtime's numbers are the reference implementation's: tests/golden/README.md says where they come from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.bank import Bank
from edgevand.bundle import Bundle
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "april-gan"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
TESTS = sorted(EXPECTED["tests"])


def edgevand(*arguments: str | Path, home: Path) -> str:
    """Run the command line as a person would; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "edgevand", *map(str, arguments)],
        env={**os.environ, "EDGEVAND_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def arrays() -> dict[str, NDArray[np.float32]]:
    with np.load(GOLDEN / "expected.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden-home")


@pytest.fixture(scope="module")
def bundle(home: Path) -> Path:
    pytest.importorskip("open_clip", reason="exporting needs the extra edgevand[export]")
    target = home / "bundle"
    edgevand(
        "export", "--model", GOLDEN / "golden-vit.json", "--pretrained", GOLDEN / "clip.safetensors",
        "--heads", GOLDEN / "heads.pth", "--image-size", "112", "--object", "bottle", "--object", "metal nut",
        "-o", target, home=home,
    )  # fmt: skip
    return target


@pytest.fixture(scope="module")
def normals(home: Path) -> Path:
    folder = home / "normal"
    folder.mkdir()
    for name in EXPECTED["normals"]:
        (folder / name).write_bytes((GOLDEN / "images" / name).read_bytes())
    return folder


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param, reason=f"needs the extra edgevand[{request.param}]")
    return str(request.param)


@pytest.fixture(scope="module")
def bank(bundle: Path, normals: Path, home: Path, backend: str) -> Path:
    target = home / f"bank-{backend}"
    edgevand(
        "enroll", "--source", normals, "--shots", "3", "--object", "bottle", "--bundle", bundle, "--backend", backend,
        "-o", target, home=home,
    )  # fmt: skip
    return target


def check_few_shot(results: Mapping[str, Mapping[str, Any]], maps: Mapping[str, NDArray[np.float32]]) -> None:
    expected_maps = np.load(GOLDEN / "expected.npz")
    for name in TESTS:
        expected = EXPECTED["tests"][name]
        assert results[name]["text_score"] == pytest.approx(expected["zero_shot_score"], abs=1e-5)
        assert results[name]["map_max"] == pytest.approx(expected["map_max"], abs=1e-4)
        raw = expected["zero_shot_score"] + expected["map_max"]
        assert results[name]["raw_score"] == pytest.approx(raw, abs=1.1e-4)
        np.testing.assert_allclose(maps[name], expected_maps[f"{Path(name).stem}_map"], atol=1e-4)
        assert maps[name].dtype == np.float32


@pytest.mark.parametrize("batch", [1, 4])
def test_score_with_a_bank_reproduces_the_reference_through_the_command_line(
    batch: int, bundle: Path, bank: Path, home: Path, tmp_path: Path, backend: str
) -> None:
    lines = edgevand(
        "score", "--bundle", bundle, "--bank", bank, "--batch", str(batch), "--maps", tmp_path / "maps",
        "--backend", backend, *(GOLDEN / "images" / name for name in TESTS), home=home,
    )  # fmt: skip
    results = {Path(result["source"]).name: result for result in map(json.loads, lines.splitlines())}
    assert all(result["engine"].startswith(f"{backend}:") for result in results.values())
    check_few_shot(results, {name: np.load(tmp_path / "maps" / f"{Path(name).stem}.npy") for name in TESTS})


def test_score_without_a_bank_reproduces_the_zero_shot_reference_through_the_command_line(
    bundle: Path, home: Path, tmp_path: Path, arrays: dict[str, NDArray[np.float32]], backend: str
) -> None:
    lines = edgevand(
        "score", "--bundle", bundle, "--object", "bottle", "--maps", tmp_path / "maps", "--backend", backend,
        *(GOLDEN / "images" / name for name in TESTS), home=home,
    )  # fmt: skip
    for result in map(json.loads, lines.splitlines()):
        stem = Path(result["source"]).stem
        expected = EXPECTED["tests"][f"{stem}.png"]
        assert result["text_score"] == pytest.approx(expected["zero_shot_score"], abs=1e-5)
        assert result["raw_score"] == result["text_score"]
        assert (result["score"], result["anomalous"], result["bank"]) == (None, None, None)
        np.testing.assert_allclose(
            np.load(tmp_path / "maps" / f"{stem}.npy"), arrays[f"{stem}_zero_shot_map"], atol=1e-4
        )


@pytest.mark.parametrize("batch", [1, 4])
def test_the_python_interface_reproduces_the_reference(
    batch: int, bundle: Path, normals: Path, tmp_path: Path, backend: str
) -> None:
    opened = Bundle.open(bundle)
    with open_source(normals) as source:
        engine = open_engine(opened, backend=backend)
        done = enroll(source, opened, engine, tmp_path / "bank", EnrolOptions(shots=3, object_name="bottle"))
        engine.close()
    frames = [next(open_source(GOLDEN / "images" / name)) for name in TESTS]
    with Detector.open(opened, Bank.open(done.bank.path, opened), backend=backend) as detector:
        results = [
            result
            for start in range(0, len(frames), batch)
            for result in detector.detect(frames[start : start + batch])
        ]
    maps = {name: result.raw_map for name, result in zip(TESTS, results, strict=True) if result.raw_map is not None}
    check_few_shot({name: result.to_json() for name, result in zip(TESTS, results, strict=True)}, maps)


def test_text_embeddings_of_the_bundle_are_the_references(bundle: Path, arrays: dict[str, NDArray[np.float32]]) -> None:
    texts = Bundle.open(bundle).texts()
    for name in EXPECTED["objects"]:
        np.testing.assert_allclose(texts[name].T, arrays[f"text_{name.replace(' ', '_')}"], atol=1e-5)


def test_preprocessed_pixels_are_the_references(
    bundle: Path, bank: Path, arrays: dict[str, NDArray[np.float32]]
) -> None:
    opened = Bundle.open(bundle)
    with Detector.open(opened, Bank.open(bank, opened)) as detector:
        for name in TESTS:
            frame = next(open_source(GOLDEN / "images" / name))
            np.testing.assert_allclose(
                np.asarray(detector.preprocess(frame)), arrays[f"{Path(name).stem}_pixels"], atol=1e-5
            )
