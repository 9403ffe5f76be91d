"""Modules in files: `Module.save` and `egret.load`."""

import gc
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy
import numpy.testing

import egret
from support import IMAGES, MODELS, Refusals, flip_model, rounds_model, strings_model, sum_model


class Files(Refusals):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def saved(self, net, name="net.egretm"):
        path = self.folder / name
        net.save(path)
        return path

    def test_another_process_runs_what_was_saved(self):
        net = egret.compile(MODELS / "parallel_cnn.onnx")
        path = self.saved(net)
        numpy.save(self.folder / "images.npy", IMAGES[:7])
        script = """if True:
            import sys, egret, numpy
            net = egret.load("net.egretm", threads=2)
            print(net, net.threads)
            numpy.save("logits.npy", net(numpy.load("images.npy")))
        """
        done = subprocess.run([sys.executable, "-c", script], cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout.strip(), f"{net!r} 2")
        numpy.testing.assert_array_equal(numpy.load(self.folder / "logits.npy"), net(IMAGES[:7]))
        self.assertEqual(self.saved(net, "again").read_bytes(), path.read_bytes())

    def test_modules_of_every_kind_come_back(self):
        a = numpy.arange(6, dtype="float32").reshape(2, 3)
        for net, inputs in (
            (egret.compile(MODELS / "simple_cnn.onnx", threads=2), [IMAGES[:1]]),
            (egret.compile(MODELS / "fusion_cnn.onnx", target="x86-64-v2"), [IMAGES[:1], IMAGES[1:2]]),
            (egret.compile(sum_model()), [a, a]),
            (egret.compile(rounds_model(), at_most={"u0": "2*n"}), [numpy.array(3), a[0]]),
            (egret.compile(sum_model(), dims={"n": 2}, bind={"b": a}), [a]),
            (egret.compile(flip_model(10, 16)), [numpy.arange(16, dtype="float16")]),
        ):
            back = egret.load(str(self.saved(net)))
            with self.subTest(repr(net)):
                self.assertEqual((repr(back), back.threads), (repr(net), 1))
                self.assertEqual([(p.name, p.type, p.shape) for p in back.outputs], [(p.name, p.type, p.shape) for p in net.outputs])
                self.assertEqual(back.bound.keys(), net.bound.keys())
                want, got = net(*inputs), back(*inputs)
                for y, z in zip(want, got) if isinstance(want, tuple) else [(want, got)]:
                    self.assertEqual((y.dtype, y.shape), (z.dtype, z.shape))
                    numpy.testing.assert_array_equal(y, z)
        with self.refused("there is room for 6"):
            net = egret.compile(rounds_model(), at_most={"u0": "2*n"})
            egret.load(self.saved(net))(numpy.array(7), a[0])
        back = egret.load(self.saved(egret.compile(sum_model(), dims={"n": 2}, bind={"b": a})))
        with self.refused("`b`", "another value"):
            back(a, a + 1)
        numpy.testing.assert_array_equal(back(a), a + a)

    def test_a_file_may_be_replaced_while_its_module_lives(self):
        net = egret.compile(MODELS / "simple_cnn.onnx")
        want = net(IMAGES[:1])
        back = egret.load(self.saved(net))
        egret.compile(sum_model()).save(self.folder / "net.egretm")
        numpy.testing.assert_array_equal(back(IMAGES[:1]), want)
        (self.folder / "net.egretm").unlink()
        y = back(IMAGES[:1])
        del back
        gc.collect()
        numpy.testing.assert_array_equal(y, want)

    def test_what_is_no_whole_file_of_a_module_is_refused(self):
        path = self.saved(egret.compile(MODELS / "simple_cnn.onnx"))
        data = path.read_bytes()
        for there, part in ((b"", "no module that Egret saved"), (b"PK" * 60, "no module that Egret saved"),
                            (data[:7] + b"\x09" + data[8:], "version 9 of the format"), (data + b"?", "is damaged")):
            path.write_bytes(there)
            with self.refused(str(path), part):
                egret.load(path)
        weights = len(data) - 1000
        for length in [9, 63, 64, 500, 5000, weights, len(data) - 1]:
            path.write_bytes(data[:length])
            with self.subTest(length=length), self.refused(str(path), "is cut off", "save the module again"):
                egret.load(path)
        step = len(data) // 97
        for at in [*range(8, len(data), step), len(data) - 1]:
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with self.subTest(at=at), self.refused(str(path), "the file is "):
                egret.load(path)
        with self.refused("is a folder"):
            egret.load(self.folder)
        with self.refused("nowhere"):
            egret.load(self.folder / "nowhere")
        with self.refused("threads=0"):
            egret.load(path, threads=0)

    def test_what_is_not_saved(self):
        net = egret.compile(MODELS / "simple_cnn.onnx")
        with self.refused("no folder"):
            net.save(self.folder / "nowhere" / "net.egretm")
        with self.refused("is a folder"):
            net.save(self.folder)
        with self.refused("copy the file"):
            egret.load(self.saved(net)).save(self.folder / "other")
        with self.refused("not saved", "2 of 3 nodes run on the host", kind="unsupported"):
            egret.compile(strings_model()).save(self.folder / "net.egretm")


if __name__ == "__main__":
    unittest.main()
