"""Counts how many of 1,000 handwritten digits a network recognises, in three ways."""

import tempfile
from pathlib import Path

import numpy

import egret
import egret as ort  # import onnxruntime as ort

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MODEL = FIXTURES / "models/parallel_cnn.onnx"
IMAGES = numpy.load(FIXTURES / "digits/images.npy")  # float32 [1000, 1, 28, 28]
LABELS = numpy.load(FIXTURES / "digits/labels.npy")


def tell(how, logits):
    print(f"{how}: {(logits.argmax(axis=1) == LABELS).sum()} of {len(LABELS)} right")


# A model is compiled here and now, and called with arrays of any batch.
net = egret.compile(MODEL)
tell("compiled", net(IMAGES))

# What is compiled is kept in a file; another process that loads it compiles nothing.
with tempfile.TemporaryDirectory() as folder:
    net.save(Path(folder, "digits.egretm"))
    again = egret.load(Path(folder, "digits.egretm"))
tell("loaded", again(IMAGES))

# A script for ONNX Runtime runs as it is but for its import.
session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
tell("session", numpy.concatenate([session.run(None, {name: part})[0] for part in numpy.split(IMAGES, 10)]))
