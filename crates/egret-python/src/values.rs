//! Values of any type between Python and Egret: tensors are arrays of NumPy, those of strings of Python's `str`; a sequence is a list, an
//! optional that is empty is `None`.

use crate::array::Room;
use crate::module::elements;
use crate::port::numpy_name;
use crate::{raise, user_error};
use egret::AlignedBytes;
use egret::ir::{DType, Tensor, Type, Value};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// A copy of what is given for an input of this type.
pub(crate) fn given(object: &Bound<'_, PyAny>, name: &str, ty: &Type) -> PyResult<Value> {
    Ok(match ty {
        Type::Tensor(t) => tensor(object, name, t.dtype)?.into(),
        Type::Sequence(of) => {
            if !object.is_instance_of::<PyList>() && !object.is_instance_of::<PyTuple>() {
                let class = object.get_type().fully_qualified_name()?;
                let message =
                    format!("input `{name}`: it takes a list of arrays ({ty}), and {class} is none");
                return Err(user_error(object.py(), message));
            }
            let one = |element: PyResult<Bound<'_, PyAny>>| Ok(tensor(&element?, name, of.dtype)?.into());
            Value::Sequence(object.try_iter()?.map(one).collect::<PyResult<_>>()?)
        }
        Type::Optional(_) if object.is_none() => Value::Optional(None),
        Type::Optional(of) => Value::Optional(Some(Box::new(given(object, name, of)?))),
    })
}

/// A copy of an array.
pub(crate) fn tensor(object: &Bound<'_, PyAny>, name: &str, dtype: DType) -> PyResult<Tensor> {
    if dtype == DType::String {
        return strings(object, name);
    }
    let elements = elements(object, name, numpy_name(dtype), None)?;
    let tensor = Tensor::from_bytes(dtype, elements.shape(), elements.bytes());
    elements.release(object.py());
    Ok(tensor)
}

/// A copy of an array of strings.
fn strings(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Tensor> {
    let array = object.py().import("numpy")?.call_method1("asarray", (object,))?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    let all = array.call_method0("ravel")?.call_method0("tolist")?;
    let all = all.extract::<Vec<String>>().map_err(|_| {
        let message =
            format!("input `{name}`: it takes strings, and what was given has elements that are no `str`");
        user_error(object.py(), message)
    })?;
    Ok(Tensor::from_strings(&shape, all))
}

/// What a model returned.
pub(crate) fn returned<'py>(py: Python<'py>, name: &str, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Tensor(tensor) => array(py, name, tensor),
        Value::Sequence(all) => {
            let all = all.iter().map(|v| returned(py, name, v)).collect::<PyResult<Vec<_>>>()?;
            Ok(PyList::new(py, all)?.into_any())
        }
        Value::Optional(None) => Ok(py.None().into_bound(py)),
        Value::Optional(Some(value)) => returned(py, name, value),
    }
}

fn array<'py>(py: Python<'py>, name: &str, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    let numpy = py.import("numpy")?;
    let shape = PyTuple::new(py, tensor.shape())?;
    if tensor.dtype() == DType::String {
        let all = numpy.call_method1("array", (tensor.strings(), "object"))?;
        return all.call_method1("reshape", (shape,));
    }
    let bytes = AlignedBytes::copy_of(tensor.bytes()).ok_or_else(|| {
        let message = format!("there is no memory for the output `{name}` {:?}", tensor.shape());
        raise(py, &egret::Error::memory(message))
    })?;
    numpy.getattr("ndarray")?.call1((shape, numpy_name(tensor.dtype()), Room::new(bytes)))
}
