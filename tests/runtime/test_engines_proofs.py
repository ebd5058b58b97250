"""A proof holds for one bundle, engine, library, device and version of the program, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import edgevand
from edgevand.home import home
from edgevand_runtime.engines import open_engine, proofs
from edgevand_runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgevand_runtime.engines.proofs import proof_of, prove
from edgevand_runtime.verify import check_parity
from tests.tiny import write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgevand.bundle import Bundle
    from edgevand_runtime.engines import Engine


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests proved in this process does not count."""
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on as a new process would, with what is on the disk."""
    monkeypatch.setattr(proofs, "_of_this_process", {})


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def engine(bundle: Bundle) -> Iterator[Engine]:
    engine = OnnxRuntimeEngine(bundle.graph_path, bundle.manifest, threads=1)
    yield engine
    engine.close()


def proof_file() -> Path:
    [path] = (home() / "proofs").iterdir()
    return path


def test_a_proof_holds_the_figures_of_the_golden_pictures_and_is_found_again(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proof_of(bundle, engine) is None
    proof = prove(bundle, engine)
    report = check_parity(bundle, engine, batched=False)
    assert proof.passed
    assert (proof.bundle, proof.engine, proof.precision, proof.frames) == (bundle.hash, "onnxruntime:cpu", "fp32", 2)
    assert [(check.name, check.max_abs) for check in proof.checks] == [
        (check.name, check.max_abs) for check in report.checks
    ]
    forget(monkeypatch)
    assert proof_of(bundle, engine) == proof


def test_a_proof_says_who_computed_on_what(bundle: Bundle, engine: Engine) -> None:
    import onnxruntime

    prove(bundle, engine)
    written = json.loads(proof_file().read_text())
    assert written["schema"] == "edgevand.proof/1"
    assert written["library"] == onnxruntime.__version__
    assert written["generator"] == f"edgevand {edgevand.__version__}"
    assert written["device"]


def test_a_proof_of_another_bundle_is_not_used(bundle: Bundle, engine: Engine, tmp_path: Path) -> None:
    prove(bundle, engine)
    assert proof_of(write_tiny_bundle(tmp_path / "other", seed=1), engine) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("library_version", "0.0.1"), ("device_name", "another processor")],
)
def test_a_proof_of_another_library_version_or_device_is_not_used(
    name: str, value: str, bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove(bundle, engine)
    monkeypatch.setattr(proofs, name, lambda _: value)
    assert proof_of(bundle, engine) is None


def test_a_proof_of_another_version_of_this_program_is_not_used(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove(bundle, engine)
    monkeypatch.setattr(edgevand, "__version__", "99.0")
    assert proof_of(bundle, engine) is None


def test_a_proof_that_was_copied_over_another_is_not_used(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove(bundle, engine)
    fields = json.loads(proof_file().read_text())
    proof_file().write_text(json.dumps({**fields, "bundle": "sha256:" + "0" * 64}))
    forget(monkeypatch)
    assert proof_of(bundle, engine) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"schema": "edgevand.proof/9"}', b"[]"])
def test_a_damaged_proof_is_none_and_is_made_anew(
    damage: bytes, bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = prove(bundle, engine)
    path = proof_file()
    path.write_bytes(damage)
    forget(monkeypatch)
    assert proof_of(bundle, engine) is None
    assert open_engine(bundle, device="cpu", threads=1).name == "onnxruntime:cpu"
    forget(monkeypatch)
    found = proof_of(bundle, engine)
    assert found is not None
    assert found.checks == proof.checks
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_where_the_home_cannot_be_written_a_proof_lasts_for_the_process_and_a_line_says_why(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEVAND_HOME", str(tmp_path / "file" / "home"))
    first = open_engine(bundle, device="cpu", threads=1)
    assert "the proof of onnxruntime:cpu lasts for this run only: cannot write" in caplog.text
    assert proof_of(bundle, first) is not None
    caplog.clear()
    open_engine(bundle, device="cpu", threads=1)
    assert caplog.text == ""
