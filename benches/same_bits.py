#!/usr/bin/env python3
"""Whether a model gives the same bits however it runs: on 1 to 8 threads, in 1 to 4 stages on threads and in processes, and on 1 to 4 ranks of MPI.

    pip install numpy
    same_bits.py CASES/* [--egret target/release/egret] [--mpi] [--threads 8] [--stages 4] [--given '--bind sr=16000']

A case is a folder with model.onnx and test_data_set_0. `--mpi` needs an egret that is built with `--features mpi`, and mpirun. `--given` is what `egret run` and
`egret partition` are told of the model beside its inputs. No more threads are started than there are cores, so that `--threads` above them says little. A line for each
case: how many ways gave the bits of one thread; what differs, or why a way was refused. Code 1 where bits differ.
"""
import argparse, os, pathlib, shlex, shutil, subprocess, sys, tempfile

import numpy as np


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: (file[name].dtype.str, file[name].shape, file[name].tobytes()) for name in file.files}


def run(command, **more):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)


def why(done):
    lines = [l for l in done.stderr.splitlines() if l.startswith("egret: ")]
    return (lines or done.stderr.strip().splitlines() or [f"code {done.returncode}"])[0][:160]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", type=pathlib.Path)
    parser.add_argument("--egret", default="target/release/egret")
    parser.add_argument("--mpi", action="store_true")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--given", type=shlex.split, default=[])
    args = parser.parse_args()
    mpi = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
           "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none"}
    wrong = False
    for case in args.cases:
        model, given = case / "model.onnx", case / "test_data_set_0"
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            same, said = 0, []

            def hold(what, done, outputs):
                nonlocal same, wrong
                if done.returncode != 0:
                    said.append(f"{what}: {why(done)}")
                elif arrays(outputs) == wanted:
                    same += 1
                else:
                    said.append(f"{what}: OTHER BITS")
                    wrong = True

            # A run compiles for its inputs: their sizes, and values that decide sizes. So does a plan that is cut for them.
            known = [model, "--inputs", given, *args.given]
            base = folder / "base.npz"
            done = run([args.egret, "run", *known, "--threads", 1, "-o", base])
            if done.returncode != 0:
                print(f"{case.name}: {why(done)}", flush=True)
                continue
            wanted = arrays(base)
            for threads in range(2, args.threads + 1):
                out = folder / "out.npz"
                hold(f"{threads} threads", run([args.egret, "run", *known, "--threads", threads, "-o", out]), out)
            for stages in range(1, args.stages + 1):
                parts = folder / f"parts{stages}"
                done = run([args.egret, "partition", *known, "--stages", stages, "-o", parts])
                if done.returncode != 0:
                    said.append(f"{stages} stages: {why(done)}")
                    continue
                ways = [(f"{stages} stages, {t}", [args.egret, "run", "--transport", t]) for t in ("thread", "process")]
                if args.mpi:
                    ways += [(f"{stages} stages, {n} ranks", ["mpirun", "-n", n, args.egret, "run", "--transport", "mpi"]) for n in range(1, 5)]
                for what, command in ways:
                    out = folder / "samples"
                    done = run([*command, "--plan", parts / "plan.toml", "--data", case, "-o", out], env=mpi)
                    files = sorted(out.glob("*.npz")) if out.exists() else []
                    if done.returncode == 0 and len(files) != 1:
                        said.append(f"{what}: {len(files)} samples")
                    else:
                        hold(what, done, files[0] if files else None)
                    shutil.rmtree(out, ignore_errors=True)
            print(f"{case.name}: {same} ways the same" + "".join(f"\n    {s}" for s in said), flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
