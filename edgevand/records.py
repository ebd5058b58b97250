"""JSON records of the formats: strict, frozen, unknown and repeated keys refused, NaN refused."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python

from edgevand.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["FileRecord", "Record", "created_by", "dump_record", "make_record", "parse_json", "parse_record"]


class Record(BaseModel):
    """Strict, frozen JSON record: unknown fields are refused, floats are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FileRecord(Record):
    """One file of the directory."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


AnyRecord = TypeVar("AnyRecord", bound=Record)


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Parse one JSON object (UTF-8); repeated keys, NaN and Infinity are refused.

    Raises:
        FormatError: it is not such an object; ``path`` is named.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            repeated = next(name for name in names if names.count(name) > 1)
            msg = f"the key {repeated!r} appears twice"
            raise ValueError(msg)
        return result

    def refuse(constant: str) -> float:
        msg = f"{constant} is not JSON"
        raise ValueError(msg)

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        msg = f"expected {path} to be a JSON object, found something else ({error}); make it again or copy it again"
        raise FormatError(msg) from error
    if not isinstance(value, dict):
        msg = f"expected {path} to be a JSON object, found a {type(value).__name__}; make it again or copy it again"
        raise FormatError(msg)
    return value


def parse_record(model: type[AnyRecord], data: bytes, path: Path, *, schema: str, remedy: str) -> AnyRecord:
    """Parse and validate the record file of a directory.

    Args:
        model: the record to expect.
        data: the file's bytes.
        path: named in the errors.
        schema: the only accepted value of its field ``schema``.
        remedy: what to do about a file that does not fit, an imperative.

    Raises:
        FormatError: unknown schema, a field that is missing, unknown or out of range.
    """
    fields = parse_json(data, path)
    if fields.get("schema") != schema:
        msg = f"expected {path} to have the schema {schema!r}, found {fields.get('schema')!r}; {remedy}"
        raise FormatError(msg)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise FormatError(_sentence(error, path, remedy)) from error


def make_record(model: type[AnyRecord], fields: Mapping[str, object], path: Path) -> AnyRecord:
    """Validate fields (records, tuples and plain JSON values may be mixed) into a record.

    Raises:
        FormatError: they do not fit the record.
    """
    try:
        return model.model_validate_json(
            json.dumps(to_jsonable_python(fields, by_alias=True, inf_nan_mode="constants"))
        )
    except ValidationError as error:
        raise FormatError(_sentence(error, path, "correct it")) from error


def dump_record(record: Record) -> bytes:
    """JSON bytes of a record: UTF-8, two spaces of indentation, fields in the record's order, a final newline."""
    values = record.model_dump(mode="json", by_alias=True)
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def created_by(schema: str) -> dict[str, str]:
    """Fields that every record begins with: schema, time of creation and the program that wrote it."""
    from edgevand import __version__

    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"schema": schema, "created": now, "generator": f"edgevand {__version__}"}


def _sentence(error: ValidationError, path: Path, remedy: str) -> str:
    """The first fault of a validation as one sentence."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the record"
    told = {"missing": "is missing", "extra_forbidden": "is no field of this schema"}.get(first["type"])
    if told is None:
        told = f"{first['msg'].rstrip('.')}, found {str(first['input'])[:80]!r}"
    return f"{path}: {place}: {told}; {remedy}"
