from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevand.errors import BadInputError
from edgevand.tensors import write_tensors
from edgevand_export.heads import Heads, check_heads, read_heads, write_heads
from edgevand_export.towers import Tower
from tests.export.models import DIM, random_heads

REFERENCE = Path(__file__).resolve().parent.parent / "golden" / "april-gan" / "heads.pth"
TOWER = Tower(torch.nn.Identity(), "vit", (32, 32), (2, 4), (32, 32), ((4, 4), (4, 4)))


def test_the_references_checkpoint_is_read_in_the_order_of_its_stages() -> None:
    heads = read_heads(REFERENCE)
    raw = torch.load(REFERENCE, weights_only=True)["trainable_linearlayer"]
    assert (heads.stages, heads.activation, len(heads.layers)) == (None, None, 4)
    for number, (weight, bias) in enumerate(heads.layers):
        torch.testing.assert_close(weight, raw[f"fc.{number}.weight"], rtol=0, atol=0)
        torch.testing.assert_close(bias, raw[f"fc.{number}.bias"], rtol=0, atol=0)


def test_own_heads_come_back_with_all_that_was_recorded(tmp_path: Path) -> None:
    heads = Heads(random_heads((32, 32)).layers, (2, 4), "quick-gelu", "drawings")
    write_heads(tmp_path / "heads.safetensors", heads)
    read = read_heads(tmp_path / "heads.safetensors")
    assert (read.stages, read.activation, read.trained_on) == ((2, 4), "quick-gelu", "drawings")
    torch.testing.assert_close(read.layers, heads.layers, rtol=0, atol=0)


def test_heads_without_stages_or_activation_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"stages and activation"):
        write_heads(tmp_path / "heads.safetensors", random_heads((32,)))


def test_heads_are_given_to_the_stages_they_belong_to() -> None:
    assert set(check_heads(random_heads((32, 32)), TOWER, DIM)) == {2, 4}
    assert set(check_heads(random_heads((32,), (4,)), TOWER, DIM)) == {4}


@pytest.mark.parametrize(
    ("heads", "sentence"),
    [
        (random_heads((32, 32, 32)), "expected 2 heads for the stages 2,4, found 3"),
        (random_heads((32,), (3,)), "expected heads of the stages 2,4, found heads of 3"),
        (random_heads((32, 16)), f"expected a head 32 -> {DIM} for stage 4, found 16 -> {DIM}"),
    ],
)
def test_heads_of_another_model_are_refused(heads: Heads, sentence: str) -> None:
    with pytest.raises(BadInputError, match=sentence):
        check_heads(heads, TOWER, DIM)


def test_heads_for_text_of_another_length_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"expected a head 32 -> 7 for stage 2"):
        check_heads(random_heads((32, 32)), TOWER, 7)


def reference_file(path: Path, tensors: dict[str, Any], key: str = "trainable_linearlayer") -> Path:
    torch.save({key: tensors}, path)
    return path


GOOD = {"fc.0.weight": torch.zeros(3, 4), "fc.0.bias": torch.zeros(3)}


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({**GOOD, "fc.0.bias": torch.full((3,), float("nan"))}, "finite numbers in head 1 of .*NaN or infinity"),
        ({"fc.0.weight": GOOD["fc.0.weight"]}, "expected the tensors fc.0.bias, fc.0.weight .*found fc.0.weight;"),
        ({**GOOD, "fc.2.weight": GOOD["fc.0.weight"]}, "expected the tensors fc.0.bias"),
        ({**GOOD, "fc.0.bias": torch.zeros(4)}, r"found \(3, 4\) and \(4,\)"),
        ({}, "found none"),
    ],
)
def test_a_reference_checkpoint_that_is_not_whole_is_refused(
    tensors: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=sentence):
        read_heads(reference_file(tmp_path / "heads.pth", tensors))


def test_a_checkpoint_without_the_references_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"expected the key trainable_linearlayer in .*found model"):
        read_heads(reference_file(tmp_path / "heads.pth", GOOD, "model"))


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        """What an unpickler would run."""
        return (Path.touch, (self.target,))


def test_a_pickle_is_refused_before_it_runs(tmp_path: Path) -> None:
    (tmp_path / "heads.pth").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    torch.save({"trainable_linearlayer": Payload(tmp_path / "ran")}, tmp_path / "zipped.pth")
    for name in ("heads.pth", "zipped.pth"):
        with pytest.raises(BadInputError, match=r"cannot read with weights only"):
            read_heads(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({}, "expected heads of schema edgevand.heads/1"),
        ({"schema": "edgevand.heads/1", "activation": "relu", "stages": "2"}, "expected the activation gelu"),
        ({"schema": "edgevand.heads/1", "activation": "gelu", "stages": "2;4"}, "expected stages such as"),
        ({"schema": "edgevand.heads/1", "activation": "gelu", "stages": "2,4"}, "expected the tensors stage.2.bias"),
    ],
)
def test_own_heads_with_wrong_records_are_refused(metadata: dict[str, str], sentence: str, tmp_path: Path) -> None:
    tensors = {"stage.2.weight": torch.zeros(3, 4).numpy(), "stage.2.bias": torch.zeros(3).numpy()}
    write_tensors(tmp_path / "heads.safetensors", tensors, metadata)
    with pytest.raises(BadInputError, match=sentence):
        read_heads(tmp_path / "heads.safetensors")


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"found nothing at .*heads.pth"):
        read_heads(tmp_path / "heads.pth")
