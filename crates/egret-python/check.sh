#!/usr/bin/env bash
# Builds the wheel, installs it in an environment of its own and runs the tests of the Python package there. A profile of
# Cargo may be given (dev unless it is). Where Python, maturin or NumPy cannot be had it says so, and that is no failure.
set -euo pipefail
cd "$(dirname "$0")"

left_out() {
    echo "left out: the Python package ($1)"
    exit 0
}

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || left_out "Python 3.11 or newer is not installed"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv" >/dev/null 2>&1 || left_out "Python's venv is not installed"
pip() { "$work/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install "maturin>=1.9,<2" "numpy>=1.23" 2>/dev/null || left_out "pip cannot get maturin and numpy"

PATH="$work/venv/bin:$PATH" maturin build --quiet --profile "${1:-dev}" --out "$work/wheels"
ls -l "$work"/wheels/*.whl | awk '{ n = split($NF, path, "/"); printf "%s: %.1f MB\n", path[n], $5 / 1e6 }'
pip install --no-deps "$work"/wheels/*.whl
"$work/venv/bin/python" -m unittest discover --start-directory tests
