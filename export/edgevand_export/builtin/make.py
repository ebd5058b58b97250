"""From the ImageNet weights to the built-in bundle: draw, encode, train, judge, write."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save

from edgevand.bundle import extend_bundle
from edgevand.files import sha256_file
from edgevand.staging import write_atomic
from edgevand_export.builtin import recipe
from edgevand_export.builtin.captions import HELD_OUT, OBJECTS, TRAINED
from edgevand_export.builtin.corpus import load_corpus
from edgevand_export.builtin.descriptor import TAPS, DescribingTrunk, Fitted
from edgevand_export.builtin.evaluate import evaluate
from edgevand_export.builtin.metric import fit
from edgevand_export.builtin.network import IMAGE_SIZE, MEAN, NAME, STD, build, config, fold_norms, tokenize
from edgevand_export.builtin.train import Student, spread_of, train
from edgevand_export.bundle_writer import BundleOptions, ModelSource, write_model_bundle
from edgevand_export.heads import Heads, write_heads
from edgevand_export.methods.ustc_loco import export_ustc_loco

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgevand.bundle import Bundle, MethodRecord

__all__ = ["make"]

WEIGHTS = f"{NAME}.safetensors"
HEADS = f"{NAME}-heads.safetensors"
DESCRIPTION = f"{NAME}-description.safetensors"


def make(work: Path, target: Path, report: Callable[[str], None]) -> Bundle:
    """Make the bundle; what an earlier run left in ``work`` is used.

    Args:
        work: folder of the encoded drawings, the training checkpoint, the model and its figures.
        target: directory of the bundle; an older one is replaced.
        report: called with a line for people.
    """
    model = build()
    network = model.visual.trunk
    model.visual.trunk = DescribingTrunk(network, _fitted(network, work / DESCRIPTION, report)).eval()
    student, figures = _trained(model, work, report)
    model.visual.trunk, described = network, model.visual.trunk
    write_atomic(work / WEIGHTS, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))
    model.visual.trunk = described
    heads = Heads(student.folded(), recipe.STAGES, "gelu", "drawings of edgevand_runtime.drawn")
    write_heads(work / HEADS, heads)
    fold_norms(model.visual.trunk)
    source = ModelSource(NAME, WEIGHTS, sha256_file(work / WEIGHTS), config(), MEAN, STD)
    options = BundleOptions(
        image_size=(IMAGE_SIZE, IMAGE_SIZE),
        stages=recipe.STAGES,
        heads=heads,
        objects=OBJECTS,
        score=recipe.SCORE,
        enrol=recipe.ENROL,
        store_half=True,
        extra_files={"MODEL_CARD.md": model_card(figures).encode()},
        replace=True,
    )
    base = write_model_bundle(work / "bundle", model, tokenize, source, options, report)

    def prepare(folder: Path) -> MethodRecord:
        """Text for logical mistakes, so that ustc-loco needs no export."""
        return export_ustc_loco(base, {}, (work / WEIGHTS,), folder, report)

    return extend_bundle(base, target, prepare, replace=True, chosen=False)


def _fitted(network: Any, path: Path, report: Callable[[str], None]) -> Fitted:  # noqa: ANN401
    """What patches are described with: read where an earlier run left it, else fitted on drawings."""
    if not path.exists():
        fitted = fit(network, recipe.FIT, report)
        tensors = {f"basis.{name}": basis for name, basis in fitted.bases.items()}
        constants = torch.tensor([fitted.surface, fitted.context])
        write_atomic(path, save({**tensors, "metric": fitted.metric, "turn": fitted.turn, "constants": constants}))
    found = load(path.read_bytes())
    bases = {tap.name: found[f"basis.{tap.name}"] for tap in TAPS if f"basis.{tap.name}" in found}
    own, other = found["constants"].tolist()
    return Fitted(bases, found["metric"], own, found["turn"], other)


def _trained(model: Any, work: Path, report: Callable[[str], None]) -> tuple[Student, dict[str, Any]]:  # noqa: ANN401
    """Text tower, projection and heads, trained inside ``model``, and their figures on held-out drawings."""
    report(f"drawings of {len(TRAINED)} objects to train on")
    corpus = load_corpus(work / "train", model, TRAINED, recipe.TRAINING, recipe.STAGES)
    widths = {stage: tokens.shape[2] for stage, tokens in corpus.tokens.items()}
    spreads = [spread_of(tokens) for tokens in corpus.tokens.values()]
    student = Student(model, widths, config()["embed_dim"], spreads=spreads)
    train(student, corpus, recipe.RECIPE, work, report)
    report("held-out drawings")
    known = load_corpus(work / "known", model, TRAINED, recipe.KNOWN, recipe.STAGES)
    unknown = load_corpus(work / "unknown", model, HELD_OUT, recipe.UNKNOWN, recipe.STAGES)
    figures = {
        "drawings": len(corpus.names),
        "unseen designs of trained objects": evaluate(student, known).to_json(),
        "objects never trained on, by name": evaluate(student, unknown).to_json(),
        "objects never trained on, as object": evaluate(student, unknown, "object").to_json(),
    }
    write_atomic(work / "figures.json", (json.dumps(figures, indent=2) + "\n").encode())
    return student, figures


def model_card(figures: dict[str, Any]) -> str:
    """The card, with what was trained and how it did."""
    rows = [(name, values) for name, values in figures.items() if isinstance(values, dict)]
    table = "\n".join(
        [
            "| drawings | image AUROC, text score | image AUROC, map | pixel AUROC |",
            "| --- | --- | --- | --- |",
            *(
                f"| {name} | {values['text']:.3f} | {values['map']:.3f} | {values['pixel']:.3f} |"
                for name, values in rows
            ),
        ]
    )
    how = recipe.RECIPE
    training = (
        f"{figures['drawings']} drawings of {len(TRAINED)} kinds of parts, surfaces and prints, whole and with\n"
        "scratches, dents, stains, missing and extra pieces, bent and broken; sentences of the prompt packs april-gan\n"
        f"and winclip. {how.steps} steps of {how.batch} drawings, contrastive + focal + dice loss, image backbone\n"
        f"frozen, seed {how.seed}. Drawing, encoding and training take {recipe.DURATION}."
    )
    template = files("edgevand_export.builtin").joinpath("MODEL_CARD.md").read_text(encoding="utf-8")
    return template.format(
        size=IMAGE_SIZE,
        stages=", ".join(map(str, recipe.STAGES)),
        objects=len(OBJECTS),
        training=training,
        figures=table,
        terms=" + ".join(recipe.SCORE.terms),
    )
