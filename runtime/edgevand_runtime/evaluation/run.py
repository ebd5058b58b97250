"""An evaluation from the dataset to the report: class after class, each finished one kept, the files at the end."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from edgevand import __version__
from edgevand.errors import MissingDependencyError, UsageError
from edgevand.files import read_limited, write_atomic
from edgevand.records import created_by
from edgevand_runtime.augment import chosen_poses
from edgevand_runtime.evaluation.cases import CaseMaker, frames_to_enrol, text_for
from edgevand_runtime.evaluation.judging import judge
from edgevand_runtime.evaluation.published import published_rows
from edgevand_runtime.evaluation.report import REPORT_SCHEMA, machine, read_report, write_files
from edgevand_runtime.evaluation.rows import make_row
from edgevand_runtime.evaluation.summary import summarise, summarise_aufc
from edgevand_runtime.evaluation.work import Work, differing
from edgevand_runtime.evaluation.worst import find_worst
from edgevand_runtime.frame_files import make_directory
from edgevand_runtime.methods import kind_of
from edgevand_runtime.threads import available_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgevand.bundle import Bundle
    from edgevand_runtime.datasets import Dataset, DatasetClass, Sample
    from edgevand_runtime.engines import Engine
    from edgevand_runtime.evaluation.judging import Judged
    from edgevand_runtime.evaluation.options import EvaluateOptions

__all__ = ["Step", "evaluate", "require_html"]

_LOG = logging.getLogger(__name__)

_WORKERS = 4
"""Most rows whose metrics are computed at once: each needs memory of its own."""

_MAX_PICTURE = 1 << 26


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run is.

    Attributes:
        class_name: of the class under way; empty at the end.
        done: pictures behind it, of all classes.
        total: pictures to encode or pass over, of all classes.
        stage: what it does: ``enrol``, ``judge`` or ``metrics``.
    """

    class_name: str
    done: int
    total: int
    stage: str


def require_html() -> None:
    """Find out whether ``report.html`` can be written, before hours of work.

    Raises:
        MissingDependencyError: a package is missing.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise MissingDependencyError(
            "expected the package jinja2 for report.html, found none; install it with pip install 'edgevand[eval]', or "
            "give --no-html"
        )


def evaluate(  # noqa: PLR0913 - by name
    dataset: Dataset,
    bundle: Bundle,
    engine: Engine,
    target: Path,
    options: EvaluateOptions,
    *,
    resume: bool = False,
    html: bool = True,
    told: Callable[[Step], None] = lambda _: None,
) -> dict[str, Any]:
    """Evaluate a bundle on a dataset and write the report.

    Args:
        dataset: what is judged.
        bundle: an opened bundle.
        engine: runs its graph; stays open.
        target: directory of the report.
        options: which rows, and how.
        resume: go on with an earlier run there; a finished report of the same run is given back as it is.
        html: also write ``report.html``.
        told: called as the run moves on.

    Returns:
        The report (``edgevand.report/1``) as it was written.

    Raises:
        MissingDependencyError: the page is wanted and cannot be made.
        UsageError: more shots than a class has frames, no text for a class, or another run to resume.
        OutputError: something is in the way, or cannot be written.
    """
    if html:
        require_html()
    options = replace(
        options, augment=chosen_poses(options.augment, bundle.manifest, follow=kind_of(bundle.manifest).poses)
    )
    _check_shots(dataset, options)
    for dataset_class in dataset.classes:
        text_for(bundle, dataset_class.name, options)
    identity = _identity(dataset, bundle, options)
    if resume and (target / "report.json").exists() and not (target / ".work").exists():
        report = _finished(target, identity)
        if html and not (target / "report.html").exists():
            _write_page(target, report)
        return report
    with Work(target, identity, resume=resume) as work:
        progress = _Progress(dataset, options, told)
        documents = []
        for number, dataset_class in enumerate(dataset.classes):
            document = work.finished(number)
            progress.start(dataset_class)
            if document is None:
                run = _ClassRun(number, dataset_class, bundle, engine, options, progress)
                document = run.document(work, loco=dataset.layout == "loco")
                took = sum(document["work"]["seconds"].values())
                _LOG.info("%s: %d rows in %.1f s", dataset_class.name, len(document["rows"]), took)
            else:
                _LOG.info("%s: finished before", dataset_class.name)
            progress.end()
            documents.append(document)
        report = _report(dataset, bundle, engine, options, identity, documents)
        if html:
            _write_page(target, report)
        write_files(target, report)
        work.remove()
    return report


class _Progress:
    """Counts pictures over all classes."""

    def __init__(self, dataset: Dataset, options: EvaluateOptions, told: Callable[[Step], None]) -> None:
        self._told = told
        self._options = options
        self._total = sum(self._pictures(each) for each in dataset.classes)
        self._done = self._end = 0
        self._class = ""

    def start(self, dataset_class: DatasetClass) -> None:
        self._class = dataset_class.name
        self._end = self._done + self._pictures(dataset_class)
        self.stage("enrol")

    def stage(self, stage: str, step: int = 0) -> None:
        self._done = min(self._done + step, self._end)
        self._told(Step(self._class, self._done, self._total, stage))

    def end(self) -> None:
        self._done = self._end
        self.stage("metrics")

    def _pictures(self, dataset_class: DatasetClass) -> int:
        """At most so many: draws of different seeds overlap."""
        frames = len(frames_to_enrol(dataset_class, ordered=self._options.ordered))
        draws = 1 if self._options.ordered else len(self._options.seeds)
        return len(dataset_class.test) + min(frames, max(self._options.shots) * draws)


class _ClassRun:
    """One class: enrol, judge, measure."""

    def __init__(
        self,
        number: int,
        dataset_class: DatasetClass,
        bundle: Bundle,
        engine: Engine,
        options: EvaluateOptions,
        progress: _Progress,
    ) -> None:
        self._number = number
        self._class = dataset_class
        self._bundle = bundle
        self._engine = engine
        self._options = options
        self._progress = progress
        self._failures: dict[str, str] = {}

    def document(self, work: Work, *, loco: bool) -> dict[str, Any]:
        """Do the work and keep it: the class's rows, worst pictures, failures and what it took."""
        clock = [time.monotonic()]
        maker = CaseMaker(
            self._bundle,
            self._engine,
            self._class,
            self._options,
            self._failed,
            lambda: self._progress.stage("enrol", 1),
        )
        cases = maker.cases()
        clock.append(time.monotonic())
        with work.maps() as folder:
            judged = judge(
                cases,
                self._class,
                folder,
                batch=self._options.batch,
                failed=self._failed,
                told=lambda: self._progress.stage("judge", 1),
            )
            clock.append(time.monotonic())
            self._progress.stage("metrics")
            unreadable = sum(sample.name in self._failures for sample in self._class.test)
            rows = self._rows(judged, unreadable, loco=loco)
            worst, pictures = find_worst(self._number, self._class.name, judged)
            clock.append(time.monotonic())
        folder = make_directory(work.target / "pictures")
        for name, jpeg in pictures.items():
            write_atomic(folder / f"{name}.jpg", jpeg)
        document = {
            "class": self._class.name,
            "rows": rows,
            "worst": worst,
            "failures": [{"image": name, "error": error} for name, error in self._failures.items()],
            "work": self._work(maker, judged, clock),
        }
        work.finish(self._number, document)
        return document

    def _rows(self, judged: Sequence[Judged], unreadable: int, *, loco: bool) -> list[dict[str, Any]]:
        """Rows side by side: sorting lets go of the interpreter."""
        with ThreadPoolExecutor(min(_WORKERS, available_cores(), len(judged))) as pool:
            return list(
                pool.map(lambda item: make_row(self._class, item, self._options, unreadable, loco=loco), judged)
            )

    def _failed(self, sample: Sample, error: str) -> None:
        self._failures.setdefault(sample.name, error)

    def _work(self, maker: CaseMaker, judged: Sequence[Judged], clock: Sequence[float]) -> dict[str, Any]:
        """Pictures that went through the encoder, and how many had gone if each row had been run by itself."""
        tests = len(self._class.test) - sum(sample.name in self._failures for sample in self._class.test)
        usable = [item for item in judged if item.case.detector is not None]
        copies = maker.copies
        alone = sum(tests + item.case.shots * copies for item in usable)
        return {
            "encoded": maker.pictures + (tests if usable else 0),
            "encoded_without_sharing": alone,
            "seconds": dict(
                zip(
                    ("enrol", "judge", "metrics"),
                    (round(end - start, 3) for start, end in pairwise(clock)),
                    strict=True,
                )
            ),
        }


def _check_shots(dataset: Dataset, options: EvaluateOptions) -> None:
    """More shots than there are frames: a mean over fewer classes would pass for one over all.

    Raises:
        UsageError: names the classes.
    """
    most = max(options.shots)
    short = [
        f"{each.name} ({count})"
        for each in dataset.classes
        if (count := len(frames_to_enrol(each, ordered=options.ordered))) < most
    ]
    if short:
        raise UsageError(
            f"expected at least {most} training images in every class for --shots {most}, found fewer in "
            f"{', '.join(short)}; give fewer shots or leave these out with --classes"
        )


def _identity(dataset: Dataset, bundle: Bundle, options: EvaluateOptions) -> dict[str, Any]:
    """What decides the figures."""
    return {
        "schema": REPORT_SCHEMA,
        "version": __version__,
        "bundle": bundle.hash,
        "method": bundle.manifest.method,
        "settings": bundle.manifest.settings,
        "dataset": _listing_hash(dataset),
        "options": options.to_json(),
    }


def _listing_hash(dataset: Dataset) -> str:
    """Hash of what the dataset consists of: layout, classes, splits, names and sizes of all files."""
    digest = hashlib.sha256(dataset.layout.encode())
    for dataset_class in dataset.classes:
        for split in ("train", "validation", "test"):
            digest.update(f"\0{dataset_class.name}\0{split}".encode())
            for sample in getattr(dataset_class, split):
                sizes = [(path.name, path.stat().st_size) for path in (sample.image, *sample.masks)]
                digest.update(json.dumps([sample.name, sample.kind, sizes]).encode())
    return f"sha256:{digest.hexdigest()}"


def _finished(target: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The report that is there, if it is of this run.

    Raises:
        UsageError: it is of another.
    """
    report = read_report(target)
    names = differing(report["identity"], identity)
    if names:
        raise UsageError(
            f"expected --resume with what {target} was made with, found another {', '.join(names)}; give the same or "
            "choose another place"
        )
    return report


def _report(
    dataset: Dataset,
    bundle: Bundle,
    engine: Engine,
    options: EvaluateOptions,
    identity: dict[str, Any],
    documents: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """All classes together."""
    rows = [row for document in documents for row in document["rows"]]
    area, reason = summarise_aufc(rows)
    manifest = bundle.manifest
    return {
        **{name: value for name, value in created_by(REPORT_SCHEMA).items() if name != "generator"},
        "edgevand": __version__,
        "dataset": {"root": str(dataset.root), "layout": dataset.layout, "recognised": dataset.recognised},
        "bundle": {
            "hash": bundle.hash,
            "name": bundle.path.name,
            "model": manifest.model.name,
            "precision": manifest.graph.precision,
            "image": [manifest.image.height, manifest.image.width],
            "image_score": manifest.score.image,
        },
        "method": manifest.method,
        "settings": manifest.settings,
        "options": options.to_json(),
        "machine": machine(engine.name),
        "identity": identity,
        "summary": summarise(rows),
        "aufc": area,
        "aufc_reason": reason or None,
        "published": published_rows(dataset.recognised, [each.name for each in dataset.classes]),
        "worst": [entry for document in documents for entry in document["worst"]],
        "failures": [failure for document in documents for failure in document["failures"]],
        "work": [{"class": document["class"], **document["work"]} for document in documents],
        "rows": rows,
    }


def _write_page(target: Path, report: dict[str, Any]) -> None:
    """The page with its pictures inside."""
    from edgevand_runtime.evaluation.html import write_html

    files = {entry["picture"]: target / "pictures" / f"{entry['picture']}.jpg" for entry in report["worst"]}
    write_html(target / "report.html", report, {name: read_limited(file, _MAX_PICTURE) for name, file in files.items()})
