"""The memory bank: patch tokens of the enrolled frames and the search for the nearest one.

``d(p) = 1 - max over the bank of cos(x(p), f)`` for each stage (methods.md (a)). Tokens are unit vectors, so the
cosine is one matrix product (nearest.py). What is held in memory may be limited: rows are then held in half precision,
and of a bank that is larger still a coreset (coreset.py), while the frames' own tokens stay where they are.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgevand.errors import UsageError
from edgevand_runtime.coreset import Cover, covering_radius, make_cover, project, rows_at
from edgevand_runtime.nearest import largest_cosine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevand_runtime.coreset import Tokens

__all__ = ["MEGABYTE", "Held", "MemoryBank", "NearestPatch"]

MEGABYTE = 1 << 20
"""Bytes of the MB that limits are given in."""

_PAIRS = 4 * 10**9
"""Pairs of a row and a chosen one that a choice may look at: some ten seconds a stage on two cores.

It grows with the square of the frames enrolled; beyond this the frames are cut into runs, each with a coreset of its
own. Together these are a coreset of the whole, for a row that has a chosen one near in its run has one near.
"""


class NearestPatch(NamedTuple):
    """Where the enrolled patch lies that came nearest to a query."""

    frame: int
    """0-based position of the frame in the bank."""
    copy: int
    """0 the frame itself, else the augmented copy."""
    patch: int
    """Row-major position on the stage's grid."""
    distance: float
    """1 - cosine, in [0, 2]."""


class Held(NamedTuple):
    """What is searched of one stage."""

    rows: NDArray[Any]
    """(M, C) unit vectors, float32 or float16."""
    places: NDArray[np.int64] | None
    """(M,) where each stands among the F (1 + A) P rows of the stage, rising; None where all are held, in order."""


class MemoryBank:
    """Patch tokens of F frames with A augmented copies each, for every stage.

    Attributes:
        held: what is searched of each stage.
    """

    def __init__(
        self,
        tokens: Sequence[Tokens],
        smaller: MemoryBank | None = None,
        *,
        limit: float | None = None,
        held: Sequence[Held] | None = None,
    ) -> None:
        """Take the tokens in.

        Args:
            tokens: for each stage (F, 1 + A, P, C) unit vectors, or a sequence of F arrays (1 + A, P, C), which with a
                limit are looked at one at a time and may lie on the disk.
            smaller: a bank of the first of these frames that is searched for the same queries (an evaluation with
                several numbers of shots): only the other frames are searched then, and its distances taken over.
            limit: most that the rows of all stages may take together, in MB (2^20 bytes). Every row in single
                precision where that fits, else every row in half precision, else a coreset. None: every row, in
                single precision.
            held: the coreset to search, where one was made of these tokens before.

        Raises:
            UsageError: the limit has no room for one row of each stage.
        """
        self._tokens = tokens
        self._covers: dict[int, list[tuple[slice, Cover]]] = {}
        self.held = list(held) if held is not None else self._within(limit)
        self._smaller = smaller
        self._is_shared = False
        self._found: tuple[Sequence[NDArray[np.float32]], list[NDArray[np.float32]]] | None = None
        if smaller is not None:
            smaller._is_shared = True  # noqa: SLF001 - of the same class

    @property
    def frames(self) -> int:
        """Number of enrolled frames F."""
        return len(self._tokens[0])

    @property
    def coreset(self) -> list[Held] | None:
        """What is searched where that is not every row; None where it is."""
        return self.held if self.held[0].places is not None else None

    @property
    def rows(self) -> list[int]:
        """Rows of each stage, whether they are searched or not."""
        return [len(stage) * stage[0].shape[0] * stage[0].shape[1] for stage in self._tokens]

    def radius(self) -> list[float]:
        """Covering radius of each stage's coreset: no row is farther than this (1 - cosine) from a searched one."""
        found = []
        for stage, held in enumerate(self.held):
            start, largest = 0, 0.0
            for run, cover in [] if held.places is None else self._cover(stage):
                rows = held.rows[start : start + len(cover.chosen)]
                start += len(rows)
                largest = max(largest, covering_radius(self._tokens[stage][run], rows, cover))
            found.append(largest)
        return found

    def distances(self, queries: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Distance of every patch to the nearest enrolled one.

        Args:
            queries: for each stage (N, P, C) float32 unit vectors.

        Returns:
            For each stage (N, P) float32 in [0, 2].
        """
        if self._found is not None and self._found[0] is queries:
            return self._found[1]
        found = []
        for stage, (held, query) in enumerate(zip(self.held, queries, strict=True)):
            first = 0 if self._smaller is None else self._smaller.rows[stage]
            nearest = largest_cosine(query.reshape(-1, query.shape[-1]), held.rows[first:])
            found.append((1.0 - nearest).reshape(query.shape[:2]))
        if self._smaller is not None:
            found = [np.minimum(*pair) for pair in zip(found, self._smaller.distances(queries), strict=True)]
        if self._is_shared:
            self._found = queries, found
        return found

    def leave_out(
        self, groups: Sequence[int], frames: Sequence[int] | None = None, *, every_row: bool = False
    ) -> list[NDArray[np.float32]]:
        """Distances of enrolled frames to the frames of all other groups, without encoding anything again.

        Of a coreset, what would be searched had these other frames alone been enrolled, to the same covering radius.

        Args:
            groups: the group of each frame; frames of one group (a burst, near-copies) leave together.
            frames: positions of the frames that are wanted; None for all.
            every_row: hold them against every row of the others, also where a coreset is searched.

        Returns:
            For each stage (len(frames), P) float32; 2 everywhere for a frame that no other group is left for.
        """
        labels = np.asarray(groups)
        wanted = np.arange(len(labels)) if frames is None else np.asarray(frames)
        by_rows = every_row or self.coreset is None
        one_stage = self._left_out_of_rows if by_rows else self._left_out_of_coreset
        return [one_stage(stage, labels, wanted) for stage in range(len(self.held))]

    def nearest(self, stage: int, query: NDArray[np.float32], patch: int = 0) -> NearestPatch:
        """Find the enrolled patch nearest to one query, among those that are searched.

        Args:
            stage: 0-based position of the stage.
            query: (C,) float32 unit vector.
            patch: where the query is on the stage's grid, which makes no difference here.
        """
        del patch
        rows, places = self.held[stage]
        cosine = rows.astype(np.float32, copy=False) @ query
        best = int(cosine.argmax())
        copies, patches, _ = self._tokens[stage][0].shape
        place = best if places is None else int(places[best])
        frame, copy, patch = (int(part) for part in np.unravel_index(place, (self.frames, copies, patches)))
        return NearestPatch(frame, copy, patch, float(1.0 - cosine[best]))

    def _within(self, limit: float | None) -> list[Held]:
        """What a limit leaves room for."""
        widths = [stage[0].shape[-1] for stage in self._tokens]
        values = sum(rows * width for rows, width in zip(self.rows, widths, strict=True))
        if limit is None or values * 4 <= limit * MEGABYTE:
            return [Held(_all_rows(stage, np.float32), None) for stage in self._tokens]
        if values * 2 <= limit * MEGABYTE:
            return [Held(_all_rows(stage, np.float16), None) for stage in self._tokens]
        counts = [int(rows * limit * MEGABYTE / (values * 2)) for rows in self.rows]
        if min(counts) == 0:
            least = values * 2 / min(self.rows) / MEGABYTE
            message = (
                f"expected the bank's memory to hold a patch of each stage, {least:.2g} MB at least, found {limit:g} "
                "MB; give more with --bank-memory."
            )
            raise UsageError(message)
        return [self._choose(stage, count) for stage, count in enumerate(counts)]

    def _choose(self, stage: int, count: int) -> Held:
        tokens = self._tokens[stage]
        self._covers[stage] = []
        for run in self._runs(stage, count):
            wanted = count * run.stop // self.frames - count * run.start // self.frames
            self._covers[stage].append((run, make_cover(project(tokens[run]), max(1, wanted))))
        per = self.rows[stage] // self.frames
        places = np.concatenate([run.start * per + cover.chosen for run, cover in self._covers[stage]])
        return Held(rows_at(tokens, places, np.float16), places)

    def _runs(self, stage: int, count: int) -> list[slice]:
        """Runs of frames that have a coreset each: one, unless choosing ``count`` of all rows would take too long."""
        number = min(self.frames, count, -(-self.rows[stage] * count // _PAIRS))
        ends = np.linspace(0, self.frames, number + 1).round().astype(int).tolist()
        return [slice(*pair) for pair in pairwise(ends)]

    def _cover(self, stage: int) -> list[tuple[slice, Cover]]:
        """Which searched row stands for each; known from the choice, or found out for a coreset made before."""
        places = self.held[stage].places
        if stage not in self._covers and places is not None:
            tokens, per = self._tokens[stage], self.rows[stage] // self.frames
            runs = self._runs(stage, len(places))
            chosen = [places[(places >= run.start * per) & (places < run.stop * per)] - run.start * per for run in runs]
            if not all(map(len, chosen)):  # it was made of other runs
                runs, chosen = [slice(0, self.frames)], [places]
            self._covers[stage] = [
                (run, make_cover(project(tokens[run]), inside)) for run, inside in zip(runs, chosen, strict=True)
            ]
        return self._covers[stage]

    def _left_out_of_rows(self, stage: int, labels: NDArray[np.int_], wanted: NDArray[np.int_]) -> NDArray[np.float32]:
        """Each wanted frame against every row of the frames of other groups; each frame is read once."""
        tokens = self._tokens[stage]
        queries = np.stack([tokens[i][0] for i in wanted]).astype(np.float32, copy=False)
        nearest = np.full(queries.shape[:2], -1.0, np.float32)
        for label, frame in zip(labels, tokens, strict=True):
            asked = labels[wanted] != label
            rows = frame.reshape(-1, frame.shape[-1]).astype(np.float32, copy=False)
            cosine = largest_cosine(queries[asked].reshape(-1, rows.shape[1]), rows)
            nearest[asked] = np.maximum(nearest[asked], cosine.reshape(-1, queries.shape[1]))
        return 1.0 - nearest

    def _left_out_of_coreset(
        self, stage: int, labels: NDArray[np.int_], wanted: NDArray[np.int_]
    ) -> NDArray[np.float32]:
        """Each wanted frame against the coreset of the frames of other groups."""
        tokens, held = self._tokens[stage], self.held[stage]
        nearest = np.full((len(wanted), tokens[0].shape[1]), -1.0, np.float32)
        per = tokens[0].shape[0] * tokens[0].shape[1]
        for label in np.unique(labels[wanted]):
            kept, added = [], []
            for run, cover in self._cover(stage):
                stays, instead = cover.without(np.repeat(labels[run] == label, per))
                kept.append(stays)
                added.append(instead + run.start * per)
            rows = held.rows[np.concatenate(kept)]
            rows = np.concatenate([rows, rows_at(tokens, np.concatenate(added), np.float16)])
            for position in np.flatnonzero(labels[wanted] == label):
                nearest[position] = largest_cosine(tokens[wanted[position]][0], rows)
        return 1.0 - nearest


def _all_rows(frames: Tokens, dtype: type) -> NDArray[Any]:
    """Every row of a stage: (F (1 + A) P, C)."""
    width = frames[0].shape[-1]
    if isinstance(frames, np.ndarray):
        return np.ascontiguousarray(frames, dtype).reshape(-1, width)
    rows = np.empty((len(frames), frames[0].size // width, width), dtype)
    for number, frame in enumerate(frames):
        rows[number] = frame.reshape(-1, width)
    return rows.reshape(-1, width)
