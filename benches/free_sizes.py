"""One artifact with free dims at several sizes, beside ONNX Runtime and beside artifacts compiled for each size alone.

    free_sizes.py MODEL.onnx batch=1,seq=1,past=0 batch=2,seq=7,past=3 ...

For each size: the largest error of an output relative to its largest element, beside ONNX Runtime on the same random inputs; and the time of a
run over that of the artifact whose dims are that size's (medians of interleaved runs, one thread). A size may give a dim that no input has by itself,
such as `total=past+seq`, as a sum. `--given NAME=FILE.pb` fixes an input, `--bind NAME=VALUE` compiles the artifacts for a size with that value of it, `--below NAME=N` draws integers below N (2 where nothing is said, so that masks are masks).

Needs numpy, onnx and onnxruntime; EGRET names the command (target/release/egret).
"""

import argparse, statistics, tempfile, time
import numpy as np, onnx, onnxruntime as ort
from onnx import helper, numpy_helper
from artifact import Artifact, aligned


def compiled(model, options, symbols):
    return Artifact("compile", model, options, tempfile.mkdtemp(), symbols)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("sizes", nargs="+")
    parser.add_argument("--given", action="append", default=[])
    parser.add_argument("--below", action="append", default=[])
    parser.add_argument("--bind", action="append", default=[], help="what artifacts for a size are compiled with beside it")
    parser.add_argument("--positive", action="store_true", help="floats between 0 and 1, not normal ones")
    parser.add_argument("--runs", type=int, default=30)
    args = parser.parse_args()
    given = {k: numpy_helper.to_array(onnx.load_tensor(v)) for k, v in (g.split("=") for g in args.given)}
    below = {k: v for k, v in (b.split("=") for b in args.below)}
    model = onnx.load(args.model, load_external_data=False)
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    # A free dim without a name is called by its input and its axis.
    name_of = lambda i, axis, d: d.dim_param or (d.dim_value if d.HasField("dim_value") else f"{i.name}_d{axis}")
    dims_of = lambda i: [name_of(i, axis, d) for axis, d in enumerate(i.type.tensor_type.shape.dim)]
    symbols = list(dict.fromkeys(d for i in inputs for d in dims_of(i) if isinstance(d, str)))
    dtype_of = lambda v: np.dtype(helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type))
    outputs = [(len(o.type.tensor_type.shape.dim), dtype_of(o)) for o in model.graph.output]
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    peer = ort.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    free = compiled(args.model, [], symbols)
    rng = np.random.default_rng(5)
    for size in args.sizes:
        sizes = {}
        for part in size.split(","):
            name, value = part.split("=")
            sizes[name] = eval(value, {}, dict(sizes))
        feeds = []
        for i in inputs:
            shape = [sizes.get(d, d) for d in dims_of(i)]
            dtype = dtype_of(i)
            if i.name in given:
                x = given[i.name]
            elif dtype.kind == "f":
                x = rng.random(shape) if args.positive else rng.standard_normal(shape)
            else:
                x = rng.integers(0, eval(below.get(i.name, "2"), {}, dict(sizes)), shape) if np.prod(shape) else np.zeros(shape)
            a = aligned(shape, dtype)
            a[...] = x.astype(dtype) if hasattr(x, "astype") else x
            feeds.append(a)
        want = peer.run(None, {i.name: f for i, f in zip(inputs, feeds)})
        fixed = [o for s in symbols for o in ("--dim", f"{s}={sizes[s]}")] + [o for b in args.bind for o in ("--bind", b)]
        alone = compiled(args.model, fixed, [])
        times = {}
        for which in (free, alone):
            which.prepare(feeds, outputs, sizes)
            which.run()
            times[which] = []
        worst = 0.0
        for w, h in zip(want, free.results):
            assert w.shape == h.shape, f"{w.shape} {h.shape}"
            w, h = w.astype(np.float64), h.astype(np.float64)
            assert np.array_equal(np.isfinite(w), np.isfinite(h)), "other elements are finite"
            numbers = np.isfinite(w)
            assert w.size == 0 or numbers.any(), "no output is a number: give other inputs"
            if w.size:
                worst = max(worst, float(np.max(np.abs(w - h)[numbers]) / max(np.max(np.abs(w[numbers])), 1e-30)))
        for _ in range(args.runs):
            for which in (free, alone):
                begin = time.perf_counter()
                which.run()
                times[which].append(time.perf_counter() - begin)
        a, b = (statistics.median(times[w]) for w in (free, alone))
        print(f"{size}: error {worst:.1e}, time {a / b:.2f} of fixed ({a * 1e3:.3f} ms)", flush=True)


main()
