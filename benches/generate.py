"""A language model that goes on with a text, beside ONNX Runtime, and OpenVINO where it is installed: equal tokens, tokens a second, and what a token reads.

    generate.py MODEL.onnx --tokens 504,5345,282 --count 20
    generate.py MODEL.onnx --lengths 5,200,1000 --count 8

Greedily, with the cache that the model's exporter wrote, each on `--threads` threads. The others are given the outputs of a step as the inputs of the
next one. `--lengths` draws texts of so many tokens. A rate is that of all tokens but the first, which the whole text has to be read for.

Bytes: the weights that every token reads (those of the model's products: tables of which a token takes a row do not count), and the cache in front of
the last token.

Needs numpy, onnx and onnxruntime, and takes openvino where it is; EGRET names the command (target/release/egret).
"""

import argparse, json, os, re, subprocess, time
import numpy as np, onnx, onnxruntime as ort

EGRET = os.environ.get("EGRET", "target/release/egret")
PRODUCTS = {"MatMulNBits", "MatMul", "Gemm", "MatMulInteger"}
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


def peer(inputs, outputs, step_of, tokens, count):
    """The tokens that a session goes on with, and those a second: `inputs` are name, shape and type, `step_of` runs it once."""
    empty = lambda shape, dtype: np.zeros([1 if a == 0 else d if isinstance(d, int) else 0 for a, d in enumerate(shape)], dtype)
    caches = {name: empty(shape, dtype) for name, shape, dtype in inputs if name.startswith("past")}
    step, done, found, times = list(tokens), 0, [], []
    for _ in range(count):
        began = time.perf_counter()
        feeds = dict(caches)
        for name, _, dtype in inputs:
            if name in caches:
                continue
            if "mask" in name:
                x = np.ones((1, done + len(step)))
            elif "position" in name:
                x = np.arange(done, done + len(step))[None]
            else:
                x = np.array([step])
            feeds[name] = x.astype(dtype)
        made = dict(zip(outputs, step_of(feeds)))
        done += len(step)
        step = [int(made["logits"][0, -1].argmax())]
        found += step
        caches = {name: made[re.sub("^past(_key_values)?", "present", name)] for name in caches}
        times.append(time.perf_counter() - began)
    return found, (count - 1) / sum(times[1:]) if count > 1 else 0.0


def openvino(path, threads, outputs):
    """One step of OpenVINO, where it is installed."""
    try:
        import openvino as ov
    except ImportError:
        return None
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()

    def step(feeds):
        request.infer(feeds, share_inputs=True)
        # The next step is given what this one has made, which the request writes anew.
        return [request.get_tensor(name).data.copy() for name in outputs]

    return step


def egret(model, tokens, count, threads, options):
    """Egret's tokens, and those a second."""
    text = ",".join(map(str, tokens))
    command = [EGRET, "generate", model, "--tokens", text, "--count", str(count), "--threads", str(threads), "--format", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    rate = re.search(r"then ([0-9.]+) tokens a second", done.stderr)
    return json.loads(done.stdout)["tokens"], float(rate.group(1)) if rate else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tokens", default="", help="a text, as numbers")
    parser.add_argument("--lengths", default="", help="texts of so many tokens, drawn")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("options", nargs="*", help="for egret generate, behind --")
    args = parser.parse_args()
    model = onnx.load(args.model)
    size = {t.name: len(t.raw_data) for t in model.graph.initializer}
    weights = sum(size.get(name, 0) for n in model.graph.node if n.op_type in PRODUCTS for name in set(n.input))
    row = sum(4 * int(np.prod([d.dim_value or 1 for d in i.type.tensor_type.shape.dim])) for i in model.graph.input if i.name.startswith("past"))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = args.threads, 3
    session = ort.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    inputs = [(i.name, i.shape, DTYPES[i.type]) for i in session.get_inputs()]
    outputs = [o.name for o in session.get_outputs()]
    other = openvino(args.model, args.threads, outputs)
    rng = np.random.default_rng(5)
    texts = [[int(t) for t in args.tokens.split(",")]] if args.tokens else []
    texts += [rng.integers(1, 1000, int(n)).tolist() for n in args.lengths.split(",") if n]
    for text in texts:
        want, theirs = peer(inputs, outputs, lambda feeds: session.run(None, feeds), text, args.count)
        have, ours = egret(args.model, text, args.count, args.threads, args.options)
        beside = f", OpenVINO {peer(inputs, outputs, other, text, args.count)[1]:.1f}" if other else ""
        equal = next((i for i, (a, b) in enumerate(zip(want, have)) if a != b), len(want))
        cache = row * (len(text) + args.count - 1)
        print(f"{len(text)} tokens: {equal} of {args.count} equal; {ours:.1f} a second, ONNX Runtime {theirs:.2f}{beside}; "
              f"a token reads {weights / 1e6:.1f} MB of weights, and {cache / 1e6:.1f} MB of cache stand before the last", flush=True)


main()
