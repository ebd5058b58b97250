"""Parity on the device: passes for what torch computed, fails for a graph or an engine that differs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand_runtime.engines import EncoderOutput, open_engine
from edgevand_runtime.verify import check_parity
from tests.tiny import write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle


class Skewed:
    """An engine whose outputs are changed on their way."""

    name = "skewed"

    def __init__(self, bundle: Bundle, change: Any) -> None:
        self._engine, self._change = open_engine(bundle, threads=1), change
        self.precision = self._engine.precision

    def run(self, images: NDArray[np.float32], text: NDArray[np.float32] | None) -> EncoderOutput:
        changed: EncoderOutput = self._change(self._engine.run(images, text), len(images))
        return changed

    def close(self) -> None:
        self._engine.close()


def tokens_plus(difference: float) -> Any:
    return lambda output, _: replace(output, tokens=(output.tokens[0] + np.float32(difference),))


@pytest.mark.parametrize("heads", [False, True])
def test_a_bundle_as_it_was_exported_passes_on_every_output_map_and_score(tmp_path: Path, *, heads: bool) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", heads=heads, objects=["bottle"] if heads else ())
    report = check_parity(bundle, open_engine(bundle, threads=1))
    assert report.passed
    names = [check.name for check in report.checks]
    assert names == ["embedding", "tokens_1", *(["logits_1"] if heads else []), "map", "score"]
    assert all(check.max_abs is not None and check.max_abs < 1e-3 for check in report.checks)
    assert all(check.cosine is None or check.cosine > 0.999999 for check in report.checks)
    assert report.frames == 2


@pytest.mark.parametrize(("precision", "difference", "passed"), [("fp32", 1e-5, True), ("fp32", 5e-3, False)])
def test_a_difference_beyond_the_limit_fails_and_is_named(
    tmp_path: Path, precision: str, difference: float, *, passed: bool
) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", precision=precision)
    report = check_parity(bundle, Skewed(bundle, tokens_plus(difference)))
    assert report.passed == passed
    (tokens,) = [check for check in report.checks if check.name == "tokens_1"]
    assert tokens.passed == passed
    assert tokens.max_abs == pytest.approx(difference, rel=0.05)


def test_half_precision_is_held_to_cosines_and_the_range_of_the_map(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", precision="fp16")
    assert check_parity(bundle, Skewed(bundle, tokens_plus(2e-3))).passed
    report = check_parity(bundle, Skewed(bundle, tokens_plus(0.2)))
    assert {check.name: check.passed for check in report.checks}["tokens_1"] is False


def test_an_engine_that_is_right_alone_and_wrong_in_a_batch_fails(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")

    def mix(output: EncoderOutput, count: int) -> EncoderOutput:
        return replace(output, embedding=output.embedding[::-1]) if count > 1 else output

    report = check_parity(bundle, Skewed(bundle, mix))
    assert [check.name for check in report.checks if not check.passed] == ["embedding"]


def test_an_output_that_is_not_finite_fails_and_the_report_is_still_json(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")

    def poison(output: EncoderOutput, _: int) -> EncoderOutput:
        return replace(output, tokens=(np.where(output.tokens[0] > 0.5, np.nan, output.tokens[0]),))

    report = check_parity(bundle, Skewed(bundle, poison))
    assert not report.passed
    assert {check["name"]: check["max_abs"] for check in report.to_json()["checks"]}["tokens_1"] is None
