#!/usr/bin/env python3
"""What a gradient costs: that of one class by the image over the model's own run, beside PyTorch's forward and backward in the same interleaved run.

    gradients.py CASE... [--whole NAME] [--rounds 7] [--json OUT.json]

A case is a folder with model.onnx and test_data_set_0/input_0.pb, a network of one float input. The score is class 3 of the output [batch, classes] or
[batch, classes, 1, 1], in front of a softmax at the end (random weights saturate it, and its gradient is 0 then); of cases in --whole the sum of all of the output. Egret's programs are `egret compile` and `egret grad --of` with `--threads 1`; PyTorch runs
the same network, translated node by node (layer norm and GELU are one call each where the file spells them out), with one thread, gradients asked for by the input
alone, and its memory laid out as channels first or last, whichever is faster. Before anything is timed, values and gradients are compared, by
the norm of the difference over the norm. A ReLU or a maximum that rounding turns the other way changes a gradient of a deep network by more than rounding: how far
PyTorch's own two layouts are apart says what to expect.

A round times each program once in turns (short ones several times, the mean), in CPU time, so that what else runs disturbs less; what counts is the median over rounds. Needs numpy, onnx and torch; EGRET
names the command (target/release/egret).
"""

import argparse, json, math, pathlib, statistics, tempfile, time
import numpy as np, onnx, torch
import torch.nn.functional as F
from onnx import numpy_helper as nh
from artifact import Artifact, aligned


class Net:
    """An ONNX network in PyTorch. What depends on no input is computed once; the others are `steps`."""

    def __init__(self, model, feeds, layout):
        self.layout, self.steps = layout, []
        graph = model.graph
        constants = [(t.name, t) for t in graph.initializer]
        constants += [(n.output[0], attributes(n)["value"]) for n in graph.node if n.op_type == "Constant"]
        self.known = {name: torch.from_numpy(nh.to_array(t).copy()) for name, t in constants}
        self.output = graph.output[0].name
        self.inputs = list(feeds)
        values = {name: torch.from_numpy(x) for name, x in feeds.items()}
        nodes, uses = [n for n in graph.node if n.op_type != "Constant"], {}
        for node in nodes:
            for name in node.input:
                uses.setdefault(name, []).append(node)
        self.uses, skip = uses, set()
        with torch.no_grad():
            for node in nodes:
                if id(node) in skip:
                    continue
                moving = [i for i in node.input if i in values]
                if not moving or node.op_type == "Shape":
                    shapes = {i: values[i] for i in moving}
                    self.known[node.output[0]] = self.step(node)({**self.known, **shapes})
                    continue
                found = self.layer_norm(node) or self.gelu(node)
                if found:
                    step, members, result = found
                    skip.update(id(m) for m in members)
                else:
                    step, result = self.step(node), node.output[0]
                values[result] = step({**self.known, **values})
                self.steps.append((result, step))
        self.made = values[self.output]

    def __call__(self, x, name=None):
        """The output, or another value."""
        values = dict(self.known)
        values[self.inputs[0]] = x.contiguous(memory_format=torch.channels_last) if self.layout == "last" else x
        for result, step in self.steps:
            values[result] = step(values)
            if result == name:
                break
        return values[name or self.output]

    def chain(self, node, ops):
        """The nodes from this one on that each use what the one before gives, of these operations."""
        found = [node] if node.op_type == ops[0] else []
        for op in ops[1:]:
            after = [n for n in self.uses.get(found[-1].output[0], []) if n.op_type == op] if found else []
            found = [*found, after[0]] if len(after) == 1 else []
        return found

    def constant(self, node):
        """The constant operand of a node of two, and the other's name."""
        i = next(i for i, name in enumerate(node.input) if name in self.known)
        return self.known[node.input[i]], node.input[1 - i]

    def layer_norm(self, node):
        found = self.chain(node, ["ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"])
        if not found or attributes(node)["axes"] != [-1]:
            return None
        x, (epsilon, _), (weight, _), (bias, _) = node.input[0], *[self.constant(found[i]) for i in (4, 7, 8)]
        eps, shape = float(epsilon), list(weight.shape)
        return lambda v: F.layer_norm(v[x], shape, weight, bias, eps), found, found[-1].output[0]

    def gelu(self, node):
        found = self.chain(node, ["Div", "Erf", "Add", "Mul", "Mul"])
        if not found:
            return None
        x = node.input[0]
        return lambda v: F.gelu(v[x]), found, found[-1].output[0]

    def weight(self, name):
        w = self.known[name]
        if self.layout == "last" and w.dim() == 4:
            w = self.known[name] = w.contiguous(memory_format=torch.channels_last)
        return w

    def step(self, node):
        a, op, i = attributes(node), node.op_type, list(node.input)
        x, known = i[0] if i else "", self.known
        one = lambda f: lambda v: f(v[x])
        two = lambda f: lambda v: f(v[x], v[i[1]])
        ints = lambda name: [int(n) for n in known[name].flatten()]
        simple = {"Relu": F.relu, "Sigmoid": torch.sigmoid, "Erf": torch.erf, "Sqrt": torch.sqrt, "Dropout": lambda x: x}
        binary = {"Mul": torch.mul, "Add": torch.add, "Sub": torch.sub, "Div": divided, "Pow": torch.pow, "MatMul": torch.matmul, "Equal": torch.eq, "Sum": torch.add}
        if op in simple:
            return one(simple[op])
        if op in binary:
            return two(binary[op])
        match op:
            case "Conv" | "ConvTranspose":
                w, bias = self.weight(i[1]), known[i[2]] if len(i) > 2 else None
                before, pads = paddings(a.get("pads"))
                stride, groups, spread = a.get("strides", [1, 1]), a.get("group", 1), a.get("dilations", [1, 1])
                if op == "ConvTranspose":
                    return one(lambda x: F.conv_transpose2d(x, w, bias, stride, pads, 0, groups, spread))
                return one(lambda x: F.conv2d(padded(x, before, 0.0), w, bias, stride, pads, spread, groups))
            case "BatchNormalization":
                scale, bias, mean, var = (known[n] for n in i[1:5])
                return one(lambda x: F.batch_norm(x, mean, var, scale, bias, False, 0.0, a.get("epsilon", 1e-5)))
            case "LRN":
                return one(lambda x: F.local_response_norm(x, a["size"], a["alpha"], a["beta"], a["bias"]))
            case "MaxPool":
                before, pads = paddings(a.get("pads"))
                return one(lambda x: F.max_pool2d(padded(x, before, -math.inf), a["kernel_shape"], a["strides"], pads))
            case "AveragePool":
                before, pads = paddings(a.get("pads"))
                if before is None:
                    return one(lambda x: F.avg_pool2d(x, a["kernel_shape"], a["strides"], pads, count_include_pad=False))

                def mean(x):
                    count = F.avg_pool2d(padded(torch.ones_like(x[:1, :1]), before, 0.0), a["kernel_shape"], a["strides"])
                    return F.avg_pool2d(padded(x, before, 0.0), a["kernel_shape"], a["strides"]) / count

                return one(mean)
            case "GlobalAveragePool":
                return one(lambda x: x.mean((2, 3), keepdim=True))
            case "Gemm":
                w, bias = known[i[1]], known[i[2]]
                w = w if a.get("transB") else w.t().contiguous()
                return one(lambda x: F.linear(x, w, bias))
            case "Softmax":
                return one(lambda x: F.softmax(x, a.get("axis", 1)))
            case "Reshape":
                return lambda v: v[x].reshape([v[x].shape[k] if n == 0 else int(n) for k, n in enumerate(ints(i[1]))])
            case "Transpose":
                return one(lambda x: x.permute(a["perm"]))
            case "Concat":
                return lambda v: torch.cat([v[n] for n in i], a["axis"])
            case "Unsqueeze":
                axes = a["axes"] if "axes" in a else ints(i[1])
                return one(lambda x: x.reshape([*x.shape[:axes[0]], *[1] * len(axes), *x.shape[axes[0]:]]) if axes[0] >= 0 else x.unsqueeze(axes[0]))
            case "Shape":
                return one(lambda x: torch.tensor(x.shape))
            case "ConstantOfShape":
                value = nh.to_array(a["value"])[0] if "value" in a else np.float32(0)
                return lambda v: torch.from_numpy(np.full(ints(x), value))
            case "Gather":
                at = known[i[1]]
                return one(lambda x: x.index_select(a.get("axis", 0), at.flatten()).squeeze(a.get("axis", 0)) if at.dim() == 0 else x[at])
            case "Cast":
                dtype = torch.from_numpy(np.zeros(1, onnx.mapping.TENSOR_TYPE_TO_NP_TYPE[a["to"]])).dtype
                return one(lambda x: x.to(dtype))
            case "Where":
                return lambda v: torch.where(v[i[0]], v[i[1]], v[i[2]])
            case "Expand":
                return lambda v: v[x] * torch.ones(ints(i[1]), dtype=v[x].dtype)
            case "Slice":
                starts, ends, axes = (ints(n) for n in i[1:4])
                steps = ints(i[4]) if len(i) > 4 else [1] * len(axes)

                def cut(x):
                    at = [slice(None)] * x.dim()
                    for axis, start, end, step in zip(axes, starts, ends, steps):
                        at[axis] = slice(start, min(end, x.shape[axis]), step)
                    return x[tuple(at)]

                return one(cut)
            case "ReduceMean":
                return one(lambda x: x.mean(a["axes"], keepdim=bool(a.get("keepdims", 1))))
            case "Resize":
                mode = {b"cubic": "bicubic", b"linear": "bilinear"}[a["mode"]]
                if len(i) > 3:
                    return lambda v: F.interpolate(v[x], ints(i[3])[2:], mode=mode, align_corners=False)
                scales = [float(s) for s in known[i[2]][2:]]
                return one(lambda x: F.interpolate(x, scale_factor=scales, mode=mode, align_corners=False))
        raise SystemExit(f"{op} of {node.output[0]}: this script does not translate it to PyTorch")


def attributes(node):
    return {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}


def divided(a, b):
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "floor")


def paddings(pads):
    """What a pad in front of the call adds (None: nothing), and the pads of the call: those that are equal on both sides."""
    pads = pads or [0, 0, 0, 0]
    if pads[:2] == pads[2:]:
        return None, pads[:2]
    return [pads[1], pads[3], pads[0], pads[2]], [0, 0]


def padded(x, pads, value):
    return x if pads is None else F.pad(x, pads, value=value)


class Torch:
    """The forward run and the gradient of a network in PyTorch."""

    def __init__(self, model, feeds, score, index, layout):
        self.net, (self.x,) = Net(model, feeds, layout), map(torch.from_numpy, feeds.values())
        self.leaf, self.score, self.index = self.x.clone().requires_grad_(True), score, index

    def forward(self):
        with torch.inference_mode():
            self.value = self.net(self.x)
        return self.value

    def gradient(self):
        y = self.net(self.leaf, self.score)
        for i, at in enumerate(self.index):
            y = y.select(y.dim() - len(self.index) + i, at)
        (self.grad,) = torch.autograd.grad(y.sum(), self.leaf)
        return self.grad


def apart(a, b):
    """The norm of the difference over the norm."""
    a, b = (np.asarray(x, np.float64).reshape(-1) for x in (a, b))
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300))


def measure(case, whole, rounds, folder):
    model = onnx.load(case / "model.onnx")
    constants = {t.name for t in model.graph.initializer}
    (info,) = [i for i in model.graph.input if i.name not in constants]
    x = nh.to_array(onnx.load_tensor(case / "test_data_set_0" / "input_0.pb"))
    feed = aligned(x.shape, x.dtype)
    feed[...] = x
    shape = list(Net(model, {info.name: feed.copy()}, "first").made.shape)
    last = model.graph.node[-1]
    score = last.input[0] if last.op_type == "Softmax" else last.output[0]
    index = () if whole else (3, *[0] * (len(shape) - 2))
    torches = {layout: Torch(model, {info.name: feed.copy()}, score, index, layout) for layout in ("first", "last")}
    dims = [o for d, n in zip(info.type.tensor_type.shape.dim, x.shape) if d.dim_param for o in ("--dim", f"{d.dim_param}={n}")]
    options = [*dims, "--threads", "1", "--weights", "file"]
    of = f"{score}[{','.join(map(str, index))}]" if index else score
    forward = Artifact("compile", case / "model.onnx", options, folder / "forward")
    gradient = Artifact("grad", case / "model.onnx", [*options, "--of", of], folder / "gradient")
    forward.prepare([feed], [(len(shape), np.dtype(np.float32))])
    gradient.prepare([feed], [(0, np.dtype(np.float32)), (x.ndim, np.dtype(np.float32))])
    programs = {"egret forward": forward.run, "egret gradient": gradient.run}
    for layout, t in torches.items():
        programs |= {f"torch forward {layout}": t.forward, f"torch gradient {layout}": t.gradient}
    times, repeats = {p: [] for p in programs}, {}
    for p, run in programs.items():
        run()
        begin = time.process_time()
        run()
        repeats[p] = max(1, min(20, int(0.1 / (time.process_time() - begin))))
    values = max(apart(t.value, forward.results[0]) for t in torches.values())
    grads = min(apart(t.grad, gradient.results[1]) for t in torches.values())
    own = apart(torches["last"].grad, torches["first"].grad)
    for _ in range(rounds):
        for p, run in programs.items():
            begin = time.process_time()
            for _ in range(repeats[p]):
                run()
            times[p].append((time.process_time() - begin) / repeats[p] * 1e3)
    ms = {p: statistics.median(t) for p, t in times.items()}
    row = {what: ms[what] for what in ("egret forward", "egret gradient")}
    row |= {f"torch {what}": min(ms[f"torch {what} {layout}"] for layout in torches) for what in ("forward", "gradient")}
    return row | {"values apart": values, "gradients apart": grads, "torch apart": own, "largest gradient": float(np.abs(gradient.results[1]).max())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", type=pathlib.Path)
    parser.add_argument("--whole", action="append", default=["vit_s_focus"], metavar="NAME", help="a case whose score is the sum of its output (vit_s_focus is one)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, 'cpu') else 'CPU'}")
    print("| model | forward, ms | with gradient, ms | times | PyTorch forward, ms | with gradient, ms | times | over Egret's | gradients apart | PyTorch's two |\n|---|---|---|---|---|---|---|---|---|---|")
    rows = {}
    for case in args.cases:
        with tempfile.TemporaryDirectory() as folder:
            r = rows[case.name] = measure(case, case.name in args.whole, args.rounds, pathlib.Path(folder))
        e, t = ((r[f"{w} forward"], r[f"{w} gradient"]) for w in ("egret", "torch"))
        print(f"| {case.name} | {e[0]:.3g} | {e[1]:.3g} | {e[1] / e[0]:.2f} | {t[0]:.3g} | {t[1]:.3g} | {t[1] / t[0]:.2f} | {t[1] / e[1]:.2f} | {r['gradients apart']:.0e} | {r['torch apart']:.0e} |", flush=True)
        if r["values apart"] > 1e-3 or r["gradients apart"] > 3 * r["torch apart"] + 1e-3 or r["largest gradient"] == 0.0:
            print(f"  {case.name}: values differ by {r['values apart']:.1e}, gradients by {r['gradients apart']:.1e} of at most {r['largest gradient']:.1e}: no comparison of times")
    mean = lambda ratio: math.exp(statistics.mean(math.log(ratio(r)) for r in rows.values()))
    print(f"geometric means: gradient over forward {mean(lambda r: r['egret gradient'] / r['egret forward']):.2f} "
          f"(PyTorch {mean(lambda r: r['torch gradient'] / r['torch forward']):.2f}), PyTorch's gradient over Egret's {mean(lambda r: r['torch gradient'] / r['egret gradient']):.2f}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


main()
