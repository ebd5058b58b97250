"""Every number of a training, in one validated record, and the published presets.

Source: APRIL-GAN, arXiv 2305.17382, and its released scripts. Paper and release differ in the batch (16 in the paper, 8
in the scripts); the presets follow the paper.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from edgevand.errors import UsageError
from edgevand.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PRESETS", "Preset", "TrainConfig", "apply_settings", "preset_for"]

Preset = Literal["april-gan-mvtec", "april-gan-visa"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(Record):
    """How heads are trained. Every field can be given on the command line with ``--set field=value``."""

    image_size: int | None = Field(None, ge=16, description="side in pixels; null: as `edgevand export` chooses")
    stages: tuple[int, ...] | None = Field(None, min_length=1, description="1-based; null: four equal groups")
    epochs: int = Field(3, ge=0, description="passes over the pictures; 0 writes the heads as they begin")
    batch: int = Field(16, ge=1, description="pictures in a step; the released scripts use 8")
    lr: float = Field(1e-3, gt=0, le=1e6, description="learning rate of Adam, constant")
    betas: tuple[Beta, Beta] = Field((0.5, 0.999), description="of Adam, each in [0, 1)")
    adam_eps: float = Field(1e-8, gt=0, le=1e6, description="of Adam, added to the root of the second moment")
    weight_decay: float = Field(0.0, ge=0, le=1e6, description="of Adam (L2, added to the gradient)")
    seed: int = Field(111, ge=0, lt=1 << 32, description="of the heads' first weights, the order and the mosaics")
    mosaic: float = Field(0.2, ge=0, le=1, description="probability that a collage takes a picture's place")
    mosaic_pool: int = Field(
        16, ge=0, description="different collages of each class; 0: every collage is new, as in the release"
    )
    focal_gamma: float = Field(2.0, ge=0, description="exponent of the focal loss")
    focal_alpha: float = Field(1.0, gt=0, description="factor of the focal loss")
    focal_eps: float = Field(1e-5, gt=0, lt=0.5, description="label smoothing and offset of the focal loss")
    dice_smooth: float = Field(1.0, gt=0, description="added to both sides of the dice quotient")
    focal_weight: float = Field(1.0, ge=0, description="of the focal loss in the sum")
    dice_weight: float = Field(1.0, ge=0, description="of the dice loss in the sum")
    amp: Literal["auto", "off", "float16", "bfloat16"] = Field(
        "auto", description="type of the encoder's products; auto: float16 on CUDA, off on the CPU; heads are float32"
    )
    tokens: Literal["float32", "float16"] = Field(
        "float32", description="type in which stage tokens are kept, with the cache and without"
    )
    cache: Literal["on", "off"] = Field("on", description="whether stage tokens are kept on the disk")
    cache_dir: str | None = Field(None, min_length=1, description="where; null: $EDGEVAND_HOME/cache/tokens")
    cache_limit_gb: float = Field(50.0, ge=0, description="the most that the cache may take, in 10^9 bytes")
    checkpoint_every: int = Field(20, ge=1, description="steps between two checkpoints; the end of an epoch is one")
    log_every: int = Field(1, ge=1, description="steps between two rows of log.csv")
    workers: int = Field(2, ge=1, le=64, description="threads that read pictures and cached tokens")


FREE = frozenset({"cache", "cache_dir", "cache_limit_gb", "checkpoint_every", "workers"})
"""Fields that change nothing of the result; a run may be resumed with other values."""

PRESETS: dict[Preset, TrainConfig] = {
    "april-gan-mvtec": TrainConfig(epochs=3, mosaic=0.2),
    "april-gan-visa": TrainConfig(epochs=15, mosaic=0.0),
}
"""As published: heads trained on MVTec AD (and used on VisA), and the other way round."""


def preset_for(layout: str) -> Preset:
    """The preset of a dataset's layout: VisA's for VisA, MVTec AD's for all others."""
    return "april-gan-visa" if layout == "visa" else "april-gan-mvtec"


def apply_settings(config: TrainConfig, settings: Sequence[str]) -> TrainConfig:
    """Change fields by ``field=value``; a value is JSON, a list without brackets (``0.5,0.999``) or a plain word.

    Raises:
        UsageError: no such field, or a value that it does not take; the field is named.
    """
    values = config.model_dump(mode="json")
    for setting in settings:
        name, sign, text = setting.partition("=")
        name = name.strip()
        if not sign:
            raise UsageError(f"expected --set field=value, found {setting!r}; write for example --set lr=0.001")
        if name not in TrainConfig.model_fields:
            near = get_close_matches(name, TrainConfig.model_fields, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"take one of {', '.join(TrainConfig.model_fields)}"
            raise UsageError(f"expected a field of the training's configuration in --set, found {name!r}; {remedy}")
        values[name] = _value(name, text.strip())
    try:
        return TrainConfig.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise UsageError(_sentence(error)) from error


def _value(name: str, text: str) -> Any:  # noqa: ANN401 (whatever JSON can say)
    """What was written behind the equals sign."""
    value: Any = text
    for form in (text, f"[{text}]"):
        try:
            value = json.loads(form)
            break
        except ValueError:
            continue
    several = name in {"stages", "betas"}
    return [value] if several and isinstance(value, int | float) else value


def _sentence(error: ValidationError) -> str:
    """The first fault of a validation, with the field's name and meaning."""
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "the configuration"
    field = TrainConfig.model_fields.get(name)
    meaning = f" ({field.description})" if field is not None else ""
    wanted = first["msg"].rstrip(".").replace("Input should be", "to be").replace("Value error, ", "")
    return f"expected {name}{meaning} {wanted}, found {str(first['input'])[:80]!r}; correct it"
