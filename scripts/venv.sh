#!/bin/sh
# scripts/venv.sh FOLDER REQUIREMENT
# Makes a virtual environment in FOLDER, with python3's venv or else with uv, and installs REQUIREMENT (of this
# repository) into it, editable. PYTHON names the interpreter to start from. Packages come from wherever this
# machine's pip or uv is configured to take them.
set -eu
folder=$1
requirement=$2
python=${PYTHON:-python3}

fail() {
    echo "make: $1" >&2
    exit 2
}

suitable() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2])' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

if suitable "$python" && has_venv "$python"; then
    [ -x "$folder/bin/pip" ] || "$python" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$requirement"
elif command -v uv >/dev/null 2>&1; then
    uv venv --quiet --allow-existing --python ">=3.10,<3.14" "$folder"
    uv pip install --quiet --python "$folder/bin/python" --editable "$requirement"
elif suitable "$python"; then
    fail "expected a python3 with its venv module, found $("$python" -V) at $(command -v "$python") without it;\
 install it (Debian, Ubuntu: apt install python3-venv), or install uv, or name another interpreter with PYTHON="
else
    fail "expected Python 3.10 or later as '$python', found $("$python" -V 2>&1 || echo none);\
 install one, or install uv, or name another interpreter with PYTHON="
fi
