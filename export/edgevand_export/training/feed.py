"""Batches of an epoch: files are read and cached tokens fetched by threads, ahead; what is new is encoded here."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from edgevand.errors import BadInputError, FrameError
from edgevand.files import sha256_file
from edgevand_export.training.cache import Encoded
from edgevand_export.training.digests import digest_of
from edgevand_export.training.pictures import Picture, read_draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgevand.bundle import ImageRecord
    from edgevand_export.training.cache import TokenCache
    from edgevand_export.training.encoder import FrozenEncoder
    from edgevand_export.training.plan import Draw
    from edgevand_runtime.stop import Stop

__all__ = ["Batch", "Feed", "FeedFigures", "Watcher"]


class Watcher(Protocol):
    """Who is told how a training goes on."""

    def begin(self, done: int, total: int) -> None:
        """The first step is about to begin; ``done`` of ``total`` pictures of all epochs lie behind."""

    def picture(self) -> None:
        """One more picture has its tokens."""

    def unreadable(self, sentence: str) -> None:
        """A file could not be read, for the first time; the training goes on without it."""


class Batch(NamedTuple):
    """Pictures of one step that could be read.

    Attributes:
        tokens: (N, P, C) float32 of each stage, on the device.
        masks: (N, S, S) float32, 0 or 1, on the device.
        classes: of each picture.
    """

    tokens: tuple[torch.Tensor, ...]
    masks: torch.Tensor
    classes: tuple[str, ...]


@dataclass(slots=True)
class FeedFigures:
    """What was done in this process: pictures encoded, and pictures whose tokens were in the cache."""

    encoded: int = 0
    cached: int = 0


class _Fetched(NamedTuple):
    """What a thread found: cached tokens, or the picture to encode under ``key``."""

    key: str
    encoded: Encoded | None
    picture: Picture | None


class Feed:
    """Draws to batches of tokens."""

    def __init__(
        self,
        encoder: FrozenEncoder,
        image: ImageRecord,
        dtype: np.dtype[np.floating[Any]],
        *,
        identity: str,
        cache: TokenCache | None,
        workers: int,
        watcher: Watcher,
    ) -> None:
        """Put the parts together.

        Args:
            encoder: of new pictures.
            image: size, mean and standard deviation of the encoder's input.
            dtype: to which tokens are rounded, cached or not.
            identity: hash of the encoder and of all else that tokens depend on beside the picture.
            cache: of tokens; None encodes every picture each time.
            workers: threads that read files.
            watcher: who is told.
        """
        self.figures = FeedFigures()
        self.unreadable: dict[str, str] = {}
        self._encoder = encoder
        self._image = image
        self._dtype = np.dtype(dtype)
        self._identity = identity
        self._cache = cache
        self._workers = workers
        self._watcher = watcher
        self._digests: dict[Path, str] = {}

    def batches(self, draws: Sequence[Draw], size: int, stop: Stop) -> Iterator[Batch | None]:
        """The batches of some draws, in order; None for one of which nothing can be read.

        Ends early when ``stop`` asks for it, between two pictures.
        """
        pool = ThreadPoolExecutor(self._workers, "pictures")
        waiting: deque[Future[_Fetched]] = deque()
        ahead = iter(draws)
        try:
            for start in range(0, len(draws), size):
                ready: list[tuple[str, tuple[torch.Tensor, ...], np.ndarray[Any, Any]]] = []
                for draw in draws[start : start + size]:
                    while len(waiting) < 2 * self._workers and (following := next(ahead, None)) is not None:
                        waiting.append(pool.submit(self._fetch, following))
                    if stop.why is not None:
                        return
                    one = self._one(draw, waiting.popleft())
                    if one is not None:
                        ready.append((draw.class_name, *one))
                    self._watcher.picture()
                yield self._batch(ready) if ready else None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _one(
        self, draw: Draw, future: Future[_Fetched]
    ) -> tuple[tuple[torch.Tensor, ...], np.ndarray[Any, Any]] | None:
        """Tokens (P, C) of each stage and mask (S, S) of one draw; None where a file cannot be read."""
        try:
            fetched = future.result()
        except FrameError as error:
            if error.source not in self.unreadable:
                self.unreadable[error.source] = str(error)
                self._watcher.unreadable(str(error))
            return None
        if fetched.encoded is not None:
            self.figures.cached += 1
            return tuple(torch.tensor(each) for each in fetched.encoded.tokens), fetched.encoded.mask
        if fetched.picture is None:  # for the type checker: one of the two is there
            return None
        names = " + ".join(part.name for part in draw.parts)
        tokens = self._rounded(self._encoder.tokens(fetched.picture.pixels, names), names)
        mask = fetched.picture.mask.astype(np.uint8)
        self.figures.encoded += 1
        if self._cache is not None:
            self._cache.store(fetched.key, Encoded(tuple(each.cpu().numpy() for each in tokens), mask))
        return tokens, mask

    def _rounded(self, tokens: tuple[torch.Tensor, ...], name: str) -> tuple[torch.Tensor, ...]:
        """Tokens in the type in which they are kept."""
        if self._dtype == np.float32:
            return tokens
        rounded = tuple(each.half() for each in tokens)
        if not all(bool(each.isfinite().all()) for each in rounded):
            raise BadInputError(
                f"expected tokens of {name} within the range of float16, found larger ones; take --set tokens=float32"
            )
        return rounded

    def _batch(self, ready: Sequence[tuple[str, tuple[torch.Tensor, ...], np.ndarray[Any, Any]]]) -> Batch:
        """Stack pictures."""
        device = self._encoder.device
        stages = zip(*(tokens for _, tokens, _ in ready), strict=True)
        return Batch(
            tuple(torch.stack([each.to(device).float() for each in stage]) for stage in stages),
            torch.from_numpy(np.stack([mask for _, _, mask in ready]).astype(np.float32)).to(device),
            tuple(name for name, _, _ in ready),
        )

    def _fetch(self, draw: Draw) -> _Fetched:
        """Cached tokens of a draw, or its picture; runs in a thread."""
        key = ""
        if self._cache is not None:
            key = self._key(draw)
            encoded = self._cache.load(key)
            if encoded is not None:
                return _Fetched(key, encoded, None)
        return _Fetched(key, None, read_draw(draw, self._image))

    def _key(self, draw: Draw) -> str:
        """Hash of all that the tokens and the mask of a draw depend on."""
        parts = [[self._digest(part.image), [self._digest(mask) for mask in part.masks]] for part in draw.parts]
        return digest_of({"encoder": self._identity, "parts": parts})

    def _digest(self, path: Path) -> str:
        """Hash of a file; taken once in a run."""
        known = self._digests.get(path)
        if known is None:
            try:
                known = sha256_file(path)
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise FrameError(str(path), f"cannot read {path}: {reason}; replace or remove it") from error
            self._digests[path] = known
        return known
