"""Towers of timm without text: against timm's own network, and refused where they do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from edgevand.bundle import ImageRecord
from edgevand.errors import BadInputError, UnavailableError, UsageError
from edgevand.home import weights_dir
from edgevand_export import weights
from edgevand_export.export import ExportOptions, export_bundle, export_text
from edgevand_export.golden import normalise
from edgevand_export.textless import build_trunk, find_trunk
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.enroll import EnrolOptions, enroll
from edgevand_runtime.sources import open_source

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bundle import Bundle

SIDE = 96  # the network's own is 160: its positional table is resized


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of timm's smallest ViT, its classifier included."""
    torch.manual_seed(3)
    network = timm.create_model("test_vit", pretrained=False)
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file({name: each.contiguous() for name, each in network.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def bundle(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = tmp_path_factory.mktemp("bundles") / "vit"
    options = ExportOptions(model="timm:test_vit", pretrained=str(state), image_size=SIDE, stages=(2, 6), output=target)
    return export_bundle(options)


def test_the_bundle_has_no_text_and_the_method_memory(bundle: Bundle) -> None:
    assert bundle.objects == ()
    assert bundle.manifest.text is None
    assert bundle.manifest.method == "memory"
    assert bundle.manifest.score.terms == ("memory-map",)
    assert [(stage.index, stage.width, stage.grid) for stage in bundle.manifest.stages] == [
        (2, 64, (6, 6)),
        (6, 64, (6, 6)),
    ]
    assert (bundle.manifest.image.mean, bundle.manifest.image.std) == ((0.5,) * 3, (0.5,) * 3)  # timm's record
    assert not (bundle.path / "text.safetensors").exists()


def test_the_graph_gives_what_timms_network_gives(bundle: Bundle, state: Path) -> None:
    network: Any = timm.create_model("test_vit", pretrained=False, checkpoint_path=str(state)).eval()
    network.set_input_size(SIDE)
    golden = bundle.golden()
    image = ImageRecord(height=SIDE, width=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3)
    inputs = normalise(golden["image"], image)
    with torch.no_grad():
        last, levels = network.forward_intermediates(torch.from_numpy(inputs), indices=[1, 5], output_fmt="NLC")
        pooled = network.forward_head(last, pre_logits=True)
    engine = open_engine(bundle, backend="onnxruntime", device="cpu")
    found = engine.run(inputs, None)
    engine.close()
    for name, wanted, each in (
        ("embedding", pooled, found.embedding),
        ("tokens_2", levels[0], found.tokens[0]),
        ("tokens_6", levels[1], found.tokens[1]),
    ):
        unit = torch.nn.functional.normalize(wanted, dim=-1).numpy()
        np.testing.assert_allclose(golden[name], unit, atol=1e-5)
        np.testing.assert_allclose(each, unit, atol=1e-5)


def test_frames_are_enrolled_and_scored_without_text(bundle: Bundle, tmp_path: Path) -> None:
    engine = open_engine(bundle, backend="onnxruntime", device="cpu")
    with open_source("test://conveyor") as source:
        bank = enroll(source, bundle, engine, tmp_path / "bank", EnrolOptions(shots=3, interval=0)).bank
        frame = next(iter(source))
    assert bank.record.method == "memory"
    assert bank.record.object is None
    detector = Detector(bundle, engine, bank)
    (result,) = detector.detect([frame])
    assert result.method == "memory"
    assert result.text_score is None
    assert result.raw_score > 0
    with pytest.raises(UsageError, match="expected a bank to score with, found none"):
        Detector(bundle, engine)
    detector.close()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"model": "timm:test_vit9"},
            "expected a network of timm after timm:, found 'test_vit9'; did you mean test_vit",
        ),
        ({"image_size": 100}, "expected an image size that is a multiple of the tower's 16 px patches, found 100x100"),
        ({"objects": ("nut",)}, "expected no --object with timm:test_vit, which has no text tower"),
        ({"activation": "gelu"}, "expected no --activation with timm:test_vit, which has no text tower"),
        ({"stages": (9,)}, "expected ascending stages between 1 and 6"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, object], sentence: str, state: Path, tmp_path: Path) -> None:
    given = {"model": "timm:test_vit", "pretrained": str(state), "output": tmp_path / "b", **options}
    with pytest.raises(UsageError, match=sentence):
        export_bundle(ExportOptions(**given))  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()


def test_weights_of_another_network_are_refused(state: Path) -> None:
    files = find_trunk("timm:test_efficientnet", str(state))
    with pytest.raises(BadInputError, match=r"expected the weights of test_efficientnet in .*, found .* missing"):
        build_trunk(files)


def test_a_weights_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"expected a weights file at .*none.safetensors, found nothing"):
        find_trunk("timm:test_vit", str(tmp_path / "none.safetensors"))


def test_weights_are_found_where_they_were_placed_or_their_address_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEVAND_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "_answers", lambda _: False)
    name = "vit_small_patch14_dinov2"
    with pytest.raises(UnavailableError, match=r"fetch \S+/timm/vit_small_patch14_dinov2.lvd142m/\S+model.safetensors"):
        find_trunk(f"timm:{name}.lvd142m", None)
    file = weights_dir() / name / "lvd142m.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    found = find_trunk(f"timm:{name}.lvd142m", None)
    assert found.weights == file
    assert found.tag["mean"] == (0.485, 0.456, 0.406)


def test_text_cannot_be_made_for_it(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a bundle whose model has a text tower, found test_vit"):
        export_text(bundle.path, ("nut",), tmp_path / "text.safetensors")
