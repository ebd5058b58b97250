"""Hashes and the list of files of a directory."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from edgevand.errors import BadInputError, FormatError
from edgevand.files import check_tree, read_limited, record_tree, sha256_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small directory."""
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(b"a")
    (root / "sub" / "b").write_bytes(b"bb")
    (root / "own.json").write_bytes(b"{}")
    return root


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 5])
def test_the_hash_is_that_of_the_whole_file(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_a_tree_is_recorded_by_path_size_and_hash(tree: Path) -> None:
    (tree / "own.json").unlink()
    files = record_tree(tree)
    assert list(files) == ["a", "sub/b"]
    assert files["sub/b"].size == 2
    assert files["sub/b"].sha256 == hashlib.sha256(b"bb").hexdigest()


def test_an_untouched_tree_passes(tree: Path) -> None:
    files = record_tree(tree)
    files.pop("own.json")
    check_tree(tree, files, "own.json")


def test_a_changed_byte_is_found_by_the_hash_and_passes_where_only_sizes_are_asked(tree: Path) -> None:
    files = record_tree(tree)
    files.pop("own.json")
    (tree / "a").write_bytes(b"b")
    check_tree(tree, files, "own.json", verify=False)
    with pytest.raises(FormatError, match=r"expected .*/a to have the sha256"):
        check_tree(tree, files, "own.json")


def test_a_hash_that_the_caller_knows_is_taken_and_compared(tree: Path) -> None:
    files = record_tree(tree)
    files.pop("own.json")
    check_tree(tree, files, "own.json", known={"a": files["a"].sha256})
    with pytest.raises(FormatError, match="sha256"):
        check_tree(tree, files, "own.json", verify=False, known={"a": "0" * 64})


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../x",
        "sub/../../x",
        "sub/..",
        "./a",
        "sub//b",
        "sub/",
        "a\\b",
        "C:a",
        "a\0",
        "a\n",
        "own.json",
    ],
)
def test_a_listed_path_that_could_leave_the_directory_is_refused(tree: Path, name: str) -> None:
    files = record_tree(tree)
    files[name] = files.pop("a")
    with pytest.raises(FormatError, match="expected a path inside the directory"):
        check_tree(tree, files, "own.json")


def test_a_named_pipe_is_refused_and_not_waited_for(tree: Path) -> None:
    files = record_tree(tree)
    files.pop("own.json")
    (tree / "a").unlink()
    os.mkfifo(tree / "a")
    with pytest.raises(FormatError, match="only plain files"):
        check_tree(tree, files, "own.json")


def test_a_small_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1234")
    assert read_limited(tmp_path / "x", 4) == b"1234"
    with pytest.raises(FormatError, match="at most 3 bytes"):
        read_limited(tmp_path / "x", 3)
    with pytest.raises(BadInputError, match="No such file"):
        read_limited(tmp_path / "none", 3)
    with pytest.raises(BadInputError, match="make one first"):
        read_limited(tmp_path / "none", 3, "make one first")
    with pytest.raises(BadInputError, match="make one first"):
        read_limited(tmp_path / "x" / "below", 3, "make one first")
