from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from edgevand.errors import BadInputError, UnavailableError, UsageError
from edgevand.home import weights_dir
from edgevand_export import weights
from edgevand_export.weights import file_sha256, find_model
from tests.export.models import tiny_config

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that reaches nobody and has downloaded nothing."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(weights, "_cached", lambda record: None)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def place(model: str, name: str) -> Path:
    path = weights_dir() / model / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    return path


def test_absent_weights_are_named_with_their_address_and_their_place() -> None:
    with pytest.raises(UnavailableError) as caught:
        find_model("ViT-L-14-336", None)
    sentence = str(caught.value)
    assert "expected the weights 'openai' of ViT-L-14-336" in sentence
    assert (
        "https://huggingface.co/timm/vit_large_patch14_clip_336.openai/resolve/main/open_clip_model.safetensors"
        in sentence
    )
    assert str(weights_dir() / "ViT-L-14-336" / "openai.safetensors") in sentence
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
def test_weights_brought_by_hand_are_found_by_their_tag(suffix: str) -> None:
    path = place("ViT-L-14-336", f"openai{suffix}")
    files = find_model("ViT-L-14-336", None)
    assert (files.weights, files.pretrained, files.name) == (path, "openai", "ViT-L-14-336")
    assert files.tag["quick_gelu"] is True


def test_a_tag_that_open_clip_does_not_know_is_found_where_it_was_placed() -> None:
    path = place("ViT-B-16", "mine.safetensors")
    assert find_model("ViT-B-16", "mine").weights == path
    assert find_model("ViT-B-16", "mine.safetensors").weights == path


def test_a_weights_file_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "clip.safetensors"
    file.write_bytes(b"weights")
    files = find_model("RN50", str(file))
    assert (files.weights, files.pretrained, files.tag) == (file, "clip.safetensors", {})


def test_a_config_gives_its_name_and_its_content(tmp_path: Path) -> None:
    for record in (tiny_config("vit"), {"model_cfg": tiny_config("vit"), "preprocess_cfg": {}}):
        (tmp_path / "mine.json").write_text(json.dumps(record))
        (tmp_path / "w.pt").write_bytes(b"")
        files = find_model(str(tmp_path / "mine.json"), str(tmp_path / "w.pt"))
        assert (files.name, files.config) == ("mine", tiny_config("vit"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "expected an open_clip model config in"),
        ("[]", "found list"),
        ('{"embed_dim": 3}', "found embed_dim"),
    ],
)
def test_a_config_that_is_none_is_refused(content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(BadInputError, match=sentence):
        find_model(str(tmp_path / "mine.json"), None)


def test_a_config_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"found .*No such file"):
        find_model(str(tmp_path / "mine.json"), None)


@pytest.mark.parametrize(
    ("model", "pretrained", "sentence"),
    [
        ("ViT-L14", None, "found 'ViT-L14'; did you mean ViT-L-14"),
        ("ViT-L-14-336", "opnai", "expected --pretrained to be one of openai for ViT-L-14-336, found 'opnai'"),
        ("ViT-B-16-plus-240", None, "give one of laion400m_e31, laion400m_e32"),
        ("mt5-base-ViT-B-32", None, "give the path of a weights file"),
    ],
)
def test_names_that_do_not_exist_are_told_with_those_that_do(model: str, pretrained: str | None, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        find_model(model, pretrained)


@pytest.mark.parametrize("path", ["weights/clip.pt", "clip.safetensors"])
def test_a_weights_file_that_does_not_exist_is_not_taken_for_a_tag(path: str) -> None:
    with pytest.raises(BadInputError, match=rf"expected a weights file at {path}, found nothing"):
        find_model("RN50", path)


def test_a_failed_download_is_one_sentence_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(record: Any) -> str:
        raise RuntimeError("404\nnot found")

    monkeypatch.setattr(weights, "_answers", lambda address: True)
    monkeypatch.setattr("open_clip.pretrained.download_pretrained", fail)
    with pytest.raises(UnavailableError, match=r"could not download them \(404 not found\)"):
        find_model("RN50", "openai")


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
