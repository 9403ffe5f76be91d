"""The commands `quantize`, `prune`, `compress` and `check` as functions: the same work, on models and samples in memory or in files."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Mapping, NamedTuple, Sequence, Union

import numpy

from . import _native
from ._native import Error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from . import Model

#: Samples of a model's inputs, along the first axis: arrays by name, an array for the only input, paths as the commands take them (`.npz`, `.npy`, folders), or a list of any of these.
Data = Union["Mapping[str, ArrayLike]", "ArrayLike", str, "os.PathLike[str]", "Sequence[Any]", None]
#: A path, or several.
Paths = Union[str, "os.PathLike[str]", "Sequence[str | os.PathLike[str]]", None]


class Compressed(NamedTuple):
    """A compressed model."""

    #: The bytes of the model file, which `egret.compile` takes.
    model: bytes
    #: What was done, layer by layer, as the command's `--format json` says it.
    report: dict[str, Any]
    #: Of `compress`: what `egret compress --recipe` makes the same copy by.
    recipe: str | None = None

    def __repr__(self) -> str:
        return f"<egret.Compressed {self.report['bytes']} bytes of {self.report['bytes_before']}>"


class Outcome(NamedTuple):
    """An output beside what it should be."""

    #: The output's name.
    output: str
    #: "same"; "differs"; "unstable": it differs by no more than a few times as much as the reference itself moves with the last digits of weights and sums.
    verdict: str
    #: How far it is off, in words.
    told: str


class Checked(NamedTuple):
    """What a compiled model returned, beside what it should."""

    #: One for each output.
    outcomes: tuple[Outcome, ...]
    #: Whether all are as they should be. One that is unstable is so where the inputs were made up: a difference says nothing there.
    ok: bool

    def __str__(self) -> str:
        return "\n".join(f"{o.verdict} {o.output}: {o.told}" for o in self.outcomes)


def quantize(
    model: Model,
    to: str,
    *,
    output: str | os.PathLike[str] | None = None,
    runtime: str | None = None,
    data: Data = None,
    stats: Paths = None,
    skip: Iterable[str] = (),
    smooth: bool = False,
) -> Compressed:
    """A copy of a model with integers, as `egret quantize` makes it.

    model: as for `compile`; a model of a path must hold its weights itself.
    to: what becomes integers: "w8" (weights, 8 bits), "w4:32" (weights, 4 bits, in blocks of 32), "int8" (weights, and the inputs of layers with the
        ranges that `data` gives them).
    output: a file to write the copy to.
    runtime: what will run the copy, as of the option `--for`.
    data: samples of the inputs (see `Data`). They fit weights to the outputs of the original.
    stats: files of `egret stats`, instead of data for "int8", or beside it.
    skip: layers to leave alone, by the name of their node or weight.
    smooth: move factors from channels of values into weights, for "int8" of transformers.
    """
    with _Files(output) as files:
        path, samples, told = files.model(model), files.data(data), _paths(stats)
        files.ready([*samples, *told])
        made = _native.quantize(path, to=to, runtime=runtime, data=samples, stats=told, skip=list(skip), smooth=smooth)
        return files.made(*made)


def prune(
    model: Model,
    to: str,
    *,
    output: str | os.PathLike[str] | None = None,
    method: str = "l1",
    data: Data = None,
    stats: Paths = None,
    scope: str | None = None,
    multiple: int | None = None,
    all: bool = False,
    layers: Mapping[str, str | float] | None = None,
    skip: Iterable[str] = (),
) -> Compressed:
    """A copy of a model with zeros, or with fewer channels, as `egret prune` makes it.

    model, output, data, stats, skip: as for `quantize`.
    to: "channels:0.2" (that part of each layer's outputs goes), "sparse:0.5" (that part of the weights becomes zero), "2:4" (N of every M stay), or
        "block:4x1:0.5" (that part of the blocks).
    method: how zeros are chosen: "l1", "wanda" or "obc"; the last two need data, or wanda stats.
    scope: among which weights or channels the lowest are chosen: "row", "layer" or "global".
    multiple: of channels each layer keeps a multiple of this.
    all: prune first and last, depthwise and small layers too.
    layers: other amounts or patterns by the name of a node or weight, e.g. {"/conv1/Conv": 0.3, "fc.weight": "1:4"}.
    """
    with _Files(output) as files:
        path, samples, told = files.model(model), files.data(data), _paths(stats)
        files.ready([*samples, *told])
        made = _native.prune(
            path,
            to=to,
            method=method,
            data=samples,
            stats=told,
            scope=scope,
            multiple=multiple,
            all=all,
            layers={name: str(amount) for name, amount in (layers or {}).items()},
            skip=list(skip),
        )
        return files.made(*made)


def compress(
    model: Model,
    data: Data,
    *,
    output: str | os.PathLike[str] | None = None,
    eval: Data = None,
    stats: Paths = None,
    metric: str | None = None,
    to: str | Sequence[str] = "auto",
    size: str | int | None = None,
    budget: str | float | None = None,
    speed: str | float | None = None,
    zeros: str | float | None = None,
    target: str | None = None,
    measure: bool = False,
    skip: Iterable[str] = (),
) -> Compressed:
    """The best copy of a model within a size, or the smallest within a loss, and so on, as `egret compress` looks for it: each layer becomes what serves the goal.

    A goal that cannot be met is an `Error` of kind "differs", whose attribute `best` is the best copy that was found; it is written to `output` too.

    model, output, data, stats, skip: as for `quantize`. Arrays of data that are called `labels` are the right classes, for `metric="top1"`.
    eval: samples that judge what is lost; every fourth of `data` unless given.
    metric: how it is judged: "top1" or "mse".
    to: what a layer may become ("w8,w4:32,int8", a sequence of such), or "auto".
    size: the file is this large at most: "4MB", 70000 (bytes), "40%".
    budget: what may be lost: "0.5pt" (points of top1), "1%" or 0.01 (of mse).
    speed: so many times as fast: "1.5x".
    zeros: this part of the weights is zero at least: "40%".
    target: the CPU that `speed` is estimated for; this machine's unless given.
    measure: tell times by running the copies, instead of by estimates.
    """
    with _Files(output) as files:
        path, samples, judges, told = files.model(model), files.data(data), files.data(eval), _paths(stats)
        files.ready([*samples, *judges, *told])

        def text(choice: Any) -> str | None:
            return None if choice is None else str(choice)

        *made, unmet = _native.compress(
            path,
            data=samples,
            stats=told,
            eval=judges,
            metric=metric,
            to=to if isinstance(to, str) else ",".join(to),
            size=text(size),
            budget=text(budget),
            speed=text(speed),
            zeros=text(zeros),
            target=target,
            measure=measure,
            skip=list(skip),
        )
        best = files.made(*made)
        if unmet is None:
            return best
    where = f"written to {os.fspath(output)}" if output is not None else "the attribute `best` of this error"
    error = Error(f"{unmet}; the best point is {where}")
    error.kind = "differs"
    error.best = best
    raise error


def check(
    model: Model,
    inputs: Data = None,
    *,
    expected: Mapping[str, ArrayLike] | str | os.PathLike[str] | None = None,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int | str | None]] | None = None,
    at_most: Mapping[str, int | str] | None = None,
    bind: Mapping[str, ArrayLike] | None = None,
    random: int = 0,
    threads: int | None = None,
    target: str | Sequence[str] | None = None,
    tier: str | None = None,
    denormals: str | None = None,
    max_trips: int = 100_000,
) -> Checked:
    """What a model returns when it is compiled, beside what the reference interpreter says that it should, as `egret check` tells it.

    inputs: values for inputs by name, an array for the only one, or paths of such; those that are not given are made up, of dims of 1 where
        nothing says how large they are.
    expected: what outputs should be, by name, or the path of an `.npz` file, instead of the interpreter's.
    random: the seed of what is made up.
    threads: threads of the run; one for each core unless given.
    max_trips: how many iterations the reference runs of all loops together, before it gives up.
    The others are as for `compile`.
    """
    from . import _limits, _shapes, _target

    with _Files(None) as files:
        given = files.data(inputs)
        path = files.model(model)
        if isinstance(expected, Mapping):
            (expected,) = files.data(expected)
        outcomes = _native.check(
            path,
            inputs=given,
            expected=expected,
            dims=dict(dims or {}),
            given_shapes=_shapes(shapes),
            at_most=_limits(at_most),
            bind={name: files.array(value) for name, value in (bind or {}).items()},
            random=random,
            threads=threads,
            target=_target(target),
            tier=tier,
            denormals=denormals,
            max_trips=max_trips,
        )
    made_up = not given and not os.path.isdir(path)
    told = tuple(Outcome(*outcome) for outcome in outcomes)
    return Checked(told, all(o.verdict == "same" or o.verdict == "unstable" and made_up for o in told))


class _Files:
    """Files of what is in memory, as long as it is entered, and the file that a copy is written to."""

    def __init__(self, output: str | os.PathLike[str] | None) -> None:
        self._output = output

    def __enter__(self) -> _Files:
        self._folder = tempfile.TemporaryDirectory(prefix="egret-")
        self._names: Iterator[int] = iter(range(2**62))
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _new(self, suffix: str) -> Path:
        return Path(self._folder.name) / f"{next(self._names)}{suffix}"

    def model(self, model: Model) -> str:
        """The path of a model."""
        if hasattr(model, "SerializeToString"):
            model = model.SerializeToString()
        if not isinstance(model, (bytes, bytearray, memoryview)):
            return os.fspath(model)
        path = self._new(".onnx")
        path.write_bytes(model)
        return str(path)

    def array(self, value: Any) -> str:
        """The path of an array."""
        path = self._new(".npy")
        numpy.save(path, _plain(value), allow_pickle=False)
        return str(path)

    def data(self, data: Data) -> list[str]:
        """The paths of samples."""
        if data is None:
            return []
        if isinstance(data, (str, os.PathLike)):
            return [os.fspath(data)]
        if isinstance(data, Mapping):
            path = self._new(".npz")
            # Not `numpy.savez`, whose own argument no input could be called like.
            with zipfile.ZipFile(path, "w") as archive:
                for name, value in data.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        numpy.lib.format.write_array(file, _plain(value), allow_pickle=False)
            return [str(path)]
        if isinstance(data, (list, tuple)) and all(isinstance(d, (str, os.PathLike, Mapping)) or hasattr(d, "__array__") for d in data):
            return [path for part in data for path in self.data(part)]
        return [self.array(data)]

    def ready(self, read: Sequence[str]) -> None:
        """That the copy can be written, and takes the place of nothing that is read."""
        if self._output is not None:
            _native.writable(self._output, list(read))

    def made(self, model: bytes, report: str, recipe: str | None = None) -> Compressed:
        """A copy that was made, written where it should be."""
        if self._output is not None:
            _native.write(self._output, model)
        return Compressed(model, json.loads(report), recipe)


def _plain(value: Any) -> Any:
    """An array of NumPy that a file holds."""
    array = numpy.from_dlpack(value) if hasattr(value, "__dlpack__") and not hasattr(value, "__array__") else numpy.asarray(value)
    if array.dtype.hasobject or array.dtype.kind == "U":
        raise Error("strings and other objects of Python cannot be given here; write them to a folder of a test case, and name that")
    return array


def _paths(paths: Paths) -> list[str]:
    if paths is None:
        return []
    return [os.fspath(paths)] if isinstance(paths, (str, os.PathLike)) else [os.fspath(path) for path in paths]
