"""The command line's own work: finding commands, importing little, turning outcomes into exit codes and sentences."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Annotated

import pytest
import typer

from edgevand import cli, errors
from edgevand.cli import COMMANDS, load_command, main

SOURCES = Path(cli.__file__).parent

HEAVY = ("cv2", "numpy", "onnxruntime", "PIL", "pydantic", "rich", "safetensors", "torch", "typer")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgevand", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A command ``score`` of this test's making: set its function as ``command.score``."""
    module = types.ModuleType("edgevand.cli.score")
    monkeypatch.setitem(sys.modules, "edgevand.cli.score", module)
    return module


def raising(error: BaseException) -> object:
    def score(verbose: Annotated[int, typer.Option("-v", count=True)] = 0) -> None:
        raise error

    score.__annotations__["verbose"] = Annotated[int, typer.Option("-v", count=True)]
    return score


def test_help_lists_every_command_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, summary in COMMANDS.items():
        assert f"  {name} " in text
        assert summary in text
    assert max(map(len, text.splitlines())) <= 100


def test_no_arguments_prints_the_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from edgevand.cli import main
assert main(["--help"]) == 0
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_imports_nothing_heavy_and_no_other_command(name: str) -> None:
    heavy = tuple(module for module in HEAVY if module != "typer")
    code = f"""
import sys
from edgevand.cli import main
assert main([{name!r}, "--help"]) == 0
others = [module for module in sys.modules if module.startswith("edgevand.cli.")]
print([name for name in {heavy} if name in sys.modules], sorted(others), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = sorted({"edgevand.cli.options", "edgevand.cli.common", "edgevand.cli.models", f"edgevand.cli.{name}"})
    heavy_found, _, modules = done.stderr.strip().partition("] ")
    assert heavy_found == "["
    assert set(ast.literal_eval(modules)) <= set(expected)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_loads_and_has_help(name: str) -> None:
    command = load_command(name)
    assert command.name == name
    assert command.help


def test_every_module_with_a_function_of_its_own_name_is_a_listed_command() -> None:
    commands = {
        path.stem
        for path in SOURCES.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == path.stem
    }
    assert commands == set(COMMANDS)


def test_commands_import_nothing_heavy_at_their_top() -> None:
    for path in SOURCES.glob("*.py"):
        imported = {
            name.split(".")[0]
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not imported & ({*HEAVY, "edgevand_runtime", "edgevand_export"} - {"typer"}), path.name


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "edgevand 0.1.0\n"


def test_an_unknown_command_is_wrong_usage_and_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["moniter"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "found 'moniter'; did you mean `edgevand monitor`?" in captured.err
    assert captured.err.count("\n") == 1


def test_an_option_before_the_command_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "doctor"]) == 2
    assert "a command before its options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("expected a, found b; do c"), 2),
        (errors.FormatError("expected a, found b; do c"), 2),
        (errors.FrameError("a.png", "expected a, found b; do c"), 2),
        (errors.OutputError("expected a, found b; do c"), 2),
        (errors.GateError("expected a, found b; do c"), 1),
        (errors.SourceError("expected a, found b; do c"), 3),
        (errors.MissingDependencyError("expected a, found b; do c"), 3),
    ],
)
def test_each_error_is_one_sentence_and_its_exit_code(
    error: Exception, code: int, command: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.score = raising(error)  # type: ignore[attr-defined]
    assert main(["score"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "edgevand: expected a, found b; do c\n"


def test_an_unexpected_exception_is_one_sentence_and_exit_code_70(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.score = raising(ZeroDivisionError("division by zero"))  # type: ignore[attr-defined]
    assert main(["score"]) == 70
    error = capsys.readouterr().err
    assert error.startswith("edgevand: internal error in `edgevand score`: ZeroDivisionError: division by zero; please")
    assert error.count("\n") == 1


def test_a_traceback_is_shown_only_with_vv(command: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    command.score = raising(errors.UsageError("expected a, found b; do c"))  # type: ignore[attr-defined]
    assert main(["score", "-v"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main(["score", "-vv"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_one_sentence_and_exit_code_130(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.score = raising(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert main(["score"]) == 130
    assert capsys.readouterr().err == "edgevand: interrupted\n"


def test_a_command_may_end_with_an_exit_code_of_its_own(command: types.ModuleType) -> None:
    command.score = raising(typer.Exit(1))  # type: ignore[attr-defined]
    assert main(["score"]) == 1

    def score() -> int:
        return 1

    command.score = score  # type: ignore[attr-defined]
    assert main(["score"]) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--nonsense"], "No such option: --nonsense"),
        (["--shots", "many"], "--shots"),
        (["superfluous"], "superfluous"),
    ],
)
def test_wrong_arguments_are_one_sentence_that_names_the_help(
    arguments: list[str], expected: str, command: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def score(shots: int = 8) -> None:
        """Never called."""

    score.__annotations__ = {"shots": int, "return": None}
    command.score = score  # type: ignore[attr-defined]
    assert main(["score", *arguments]) == 2
    error = capsys.readouterr().err
    assert expected.strip("-") in error
    assert error.endswith("; see `edgevand score --help`\n")
    assert error.count("\n") == 1


def test_a_reader_that_goes_away_ends_the_program_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "edgevand", "doctor", "--json"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_python_m_edgevand_is_the_command() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, "edgevand 0.1.0\n")
    assert run("nonsense").returncode == 2


def spellings(name: str) -> set[str]:
    return {option for parameter in load_command(name).params for option in parameter.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_reports_as_json_and_can_be_made_talkative_and_quiet(name: str) -> None:
    assert {"--json", "-v", "--verbose", "-q", "--quiet"} <= spellings(name)


@pytest.mark.parametrize("name", ["enroll", "monitor", "score", "benchmark"])
def test_source_and_camera_are_the_same_option_wherever_frames_are_read(name: str) -> None:
    (option,) = [parameter for parameter in load_command(name).params if "--source" in parameter.opts]
    assert "--camera" in option.opts


@pytest.mark.parametrize("name", ["demo", "enroll", "monitor", "score", "verify", "benchmark"])
def test_device_and_backend_can_be_chosen_wherever_an_engine_runs(name: str) -> None:
    assert {"--device", "--backend"} <= spellings(name)


@pytest.mark.parametrize("name", ["demo", "export", "enroll", "score"])
def test_the_output_is_named_alike_everywhere(name: str) -> None:
    assert {"-o", "--output"} <= spellings(name)
