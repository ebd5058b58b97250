"""JSON records: strict, without repeated keys, with errors that are one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from edgevand.errors import FormatError
from edgevand.records import FileRecord, Record, created_by, dump_record, make_record, parse_json, parse_record

PATH = Path("x/part.json")


class Part(Record):
    """A record for these tests."""

    schema_: Literal["part/1"] = Field(alias="schema")
    size: tuple[int, int]
    weight: float = 1.0
    files: dict[str, FileRecord] = Field(default_factory=dict)


def parse(text: str | bytes) -> Part:
    data = text.encode() if isinstance(text, str) else text
    return parse_record(Part, data, PATH, schema="part/1", remedy="make it again")


def test_a_record_is_written_in_these_bytes_and_read_back() -> None:
    digest = "0" * 64
    file = FileRecord(sha256=digest, size=3)
    part = make_record(Part, {"schema": "part/1", "size": (1, 2), "files": {"ü": file}}, PATH)
    expected = (
        '{\n  "schema": "part/1",\n  "size": [\n    1,\n    2\n  ],\n  "weight": 1.0,\n  "files": {\n    "ü": {\n'
        f'      "sha256": "{digest}",\n      "size": 3\n    }}\n  }}\n}}\n'
    )
    assert dump_record(part) == expected.encode()
    assert parse(dump_record(part)) == part


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "JSON"),
        ("[]", "list"),
        ("5", "int"),
        ("{", "JSON"),
        (b"\xff\xfe", "JSON"),
        ("[" * 100000, "JSON"),
        ('{"schema": "part/1", "size": [1, 2], "size": [3, 4]}', "'size' appears twice"),
        ('{"schema": "part/1", "size": [1, 2], "files": {"a": {"size": 1, "size": 2}}}', "'size' appears twice"),
        ('{"schema": "part/1", "size": [1, 2], "weight": NaN}', "NaN"),
        ('{"schema": "part/1", "size": [1, 2], "weight": -Infinity}', "Infinity"),
        ('{"schema": "part/1", "size": [1, 2], "weight": 1e999}', "weight"),
        ('{"schema": "part/1", "size": [1, ' + "9" * 5000 + "]}", "JSON"),
        ('{"schema": "part/2", "size": [1, 2]}', "'part/2'"),
        ('{"size": [1, 2]}', "None"),
        ('{"schema": "part/1"}', "size"),
        ('{"schema": "part/1", "size": [1, 2, 3]}', "size"),
        ('{"schema": "part/1", "size": ["1", 2]}', "size.0"),
        ('{"schema": "part/1", "size": [1.5, 2]}', "size.0"),
        ('{"schema": "part/1", "size": [1, 2], "colour": 1}', "colour"),
        ('{"schema": "part/1", "size": [1, 2], "files": {"a": {"sha256": "XYZ", "size": 1}}}', "files.a.sha256"),
        ('{"schema": "part/1", "size": [1, 2], "files": {"a": {"sha256": "' + "0" * 64 + '", "size": -1}}}', "size"),
    ],
)
def test_what_does_not_fit_is_refused_with_one_sentence_that_names_it(text: str | bytes, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse(text)
    message = str(caught.value)
    assert str(PATH) in message
    assert said in message
    assert "\n" not in message
    assert len(message) < 400


def test_an_integer_is_taken_for_a_float_but_a_text_is_not() -> None:
    assert parse('{"schema": "part/1", "size": [1, 2], "weight": 2}').weight == 2.0
    with pytest.raises(FormatError, match="weight"):
        parse('{"schema": "part/1", "size": [1, 2], "weight": "2"}')


def test_fields_that_do_not_fit_are_refused_before_they_are_written() -> None:
    with pytest.raises(FormatError, match="weight"):
        make_record(Part, {"schema": "part/1", "size": (1, 2), "weight": float("nan")}, PATH)


def test_a_record_does_not_change() -> None:
    part = parse('{"schema": "part/1", "size": [1, 2]}')
    with pytest.raises(ValueError, match="frozen"):
        part.weight = 2.0  # type: ignore[misc]


def test_parsed_json_is_what_the_standard_library_parses() -> None:
    text = '{"a": [1, 2.5, null, true, {"b": "ä"}], "": {}}'
    assert parse_json(text.encode(), PATH) == json.loads(text)


def test_every_record_says_when_and_by_what_it_was_made() -> None:
    fields = created_by("part/1")
    assert fields["schema"] == "part/1"
    assert fields["generator"].startswith("edgevand ")
    assert len(fields["created"]) == len("2026-11-21T20:18:00.123Z")
    assert fields["created"].endswith("Z")
