"""`InferenceSession`: a model behind the interface of ONNX Runtime, compiled when it is first run."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Sequence

import numpy

from ._native import Error, HostModule, Module

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from . import Model

#: Names of element types in ONNX Runtime.
_TYPES = {
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float",
    "f64": "double",
    **{f"i{n}": f"int{n}" for n in (2, 4, 8, 16, 32, 64)},
    **{f"u{n}": f"uint{n}" for n in (2, 4, 8, 16, 32, 64)},
    **{f"f{kind}": f"float{kind}" for kind in ("8e4m3fn", "8e4m3fnuz", "8e5m2", "8e5m2fnuz", "8e8m0", "4e2m1")},
}


class NodeArg(NamedTuple):
    """An input or output as the model declares it."""

    name: str
    #: As ONNX Runtime spells it, e.g. `tensor(float)`, `seq(tensor(string))`.
    type: str
    #: A size, the name of a free dim, or `None` for each axis; empty where the model declares none.
    shape: list[int | str | None]


class SessionOptions:
    """What of ONNX Runtime's options has a counterpart; to set any other is an `AttributeError`."""

    __slots__ = ("intra_op_num_threads",)

    def __init__(self) -> None:
        #: Threads of a run; 0: one for each core.
        self.intra_op_num_threads = 0


class InferenceSession:
    """A model that is compiled when it is first run: once for all shapes where the compiler can leave the free dims free, else for the
    shapes of what it is given, and again for other shapes.

    The modules of the `cache_size` combinations of shapes that were used last are kept. Where the compiler must know the value of an
    input (the target of a reshape, say), a module is for one value of it. Any number of threads may run a session.

    model: as for `egret.compile`.
    dims: values of free dims by name: with `dims={"batch": 1}` code is for this batch and takes no other.
    at_most, target, tier, denormals, host_loops: as for `egret.compile`.
    sess_options: `SessionOptions`; its `intra_op_num_threads` is `threads`.
    providers: as for ONNX Runtime; `CPUExecutionProvider` is the one that there is, and must be among them if any are given.
    """

    def __init__(
        self,
        model: Model,
        sess_options: SessionOptions | None = None,
        providers: Sequence[Any] | None = None,
        *,
        dims: Mapping[str, int] | None = None,
        at_most: Mapping[str, int | str] | None = None,
        threads: int | None = None,
        target: str | Sequence[str] | None = None,
        tier: str | None = None,
        denormals: str | None = None,
        host_loops: bool = False,
        cache_size: int = 8,
    ) -> None:
        from . import _limits, _read, _target

        names = [p if isinstance(p, str) else p[0] for p in providers or self.get_providers()]
        if "CPUExecutionProvider" not in names:
            raise Error(f"providers {names}: Egret has CPUExecutionProvider only; name it among them, or none")
        if cache_size < 1:
            raise Error(f"cache_size={cache_size}: give a whole number of at least 1")
        if threads is None and sess_options is not None:
            threads = sess_options.intra_op_num_threads or None
        self._model = _read(model)
        self._inputs = [_node_arg(*port) for *port, has_default in self._model.inputs if not has_default]
        self._defaults = [_node_arg(*port) for *port, has_default in self._model.inputs if has_default]
        self._outputs = [_node_arg(*port) for *port, _ in self._model.outputs]
        # Inputs that are no tensors: an empty list is a sequence there, and no array.
        self._lists = {port.name for port in self._inputs + self._defaults if "seq(" in port.type}
        self._dims = dict(dims or {})
        self._options = {"at_most": _limits(at_most), "threads": threads, "target": _target(target), "tier": tier, "denormals": denormals, "host_loops": host_loops}
        self._cache_size = cache_size
        # The module for all shapes; none where there can be none. `_compiled`: whether that was tried.
        self._any: Module | HostModule | None = None
        self._compiled = False
        # Those for some shapes, the least recently used first.
        self._modules: OrderedDict[Any, Module | HostModule] = OrderedDict()
        self._lock = threading.Lock()

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that must be given."""
        return list(self._inputs)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have a value where none is given."""
        return list(self._defaults)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs."""
        return list(self._outputs)

    def get_providers(self) -> list[str]:
        """What it runs on."""
        return ["CPUExecutionProvider"]

    def run(
        self,
        output_names: Sequence[str] | None,
        feeds: Mapping[str, ArrayLike],
        run_options: None = None,
    ) -> list[Any]:
        """Run the model on arrays by name: the outputs of these names, or all of them, in order. A sequence is a list of arrays, an optional
        that is empty is `None`."""
        if run_options is not None:
            raise Error("run_options: Egret has none; leave them out")
        known = [port.name for port in self._outputs]
        for name in output_names or ():
            if name not in known:
                raise Error(f"the model has no output `{name}`; its outputs are {', '.join(f'`{n}`' for n in known)}")
        for port in self._inputs:
            if port.name not in feeds:
                raise Error(f"no value for the input `{port.name}`: {port.type} {port.shape}")
        values = {name: value if name in self._lists else _array(value) for name, value in feeds.items()}
        results = self._module(values).run(values)
        return [results[name] for name in output_names or known]

    def _module(self, feeds: dict[str, Any]) -> Module | HostModule:
        """The module for these shapes, and for these values of inputs that it was compiled for one value of."""
        shapes = tuple((name, _shape(feeds[name])) for name in sorted(feeds))
        with self._lock:
            if not self._compiled:
                self._any, self._compiled = self._for_any_shapes(), True
            # What has a value where none is given is an input of a module only if it is given.
            if self._any is not None and feeds.keys() == {port.name for port in self._any.inputs}:
                return self._any
            for key, module in reversed(self._modules.items()):
                if key[0] == shapes and all(_same(feeds[name], value) for name, value in module.bound.items()):
                    self._modules.move_to_end(key)
                    return module
            module = self._model.compile(dims=self._dims, shapes={}, feeds=feeds, **self._options)
            values = tuple((name, value.tobytes()) for name, value in sorted(module.bound.items()))
            self._modules[shapes, values] = module
            if len(self._modules) > self._cache_size:
                self._modules.popitem(last=False)
            return module

    def _for_any_shapes(self) -> Module | HostModule | None:
        """The module that takes whatever shapes the model does; none where the compiler must know more of them."""
        try:
            return self._model.compile(dims=self._dims, shapes={}, **self._options)
        except Error:
            # What is wrong for known shapes too is said when it is compiled for them.
            return None


def _node_arg(name: str, dtype: str, shape: list[int | str | None] | None) -> NodeArg:
    return NodeArg(name, re.sub(r"\w+(?=\))", lambda element: _TYPES.get(element[0], element[0]), dtype), shape or [])


def _array(value: Any) -> Any:
    """An array as it is, or one that shares the memory of a tensor of another library; nothing as it is."""
    if value is None or isinstance(value, numpy.ndarray):
        return value
    return numpy.from_dlpack(value) if hasattr(value, "__dlpack__") else numpy.asarray(value)


def _shape(value: Any) -> Any:
    """The shape of an array, and those of a sequence's; `None` of nothing."""
    return tuple(_shape(v) for v in value) if isinstance(value, (list, tuple)) else getattr(value, "shape", None)


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equal to the bit: a NaN is the same as itself, and -0 is not 0."""
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()
