"""The Python package on the committed models: results, errors, threads, and the adapter for scripts of ONNX Runtime."""

import array
import contextlib
import ctypes
import gc
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import numpy
import numpy.testing

import egret
from support import (
    BUGS,
    IMAGES,
    LABELS,
    MODELS,
    ROOT,
    Refusals,
    default_model,
    flip_model,
    optional_model,
    pool_model,
    reshape_model,
    rounds_model,
    sequence_model,
    steps_model,
    strings_model,
    sum_model,
)


def read_pb(path):
    """The array of a TensorProto with raw data."""
    data, at, dims, dtype, raw = path.read_bytes(), 0, [], None, b""

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value = varint()
            if key >> 3 == 1:
                dims.append(value)
            elif key >> 3 == 2:
                dtype = {1: "float32", 7: "int64", 10: "float16", 11: "float64"}[value]
            continue
        assert key & 7 == 2, key
        length = varint()
        field, at = data[at : at + length], at + length
        if key >> 3 == 9:
            raw = field
        elif key >> 3 == 1:
            dims.extend(field)
    return numpy.frombuffer(raw, dtype).reshape(dims)


class Modules(Refusals):
    @classmethod
    def setUpClass(cls):
        cls.net = egret.compile(MODELS / "simple_cnn.onnx")
        cls.pairs = egret.compile(MODELS / "fusion_cnn.onnx")

    def test_results_are_those_that_are_recorded(self):
        right = sum(int(self.net(image[None]).argmax()) == label for image, label in zip(IMAGES, LABELS))
        self.assertEqual(right, 980)
        for case in sorted(BUGS.iterdir()):
            data = case / "test_data_set_0"
            inputs = [read_pb(p) for p in sorted(data.glob("input_*.pb"))]
            session = egret.InferenceSession(case / "model.onnx", tier="exact")
            with self.subTest(case.name):
                ports = session.get_inputs() + session.get_overridable_initializers()
                feeds = {port.name: x for port, x in zip(ports, inputs, strict=True)}
                for i, got in enumerate(session.run(None, feeds)):
                    want = read_pb(data / f"output_{i}.pb")
                    self.assertEqual((got.dtype, got.shape), (want.dtype, want.shape))
                    numpy.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6)

    def test_ports_say_what_is_taken_and_given(self):
        (x,), (y,) = self.net.inputs, self.net.outputs
        self.assertEqual((x.name, x.type, x.dtype, x.shape), ("image", "f32", numpy.float32, (1, 1, 28, 28)))
        self.assertEqual((y.name, y.dtype, y.shape), ("logits", numpy.float32, (1, 10)))
        self.assertIn("image: f32[1, 1, 28, 28]", repr(self.net))
        self.assertIn("image", repr(x))

    def test_inputs_by_place_by_name_and_by_dict(self):
        x = IMAGES[:1]
        want = self.net(x)
        numpy.testing.assert_array_equal(self.net(image=x), want)
        numpy.testing.assert_array_equal(self.net.run({"image": x})["logits"], want)
        first, second = (port.name for port in self.pairs.inputs)
        a, b = IMAGES[:1], IMAGES[500:501]
        want = self.pairs(a, b)
        self.assertFalse(numpy.array_equal(self.pairs(b, a), want))
        numpy.testing.assert_array_equal(self.pairs(a, **{second: b}), want)
        numpy.testing.assert_array_equal(self.pairs(**{second: b, first: a}), want)

    def test_inputs_of_a_wrong_number_or_name_are_refused(self):
        x = IMAGES[:1]
        with self.refused("no value for the input `image`", "float32[1, 1, 28, 28]"):
            self.net()
        with self.refused("2 inputs given, the model has 1", "`image`"):
            self.net(x, x)
        with self.refused("no input `picture`", "`image`"):
            self.net(picture=x)
        with self.refused("`image` is given twice"):
            self.net(x, image=x)

    def test_inputs_of_a_wrong_dtype_or_shape_are_refused(self):
        x = IMAGES[:1]
        with self.refused("`image`", "takes float32[1, 1, 28, 28]", "float64[1, 1, 28, 28] was given"):
            self.net(x.astype("float64"))
        with self.refused("takes float32[1, 1, 28, 28]", "float32[28, 28] was given"):
            self.net(x[0, 0])
        with self.refused("takes float32[1, 1, 28, 28]", "float32[2, 1, 28, 28] was given"):
            self.net(IMAGES[:2])
        with self.refused("float32[1, 1, 28, 27] was given: axis 3 differs"):
            self.net(x[..., 1:])
        with self.refused("elements `>f`"):
            self.net(x.astype(">f4"))
        for other in (x.tolist(), 1.0, None, "x"):
            with self.refused("`image`", "is no array"):
                self.net(other)

    def test_inputs_may_lie_in_memory_as_they_like(self):
        x = IMAGES[:1]
        want = self.net(x)
        numpy.testing.assert_array_equal(self.net(numpy.asfortranarray(x)), want)
        wide = numpy.zeros((1, 1, 28, 56), "float32")
        wide[..., ::2] = x
        numpy.testing.assert_array_equal(self.net(wide[..., ::2]), want)
        numpy.testing.assert_array_equal(self.net(x[..., ::-1].copy()[..., ::-1]), want)
        shifted = numpy.frombuffer(b"?" + x.tobytes(), numpy.uint8)[1:].view("float32").reshape(x.shape)
        numpy.testing.assert_array_equal(self.net(shifted), want)
        frozen = x.copy()
        frozen.flags.writeable = False
        numpy.testing.assert_array_equal(self.net(frozen), want)

    def test_inputs_by_the_buffer_protocol_and_by_dlpack(self):
        x = IMAGES[:1]
        want = self.net(x)
        plain = memoryview(array.array("f", x.ravel().tolist())).cast("B").cast("f", x.shape)
        numpy.testing.assert_array_equal(self.net(plain), want)

        class Tensor:
            def __init__(self, of):
                self.of = of

            def __dlpack__(self, **options):
                return self.of.__dlpack__(**options)

            def __dlpack_device__(self):
                return self.of.__dlpack_device__()

        numpy.testing.assert_array_equal(self.net(Tensor(x)), want)
        with self.refused("`image`", "float64"):
            self.net(Tensor(x.astype("float64")))

    def test_inputs_without_axes(self):
        net = egret.compile(sum_model(("n", 3), ()))
        self.assertEqual(net.inputs[1].shape, ())
        a = numpy.ones((2, 3), "float32")
        for b in (numpy.array(2, "float32"), numpy.float32(2), a[0, 0] * 2, ctypes.c_float(2)):
            numpy.testing.assert_array_equal(net(a, b), a + 2)
        with self.refused("input `b`: it takes float32[], and float64[] was given"):
            net(a, numpy.array(2.0))
        with self.refused("input `b`: it takes float32[], and float32[1] was given"):
            net(a, a[0, :1])
        with self.refused("input `a`: it takes float32[n, 3], and float32[] was given"):
            net(a[0, 0], a[0, 0])
        session = egret.InferenceSession(sum_model(("n", 3), ()))
        numpy.testing.assert_array_equal(session.run(None, {"a": a, "b": numpy.float32(1)})[0], a + 1)

    def test_results_are_arrays_of_their_own(self):
        first = self.net(IMAGES[:1])
        kept = first.copy()
        second = self.net(IMAGES[1:2])
        self.assertFalse(numpy.shares_memory(first, second))
        numpy.testing.assert_array_equal(first, kept)
        self.assertTrue(first.flags.writeable and first.flags.c_contiguous and first.flags.aligned)
        first += 1
        numpy.testing.assert_array_equal(self.net(IMAGES[:1]), kept)
        self.assertEqual(first.ctypes.data % 64, 0)

    def test_results_outlive_their_module(self):
        net = egret.compile(MODELS / "simple_cnn.onnx")
        y = net(IMAGES[:1])
        del net
        gc.collect()
        numpy.testing.assert_array_equal(y, self.net(IMAGES[:1]))

    def test_threads_of_python_run_one_module_at_once(self):
        want = [self.net(image[None]) for image in IMAGES[:50]]
        faults = []

        def work():
            for _ in range(20):
                for image, y in zip(IMAGES, want):
                    if not numpy.array_equal(self.net(image[None]), y):
                        faults.append(y)

        threads = [threading.Thread(target=work) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(faults, [])

    def test_a_run_lets_other_threads_of_python_run(self):
        batch = 1000
        net = egret.compile(MODELS / "parallel_cnn.onnx", dims={"batch": batch})
        running, other = threading.Event(), [0]

        def count():
            running.wait()
            while running.is_set():
                other[0] += 1
                # Lets the main thread have the GIL back.
                time.sleep(0)

        counter = threading.Thread(target=count)
        counter.start()
        running.set()
        # Python switches threads on its own only every 5 ms, and never within a call that keeps the GIL.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(100)
        try:
            before = other[0]
            net(IMAGES[:batch])
            during = other[0] - before
        finally:
            sys.setswitchinterval(interval)
            running.clear()
            counter.join()
        self.assertGreater(during, 0)

    def test_several_threads_give_the_same_bits(self):
        x = IMAGES[:64]
        one = egret.compile(MODELS / "parallel_cnn.onnx", dims={"batch": 64})
        all_cores = egret.compile(MODELS / "parallel_cnn.onnx", dims={"batch": 64}, threads=None)
        self.assertEqual(one.threads, 1)
        self.assertEqual(all_cores.threads, len(os.sched_getaffinity(0)))
        numpy.testing.assert_array_equal(one(x), all_cores(x))


class Compilation(Refusals):
    def test_a_model_from_bytes_and_from_an_object(self):
        data = (MODELS / "simple_cnn.onnx").read_bytes()

        class Proto:
            def SerializeToString(self):
                return data

        want = egret.compile(str(MODELS / "simple_cnn.onnx"))(IMAGES[:1])
        for model in (data, bytearray(data), memoryview(data), Proto()):
            numpy.testing.assert_array_equal(egret.compile(model)(IMAGES[:1]), want)

    def test_dims_and_shapes(self):
        path = MODELS / "parallel_cnn.onnx"
        by_dim = egret.compile(path, dims={"batch": 3})
        by_shape = egret.compile(path, shapes={"image": (3, 1, 28, 28)})
        self.assertEqual(by_dim.outputs[0].shape, (3, 10))
        numpy.testing.assert_array_equal(by_dim(IMAGES[:3]), by_shape(IMAGES[:3]))
        self.assertEqual(by_dim.inputs[0].shape, by_shape.inputs[0].shape)
        with self.refused("no free dim `length`", "batch"):
            egret.compile(path, dims={"length": 3})
        with self.refused("no input `picture`", "image"):
            egret.compile(path, shapes={"picture": (1,)})

    def test_shapes_with_free_dims(self):
        net = egret.compile(sum_model(None, None), shapes={"a": ("rows", 3), "b": (None, 3)})
        self.assertEqual(net.inputs[0].shape, ("rows", 3))
        for n in (0, 1, 5):
            a = numpy.arange(3.0 * n, dtype="float32").reshape(n, 3)
            numpy.testing.assert_array_equal(net(a, a), a + a)
        with self.refused("`a`", "-1"):
            egret.compile(sum_model(None, None), shapes={"a": (-1, 3), "b": (-1, 3)})

    def test_an_input_bound_to_a_value(self):
        x = IMAGES[:1]
        net = egret.compile(MODELS / "simple_cnn.onnx", bind={"image": x})
        numpy.testing.assert_array_equal(net.bound["image"], x)
        want = egret.compile(MODELS / "simple_cnn.onnx")(x)
        numpy.testing.assert_allclose(net(), want, rtol=1e-5, atol=1e-5)
        numpy.testing.assert_array_equal(net(x), net())
        with self.refused("image", "another value"):
            net(IMAGES[1:2])
        with self.refused("no input `picture`"):
            egret.compile(MODELS / "simple_cnn.onnx", bind={"picture": x})

    def test_choices_are_those_of_the_command(self):
        path = MODELS / "simple_cnn.onnx"
        want = egret.compile(path)(IMAGES[:1])
        net = egret.compile(path, tier="exact", denormals="keep", threads=2)
        numpy.testing.assert_allclose(net(IMAGES[:1]), want, rtol=1e-3, atol=1e-3)
        for choice in ({"tier": "fast"}, {"denormals": "drop"}, {"target": "z80"}):
            with self.refused(*choice.values()):
                egret.compile(path, **choice)
        with self.refused("threads=0"):
            egret.compile(path, threads=0)

    def test_models_that_are_none_are_refused(self):
        with self.refused("nowhere.onnx"):
            egret.compile("nowhere.onnx")
        with self.refused("Cargo.toml"):
            egret.compile(ROOT / "Cargo.toml")
        for data in (b"", b"not a model"):
            with self.refused():
                egret.compile(data)
        with self.assertRaises(TypeError):
            egret.compile(7)
        self.assertTrue(issubclass(egret.Error, RuntimeError))

    def test_explain(self):
        text = egret.explain(MODELS / "parallel_cnn.onnx")
        self.assertIn("parallel_cnn.onnx", text)
        self.assertNotEqual(egret.explain(MODELS / "parallel_cnn.onnx", verbose=True), text)
        fixed = egret.explain(MODELS / "parallel_cnn.onnx", {"batch": 8}, missed=True)
        self.assertNotEqual(fixed, text)


    def test_a_page_about_the_compilation(self):
        with tempfile.TemporaryDirectory() as folder:
            page, copy = Path(folder) / "page.html", Path(folder) / "net.onnx"
            net = egret.compile(MODELS / "parallel_cnn.onnx", dims={"batch": 2}, report=page)
            self.assertEqual(net.inputs[0].shape[0], 2)
            text = page.read_text()
            self.assertTrue(text.lstrip().lower().startswith("<!doctype html") and "parallel_cnn.onnx" in text)
            with self.refused("give them values", kind="unsupported"):
                egret.compile(pool_model(), report=page)
            self.assertIn("give them values", page.read_text())
            copy.write_bytes(pool_model())
            with self.refused("would take its place"):
                egret.compile(copy, report=copy)
            self.assertEqual(copy.read_bytes(), pool_model())


class FreeDims(Refusals):
    @classmethod
    def setUpClass(cls):
        cls.net = egret.compile(MODELS / "parallel_cnn.onnx")
        cls.sum = egret.compile(sum_model())

    def test_ports_name_what_is_free(self):
        (x,), (y,) = self.net.inputs, self.net.outputs
        self.assertEqual((x.shape, y.shape), (("batch", 1, 28, 28), ("batch", 10)))
        self.assertIn("shape=[batch, 1, 28, 28]", repr(x))
        self.assertIn("image: f32[batch, 1, 28, 28]", repr(self.net))
        fixed = egret.compile(MODELS / "parallel_cnn.onnx", dims={"batch": 3})
        self.assertEqual((fixed.inputs[0].shape, fixed.outputs[0].shape), ((3, 1, 28, 28), (3, 10)))
        # A dim without a name is a text too, and two of them are two.
        net = egret.compile(sum_model((None, 3), (1, 3)))
        self.assertIsInstance(net.inputs[0].shape[0], str)
        self.assertEqual(net.outputs[0].shape, net.inputs[0].shape)

    def test_one_module_takes_any_batch(self):
        want = self.net(IMAGES)
        self.assertEqual(int((want.argmax(1) == LABELS).sum()), 980)
        for n in (1, 7, 64, 2, 0):
            got = self.net(IMAGES[:n])
            self.assertEqual((got.shape, got.dtype), ((n, 10), numpy.float32))
            # Sums may be blocked in another way in another batch.
            numpy.testing.assert_allclose(got, want[:n], rtol=1e-4, atol=1e-4)
            numpy.testing.assert_array_equal(self.net.run({"image": IMAGES[:n]})["logits"], got)
        fixed = egret.compile(MODELS / "parallel_cnn.onnx", dims={"batch": 7})
        numpy.testing.assert_allclose(self.net(IMAGES[:7]), fixed(IMAGES[:7]), rtol=1e-4, atol=1e-4)

    def test_threads_run_one_module_at_different_batches(self):
        parts = {n: [IMAGES[first : min(first + n, 40)] for first in range(0, 40, n)] for n in (1, 3, 7, 40)}
        want, faults = {n: [self.net(part) for part in parts[n]] for n in parts}, []
        net = egret.compile(MODELS / "parallel_cnn.onnx", threads=None)

        def work(n):
            for part, y in zip(parts[n], want[n]):
                if not numpy.array_equal(net(part), y):
                    faults.append(n)

        threads = [threading.Thread(target=work, args=(n,)) for n in parts]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(faults, [])

    def test_inputs_share_a_dim(self):
        for n in (4, 1, 9):
            a, b = numpy.ones((n, 3), "float32"), numpy.full((n, 3), 2, "float32")
            numpy.testing.assert_array_equal(self.sum(a, b), a + b)

    def test_sizes_that_do_not_fit_are_refused(self):
        def zeros(*shape):
            return numpy.zeros(shape, "float32")

        with self.refused("input `b`: axis 0 has 5 elements", "the 4 of axis 0 of the input `a`"):
            self.sum(zeros(4, 3), zeros(5, 3))
        with self.refused("input `b`: axis 0 has 4 elements", "the 5 of axis 0 of the input `a`"):
            self.sum(b=zeros(4, 3), a=zeros(5, 3))
        with self.refused("input `b`: it takes float32[n, 3], and float32[4, 2] was given: axis 1 differs"):
            self.sum(zeros(4, 3), zeros(4, 2))
        with self.refused("input `a`: it takes float32[n, 3], and float32[4, 3, 1] was given"):
            self.sum(zeros(4, 3, 1), zeros(4, 3))
        with self.refused("no value for the input `b`: it takes float32[n, 3]"):
            self.sum(zeros(4, 3))

    def test_what_must_have_a_value_is_said_as_python_writes_it(self):
        with self.refused('give them values', 'give dims={"height": N, "the width": N}', kind="unsupported") as refused:
            egret.compile(pool_model())
        self.assertNotIn("--dim", str(refused.exception))
        net = egret.compile(pool_model(), dims={"height": 8, "the width": 5})
        self.assertEqual(net(numpy.ones((1, 1, 8, 5))).tolist(), numpy.ones((1, 1, 6, 3)).tolist())
        self.assertNotIn("--dim", egret.explain(pool_model()))

    def test_what_a_loop_decides_has_room_for_so_many(self):
        with self.refused("`u0` is known only while the model runs", 'at_most={"u0": N}', kind="unsupported") as refused:
            egret.compile(rounds_model())
        self.assertNotIn("--at-most", str(refused.exception))
        x = numpy.ones(2, "float32")
        net = egret.compile(rounds_model(), at_most={"u0": 3})
        for k in range(4):
            y, z = net(numpy.array(k), x)
            self.assertEqual((y.tolist(), z.tolist()), (list(range(k)), [1, 1]))
        with self.refused("there is room for 3"):
            net(numpy.array(4), x)
        for given in {}, {"dims": {"n": 2}}, {"shapes": {"x": (2,)}}:
            net = egret.compile(rounds_model(), at_most={"u0": "n + 1"}, **given)
            self.assertEqual(net(numpy.array(3), x)[0].tolist(), [0, 1, 2])
            with self.refused("there is room for"):
                net(numpy.array(4), x)
        self.assertIn("kernels", egret.explain(rounds_model(), at_most={"u0": 3}))
        session = egret.InferenceSession(rounds_model(), at_most={"u0": "2*n"})
        self.assertEqual(session.run(["y"], {"k": numpy.array(4), "x": x})[0].tolist(), [0, 1, 2, 3])
        host = egret.compile(rounds_model(), host_loops=True)
        self.assertIsInstance(host, egret.HostModule)
        self.assertEqual([host(numpy.array(k), x)[0].tolist() for k in (0, 5)], [[], [0, 1, 2, 3, 4]])
        session = egret.InferenceSession(rounds_model(), host_loops=True)
        self.assertEqual(session.run(["y"], {"k": numpy.array(4), "x": x})[0].tolist(), [0, 1, 2, 3])
        with self.refused("no dim `v` that a loop or a range decides; those are `u0`"):
            egret.compile(rounds_model(), at_most={"v": 1})
        with self.refused("the model has no free dim `m`; its free dims are n"):
            egret.compile(rounds_model(), at_most={"u0": "2*m"})
        for wrong in "2*", 1.5, None:
            with self.refused(f"`u0` at most `{wrong}`"):
                egret.compile(rounds_model(), at_most={"u0": wrong})


class Sessions(Refusals):
    def test_a_script_for_onnx_runtime(self):
        import egret as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(str(MODELS / "parallel_cnn.onnx"), options, providers=["CPUExecutionProvider"])
        (x,), (y,) = session.get_inputs(), session.get_outputs()
        self.assertEqual(x, ("image", "tensor(float)", ["batch", 1, 28, 28]))
        self.assertEqual((y.name, y.type, y.shape), ("logits", "tensor(float)", ["batch", 10]))
        for n in (1, 7, 1000, 7):
            (logits,) = session.run([y.name], {x.name: IMAGES[:n]})
            self.assertEqual(logits.shape, (n, 10))
        self.assertEqual(len(session._modules), 0, "one module serves all batches")
        right = session.run(None, {x.name: IMAGES})[0].argmax(1) == LABELS
        self.assertEqual(int(right.sum()), 980)

    def test_the_modules_of_so_many_shapes_are_kept(self):
        session = egret.InferenceSession(pool_model(), cache_size=2)
        for width in (4, 5, 4, 6):
            (y,) = session.run(None, {"x": numpy.ones((1, 1, 3, width))})
            self.assertEqual(y.shape, (1, 1, 1, width - 2))
        kept = sorted(key[0][0][1][-1] for key in session._modules)
        self.assertEqual(kept, [4, 6])
        with self.refused("cache_size=0"):
            egret.InferenceSession(pool_model(), cache_size=0)

    def test_a_dim_that_is_given_a_value(self):
        session = egret.InferenceSession(MODELS / "parallel_cnn.onnx", dims={"batch": 2})
        self.assertEqual(session.run(None, {"image": IMAGES[:2]})[0].shape, (2, 10))
        with self.refused("input `image`: it takes float32[2, 1, 28, 28]", "axis 0 differs"):
            session.run(None, {"image": IMAGES[:3]})

    def test_an_input_that_has_a_default(self):
        session = egret.InferenceSession(default_model())
        self.assertEqual([p.name for p in session.get_overridable_initializers()], ["b"])
        for n in (2, 3):
            a = numpy.ones((n, 3), "float32")
            numpy.testing.assert_array_equal(session.run(None, {"a": a})[0], a + numpy.arange(3))
            numpy.testing.assert_array_equal(session.run(None, {"a": a, "b": a[0]})[0], a + 1)

    def test_a_value_that_decides_a_shape(self):
        session = egret.InferenceSession(reshape_model())
        x = numpy.arange(6, dtype="float32")
        for shape in ((2, 3), (3, 2), (-1, 1), (0, 1)):
            (y,) = session.run(None, {"x": x, "shape": numpy.array(shape)})
            numpy.testing.assert_array_equal(y, x.reshape([n or 6 for n in shape]))
        self.assertEqual(len(session._modules), 0)

    def test_a_value_that_code_is_made_for(self):
        session = egret.InferenceSession(steps_model())
        x = numpy.arange(6, dtype="float32")
        for step in (-1, -2, -1):
            (y,) = session.run(None, {"x": x, "step": numpy.array([step])})
            numpy.testing.assert_array_equal(y, x[4::step])
        self.assertEqual(len(session._modules), 2)

    def test_threads_share_a_session(self):
        width = {n: numpy.arange(3.0 * (n + 2)).reshape(1, 1, 3, n + 2) for n in (1, 2, 3)}
        for model, feeds in (
            (MODELS / "parallel_cnn.onnx", {n: {"image": IMAGES[:n]} for n in (1, 2, 3)}),
            (pool_model(), {n: {"x": width[n]} for n in (1, 2, 3)}),
        ):
            session = egret.InferenceSession(model, threads=1)
            want = {n: session.run(None, feeds[n])[0] for n in feeds}
            session = egret.InferenceSession(model, threads=1, cache_size=2)
            faults = []

            def work(n):
                for _ in range(5):
                    if not numpy.array_equal(session.run(None, feeds[n])[0], want[n]):
                        faults.append(n)

            threads = [threading.Thread(target=work, args=(n,)) for n in feeds]
            [t.start() for t in threads]
            [t.join() for t in threads]
            self.assertEqual(faults, [])

    def test_what_a_session_refuses(self):
        session = egret.InferenceSession(MODELS / "parallel_cnn.onnx")
        with self.refused("no output `probabilities`", "`logits`"):
            session.run(["probabilities"], {"image": IMAGES[:1]})
        with self.refused("no value for the input `image`"):
            session.run(None, {})
        with self.refused("no input `picture`"):
            session.run(None, {"image": IMAGES[:1], "picture": IMAGES[:1]})
        with self.refused("`image`", "float64"):
            session.run(None, {"image": IMAGES[:1].astype("float64")})
        with self.refused("CUDAExecutionProvider"):
            egret.InferenceSession(MODELS / "parallel_cnn.onnx", providers=["CUDAExecutionProvider"])
        with self.assertRaises(AttributeError):
            egret.SessionOptions().graph_optimization_level = 99


class Hosts(Refusals):
    def test_strings_go_in_and_out(self):
        net = egret.compile(strings_model())
        self.assertIsInstance(net, egret.HostModule)
        self.assertIn("2 of 3 nodes run on the host", net.notes[0])
        self.assertEqual([(p.name, p.type, p.shape) for p in net.inputs], [("a", "string", ("n",)), ("b", "string", ("n",)), ("x", "f32", ("n",))])
        b = numpy.array(["x", "", "z\0"], dtype=object)
        for a in ["größe", "b", "c"], numpy.array(["größe", "b", "c"]), numpy.array(["größe", "b", "c"], dtype=object):
            joined, sizes, y = net(a, b, x=numpy.arange(3, dtype="float32"))
            self.assertEqual((joined.dtype, joined.tolist()), (object, ["größex", "b", "cz\0"]))
            self.assertEqual((sizes.tolist(), y.tolist()), ([1, 1, 1], [0, -1, -2]))
        empty = numpy.array([], dtype="U1")
        self.assertEqual([r.shape for r in net(empty, empty, numpy.zeros(0, "float32"))], [(0,), (0,), (0,)])
        with self.refused("input `a`: it takes strings", "no `str`"):
            net([b"bytes"], ["b"], numpy.zeros(1, "float32"))
        with self.refused("no value for the input `x`: it takes f32[n]"):
            net(["a"], ["b"])
        with self.refused("`b`", "[2]"):
            net(["a"], ["b", "c"], numpy.zeros(1, "float32"))
        with self.refused("`x`", "it takes float32, and float64[1] was given"):
            net(["a"], ["b"], numpy.zeros(1))

    def test_sequences_are_lists_and_optionals_may_be_none(self):
        net = egret.compile(sequence_model())
        a, b = numpy.ones(2, "float32"), numpy.zeros(3, "float32")
        third, all_of_them = net([a, b])
        self.assertEqual((third.tolist(), [v.tolist() for v in all_of_them]), ([-0.0] * 3, [[1, 1], [0] * 3, [-0.0] * 3]))
        self.assertTrue(numpy.signbit(third).all())
        for wrong in a, 3, "ab":
            with self.refused("input `s`: it takes a list of arrays"):
                net(wrong)
        with self.refused("input `s`", "float64"):
            net([a.astype("float64"), b])
        net = egret.compile(optional_model())
        self.assertEqual([net(given).tolist() for given in (None, a)], [False, True])
        with self.refused("input `o`"):
            net(3)

    def test_a_session_takes_them_too(self):
        session = egret.InferenceSession(strings_model())
        self.assertEqual([(p.type, p.shape) for p in session.get_inputs()], [("tensor(string)", ["n"])] * 2 + [("tensor(float)", ["n"])])
        for n in 1, 3:
            feeds = {"a": numpy.array(["a"] * n), "b": ["b"] * n, "x": numpy.ones(n, "float32")}
            self.assertEqual(session.run(["joined"], feeds)[0].tolist(), ["ab"] * n)
        session = egret.InferenceSession(sequence_model())
        self.assertEqual(session.get_inputs()[0].type, "seq(tensor(float))")
        third, _ = session.run(None, {"s": [numpy.ones(2, "float32")] * 2})
        self.assertEqual(third.tolist(), [-1, -1])
        with self.refused("index 1 is out of range"):
            session.run(None, {"s": []})
        session = egret.InferenceSession(optional_model())
        self.assertEqual(session.get_inputs()[0].type, "optional(tensor(float))")
        self.assertEqual(session.run(None, {"o": None})[0].tolist(), False)

    def test_threads_run_one_module_at_different_sizes(self):
        net, faults = egret.compile(strings_model()), []

        def work(n):
            for _ in range(20):
                joined, _, y = net(["a"] * n, ["b"] * n, numpy.full(n, n, "float32"))
                if joined.tolist() != ["ab"] * n or y.tolist() != [-n] * n:
                    faults.append(n)

        threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 5)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(faults, [])


class Targets(Refusals):
    def test_of_several_the_highest_that_the_cpu_has(self):
        x = numpy.ones((2, 3), "float32")
        levels = ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni", "x86-64-v4-amx"]
        if os.uname().machine != "x86_64":
            self.skipTest("levels of x86-64")
        for target in levels, ",".join(levels):
            self.assertEqual(egret.compile(sum_model(), target=target)(x, x).tolist(), [[2] * 3] * 2)
            session = egret.InferenceSession(sum_model(), target=target)
            self.assertEqual(session.run(None, {"a": x, "b": x})[0].tolist(), [[2] * 3] * 2)
        flags = re.search(r"flags\s*:(.*)", Path("/proc/cpuinfo").read_text())[1].split()
        best = "x86-64-v3" if {"avx2", "fma", "bmi2"} <= set(flags) else "x86-64-v2"
        self.assertIn(f"one core of {best}", egret.explain(MODELS / "simple_cnn.onnx", target=levels[:2]))
        with self.refused("the target x86-64-v2 is behind x86-64-v3"):
            egret.compile(sum_model(), target=("x86-64-v3", "x86-64-v2"))
        with self.refused("unknown target `x87`"):
            egret.compile(sum_model(), target=["x86-64-v2", "x87"])


class Dtypes(unittest.TestCase):
    def test_elements_pass_as_they_are(self):
        bits = numpy.arange(16)
        for code, dtype in ((1, "float32"), (2, "uint8"), (3, "int8"), (4, "uint16"), (5, "int16"), (6, "int32"), (7, "int64"),
                            (9, "bool"), (10, "float16"), (11, "float64"), (12, "uint32"), (13, "uint64"),
                            (16, "uint16"), (17, "uint8"), (19, "uint8")):
            with self.subTest(code=code):
                x = (bits % 2 if code == 9 else bits).astype(dtype)
                net = egret.compile(flip_model(code, len(x)))
                self.assertEqual(net.inputs[0].dtype, dtype)
                y = net(x)
                self.assertEqual(y.dtype, dtype)
                numpy.testing.assert_array_equal(y, x.reshape(4, 4).T)


class Tutorial(unittest.TestCase):
    def test_the_example_counts_digits(self):
        done = subprocess.run([sys.executable, ROOT / "examples/python/digits.py"], capture_output=True, text=True)
        self.assertEqual(done.stdout, "".join(f"{how}: 980 of 1000 right\n" for how in ("compiled", "loaded", "session")), done.stderr)

    def test_the_tutorial_runs(self):
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/PYTHON.md").read_text(), re.S)
        self.assertGreater(len(blocks), 2)
        if importlib.util.find_spec("onnx") is None:
            blocks = [block for block in blocks if "import onnx\n" not in block]
        names = {}
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(ROOT):
            for block in blocks:
                exec(compile(block.replace('"/tmp/', f'"{folder}/'), "docs/PYTHON.md", "exec"), names)


if __name__ == "__main__":
    unittest.main()
