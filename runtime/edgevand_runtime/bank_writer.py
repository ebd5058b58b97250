"""From encoded frames to a bank on disk: calibrate, draw the contact sheet, write, and tell what came of it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from edgevand.bank import BANK_SCHEMA, Bank, BankRecord, write_bank
from edgevand.errors import BadInputError
from edgevand.records import created_by, dump_record, make_record
from edgevand_runtime.calibration import promise
from edgevand_runtime.contact_sheet import MOST_CELLS, Cell, draw_contact_sheet
from edgevand_runtime.detector import roi_at_image_size
from edgevand_runtime.features import calibrate_features, coreset_tensors, judge, measure_coreset
from edgevand_runtime.methods import kind_of, open_method

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from edgevand.bundle import Bundle
    from edgevand_runtime.features import Features, Judged
    from edgevand_runtime.shots import RefusedFrame, Shot, ShotTaker

__all__ = ["Enrolment", "calibrated_bank", "decoded", "thumbnail", "told_of_coreset", "write_calibrated"]

_LONG_SIDE, _JPEG_QUALITY = 1280, 92


@dataclass(frozen=True, slots=True, eq=False)
class Enrolment:
    """What came of it.

    Attributes:
        bank: as written.
        shots: frames taken now.
        refused: frames refused now.
        skipped: frames passed over for too little spacing.
        warnings: sentences that a person should read.
        decided: sentences on the settings that the method left to the frames.
    """

    bank: Bank
    shots: tuple[Shot, ...]
    refused: tuple[RefusedFrame, ...]
    skipped: int
    warnings: tuple[str, ...]
    decided: tuple[str, ...] = ()

    @property
    def promise(self) -> str:
        """One line: what this many frames can promise."""
        return promise(self.bank.record.calibration)

    @property
    def compressed(self) -> str | None:
        """One line: what searching a coreset costs; None where every row is searched."""
        return told_of_coreset(self.bank.record)

    def to_json(self) -> dict[str, Any]:
        """``edgevand.enrolment/1``."""
        record = self.bank.record
        return {
            "schema": "edgevand.enrolment/1",
            "bank": str(self.bank.path),
            "hash": self.bank.hash,
            "bundle": record.bundle,
            "version": record.version,
            "object": record.object,
            "frames": [frame.model_dump() for frame in record.frames],
            "refused": [{"source": r.source, "frame": r.index, "reason": r.reason} for r in self.refused],
            "skipped": self.skipped,
            "calibration": record.calibration.model_dump(),
            "promise": self.promise,
            "precision": record.precision,
            "gates": [gate.model_dump() for gate in record.gates],
            "coreset": None if record.coreset is None else record.coreset.model_dump(),
            "method": record.method,
            "settings": record.settings,
            "decided": list(self.decided),
            "warnings": list(self.warnings),
            "contact_sheet": str(self.bank.path / "contact-sheet.jpg"),
        }


def write_calibrated(  # noqa: PLR0913 - everything a bank is made of
    bundle: Bundle,
    target: Path,
    fields: dict[str, Any],
    records: Sequence[dict[str, Any]],
    features: Features,
    rate: float,
    *,
    roi_mask: NDArray[np.uint8] | None,
    roi_png: bytes | None,
    thumbnails: dict[int, bytes],
    taker: ShotTaker | None,
    replace: bool,
    judged: Judged | None = None,
    told: Sequence[str] = (),
) -> Enrolment:
    """Calibrate, draw the contact sheet and write the bank.

    ``judged`` is what ``features.judge`` said of exactly these frames and ``memory_mb``, where it was asked before;
    ``told`` are sentences on what was decided of the method's settings.
    """
    image = bundle.manifest.image
    inside = roi_at_image_size(roi_mask, (image.height, image.width))
    groups = [record["group"] for record in records]
    judged = judged or judge(bundle.manifest, features, groups, inside, fields["memory_mb"])
    calibration = calibrate_features(bundle.manifest, features, groups, inside, rate, judged)
    coreset = measure_coreset(bundle.manifest, features, groups, inside, judged, calibration)
    kind = kind_of(bundle.manifest)
    if kind.layout == "summary":
        method = open_method(bundle.manifest, features.get("text"), None, inside, features=features)
        kept = {name: each for name, each in features.items() if name == "text" or name.startswith("own_")}
        features = method.summarise(judged.raws) | kept
    refused = () if taker is None else tuple(taker.refused)
    bank = write_bank(
        target,
        {
            **fields,
            "method": kind.name,
            "settings": bundle.manifest.settings,
            "layout": kind.layout,
            "bundle": bundle.hash,
            "frames": tuple(records),
            "calibration": calibration,
            "coreset": coreset,
        },
        features,
        thumbnails=thumbnails,
        roi_png=roi_png,
        contact_sheet=_contact_sheet(records, thumbnails, refused),
        coreset=coreset_tensors(bundle.manifest, judged.memory),
        replace=replace,
    )
    return Enrolment(
        bank=bank,
        shots=() if taker is None else tuple(taker.shots),
        refused=refused,
        skipped=0 if taker is None else taker.skipped,
        warnings=_warnings(bundle, groups),
        decided=tuple(told),
    )


def calibrated_bank(
    bundle: Bundle, fields: dict[str, Any], records: Sequence[dict[str, Any]], features: Features, rate: float
) -> Bank:
    """Calibrate a bank that stays in memory, of exactly these frames: no file is written and none refused.

    Args:
        bundle: what encoded the frames.
        fields: of ``BankRecord``, as for ``write_calibrated``; without a region of interest.
        records: of the frames (``FrameRecord``), in the order of the features.
        features: of the frames (``features.stack``), with ``text`` where the bundle has it.
        rate: wanted false-alarm rate per frame.

    Returns:
        A bank whose hash names its record; it has no directory.
    """
    groups = [record["group"] for record in records]
    whole = {
        **fields,
        **created_by(BANK_SCHEMA),
        "method": bundle.manifest.method,
        "settings": bundle.manifest.settings,
        "bundle": bundle.hash,
        "frames": tuple(records),
        "calibration": calibrate_features(bundle.manifest, features, groups, None, rate),
        "version": 1,
        "previous": None,
        "files": {},
    }
    record = make_record(BankRecord, whole, Path("bank.json"))
    return Bank(Path(), record, "sha256:" + hashlib.sha256(dump_record(record)).hexdigest(), features)


def told_of_coreset(record: BankRecord) -> str | None:
    """One line that tells a person what searching a coreset costs; None where every row is searched."""
    coreset = record.coreset
    if coreset is None:
        return None
    line = (
        f"The bank's memory of {record.memory_mb:g} MB holds {sum(coreset.rows)} of {sum(coreset.of)} patches, and "
        f"every other lies within {max(coreset.radius):.3f} of one of them"
    )
    if coreset.frames == 0:
        return f"{line}."
    frames = len(record.frames)
    some = f"the {frames}" if coreset.frames == frames else f"{coreset.frames} of the {frames}"
    line += f"; scores of {some} enrolled frames, left out, move by at most {coreset.moved:.3g}"
    limit = record.calibration.image
    if limit is not None and coreset.moved_sd is not None:
        line += f", {coreset.moved / limit.threshold:.1%} of the threshold ({coreset.moved_sd:.2f} deviations)"
    return f"{line}."


def _warnings(bundle: Bundle, groups: Sequence[int]) -> tuple[str, ...]:
    """What a person should know beside the promise."""
    warnings: list[str] = []
    independent = len(set(groups))
    if independent < len(groups):
        copies = len(groups) - independent
        warnings.append(
            f"The scene stood still: {copies} of {len(groups)} frames are near-copies, which say nothing of what "
            f"varies, so calibration rests on {independent}; append frames of other parts, or from another hour."
        )
    if kind_of(bundle.manifest).searches and not bundle.manifest.has_heads:
        warnings.append("The bundle has no heads, so there is no zero-shot map: maps come from the memory bank alone.")
    return tuple(warnings)


def _contact_sheet(
    records: Sequence[dict[str, Any]], thumbnails: dict[int, bytes], refused: Sequence[RefusedFrame]
) -> bytes:
    cells = [
        Cell(
            decoded(thumbnails[record["id"]]),
            f"{record['id']} · frame {record['frame']}, group {record['group']}",
            taken=True,
        )
        for record in records[:MOST_CELLS]  # decoding what is not drawn would take a megabyte and more a frame
    ]
    pictured = [refusal for refusal in refused if refusal.frame is not None]
    cells += [
        Cell(refusal.frame.image, f"frame {refusal.index}: {refusal.reason}", taken=False)
        for refusal in pictured
        if refusal.frame is not None
    ]
    title = f"{len(records)} frames enrolled, {len(refused)} refused"
    unseen = len(records) + len(refused) - len(cells)
    return draw_contact_sheet(title, cells, unseen)


def thumbnail(image: NDArray[np.uint8]) -> bytes:
    """A thumbnail for contact sheet and explanations: at most 1280 px on the long side."""
    picture = Image.fromarray(image[..., ::-1])
    picture.thumbnail((_LONG_SIDE, _LONG_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def decoded(jpeg: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        message = "expected the bank's thumbnails to be JPEG pictures, found one that cannot be decoded; enrol anew."
        raise BadInputError(message)
    return np.asarray(image, np.uint8)
