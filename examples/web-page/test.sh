#!/bin/sh
# Compiles the network, draws digits on the page in a headless Chromium with mouse and keys, and holds what the page says to what was drawn.
#     examples/web-page/test.sh [PICTURE.png]        # EGRET names the command, else it is on the path
set -eu
for tool in python3 chromium chromedriver; do
    command -v "$tool" >/dev/null || { echo "left out: the web page ($tool is not installed; Debian: apt-get install python3 chromium chromium-driver)"; exit 0; }
done
here=$(dirname "$0")
"${EGRET:-egret}" compile "$here/../../fixtures/models/attention_model.onnx" --target wasm32 --emit wasm --name digits --out-dir "$here/build"
exec python3 "$here/test.py" "$@"
