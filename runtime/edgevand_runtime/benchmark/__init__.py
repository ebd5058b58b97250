"""How fast a bundle runs on this machine: every engine, precision and batch that is here, stage by stage."""

from edgevand_runtime.benchmark.measure import (
    BENCHMARK_SCHEMA,
    STAGES,
    BenchmarkOptions,
    Case,
    Failure,
    Measurement,
    Report,
    Rival,
    Timing,
    benchmark,
    cases,
    to_json,
)
from edgevand_runtime.benchmark.picture import draw_report

__all__ = [
    "BENCHMARK_SCHEMA",
    "STAGES",
    "BenchmarkOptions",
    "Case",
    "Failure",
    "Measurement",
    "Report",
    "Rival",
    "Timing",
    "benchmark",
    "cases",
    "draw_report",
    "to_json",
]
