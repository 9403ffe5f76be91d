#!/usr/bin/env python3
"""Whether `egret compress --budget` keeps its budget on samples that the search never saw.

    budget_splits.py EGRET MODEL --images X.npy --labels Y.npy [--budget 0.5pt] [--metric top1] [--splits 5] [--part 0.4] [-- MORE OPTIONS OF egret compress]

Each split draws `part` of the samples, with labels, for `egret compress` (three quarters fit layers, a quarter judges copies); the model and its copy are compared on the others by
ONNX Runtime. A line a split: bytes, what the search judged, and what was lost on samples that it never saw, in points (`top1`) or as a part of the outputs' variance (`mse`), with the standard
error of the mean of that figure. A violation is a loss above the budget; one beyond two standard errors is no accident of the draw. Needs numpy, onnxruntime.
"""
import argparse, json, pathlib, subprocess, tempfile

import numpy as np
import onnxruntime as ort


def outputs(path, x, fixed):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    step = 1 if fixed else 100
    return np.concatenate([session.run(None, {name: x[i : i + step]})[0] for i in range(0, len(x), step)]), name


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("egret")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--labels", type=pathlib.Path, required=True)
    parser.add_argument("--budget", default="0.5pt")
    parser.add_argument("--metric", default="top1", choices=["top1", "mse"])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--part", type=float, default=0.4)
    parser.add_argument("more", nargs="*")
    args = parser.parse_args()
    x, y = np.load(args.images), np.load(args.labels)
    dims = ort.InferenceSession(str(args.model), providers=["CPUExecutionProvider"]).get_inputs()[0].shape
    fixed = isinstance(dims[0], int)
    violations = beyond = 0
    for split in range(args.splits):
        order = np.random.default_rng(split).permutation(len(x))
        seen, unseen = np.split(order, [int(args.part * len(x))])
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            _, name = outputs(args.model, x[:1], fixed)
            np.savez(folder / "data.npz", **{name: x[seen], "labels": y[seen]})
            copy = folder / "copy.onnx"
            command = [args.egret, "compress", str(args.model), "--data", str(folder / "data.npz"), "--budget", args.budget]
            command += ["--metric", args.metric, "-o", str(copy), "--format", "json", *args.more]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode not in (0, 3):
                raise SystemExit(done.stderr.strip())
            report = json.loads(done.stdout)
            (a, _), (b, _) = outputs(args.model, x[unseen], fixed), outputs(copy, x[unseen], fixed)
        if args.metric == "top1":
            lost = 100.0 * ((a.argmax(1) == y[unseen]).astype(float) - (b.argmax(1) == y[unseen]))
            budget = float(args.budget.removesuffix("pt"))
        else:
            lost = ((a - b) ** 2).mean(1) / a.var(0).mean()
            budget = float(args.budget.rstrip("%")) / (100.0 if args.budget.endswith("%") else 1.0)
        loss, error = lost.mean(), lost.std() / np.sqrt(len(lost))
        violations += loss > budget
        beyond += loss - 2 * error > budget
        sizes = f"{report.get('bytes', '?')} bytes" if isinstance(report, dict) else ""
        print(f"split {split}: exit {done.returncode}, {sizes}, lost {loss:.4g} +- {error:.2g} of {budget:g} on {len(unseen)} unseen samples", flush=True)
    print(f"{violations} of {args.splits} splits above the budget, {beyond} by more than two standard errors")


if __name__ == "__main__":
    main()
