from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from edgevand_export.golden import golden_images, normalise
from tests.export.models import SIZE, at_size, picture_batch, random_heads, tiny_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevand.bundle import Bundle

    Exported = Callable[[str], tuple[Any, Bundle]]

KINDS = ("vit", "resnet", "timm")


def unit(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


@torch.no_grad()
def expected(kind: str, model: Any, image: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the graph must give, from open_clip's own forward and the reference's formulas."""
    oracle = model if kind == "timm" else at_size(tiny_config(kind), model, SIZE[kind][0])
    heads = {"vit": (1, 2, 3, 4), "resnet": (1, 2, 3, 4), "timm": (2, 3, 4, 5)}[kind]
    indices = [stage if kind == "resnet" else stage - 1 for stage in heads]
    reference = oracle.visual.forward_intermediates(image, indices=indices)
    tokens = [each.flatten(2).transpose(1, 2) for each in reference["image_intermediates"]]
    wanted = {"embedding": unit(reference["image_features"])}
    layers = random_heads(tuple(each.shape[2] for each in tokens)).layers
    for stage, each, grid, (weight, bias) in zip(heads, tokens, reference["image_intermediates"], layers, strict=True):
        wanted[f"tokens_{stage}"] = unit(each)
        logits = 100 * unit(each @ weight.T + bias) @ text.T  # the reference's, (N, P, 2): normal, abnormal
        wanted[f"logits_{stage}"] = (logits[..., 1] - logits[..., 0]).reshape(len(image), *grid.shape[2:])
    return wanted


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_computes_open_clips_tokens_and_the_references_logits_for_any_batch(
    kind: str, exported: Exported
) -> None:
    model, bundle = exported(kind)
    session = onnxruntime.InferenceSession(bundle.graph_path, providers=["CPUExecutionProvider"])
    text = torch.from_numpy(np.array(bundle.text("metal nut")[1]))
    for batch in (1, 2, 4, 5):
        image = picture_batch(batch, SIZE[kind], seed=batch)
        wanted = expected(kind, model, image, text)
        names = [output.name for output in session.get_outputs()]
        assert set(names) == set(wanted)
        for name, found in zip(names, session.run(names, {"image": image.numpy(), "text": text.numpy()}), strict=True):
            scale = float(wanted[name].abs().max())
            np.testing.assert_allclose(found, wanted[name].numpy(), atol=2e-5 * scale, err_msg=f"{name}, batch {batch}")


@pytest.mark.parametrize("kind", KINDS)
def test_the_manifest_describes_the_graph(kind: str, exported: Exported) -> None:
    _, bundle = exported(kind)
    graph = onnx.load(bundle.graph_path).graph
    shapes = {
        value.name: [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    manifest = bundle.manifest
    assert shapes["image"] == ["N", 3, manifest.image.height, manifest.image.width]
    assert shapes["text"] == [2, manifest.embedding_dim]
    assert shapes["embedding"] == ["N", manifest.embedding_dim]
    for stage in manifest.stages:
        assert shapes[f"tokens_{stage.index}"] == ["N", stage.grid[0] * stage.grid[1], stage.width]
        assert shapes[f"logits_{stage.index}"] == ["N", *stage.grid]
    assert manifest.model.architecture == kind
    onnx.checker.check_model(onnx.load(bundle.graph_path), full_check=True)


def test_a_vit_keeps_each_norm_and_activation_one_operator(exported: Exported) -> None:
    graph = onnx.load(exported("vit")[1].graph_path).graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators["LayerNormalization"] == 1 + 2 * 4 + 1
    assert operators["Gelu"] == 4
    assert operators["Softmax"] == 4
    assert not {"Erf", "Resize", "If", "Loop"} & set(operators)
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}


def test_the_graph_says_nothing_of_the_machine_that_made_it(exported: Exported) -> None:
    model = onnx.load(exported("vit")[1].graph_path)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    content = exported("vit")[1].graph_path.read_bytes()
    assert b".py" not in content
    assert b"/home" not in content


def test_no_initializer_is_stored_twice(exported: Exported) -> None:
    graph = onnx.load(exported("vit")[1].graph_path).graph
    large = [each for each in graph.initializer if np.prod(each.dims) > 100]
    arrays = {numpy_helper.to_array(each).tobytes() for each in large}
    assert len(arrays) == len(large)


def test_the_golden_sample_is_a_drawing_and_noise_the_same_for_every_export(exported: Exported) -> None:
    _, bundle = exported("vit")
    images = golden_images(SIZE["vit"])
    np.testing.assert_array_equal(bundle.golden()["image"], images)
    assert images.shape == (2, 48, 48, 3)
    drawn, noise = (np.abs(np.diff(each.astype(int), axis=0)).mean() for each in images)
    assert noise > 4 * drawn > 0


def test_normalising_is_what_torchvision_does(exported: Exported) -> None:
    from torchvision.transforms.functional import normalize, to_tensor

    record = exported("vit")[1].manifest.image
    images = golden_images((20, 30))
    wanted = torch.stack([normalize(to_tensor(each), list(record.mean), list(record.std)) for each in images])
    np.testing.assert_allclose(normalise(images, record), wanted.numpy(), atol=1e-6)
