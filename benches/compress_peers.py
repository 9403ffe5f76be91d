#!/usr/bin/env python3
"""Compressed copies of a model by Egret and by other tools, on the same samples: what they keep, their bytes, and their time.

    pip install numpy onnx onnxruntime onnx_ir nncf onnxsim
    benches/compress_peers.py EGRET MODEL CALIBRATION.npz JUDGE.npz -o DIR [--step make|judge|ort|egret|table] [--rows A,B] [--tools A,B]

Both .npz files hold samples along the first axis, by the names of the inputs. JUDGE.npz has `labels` too (top-1 of the first output), or `ratings`, a square
matrix of how alike people find its texts (the rank correlation of that with the cosines of mean token vectors; samples are cut to their `attention_mask`).
Every copy is made in a process of its own: processor seconds and peak memory are those of that process, with the libraries that it loads. ONNX Runtime judges all
copies. Time is of one sample and one thread: in ONNX Runtime medians of runs in turns, in Egret (`egret bench --threads 1`) the median of three medians, in turns too.
DIR keeps copies and `results.json`; without --step all is done, and --rows and --tools do again a part of it: a table has everything that is in DIR.
BatchNormalizations are folded first, by ONNX Runtime's preparation for it and NNCF, by `simplify` for onnxsim; layers that Egret does not prune are left alone by
onnxsim too in the variants that say `same layers`. A tool that refuses, or whose copy ONNX Runtime does not run, has its message in the table.
"""
import argparse, json, os, pathlib, statistics, subprocess, sys, tempfile, time
import numpy as np

SPARSE = {"zeros 30 %": 0.3, "zeros 50 %": 0.5}
ROWS = ["int8", "int8 weights", "int4 weights", *SPARSE, "2:4", "channels -20 %"]
MAKERS = []  # (row, tool, variant, function of a Job)


def maker(rows, tool, variant="", convolutions=None):
    """Registers a function that makes a copy; `convolutions` says that it is for models with (or without) them alone."""
    def add(function):
        for row in [rows] if isinstance(rows, str) else rows:
            MAKERS.append((row, tool, variant, convolutions, function))
        return function
    return add


class Job:
    def __init__(self, args, row, out):
        self.args, self.row, self.out, self.model = args, row, str(out), args.model

    def samples(self):
        """One dict of inputs a sample."""
        import onnx
        names = inputs_of(onnx.load(self.model))
        data = np.load(self.args.calibration)
        data = {n: data[n] for n in names}
        return [{n: v[i : i + 1] for n, v in data.items()} for i in range(len(data[names[0]]))]

    def save(self, model):
        """Writes a copy, without constants that nothing reads (onnxsim keeps the weights that it has quantised)."""
        import onnx
        read = {i for n in model.graph.node for i in n.input} | {o.name for o in model.graph.output}
        kept = [t for t in model.graph.initializer if t.name in read]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        onnx.save(model, self.out)


def inputs_of(model):
    initial = {t.name for t in model.graph.initializer}
    return [i.name for i in model.graph.input if i.name not in initial]


# ---- Egret

def egret(job, *words):
    a = job.args
    done = subprocess.run([a.egret, words[0], job.model, *words[1:], "--data", a.calibration, "-o", job.out], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


@maker(ROWS, "Egret")
def _(job):
    head = lambda amount: ["--layer", f"{job.args.classifier}={amount}"] if job.args.classifier else []
    if job.row in SPARSE:
        return egret(job, "prune", "--to", f"sparse:{SPARSE[job.row]}", "--method", "obc", *head(SPARSE[job.row]))
    words = {
        "int8": ["quantize", "--to", "int8"],
        "int8 weights": ["quantize", "--to", "w8"],
        "int4 weights": ["quantize", "--to", "w4:32"],
        "2:4": ["prune", "--to", "2:4", "--method", "obc"],
        "channels -20 %": ["prune", "--to", "channels:0.2", "--method", "obc"],
    }
    egret(job, *words[job.row])


# ---- ONNX Runtime

class Reader:
    """What ONNX Runtime's calibration reads samples from."""
    def __init__(self, samples):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


def ort_prepared(job):
    from onnxruntime.quantization.shape_inference import quant_pre_process
    path = job.out + ".prepared"
    quant_pre_process(job.model, path, skip_symbolic_shape=True)
    return path


def ort_static(job, method, **options):
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    path = ort_prepared(job)
    quantize_static(path, job.out, Reader(job.samples()), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8, calibrate_method=getattr(CalibrationMethod, method), extra_options=options)
    os.remove(path)


@maker("int8", "ONNX Runtime", "MinMax")
def _(job):
    ort_static(job, "MinMax")


# Entropy with its 128 bins of 128 codes takes whole ranges: the same bytes as MinMax.
@maker("int8", "ONNX Runtime", "Percentile")
def _(job):
    ort_static(job, "Percentile")


@maker("int8 weights", "ONNX Runtime", "quantize_dynamic")
def _(job):
    from onnxruntime.quantization import QuantType, quantize_dynamic
    path = ort_prepared(job)
    quantize_dynamic(path, job.out, per_channel=True, weight_type=QuantType.QInt8)
    os.remove(path)


@maker("int4 weights", "ONNX Runtime", "MatMulNBits")
def _(job):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    import onnx
    quantizer = MatMulNBitsQuantizer(onnx.load(job.model), bits=4, block_size=32, is_symmetric=False)
    quantizer.process()
    model = quantizer.model.model
    if not any(n.op_type == "MatMulNBits" for n in model.graph.node):
        raise RuntimeError("takes MatMul alone: no layer of the model is one")
    job.save(model)


# ---- NNCF

def nncf_base(job, opset=None):
    """The model with BatchNormalizations folded, which NNCF does not do to ONNX models; a transformer as it is, for NNCF's patterns."""
    import onnx
    from onnx import version_converter
    if not job.args.convolutions:
        model = onnx.load(job.model)
    else:
        path = ort_prepared(job)
        model = onnx.load(path)
        os.remove(path)
    return version_converter.convert_version(model, opset) if opset else model


def nncf_static(job, **options):
    import nncf
    samples = job.samples()
    if not job.args.convolutions:
        options["model_type"] = nncf.ModelType.TRANSFORMER
    job.save(nncf.quantize(nncf_base(job), nncf.Dataset(samples), subset_size=len(samples), **options))


@maker("int8", "NNCF", "default")
def _(job):
    nncf_static(job)


@maker("int8", "NNCF", "mixed, accurate bias correction", convolutions=True)
def _(job):
    import nncf
    nncf_static(job, preset=nncf.QuantizationPreset.MIXED, fast_bias_correction=False)


@maker("int8", "NNCF", "SmoothQuant off", convolutions=False)
def _(job):
    import nncf
    nncf_static(job, advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alpha=-1))


def nncf_weights(job, opset=None, **options):
    import nncf
    model = nncf.compress_weights(nncf_base(job, opset), **options)
    mend_scales(model)
    job.save(model)


def mend_scales(model):
    """Makes of NNCF's scales what ONNX asks for: those of convolutions one-dimensional, and the axis of blocks the one that has fewer scales."""
    given = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in given:
            continue
        weight, scales = given[node.input[0]].dims, given[node.input[1]].dims
        attributes = {a.name: a for a in node.attribute}
        if "block_size" not in attributes or not attributes["block_size"].i:
            if len(scales) > 1:
                for name in node.input[1:]:
                    count = int(np.prod(given[name].dims))
                    del given[name].dims[:]
                    given[name].dims.append(count)
        else:
            attributes["axis"].i = next(i for i, (w, s) in enumerate(zip(weight, scales)) if w != s)


@maker("int8 weights", "NNCF", "INT8_SYM, scales mended")
def _(job):
    import nncf
    nncf_weights(job, mode=nncf.CompressWeightsMode.INT8_SYM)


@maker("int4 weights", "NNCF", "INT4_ASYM, scale estimation, scales mended")
def _(job):
    import nncf
    samples = job.samples()
    nncf_weights(job, 21, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=32, all_layers=True, dataset=nncf.Dataset(samples),
                 scale_estimation=True, subset_size=len(samples))


@maker([*SPARSE, "2:4", "channels -20 %"], "NNCF", "nncf.prune")
def _(job):
    import nncf, onnx
    nncf.prune(onnx.load(job.model), nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL, ratio=0.5)


# ---- onnxsim

def simplified(job, opset=None):
    import onnxsim
    return onnxsim.simplify(job.model, target_opset_version=opset)[0]


@maker("int8", "onnxsim", "minmax")
def _(job):
    import onnxsim
    job.save(onnxsim.quantize_static(simplified(job), job.samples()))


@maker("int8", "onnxsim", "auto")
def _(job):
    import onnxsim
    job.save(onnxsim.quantize_static(simplified(job), job.samples(), method="auto"))


@maker("int8", "onnxsim", "auto, correct_bias")
def _(job):
    import onnxsim
    base, samples = simplified(job), job.samples()
    job.save(onnxsim.correct_bias(base, onnxsim.quantize_static(base, samples, method="auto"), samples))


@maker("int8 weights", "onnxsim")
def _(job):
    import onnxsim
    job.save(onnxsim.quantize_weight_only(simplified(job)))


@maker("int4 weights", "onnxsim", "rounded")
def _(job):
    import onnxsim
    job.save(onnxsim.quantize_weight_only_int4(simplified(job, 21)))


@maker("int4 weights", "onnxsim", "GPTQ")
def _(job):
    import onnxsim
    base = simplified(job, 21)
    job.save(onnxsim.apply_gptq(base, onnxsim.quantize_weight_only_int4(base), job.samples()))


def amounts(job):
    return {"n": 2, "m": 4} if job.row == "2:4" else {"sparsity": SPARSE[job.row]}


def leave(job, base, pruned):
    """Puts the weights back that Egret does not prune: of the first convolution, depthwise ones, and for 2:4 of the classifier."""
    given = {t.name: t for t in base.graph.initializer}
    names, first = set(), True
    for node in base.graph.node:
        if node.op_type == "Conv":
            group = next((a.i for a in node.attribute if a.name == "group"), 1)
            if first or group > 1:
                names.add(node.input[1])
            first = False
        elif node.op_type in ("Gemm", "MatMul") and job.row == "2:4" and job.args.convolutions:
            names.update(i for i in node.input[1:2] if i in given)
    for tensor in pruned.graph.initializer:
        if tensor.name in names:
            tensor.CopyFrom(given[tensor.name])
    return pruned


@maker([*SPARSE, "2:4"], "onnxsim", "magnitude")
def _(job):
    import onnxsim
    job.save(onnxsim.apply_magnitude_pruning(simplified(job), **amounts(job)))


@maker([*SPARSE, "2:4"], "onnxsim", "Wanda, same layers", convolutions=True)
def _(job):
    import onnxsim
    base = simplified(job)
    job.save(leave(job, base, onnxsim.apply_wanda_pruning(base, job.samples(), **amounts(job))))


@maker([*SPARSE, "2:4"], "onnxsim", "SparseGPT")
def _(job):
    import onnxsim
    job.save(onnxsim.apply_sparsegpt_pruning(simplified(job), job.samples(), **amounts(job)))


@maker([*SPARSE, "2:4"], "onnxsim", "SparseGPT, same layers", convolutions=True)
def _(job):
    import onnxsim
    base = simplified(job)
    job.save(leave(job, base, onnxsim.apply_sparsegpt_pruning(base, job.samples(), **amounts(job))))


@maker([*SPARSE, "2:4"], "onnxsim", "SparseGPT, same layers, recover_batch_norm", convolutions=True)
def _(job):
    import onnxsim
    base, samples = simplified(job), job.samples()
    pruned = leave(job, base, onnxsim.apply_sparsegpt_pruning(base, samples, **amounts(job)))
    job.save(onnxsim.simplify(onnxsim.recover_batch_norm(pruned, calibration_data=samples, target_model=base))[0])


@maker("channels -20 %", "onnxsim", "structured, norms")
def _(job):
    import onnxsim
    job.save(onnxsim.apply_structured_pruning(simplified(job), 0.2))


@maker("channels -20 %", "onnxsim", "structured, Wanda")
def _(job):
    import onnxsim
    job.save(onnxsim.apply_structured_wanda_pruning(simplified(job), job.samples(), sparsity=0.2))


# ---- judging

def session(path):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ranks(a):
    r = np.empty(len(a))
    r[np.argsort(a, kind="stable")] = np.arange(len(a))
    return r


class Judge:
    def __init__(self, path, names):
        data = np.load(path)
        self.inputs = {n: data[n] for n in names}
        self.labels, self.ratings = data.get("labels"), data.get("ratings")
        if self.labels is None and self.ratings is None:
            sys.exit(f"{path} has neither `labels` nor `ratings`")

    def outputs(self, path):
        s = session(path)
        for i in range(len(next(iter(self.inputs.values())))):
            feeds = {n: v[i : i + 1] for n, v in self.inputs.items()}
            if "attention_mask" in feeds:
                length = int(feeds["attention_mask"].sum())
                feeds = {n: v[:, :length] for n, v in feeds.items()}
            yield s.run(None, feeds)

    def __call__(self, path):
        """Classes, or vectors, of all samples; and the score."""
        if self.labels is not None:
            classes = np.array([o[0].argmax() for o in self.outputs(path)])
            return classes, 100 * float((classes == self.labels).mean())
        vectors = np.stack([next(a for a in o if a.ndim == 3)[0].mean(0) for o in self.outputs(path)])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        pairs = np.triu_indices(len(vectors), 1)
        return None, float(np.corrcoef(ranks((vectors @ vectors.T)[pairs]), ranks(self.ratings[pairs]))[0, 1])


# ---- steps

def key_of(row, tool, variant):
    return " | ".join(w for w in (row, tool, variant) if w)


def path_of(args, key):
    return pathlib.Path(args.out) / ("".join(c if c.isalnum() else "_" for c in key) + ".onnx")


def last_line(text):
    lines = [l.strip() for l in text.strip().splitlines() if l.strip()]
    return lines[-1][:300] if lines else "ended without a word"


def make(args, results, chosen, save):
    for index, (row, tool, variant, _, _) in chosen:
        key = key_of(row, tool, variant)
        path = path_of(args, key)
        path.unlink(missing_ok=True)
        with tempfile.TemporaryFile("w+") as said:
            child = subprocess.Popen([sys.executable, *sys.argv, "--one", str(index)], stdout=subprocess.DEVNULL, stderr=said)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            text = said.read()
        entry = {"row": row, "tool": tool, "variant": variant, "seconds": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}
        if child.returncode or not path.exists():
            entry["failed"] = last_line(text)
        else:
            entry["bytes"] = path.stat().st_size
        results[key] = entry
        save()
        print(key, entry, flush=True)


def judge(args, results, keys):
    import onnx
    judges = Judge(args.judge, inputs_of(onnx.load(args.model)))
    classes, score = judges(args.model)
    results["original"] = {**results.get("original", {}), "row": "the original", "tool": "", "variant": "", "bytes": os.path.getsize(args.model), "score": score}
    for key in keys:
        try:
            got, score = judges(path_of(args, key))
        except Exception as error:
            results[key]["failed"] = "ONNX Runtime: " + last_line(str(error))
            continue
        results[key]["score"] = score
        if got is not None:
            results[key]["same"] = 100 * float((got == classes).mean())
        print(key, score, results[key].get("same"), flush=True)


def one_sample(args):
    import onnx
    data = np.load(args.calibration)
    return {n: data[n][:1] for n in inputs_of(onnx.load(args.model))}


def time_ort(args, results, paths):
    feeds = one_sample(args)
    sessions = {k: session(p) for k, p in paths.items()}
    times = {k: [] for k in sessions}
    start = time.perf_counter()
    while time.perf_counter() - start < args.seconds:
        for key, s in sessions.items():
            t = time.perf_counter()
            s.run(None, feeds)
            times[key].append(1000 * (time.perf_counter() - t))
    for key, all_of_it in times.items():
        results[key]["ort_ms"] = statistics.median(all_of_it[len(all_of_it) // 10 :])


def time_egret(args, results, paths):
    sample = pathlib.Path(args.out) / "sample.npz"
    np.savez(sample, **one_sample(args))
    times = {k: [] for k in paths}
    each = args.seconds / len(paths) / 3
    for _ in range(3):
        for key, path in paths.items():
            command = [args.egret, "bench", str(path), "--inputs", str(sample), "--threads", "1", "--json", "--seconds", str(max(each - 0.6, 0.1))]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                results[key]["egret_failed"] = last_line(done.stderr)
            else:
                times[key].append(json.loads(done.stdout.strip().splitlines()[-1])["median_ms"])
    for key, all_of_it in times.items():
        if all_of_it:
            results[key]["egret_ms"] = statistics.median(all_of_it)


def table(results):
    scores = any(r.get("same") is not None for r in results.values())
    score = "top-1 in %" if scores else "Spearman"
    print(f"| | tool | {score} |" + (" as the original, in % |" if scores else "") + " bytes | ms, ONNX Runtime | ms, Egret | seconds | peak MB |")
    print("|" + "---|" * (9 if scores else 8))
    at = lambda r, name, form: format(r[name], form) if name in r else "-"
    order = lambda r: (ROWS.index(r["row"]) if r["row"] in ROWS else -1, r["tool"] != "Egret", r["tool"])
    for r in sorted(results.values(), key=order):
        tool = r["tool"] + (f", {r['variant']}" if r["variant"] else "")
        if "failed" in r:
            print(f"| {r['row']} | {tool} | {r['failed'].replace('|', '/')} |" + " |" * (6 if scores else 5))
            continue
        cells = [r["row"], tool, at(r, "score", ".1f" if scores else ".4f")] + ([at(r, "same", ".1f")] if scores else [])
        print("| " + " | ".join([*cells, at(r, "bytes", ",d"), at(r, "ort_ms", ".1f"), at(r, "egret_ms", ".1f"), at(r, "seconds", ".0f"), at(r, "peak_mb", ".0f")]) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("egret", "model", "calibration", "judge"):
        parser.add_argument(name)
    parser.add_argument("-o", "--out", required=True, help="where copies and results.json are kept")
    parser.add_argument("--step", choices=["make", "judge", "ort", "egret", "table"], help="do this alone")
    parser.add_argument("--rows", help=f"of {', '.join(ROWS)}; names with commas".replace("%", "%%"))
    parser.add_argument("--tools", help="of Egret, ONNX Runtime, NNCF, onnxsim; names with commas")
    parser.add_argument("--classifier", help="the last layer, which zeros are made in too (not 2:4), e.g. fc")
    parser.add_argument("--seconds", type=float, default=45, help="how long either timing takes, about")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    import onnx
    args.convolutions = any(n.op_type == "Conv" for n in onnx.load(args.model, load_external_data=False).graph.node)
    if args.one is not None:
        row, tool, variant, _, function = MAKERS[args.one]
        return function(Job(args, row, path_of(args, key_of(row, tool, variant))))

    def wanted(name, given):
        return given is None or name.lower() in [g.strip().lower() for g in given.split(",")]

    chosen = [(i, m) for i, m in enumerate(MAKERS) if wanted(m[0], args.rows) and wanted(m[1], args.tools) and m[3] in (None, args.convolutions)]
    store = pathlib.Path(args.out) / "results.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    step = lambda name: args.step in (None, name)

    def save():
        store.write_text(json.dumps(results, indent=1) + "\n")

    if step("make"):
        make(args, results, chosen, save)
    keys = [k for k in (key_of(*m[:3]) for _, m in chosen) if "bytes" in results.get(k, {})]
    if step("judge"):
        judge(args, results, keys)
        save()
    paths = {"original": args.model, **{k: path_of(args, k) for k in keys if "score" in results.get(k, {})}}
    for name, function in (("ort", time_ort), ("egret", time_egret)):
        if step(name):
            function(args, results, paths)
            save()
    table(results)


if __name__ == "__main__":
    main()
