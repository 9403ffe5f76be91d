"""A compiled model, called by its C ABI: what free_sizes.py and gradients.py time."""

import ctypes as c, os, pathlib, subprocess
import numpy as np

EGRET = os.environ.get("EGRET", "target/release/egret")
DTYPES = {np.dtype(np.bool_): 9, np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int8): 3, np.dtype(np.int32): 6, np.dtype(np.int64): 7, np.dtype(np.float64): 11, np.dtype(np.float16): 10}


class Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("dims", c.POINTER(c.c_int64)), ("rank", c.c_uint32), ("dtype", c.c_uint32)]


class Plan(c.Structure):
    _fields_ = [("arena_bytes", c.c_uint64), ("outputs", c.c_void_p), ("n_outputs", c.c_uint32), ("reserved", c.c_uint32)]


class Weights(c.Structure):
    _fields_ = [("data", c.c_void_p), ("len", c.c_uint64), ("check", c.c_uint64)]


class Artifact:
    """What `egret COMMAND MODEL OPTIONS` (`compile` or `grad`) writes into a folder, loaded."""

    def __init__(self, command, model, options, folder, symbols=()):
        done = subprocess.run([EGRET, command, str(model), "--out-dir", str(folder), "--name", "m", "--emit", "so", *options], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr.strip())
        folder = pathlib.Path(folder)
        self.lib, self.symbols, self.weights = c.CDLL(str(next(folder.glob("*.so")))), list(symbols), Weights()
        at, self.file = None, aligned((0,), np.uint8)
        if files := list(folder.glob("*.weights")):
            self.file = aligned((files[0].stat().st_size,), np.uint8)
            self.file[...] = np.fromfile(files[0], np.uint8)
            at = c.c_void_p(self.file.ctypes.data)
        self.check(self.lib.m_bind(c.byref(self.weights), at, c.c_size_t(self.file.nbytes)))

    @staticmethod
    def check(code):
        if code:
            raise SystemExit(f"code {-code & 0xff} (tensor or kernel {-code >> 8 & 0xfff})")

    def prepare(self, feeds, outputs, sizes=()):
        """Everything of a run but the call: `outputs` has the rank and type of each, `sizes` the size of each symbol."""
        dims = (c.c_int64 * len(self.symbols))(*[sizes[s] for s in self.symbols])
        plan, count = Plan(), c.c_size_t(len(self.symbols))
        self.check(self.lib.m_plan(dims, count, c.byref(plan)))
        self.ins, self.kept = (Tensor * len(feeds))(), []
        self.fill(self.ins, feeds)
        self.results = []
        for i, (rank, dtype) in enumerate(outputs):
            shape = (c.c_int64 * max(rank, 1))()
            self.check(self.lib.m_shape(dims, count, c.c_uint64(i), shape))
            self.results.append(aligned(tuple(shape)[:rank], dtype))
        self.outs = (Tensor * len(outputs))()
        self.fill(self.outs, self.results)
        self.arena = aligned((plan.arena_bytes,), np.uint8)

    def fill(self, tensors, arrays):
        for t, a in zip(tensors, arrays):
            shape = (c.c_int64 * max(a.ndim, 1))(*a.shape)
            self.kept += [shape, a]
            t.data, t.dims, t.rank, t.dtype = a.ctypes.data, shape, a.ndim, DTYPES[a.dtype]

    def run(self):
        self.check(self.lib.m_run(c.byref(self.weights), self.ins, self.outs, c.c_void_p(self.arena.ctypes.data), c.c_size_t(self.arena.nbytes), None))


def aligned(shape, dtype):
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start:start + size].view(dtype).reshape(shape)
