"""What a method is: it turns encoder outputs into a raw map and a raw score.

A method is a line of the table in ``methods`` (``MethodKind``), options (``Settings``) and a class (``Method``). The
path of a frame, calibration and evaluation know these alone (docs/adding-a-method.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgevand.bundle import Bundle, Manifest
    from edgevand_runtime.coreset import Tokens
    from edgevand_runtime.engines import EncoderOutput
    from edgevand_runtime.locality import LocalBank

__all__ = ["Box", "Enrolled", "Mark", "Method", "MethodKind", "Opening", "RawScore", "Search", "Settings", "Worded"]

Features = dict[str, Any]
"""Tensors of ``features.safetensors`` by name; of one frame without the leading axis."""

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels of a frame."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that a method points at.

    Attributes:
        label: a few words for people.
        box: x, y, width, height as fractions of the frame, in [0, 1].
    """

    label: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class RawScore:
    """A method's verdict on one frame, before calibration.

    Attributes:
        text_score: abnormal probability that the text gives, in [0, 1]; None without text.
        raw_map: (S_h, S_w) float32 at the bundle's image size, 0 outside the region of interest; None without a map.
        map_max: maximum of the raw map; None without a map.
        raw_score: the method's image score.
        reason: what speaks most for an anomaly, in a few words for people; None where the method cannot say.
        marks: what it points at.
    """

    text_score: float | None
    raw_map: NDArray[np.float32] | None
    map_max: float | None
    raw_score: float
    reason: str | None = None
    marks: tuple[Mark, ...] = ()


class Search(Protocol):
    """A memory bank, wherever it is searched."""

    def distances(self, queries: Sequence[Any]) -> list[NDArray[np.float32]]:
        """Distance of every patch of N frames to the nearest enrolled one; see ``MemoryBank.distances``."""

    def leave_out(self, groups: Sequence[int]) -> list[NDArray[np.float32]]:
        """Distances of the enrolled frames to those of other groups; see ``MemoryBank.leave_out``."""


class Settings(BaseModel):
    """Options of a method; a subclass has one field, with a description, for each."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Enrolled(NamedTuple):
    """The frames that automatic settings are decided on, after they were encoded."""

    manifest: Manifest
    features: Features
    groups: Sequence[int]
    inside: NDArray[np.bool_] | None


class Worded(NamedTuple):
    """Text of one object that a method brings itself.

    Attributes:
        text: (2, D) float32 rows (normal, abnormal), which the graph's heads are given and ``opening.text`` is.
        own: what ``opening.own`` is for this object.
    """

    text: NDArray[np.float32]
    own: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """With what a method is opened.

    Attributes:
        manifest: of the bundle, as the method sees it (``Bundle.as_method``).
        settings: the method's options.
        text: (2, D) float32 rows (normal, abnormal), or None.
        features: tensors of the enrolled frames (docs/formats.md, bank), or None for zero-shot.
        inside: (S_h, S_w) region of interest at the bundle's image size; None for the whole image.
        search: the memory bank over ``features``, for a method that searches one.
        own: the method's own tensors out of the bundle, by name.
    """

    manifest: Manifest
    settings: Any
    text: NDArray[np.float32] | None
    features: Features | None
    inside: NDArray[np.bool_] | None
    search: Search | None = None
    own: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class Method:
    """Scores frames; heavy state is built once in the constructor, and one thread at a time calls it."""

    def __init__(self, opening: Opening) -> None:
        """Bring together what a frame is scored with."""
        self.opening = opening

    @staticmethod
    def boxes(manifest: Manifest, size: tuple[int, int]) -> tuple[Box, ...] | None:
        """Parts of a frame that the encoder sees one by one; None: the whole frame, once.

        Args:
            manifest: as the method sees it.
            size: width and height of the frame in pixels.
        """
        del manifest, size
        return None

    @staticmethod
    def compared(manifest: Manifest, outputs: EncoderOutput) -> Sequence[NDArray[np.float32]]:
        """Patch tokens as the memory bank keeps them and is searched for them: for each stage (N, P, C); the encoder's.

        Args:
            manifest: as the method sees it.
            outputs: of N frames.
        """
        del manifest
        return outputs.tokens

    @staticmethod
    def keep(manifest: Manifest, outputs: EncoderOutput) -> Features:
        """What a bank keeps of one frame, without a leading axis.

        Here: ``embedding`` (D,), ``tokens_<i>`` (1 + A, P, C), ``logits_<i>`` (h, w) and ``map_<name>`` (h, w).

        Args:
            manifest: as the method sees it.
            outputs: of the frame, row 0, and its A augmented copies; or of its boxes.
        """
        kept: Features = {"embedding": outputs.embedding[0]} if manifest.embedding_dim else {}
        headed = [stage for stage in manifest.stages if stage.head]
        kept |= {f"tokens_{s.index}": tokens for s, tokens in zip(manifest.stages, outputs.tokens, strict=True)}
        kept |= {f"logits_{s.index}": logits[0] for s, logits in zip(headed, outputs.logits, strict=True)}
        return kept | {f"map_{name}": found[0] for name, found in outputs.maps.items()}

    @property
    def summed_maps(self) -> int:
        """Maps of probabilities that a raw map is the sum of where nothing was enrolled.

        A threshold on the score that was set by hand counts once for each of them on the map.
        """
        return 1

    def score(self, outputs: EncoderOutput) -> list[RawScore]:
        """Score N encoded frames."""
        raise NotImplementedError

    def leave_out(self, groups: Sequence[int]) -> list[RawScore]:
        """Score the F enrolled frames (``opening.features``), each without what its group left (methods.md (g))."""
        raise NotImplementedError

    def combine(self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]] | None) -> list[RawScore]:
        """Score N frames whose distances to a bank are known: for each stage (N, P); None without a bank.

        Only methods that search a memory bank have it.
        """
        raise NotImplementedError

    def combine_without(
        self, outputs: EncoderOutput, distances: Sequence[NDArray[np.float32]], left_out: NDArray[np.bool_]
    ) -> list[RawScore]:
        """Score one enrolled frame without some of the enrolled frames, its own group (methods.md (g)).

        Here as ``combine``: for a method that looks at nothing of the enrolled frames but these distances.

        Args:
            outputs: of the frame.
            distances: for each stage (1, P), to the patches of the other frames.
            left_out: (F,) the frames that must have no part in it.
        """
        del left_out
        return self.combine(outputs, distances)

    def summarise(self, raws: Sequence[RawScore]) -> Features:
        """What is written in the place of ``opening.features``, for a method of the layout ``summary``.

        Args:
            raws: what ``leave_out`` said of the frames, without maps; empty where there is one group only.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class MethodKind:
    """A line in the table of methods.

    Attributes:
        name: the word of ``--method``.
        summary: what it does and is good for, in one sentence.
        settings: its options.
        open: the method itself.
        searches: enrolment makes a memory bank of the patch tokens, which the method gets as ``opening.search``.
        memory: the search of that bank where it is another than ``MemoryBank``'s; takes the view's manifest, tokens of
            each stage, and a limit in MB or None, and gives None where it is not.
        layout: ``tokens``: the bank keeps what ``keep`` says of each frame; ``summary``: what ``summarise`` makes of
            all of them, in whatever form ``extend`` can add frames to.
        least_frames: independent frames below which it cannot be enrolled.
        poses: whether the poses that a bundle recommends for enrolment (``Manifest.enrol``) are good for it; they are
            not where a mirrored or turned layout is an anomaly.
        needs_frames: it scores nothing before frames are enrolled, whatever the bundle holds.
        prepared: it needs more of a bundle than the encoder, which ``edgevand export --method`` puts there.
        worded: text by object, for a method that brings its own in the place of the bundle's: settings, and the
            method's own tensors out of the bundle.
        usual_spread: its raw scores spread as those that the bundle's ``score.usual_sd`` was measured on: sums of
            distances to the nearest enrolled patch. Others are calibrated by their own spread alone.
        at_first: settles settings by the first frame, before anything is encoded: the bundle as the method sees it,
            (H, W, 3) uint8 BGR, region of interest (H, W) uint8 or None; gives the settings.
        decide: settles automatic settings when all frames are encoded; gives the settings, and a sentence for each
            choice that tells what was chosen and why.
        extend: for the layout ``summary``: former features, those of the new frames, their groups; gives what takes
            the place of ``opening.features`` for all frames together.
    """

    name: str
    summary: str
    settings: type[Settings]
    open: type[Method]
    searches: bool = False
    memory: Callable[[Manifest, Sequence[Tokens], float | None], LocalBank | None] | None = None
    layout: Literal["tokens", "summary"] = "tokens"
    least_frames: int = 1
    poses: bool = True
    needs_frames: bool = False
    prepared: bool = False
    usual_spread: bool = False
    worded: Callable[[Any, Mapping[str, NDArray[Any]]], dict[str, Worded]] | None = None
    at_first: Callable[[Bundle, NDArray[np.uint8], NDArray[np.uint8] | None], Settings] | None = None
    decide: Callable[[Enrolled], tuple[Settings, tuple[str, ...]]] | None = None
    extend: Callable[[Features, Features, Sequence[int]], Features] | None = None
