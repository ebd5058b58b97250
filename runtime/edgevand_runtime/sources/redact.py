"""Passwords never reach a screen, a log, a result or an event."""

from __future__ import annotations

import re

__all__ = ["redact"]

_URL = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<rest>[^\s\"'<>]*)")
_FIELD = re.compile(
    r"(?i)\b([\w-]*(?:passw(?:or)?d|passwd|pwd|token|secret|user-pw|api[-_]?key|auth)[\w-]*=)[^\s&;!\"']+"
)


def redact(text: str) -> str:
    """Replace every password in a URI, a pipeline or a sentence that quotes one by ``***``.

    Covered are the password of ``scheme://user:password@host`` (also one that holds ``/`` or ``@`` unescaped) and the
    values of fields named like a password, token, secret or key (``?password=…``, ``user-pw=…``).
    """
    return _FIELD.sub(r"\1***", _URL.sub(_hide, text))


def _hide(match: re.Match[str]) -> str:
    """One URL without its password."""
    scheme, rest = match["scheme"], match["rest"]
    host, slash, path = rest.partition("/")
    if "@" not in host and not _has_plain_host(host):
        # A password with an unescaped slash: everything up to the last @ belongs to it.
        host, slash, path = rest, "", ""
    user_info, at, address = host.rpartition("@")
    user, colon, password = user_info.partition(":")
    if not (at and colon and password):
        return match[0]
    return f"{scheme}{user}:***@{address}{slash}{path}"


def _has_plain_host(host: str) -> bool:
    """Whether this is ``name`` or ``name:port`` and nothing else."""
    return re.fullmatch(r"(\[[0-9a-fA-F:.%]*\]|[^:]*)(:\d*)?", host) is not None
