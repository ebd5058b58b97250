"""Prints how large the environment is that runs this program, package by package, and fails above the limit.

    .venv-demo/bin/python scripts/install_size.py [--limit MB]

Counted: the apparent size of every file in site-packages, and of this project's own packages where they are installed
editable, in MB of 10^6 bytes. Not counted: pip and setuptools.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import sysconfig
from collections import Counter
from pathlib import Path

NOT_COUNTED = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "distutils-precedence")
OWN = ("edgevand", "edgevand_export", "edgevand_runtime")
LIMIT_MB = 400


def package_sizes(site_packages: Path) -> Counter[str]:
    """Bytes below each entry of ``site_packages``, but for ``NOT_COUNTED``."""
    sizes: Counter[str] = Counter()
    for file in site_packages.rglob("*"):
        top = file.relative_to(site_packages).parts[0]
        if file.is_file() and not file.is_symlink() and top.split("-")[0] not in NOT_COUNTED:
            sizes[top] += file.stat().st_size
    return sizes


def own_sizes(site_packages: Path) -> Counter[str]:
    """Bytes of this project's packages that lie outside ``site_packages``; compiled files not counted."""
    sizes: Counter[str] = Counter()
    for name in OWN:
        spec = importlib.util.find_spec(name)
        for location in (spec and spec.submodule_search_locations) or ():
            if not Path(location).is_relative_to(site_packages):
                files = (file for file in Path(location).rglob("*") if file.suffix != ".pyc")
                sizes[name] += sum(file.stat().st_size for file in files if file.is_file())
    return sizes


def main() -> int:
    """Print the table and return 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=LIMIT_MB, metavar="MB", help="default: %(default)s")
    limit = parser.parse_args().limit
    site_packages = Path(sysconfig.get_path("purelib"))
    sizes = package_sizes(site_packages) + own_sizes(site_packages)
    for name, size in sizes.most_common(10):
        print(f"{size / 1e6:8.1f} MB  {name}")
    total = sizes.total() / 1e6
    print(f"{total:8.1f} MB  in all; limit {limit:g} MB")
    return int(total > limit)


if __name__ == "__main__":
    sys.exit(main())
