#!/usr/bin/env python3
"""Exported models held by ONNX's checker and ONNX Runtime.

    benches/exported.py EGRET CASES...

CASES are test-case folders, or folders of them. Each model is exported (`egret print --format onnx`), checked in full, and run by ONNX
Runtime beside the original on the case's inputs; its outputs are to be those of the original, or the case's, within the case's tolerance. Free dims
are fixed, and inputs bound, to the case's where Egret asks for them.
The exported model is then tested by Egret on the case as the original is (`egret test --engine interp`), and compiled for the case's sizes: the
kernels that it calls are to be the original's (`egret print --after lower`).
One line a case that does not pass (with ALL=1 in the environment, one for each case), and a summary. With ALL=1 a line says too how far the
outputs are from the original's, and how far those of ONNX Runtime are that optimises nothing: the largest difference of an output, relative to
its largest element. ARGS in the environment are further arguments of `egret print`; AGAIN=0 leaves out what Egret does with the exported model.
"""
import collections, json, os, pathlib, re, shutil, subprocess, sys, tempfile
import numpy as np
import onnx, onnxruntime
from onnx import numpy_helper

onnxruntime.set_default_logger_severity(4)


def cases(path):
    path = pathlib.Path(path)
    if (path / "model.onnx").is_file():
        return [path]
    return sorted(m.parent for m in path.glob("*/model.onnx"))


def read(path, kind):
    data = path.read_bytes()
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def session(model, optimised=True):
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def run(model, feeds, optimised=True):
    s = session(model, optimised)
    names = [i.name for i in s.get_inputs()]
    return s.run(None, {n: feeds[n] for n in names})


def differs(want, got, rtol, atol):
    """Why two outputs are not the same, or None."""
    # Of ZipMap, which gives maps, Egret gives the tensor that it takes.
    if isinstance(want, list) and want and all(isinstance(m, dict) for m in want):
        want = np.array([list(m.values()) for m in want], got.dtype)
    if isinstance(want, list):
        if len(want) != len(got):
            return f"{len(got)} elements, not {len(want)}"
        return next((d for d in (differs(w, g, rtol, atol) for w, g in zip(want, got)) if d), None)
    if want is None or got is None:
        return None if want is got else "one of them is nothing"
    want, got = np.asarray(want), np.asarray(got)
    if want.shape != got.shape:
        return f"shape {got.shape}, not {want.shape}"
    if want.dtype.kind in "OUS":
        return None if [str(v) for v in want.ravel()] == [str(v) for v in got.ravel()] else "other strings"
    if want.dtype != got.dtype:
        return f"type {got.dtype}, not {want.dtype}"
    w, g = want.astype(np.float64), got.astype(np.float64)
    same = np.isclose(g, w, rtol=rtol, atol=atol, equal_nan=True)
    if same.all():
        return None
    return f"{(~same).sum()} of {same.size} elements, at most {np.nanmax(np.abs(g - w)):.3g} apart"


def apart(want, got):
    """The largest difference of tensors of numbers, relative to the largest element of each; NaN where shapes differ."""
    largest = 0.0
    for w, g in zip(want, got):
        if not isinstance(w, np.ndarray) or w.dtype.kind in "OUS" or not w.size:
            continue
        if w.shape != np.shape(g):
            return np.nan
        w, g = w.astype(np.float64), np.asarray(g).astype(np.float64)
        finite = np.isfinite(w)
        scale = np.abs(w[finite]).max(initial=0.0) or 1.0
        largest = max(largest, np.abs(g - w)[finite].max(initial=0.0) / scale)
    return largest


def calls(egret, model, bound):
    """How often each kernel is called by a model that is lowered, or why it is not lowered."""
    done = subprocess.run([egret, "print", str(model), "--after", "lower", *bound], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    # The number of a kernel is its place in the program.
    bodies = {k: f"kernel {body}" for k, body in re.findall(r"^kernel (k\d+) (.*?^})$", done.stdout, re.M | re.S)}
    return collections.Counter(bodies[k] for k in re.findall(r"^call (k\d+)\(", done.stdout, re.M))


def kernels(egret, case, again, bound):
    """(whether two models call the same kernels, what they call)"""
    had, have = calls(egret, case, bound), calls(egret, again, [])
    if isinstance(had, str):
        return True, "not lowered"
    if isinstance(have, str):
        return False, have
    common = (had & have).total()
    if had == have:
        return True, f"{common} calls of {len(had)} kernels"
    names = lambda c: ", ".join(f"{n} {k.split('(')[0].removeprefix('kernel ')}" for k, n in sorted(c.items()))
    return False, f"{common} calls in common; original only: {names(had - have)}; exported only: {names(have - had)}"


def nodes(graph):
    """How many nodes a graph and its sub-graphs have."""
    inner = [a.g for n in graph.node for a in n.attribute if a.HasField("g")]
    return len(graph.node) + sum(map(nodes, inner))


def check(egret, case, folder):
    """(what became of the case, why)"""
    out = folder / "exported.onnx"
    model = onnx.load(str(case / "model.onnx"), load_external_data=False)
    kinds = {i.name: i.type.WhichOneof("value") for i in list(model.graph.input) + list(model.graph.output)}
    initial = {t.name for t in model.graph.initializer}
    inputs = [i.name for i in model.graph.input if i.name not in initial]
    data = case / "test_data_set_0"
    feeds = {}
    for i, name in enumerate(inputs):
        path = data / f"input_{i}.pb"
        if path.is_file():
            feeds[name] = read(path, kinds[name])
    command = [egret, "print", str(case / "model.onnx"), "--format", "onnx", "-o", str(out)]
    command += os.environ.get("ARGS", "").split()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "--dim" in done.stderr:
        for i in model.graph.input:
            sizes = zip(getattr(feeds.get(i.name), "shape", ()), i.type.tensor_type.shape.dim)
            for axis, (size, d) in enumerate(sizes):
                dim = d.dim_param or f"{i.name}_d{axis}"
                if f"--dim {dim}=" in done.stderr:
                    command.append(f"--dim={dim}={size}")
        done = subprocess.run(command, capture_output=True, text=True)
    # Values that the compiler must know, as the case has them.
    while done.returncode and (asked := re.search(r"--bind (\S+?)=value", done.stderr)) and asked[1] in feeds:
        np.save(folder / "bound.npy", np.asarray(feeds[asked[1]]))
        bound = folder / f"bound{len(command)}.npy"
        (folder / "bound.npy").rename(bound)
        if any(c.startswith(f"--bind={asked[1]}=") for c in command):
            break
        command.append(f"--bind={asked[1]}={bound}")
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        what = "refused" if "written as ONNX" in done.stderr else "not imported"
        return what, done.stderr.strip().splitlines()[-1]
    try:
        onnx.checker.check_model(str(out), full_check=True)
    except Exception as e:
        return "checker", " ".join(str(e).split())[:300]
    tolerance = {"rtol": 1e-3, "atol": 1e-7}
    if (case / "tolerance.json").is_file():
        tolerance |= json.loads((case / "tolerance.json").read_text())
    wanted = [[read(data / f"output_{i}.pb", kinds[o.name]) for i, o in enumerate(model.graph.output)
               if (data / f"output_{i}.pb").is_file()]]
    try:
        wanted.insert(0, run(case / "model.onnx", feeds))
    except Exception:
        pass
    beside = "" if len(wanted) == 2 else ", original too"
    try:
        got = run(out, feeds)
    except Exception as e:
        return "not run" + beside, " ".join(str(e).split())[:200]
    reasons = []
    for want in wanted:
        each = [differs(w, g, **tolerance) for w, g in zip(want, got)]
        reasons.append(next((f"output {i}: {why}" for i, why in enumerate(each) if why), None))
    far = ""
    if os.environ.get("ALL") and not beside:
        far = f"apart {apart(wanted[0], got):.1e}"
        try:
            far += f", unoptimised {apart(wanted[0], run(case / 'model.onnx', feeds, False)):.1e}; "
        except Exception:
            far += ", unoptimised not run; "
    unlike = ("differs" + beside.replace("too", "not run"), reasons[0]) if all(reasons) else None
    # As a case of Egret's own.
    again = folder / case.name
    again.mkdir()
    shutil.copy(out, again / "model.onnx")
    for f in folder.glob("exported.onnx.data"):
        shutil.copy(f, again)
    for f in case.iterdir():
        if f.name != "model.onnx":
            (again / f.name).symlink_to(f.resolve())
    if os.environ.get("AGAIN", "1") == "1":
        def test(path):
            return subprocess.run([egret, "test", str(path), "--engine", "interp", "--no-skips"], capture_output=True, text=True)
        done = test(again)
        if done.returncode and not unlike and not test(case).returncode:
            return "re-import", " ".join((done.stdout + done.stderr).split())[:300]
        same, what = kernels(egret, case, again, [a for a in command if a.startswith("--bind=")])
        sizes = [nodes(onnx.load(str(m), load_external_data=False).graph) for m in (case / "model.onnx", out)]
        what = f"{far}{sizes[0]} nodes become {sizes[1]}; {'' if same else 'other kernels: '}{what}"
        return (unlike[0], f"{unlike[1]}; {what}") if unlike else ("passed" if same else "kernels", what)
    return unlike or ("passed", far)


def main():
    egret, counts = sys.argv[1], collections.Counter()
    for case in [c for path in sys.argv[2:] for c in cases(path)]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                what, why = check(egret, case, pathlib.Path(folder))
            except Exception as e:
                what, why = "unread", " ".join(repr(e).split())[:200]
        counts[what] += 1
        if what != "passed" or os.environ.get("ALL"):
            print(f"{case.name}\t{what}\t{why}", flush=True)
    print(", ".join(f"{n} {what}" for what, n in counts.most_common()))


main()
