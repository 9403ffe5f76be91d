"""Egret against ONNX Runtime (optimisations off) inside a test case: whose node differs, and what a difference grows into.

    nodes.py CASE                        every node by itself, on ONNX Runtime's own values: one line per operator and output
    nodes.py CASE --part A B             the nodes A to B-1 (in the file's order) on ONNX Runtime's values of all before
    nodes.py CASE --part A B --swap      ONNX Runtime on Egret's values instead
    nodes.py CASE --part A B --case DIR  that part as a test case of its own, whose outputs are what the other nodes or the model's user read
    nodes.py CASE --noise N              ONNX Runtime against itself, N times, with float nodes off by a relative 1e-7

Needs numpy, onnx and onnxruntime; EGRET names the command (target/debug/egret), ENGINE the engine (interp).
"""

import argparse, collections, os, pathlib, subprocess, tempfile
import numpy as np, onnx, onnxruntime as ort
from onnx import helper, numpy_helper

EGRET, ENGINE = os.environ.get("EGRET", "target/debug/egret"), os.environ.get("ENGINE", "interp")
WORK = pathlib.Path(tempfile.mkdtemp())
BATCH = 40  # nodes in one run of Egret
SUMS = {"LayerNormalization", "SkipLayerNormalization", "MatMul", "Softmax", "FastGelu", "DynamicQuantizeLSTM", "ReduceMean", "Sin", "STFT", "ConvTranspose"}


def session(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    path = WORK / "ort.onnx"
    onnx.save(model, path)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_ort(model, feeds):
    s = session(model)
    names = [o.name for o in s.get_outputs()]
    return dict(zip(names, s.run(names, feeds)))


def run_egret(model, feeds):
    """The outputs, or what Egret said."""
    m, x, y = WORK / "m.onnx", WORK / "x.npz", WORK / "y.npz"
    onnx.save(model, m)
    np.savez(x, **feeds)
    r = subprocess.run([EGRET, "run", m, "--inputs", x, "--output", y, "--engine", ENGINE], capture_output=True, text=True)
    return dict(np.load(y)) if r.returncode == 0 else r.stderr.strip()[-200:]


class Case:
    def __init__(self, folder):
        self.model = onnx.load(f"{folder}/model.onnx")
        self.nodes = list(self.model.graph.node)
        self.constants = {t.name: t for t in self.model.graph.initializer}
        inputs = [i.name for i in self.model.graph.input if i.name not in self.constants]
        self.feeds = {n: numpy_helper.to_array(onnx.load_tensor(f"{folder}/test_data_set_0/input_{i}.pb")) for i, n in enumerate(inputs)}
        self.values = self.feeds | run_ort(self.with_all_outputs(lambda o: onnx.ValueInfoProto(name=o)), self.feeds)

    def with_all_outputs(self, info):
        m = onnx.ModelProto()
        m.CopyFrom(self.model)
        del m.graph.output[:]
        m.graph.output.extend(info(o) for n in self.nodes for o in n.output if o)
        return m

    def info(self, name, value):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)

    def part(self, nodes, apart, values):
        """A model of these nodes on values of what comes before; `apart`: each node on such values, not on one another's."""
        g, feeds, made, seen = onnx.GraphProto(name="part"), {}, set(), set()
        for node in nodes:
            n = onnx.NodeProto()
            n.CopyFrom(node)
            for i, name in enumerate(node.input):
                if not name or (name in made and not apart):
                    continue
                n.input[i] = fed = name if name in self.constants else "in::" + name
                if fed in seen:
                    continue
                seen.add(fed)
                if name in self.constants:
                    g.initializer.append(self.constants[name])
                elif values[name].ndim <= 1 and values[name].size <= 32 and values[name].dtype.kind in "iu":
                    g.initializer.append(numpy_helper.from_array(np.array(values[name]), fed))  # perhaps a shape
                else:
                    g.input.append(helper.make_tensor_value_info(fed, helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape))
                    feeds[fed] = values[name]
            made |= {o for o in node.output if o}
            g.output.extend(self.info(o, values[o]) for o in node.output if o)
            g.node.append(n)
        m = helper.make_model(g, opset_imports=list(self.model.opset_import))
        m.ir_version = self.model.ir_version
        return m, feeds


def difference(got, want):
    """Of integers the largest difference, of floats the largest and the root mean square, relative to the scale of what is wanted."""
    if got.shape != want.shape:
        return np.inf, np.inf, f"shape {got.shape} instead of {want.shape}"
    if want.size == 0:
        return 0.0, 0.0, ""
    g, w = got.astype("f8"), want.astype("f8")
    d = np.where((g == w) | (np.isnan(g) & np.isnan(w)), 0.0, np.abs(g - w))
    d = np.where(np.isnan(d), np.inf, d)
    if want.dtype.kind != "f":
        return d.max(), d.max(), f"off by {d.max():.0f} at most, in {np.mean(d > 0):.1%}"
    largest, spread = np.abs(w[np.isfinite(w)]).max(initial=0) or 1, w.std() or 1
    return d.max() / largest, np.sqrt((d**2).mean()) / spread, f"largest {d.max() / largest:.1e} of {largest:.3g}"


def each(case):
    kinds, worst, refused = collections.defaultdict(list), collections.defaultdict(lambda: (-1.0, "", "")), []
    for n in case.nodes:
        kinds[n.op_type].append(n)
    count = collections.Counter()
    for kind, nodes in kinds.items():
        todo = [nodes[i : i + BATCH] for i in range(0, len(nodes), BATCH)]
        while todo:
            some = todo.pop()
            got = run_egret(*case.part(some, True, case.values))
            if isinstance(got, str):
                if len(some) == 1:
                    refused.append((some[0].name, got))
                else:
                    todo += [[n] for n in some]
                continue
            for n in some:
                for i, o in enumerate(n.output):
                    if o:
                        e, _, text = difference(got[o], case.values[o])
                        count[kind, i] += 1
                        worst[kind, i] = max(worst[kind, i], (e, text, n.name))
    for (kind, i), (_, text, name) in sorted(worst.items()):
        print(f"{kind}.{i}: {count[kind, i]} nodes, {text}: {name}")
    for name, why in refused:
        print(f"refused: {name}: {why}")


def part(case, a, b, swap):
    values, other = case.values, run_egret
    if swap:
        got = run_egret(case.with_all_outputs(lambda o: case.info(o, case.values[o])), case.feeds)
        if isinstance(got, str):
            raise SystemExit(got)
        values, other = case.feeds | got, run_ort
    got = other(*case.part(case.nodes[a:b], False, values))
    if isinstance(got, str):
        raise SystemExit(got)
    last = 0.0
    for i, n in enumerate(case.nodes[a:b]):
        for o in n.output:
            if o and values[o].dtype.kind == "f" and values[o].size >= 50:
                _, spread, text = difference(got[o], values[o])
                if spread > 1.3 * last or i + a == b - 1:
                    print(f"{a + i} {n.op_type} {n.name}: root mean square {spread:.1e}, {text}")
                last = max(last, spread)


def write(case, a, b, folder):
    """The nodes A to B-1 as a test case on ONNX Runtime's values."""
    m, feeds = case.part(case.nodes[a:b], False, case.values)
    read = {i for n in case.nodes[b:] for i in n.input} | {o.name for o in case.model.graph.output}
    kept = [o for o in m.graph.output if o.name in read]
    del m.graph.output[:]
    m.graph.output.extend(kept)
    data = pathlib.Path(folder) / "test_data_set_0"
    data.mkdir(parents=True)
    onnx.save(m, data.parent / "model.onnx")
    for kind, values in [("input", feeds), ("output", {o.name: case.values[o.name] for o in kept})]:
        for i, (name, value) in enumerate(values.items()):
            (data / f"{kind}_{i}.pb").write_bytes(numpy_helper.from_array(np.asarray(value), name).SerializeToString())


def noise(case, runs):
    m = onnx.ModelProto()
    m.CopyFrom(case.model)
    del m.graph.node[:]
    names = []
    for n in case.nodes:
        m.graph.node.append(n)
        if n.op_type in SUMS:
            o, name = n.output[0], f"noise{len(names)}"
            m.graph.node[-1].output[0] = o + "::exact"
            m.graph.node.append(helper.make_node("Mul", [o + "::exact", name], [o]))
            m.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]))
            names.append(name)
    s, outputs = session(m), [o.name for o in case.model.graph.output]
    for seed in range(runs):
        draw = np.random.default_rng(seed).standard_normal
        got = s.run(outputs, case.feeds | {n: (1 + 1e-7 * draw(1)).astype("f4") for n in names})
        for o, g in zip(outputs, got):
            _, spread, text = difference(g, case.values[o])
            print(f"{seed} {o}: root mean square {spread:.2g}, {text}, peak {np.abs(g).max():.3g}")


p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("case")
p.add_argument("--part", nargs=2, type=int)
p.add_argument("--swap", action="store_true")
p.add_argument("--case", dest="folder", help="with --part")
p.add_argument("--noise", type=int)
args = p.parse_args()
case = Case(args.case)
if args.part and args.folder:
    write(case, *args.part, args.folder)
elif args.part:
    part(case, *args.part, args.swap)
elif args.noise:
    noise(case, args.noise)
else:
    each(case)
