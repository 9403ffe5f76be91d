#!/usr/bin/env python3
"""Write models of one operator each, as test-case folders, to time a kernel beside other engines.

    operators.py OUT [NAME ...]      writes OUT/<name>/model.onnx and test_data_set_0/input_<i>.pb; of those whose name has a NAME in it
    operators.py --rates EGRET OUT [NAME ...]
        runs those that are there on one thread beside what the machine can do: products and convolutions beside the best rate of a tile
        (`EGRET doctor --measure`), the kernel by itself and the operator with its transposes; all else beside a copy of as many bytes

Weights are random and constant; everything is f32. Products and convolutions are those of light networks and small transformers. Needs numpy, onnx.
"""
import json, pathlib, re, statistics, subprocess, sys, time

import numpy as np
from onnx import TensorProto, helper as h, numpy_helper as nh, save

rng = np.random.default_rng(0)


def constant(name, *shape):
    return nh.from_array((rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32), name)


def one(op, shape, weights=(), **attributes):
    """A node of x and constant weights."""
    nodes = [h.make_node(op, ["x", *[w.name for w in weights]], ["y"], **attributes)]
    return nodes, {"x": shape}, list(weights)


def matmul(m, n, k):
    return one("MatMul", (m, k), [constant("w", k, n)])


def conv(i, o, size, kernel, stride=1, group=1):
    pad = kernel // 2
    return one("Conv", (1, i, size, size), [constant("w", o, i // group, kernel, kernel), constant("b", o)], kernel_shape=[kernel] * 2,
               pads=[pad] * 4, strides=[stride] * 2, group=group)


def gelu(shape):
    c = lambda name, v: nh.from_array(np.float32(v), name)
    nodes = [h.make_node("Div", ["x", "r"], ["a"]), h.make_node("Erf", ["a"], ["e"]), h.make_node("Add", ["e", "one"], ["s"]),
             h.make_node("Mul", ["x", "s"], ["m"]), h.make_node("Mul", ["m", "half"], ["y"])]
    return nodes, {"x": shape}, [c("r", 2**0.5), c("one", 1), c("half", 0.5)]


def two(op, shape, other=None, **attributes):
    return [h.make_node(op, ["x", "z"], ["y"], **attributes)], {"x": shape, "z": other or shape}, []


def ints(name, *values):
    return nh.from_array(np.array(values, np.int64), name)


CASES = {
    **{f"matmul_{m}x{n}x{k}": (lambda m=m, n=n, k=k: matmul(m, n, k)) for m, n, k in [
        (128, 768, 768), (128, 3072, 768), (128, 768, 3072), (512, 512, 512), (1024, 1024, 1024), (197, 1536, 384), (197, 384, 1536), (1, 4096, 4096)]},
    **{f"conv{k}x{k}s{s}_{size}_{i}_{o}": (lambda i=i, o=o, size=size, k=k, s=s: conv(i, o, size, k, s)) for i, o, size, k, s in [
        (64, 64, 56, 3, 1), (128, 128, 28, 3, 1), (256, 256, 14, 3, 1), (512, 512, 7, 3, 1), (64, 256, 56, 1, 1), (256, 64, 56, 1, 1), (512, 128, 28, 1, 1),
        (1024, 256, 14, 1, 1), (2048, 512, 7, 1, 1), (128, 128, 56, 3, 2), (256, 512, 56, 1, 2), (3, 64, 224, 7, 2), (3, 32, 224, 3, 2)]},
    **{f"depthwise{k}x{k}s{s}_{size}_{c}": (lambda c=c, size=size, k=k, s=s: conv(c, c, size, k, s, c)) for c, size, k, s in [
        (32, 112, 3, 1), (96, 112, 3, 2), (144, 56, 3, 1), (384, 14, 3, 1), (240, 28, 5, 1)]},
    "softmax_12x197x197": lambda: one("Softmax", (12, 197, 197), axis=-1),
    "softmax_64x1000": lambda: one("Softmax", (64, 1000), axis=-1),
    "layer_norm_197x768": lambda: one("LayerNormalization", (197, 768), [constant("s", 768), constant("b", 768)], axis=-1),
    "gelu_197x3072": lambda: gelu((197, 3072)),
    "exp_197x3072": lambda: one("Exp", (197, 3072)),
    "tanh_197x3072": lambda: one("Tanh", (197, 3072)),
    "sigmoid_64x112x112": lambda: one("Sigmoid", (1, 64, 112, 112)),
    "relu_64x112x112": lambda: one("Relu", (1, 64, 112, 112)),
    "add_64x112x112": lambda: two("Add", (1, 64, 112, 112)),
    "add_bias_197x3072": lambda: one("Add", (197, 3072), [constant("b", 3072)]),
    "max_pool3x3s2_64x112": lambda: one("MaxPool", (1, 64, 112, 112), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "average_pool3x3_192x28": lambda: one("AveragePool", (1, 192, 28, 28), kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4),
    "global_average_pool_2048x7": lambda: one("GlobalAveragePool", (1, 2048, 7, 7)),
    "reduce_mean_197x768": lambda: one("ReduceMean", (197, 768), [ints("axes", 1)], keepdims=1),
    "transpose_64x112x112_nhwc": lambda: one("Transpose", (1, 64, 112, 112), perm=[0, 2, 3, 1]),
    "transpose_heads_197x12x64": lambda: one("Transpose", (1, 197, 12, 64), perm=[0, 2, 1, 3]),
    "transpose_768x768": lambda: one("Transpose", (768, 768), perm=[1, 0]),
    "concat_64x56x56": lambda: two("Concat", (1, 64, 56, 56), axis=1),
    "concat_last_3136x64": lambda: two("Concat", (3136, 64), axis=1),
    "gather_512x768": lambda: ([h.make_node("Gather", ["t", "i"], ["y"])], {}, [constant("t", 30000, 768)]),
    "resize2x_32x64x64": lambda: ([h.make_node("Resize", ["x", "", "s"], ["y"], mode="linear")], {"x": (1, 32, 64, 64)}, [nh.from_array(np.array([1, 1, 2, 2], np.float32), "s")]),
    "batched_matmul_12x197x64": lambda: two("MatMul", (12, 197, 64), (12, 64, 197)),
}


def write(out, name):
    nodes, shapes, weights = CASES[name]()
    inputs = [h.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    values = [rng.standard_normal(s).astype(np.float32) for s in shapes.values()]
    if name.startswith("gather"):
        inputs, values = [h.make_tensor_value_info("i", TensorProto.INT64, [512])], [rng.integers(0, 30000, 512)]
    y = h.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = h.make_graph(nodes, name, inputs, [y], weights)
    data = out / name / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    save(h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=9), str(out / name / "model.onnx"))
    for i, (info, value) in enumerate(zip(inputs, values)):
        (data / f"input_{i}.pb").write_bytes(nh.from_array(value, info.name).SerializeToString())


def egret(*args):
    return subprocess.run([*map(str, args)], check=True, capture_output=True, text=True).stdout


def peak(binary):
    """GFLOP/s of the best tile."""
    lines = (line.split() for line in egret(binary, "doctor", "--measure").splitlines())
    return max(float(rate) for line in lines if re.fullmatch(r"\d+x\d+", line[0]) for rate in line[1:4])


def copy(moved):
    """GB/s of copying memory, of which so many bytes are read and written."""
    a, b = np.ones(moved // 8, np.float32), np.zeros(moved // 8, np.float32)
    times, end = [], time.perf_counter() + 0.1
    while time.perf_counter() < end or len(times) < 20:
        start = time.perf_counter()
        np.copyto(b, a)
        times.append(time.perf_counter() - start)
    return moved / statistics.median(times) / 1e9


def profile(binary, case):
    """Microseconds, GFLOP and GB of each kernel run, each at its fastest of some runs."""
    def run():
        lines = egret(binary, "run", case, "--threads", 1, "--profile", "-v").split("by kernel run")[1].splitlines()
        cells = [line.split() for line in lines if re.match(r" +[0-9.]+ +[0-9.]+ ", line)][:-1]
        return [[float(us), *(0 if rate == "-" else float(rate) * float(us) / 1e6 for rate in rates)] for us, _, *rates in (c[:4] for c in cells)]
    return [min(of, key=lambda k: k[0]) for of in zip(*(run() for _ in range(5)))]


def rates(binary, out, names):
    best, rows = peak(binary), []
    for name in names:
        kernels = profile(binary, out / name)
        ms = json.loads(egret(binary, "bench", out / name, "--threads", 1, "--seconds", 0.5, "--json").splitlines()[-1])["median_ms"]
        if name.startswith(("matmul", "batched", "conv")) and not name.startswith("matmul_1x"):
            flop, part = sum(k[1] for k in kernels), sum(k[0] for k in kernels if k[1]) / sum(k[0] for k in kernels)
            rows.append((name, ms, flop / ms / part * 1e3, flop / ms * 1e3, None))
        else:
            # Of a table that rows are gathered from as much is read as is written.
            moved = 2 * 512 * 768 * 4 if name.startswith("gather") else sum(k[2] for k in kernels) * 1e9
            rows.append((name, ms, None, moved / ms / 1e6, copy(int(moved))))
    best = max(best, peak(binary))
    print(f"| | ms | GFLOP/s of the kernel | of the operator | share of {best:.0f} |\n|---|---|---|---|---|")
    for name, ms, kernel, operator, _ in (r for r in rows if r[4] is None):
        print(f"| {name} | {ms:.3g} | {kernel:.0f} | {operator:.0f} | {kernel / best:.2f} / {operator / best:.2f} |")
    print("\n| | ms | GB/s | of a copy | share |\n|---|---|---|---|---|")
    for name, ms, _, operator, copied in (r for r in rows if r[4] is not None):
        print(f"| {name} | {ms:.3g} | {operator:.1f} | {copied:.1f} | {operator / copied:.2f} |")


if __name__ == "__main__":
    args = sys.argv[1:]
    binary = args[1] if args[0] == "--rates" else None
    out, wanted = pathlib.Path(args[2 if binary else 0]), args[3 if binary else 1:]
    names = [name for name in CASES if not wanted or any(w in name for w in wanted)]
    if binary:
        rates(binary, out, names)
    else:
        for name in names:
            write(out, name)
