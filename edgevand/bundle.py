"""The bundle: what ``edgevand export`` writes and the runtime reads (docs/formats.md).

A bundle is a directory, immutable and camera-independent::

    manifest.json            this module's ``Manifest``; names every other file with its sha256 and size
    encoder.onnx             image [N,3,H,W] float32 (and text [2,D] float32 where heads exist) -> see Graph
    encoder.onnx.data        its weights, where they are stored beside it
    text.safetensors         one [2, D] float32 tensor for each object, rows (normal, abnormal), unit length
    prompts.json             the prompt pack that the text embeddings were made from
    golden.safetensors       golden sample: image uint8 RGB [G,S,S,3], text [2,D], and torch's outputs for it
    MODEL_CARD.md, NOTICE    optional
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BUNDLE_SCHEMA", "Bundle", "Manifest"]

BUNDLE_SCHEMA = "edgevand.bundle/1"

Activation = Literal["gelu", "quick-gelu", "none"]


class Record(BaseModel):
    """Strict, frozen JSON record: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileRecord(Record):
    """One file of the directory."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


class ModelRecord(Record):
    """Where the encoder came from."""

    name: str
    pretrained: str = Field(description="open_clip tag or the file name of the local weights")
    architecture: Literal["vit", "resnet", "timm"]
    image_activation: Activation
    text_activation: Activation
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    config: dict[str, object] = Field(description="the open_clip model config, so that --text-only can rebuild it")


class ImageRecord(Record):
    """Preprocessing of a frame: RGB, Pillow's antialiased bicubic squash to (height, width), /255, (x-mean)/std."""

    height: int = Field(ge=1, le=8192)
    width: int = Field(ge=1, le=8192)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["pillow-bicubic-squash"] = "pillow-bicubic-squash"


class StageRecord(Record):
    """One stage of the image tower; its graph outputs are ``tokens_<index>`` and, with a head, ``logits_<index>``."""

    index: int = Field(ge=1, description="1-based block (ViT), layer (ResNet) or feature level (timm)")
    width: int = Field(ge=1, description="channels of a patch token")
    grid: tuple[int, int] = Field(description="rows, columns of patch tokens")
    head: bool


class GraphRecord(Record):
    """The ONNX graph: inputs ``image`` (and ``text`` with heads), outputs ``embedding`` [N,D], ``tokens_<i>`` [N,P,C], ``logits_<i>`` [N,h,w]; all float32."""

    file: str = "encoder.onnx"
    opset: int
    precision: Literal["fp32", "fp16"]


class ScoreRecord(Record):
    """How the raw score is formed once a memory bank is given; without one it is text + zero-shot map, where present."""

    terms: tuple[Literal["text", "zero-shot-map", "memory-map"], ...]
    image: Literal["max", "top1%"] = "max"


class TextRecord(Record):
    """The text embeddings."""

    file: str = "text.safetensors"
    pack: str
    objects: tuple[str, ...]


class OutputParity(Record):
    """Difference of one output, torch against the graph run by ONNX Runtime."""

    output: str
    max_abs: float
    cosine: float = Field(description="smallest cosine over the rows")
    limit: str = Field(description="the rule it was held against, in words")


class ParityRecord(Record):
    """The parity certificate."""

    reference: str
    engine: str
    batches: tuple[int, ...]
    outputs: tuple[OutputParity, ...]
    map_max_abs: float
    score_max_abs: float


class Manifest(Record):
    """``manifest.json``."""

    schema_: Literal["edgevand.bundle/1"] = Field(alias="schema")
    created: str = Field(description="UTC, ISO 8601 with milliseconds and Z")
    generator: str
    method: str = "april-gan"
    model: ModelRecord
    image: ImageRecord
    embedding_dim: int = Field(ge=1)
    logit_scale: float = 100.0
    stages: tuple[StageRecord, ...]
    graph: GraphRecord
    score: ScoreRecord
    text: TextRecord | None
    golden: str = "golden.safetensors"
    parity: ParityRecord
    files: dict[str, FileRecord] = Field(description="every file of the directory but manifest.json")

    @property
    def has_heads(self) -> bool:
        """Whether the bundle can draw a zero-shot map."""
        return any(stage.head for stage in self.stages)
