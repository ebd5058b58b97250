from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from edgevand.bundle import ImageRecord
from edgevand.errors import BadInputError, GateError, UnavailableError, UsageError
from edgevand.prompts import load_pack
from edgevand_export.bundle_writer import CLIP_MEAN, CLIP_STD
from edgevand_export.export import ExportOptions, export_bundle
from edgevand_export.heads import Heads, read_heads
from edgevand_export.loading import build_model, make_tokenizer
from edgevand_export.text import embed_objects
from edgevand_export.towers import make_tower
from edgevand_export.training.encoder import choose_device, choose_precision
from edgevand_export.training.run import train
from edgevand_runtime.datasets import open_dataset
from edgevand_runtime.detector import Detector
from edgevand_runtime.doctor import processor
from edgevand_runtime.sources import open_source
from tests.export.training.workshop import CLASSES, KINDS, Silent, Workshop, draw_dataset, run, save

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand_export.training.loop import StepReport
    from edgevand_export.training.losses import StepLosses
from edgevand_export.training.losses import LinearHeads, enlarge, step_losses
from edgevand_export.training.pictures import read_draw
from edgevand_export.training.plan import Draw


def told(workshop: Workshop, output: Path, *settings: str, **changes: Any) -> list[str]:
    """What a run says to people."""
    lines: list[str] = []
    train(workshop.options(output, *settings, **changes), Silent(), lines.append)
    return lines


@torch.no_grad()
def own_maps(workshop: Workshop, kind: str, heads: Heads) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Zero-shot maps of disc's pictures as the training computes them, and their masks."""
    config = json.loads((workshop.models / f"{kind}.json").read_text())
    model = build_model(config, workshop.models / f"{kind}.safetensors", quick_gelu=False)
    side = config["vision_cfg"]["image_size"]
    tower = make_tower(model.visual, (side, side), heads.stages)
    layers = LinearHeads(tower.stages, tower.widths, 24, 0)
    for layer, (weight, bias) in zip(layers.layers, heads.layers, strict=True):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    pack = load_pack(workshop.prompts)
    text = torch.from_numpy(embed_objects(model, make_tokenizer(kind, config), pack, ["disc"])["disc"])
    image = ImageRecord(height=side, width=side, mean=CLIP_MEAN, std=CLIP_STD)
    maps, masks = [], []
    for sample in open_dataset(workshop.data).classes[0].test:
        picture = read_draw(Draw("disc", (sample,)), image)
        _, tokens = tower.module(torch.from_numpy(picture.pixels)[None])
        logits = layers(tokens, text[None], tower.grids)
        maps.append(torch.stack([enlarge(each, (side, side)).sigmoid() for each in logits]).sum(dim=0)[0].numpy())
        masks.append(picture.mask)
    return maps, masks


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_an_exported_bundle_draws_the_maps_that_were_trained(kind: str, workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "run", "lr=0.01", kind=kind))
    heads = tmp_path / "run" / "heads.safetensors"
    options = ExportOptions(
        model=str(workshop.models / f"{kind}.json"),
        pretrained=str(workshop.models / f"{kind}.safetensors"),
        heads=heads,
        objects=("disc",),
        prompts=str(workshop.prompts),
        output=tmp_path / "bundle",
    )
    bundle = export_bundle(options)
    wanted, _ = own_maps(workshop, kind, read_heads(heads))
    with Detector.open(bundle, object_name="disc", device="cpu") as detector:
        for sample, raw_map in zip(open_dataset(workshop.data).classes[0].test, wanted, strict=True):
            (result,) = detector.detect([next(open_source(sample.image))])
            assert result.raw_map is not None
            np.testing.assert_allclose(result.raw_map, raw_map, atol=1e-3)


def test_training_makes_maps_find_defects(workshop: Workshop, tmp_path: Path) -> None:
    from sklearn.metrics import roc_auc_score

    found = {}
    for name, settings in {"trained": ("epochs=40", "lr=0.01"), "untrained": ("epochs=0",)}.items():
        run(workshop.options(tmp_path / name, *settings, "mosaic=0"))
        maps, masks = own_maps(workshop, "vit", read_heads(tmp_path / name / "heads.safetensors"))
        found[name] = roc_auc_score(np.concatenate(masks, axis=None), np.concatenate(maps, axis=None))
    assert found["trained"] > 0.9 > found["untrained"]


def test_heads_record_what_they_were_trained_with(workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "run", "epochs=1", activation="quick-gelu"))
    heads = read_heads(tmp_path / "run" / "heads.safetensors")
    assert (heads.activation, heads.stages) == ("quick-gelu", (1, 2, 3, 4))
    assert heads.trained_on is not None
    assert "mvtec, test split, 14 pictures of disc, metal_nut" in heads.trained_on


def test_an_export_with_another_activation_than_the_heads_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    run(workshop.options(tmp_path / "run", "epochs=1", activation="quick-gelu"))
    options = ExportOptions(
        model=str(workshop.models / "vit.json"),
        pretrained=str(workshop.models / "vit.safetensors"),
        heads=tmp_path / "run" / "heads.safetensors",
        activation="gelu",
        prompts=str(workshop.prompts),
        output=tmp_path / "bundle",
    )
    with pytest.raises(UsageError, match=r"expected --activation quick-gelu, which the heads were trained with"):
        export_bundle(options)


def test_a_loss_that_is_not_finite_stops_and_the_last_checkpoint_stays(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = step_losses
    calls = []

    def losses(*arguments: Any) -> StepLosses:
        calls.append(1)
        found = original(*arguments)
        return found._replace(total=found.total * math.nan) if len(calls) == 6 else found

    with monkeypatch.context() as patch:
        patch.setattr("edgevand_export.training.loop.step_losses", losses)
        with pytest.raises(GateError, match=r"expected a finite loss in step 6, found nan; the last checkpoint .*"):
            run(workshop.options(tmp_path / "run"))
    run(workshop.options(tmp_path / "run", resume=True))
    run(workshop.options(tmp_path / "whole"))
    heads = [(tmp_path / name / "heads.safetensors").read_bytes() for name in ("run", "whole")]
    assert heads[0] == heads[1]


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = torch.autograd.backward

    def backward(loss: torch.Tensor) -> None:
        original(loss * math.inf)

    monkeypatch.setattr(torch.autograd, "backward", backward)
    with pytest.raises(GateError, match=r"expected a finite gradient in step 1, found (inf|nan)"):
        run(workshop.options(tmp_path / "run"))
    assert not (tmp_path / "run" / "heads.safetensors").exists()


def test_weights_that_overflow_never_reach_a_checkpoint(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(optimiser: torch.optim.Adam) -> None:
        with torch.no_grad():
            optimiser.param_groups[0]["params"][3].fill_(math.inf)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    with pytest.raises(GateError, match=r"expected finite weights after step 1, found NaN or infinity"):
        run(workshop.options(tmp_path / "run", "checkpoint_every=1"))
    assert {each.name for each in (tmp_path / "run").iterdir()} == {"config.json", "log.csv"}


def test_a_picture_that_cannot_be_read_is_told_left_out_and_the_run_goes_on(workshop: Workshop, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "data")
    (tmp_path / "data" / "disc" / "test" / "hole" / "001.png").write_bytes(b"not a picture")
    watcher = Silent()
    options = workshop.options(tmp_path / "run", "mosaic=0", "batch=1", "epochs=2", data=tmp_path / "data")
    result = train(options, watcher)
    assert result.finished
    assert len(result.unreadable) == len(watcher.told) == 1
    assert "disc/test/hole/001.png" in result.unreadable[0]
    assert result.steps == (28, 28)
    assert len(watcher.steps) == 26
    again = workshop.options(tmp_path / "again", "mosaic=0", "batch=1", "epochs=2", data=tmp_path / "data")
    run(again)
    heads = [(tmp_path / name / "heads.safetensors").read_bytes() for name in ("run", "again")]
    assert heads[0] == heads[1]


def test_where_no_picture_can_be_read_there_is_nothing_to_train(workshop: Workshop, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "data", ("disc",), {"good": 1, "hole": 1})
    for path in (tmp_path / "data" / "disc" / "test").glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(BadInputError, match=r"expected pictures that can be read, found none among 2; the first says"):
        run(workshop.options(tmp_path / "run", data=tmp_path / "data"))


def test_a_single_picture_is_enough(workshop: Workshop, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "data", ("disc",), {"hole": 1})
    result = run(workshop.options(tmp_path / "run", data=tmp_path / "data"))
    assert result.steps == (3, 3)


def test_pictures_of_several_sizes_are_trained_on_together(workshop: Workshop, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "data")
    for kind in KINDS:
        save(tmp_path / "data" / "disc" / "test" / kind / "000.png", np.full((50, 31, 3), 80, np.uint8))
    for kind in set(KINDS) - {"good"}:
        save(tmp_path / "data" / "disc" / "ground_truth" / kind / "000_mask.png", np.full((50, 31), 255, np.uint8))
    assert run(workshop.options(tmp_path / "run", "mosaic=1", data=tmp_path / "data")).finished


def test_a_class_without_anomalous_pictures_is_told_and_trained_on(workshop: Workshop, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "data")
    draw_dataset(tmp_path / "data", ("plain",), {"good": 2})
    lines = told(workshop, tmp_path / "run", "epochs=1", data=tmp_path / "data")
    assert "plain has no anomalous picture in its test split: only normal ones are trained on" in lines


def test_empty_masks_of_a_class_are_told_and_of_a_dataset_refused(workshop: Workshop, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "data")
    for path in (tmp_path / "data" / "disc" / "ground_truth").glob("*/*.png"):
        save(path, np.zeros((60, 80), np.uint8))
    lines = told(workshop, tmp_path / "run", "epochs=1", data=tmp_path / "data")
    assert "all masks of disc are empty: its anomalous pictures are trained on as normal ones" in lines
    with pytest.raises(BadInputError, match=r"expected an anomalous pixel in the masks of .*, found none in any"):
        run(workshop.options(tmp_path / "other", data=tmp_path / "data", classes=("disc",)))


def test_anomalous_pictures_without_masks_are_refused(workshop: Workshop, tmp_path: Path) -> None:
    for folder in ("good", "hole"):
        save(tmp_path / "data" / "train" / "good" / "0.png", np.full((40, 40, 3), 50, np.uint8))
        save(tmp_path / "data" / "test" / folder / "0.png", np.full((40, 40, 3), 50, np.uint8))
    with pytest.raises(BadInputError, match=r"a mask for every anomalous picture of data, found none for 1 of 1"):
        run(workshop.options(tmp_path / "run", data=tmp_path / "data", dataset="folder"))
    assert not (tmp_path / "run").exists()


def test_faults_of_the_dataset_come_before_anything_is_written(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="expected the folder of a dataset at"):
        run(workshop.options(tmp_path / "run", data=tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="expected --data with the folder of a dataset, found none"):
        run(workshop.options(tmp_path / "run", data=None))
    with pytest.raises(UsageError, match=r"expected lr .* greater than 0"):
        run(workshop.options(tmp_path / "run", "lr=0"))
    with pytest.raises(UsageError, match=r"expected ascending stages between 1 and 4"):
        run(workshop.options(tmp_path / "run", "stages=2,9"))
    assert not (tmp_path / "run").exists()


def test_weights_that_give_no_finite_tokens_are_told_by_the_picture(workshop: Workshop, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(workshop.models / "vit.safetensors")
    state["visual.ln_pre.weight"][3] = math.inf
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(BadInputError, match=r"expected finite tokens of disc/test/.*, found NaN or infinity"):
        run(
            workshop.options(
                tmp_path / "run", "mosaic=0", pretrained=str(tmp_path / "broken.safetensors"), classes=("disc",)
            )
        )


def test_the_preset_follows_the_layout_and_settings_change_it(workshop: Workshop, tmp_path: Path) -> None:
    config = run(workshop.options(tmp_path / "one", "epochs=1")).record.config
    assert (config.mosaic, config.batch, config.epochs) == (0.2, 4, 1)
    config = run(workshop.options(tmp_path / "other", "epochs=1", preset="april-gan-visa")).record.config
    assert config.mosaic == 0.0


def test_rows_and_reports_say_the_same(workshop: Workshop, tmp_path: Path) -> None:
    watcher = Silent()
    train(workshop.options(tmp_path / "run", "log_every=3"), watcher)
    log = np.genfromtxt(tmp_path / "run" / "log.csv", delimiter=",", names=True)
    reports: list[StepReport] = [each for each in watcher.steps if each.step % 3 == 0]
    assert log["step"].tolist() == [each.step for each in reports] == [3, 6, 9, 12]
    np.testing.assert_allclose(log["loss"], [each.loss for each in reports], rtol=1e-8)
    np.testing.assert_allclose(log["loss"], sum(log[f"stage_{stage}"] for stage in (1, 2, 3, 4)), rtol=1e-6)
    assert [(each.epoch, each.whole, each.encoded + each.cached) for each in watcher.epochs] == [
        (1, True, 14),
        (2, True, 14),
        (3, True, 14),
    ]
    assert watcher.pictures == 42


def test_names_of_classes_reach_the_prompts_as_written(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    original = embed_objects

    def embed(model: Any, tokenizer: Any, pack: Any, names: list[str]) -> Any:
        asked.extend(names)
        return original(model, tokenizer, pack, names)

    monkeypatch.setattr("edgevand_export.training.run.embed_objects", embed)
    run(workshop.options(tmp_path / "run", "epochs=1"))
    assert tuple(asked) == CLASSES


def test_devices_and_precisions_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_precision("auto", cpu) == "off"
    assert choose_precision("auto", cuda) == "float16"
    assert choose_precision("bfloat16", cuda) == "bfloat16"
    with pytest.raises(UsageError, match="expected --device auto, cpu, cuda or cuda:N, found 'gpu'"):
        choose_device("gpu")
    with pytest.raises(UnavailableError, match="expected the GPU cuda:99 that PyTorch can use"):
        choose_device("cuda:99")
    with pytest.raises(UsageError, match="expected --set amp=off or bfloat16 on a CPU, found float16"):
        choose_precision("float16", cpu)
    monkeypatch.setattr(processor, "cpu_flags", lambda: frozenset({"amx_tile"}))
    monkeypatch.setattr(processor, "amx_outcome", lambda: "ok")
    assert choose_precision("bfloat16", cpu) == "bfloat16"
    monkeypatch.setattr(processor, "amx_outcome", lambda: "trapped")
    with pytest.raises(UsageError, match="found that they trap here"):
        choose_precision("bfloat16", cpu)


def test_bfloat16_on_the_cpu_is_near_float32_and_not_the_same(workshop: Workshop, tmp_path: Path) -> None:
    losses = []
    for name in ("off", "bfloat16"):
        watcher = Silent()
        train(workshop.options(tmp_path / name, "epochs=1", f"amp={name}"), watcher)
        losses.append([each.loss for each in watcher.steps])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)
    assert losses[0] != losses[1]
    record = json.loads((tmp_path / "bfloat16" / "config.json").read_text())
    assert record["encoder"]["precision"] == "bfloat16"
