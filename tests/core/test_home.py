"""Where state lives, and which bundle and bank come next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from edgevand import home
from edgevand.errors import OutputError


def made(path: Path, own: str) -> Path:
    path.mkdir(parents=True)
    (path / own).write_text("{}")
    return path


def test_home_is_the_variable_or_the_platforms_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEVAND_HOME", str(tmp_path / "state"))
    assert home.home() == tmp_path / "state"
    assert home.weights_dir() == tmp_path / "state" / "weights"
    monkeypatch.setenv("EDGEVAND_HOME", "~/state")
    assert home.home() == Path.home() / "state"
    for value in (None, ""):
        monkeypatch.delenv("EDGEVAND_HOME") if value is None else monkeypatch.setenv("EDGEVAND_HOME", value)
        assert home.home() == Path(platformdirs.user_data_dir("edgevand"))


def test_nothing_is_newest_in_an_empty_home() -> None:
    assert home.newest_bundle() is None
    assert home.newest_bank() is None
    assert not (home.home() / "recent.json").exists()


def test_the_newest_that_still_exists_is_found(tmp_path: Path) -> None:
    first, second = made(tmp_path / "1", "manifest.json"), made(tmp_path / "2", "manifest.json")
    bank = made(tmp_path / "bank", "bank.json")
    for path in (first, second):
        home.remember("bundle", path)
    home.remember("bank", bank)
    assert home.newest_bundle() == second
    assert home.newest_bank() == bank
    (second / "manifest.json").unlink()
    assert home.newest_bundle() == first
    home.remember("bundle", first)
    recent = json.loads((home.home() / "recent.json").read_text())
    assert recent == {"bundle": [str(first), str(second)], "bank": [str(bank)]}


def test_a_bank_whose_replacement_was_cut_off_is_still_the_newest(tmp_path: Path) -> None:
    bank = made(tmp_path / "bank", "bank.json")
    home.remember("bank", bank)
    bank.rename(tmp_path / ".bank.0123456789abcdef.former")
    assert home.newest_bank() == bank


def test_a_relative_path_is_remembered_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "here" / "b", "bank.json")
    monkeypatch.chdir(tmp_path / "here")
    home.remember("bank", Path("b"))
    monkeypatch.chdir(tmp_path)
    assert home.newest_bank() == tmp_path / "here" / "b"


def test_the_list_stays_short(tmp_path: Path) -> None:
    for number in range(60):
        home.remember("bank", tmp_path / str(number))
    stored = json.loads((home.home() / "recent.json").read_text())["bank"]
    assert len(stored) == 50
    assert stored[0] == str(tmp_path / "59")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"bank": 5}', '{"bank": [5, null]}', '{"bank": {"a": 1}}', "\xff"])
def test_a_list_that_cannot_be_read_counts_as_empty_and_is_mended(tmp_path: Path, text: str) -> None:
    home.home().mkdir(exist_ok=True)
    (home.home() / "recent.json").write_text(text, encoding="latin-1")
    assert home.newest_bank() is None
    home.remember("bank", made(tmp_path / "b", "bank.json"))
    assert home.newest_bank() == tmp_path / "b"


def test_a_password_stays_in_a_file_of_its_owner(tmp_path: Path) -> None:
    """A bank, which travels, records the source without it; the machine that enrolled can still open the camera."""
    home.remember_source("rtsp://***@camera/1", "rtsp://me:secret@camera/1")
    home.remember_source("rtsp://other/1", "rtsp://other/1")
    home.remember_source("rtsp://***@camera/2", "rtsp://me:word@camera/2")
    assert home.full_source("rtsp://***@camera/1") == "rtsp://me:secret@camera/1"
    assert home.full_source("rtsp://***@camera/2") == "rtsp://me:word@camera/2"
    assert home.full_source("rtsp://other/1") == "rtsp://other/1"
    holding = [path for path in home.home().iterdir() if "secret" in path.read_text()]
    assert len(holding) == 1
    assert holding[0].stat().st_mode & 0o777 == 0o600
    assert "other" not in holding[0].read_text()


def test_a_home_that_cannot_be_made_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEVAND_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(OutputError, match=r"cannot write .*home: a part of the path is a file"):
        home.remember("bank", tmp_path)


def test_the_builtin_bundle_lies_in_the_package() -> None:
    assert home.builtin_bundle() == Path(home.__file__).parent / "builtin" / "bundle"


def test_asking_for_the_home_imports_nothing_heavy(repository: Path) -> None:
    code = (
        "import sys; from edgevand import home; home.home(); home.newest_bank(); home.newest_bundle();"
        "print(sorted({'numpy', 'pydantic', 'cv2', 'edgevand.files', 'ctypes'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_known_bundles_are_all_that_still_exist_newest_first_and_the_built_in_one(tmp_path: Path) -> None:
    for name in ("first", "gone", "last"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
        home.remember("bundle", tmp_path / name)
    (tmp_path / "gone" / "manifest.json").unlink()
    expected = [tmp_path / "last", tmp_path / "first", home.builtin_bundle()]
    assert home.known_bundles() == expected
