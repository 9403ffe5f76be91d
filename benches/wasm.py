#!/usr/bin/env python3
"""WebAssembly modules of real models under wasmtime: whether their outputs are right, and their time beside native code on one thread.

    pip install numpy onnx wasmtime
    wasm.py CASES/minilm_l3 ... [--egret target/release/egret] [--rounds 3] [--seconds 1]

A case is a folder with model.onnx, test_data_set_0 and, for its tolerances, tolerance.json. A line for each: the largest error of an output relative to its largest element, beside
the recorded outputs and beside the reference interpreter's; milliseconds of a run in wasmtime, of native code for x86-64-v2 (vectors of 16 bytes, as WebAssembly has) and
for this machine: the median over rounds in turns. Code 1 where an output is not within the case's tolerance of what was recorded, or a module is refused.
"""
import argparse, json, pathlib, statistics, subprocess, tempfile, time

import numpy as np
import onnx
import wasmtime
from onnx import numpy_helper

DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


class Module:
    """An instance of a module, by the description that it carries."""

    def __init__(self, file, name):
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        exports = wasmtime.Instance(self.store, wasmtime.Module.from_file(engine, str(file)), []).exports(self.store)
        self.memory, self.code = exports["memory"], exports[f"{name}_run"]
        at, length = (exports[f"{name}_{what}"].value(self.store) for what in ("info", "info_bytes"))
        self.info = json.loads(bytes(self.memory.read(self.store, at, at + length)))

    def give(self, arrays):
        """Arrays by the names of inputs; bound ones are there already."""
        for port in self.info["inputs"]:
            array = arrays[port["name"]]
            assert list(array.shape) == port["dims"] and array.dtype == DTYPES[port["dtype"]], port
            self.memory.write(self.store, np.ascontiguousarray(array).tobytes(), port["at"])

    def run(self):
        if self.code(self.store) != 0:
            raise SystemExit("a number in the data is out of range")

    def outputs(self):
        return {p["name"]: np.frombuffer(self.memory.read(self.store, p["at"], p["at"] + p["bytes"]), DTYPES[p["dtype"]]).reshape(p["dims"]) for p in self.info["outputs"]}


def recorded(folder, what):
    """The tensors of a data set's files of a kind, in order."""
    files = sorted(folder.glob(f"{what}_*.pb"), key=lambda f: int(f.stem.split("_")[1]))
    try:
        return [numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())) for file in files]
    except ValueError:
        raise SystemExit(f"the recorded {what}s are not all tensors") from None


def error(want, have):
    """The largest difference, relative to the largest element."""
    want, have = (np.asarray(a, np.float64) for a in (want, have))
    return float(np.abs(want - have).max(initial=0) / max(np.abs(want).max(initial=0), 1e-30))


def egret(args, *command):
    done = subprocess.run([args.egret, *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


def native(args, case, target):
    said = egret(args, "bench", case, "--threads", 1, "--target", target, "--seconds", args.seconds, "--json")
    return json.loads(said.splitlines()[-1])["median_ms"]


def median(run, seconds):
    """Milliseconds of a run, the median of those in so many seconds."""
    times, until = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def judge(args, case, folder):
    """Prints a case's line; whether its outputs are within tolerance."""
    egret(args, "compile", case, "--target", "wasm32", "--emit", "wasm", "--name", "m", "--out-dir", folder)
    egret(args, "run", case, "--engine", "interp", "-o", folder / "interp.npz")
    module = Module(folder / "m.wasm", "m")
    graph = onnx.load(case / "model.onnx", load_external_data=False).graph
    constants = {i.name for i in graph.initializer}
    names = [i.name for i in graph.input if i.name not in constants]
    module.give(dict(zip(names, recorded(case / "test_data_set_0", "input"))))
    module.run()
    have, want = module.outputs(), recorded(case / "test_data_set_0", "output")
    limits = case / "tolerance.json"
    limits = json.loads(limits.read_text()) if limits.exists() else {"rtol": 1e-3, "atol": 1e-7}
    right = len(want) == len(have) and all(np.allclose(h, w, **limits, equal_nan=True) for w, h in zip(want, have.values()))
    with np.load(folder / "interp.npz") as meant:
        beside = max(error(meant[name], array) for name, array in have.items())
    rounds = [(median(module.run, args.seconds), native(args, case, "x86-64-v2"), native(args, case, "native")) for _ in range(args.rounds)]
    wasm, plain, best = (statistics.median(times) for times in zip(*rounds))
    print(f"{case.name:24} {'right' if right else 'WRONG'}  {max(map(error, want, have.values())):.1e} {beside:.1e}"
          f"  {wasm:8.2f} ms  x86-64-v2 {plain:.2f} ms ({wasm / plain:.2f})  native {best:.2f} ms ({wasm / best:.2f})", flush=True)
    return right


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", type=pathlib.Path)
    parser.add_argument("--egret", default="target/release/egret")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1)
    args = parser.parse_args()
    wrong = False
    for case in args.cases:
        try:
            with tempfile.TemporaryDirectory() as folder:
                wrong |= not judge(args, case, pathlib.Path(folder))
        except SystemExit as refused:
            print(f"{case.name:24} {refused}", flush=True)
            wrong = True
    raise SystemExit(wrong)


main()
