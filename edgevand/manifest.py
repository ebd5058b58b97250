"""``manifest.json``: what a bundle says of itself (docs/formats.md)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgevand.records import FileRecord, Record

__all__ = [
    "Activation",
    "EnrolRecord",
    "GateRecord",
    "GraphRecord",
    "ImageRecord",
    "Manifest",
    "MapRecord",
    "MethodRecord",
    "ModelRecord",
    "OutputParity",
    "OwnGraph",
    "ParityRecord",
    "Precision",
    "ScoreRecord",
    "StageRecord",
    "TextRecord",
    "VariantRecord",
]

Activation = Literal["gelu", "quick-gelu", "none"]
Precision = Literal["fp32", "fp16", "int8"]


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
    """An ONNX graph; its inputs and outputs are float32 whatever it computes in.

    Inputs ``image`` [N,3,H,W] and, with heads, ``text`` [2,D]; outputs ``embedding`` [N,D], ``tokens_<i>`` [N,P,C]
    and, with heads, ``logits_<i>`` [N,h,w].
    """

    file: str = "encoder.onnx"
    opset: int
    precision: Precision


class ScoreRecord(Record):
    """How the raw score is formed once a memory bank is given; without one: text + zero-shot map, where present."""

    terms: tuple[Literal["text", "zero-shot-map", "memory-map"], ...]
    image: Literal["max", "top1%"] = "max"
    usual_sd: float | None = Field(
        default=None,
        gt=0,
        le=10,
        description="usual deviation of ln(raw score) among normal frames of one scene; None: not known",
    )


class EnrolRecord(Record):
    """What the bundle's maker recommends for enrolment; a person's ``--augment`` goes before it."""

    augment: tuple[Literal["rotate", "flip"], ...] = Field(
        default=(), description="poses of each frame that the bank holds besides the frame itself"
    )


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


class GateRecord(Record):
    """What a precision costs, measured on frames through two engines: fp32 and the one in question (docs/precision.md).

    Scores are raw image scores of each frame left out of a bank of the others; ``moved`` is the largest difference of
    ln(score), in deviations of fp32's ln(score) over the frames.
    """

    precision: Precision
    engine: str = Field(description="name of the engine that ran it")
    frames: int = Field(ge=1)
    moved: float = Field(ge=0)
    moved_limit: float
    ranking: float = Field(ge=0, le=1, description="share of pairs (frame, drawn defect) that fp32 orders and it too")
    ranking_limit: float
    passed: bool


class MapRecord(Record):
    """A map that a method's own graph gives: its output ``map_<name>`` [N, rows, columns]."""

    name: str = Field(pattern="^[a-z0-9_]{1,40}$")
    grid: tuple[int, int] = Field(description="rows, columns")


class OwnGraph(Record):
    """A graph of a method that the encoder's outputs are not enough for: it takes the encoder's place."""

    graph: GraphRecord
    image: ImageRecord
    embedding_dim: int = Field(ge=0, description="0: it has no output embedding")
    stages: tuple[StageRecord, ...] = ()
    maps: tuple[MapRecord, ...] = ()
    golden: str
    parity: ParityRecord


class MethodRecord(Record):
    """A method that a bundle was prepared for; methods that need the encoder alone work without (docs/methods.md)."""

    name: str = Field(pattern="^[a-z0-9-]{1,40}$")
    settings: dict[str, Any] = Field(default={}, description="its options, where they are not the usual ones")
    graph: OwnGraph | None = Field(default=None, description="null: it scores what the encoder gives")
    tensors: str | None = Field(default=None, description="file of its own tensors")


class VariantRecord(Record):
    """A further graph of the same encoder, in another precision, with its proofs."""

    graph: GraphRecord
    parity: ParityRecord
    gate: GateRecord


class Manifest(Record):
    """``manifest.json``."""

    schema_: Literal["edgevand.bundle/1"] = Field(alias="schema")
    created: str = Field(description="UTC, ISO 8601 with milliseconds and Z")
    generator: str
    method: str = Field(default="april-gan", description="that the bundle scores with where none is asked for")
    settings: dict[str, Any] = Field(default={}, description="options of that method")
    methods: tuple[MethodRecord, ...] = Field(default=(), description="methods that the bundle was prepared for")
    model: ModelRecord
    image: ImageRecord
    embedding_dim: int = Field(ge=0, description="0: the graph has no output embedding")
    logit_scale: float = 100.0
    stages: tuple[StageRecord, ...]
    maps: tuple[MapRecord, ...] = Field(default=(), description="maps that the graph itself gives")
    graph: GraphRecord
    score: ScoreRecord
    enrol: EnrolRecord = Field(default_factory=EnrolRecord, description="absent from bundles made before 0.3")
    text: TextRecord | None
    variants: tuple[VariantRecord, ...] = Field(default=(), description="the graph in other precisions")
    golden: str = "golden.safetensors"
    parity: ParityRecord
    files: dict[str, FileRecord] = Field(description="every file of the directory but manifest.json")

    @property
    def has_heads(self) -> bool:
        """Whether the bundle can draw a zero-shot map."""
        return any(stage.head for stage in self.stages)
