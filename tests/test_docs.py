"""The documentation is true: README blocks run, commands and options have their words, links lead somewhere.

A block of the README is run by bash in an empty directory and an empty home, in the order of the page. A comment just
above it changes that, always with a reason:

    <!-- test: replace "A" with "B": reason -->     (as often as needed)
    <!-- test: skip: reason -->
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgevand.cli import COMMANDS, load_command

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(
    r"(?P<comments>(?:^<!-- test: .*? -->\n)*)^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
REPLACE = re.compile(r'<!-- test: replace "(.*?)" with "(.*?)": \S.*? -->')
SKIP = re.compile(r"<!-- test: skip: \S.*? -->")
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


@dataclass(frozen=True)
class Block:
    """A block of a page, as it is run."""

    language: str
    text: str
    skipped: bool


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are code, with their comments carried out."""
    found = []
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        text = match["text"]
        for comment in match["comments"].splitlines():
            replacement = REPLACE.fullmatch(comment)
            assert replacement or SKIP.fullmatch(comment), f"not understood: {comment}"
            if replacement:
                assert replacement[1] in text, f"nothing to replace: {comment}"
                text = text.replace(replacement[1], replacement[2])
        found.append(Block(match["language"], text, "<!-- test: skip" in match["comments"]))
    return found


def options_of(name: str) -> list[list[str]]:
    """The spellings of each option of a command, but for --help."""
    parameters = [parameter for parameter in load_command(name).params if parameter.param_type_name == "option"]
    return [[*parameter.opts, *parameter.secondary_opts] for parameter in parameters if "--help" not in parameter.opts]


def page_of(name: str) -> Path:
    return ROOT / "docs" / "commands" / f"{name}.md"


def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "EDGEVAND_HOME": str(tmp_path / "home")}
    (tmp_path / "work").mkdir()
    run = 0
    for block in blocks(ROOT / "README.md"):
        command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}.get(block.language)
        if command is None or block.skipped:
            continue
        done = subprocess.run(
            [*command, block.text], cwd=tmp_path / "work", env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        run += 1
    assert run >= 4


def test_the_readme_has_no_block_of_a_kind_that_is_not_run() -> None:
    kinds = {block.language for block in blocks(ROOT / "README.md")}
    assert kinds <= {"bash", "python", "json", "text"}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(blocks(ROOT / "README.md"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_page_with_every_option(name: str) -> None:
    text = page_of(name).read_text(encoding="utf-8")
    assert text.startswith(f"# edgevand {name}\n")
    for spellings in options_of(name):
        for spelling in spellings:
            assert re.search(rf"`{spelling}(?![\w-])", text), f"{page_of(name)} does not name {spelling}"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_a_command_lists_no_option_that_it_does_not_have(name: str) -> None:
    known = {spelling for spellings in options_of(name) for spelling in spellings} | {"--help"}
    rows = re.findall(r"^\| (`.*?) \|", page_of(name).read_text(encoding="utf-8"), re.MULTILINE)
    listed = {option for row in rows for option in OPTION.findall(row)}
    assert listed <= known


def test_there_is_no_page_of_a_command_that_does_not_exist() -> None:
    assert {path.stem for path in (ROOT / "docs" / "commands").glob("*.md")} == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_a_page_exist_and_have_the_options_they_are_shown_with(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r"(?:^ {4}|^|`|\$ )edgevand ([a-z]+)((?: [^`\n#]*)?)", text, re.MULTILINE)
    for name, arguments in shown:
        assert name in COMMANDS, f"{page.name} shows `edgevand {name}`"
        known = {spelling for spellings in options_of(name) for spelling in spellings} | {"--help"}
        assert set(OPTION.findall(re.split(r"[|;&]", arguments)[0])) <= known, (
            f"{page.name}: edgevand {name}{arguments}"
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, heading = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
            assert heading in slugs, f"{page.name} links to {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert set(PAGES) - reached == set()
