//! [`Port`]: an input or output of a compiled module, and which arrays of NumPy hold it.

use egret::ir::{DType, Dim, Shape};
use pyo3::buffer::ElementType;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// An input or output of a compiled model.
#[pyclass(frozen, module = "egret")]
pub struct Port {
    /// Its name in the model.
    #[pyo3(get)]
    pub(crate) name: String,
    /// The dtype of its arrays.
    #[pyo3(get)]
    dtype: Py<PyAny>,
    /// Its shape: a number for each axis, or the name of a dim that is free.
    #[pyo3(get)]
    shape: Py<PyTuple>,
    /// Its shape as messages spell it, e.g. `[batch, 3]`.
    pub(crate) spelt: String,
    pub(crate) ty: DType,
    pub(crate) port: egret::Port,
}

#[pymethods]
impl Port {
    /// The element type as Egret spells it: `f32`, `bf16`, `i64` ...
    #[getter]
    fn r#type(&self) -> &'static str {
        self.ty.name()
    }

    fn __repr__(&self) -> String {
        format!("Port(name={:?}, type={:?}, shape={})", self.name, self.ty.name(), self.spelt)
    }
}

impl Port {
    /// `dims`: those of the graph as they are spelt, by which free ones are named.
    pub(crate) fn new(py: Python<'_>, port: &egret::Port, dims: &[String]) -> PyResult<Port> {
        let unknown = || {
            let message = format!("`{}` has the unknown dtype {}", port.name, port.dtype);
            crate::raise(py, &egret::Error::internal(message))
        };
        let ty = DType::from_abi_code(port.dtype).filter(|t| *t != DType::String).ok_or_else(unknown)?;
        let named = |axis: usize| dims.get(axis).map_or_else(|| "?".into(), String::clone);
        let (mut shape, mut spelt) = (vec![], vec![]);
        for (axis, &size) in port.dims.iter().enumerate() {
            let name = (size < 0).then(|| named(axis));
            spelt.push(name.clone().unwrap_or_else(|| size.to_string()));
            shape.push(match name {
                Some(name) => name.into_pyobject(py)?.into_any(),
                None => size.into_pyobject(py)?.into_any(),
            });
        }
        Ok(Port {
            name: port.name.clone(),
            dtype: py.import("numpy")?.getattr("dtype")?.call1((numpy_name(ty),))?.unbind(),
            shape: PyTuple::new(py, shape)?.unbind(),
            spelt: format!("[{}]", spelt.join(", ")),
            ty,
            port: port.clone(),
        })
    }

    /// The dtype of its arrays.
    pub(crate) fn dtype<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.dtype.bind(py)
    }

    /// Its shape.
    pub(crate) fn shape<'py>(&self, py: Python<'py>) -> &Bound<'py, PyTuple> {
        self.shape.bind(py)
    }
}

/// A shape as Python has it: a number for each axis, or the name of a free dim.
pub(crate) fn dims_of(py: Python<'_>, shape: &Shape) -> PyResult<Py<PyTuple>> {
    let dim = |d: &Dim| match d.as_const() {
        Some(size) => Ok(size.into_pyobject(py)?.into_any()),
        None => Ok(name_of_dim(d).into_pyobject(py)?.into_any()),
    };
    Ok(PyTuple::new(py, shape.iter().map(dim).collect::<PyResult<Vec<_>>>()?)?.unbind())
}

/// A free dim as the model names it; one that is computed, such as `2*batch`, as Egret spells it.
pub(crate) fn name_of_dim(dim: &Dim) -> String {
    dim.as_symbol().map_or_else(|| dim.to_string(), str::to_owned)
}

/// NumPy's name of the dtype that holds elements of a type. Floats that NumPy does not have are the unsigned integers of
/// their bits, and integers below a byte have a byte each.
pub(crate) fn numpy_name(ty: DType) -> &'static str {
    match ty {
        DType::Bool => "bool",
        DType::I2 | DType::I4 | DType::I8 => "int8",
        DType::I16 => "int16",
        DType::I32 => "int32",
        DType::I64 => "int64",
        DType::U16 | DType::BF16 => "uint16",
        DType::U32 => "uint32",
        DType::U64 => "uint64",
        DType::F16 => "float16",
        DType::F32 => "float32",
        DType::F64 => "float64",
        // Strings are in no compiled model.
        DType::String => "object",
        DType::U2
        | DType::U4
        | DType::U8
        | DType::F4E2M1
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0 => "uint8",
    }
}

/// NumPy's name of the elements of a buffer; `None`: none that a model takes.
pub(crate) fn name_of_element(element: ElementType) -> Option<&'static str> {
    use ElementType::*;
    Some(match element {
        Bool => "bool",
        SignedInteger { bytes: 1 } => "int8",
        SignedInteger { bytes: 2 } => "int16",
        SignedInteger { bytes: 4 } => "int32",
        SignedInteger { bytes: 8 } => "int64",
        UnsignedInteger { bytes: 1 } => "uint8",
        UnsignedInteger { bytes: 2 } => "uint16",
        UnsignedInteger { bytes: 4 } => "uint32",
        UnsignedInteger { bytes: 8 } => "uint64",
        Float { bytes: 2 } => "float16",
        Float { bytes: 4 } => "float32",
        Float { bytes: 8 } => "float64",
        _ => return None,
    })
}
