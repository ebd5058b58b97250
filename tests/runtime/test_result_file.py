"""The result file holds whole lines only, whatever happens to the run that writes it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from edgevand.errors import BadInputError, OutputError
from edgevand_runtime.result_file import ResultFile, encode_line, read_results, repair

if TYPE_CHECKING:
    from pathlib import Path


def result(number: int, **more: Any) -> dict[str, Any]:
    return {"schema": "edgevand.result/1", "source": f"{number}.png", "frame": number, "score": number / 10, **more}


def write(path: Path, *documents: dict[str, Any], resume: bool = False) -> None:
    with ResultFile(path, resume=resume) as file:
        for document in documents:
            file.append(document)


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    write(path, result(0), result(1, source="Gehäuse/ü.png"))
    assert list(read_results(path)) == [result(0), result(1, source="Gehäuse/ü.png")]
    assert "Gehäuse" in path.read_text(encoding="utf-8")


def test_a_file_name_that_is_no_utf8_is_escaped_and_comes_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"part-\xff.png")
    assert json.loads(encode_line(result(0, source=name)))["source"] == name


def test_without_resume_an_older_file_is_replaced_by_the_first_line_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write(path, result(0), result(1))
    with ResultFile(path) as file:
        assert list(read_results(path)) == [result(0), result(1)]
        file.append(result(7))
        assert list(read_results(path)) == [result(7)]
        file.append(result(8))
    assert list(read_results(path)) == [result(7), result(8)]


def test_a_run_that_writes_nothing_leaves_no_file_and_keeps_an_older_one(tmp_path: Path) -> None:
    write(tmp_path / "new.jsonl")
    assert not (tmp_path / "new.jsonl").exists()
    write(tmp_path / "old.jsonl", result(0))
    write(tmp_path / "old.jsonl")
    assert list(read_results(tmp_path / "old.jsonl")) == [result(0)]


@pytest.mark.parametrize("cut", range(1, len(encode_line(result(2))) + 1))
def test_a_line_torn_at_any_byte_is_cut_off_and_the_whole_ones_stay(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "results.jsonl"
    whole = encode_line(result(0)) + encode_line(result(1))
    path.write_bytes(whole + encode_line(result(2))[:-cut])
    repair(path)
    # Only the line's end is missing: the line itself is whole and is kept.
    kept = [result(0), result(1), *([result(2)] if cut == 1 else [])]
    assert list(read_results(path)) == kept
    write(path, result(3), resume=True)
    assert list(read_results(path)) == [*kept, result(3)]


def test_a_line_torn_within_a_letter_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    torn = encode_line(result(1, source="ä.png"))
    path.write_bytes(encode_line(result(0)) + torn[: torn.index("ä".encode()) + 1])
    repair(path)
    assert list(read_results(path)) == [result(0)]


def test_lines_of_failed_frames_are_taken_out_so_that_they_are_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    error = {"schema": "edgevand.result/1", "source": "1.png", "frame": 1, "error": "torn"}
    write(path, result(0), error, result(2))
    repair(path)
    assert list(read_results(path)) == [result(0), result(2)]


def test_a_file_that_needs_no_repair_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write(path, result(0))
    before = path.stat()
    repair(path)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    repair(tmp_path / "absent.jsonl")
    assert not (tmp_path / "absent.jsonl").exists()


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b'{"schema": "other"}\n', b"[1]\n" + encode_line(result(0))])
def test_a_file_of_something_else_is_refused_and_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"line 1 is none; name another output"):
        repair(path)
    assert path.read_bytes() == content


def test_a_directory_in_its_place_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"{tmp_path}"):
        ResultFile(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"results\.jsonl"):
        ResultFile(tmp_path / "file" / "results.jsonl")


def test_a_full_disk_costs_the_line_that_did_not_fit_and_no_other(tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk: the system takes a part of the line and then refuses."""
    path = tmp_path / "results.jsonl"
    program = f"""
import resource, signal, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from edgevand_runtime.result_file import ResultFile
from edgevand.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with ResultFile(Path({str(path)!r})) as file:
    try:
        for number in range(100):
            file.append({{"schema": "edgevand.result/1", "source": "x" * 80, "frame": number}})
    except OutputError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert str(path) in done.stdout
    assert done.stdout.count("\n") == 1
    lines = list(read_results(path))
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert 0 < len(lines) < 10
    assert path.read_bytes().endswith(b"}\n")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000
