"""The page on formats says what the program does: its examples are valid, its limits are the program's."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from edgevand import bank, bank_checks, bundle, files, tensors, text_files
from edgevand.bank_checks import check_record
from edgevand.records import dump_record, parse_record


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    """The page."""
    return (repository / "docs" / "formats.md").read_text(encoding="utf-8")


def test_the_examples_are_valid_records_and_show_every_field(page: str) -> None:
    manifest, record = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    path = Path("example")
    shown = parse_record(bundle.Manifest, manifest.encode(), path, schema="edgevand.bundle/1", remedy="")
    bundle._check_manifest(shown, path)
    assert json.loads(dump_record(shown)) == json.loads(manifest)
    enrolled = parse_record(bank.BankRecord, record.encode(), path, schema="edgevand.bank/1", remedy="")
    check_record(enrolled, path)
    assert json.loads(dump_record(enrolled)) == json.loads(record)


def test_the_limits_are_those_of_the_program(page: str) -> None:
    limits = {
        "`manifest.json`": f"{bundle.MAX_MANIFEST >> 20} MiB",
        "`bank.json`": f"{bank.MAX_RECORD >> 20} MiB",
        "header of a tensor file": f"{tensors.MAX_HEADER >> 20} MiB",
        "dimensions of a tensor": str(tensors._MAX_DIMENSIONS),
        "objects in a text file": str(text_files.MAX_OBJECTS),
        "characters of an object's name": str(text_files.MAX_OBJECT_NAME),
        "side of a bundle's image": "8192 pixels",
        "side of an enrolled frame": "65535 pixels",
        "frames of a bank": str(bank_checks.MAX_FRAMES),
        "former versions kept of a bank": str(bank.KEPT_VERSIONS),
    }
    table = page.split("### Limits")[1].split("\n\n")[1]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE)[1:]
    assert dict(rows[1:] if rows[0][0] == "---" else rows) == limits
    assert f"at most {files._MAX_PATH} printable characters" in page


def test_the_bytes_on_the_page_are_the_bytes_of_a_file(page: str) -> None:
    block = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert block is not None
    length, first, second, *data = (line.split("   ")[0].rstrip() for line in block[1].splitlines())
    header = (first + second + 3 * " ").encode()
    shown = bytes.fromhex(length) + header + bytes.fromhex("".join(data))
    arrays: dict[str, np.ndarray] = {"b": np.array([[1, -2]], np.float32), "a": np.array([7], np.uint8)}
    assert shown == tensors.tensor_bytes(arrays, {"k": "v"})
    assert struct.unpack("<Q", bytes.fromhex(length))[0] == len(header)


def test_every_schema_is_on_the_page(page: str) -> None:
    for schema in (bundle.BUNDLE_SCHEMA, bank.BANK_SCHEMA, text_files.TEXT_SCHEMA):
        assert f"`{schema}`" in page
