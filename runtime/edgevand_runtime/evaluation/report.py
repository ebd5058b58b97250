"""The files of a report: ``report.json`` (``edgevand.report/1``), ``report.csv`` and the pictures; docs/evaluate.md."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevand.errors import FormatError
from edgevand.files import read_limited, write_atomic
from edgevand.records import parse_json
from edgevand_runtime.evaluation.work import MAX_REPORT
from edgevand_runtime.threads import available_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["REPORT_SCHEMA", "machine", "read_report", "write_files"]

REPORT_SCHEMA = "edgevand.report/1"
_COLUMNS = ("class", "object", "shots", "seed")
_CALIBRATION = ("kind", "n", "threshold", "wanted", "false_alarm_rate", "false_alarms", "detection_rate", "detections")


def write_files(target: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.csv``, then ``report.json``, which says that the report is whole.

    Raises:
        OutputError: a file cannot be written.
    """
    write_atomic(target / "report.csv", _csv(report))
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(target / "report.json", (text + "\n").encode())


def read_report(path: Path) -> dict[str, Any]:
    """A report, from its directory or its ``report.json``.

    Raises:
        FormatError: it is none.
        BadInputError: it cannot be read.
    """
    file = path / "report.json" if path.is_dir() else path
    absent = f"expected a report at {file}, found none; make one with edgevand evaluate -o {path}"
    report = parse_json(read_limited(file, MAX_REPORT, absent), file)
    if report.get("schema") != REPORT_SCHEMA:
        raise FormatError(
            f"expected {file} to have the schema {REPORT_SCHEMA!r}, found {report.get('schema')!r}; make it again with "
            "this version of edgevand"
        )
    return report


def machine(engine: str) -> dict[str, Any]:
    """What the figures were computed on."""
    return {"cpu": _cpu_name(), "cores": available_cores(), "engine": engine}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "hardware"))]
    return names[0] if names else "unknown processor"


def _csv(report: Mapping[str, Any]) -> bytes:
    """A line for each row, a column for each figure; empty where undefined."""
    rows = report["rows"]
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    images = ("normal", "anomalous", "unreadable")
    writer.writerow(
        [
            *_COLUMNS,
            *(f"images_{name}" for name in images),
            *metrics,
            *(f"calibration_{name}" for name in _CALIBRATION),
            "latency_ms_p50",
            "latency_ms_p95",
            "enrolled",
        ]
    )
    for row in rows:
        writer.writerow(
            [
                *(row[name] for name in _COLUMNS),
                *(row["images"][name] for name in images),
                *(row["metrics"].get(name) for name in metrics),
                *(row["calibration"][name] for name in _CALIBRATION),
                row["latency_ms"]["p50"],
                row["latency_ms"]["p95"],
                " ".join(row["enrolled"]),
            ]
        )
    return text.getvalue().encode()
