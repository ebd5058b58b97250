"""The bundle: what ``edgevand export`` writes and the runtime reads (docs/formats.md).

A bundle is a directory, immutable and camera-independent::

    manifest.json            this module's ``Manifest``; names every other file with its sha256 and size
    encoder.onnx             image [N,3,H,W] float32 (and text [2,D] float32 where heads exist) -> see Graph
    encoder.onnx.data        its weights, where they are stored beside it
    encoder.<precision>.onnx the same graph in another precision, optional; its weights beside it likewise
    text.safetensors         one [2, D] float32 tensor for each object, rows (normal, abnormal), unit length
    prompts.json             the prompt pack that the text embeddings were made from
    golden.safetensors       golden sample: image uint8 RGB [G,S,S,3], text [2,D], and torch's outputs for it
    <method>.onnx            graph, golden sample and tensors of a method that the encoder is not enough for, optional
    MODEL_CARD.md, NOTICE    optional
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevand.errors import FormatError, OutputError, UsageError
from edgevand.files import check_tree, read_limited, read_tensors, record_tree, staged_directory
from edgevand.manifest import (
    EnrolRecord,
    GateRecord,
    GraphRecord,
    ImageRecord,
    Manifest,
    MapRecord,
    MethodRecord,
    ModelRecord,
    OutputParity,
    OwnGraph,
    ParityRecord,
    Precision,
    ScoreRecord,
    StageRecord,
    TextRecord,
    VariantRecord,
)
from edgevand.onnx_locations import external_locations
from edgevand.records import FileRecord, Record, created_by, dump_record, make_record, parse_record
from edgevand.staging import is_filled
from edgevand.text_files import TEXT_SCHEMA, TextFile, read_text_file, write_text_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BUNDLE_SCHEMA",
    "DEFAULT_METHOD",
    "TEXT_SCHEMA",
    "Bundle",
    "EnrolRecord",
    "FileRecord",
    "GateRecord",
    "GraphRecord",
    "ImageRecord",
    "Manifest",
    "MapRecord",
    "MethodRecord",
    "ModelRecord",
    "OutputParity",
    "OwnGraph",
    "ParityRecord",
    "Precision",
    "Record",
    "ScoreRecord",
    "StageRecord",
    "TextFile",
    "TextRecord",
    "VariantRecord",
    "extend_bundle",
    "read_text_file",
    "write_bundle",
    "write_text_file",
]

BUNDLE_SCHEMA = "edgevand.bundle/1"
DEFAULT_METHOD = "april-gan"
MANIFEST = "manifest.json"
PROMPTS = "prompts.json"
MAX_MANIFEST = 4 << 20


class Bundle:
    """A bundle that was opened and checked. Immutable.

    Attributes:
        path: its directory.
        manifest: its manifest, as the method that it scores with sees it.
        whole: its manifest as it is written.
        hash: ``sha256:`` and the hex digest of the manifest's bytes, which names every other file by its hash.
    """

    def __init__(self, path: Path, manifest: Manifest, digest: str) -> None:
        """Take what ``open`` has checked."""
        self.path = path
        self.whole = manifest
        self.manifest = _as_method(manifest, manifest.method, {})
        self.hash = digest
        self._text: TextFile | None = None
        if manifest.text is not None:
            self._text = read_text_file(path / manifest.text.file)
            _check_text(self._text, manifest, path / manifest.text.file)
            if set(self._text.objects) != set(manifest.text.objects):
                msg = f"expected the objects {_listed(manifest.text.objects)} in {path / manifest.text.file}, found "
                raise FormatError(msg + f"{_listed(self._text.objects)}; export the bundle again")

    @classmethod
    def open(cls, path: Path, *, verify: bool = True) -> Bundle:
        """Open a bundle and hold it against its manifest.

        Args:
            path: the directory.
            verify: compare every file's sha256 (about a second for each gigabyte); False compares sizes only.

        Raises:
            FormatError: it breaks the format; nothing of it is used.
            BadInputError: there is none, or it cannot be read.
        """
        path = Path(path)
        absent = f"expected a bundle (a directory with {MANIFEST}) at {path}, found none; make one with edgevand export"
        data = read_limited(path / MANIFEST, MAX_MANIFEST, absent)
        remedy = "export the bundle again with this version of edgevand"
        manifest = parse_record(Manifest, data, path / MANIFEST, schema=BUNDLE_SCHEMA, remedy=remedy)
        _check_manifest(manifest, path / MANIFEST)
        check_tree(path, manifest.files, MANIFEST, verify=verify)
        for graph in _graphs(manifest):
            _check_graph(graph, manifest, path / graph.file)
        return cls(path, manifest, "sha256:" + hashlib.sha256(data).hexdigest())

    def as_method(self, name: str | None = None, settings: Mapping[str, object] | None = None) -> Bundle:
        """The bundle as a method sees it: graph, image, stages, maps and golden sample are that method's.

        Args:
            name: the method; None for the bundle's own. Whether there is such a method, and whether the bundle has
                what it needs, is for ``edgevand_runtime.methods`` to say.
            settings: options of the method, in place of those that the bundle names.
        """
        view = Bundle.__new__(Bundle)
        view.__dict__.update(self.__dict__)
        view.manifest = _as_method(self.whole, name or self.whole.method, settings or {})
        return view

    def prepared_for(self, method: str) -> MethodRecord | None:
        """What the bundle was prepared with for a method; None where it was not."""
        return next((record for record in self.whole.methods if record.name == method), None)

    def own_tensors(self) -> dict[str, NDArray[Any]]:
        """Tensors of the method that the bundle is seen as, by name; empty where it has none.

        Raises:
            FormatError: the file is damaged.
        """
        record = self.prepared_for(self.manifest.method)
        return {} if record is None or record.tensors is None else read_tensors(self.path / record.tensors)

    @property
    def graph_path(self) -> Path:
        """The ONNX graph; its weights may lie beside it."""
        return self.path / self.manifest.graph.file

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions that the bundle has a graph for, that of ``graph`` first."""
        return (self.manifest.graph.precision, *(variant.graph.precision for variant in self.manifest.variants))

    def graph_in(self, precision: Precision) -> Path:
        """The ONNX graph in a precision.

        Raises:
            UsageError: the bundle has none; the sentence names those that there are.
        """
        for graph in (self.manifest.graph, *(variant.graph for variant in self.manifest.variants)):
            if graph.precision == precision:
                return self.path / graph.file
        msg = (
            f"expected --precision {' or '.join(self.precisions)}, which {self.path} has graphs for, found {precision}"
        )
        raise UsageError(msg + f"; choose one of them or export with --precision {precision}")

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects whose text embeddings the bundle holds, in the order of the export."""
        return () if self.manifest.text is None else self.manifest.text.objects

    def texts(self, file: Path | None = None) -> dict[str, NDArray[np.float32]]:
        """Text embeddings by object name, in the order of the export; empty for a bundle without text.

        Args:
            file: a text file (``export --text-only``) to take instead of the bundle's own.

        Returns:
            For each object [2, D] float32, rows (normal, abnormal), unit length.

        Raises:
            FormatError: the text file is damaged or was made with another checkpoint or activation.
            BadInputError: it cannot be read.
        """
        if file is not None:
            text = read_text_file(file)
            _check_text(text, self.whole, file)
            return dict(text.objects)
        return {} if self._text is None else {name: self._text.objects[name] for name in self.objects}

    def text(self, name: str | None = None, *, file: Path | None = None) -> tuple[str, NDArray[np.float32]]:
        """Text embedding of one object.

        Args:
            name: the object; None takes the only one, or the one called ``object``.
            file: a text file to take instead of the bundle's own, as in ``texts``.

        Returns:
            The object's name and [2, D] float32, rows (normal, abnormal), unit length.

        Raises:
            UsageError: no such object; the sentence names those that there are.
            FormatError: the text file is damaged or was made with another checkpoint or activation.
        """
        known = self.texts(file)
        if not known:
            msg = (
                f"the bundle {self.path} holds no text embeddings, so no object can be chosen; export it with --object"
            )
            raise UsageError(msg)
        if name is None:
            name = next(iter(known)) if len(known) == 1 else "object"
        if name not in known:
            msg = f"expected an object among {_listed(known)}, found {name!r}; choose one or export it with --object"
            raise UsageError(msg)
        return name, known[name]

    def golden(self) -> dict[str, NDArray[Any]]:
        """The golden sample.

        Returns:
            ``image`` uint8 [G, height, width, 3] RGB, ``text`` [2, D] float32 where the graph has heads, and what
            torch computed for them, float32, by the name of the graph's output.

        Raises:
            FormatError: a tensor is missing or has another shape than the manifest asks for.
        """
        path = self.path / self.manifest.golden
        tensors = read_tensors(path)
        frames = tensors["image"].shape[0] if "image" in tensors and tensors["image"].ndim else 0
        wanted = _golden_shapes(self.manifest, frames)
        for name in sorted(set(wanted) | set(tensors)):
            found = (tensors[name].shape, str(tensors[name].dtype)) if name in tensors else None
            if frames == 0 or wanted.get(name) != found:
                msg = f"expected {path} to hold {name!r} as {wanted.get(name)}, found {found}; export the bundle again"
                raise FormatError(msg)
        return tensors


def write_bundle(
    target: Path, manifest_fields: Mapping[str, object], fill: Callable[[Path], object], *, replace: bool = False
) -> Bundle:
    """Write a bundle that appears whole or not at all.

    Args:
        target: its directory.
        manifest_fields: every field of ``Manifest`` but schema, created, generator and files; records or JSON values.
        fill: writes the files into the staging directory that it is given.
        replace: take the place of a bundle that is there.

    Returns:
        The bundle, checked but not hashed a second time.

    Raises:
        OutputError: something else is already there, the place is not writable, the disk is full.
        FormatError: what ``fill`` wrote does not fit the fields.
    """
    if replace and is_filled(target) and not (Path(target) / MANIFEST).is_file():
        msg = f"cannot replace {target}: it is a directory but no bundle; choose another place"
        raise OutputError(msg)
    with staged_directory(target, replace=replace) as staging:
        fill(staging)
        fields = {**manifest_fields, **created_by(BUNDLE_SCHEMA), "files": record_tree(staging)}
        manifest = make_record(Manifest, fields, staging / MANIFEST)
        (staging / MANIFEST).write_bytes(dump_record(manifest))
        written = Bundle.open(staging, verify=False)
        for method in {DEFAULT_METHOD, *(record.name for record in manifest.methods)}:
            written.as_method(method).golden()
    return Bundle.open(target, verify=False)


def extend_bundle(
    base: Bundle,
    target: Path,
    prepare: Callable[[Path], MethodRecord],
    *,
    chosen: bool = True,
    replace: bool = False,
) -> Bundle:
    """Write a bundle that has everything of another one and is prepared for one more method.

    Args:
        base: the bundle to start from; it stays as it is.
        target: directory of the new one.
        prepare: writes the method's files into the directory that it is given, beside those of ``base``.
        chosen: the new bundle scores with this method where none is asked for; else with that of ``base``.
        replace: take the place of a bundle that is there.

    Raises:
        OutputError: something else is already there, the place is not writable, the disk is full.
        FormatError: what ``prepare`` wrote does not fit its record.
    """
    fields = {name: getattr(base.whole, name) for name in Manifest.model_fields if name not in _WRITTEN}

    def fill(folder: Path) -> None:
        for name in base.whole.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base.path / name, folder / name)
        record = prepare(folder)
        others = [each for each in base.whole.methods if each.name != record.name]
        fields["methods"] = (*others, record)
        if chosen:
            fields["method"], fields["settings"] = record.name, {}

    return write_bundle(target, fields, fill, replace=replace)


_WRITTEN = {"schema_", "created", "generator", "files"}
"""Fields of the manifest that ``write_bundle`` fills in."""


def _as_method(whole: Manifest, name: str, settings: Mapping[str, object]) -> Manifest:
    """A manifest as a method sees it."""
    record = next((each for each in whole.methods if each.name == name), None)
    usual = {**(record.settings if record else {}), **(whole.settings if name == whole.method else {})}
    seen: dict[str, object] = {"method": name, "settings": {**usual, **settings}}
    own = record.graph if record else None
    if own is not None:
        names = ("graph", "image", "embedding_dim", "stages", "maps", "golden", "parity")
        seen |= {each: getattr(own, each) for each in names} | {"variants": ()}
    return whole.model_copy(update=seen)


def _graphs(manifest: Manifest) -> list[GraphRecord]:
    """Every graph of a bundle: the encoder's, in each precision, and those of methods."""
    variants = [variant.graph for variant in manifest.variants]
    return [manifest.graph, *variants, *(record.graph.graph for record in manifest.methods if record.graph)]


def _check_manifest(manifest: Manifest, path: Path) -> None:
    """What the manifest's types cannot say: names that agree with each other."""
    graphs = [manifest.graph, *(variant.graph for variant in manifest.variants)]
    precisions = [graph.precision for graph in graphs]
    methods = [record.name for record in manifest.methods]
    named = [*(graph.file for graph in _graphs(manifest)), manifest.golden]
    named += [record.graph.golden for record in manifest.methods if record.graph]
    named += [record.tensors for record in manifest.methods if record.tensors]
    named += [manifest.text.file, PROMPTS] if manifest.text else []
    missing = [name for name in named if name not in manifest.files]
    indices = [stage.index for stage in manifest.stages]
    fault = None
    if missing:
        fault = f"the file {missing[0]} in files"
    elif len(set(precisions)) != len(precisions):
        fault = f"each precision once instead of {precisions}"
    elif len(set(methods)) != len(methods):
        fault = f"each method once instead of {methods}"
    elif not indices or indices != sorted(set(indices)):
        fault = f"at least one stage, in rising order, instead of {indices}"
    elif any(side < 1 for stage in manifest.stages for side in stage.grid):
        fault = "grids of at least one patch"
    elif min(manifest.image.std) <= 0:
        fault = f"standard deviations above 0 instead of {manifest.image.std}"
    elif manifest.text is not None and len(set(manifest.text.objects)) != len(manifest.text.objects):
        fault = "each object once"
    if fault:
        msg = f"{path}: expected {fault}; export the bundle again"
        raise FormatError(msg)


def _check_graph(graph: GraphRecord, manifest: Manifest, path: Path) -> None:
    """Refuse a graph whose weights lie in a file that the manifest does not list, inside the directory or outside."""
    folder = graph.file.rpartition("/")
    for location in sorted(external_locations(path)):
        if f"{folder[0]}{folder[1]}{location}" not in manifest.files:
            msg = f"expected the weights of {path} in a listed file, found {location!r} named; do not use this copy"
            raise FormatError(msg)


def _check_text(text: TextFile, manifest: Manifest, path: Path) -> None:
    """Refuse text embeddings of another checkpoint, activation or width."""
    pairs = (
        ("weights", manifest.model.weights_sha256, text.weights_sha256),
        ("activation", manifest.model.text_activation, text.activation),
        ("width", manifest.embedding_dim, next(iter(text.objects.values())).shape[1]),
    )
    for what, wanted, found in pairs:
        if wanted != found:
            msg = (
                f"expected text of the bundle's {what} {wanted} in {path}, found {found}; export it from the same model"
            )
            raise FormatError(msg)


def _golden_shapes(manifest: Manifest, frames: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor of the golden sample."""
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        "image": ((frames, manifest.image.height, manifest.image.width, 3), "uint8"),
    }
    if manifest.embedding_dim:
        shapes["embedding"] = ((frames, manifest.embedding_dim), "float32")
    if manifest.has_heads:
        shapes["text"] = ((2, manifest.embedding_dim), "float32")
    for stage in manifest.stages:
        shapes[f"tokens_{stage.index}"] = ((frames, stage.grid[0] * stage.grid[1], stage.width), "float32")
        if stage.head:
            shapes[f"logits_{stage.index}"] = ((frames, *stage.grid), "float32")
    for each in manifest.maps:
        shapes[f"map_{each.name}"] = ((frames, *each.grid), "float32")
    return shapes


def _listed(names: Mapping[str, object] | tuple[str, ...]) -> str:
    """Names for a sentence."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")  # noqa: PLR2004
