"""The bank on the GPU, against float64 and the processor's search; CuPy and cuBLAS are fakes of their interfaces."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import device_bank
from edgevand_runtime.engines.device_bank import DeviceBank, DeviceEngine, DeviceTokens
from edgevand_runtime.engines.tensorrt import TensorRTEngine, open_tensorrt
from edgevand_runtime.engines.tensorrt_build import BuildOptions, build_engine
from edgevand_runtime.features import make_memory
from edgevand_runtime.frame import Frame
from edgevand_runtime.memory import MemoryBank
from edgevand_runtime.methods.choosing import seen_as
from tests.runtime.fake_gpu import cupy
from tests.runtime.test_tensorrt import _fakes, fault  # noqa: F401 - a fixture
from tests.tiny import draw_part, enrol_tiny, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def unit(*shape: int, seed: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).normal(size=shape)
    found: NDArray[np.float32] = (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)
    return found


def on_device(tokens: NDArray[np.float32]) -> DeviceTokens:
    return DeviceTokens(cupy.asarray(tokens))


def make_bank(tokens: list[NDArray[np.float32]]) -> DeviceBank:
    return DeviceBank(MemoryBank(tokens), cupy, 0, cupy.Stream(non_blocking=True))


@pytest.mark.parametrize("block", [1 << 26, 4 * 2 * 9 * 10, 1])
def test_distances_are_those_of_half_precision_vectors_in_float64_whatever_the_block(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(device_bank, "_BLOCK", block)
    tokens = [unit(3, 2, 9, 16, seed=1), unit(3, 2, 4, 40, seed=2)]
    queries = [unit(2, 9, 16, seed=3), unit(2, 4, 40, seed=4)]
    found = make_bank(tokens).distances([on_device(query) for query in queries])
    for distances, bank, query in zip(found, tokens, queries, strict=True):
        rows = bank.reshape(-1, bank.shape[-1]).astype(np.float16).astype(np.float64)
        halves = query.astype(np.float16).astype(np.float64)
        np.testing.assert_allclose(distances, 1 - (halves @ rows.T).max(axis=-1), atol=1e-6)
        exact = 1 - (query.astype(np.float64) @ bank.reshape(-1, bank.shape[-1]).astype(np.float64).T).max(axis=-1)
        np.testing.assert_allclose(distances, exact, atol=1e-3)


def test_tokens_that_a_method_changed_on_the_host_are_searched_for_as_well() -> None:
    tokens, query = unit(2, 1, 9, 16, seed=7), unit(2, 9, 16, seed=8)
    bank = make_bank([tokens])
    np.testing.assert_array_equal(bank.distances([query])[0], bank.distances([on_device(query)])[0])


def test_an_enrolled_patch_is_at_no_distance_although_its_cosine_is_of_halves() -> None:
    tokens = unit(1, 1, 9, 1024, seed=5)
    assert np.abs(make_bank([tokens]).distances([on_device(tokens[:, 0])])[0]).max() < 5e-4


def test_what_is_read_of_the_tokens_comes_down() -> None:
    tokens = unit(2, 9, 16, seed=6)
    held = on_device(tokens)
    assert (len(held), held.shape) == (2, (2, 9, 16))
    np.testing.assert_array_equal(held[1], tokens[1])
    np.testing.assert_array_equal(np.asarray(held), tokens)
    assert type(held[1]) is np.ndarray


@pytest.fixture
def detectors(tmp_path: Path) -> Any:
    """Two detectors of one bank: by the GPU's engine, and by the same one with the search on the processor."""
    bundle = write_tiny_bundle(tmp_path / "bundle", heads=True, objects=("part",))
    bank = enrol_tiny(bundle, tmp_path / "bank")
    build_engine(bundle, BuildOptions(batch=2))

    def open_both() -> tuple[Detector, Detector]:
        by_gpu, by_cpu = (open_tensorrt(bundle, "auto", None, "tensorrt") for _ in range(2))
        assert isinstance(by_gpu, DeviceEngine)
        plain = Detector(bundle, by_cpu, bank, memory=MemoryBank([bank.features["tokens_1"]]))
        return Detector(bundle, by_gpu, bank), plain

    return open_both


def pictures() -> list[Frame]:
    return [Frame(draw_part(i, defective=i == 2), i, "drawn", datetime.now(timezone.utc), 0.0) for i in range(3)]


def test_a_detector_scores_alike_with_the_bank_on_the_gpu_and_on_the_processor(detectors: Any) -> None:
    by_gpu, by_cpu = detectors()
    assert isinstance(by_gpu.encode([by_gpu.preprocess(pictures()[0])]).tokens[0], DeviceTokens)
    assert type(by_cpu.encode([by_cpu.preprocess(pictures()[0])]).tokens[0]) is np.ndarray
    for ours, theirs in zip(by_gpu.detect(pictures()), by_cpu.detect(pictures()), strict=True):
        assert ours.raw_score == pytest.approx(theirs.raw_score, abs=1e-3)
        assert ours.anomalous == theirs.anomalous
        np.testing.assert_allclose(ours.raw_map, theirs.raw_map, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [({"locality": 1}, np.ndarray), ({"neighbourhood": 3}, DeviceTokens)],
    ids=["near", "averaged"],
)
def test_levers_of_the_search_score_alike_on_the_gpu_or_leave_it_to_the_processor(
    settings: dict[str, Any], kind: type, tmp_path: Path
) -> None:
    bundle = seen_as(write_tiny_bundle(tmp_path / "bundle", heads=True, objects=("part",)), settings=settings)
    bank = enrol_tiny(bundle, tmp_path / "bank")
    build_engine(bundle, BuildOptions(batch=2))
    by_gpu, by_cpu = (open_tensorrt(bundle, "auto", None, "tensorrt") for _ in range(2))
    memory = make_memory(bundle.manifest, [bank.features["tokens_1"]])
    detector, plain = Detector(bundle, by_gpu, bank), Detector(bundle, by_cpu, bank, memory=memory)
    assert isinstance(detector.encode([detector.preprocess(pictures()[0])]).tokens[0], kind)
    for ours, theirs in zip(detector.detect(pictures()), plain.detect(pictures()), strict=True):
        assert ours.raw_score == pytest.approx(theirs.raw_score, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "words"), [("gemm", "cannot on NVIDIA RTX 4090: CUBLAS_STATUS"), ("skewed", "differs by")]
)
def test_a_gpu_that_cannot_search_or_finds_other_distances_leaves_it_to_the_processor(
    detectors: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, words: str
) -> None:
    fault(monkeypatch, name)
    detector, plain = detectors()
    assert words in caplog.text
    assert type(detector.encode([detector.preprocess(pictures()[0])]).tokens[0]) is np.ndarray
    ours, theirs = ([result.raw_score for result in each.detect(pictures())] for each in (detector, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert isinstance(detector.engine, TensorRTEngine)
