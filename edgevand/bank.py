"""The bank: what ``edgevand enroll`` writes for one camera (docs/formats.md).

    bank.json               this module's ``BankRecord``
    features.safetensors    encoder outputs of the enrolled frames (below)
    coreset.safetensors     the rows that are searched, where all of them would not fit the bank's memory
    roi.png                 optional mask of the region of interest, frame size, 0 or 255
    frames/<id>.jpg         thumbnails of the enrolled frames, <id> four digits
    contact-sheet.jpg       what was taken and what was refused

``features.safetensors``, F frames, A augmented copies of each, per stage i of the bundle with P tokens of width C:
``tokens_<i>`` [F, 1+A, P, C] unit vectors (float32 of an fp32 graph, else float16; copy 0 is the frame itself),
``embedding`` [F, D] float32, ``logits_<i>`` [F, h, w] float32 where the stage has a head, ``map_<name>`` [F, h, w]
float32 where the graph gives maps, ``kept_<name>`` [F, ...] what else a method keeps of a frame, ``own_<name>`` the
method's own tensors out of the bundle, and ``text`` [2, D] float32 where the bank was enrolled with an object. A bank
of the layout ``summary`` has what its method makes of all frames together, ``text`` and ``own_<name>``.

``coreset.safetensors``, per stage i: ``rows_<i>`` [M, C] float16, those of the F · (1+A) · P rows of ``tokens_<i>``
that are searched, and ``places_<i>`` [M] int64, where each stands among them, rising. Its metadata names the features
by their hash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from edgevand import versions
from edgevand.bank_checks import check_coreset, check_features, check_record, thumbnail_name
from edgevand.bundle import GateRecord, Precision
from edgevand.errors import BadInputError, FormatError, OutputError, UsageError
from edgevand.files import (
    check_tree,
    map_tensor_file,
    read_limited,
    read_tensor_file,
    record_tree,
    staged_directory,
    write_tensors,
)
from edgevand.records import FileRecord, Record, created_by, dump_record, make_record, parse_record
from edgevand.staging import is_filled, recover

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle

__all__ = [
    "BANK_MEMORY",
    "BANK_SCHEMA",
    "KEPT_VERSIONS",
    "Bank",
    "BankRecord",
    "CalibrationRecord",
    "CoresetRecord",
    "FrameRecord",
    "LimitRecord",
    "undo_bank",
    "write_bank",
]

BANK_SCHEMA = "edgevand.bank/1"
BANK_MEMORY = 48.0
"""MB (2^20 bytes) that the searched rows of a bank take at most, all stages together, unless told otherwise.

In half precision that is every patch of four frames of ViT-L-14-336 at 518 pixels, and an eighth more rows than that
where more frames are enrolled: the search costs an eighth more than that of four frames, however many there are.
"""
KEPT_VERSIONS = 8
"""Former versions that are kept; the oldest go first."""
RECORD = "bank.json"
CORESET = "coreset.safetensors"
MAX_RECORD = 16 << 20
_REMEDY = "enrol again with this version of edgevand"


class FrameRecord(Record):
    """One enrolled frame."""

    id: int = Field(ge=1)
    source: str
    frame: int = Field(ge=0, description="index in its source")
    time: str = Field(description="UTC, ISO 8601 with milliseconds and Z")
    media_time: float | None = Field(description="seconds into the video, null elsewhere")
    group: int = Field(ge=0, description="near-copies share a group and count once in calibration")


class LimitRecord(Record):
    """One calibrated quantity (methods.md (g)): y = ln(raw), location-scale, threshold in raw units."""

    mean: float
    sd: float = Field(gt=0, description="scale of y: its standard deviation, moderated and floored (docs/enrolment.md)")
    threshold: float = Field(gt=0, description="raw value at which the calibrated score is 0.5")


class CalibrationRecord(Record):
    """Leave-one-frame-out calibration."""

    kind: Literal["conformal", "extrapolated", "none"]
    false_alarm_rate: float = Field(gt=0, lt=1)
    n: int = Field(ge=0, description="independent groups of frames")
    scores: tuple[float, ...] = Field(description="raw image score of each group, left out")
    image: LimitRecord | None
    map: LimitRecord | None = Field(description="of the map's maximum: the map's own threshold")


class CoresetRecord(Record):
    """What a bank that is larger than its memory searches, stage by stage, and what that costs."""

    rows: tuple[int, ...] = Field(description="rows that are searched")
    of: tuple[int, ...] = Field(description="rows of all enrolled frames and their copies")
    radius: tuple[float, ...] = Field(description="covering radius: largest 1 - cosine of any row to the nearest held")
    frames: int = Field(ge=0, description="enrolled frames that were scored against all rows as well, left out")
    moved: float = Field(ge=0, description="most that the raw score of one of them moved")
    moved_sd: float | None = Field(description="most that its logarithm moved, in calibrated deviations")


class BankRecord(Record):
    """``bank.json``."""

    schema_: Literal["edgevand.bank/1"] = Field(alias="schema")
    created: str
    generator: str
    bundle: str = Field(pattern="^sha256:[0-9a-f]{64}$")
    method: str
    settings: dict[str, Any] = Field(default={}, description="options of the method, the automatic ones as decided")
    layout: Literal["tokens", "summary"] = Field(
        default="tokens", description="tokens: features of each frame; summary: what the method made of all of them"
    )
    object: str | None
    source: str = Field(description="the source it was enrolled from; monitor's default")
    frame_size: tuple[int, int] = Field(description="width, height in pixels")
    roi: tuple[int, int, int, int] | Literal["roi.png"] | None = Field(
        description="x, y, w, h in pixels, or the mask file"
    )
    augment: tuple[Literal["rotate", "flip"], ...]
    interval: float
    frames: tuple[FrameRecord, ...]
    calibration: CalibrationRecord
    precision: Precision = Field(default="fp32", description="of the graph that the frames were encoded with")
    gates: tuple[GateRecord, ...] = Field(default=(), description="what other precisions cost on these frames")
    memory_mb: float = Field(default=BANK_MEMORY, gt=0, description="most that the searched rows take, in 2^20 bytes")
    coreset: CoresetRecord | None = Field(default=None, description="null: every row is searched")
    version: int = Field(ge=1)
    previous: int | None = Field(default=None, ge=1, description="version that this one replaced; undo goes back to it")
    files: dict[str, FileRecord]


class Bank:
    """A bank that was opened and checked. Immutable.

    Attributes:
        path: its directory.
        record: its ``bank.json``.
        hash: ``sha256:`` and the hex digest of the bytes of ``bank.json``, which names every other file by its hash.
        features: read-only tensors of ``features.safetensors`` (see the top of this module); where the file is larger
            than the bank's memory they stay on the disk and are read as they are looked at.
        coreset: read-only tensors of ``coreset.safetensors``; None where every row is searched.
    """

    def __init__(
        self,
        path: Path,
        record: BankRecord,
        digest: str,
        features: dict[str, NDArray[Any]],
        coreset: dict[str, NDArray[Any]] | None = None,
    ) -> None:
        """Take what ``open`` has checked."""
        self.path = path
        self.record = record
        self.hash = digest
        self.features = features
        self.coreset = coreset

    @classmethod
    def open(cls, path: Path, bundle: Bundle | None = None) -> Bank:
        """Open a bank, hold it against its record and, where it is given, the bundle that it must belong to.

        A bank that is replaced while it is read is read again, so a monitor and an enrolment need no lock.

        Args:
            path: the directory.
            bundle: the bundle it will be used with; None checks the bank by itself.

        Raises:
            FormatError: it breaks the format or belongs to another bundle; nothing of it is used.
            BadInputError: there is none, or it cannot be read.
        """
        path = Path(path)
        recover(path)
        data = _read_record(path)
        while True:
            try:
                return cls._open_once(path, data, bundle)
            except BadInputError:
                newer = _read_record(path)
                if newer == data:
                    raise
                data = newer

    @classmethod
    def _open_once(cls, path: Path, data: bytes, bundle: Bundle | None) -> Bank:
        """Open what ``data``, the bytes of ``bank.json``, describes."""
        record = parse_record(BankRecord, data, path / RECORD, schema=BANK_SCHEMA, remedy=_REMEDY)
        check_record(record, path / RECORD)
        if bundle is not None and record.bundle != bundle.hash:
            msg = (
                f"expected a bank of the bundle {bundle.path} ({bundle.hash[:19]}…), found {path}, enrolled with "
                f"another one ({record.bundle[:19]}…); give that bundle with --bundle or enrol again"
            )
            raise FormatError(msg)
        check_tree(path, record.files, RECORD, verify=False)  # sizes and names, before anything large is read
        file = path / "features.safetensors"
        large = record.files[file.name].size > record.memory_mb * (1 << 20)
        features, _, sha256 = (map_tensor_file if large else read_tensor_file)(file)
        known = {file.name: sha256}
        coreset = None
        if record.coreset is not None:
            coreset = read_tensor_file(path / CORESET)
            known[CORESET] = coreset.sha256
        check_tree(path, record.files, RECORD, known=known)
        manifest = None if bundle is None else bundle.as_method(record.method, record.settings).manifest
        check_features(features, record, manifest, file, every_row=coreset is None)
        if coreset is not None:
            check_coreset(coreset, features, record, path / CORESET)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        return cls(path, record, digest, features, None if coreset is None else coreset.tensors)

    def roi_mask(self) -> NDArray[np.uint8] | None:
        """The region of interest.

        Returns:
            [frame height, frame width] uint8, 255 inside and 0 outside, or None for the whole frame.

        Raises:
            FormatError: ``roi.png`` is no mask of the frame's size.
        """
        width, height = self.record.frame_size
        if self.record.roi is None:
            return None
        if self.record.roi == "roi.png":
            return _read_mask(self.path / "roi.png", width, height)
        x, y, w, h = self.record.roi
        mask = np.zeros((height, width), np.uint8)
        mask[y : y + h, x : x + w] = 255
        return np.asarray(mask, np.uint8)

    def thumbnail(self, frame_id: int) -> Path:
        """JPEG thumbnail of an enrolled frame."""
        return self.path / thumbnail_name(frame_id)


def write_bank(  # noqa: PLR0913 - everything a bank is made of
    target: Path,
    record_fields: Mapping[str, object],
    features: Mapping[str, NDArray[Any] | Sequence[NDArray[Any]]],
    thumbnails: Mapping[int, bytes],
    roi_png: bytes | None,
    contact_sheet: bytes,
    *,
    coreset: Mapping[str, NDArray[Any]] | None = None,
    replace: bool = False,
) -> Bank:
    """Write a bank that appears whole or not at all.

    Args:
        target: its directory.
        record_fields: every field of ``BankRecord`` but schema, created, generator, version, previous and files,
            which are filled in here; records or JSON values.
        features: the tensors (see the top of this module); one of all frames may be a sequence of the frames' own.
        thumbnails: JPEG bytes by frame id.
        roi_png: PNG bytes of the mask, 8 bits of grey, where the field ``roi`` is ``roi.png``.
        contact_sheet: JPEG bytes.
        coreset: the tensors of ``coreset.safetensors``, where the field ``coreset`` is not null.
        replace: put it in the place of a bank that is there, which stays as a former version for ``undo_bank``.

    Raises:
        OutputError: something else is already there, the place is not writable, the disk is full.
        FormatError: fields and features do not fit each other.
    """
    target = Path(target)
    recover(target)

    def write(former: BankRecord | None) -> None:
        number = max([0, *versions.kept(target), *([former.version] if former else [])]) + 1
        with staged_directory(target, replace=former is not None) as staging:
            (staging / "frames").mkdir()
            for frame_id, jpeg in thumbnails.items():
                (staging / thumbnail_name(frame_id)).write_bytes(jpeg)
            if roi_png is not None:
                (staging / "roi.png").write_bytes(roi_png)
            (staging / "contact-sheet.jpg").write_bytes(contact_sheet)
            sha256 = write_tensors(staging / "features.safetensors", features)
            if coreset is not None:
                write_tensors(staging / CORESET, coreset, {"features": sha256})
            fields = {
                **record_fields,
                **created_by(BANK_SCHEMA),
                "version": number,
                "previous": former.version if former else None,
                "files": record_tree(staging),
            }
            record = make_record(BankRecord, fields, target / RECORD)
            check_record(record, target / RECORD)
            check_features(features, record, None, target / "features.safetensors")
            (staging / RECORD).write_bytes(dump_record(record))
            if former is not None:
                versions.keep(target, former.version)

    if replace and is_filled(target):
        with versions.locked(target):
            write(_record_to_replace(target))
            versions.prune(target, KEPT_VERSIONS)
    else:
        write(None)
    return Bank.open(target)


def undo_bank(path: Path, version: int | None = None) -> Bank:
    """Bring back a former version of a bank; the present one is kept in its turn, under its own number.

    Args:
        path: the bank.
        version: which one; None takes the one that the present one replaced.

    Raises:
        UsageError: that version is not kept, or there is nothing to undo.
        FormatError: the former version is damaged; the present one stays.
        OutputError: it cannot be written; the present one stays.
    """
    path = Path(path)
    recover(path)
    _version_to_restore(path, version)  # complains before anything is made beside the bank
    with versions.locked(path):
        present, former = _version_to_restore(path, version)
        Bank.open(former)
        versions.keep(path, present)
        with staged_directory(path, replace=True) as staging:
            versions.link_tree(former, staging)
    return Bank.open(path)


def _version_to_restore(path: Path, version: int | None) -> tuple[int, Path]:
    """The present version's number, and where the one lies that ``undo_bank`` is to bring back."""
    present = parse_record(BankRecord, _read_record(path), path / RECORD, schema=BANK_SCHEMA, remedy=_REMEDY)
    kept = versions.kept(path)
    wanted = present.previous if version is None else version
    if wanted is None or wanted not in kept or wanted == present.version:
        others = ", ".join(str(number) for number in kept if number != present.version) or "none"
        what = "a former version to go back to" if version is None else f"version {version} to be kept"
        msg = f"{path} is at version {present.version}: expected {what}, found {others}; choose one or enrol again"
        raise UsageError(msg)
    return present.version, kept[wanted]


def _record_to_replace(target: Path) -> BankRecord:
    """Record of the bank that is in the way, so that nothing but a bank is ever replaced."""
    try:
        return parse_record(BankRecord, _read_record(target), target / RECORD, schema=BANK_SCHEMA, remedy=_REMEDY)
    except BadInputError as error:
        msg = f"cannot replace {target}: expected a bank there, found something else; choose another place"
        raise OutputError(msg) from error


def _read_record(path: Path) -> bytes:
    """Bytes of ``bank.json``."""
    absent = f"expected a bank (a directory with {RECORD}) at {path}, found none; make one with edgevand enroll"
    return read_limited(path / RECORD, MAX_RECORD, absent)


def _read_mask(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """A mask image of exactly this size, whose header is looked at before anything is decoded."""
    data = path.read_bytes()
    claimed = (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    mask = None
    if data[:8] == b"\x89PNG\r\n\x1a\n" and claimed == (width, height):
        import cv2

        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.shape != (height, width) or mask.dtype != np.uint8 or not np.isin(mask, (0, 255)).all():
        msg = f"expected {path} to be a PNG mask of {width}x{height} with 0 and 255 only, found another; enrol again"
        raise FormatError(msg)
    return np.asarray(mask, np.uint8)
