"""A backend of ONNX (`onnx.backend.base.Backend`): models and nodes, prepared and run as ONNX's own tests and tools ask for it.

>>> import egret.backend
>>> (y,) = egret.backend.run_model(onnx.load("net.onnx"), [x])

It needs the package `onnx`, and `ml_dtypes` for element types that NumPy does not have (`onnx` brings it along): unlike elsewhere in this
package, values of those types are arrays of `ml_dtypes`.
"""

from __future__ import annotations

from typing import Any, Sequence

import ml_dtypes
import numpy
import onnx
import onnx.helper
from onnx.backend.base import Backend, BackendRep

from . import InferenceSession
from ._native import Error

#: The element types of ONNX that NumPy does not have: the arrays of `ml_dtypes`, and what this package takes and gives for them.
_FOREIGN = {
    getattr(onnx.TensorProto, code): (numpy.dtype(getattr(ml_dtypes, name)), numpy.dtype(bits))
    for code, name, bits in (
        ("BFLOAT16", "bfloat16", "uint16"),
        ("FLOAT8E4M3FN", "float8_e4m3fn", "uint8"),
        ("FLOAT8E4M3FNUZ", "float8_e4m3fnuz", "uint8"),
        ("FLOAT8E5M2", "float8_e5m2", "uint8"),
        ("FLOAT8E5M2FNUZ", "float8_e5m2fnuz", "uint8"),
        ("FLOAT8E8M0", "float8_e8m0fnu", "uint8"),
        ("FLOAT4E2M1", "float4_e2m1fn", "uint8"),
        ("INT4", "int4", "int8"),
        ("UINT4", "uint4", "uint8"),
        ("INT2", "int2", "int8"),
        ("UINT2", "uint2", "uint8"),
    )
    if hasattr(onnx.TensorProto, code) and hasattr(ml_dtypes, name)
}
#: Those of them that are integers: their elements are numbers here, and not bits.
_INTEGERS = {"int4", "uint4", "int2", "uint2"}
_PLAIN = {dtype: bits for dtype, bits in _FOREIGN.values()}


class EgretRep(BackendRep):
    """A model that was prepared: `run` it any number of times, on inputs of any shape that it takes."""

    def __init__(self, model: onnx.ModelProto, **options: Any) -> None:
        self._session = InferenceSession(model, **options)
        graph = model.graph
        initial = {tensor.name for tensor in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
        #: The inputs that must be given, and then all of them.
        self._inputs = [port.name for port in graph.input if port.name not in initial]
        self._all = [port.name for port in graph.input]
        self._outputs = [(port.name, _element_type(port.type)) for port in graph.output]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs for inputs in the order of the model (those that have a value in the model may be left out), or by name."""
        if kwargs:
            raise Error(f"{', '.join(kwargs)}: a run takes no options")
        if not isinstance(inputs, dict):
            if isinstance(inputs, numpy.ndarray):
                inputs = [inputs]
            names = self._all if len(inputs) == len(self._all) else self._inputs
            if len(inputs) > len(names):
                raise Error(f"{len(inputs)} inputs given, the model has {len(names)}: {', '.join(f'`{n}`' for n in names)}")
            inputs = dict(zip(names, inputs))
        feeds = {name: _given(value) for name, value in inputs.items()}
        results = self._session.run(None, feeds)
        return tuple(_returned(value, code) for value, (_, code) in zip(results, self._outputs))


class EgretBackend(Backend):
    """Egret as a backend of ONNX, on the CPU. Options of `prepare`, `run_model` and `run_node` are those of `egret.InferenceSession`; `host_loops` is true
    unless given."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether it is the CPU."""
        return device.split(":")[0] == "CPU"

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> EgretRep:
        """A model to be run; it is compiled when that is first done. `kwargs`: options of `egret.InferenceSession`."""
        if not cls.supports_device(device):
            raise Error(f"device {device}: Egret has CPU only")
        # What only a run tells is no reason to refuse a model here.
        return EgretRep(model, **{"host_loops": True, **kwargs})

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, Sequence[int]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The outputs of one node for its inputs, in order, without those that it leaves out (the empty name).

        outputs_info: dtype and shape of each output, where they are not inferred.
        opset_version: the version of the node's operator set; the newest that `onnx` knows unless given.
        The other `kwargs` are options of `egret.InferenceSession`.
        """
        opset = kwargs.pop("opset_version", None) or onnx.defs.onnx_opset_version()
        names = list(dict.fromkeys(name for name in node.input if name))
        if not isinstance(inputs, dict):
            given = [name for name in node.input if name]
            if len(inputs) != len(given):
                raise Error(f"{len(inputs)} inputs given, the node has {len(given)}: {', '.join(f'`{n}`' for n in given)}")
            inputs = dict(zip(given, inputs))
        values = {name: numpy.asarray(inputs[name]) for name in names}
        ports = [onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in values.items()]
        results = [name for name in node.output if name]
        if outputs_info is None:
            outs = [onnx.ValueInfoProto(name=name) for name in results]
        else:
            types = ((onnx.helper.np_dtype_to_tensor_dtype(numpy.dtype(dtype)), shape) for dtype, shape in outputs_info)
            outs = [onnx.helper.make_tensor_value_info(name, *ty) for name, ty in zip(results, types)]
        imports = [onnx.helper.make_opsetid(node.domain, opset)]
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "node", ports, outs), opset_imports=imports)
        if outputs_info is None:
            # The types of the outputs are those that the node gives.
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
            model.CopyFrom(inferred)
        return cls.prepare(model, device, **kwargs).run(values)


def _element_type(ty: onnx.TypeProto) -> int:
    """The number of the element type of a tensor, of the tensors of a sequence, or of what is optional."""
    while ty.WhichOneof("value") in ("sequence_type", "optional_type"):
        ty = getattr(ty, ty.WhichOneof("value")).elem_type
    return ty.tensor_type.elem_type


def _given(value: Any) -> Any:
    """A value as the package takes it."""
    if isinstance(value, (list, tuple)):
        return [_given(element) for element in value]
    bits = _PLAIN.get(getattr(value, "dtype", None))
    if bits is None:
        return value
    return value.astype(bits) if value.dtype.name in _INTEGERS else value.view(bits)


def _returned(value: Any, code: int) -> Any:
    """A value as ONNX has it, of elements of a type."""
    if isinstance(value, list):
        return [_returned(element, code) for element in value]
    if value is None or code not in _FOREIGN:
        return value
    dtype, _ = _FOREIGN[code]
    return value.astype(dtype) if dtype.name in _INTEGERS else value.view(dtype)


is_compatible = EgretBackend.is_compatible
prepare = EgretBackend.prepare
run_model = EgretBackend.run_model
run_node = EgretBackend.run_node
supports_device = EgretBackend.supports_device
