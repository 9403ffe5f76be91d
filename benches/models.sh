#!/usr/bin/env bash
# models.sh CASE...: median milliseconds of each case on one thread, with and without the wide leaf, and its sizes.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --release -p egret-cli
printf '%-24s %10s %10s %10s %8s\n' case wide_ms plain_ms compile_ms kernels
for case in "$@"; do
  field() { sed -E "s/.*\"$1\":([0-9.]+).*/\1/" <<<"$2"; }
  wide=$(target/release/egret bench "$case" --threads 1 --json | tail -n 1)
  plain=$(target/release/egret bench "$case" --threads 1 --json --no-wide | tail -n 1)
  printf '%-24s %10.2f %10.2f %10.0f %8s\n' "$(basename "$case")" "$(field median_ms "$wide")" "$(field median_ms "$plain")" \
    "$(field compile_ms "$wide")" "$(field kernels "$wide")"
done
