#!/usr/bin/env bash
# compile.sh CASE...: for each case the nodes as imported and after the passes, the kernels without passes and with them, the time
# from file to code in memory and from file to optimised graph (`egret opt`), and the most memory, as a Markdown table.
# EGRET: the program to measure [default: a release build]; SECONDS_EACH: how long one command may take [default: 120].
set -uo pipefail
cd "$(dirname "$0")/.."
if [ -z "${EGRET:-}" ]; then cargo build --quiet --release -p egret-cli && EGRET=target/release/egret; fi
limit="timeout ${SECONDS_EACH:-120}"
field() { sed -nE "s/.*\"$1\": ?([0-9.]+).*/\1/p" <<<"$2"; }
echo '| model | nodes | after passes | kernels, no passes | kernels | to optimised graph, ms | compile, ms | weights, MB | peak, MB |'
echo '|---|---|---|---|---|---|---|---|---|'
for case in "$@"; do
  from=$(date +%s%N)
  passes=$($limit "$EGRET" opt "$case" 2>&1 | grep -E '^pass [a-z-]+: ')
  optimise=$((($(date +%s%N) - from) / 1000000))
  before=$(head -n 1 <<<"$passes" | sed -nE 's/.*: ([0-9]+) -> .*/\1/p')
  after=$(tail -n 1 <<<"$passes" | sed -nE 's/.* -> ([0-9]+) nodes.*/\1/p')
  full=$($limit "$EGRET" bench "$case" --threads 1 --json 2>/dev/null | tail -n 1)
  plain=$($limit "$EGRET" bench "$case" --threads 1 --json --passes '' 2>/dev/null | tail -n 1)
  mb() { local v; v=$(field "$1" "$full"); [ -n "$v" ] && awk "BEGIN { printf \"%.0f\", $v / 1e6 }"; }
  ms=$(field compile_ms "$full")
  peak=$(mb peak_rss_bytes)
  echo "| $(basename "$case") | ${before:-refused} | ${after:--} | $(field kernels "$plain") | $(field kernels "$full") | $optimise | ${ms%.*} | $(mb weights_bytes) | $peak |" | sed 's/|  |/| - |/g; s/|  |/| - |/g'
done
