"""``edgevand doctor``."""

from __future__ import annotations

from edgevand.cli.common import print_json
from edgevand.cli.options import JsonFlag, QuietFlag, VerboseFlag

__all__ = ["doctor"]


def doctor(*, as_json: JsonFlag = False, verbose: VerboseFlag = 0, quiet: QuietFlag = False) -> None:
    """Say what this machine has, and what to do about what it lacks.

    Looks at engines, GPU, OpenCV, cameras, processor, memory, disk and packages. Ends with 0 whatever it finds.
    """
    from edgevand import __version__
    from edgevand_runtime.doctor import Check, examine, to_json

    checks: dict[str, Check] = {}
    for name, check in examine():
        checks[name] = check
        if not as_json and not (quiet and check.state != "problem"):
            print(f"{check.state:<9}{name:<13}{check.found}")
            if check.remedy is not None:
                print(f"{'':<22}-> {check.remedy}")
    if as_json:
        print_json(to_json(checks, __version__))
