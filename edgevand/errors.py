"""Every error a user can meet, in one tree.

A message is one sentence that says what was expected, what was found and what to do. The class decides
the exit code of the command line (``../docs/errors.md``): 1 the run found what it was asked to find out is
bad, 2 wrong usage or bad input, 3 a device, source or server is unavailable.
"""

from __future__ import annotations

__all__ = [
    "BadInputError",
    "EdgevandError",
    "EndOfSourceError",
    "FormatError",
    "FrameError",
    "GateError",
    "MissingDependencyError",
    "OutputError",
    "SourceError",
    "UnavailableError",
    "UsageError",
]


class EdgevandError(Exception):
    """Base of all errors that edgevand raises on purpose; ``str(error)`` is the sentence for the user."""

    exit_code = 2


class UsageError(EdgevandError):
    """Arguments that do not fit together or are out of range."""


class BadInputError(EdgevandError):
    """An input file or value that cannot be used: an image, prompts, heads, weights, a mask."""


class FrameError(BadInputError):
    """One frame of a source cannot be decoded; the source stays usable and the next read goes on."""

    def __init__(self, source: str, message: str) -> None:
        """Remember which frame failed.

        Args:
            source: path or URI of the frame.
            message: the sentence for the user.
        """
        super().__init__(message)
        self.source = source


class FormatError(BadInputError):
    """A bundle, bank or text file that breaks its format; nothing of it was used."""


class OutputError(EdgevandError):
    """An output cannot be written: not writable, already there, disk full. Nothing half-written is left."""


class GateError(EdgevandError):
    """A parity or accuracy gate failed, or a training diverged."""

    exit_code = 1


class UnavailableError(EdgevandError):
    """A device, source or server is not available."""

    exit_code = 3


class SourceError(UnavailableError):
    """A source cannot be opened or has failed."""


class MissingDependencyError(UnavailableError):
    """An optional package is not installed; the message names the extra that brings it."""


class EndOfSourceError(EdgevandError):
    """A finite source has no further frame. Internal signal of ``Source.read``; never shown to users."""
