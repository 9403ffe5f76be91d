"""The commands as functions, and the backend of ONNX, on the committed models."""

import tempfile
import unittest
from pathlib import Path

import numpy
import numpy.testing

import egret
from support import IMAGES, LABELS, MODELS, Refusals, model, rounds_model, sum_model


class Tools(Refusals):
    """`quantize`, `prune`, `compress` and `check`."""

    MODEL = MODELS / "simple_cnn.onnx"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def right(self, model):
        net = egret.compile(model)
        return sum(int(net(image[None]).argmax()) == label for image, label in zip(IMAGES[::5], LABELS[::5]))

    def test_a_quantised_copy(self):
        made = egret.quantize(self.MODEL, "w8")
        self.assertEqual(len(made.model), made.report["bytes"])
        self.assertLess(2 * len(made.model), made.report["bytes_before"])
        self.assertGreater(self.right(made.model), 190)
        # The model in memory and data in memory and in files are one thing.
        numpy.save(self.folder / "images.npy", IMAGES[:20])
        numpy.savez(self.folder / "images.npz", image=IMAGES[:20])
        samples = (IMAGES[:20], {"image": IMAGES[:20]}, self.folder / "images.npy", [str(self.folder / "images.npz")], [IMAGES[:10], IMAGES[10:20]])
        made = [egret.quantize(self.MODEL.read_bytes(), "int8", data=data, skip=["/fc2/Gemm"]) for data in samples]
        self.assertEqual(len({m.model for m in made}), 1)
        layers = {entry["name"]: entry for entry in made[0].report["contractions"]}
        self.assertIn("quantised", layers["/conv2/Conv"])
        self.assertEqual(layers["/fc2/Gemm"]["left"]["reason"], "skipped")
        self.assertGreater(self.right(made[0].model), 190)

    def test_a_copy_is_written_where_it_should_be(self):
        path = self.folder / "copy.onnx"
        made = egret.prune(self.MODEL, "sparse:0.5", all=True, output=path, layers={"/conv2/Conv": 0.25, "/fc1/Gemm": "1:4"})
        self.assertEqual(path.read_bytes(), made.model)
        self.assertEqual(egret.prune(path, "2:4", output=path).model, path.read_bytes())
        zeros = {e["name"]: e["weight"]["zeros"] / e["weight"]["elements"] for e in made.report["contractions"]}
        self.assertEqual((zeros["/conv2/Conv"], zeros["/fc1/Gemm"], zeros["/fc2/Gemm"]), (0.25, 0.75, 0.5))
        numpy.save(self.folder / "images.npy", IMAGES[:4])
        with self.refused("would take its place"):
            egret.prune(self.MODEL, "2:4", method="wanda", data=self.folder / "images.npy", output=self.folder / "images.npy")
        with self.refused("no folder"):
            egret.quantize(self.MODEL, "w8", output=self.folder / "nowhere" / "copy.onnx")
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["copy.onnx", "images.npy"])

    def test_a_search_under_a_goal(self):
        data = {"image": IMAGES[:40], "labels": LABELS[:40]}
        made = egret.compress(self.MODEL, data, size="30%", to=("w8", "w4:32"), metric="top1")
        self.assertLessEqual(len(made.model), 0.3 * made.report["compressed"]["bytes_before"] if "compressed" in made.report else 0.3 * 88760)
        self.assertIn("[", made.recipe)
        self.assertGreater(self.right(made.model), 180)
        with self.refused("the attribute `best`", kind="differs") as refused:
            egret.compress(self.MODEL, data, size=1000, to="w8")
        self.assertLess(len(refused.exception.best.model), 88760)

    def test_choices_that_are_none_are_refused(self):
        for refused, call in (
            ('to="w3"', lambda: egret.quantize(self.MODEL, "w3")),
            ('to="half"', lambda: egret.prune(self.MODEL, "half")),
            ('method="best"', lambda: egret.prune(self.MODEL, "2:4", method="best")),
            ('layers["/fc1/Gemm"]', lambda: egret.prune(self.MODEL, "sparse:0.5", layers={"/fc1/Gemm": "x"})),
            ('size="small"', lambda: egret.compress(self.MODEL, IMAGES[:4], size="small")),
            ("nowhere", lambda: egret.quantize("nowhere.onnx", "w8")),
            ("data", lambda: egret.quantize(self.MODEL, "int8")),
            ("strings", lambda: egret.quantize(self.MODEL, "int8", data={"image": ["a"]})),
        ):
            with self.subTest(refused), self.refused(refused):
                call()

    def test_a_model_beside_the_reference(self):
        checked = egret.check(self.MODEL)
        self.assertTrue(checked.ok)
        self.assertEqual([(o.output, o.verdict) for o in checked.outcomes], [("logits", "same")])
        self.assertIn("largest error", str(checked))
        checked = egret.check(MODELS / "parallel_cnn.onnx", {"image": IMAGES[:3]}, tier="exact")
        self.assertTrue(checked.ok, checked)
        logits = egret.compile(self.MODEL)(IMAGES[:1])
        for off, verdict in ((0, "same"), (1, "differs")):
            checked = egret.check(self.MODEL.read_bytes(), IMAGES[:1], expected={"logits": logits + numpy.float32(off)})
            self.assertEqual((checked.ok, checked.outcomes[0].verdict), (not off, verdict), checked)
        with self.refused("no output `probabilities`"):
            egret.check(self.MODEL, expected={"probabilities": logits})
        with self.refused("no input `picture`"):
            egret.check(self.MODEL, {"picture": IMAGES[:1]})
        self.assertTrue(egret.check(sum_model(), dims={"n": 2}, bind={"b": numpy.ones((2, 3), "float32")}).ok)
        with self.refused("max_trips"):
            egret.check(rounds_model(), {"k": numpy.array(9)}, at_most={"u0": 9}, max_trips=3)


class Backends(unittest.TestCase):
    """`egret.backend`; ONNX's own suite runs in tests/onnx_backend.py."""

    def setUp(self):
        try:
            import onnx
        except ImportError:
            self.skipTest("onnx is not installed")
        self.onnx = onnx

    def test_models_and_nodes(self):
        import egret.backend as backend

        model = self.onnx.load(MODELS / "parallel_cnn.onnx")
        prepared = backend.prepare(model, threads=1)
        for n in 1, 5:
            (logits,) = prepared.run([IMAGES[:n]])
            self.assertEqual(logits.shape, (n, 10))
        numpy.testing.assert_array_equal(prepared.run({"image": IMAGES[:5]})[0], logits)
        numpy.testing.assert_allclose(backend.run_model(model, IMAGES[:5])[0], logits, rtol=1e-5, atol=1e-5)
        x = numpy.arange(6, dtype="float32").reshape(2, 3)
        node = self.onnx.helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2)
        for info in None, [(numpy.float32, (2, 2)), (numpy.float32, (2, 1))]:
            a, b = backend.run_node(node, [x], outputs_info=info)
            numpy.testing.assert_array_equal(numpy.concatenate([a, b], 1), x)
        self.assertEqual((backend.supports_device("CPU:0"), backend.supports_device("CUDA")), (True, False))
        for wrong in lambda: backend.prepare(model, "CUDA"), lambda: prepared.run([IMAGES] * 2), lambda: backend.run_node(node, [x, x]):
            self.assertRaises(egret.Error, wrong)

    def test_element_types_of_ml_dtypes(self):
        import ml_dtypes

        import egret.backend as backend

        for name in "bfloat16", "float8_e4m3fn", "int4", "uint4":
            x = numpy.arange(8).astype(getattr(ml_dtypes, name)).reshape(2, 4)
            node = self.onnx.helper.make_node("Transpose", ["x"], ["y"])
            (y,) = backend.run_node(node, [x])
            self.assertEqual(y.dtype, x.dtype)
            self.assertEqual(y.tolist(), x.T.tolist())


if __name__ == "__main__":
    unittest.main()
