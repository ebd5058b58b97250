"""The command line: finds a command, runs it, turns every outcome into an exit code and at most one sentence.

A command is one function in ``edgevand/cli/<name>.py`` named after it. Only the command that was asked for
is imported, so ``edgevand --help`` imports nothing but the standard library.

Exit codes (docs/errors.md): 0 done; 1 what was checked is bad; 2 wrong usage or bad input; 3 a device, source
or server is unavailable; 70 an error in this program; 130 interrupted; 141 the reader of our output went away.
"""

from __future__ import annotations

import logging
import os
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgevand import __version__
from edgevand.errors import EdgevandError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COMMANDS", "load_command", "main"]

COMMANDS = {
    "demo": "enrol, watch and judge a drawn conveyor: no camera, no network",
    "train": "train the linear heads on a dataset with masks",
    "export": "turn a CLIP checkpoint into a bundle, proved number by number",
    "build": "turn a bundle into a TensorRT engine for a GPU, here or elsewhere",
    "enroll": "learn from a few normal frames of one camera: writes a bank",
    "monitor": "watch a camera and report anomalies as events",
    "score": "judge images, folders or videos: one JSON line a frame",
    "compare": "run the methods on your own frames and say which to take",
    "evaluate": "judge a bundle on a labelled dataset: metrics, tables, plots",
    "dataset": "draw a small labelled dataset in a published layout, or check one",
    "verify": "check a bundle or bank: hashes, schema, parity on this device",
    "prompts": "list, check and compile the sentences of text, and measure them",
    "methods": "list what there is to score with, and the options of each",
    "info": "say what a bundle, bank or engine is",
    "benchmark": "measure latency, throughput and memory on this machine",
    "doctor": "say what this machine has, and what to do about what it lacks",
}
"""Each command and its summary, in the order of the help; written here, so that the help imports no command."""

EXIT_USAGE = UsageError.exit_code
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_DEBUG = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``edgevand`` and return its exit code.

    Args:
        argv: arguments without the program's name; None takes those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"--help", "-h"}:
        print(_help())
        return 0 if arguments else EXIT_USAGE
    name = arguments[0]
    if name == "--version":
        print(f"edgevand {__version__}")
        return 0
    if name not in COMMANDS:
        return _complain(_unknown(name), EXIT_USAGE)
    return _run(name, arguments[1:])


def load_command(name: str) -> Any:  # noqa: ANN401 (typer keeps the type of a command to itself)
    """The typer command ``name``; imports its module."""
    import typer

    module = import_module(f"edgevand.cli.{name}")
    function: Callable[..., object] = getattr(module, name)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, context_settings={"help_option_names": ["-h", "--help"]})(function)
    return typer.main.get_command(app)


def _run(name: str, arguments: list[str]) -> int:
    """Parse and run one command; every exception ends here."""
    # OpenBLAS's own threads wait by spinning and, where anything else runs (the engine's threads, a camera's, another
    # program), make a search of the bank take ten times longer instead of half as long. Must be set before NumPy loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _start_logging(_DEBUG if "-vv" in arguments else 0, quiet=False)  # errors of parsing come before its result
    try:
        command = load_command(name)
        with command.make_context(f"edgevand {name}", arguments) as context:
            _start_logging(context.params.get("verbose") or 0, quiet=bool(context.params.get("quiet")))
            code = command.invoke(context)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (the one place where errors become sentences)
        return _explain(error, name)
    return code if isinstance(code, int) else 0


def _explain(error: BaseException, name: str) -> int:
    """Print the sentence that an exception deserves and return the exit code."""
    import typer

    if isinstance(error, typer.Exit):
        return error.exit_code
    logging.getLogger(__name__).debug("the command ended with an exception", exc_info=error)
    if isinstance(error, EdgevandError):
        return _complain(str(error), error.exit_code)
    if isinstance(error, typer.TyperException):
        sentence = " ".join(error.format_message().split()).rstrip(".")
        return _complain(f"{sentence}; see `edgevand {name} --help`", EXIT_USAGE)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _complain("interrupted", EXIT_INTERRUPTED)
    if isinstance(error, BrokenPipeError):
        # The reader (`| head`) has what it wanted; nothing may be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    sentence = f"internal error in `edgevand {name}`: {type(error).__name__}: {error}"
    return _complain(f"{sentence}; please report it with what the same command prints with -vv", EXIT_INTERNAL)


def _complain(sentence: str, code: int) -> int:
    """Print one sentence to standard error."""
    print(f"edgevand: {sentence}", file=sys.stderr)
    return code


def _unknown(name: str) -> str:
    """The sentence for a command that does not exist."""
    if name.startswith("-"):
        return f"expected a command before its options, found {name!r}; see `edgevand --help`"
    near = get_close_matches(name, COMMANDS, n=1)
    remedy = f"did you mean `edgevand {near[0]}`?" if near else "see `edgevand --help`"
    return f"expected one of {', '.join(COMMANDS)}, found {name!r}; {remedy}"


def _help() -> str:
    """The text of ``edgevand --help``."""
    width = max(map(len, COMMANDS)) + 2
    rows = "\n".join(f"  {name:<{width}}{summary}" for name, summary in COMMANDS.items())
    return (
        "Usage: edgevand COMMAND [OPTIONS] [ARGUMENTS]\n\n"
        "Zero-shot and few-shot visual anomaly detection, from a CLIP checkpoint to a camera.\n\n"
        f"Commands:\n{rows}\n\n"
        "Options:\n"
        "  --version   print the version\n"
        "  -h, --help  this text; `edgevand COMMAND --help` for one command\n\n"
        "A camera and nothing else:  edgevand export && edgevand enroll --camera 0 && edgevand monitor"
    )


def _start_logging(verbosity: int, *, quiet: bool) -> None:
    """Send the log to standard error: warnings, with -v what is done, with -vv everything; errors only with -q."""
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, _DEBUG)]
    logging.basicConfig(level=logging.WARNING, format="edgevand: %(message)s", stream=sys.stderr, force=True)
    for package in ("edgevand", "edgevand_export", "edgevand_runtime"):
        logging.getLogger(package).setLevel(level)
