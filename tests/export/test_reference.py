"""The reference's algorithm, which encodes twice and searches in float64, gives what the runtime gives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from edgevand.cli import main
from edgevand.errors import BadInputError, UsageError
from edgevand_export.export import ExportOptions, export_bundle
from edgevand_export.heads import Heads, write_heads
from edgevand_export.reference import Reference, open_reference
from edgevand_runtime.detector import Detector
from edgevand_runtime.engines import open_engine
from edgevand_runtime.preprocess import to_tensor
from tests.export.models import SIZE, random_heads, save_weights, tiny_config, tiny_model
from tests.runtime.streams import make_frame
from tests.tiny import enrol_tiny

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bank import Bank
    from edgevand.bundle import Bundle

STAGES = (1, 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bank, Path]:
    """A bundle with heads, a bank of it, and the folder with its weights and heads."""
    folder = tmp_path_factory.mktemp("reference")
    config = tiny_config("vit")
    (folder / "tiny.json").write_text(json.dumps(config))
    save_weights(tiny_model(config), folder / "tiny.safetensors")
    layers = random_heads((32, 32), STAGES).layers
    write_heads(folder / "heads.safetensors", Heads(layers, STAGES, "gelu", "nothing"))
    options = ExportOptions(
        model=str(folder / "tiny.json"),
        pretrained=str(folder / "tiny.safetensors"),
        image_size=SIZE["vit"][0],
        stages=STAGES,
        heads=folder / "heads.safetensors",
        output=folder / "bundle",
    )
    bundle = export_bundle(options)
    return bundle, enrol_tiny(bundle, folder / "bank", shots=4), folder


def open_it(made: tuple[Bundle, Bank, Path], **more: Any) -> Reference:
    bundle, bank, folder = made
    files = {"pretrained": str(folder / "tiny.safetensors"), "heads": folder / "heads.safetensors"}
    return open_reference(bundle, bank, **{**files, **more})


def test_scores_and_maps_are_the_runtimes(made: tuple[Bundle, Bank, Path]) -> None:
    bundle, bank, _ = made
    reference = open_it(made)
    with Detector(bundle, open_engine(bundle, device="cpu"), bank) as detector:
        for number in range(3):
            frame = make_frame(number)
            score, drawn = reference.score(to_tensor(frame.image, bundle.manifest.image))
            (result,) = detector.detect([frame])
            assert drawn is not None
            assert result.raw_map is not None
            assert score == pytest.approx(result.raw_score, abs=1e-4)
            np.testing.assert_allclose(drawn, result.raw_map, atol=1e-4)


def test_it_encodes_a_frame_twice_and_materialises_the_weights_of_attention(
    made: tuple[Bundle, Bank, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    forward = torch.nn.MultiheadAttention.forward

    def watched(self: Any, *arguments: Any, **more: Any) -> Any:
        found = forward(self, *arguments, **more)
        weights.append(found[1])
        return found

    monkeypatch.setattr(torch.nn.MultiheadAttention, "forward", watched)
    bundle = made[0]
    open_it(made).score(to_tensor(make_frame(0).image, bundle.manifest.image))
    assert len(weights) == 2 * tiny_config("vit")["vision_cfg"]["layers"]
    assert all(each is not None and each.shape[-1] == 1 + 36 for each in weights)


def test_its_search_is_the_cosine_similarity_of_all_pairs(made: tuple[Bundle, Bank, Path]) -> None:
    """Without text what is left of the map is the sum of the distances, enlarged; its corners are those of the grid."""
    bundle = made[0]
    model = tiny_model(tiny_config("vit"))
    reference = Reference(model.visual, stages=STAGES, grid=(6, 6), size=SIZE["vit"])
    tensors = [to_tensor(make_frame(number).image, bundle.manifest.image) for number in range(3)]
    reference.enrol(tensors[:2])
    _, drawn = reference.score(tensors[2])
    assert drawn is not None
    _, tokens = reference.encode(torch.from_numpy(tensors[2])[None])
    expected = sum(
        1 - cosine_similarity(bank.numpy().astype(np.float64), stage.numpy().astype(np.float64)).max(axis=0)
        for bank, stage in zip(reference.bank, tokens, strict=True)
    )
    corners = np.asarray(expected).reshape(6, 6)[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(drawn[[0, 0, -1, -1], [0, -1, 0, -1]], corners, atol=1e-5)


def test_other_weights_and_missing_heads_are_refused(made: tuple[Bundle, Bank, Path], tmp_path: Path) -> None:
    other = save_weights(tiny_model(tiny_config("vit"), seed=5), tmp_path / "other.safetensors")
    with pytest.raises(BadInputError, match="give the right file with --pretrained"):
        open_it(made, pretrained=str(other))
    with pytest.raises(UsageError, match="--heads FILE"):
        open_it(made, heads=None)


def test_the_benchmark_runs_it_beside_the_engines(
    made: tuple[Bundle, Bank, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, _, folder = made
    files = ["--pretrained", str(folder / "tiny.safetensors"), "--heads", str(folder / "heads.safetensors")]
    options = ["--batches", "3", "--warm-up", "1", "--shots", "2", "--backend", "onnxruntime", "--device", "cpu"]
    arguments = ["benchmark", "--bundle", str(bundle.path), *options, "--against", "reference", *files, "--json"]
    threads = torch.get_num_threads()
    try:
        assert main(arguments) == 0
    finally:
        torch.set_num_threads(threads)
    document = json.loads(capsys.readouterr().out)
    assert document["reference"]["frames"] == 5
    (row,) = document["engines"]
    assert row["against"]["score_max_abs"] < 1e-4
    assert row["against"]["map_max_abs"] < 1e-4
    assert row["against"]["times"] > 0
