"""``report.html``: the report of an evaluation as one page that a person reads without a manual.

The page holds everything: no script, no font, no address outside it; its content security policy forbids them, so that
even a file name made to inject something could do nothing. Every value passes jinja2's escaping.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevand.errors import MissingDependencyError
from edgevand.staging import write_atomic
from edgevand_runtime.evaluation.page.view import build_view

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["render", "write_html"]

_TEMPLATE = "report.html.jinja"


def write_html(path: Path, report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the file.
        report: parsed ``edgevand.report/1``.
        pictures: JPEG bytes by the identifier that ``report["worst"][…]["picture"]`` names; one that is missing is
            said to be.

    Raises:
        MissingDependencyError: jinja2 is not installed.
        OutputError: the file cannot be written.
    """
    write_atomic(path, render(report, pictures).encode("utf-8", "backslashreplace"))


def render(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page as text; arguments and errors as of ``write_html``."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise MissingDependencyError(
            "expected the package jinja2 for report.html, found none; install it with pip install 'edgevand[eval]'"
        ) from None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("page")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(_TEMPLATE).render(build_view(report, pictures))
