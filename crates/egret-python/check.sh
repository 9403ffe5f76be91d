#!/usr/bin/env bash
# Builds the wheel, installs it in an environment of its own and runs the tests of the Python package there.
#
#   check.sh [PROFILE]     maturin builds it, in a profile of Cargo (dev unless one is given)
#   check.sh --workspace   around the library as `cargo test --workspace` leaves it; see below
#
# Where Python, maturin or NumPy cannot be had it says so, and that is no failure.
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
pip install "maturin>=1.9,<2" "numpy>=1.23" "wheel>=0.40" 2>/dev/null || left_out "pip cannot get maturin, numpy and wheel"
# For the backend of ONNX alone, whose tests are skipped without it.
pip install "onnx>=1.17" "ml_dtypes" 2>/dev/null || echo "left out: the backend of ONNX (pip cannot get onnx)"
PATH="$work/venv/bin:$PATH"

# Features of dependencies follow from the packages and targets that Cargo is told to build. Maturin asks for one library, whose set is
# smaller than that of the workspace with its tests: it would build the compiler anew. This asks for what those tests were built from, and
# so builds the bindings alone; maturin then says what a wheel has beside the library.
from_workspace() {
    cargo build --quiet --workspace --lib --tests
    local target
    target=$(cargo metadata --no-deps --format-version 1 | python -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    mkdir "$work/wheel" "$work/wheels"
    cp -R python/egret "$work/wheel/egret"
    rm -rf "$work/wheel/egret/__pycache__"
    cp "$target"/debug/libegret_python.* "$work/wheel/egret/"
    rm -f "$work"/wheel/egret/*.d
    mv "$work"/wheel/egret/libegret_python.* "$work/wheel/egret/_native.abi3.so"
    maturin pep517 write-dist-info --interpreter python --metadata-directory "$work/wheel" >"$work/said" 2>&1 || { cat "$work/said" >&2; return 1; }
    wheel pack --dest-dir "$work/wheels" "$work/wheel" >/dev/null
}

if [ "${1:-}" = --workspace ]; then
    from_workspace
else
    maturin build --quiet --profile "${1:-dev}" --out "$work/wheels"
fi
ls -l "$work"/wheels/*.whl | awk '{ n = split($NF, path, "/"); printf "%s: %.1f MB\n", path[n], $5 / 1e6 }'
pip install --no-deps "$work"/wheels/*.whl
python -m unittest discover --start-directory tests
