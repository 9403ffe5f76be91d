"""What a call from Python costs: a model that does next to nothing, in Egret and in ONNX Runtime, one thread each, interleaved in one run.

    call_overhead.py [--rounds 60] [--calls 2000]

For each way to call it prints the median of the rounds (microseconds of a call), and the least. The ways: a module called with an array (`net(x)`), a module by name
(`net.run({..})`), Egret's session, ONNX Runtime's session (`run(None, {..})`), and its session with inputs and outputs bound once (`run_with_iobinding`, whose outputs are written to the same
memory each time). `numpy` is what NumPy takes for the same sum.

Needs numpy, onnx, onnxruntime, and the package egret (crates/egret-python).
"""

import argparse, statistics, time
import egret, numpy as np, onnxruntime as ort
from onnx import TensorProto, helper


def sum_model(dims):
    """y = a + b."""
    port = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "sum", [port("a"), port("b")], [port("y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def ways(dims):
    model = sum_model(dims)
    a, b = (np.arange(16, dtype=np.float32).reshape(4, 4) for _ in range(2))
    feeds = {"a": a, "b": b}
    net, session = egret.compile(model), egret.InferenceSession(model, threads=1)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    other = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    bound = other.io_binding()
    out = np.empty_like(a)
    for name, array in feeds.items():
        bound.bind_cpu_input(name, array)
    bound.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    all_ways = {
        "egret net(a, b)": lambda: net(a, b),
        "egret net.run": lambda: net.run(feeds),
        "egret session": lambda: session.run(None, feeds),
        "ort session": lambda: other.run(None, feeds),
        "ort io binding": lambda: other.run_with_iobinding(bound),
        "numpy": lambda: a + b,
    }
    for name, call in all_ways.items():
        got = call()
        got = got["y"] if isinstance(got, dict) else got[0] if isinstance(got, list) else out if got is None else got
        assert np.array_equal(got, a + b), name
    return all_ways


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--rounds", type=int, default=60)
    args.add_argument("--calls", type=int, default=2000)
    args = args.parse_args()
    for title, dims in (("f32[4, 4]", [4, 4]), ("f32[n, 4]", ["n", 4])):
        calls = ways(dims)
        times = {name: [] for name in calls}
        for _ in range(args.rounds):
            for name, call in calls.items():
                began = time.perf_counter()
                for _ in range(args.calls):
                    call()
                times[name].append((time.perf_counter() - began) / args.calls * 1e6)
        print(f"{title}: us of a call, median (least) of {args.rounds} rounds of {args.calls}")
        for name, taken in times.items():
            print(f"  {name:16} {statistics.median(taken):6.2f} ({min(taken):.2f})")
        ratios = [e / o for e, o in zip(times["egret net(a, b)"], times["ort session"])]
        print(f"  net(a, b) over ort session, median of rounds: {statistics.median(ratios):.2f}")


main()
