"""Promises of the whole: the public names, what a device must not need, and what `make` says on a bare machine."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from importlib.metadata import requires
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

import edgevand
from edgevand import errors

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC = [
    "Bank",
    "Bundle",
    "Detector",
    "EnrolOptions",
    "Frame",
    "Region",
    "Result",
    "__version__",
    "enroll",
    "errors",
    "open_engine",
    "open_source",
]

# A device has none of these. Importing them fails with an error of its own, so that no fallback hides it.
WITHOUT_TORCH = """
import sys
from importlib.abc import MetaPathFinder

class Shut(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "open_clip", "timm", "onnx", "onnxscript", "edgevand_export"}:
            raise RuntimeError(f"a device has no {name}")

sys.meta_path.insert(0, Shut())
"""


def without_torch(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_public_names_are_these_and_each_can_be_imported() -> None:
    assert edgevand.__all__ == PUBLIC
    assert dir(edgevand) == PUBLIC
    for name in PUBLIC:
        assert getattr(edgevand, name) is not None
    assert edgevand.errors is errors
    assert edgevand.__version__ == "0.1.0"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        edgevand.Nonsense  # noqa: B018 (looking it up is the test)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import edgevand, sys; print(sorted({'numpy', 'cv2', 'pydantic', 'typer', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_module_of_the_runtime_imports_without_torch(repository: Path) -> None:
    roots = [repository / "runtime" / "edgevand_runtime", repository / "edgevand"]
    modules = [
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        for root in roots
        for path in sorted(root.rglob("*.py"))
        if path.name != "__main__.py"
    ]
    assert len(modules) > 30
    code = "import importlib\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"
    done = without_torch(code, *modules)
    assert done.returncode == 0, done.stderr


def test_the_demo_runs_without_torch(tmp_path: Path) -> None:
    code = "from edgevand.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = without_torch(code, "demo", "--frames", "20", "--output", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr


def test_what_a_device_installs_names_no_torch() -> None:
    base = [line for line in requires("edgevand") or [] if "extra ==" not in line]
    names = {re.split(r"[<>=;\[ ]", line)[0].lower() for line in base}
    assert names == {
        "numpy",
        "onnxruntime",
        "opencv-python-headless",
        "pillow",
        "platformdirs",
        "pydantic",
        "rich",
        "safetensors",
        "typer",
    }


def test_the_wheel_holds_three_packages_and_their_data(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=repository, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(ZipFile(wheel).namelist())
    packages = {name.split("/")[0] for name in names}
    assert packages == {"edgevand", "edgevand_export", "edgevand_runtime", "edgevand-0.1.0.dist-info"}
    assert {
        "edgevand/prompts.json",
        "edgevand/py.typed",
        "edgevand/builtin/bundle/manifest.json",
        "edgevand/builtin/bundle/encoder.onnx",
        "edgevand_runtime/detector.py",
        "edgevand_runtime/evaluation/page/report.html.jinja",
        "edgevand_runtime/evaluation/published.json",
        "edgevand_export/export.py",
    } <= names
    assert sum(item.file_size for item in ZipFile(wheel).infolist()) < 20e6


def test_an_error_of_this_program_has_a_documented_exit_code(repository: Path) -> None:
    text = (repository / "docs" / "errors.md").read_text(encoding="utf-8")
    for name in errors.__all__:
        error = getattr(errors, name)
        if name not in {"EdgevandError", "EndOfSourceError"}:
            assert re.search(rf"^\| `{name}` +\| {error.exit_code} ", text, re.MULTILINE), name


def test_the_change_log_speaks_of_this_version(repository: Path) -> None:
    assert f"## {edgevand.__version__}" in (repository / "CHANGELOG.md").read_text(encoding="utf-8")


def script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder of programs for PATH: what a bare machine has, but for Python."""
    for name in ("sh", "env", "touch", "echo", "rm"):
        found = subprocess.run(["/bin/sh", "-c", f"command -v {name}"], capture_output=True, text=True, check=True)
        if found.stdout.startswith("/"):
            (tmp_path / name).symlink_to(found.stdout.strip())
    return tmp_path


def make_venv(repository: Path, path: Path) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", str(repository / "scripts" / "venv.sh"), str(path / "venv"), "."]
    environment = {"PATH": str(path), "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_python_without_venv_is_told_in_one_sentence(repository: Path, bare: Path) -> None:
    script(
        bare / "python3",
        f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; *) exec {sys.executable} "$@" ;; esac\n',
    )
    done = make_venv(repository, bare)
    assert done.returncode == 2
    assert "apt install python3-venv" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (bare / "venv").exists()


def test_a_python_that_is_too_old_is_told_in_one_sentence(repository: Path, bare: Path) -> None:
    script(bare / "python3", '#!/bin/sh\ncase "$1" in -V) echo Python 3.8.18 ;; *) exit 1 ;; esac\n')
    done = make_venv(repository, bare)
    assert done.returncode == 2
    assert "expected Python 3.10 or later as 'python3', found Python 3.8.18" in done.stderr
    assert done.stderr.count("\n") == 1


def test_uv_is_taken_where_python_has_no_venv(repository: Path, bare: Path) -> None:
    script(bare / "python3", "#!/bin/sh\nexit 1\n")
    script(bare / "uv", f'#!/bin/sh\necho "$@" >> {bare}/calls\n')
    assert make_venv(repository, bare).returncode == 0
    calls = (bare / "calls").read_text(encoding="utf-8").splitlines()
    assert [call.split()[0] for call in calls] == ["venv", "pip"]
    assert calls[1].endswith("--editable .")
