"""What the tests share: models, digits, and what a refusal is held against."""

import struct
import unittest
from pathlib import Path

import numpy

import egret

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "fixtures/models"
BUGS = ROOT / "fixtures/bugs"
IMAGES = numpy.load(ROOT / "fixtures/digits/images.npy")
LABELS = numpy.load(ROOT / "fixtures/digits/labels.npy")


class Refusals(unittest.TestCase):
    def refused(self, *parts, kind="user"):
        """The block raises `egret.Error` with these parts in its message."""
        test = self

        class Context:
            def __enter__(self):
                self.inner = test.assertRaises(egret.Error)
                return self.inner.__enter__()

            def __exit__(self, *error):
                done = self.inner.__exit__(*error)
                for part in parts:
                    test.assertIn(part, str(self.inner.exception))
                test.assertEqual(self.inner.exception.kind, kind)
                return done

        return Context()


# Models in the bytes of ONNX's messages: field number, then a number or the bytes of a text or message.


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def message(*fields):
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def port(name, code, dims):
    # A size, a name, or nothing; nothing at all of a shape that is not declared.
    if dims is None:
        return message((1, name), (2, message((1, message((1, code))))))
    shape = message(*((1, b"" if d is None else message((1, d) if isinstance(d, int) else (2, d))) for d in dims))
    return message((1, name), (2, message((1, message((1, code), (2, shape))))))


def model(nodes, inputs, outputs, initializers=(), opset=19):
    graph = message(*((1, n) for n in nodes), (2, "g"), *((5, t) for t in initializers), *((11, i) for i in inputs), *((12, o) for o in outputs))
    return message((1, 9), (7, graph), (8, message((1, ""), (2, opset))))


def reshape_model():
    node = message((1, "x"), (1, "shape"), (2, "y"), (4, "Reshape"))
    return model([node], [port("x", 1, [6]), port("shape", 7, [2])], [port("y", 1, ["a", "b"])])


def steps_model():
    """Every so many elements from the fifth back to the first."""
    numbers = ((name, struct.pack("<q", n)) for name, n in (("start", 4), ("end", -(2**62)), ("axis", 0)))
    numbers = [message((1, 1), (2, 7), (8, name), (9, data)) for name, data in numbers]
    node = message(*((1, name) for name in ("x", "start", "end", "axis", "step")), (2, "y"), (4, "Slice"))
    return model([node], [port("x", 1, [6]), port("step", 7, [1])], [port("y", 1, [None])], numbers)


def sum_model(a=("n", 3), b=("n", 3)):
    node = message((1, "a"), (1, "b"), (2, "y"), (4, "Add"))
    return model([node], [port("a", 1, a), port("b", 1, b)], [port("y", 1, [None, 3])])


def default_model():
    b = message((1, 3), (2, 1), (8, "b"), (9, struct.pack("<3f", 0, 1, 2)))
    node = message((1, "a"), (1, "b"), (2, "y"), (4, "Add"))
    return model([node], [port("a", 1, ["n", 3]), port("b", 1, [3])], [port("y", 1, ["n", 3])], [b])


def pool_model():
    """A model whose free dims are not the first, and which takes them as numbers only: windows of f64 over an image and no noise."""

    def node(op, y, *inputs):
        return message(*((1, x) for x in inputs), (2, y), (4, op))

    shape = message((1, "kernel_shape"), (8, 3), (8, 3), (20, 7))
    pool = message((1, "a"), (2, "y"), (4, "MaxPool"), (5, shape))
    nodes = [node("RandomNormalLike", "noise", "x"), node("Mul", "none", "noise", "zero"), node("Add", "a", "x", "none"), pool]
    zero = message((2, 11), (8, "zero"), (9, struct.pack("<d", 0.0)))
    dims = [1, 1, "height", "the width"]
    return model(nodes, [port("x", 11, dims)], [port("y", 11, [1, 1, None, None])], [zero])


def rounds_model():
    """A model that counts to `k`: how many elements it returns only a run tells."""

    def node(op, x, y):
        return message((1, x), (2, y), (4, op))

    ports = [(11, port("i", 7, [])), (11, port("go", 9, [])), (12, port("more", 9, [])), (12, port("place", 7, []))]
    body = message((1, node("Identity", "go", "more")), (1, node("Identity", "i", "place")), (2, "body"), *ports)
    loop = message((1, "k"), (1, ""), (2, "y"), (4, "Loop"), (5, message((1, "body"), (6, body), (20, 5))))
    inputs = [port("k", 7, []), port("x", 1, ["n"])]
    return model([loop, node("Abs", "x", "z")], inputs, [port("y", 7, [None]), port("z", 1, ["n"])])


def strings_model():
    """Strings that are joined, in how many parts a slash cuts them, and what machine code makes of numbers."""
    nodes = [
        message((1, "a"), (1, "b"), (2, "joined"), (4, "StringConcat")),
        message((1, "joined"), (2, "parts"), (2, "sizes"), (4, "StringSplit"), (5, message((1, "delimiter"), (4, "/"), (20, 3)))),
        message((1, "x"), (2, "y"), (4, "Neg")),
    ]
    inputs = [port("a", 8, ["n"]), port("b", 8, ["n"]), port("x", 1, ["n"])]
    return model(nodes, inputs, [port("joined", 8, ["n"]), port("sizes", 7, ["n"]), port("y", 1, ["n"])], opset=20)


def of_floats(name, field):
    """A port that is a sequence (field 4) or an optional (field 9) of tensors of f32 with one axis."""
    shape = message((1, b""))
    return message((1, name), (2, message((field, message((1, message((1, message((1, 1), (2, shape))))))))))


def sequence_model():
    """The second of a sequence with its sign turned, and the sequence with that at its end."""
    one = message((2, 7), (8, "one"), (9, struct.pack("<q", 1)))
    nodes = [
        message((1, "s"), (1, "one"), (2, "second"), (4, "SequenceAt")),
        message((1, "second"), (2, "third"), (4, "Neg")),
        message((1, "s"), (1, "third"), (2, "all"), (4, "SequenceInsert")),
    ]
    return model(nodes, [of_floats("s", 4)], [port("third", 1, [None]), of_floats("all", 4)], [one])


def optional_model():
    node = message((1, "o"), (2, "there"), (4, "OptionalHasElement"))
    return model([node], [of_floats("o", 9)], [port("there", 9, [])])


def flip_model(code, n):
    target = message((1, 2), (2, 7), (8, "to"), (9, struct.pack("<2q", 4, n // 4)))
    nodes = [message((1, "x"), (1, "to"), (2, "square"), (4, "Reshape")), message((1, "square"), (2, "y"), (4, "Transpose"))]
    return model(nodes, [port("x", code, [n])], [port("y", code, [4, n // 4])], [target])
