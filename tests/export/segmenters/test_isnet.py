"""IS-Net against its architecture stated again, block by block, as functions of the checkpoint's tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgevand.errors import BadInputError
from edgevand_export.segmenters import isnet
from edgevand_export.segmenters.isnet import IsNet, load_isnet
from edgevand_export.segmenters.weights import read_weights

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 96  # six halvings of half of it: sizes become odd on the way

# Name of the stage: kind of block. Widths follow from the tensors.
STAGES: dict[str, int | str] = {
    "stage1": 7,
    "stage2": 6,
    "stage3": 5,
    "stage4": 4,
    "stage5": "4F",
    "stage6": "4F",
    "stage5d": "4F",
    "stage4d": 4,
    "stage3d": 5,
    "stage2d": 6,
    "stage1d": 7,
}


@pytest.fixture(scope="module")
def network() -> IsNet:
    torch.manual_seed(0)
    module = IsNet()
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return module.double().eval()


def restated(state: dict[str, Tensor], image: Tensor) -> Tensor:
    """The published forward pass, spelled out from the tensors' names."""

    def cell(x: Tensor, name: str, dilation: int = 1) -> Tensor:
        def of(part: str) -> Tensor:
            return state[f"{name}.{part}"]

        x = functional.conv2d(x, of("conv_s1.weight"), of("conv_s1.bias"), padding=dilation, dilation=dilation)
        statistics = (of("bn_s1.running_mean"), of("bn_s1.running_var"), of("bn_s1.weight"), of("bn_s1.bias"))
        return functional.batch_norm(x, *statistics).clamp_min(0)

    def pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 2, 2, ceil_mode=True)

    def like(x: Tensor, other: Tensor) -> Tensor:
        return functional.interpolate(x, size=other.shape[2:], mode="bilinear", align_corners=False)

    def dilated(x: Tensor, name: str) -> Tensor:
        start = cell(x, f"{name}.rebnconvin")
        one = cell(start, f"{name}.rebnconv1", 1)
        two = cell(one, f"{name}.rebnconv2", 2)
        three = cell(two, f"{name}.rebnconv3", 4)
        four = cell(three, f"{name}.rebnconv4", 8)
        up = cell(torch.cat((four, three), 1), f"{name}.rebnconv3d", 4)
        up = cell(torch.cat((up, two), 1), f"{name}.rebnconv2d", 2)
        return cell(torch.cat((up, one), 1), f"{name}.rebnconv1d", 1) + start

    def pooled(x: Tensor, name: str, depth: int) -> Tensor:
        start = cell(x, f"{name}.rebnconvin")
        levels = [cell(start, f"{name}.rebnconv1")]
        for number in range(2, depth):
            levels.append(cell(pool(levels[-1]), f"{name}.rebnconv{number}"))
        up = cell(levels[-1], f"{name}.rebnconv{depth}", 2)
        for number in range(depth - 1, 0, -1):
            level = levels[number - 1]
            up = cell(torch.cat((like(up, level), level), 1), f"{name}.rebnconv{number}d")
        return up + start

    def stage(name: str, x: Tensor) -> Tensor:
        kind = STAGES[name]
        return dilated(x, name) if kind == "4F" else pooled(x, name, int(kind))

    x = functional.conv2d(image, state["conv_in.weight"], state["conv_in.bias"], stride=2, padding=1)
    one = stage("stage1", x)
    two = stage("stage2", pool(one))
    three = stage("stage3", pool(two))
    four = stage("stage4", pool(three))
    five = stage("stage5", pool(four))
    six = stage("stage6", pool(five))
    up = stage("stage5d", torch.cat((like(six, five), five), 1))
    up = stage("stage4d", torch.cat((like(up, four), four), 1))
    up = stage("stage3d", torch.cat((like(up, three), three), 1))
    up = stage("stage2d", torch.cat((like(up, two), two), 1))
    up = stage("stage1d", torch.cat((like(up, one), one), 1))
    answer = functional.conv2d(up, state["side1.weight"], state["side1.bias"], padding=1)
    return torch.sigmoid(like(answer, image))[:, 0]


@torch.no_grad()
def test_the_network_computes_the_published_forward_pass(network: IsNet) -> None:
    image = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double() - 0.5
    wanted = restated(network.state_dict(), image)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(network(image), wanted, atol=1e-5, rtol=0)


def test_it_has_the_tensors_of_the_published_checkpoint(network: IsNet) -> None:
    """Counts of the release: 44.05 M parameters, 798 tensors; widths as its constructor names them."""
    assert sum(each.numel() for each in network.parameters()) == 44_046_790
    state = network.state_dict()
    assert len(state) == 798
    shapes = {
        "conv_in.weight": (64, 3, 3, 3),
        "stage1.rebnconv7.conv_s1.weight": (32, 32, 3, 3),
        "stage4d.rebnconvin.conv_s1.weight": (256, 1024, 3, 3),
        "stage6.rebnconv1d.conv_s1.weight": (512, 512, 3, 3),
        "side6.weight": (1, 512, 3, 3),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@torch.no_grad()
def test_a_checkpoint_is_loaded_by_its_names_and_another_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a sixteenth of the channels, so that the file stays small."""
    for table in ("ENCODER", "DECODER"):
        monkeypatch.setattr(isnet, table, tuple(thinned(row) for row in getattr(isnet, table)))
    monkeypatch.setattr(isnet, "LOWEST", thinned(isnet.LOWEST))
    monkeypatch.setattr(isnet, "SIDES", tuple(width // 16 for width in isnet.SIDES))
    small = IsNet().eval()
    state = small.state_dict()
    torch.save(state, tmp_path / "isnet.pth")
    image = torch.zeros(1, 3, SIDE, SIDE)
    loaded = load_isnet(read_weights(tmp_path / "isnet.pth"))
    torch.testing.assert_close(loaded(image), small(image), atol=1e-5, rtol=0)
    state["side1.weight"] = torch.zeros(1, 32, 3, 3)
    torch.save(state, tmp_path / "smaller.pth")
    with pytest.raises(BadInputError, match=r"expected the weights of IS-Net \(DIS\) in .*side1\.weight of shape"):
        load_isnet(read_weights(tmp_path / "smaller.pth"))
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "else.pth")
    with pytest.raises(BadInputError, match=r"expected IS-Net's weights in .*else\.pth, found no tensor"):
        load_isnet(read_weights(tmp_path / "else.pth"))


def thinned(row: tuple[int, ...]) -> tuple[int, ...]:
    """Depth as it is, a sixteenth of the channels."""
    return (row[0], *(width // 16 for width in row[1:]))
