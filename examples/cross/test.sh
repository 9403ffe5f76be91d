#!/bin/sh
# Compiles the network for 64-bit ARM and RISC-V, links it with a C program, and counts digits under an emulator.
#     examples/cross/test.sh        # EGRET names the command, else it is on the path
set -eu
cd "$(dirname "$0")"
digits() { # TARGET QEMU...
    target=$1 gcc=$1-linux-gnu-gcc
    shift
    for tool in "$gcc" "$1"; do
        command -v "$tool" >/dev/null || { echo "left out: $target ($tool is not installed; Debian: apt-get install gcc-$target-linux-gnu qemu-user)"; return; }
    done
    "${EGRET:-egret}" compile ../../fixtures/models/simple_cnn.onnx --target "$target" --emit lib,header --out-dir "build/$target"
    "$gcc" -static -std=c11 -O2 -Wall -Wextra -Werror -Ibuild/"$target" -o "build/$target/digits" ../c-make/main.c "build/$target/libsimple_cnn.a"
    said=$("$@" "build/$target/digits" ../../fixtures/digits/images.npy ../../fixtures/digits/labels.npy)
    echo "$target: $said"
    [ "$said" = "980 of 1000 right" ]
}
digits aarch64 qemu-aarch64
digits riscv64 qemu-riscv64 -cpu rv64,v=true,vlen=128
