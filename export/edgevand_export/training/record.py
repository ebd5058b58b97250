"""``config.json`` of a training: what was asked for, what it meant on this machine, every number.

A run is resumed only as what it was: model, text, pictures and all fields that change the result must be the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgevand.errors import BadInputError
from edgevand.files import read_limited
from edgevand.records import Record, parse_record
from edgevand_export.training.config import FREE, TrainConfig
from edgevand_export.training.digests import digest_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CONFIG",
    "RUN_SCHEMA",
    "ArgumentsRecord",
    "DataRecord",
    "EncoderRecord",
    "RunRecord",
    "check_same",
    "read_run",
    "run_hash",
]

CONFIG = "config.json"
RUN_SCHEMA = "edgevand.run/1"
MAX_BYTES = 1 << 22


class ArgumentsRecord(Record):
    """What was asked for, so that ``--resume`` needs nothing but ``-o``; files with their whole path."""

    model: str
    pretrained: str | None
    data: str
    dataset: Literal["auto", "mvtec", "visa", "loco", "folder"]
    classes: tuple[str, ...] | None
    activation: Literal["auto", "gelu", "quick-gelu"]
    prompts: str
    device: str


class EncoderRecord(Record):
    """What makes the tokens and the text."""

    name: str
    pretrained: str
    weights_sha256: str
    model_config_sha256: str
    activation: Literal["gelu", "quick-gelu"] = Field(description="of both towers")
    image_size: int
    stages: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    device: str = Field(description="cpu or cuda")
    precision: str = Field(description="of the encoder's products: off (float32), float16, bfloat16")
    prompts: str
    prompts_sha256: str


class DataRecord(Record):
    """What is trained on."""

    layout: str
    recognised: str | None
    classes: dict[str, int] = Field(description="pictures of each")
    fingerprint: str = Field(description="sha256 over class, kind and name of every picture in order")


class RunRecord(Record):
    """``config.json``."""

    schema_: Literal["edgevand.run/1"] = Field(alias="schema")
    created: str
    generator: str
    arguments: ArgumentsRecord
    encoder: EncoderRecord
    data: DataRecord
    config: TrainConfig


def read_run(path: Path) -> RunRecord:
    """Read ``config.json``.

    Raises:
        FormatError: it is none.
    """
    data = read_limited(path, MAX_BYTES)
    return parse_record(RunRecord, data, path, schema=RUN_SCHEMA, remedy="give another -o, or start anew")


def run_hash(record: RunRecord) -> str:
    """Hash of all that the result depends on."""
    return digest_of(_meaning(record))


def check_same(recorded: RunRecord, wanted: RunRecord, path: Path) -> None:
    """Refuse to resume a run as another one.

    Raises:
        BadInputError: something differs that changes the result; the first difference is named.
    """
    before, now = _meaning(recorded), _meaning(wanted)
    for name in before:
        if before[name] != now[name]:
            raise BadInputError(
                f"expected to resume the training of {path} with {name} {_told(before[name])}, found "
                f"{_told(now[name])}; give the same options and data, or another -o"
            )


def _meaning(record: RunRecord) -> dict[str, Any]:
    """Every field that the result depends on, by a name with dots."""
    encoder = record.encoder.model_dump(mode="json")
    data = record.data.model_dump(mode="json")
    config = {name: value for name, value in record.config.model_dump(mode="json").items() if name not in FREE}
    parts = {"encoder": encoder, "data": data, "config": config}
    return {f"{part}.{name}": value for part, fields in parts.items() for name, value in fields.items()}


def _told(value: object) -> str:
    """A value in a sentence."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 (a sentence stays readable)
