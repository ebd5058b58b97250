"""``edgevand verify``, ``info`` and ``demo`` as a person types them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from edgevand.cli import main
from edgevand.files import write_tensors
from edgevand.home import home, newest_bank, remember
from tests.tiny import enrol_tiny, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from edgevand.bundle import Bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "bundle")


def skewed_bundle(path: Path) -> Path:
    """A bundle whose golden sample is of another network, while every hash is right."""
    import hashlib

    golden = write_tiny_bundle(path.parent / "other", seed=9).golden()
    write_tiny_bundle(path)
    write_tensors(path / "golden.safetensors", golden)
    manifest = json.loads((path / "manifest.json").read_text())
    data = (path / "golden.safetensors").read_bytes()
    manifest["files"]["golden.safetensors"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_verify_of_a_whole_bundle_shows_each_output_and_ends_with_nought(
    bundle: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(bundle.path)]) == 0
    out = capfd.readouterr().out
    for name in ("embedding", "tokens_1", "map", "score"):
        assert name in out
    assert main(["verify", str(bundle.path), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["kind"], document["passed"], document["hash"]) == ("bundle", True, bundle.hash)
    assert document["parity"]["engine"] == "onnxruntime:cpu"
    assert main(["verify", str(bundle.path), "-q"]) == 0
    assert capfd.readouterr() == ("", "")


def test_verify_of_a_bank_checks_its_bundle_too_and_finds_it_by_its_hash(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bank = enrol_tiny(bundle, tmp_path / "bank")
    assert main(["verify", str(bank.path), "--bundle", str(bundle.path), "--json"]) == 0
    remember("bundle", bundle.path)
    assert main(["verify", str(bank.path)]) == 0
    capfd.readouterr()
    shutil.rmtree(bundle.path)
    assert main(["verify", str(bank.path)]) == 2
    assert "--bundle DIR" in capfd.readouterr().err


def test_verify_ends_with_one_where_a_number_or_a_byte_is_not_what_it_should_be(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = skewed_bundle(tmp_path / "skewed")
    assert main(["verify", str(path), "--json"]) == 1
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["passed"] is False
    assert document["parity"]["passed"] is False
    assert err.count("\n") == 1
    assert "tokens_1" in err
    graph = bytearray((bundle.path / "encoder.onnx").read_bytes())
    graph[100] ^= 1
    (bundle.path / "encoder.onnx").write_bytes(graph)
    assert main(["verify", str(bundle.path), "--json"]) == 1
    out, err = capfd.readouterr()
    assert "encoder.onnx" in json.loads(out)["error"]
    assert "encoder.onnx" in err


def test_verify_of_something_else_is_wrong_use(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        assert main(["verify", str(path)]) == 2
        assert capfd.readouterr().err.count("\n") == 1


def test_info_says_what_a_bundle_is_and_that_it_has_no_heads(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(bundle.path)]) == 0
    out = capfd.readouterr().out
    assert "has no heads" in out
    assert "32x32 pixels" in out
    assert main(["info", str(bundle.path), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["kind"], document["hash"], document["heads"]) == ("bundle", bundle.hash, False)
    assert document["manifest"]["model"]["name"] == "tiny"
    sizes = {path.name: path.stat().st_size for path in bundle.path.iterdir()}
    assert document["bytes"] == sum(sizes.values()) - sizes["manifest.json"]


def test_info_says_what_a_bank_is_and_what_it_promises_and_the_newest_is_the_default(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bank = enrol_tiny(bundle, tmp_path / "bank")
    assert main(["info", str(bank.path)]) == 0
    out = capfd.readouterr().out
    assert "6 independent" in out
    assert "128x96" in out
    assert bank.hash in out.replace("\n", "").replace("│", "").replace(" ", "")
    remember("bank", bank.path)
    assert main(["info", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["kind"], document["hash"]) == ("bank", bank.hash)
    assert document["record"]["bundle"] == bundle.hash
    assert document["promise"].startswith("6 independent frames")


def test_info_of_a_bundle_with_heads_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = write_tiny_bundle(tmp_path / "heads", heads=True, objects=["bottle", "nut"])
    assert main(["info", str(bundle.path), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["heads"], document["objects"]) == (True, ["bottle", "nut"])


def test_info_of_something_else_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path)]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_demo_prints_the_table_and_leaves_the_newest_bank_alone(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    remember("bank", enrol_tiny(bundle, tmp_path / "mine").path)
    assert main(["demo", "--bundle", str(bundle.path), "--frames", "6"]) == 0
    out = capfd.readouterr().out
    for word in ("image AUROC", "pixel AUROC", "caught", "missed", "false alarms", "enrolled: 16 independent frames"):
        assert word in out
    assert str(home() / "demo" / "demo.png") in out
    assert (home() / "demo" / "demo.png").is_file()
    assert newest_bank() == tmp_path / "mine"


def test_demo_with_json_prints_the_report_that_it_wrote(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["demo", "--bundle", str(bundle.path), "--frames", "5", "-o", str(tmp_path / "out"), "--json"]
    assert main(arguments) == 0
    report = json.loads(capfd.readouterr().out)
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["frames"] == 5
    assert main([*arguments[:4], "0"]) == 2
    assert "--frames 300" in capfd.readouterr().err
