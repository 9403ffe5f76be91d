"""Egret compiles ONNX models to native code and runs them.

>>> net = egret.compile("net.onnx")
>>> logits = net(images)

`compile` gives a `Module`, which is called with NumPy arrays; `Module.save` writes it to a file, from which `load` makes it anew. `InferenceSession` is for scripts that were written for ONNX Runtime.
`explain` says what the compiler made of a model, `check` holds it against the reference interpreter; `quantize`, `prune` and `compress` make smaller copies.
`egret.backend` is a backend of ONNX. Whatever is refused is an `Error`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Mapping, Sequence, Union

from ._native import Error, HostModule, HostPort, Module, Port, __version__, load
from ._native import Model as _Model
from ._native import writable as _writable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = [
    "Checked",
    "Compressed",
    "Error",
    "HostModule",
    "HostPort",
    "InferenceSession",
    "Model",
    "Module",
    "NodeArg",
    "Outcome",
    "Port",
    "SessionOptions",
    "__version__",
    "check",
    "compile",
    "compress",
    "explain",
    "load",
    "prune",
    "quantize",
]

#: What `compile` takes: a path, the bytes of a model file, or an `onnx.ModelProto`.
Model = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, Any]


def _read(model: Model) -> _Model:
    if isinstance(model, (bytes, bytearray, memoryview)):
        return _Model(data=bytes(model))
    if hasattr(model, "SerializeToString"):
        return _Model(data=model.SerializeToString())
    return _Model(path=os.fspath(model))


def _shapes(shapes: Mapping[str, Sequence[int | str | None]] | None) -> dict[str, str]:
    def dim(size: int | str | None) -> str:
        return "?" if size is None else size if isinstance(size, str) else str(int(size))

    return {name: ",".join(map(dim, shape)) for name, shape in (shapes or {}).items()}


def _limits(at_most: Mapping[str, int | str] | None) -> dict[str, str]:
    return {name: str(most) for name, most in (at_most or {}).items()}


def _target(target: str | Sequence[str] | None) -> str | None:
    return target if target is None or isinstance(target, str) else ",".join(target)


def compile(
    model: Model,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int | str | None]] | None = None,
    *,
    at_most: Mapping[str, int | str] | None = None,
    bind: Mapping[str, ArrayLike] | None = None,
    threads: int | None = 1,
    target: str | Sequence[str] | None = None,
    tier: str | None = None,
    denormals: str | None = None,
    host_loops: bool = False,
    report: str | os.PathLike[str] | None = None,
) -> Module | HostModule:
    """Compile a model into memory.

    A dim that the model leaves free stays free unless `dims` or `shapes` gives it a value: the module takes arrays of any size there, as its
    `inputs` say by the dim's name. Where the compiler cannot do that, an `Error` says which dims need values.

    A model with strings, sequences or optionals gives a `HostModule`, of which the interpreter runs the nodes that work on them.

    The choices are those of `egret compile`, under the same names:

    model: a path, the bytes of a model file, or an `onnx.ModelProto`. External data is looked for beside a path, and nowhere else.
    dims: values of free dims by name, e.g. `{"batch": 1}`; code for one value may be faster than code for any.
    shapes: shapes of inputs by name, e.g. `{"image": (1, 3, "height", None)}`: a size, or the name of a dim that stays free, which `None` has
        none of. They give free dims their values too, and inputs whose number of dims the model does not say.
    at_most: how large dims may be that the model itself decides while it runs (a loop's rounds, a `Range`), by name: numbers, or expressions
        of free dims, e.g. `{"u0": "20*seq"}`. There is room for so many elements, and a run that needs more fails.
    bind: inputs that are fixed to a value: the module takes no other for them, and they need not be given to it.
    threads: threads of a run, the caller's included; `None`: one for each core.
    target: the CPU, as `egret doctor` lists them; this machine's unless given. Of several (a sequence, or with commas; lowest first) the
        highest that this machine's CPU has, as an artifact of them chooses.
    tier: what rewrites may change: nothing ("exact"), the order and rounding of float operations ("reassoc"), values by a bounded error
        ("approx", the default), values by more ("lossy").
    denormals: "flush" or "keep"; kept with tier "exact", flushed in all others unless given.
    host_loops: where only a run tells how many values a loop or a range makes, and `at_most` does not say how many, the interpreter runs it, and the model
        is a `HostModule`; else it is refused.
    report: a file to write the page about the compilation to, as `egret explain --report` does: one HTML file, which needs no network. It is written first, and
        says why where the model is refused. The passes run once more for it.
    """
    given: dict[str, Any] = dict(
        dims=dict(dims or {}),
        shapes=_shapes(shapes),
        at_most=_limits(at_most),
        bind=dict(bind or {}),
        target=_target(target),
        tier=tier,
        denormals=denormals,
    )
    read = _read(model)
    if report is not None:
        _writable(report, [os.fspath(model)] if isinstance(model, (str, os.PathLike)) else [])
        read.report(report, **given)
    return read.compile(**given, threads=threads, host_loops=host_loops)


def explain(
    model: Model,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int | str | None]] | None = None,
    *,
    at_most: Mapping[str, int | str] | None = None,
    target: str | Sequence[str] | None = None,
    tier: str | None = None,
    denormals: str | None = None,
    missed: bool = False,
    verbose: bool = False,
) -> str:
    """What the compiler makes of a model, as `egret explain` prints it: what was fused into what, where the time goes, and what could
    still be gained.

    missed: only what was not done, and why.
    verbose: more, the rules that were applied among it.
    The other choices are those of `compile`.
    """
    return _read(model).explain(
        dims=dict(dims or {}),
        shapes=_shapes(shapes),
        at_most=_limits(at_most),
        target=_target(target),
        tier=tier,
        denormals=denormals,
        missed=missed,
        verbose=verbose,
    )


from .session import InferenceSession, NodeArg, SessionOptions  # noqa: E402  (it needs `_read`)
from .tools import Checked, Compressed, Outcome, check, compress, prune, quantize  # noqa: E402
