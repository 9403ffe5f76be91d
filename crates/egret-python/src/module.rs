//! [`Module`]: a compiled model, called with arrays.

use crate::array::{Elements, Room, load_file};
use crate::choices::threads_of;
use crate::port::{Port, name_of_dim, numpy_name};
use crate::{given, raise, user_error};
use egret::ir::{Graph, Tensor, Type, ValueId};
use egret::saved::About;
use egret::{AlignedBytes, Input, Native};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A compiled model.
///
/// Call it with arrays, in the order of `inputs` or by their names; it returns one array, or a tuple of as many as the model has outputs.
/// An input is a NumPy array or anything else that speaks the buffer protocol or DLPack, of the dtype and shape that `inputs` says, where
/// a name stands for any size, the same wherever it stands. It is read where it is if it is C-contiguous, and must not be written to meanwhile: other threads of Python run while the model does.
/// Several of them may call one module.
#[pyclass(frozen, module = "egret")]
pub struct Module {
    native: Native,
    inputs: Vec<Py<Port>>,
    outputs: Vec<Py<Port>>,
    /// The values that inputs were fixed to, by the order of inputs.
    bound: Vec<Option<Py<PyAny>>>,
    /// Whether it has free dims: shapes of outputs are then known when it is called.
    free: bool,
    /// Axes of inputs that are as long as another.
    twins: Vec<Twin>,
    /// What a file of it says beside its code.
    about: About,
}

/// An axis of an input that has the free dim which another axis tells.
struct Twin {
    input: usize,
    axis: usize,
    /// The input and axis that tell it.
    told: (usize, usize),
}

/// What is told of a graph's inputs and outputs: the names of free dims, and the values that inputs are fixed to.
pub(crate) fn about(graph: &Graph, bound: &BTreeMap<String, Tensor>) -> About {
    let dims =
        |ty: &Type| ty.as_tensor().map_or_else(Vec::new, |t| t.shape.iter().map(name_of_dim).collect());
    let all = |values: &[ValueId]| values.iter().map(|&v| dims(graph.ty(v))).collect();
    About { inputs: all(graph.inputs()), outputs: all(graph.outputs()), bound: bound.clone() }
}

#[pymethods]
impl Module {
    /// Run the model on arrays, in the order of `inputs` or by name.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        let arrays = given::placed(self.names(), args, kwargs)?;
        given::returned(py, self.outputs(py, arrays)?)
    }

    /// Run the model on arrays by name; the results by name.
    fn run<'py>(&self, feeds: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let py = feeds.py();
        let arrays = given::named(self.names(), feeds)?;
        let out = PyDict::new(py);
        for (port, array) in self.outputs.iter().zip(self.outputs(py, arrays)?) {
            out.set_item(&port.get().name, array)?;
        }
        Ok(out)
    }

    /// What it is called with.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inputs.iter().map(|p| p.bind(py)))
    }

    /// What it returns.
    #[getter(outputs)]
    fn output_ports<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.outputs.iter().map(|p| p.bind(py)))
    }

    /// The inputs that it was compiled for one value of, by name: they need not be given, and no other value is taken.
    #[getter]
    fn bound<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        for (port, value) in self.inputs.iter().zip(&self.bound) {
            if let Some(value) = value {
                out.set_item(&port.get().name, value)?;
            }
        }
        Ok(out)
    }

    /// Threads that a run may use, the caller's included.
    #[getter]
    fn threads(&self) -> usize {
        self.native.threads()
    }

    /// Write the module to a file, from which `egret.load` makes it anew, in this process or another. It is code for this machine's
    /// instruction set, or the target that it was compiled for.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.native.save(&path, &self.about)).map_err(|e| raise(py, &e))
    }

    fn __repr__(&self) -> String {
        let list = |ports: &[Py<Port>]| {
            let one = |p: &Py<Port>| format!("{}: {}{}", p.get().name, p.get().ty, p.get().spelt);
            ports.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        format!("<egret.Module ({}) -> ({})>", list(&self.inputs), list(&self.outputs))
    }
}

impl Module {
    pub(crate) fn new(py: Python<'_>, native: Native, about: About) -> PyResult<Module> {
        let ports = |ports: &[egret::Port], dims: &[Vec<String>]| -> PyResult<Vec<Py<Port>>> {
            let of = |i: usize| dims.get(i).map_or(&[][..], Vec::as_slice);
            ports.iter().enumerate().map(|(i, p)| Py::new(py, Port::new(py, p, of(i))?)).collect()
        };
        let model = native.model();
        let (inputs, outputs) =
            (ports(model.inputs(), &about.inputs)?, ports(model.outputs(), &about.outputs)?);
        let (free, twins) = (!model.is_fixed(), twins(model.inputs(), &native));
        let value = |port: &Py<Port>| -> PyResult<Option<Py<PyAny>>> {
            let Some(tensor) = about.bound.get(&port.get().name) else { return Ok(None) };
            let bytes = AlignedBytes::copy_of(tensor.bytes()).ok_or_else(|| {
                let shape = &port.get().port.dims;
                no_room(py, port.get(), shape)
            })?;
            Ok(Some(array(py, port.get(), None, bytes)?.unbind()))
        };
        let bound = inputs.iter().map(value).collect::<PyResult<_>>()?;
        Ok(Module { native, inputs, outputs, bound, free, twins, about })
    }

    /// The dims of arrays, held to one another.
    fn dims_of(&self, py: Python<'_>, held: &[Elements]) -> PyResult<Vec<Vec<i64>>> {
        for twin in &self.twins {
            let (input, axis) = twin.told;
            let (have, want) = (held[twin.input].shape()[twin.axis], held[input].shape()[axis]);
            if have != want {
                let (name, told) = (&self.inputs[twin.input].get().name, &self.inputs[input].get().name);
                let message = format!(
                    "input `{name}`: axis {} has {have} elements, and must have the {want} of axis {axis} of the input `{told}`",
                    twin.axis
                );
                return Err(user_error(py, message));
            }
        }
        // No array has more elements on an axis than an `isize` counts.
        Ok(held.iter().map(|e| e.shape().iter().map(|&d| d as i64).collect()).collect())
    }

    fn names(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.inputs.iter().map(|p| p.get().name.as_str())
    }

    /// A run.
    fn outputs<'py>(
        &self,
        py: Python<'py>,
        arrays: Vec<Option<Bound<'py, PyAny>>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut held = Vec::with_capacity(arrays.len());
        for ((array, port), bound) in arrays.into_iter().zip(&self.inputs).zip(&self.bound) {
            let port = port.get();
            let array = array.or_else(|| bound.as_ref().map(|b| b.bind(py).clone()));
            let array = array.ok_or_else(|| {
                user_error(py, format!("no value for the input `{}`: {}", port.name, wanted(port)))
            })?;
            held.push(elements(&array, &port.name, numpy_name(port.ty), Some(port))?);
        }
        let dims = if self.free { self.dims_of(py, &held)? } else { vec![] };
        let ins: Vec<Input<'_>> = held
            .iter()
            .zip(&self.inputs)
            .enumerate()
            .map(|(i, (e, p))| {
                let port = &p.get().port;
                Input { bytes: e.bytes(), dtype: port.dtype, dims: dims.get(i).unwrap_or(&port.dims) }
            })
            .collect();
        let shapes = match self.free {
            true => {
                let dims: Vec<&[i64]> = dims.iter().map(Vec::as_slice).collect();
                let needs = self.native.model().needs(&dims);
                needs.map_err(|e| raise(py, &e.into()))?.outputs
            }
            false => vec![],
        };
        let mut rooms = Vec::with_capacity(self.outputs.len());
        for (i, port) in self.outputs.iter().enumerate() {
            let port = port.get();
            let shape = shapes.get(i).unwrap_or(&port.port.dims);
            let room = port.port.bytes_with(shape).and_then(AlignedBytes::zeroed);
            rooms.push(room.ok_or_else(|| no_room(py, port, shape))?);
        }
        let done = py.detach(|| self.native.call(&ins, &mut rooms));
        drop(ins);
        held.into_iter().for_each(|e| e.release(py));
        let found = done.map_err(|e| raise(py, &e))?;
        // What data has decided is the first of the room.
        let shapes = if found.is_empty() { shapes } else { found };
        let made = rooms.into_iter().zip(&self.outputs).enumerate();
        made.map(|(i, (room, port))| array(py, port.get(), shapes.get(i), room)).collect()
    }
}

/// A module from a file that `Module.save` wrote.
///
/// path: the file. Its code is run: load files of those alone whose programs you would run.
/// threads: threads of a run, the caller's included; `None`: one for each core.
#[pyfunction]
#[pyo3(signature = (path, threads=Some(1)))]
pub(crate) fn load(py: Python<'_>, path: PathBuf, threads: Option<usize>) -> PyResult<Module> {
    let threads = threads_of(py, threads)?;
    let native = py.detach(|| load_file(&path, threads));
    let (native, about) = native.map_err(|e| raise(py, &e))?;
    Module::new(py, native, about)
}

/// Axes of inputs that have a free dim which another axis tells.
fn twins(inputs: &[egret::Port], native: &Native) -> Vec<Twin> {
    let symbols = native.model().symbols();
    let mut out = vec![];
    for (input, port) in inputs.iter().enumerate() {
        for (axis, size) in port.dims.iter().enumerate().filter(|(_, d)| **d < 0) {
            let told = symbols.iter().find(|s| inputs[s.input].dims[s.axis] == *size);
            let told = told.map(|s| (s.input, s.axis)).filter(|told| *told != (input, axis));
            out.extend(told.map(|told| Twin { input, axis, told }));
        }
    }
    out
}

fn no_room(py: Python<'_>, port: &Port, shape: &[i64]) -> PyErr {
    let message = format!("`{}` {shape:?} does not fit; give smaller inputs or dims", port.name);
    raise(py, &egret::Error::memory(message))
}

/// An array of what a model wrote; `shape` where the port has free dims.
fn array<'py>(
    py: Python<'py>,
    port: &Port,
    shape: Option<&Vec<i64>>,
    bytes: AlignedBytes,
) -> PyResult<Bound<'py, PyAny>> {
    static ARRAY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = ARRAY.import(py, "numpy", "ndarray")?;
    let room = Py::new(py, Room::new(bytes))?;
    match shape {
        None => class.call1((port.shape(py), port.dtype(py), room)),
        Some(shape) => class.call1((PyTuple::new(py, shape)?, port.dtype(py), room)),
    }
}

/// The dtype and shape of the arrays that an input takes.
fn wanted(port: &Port) -> String {
    format!("it takes {}{}", numpy_name(port.ty), port.spelt)
}

/// The elements of an array for an input: of this dtype, and of its port's shape where there is one.
pub(crate) fn elements(
    given: &Bound<'_, PyAny>,
    name: &str,
    dtype: &str,
    port: Option<&Port>,
) -> PyResult<Elements> {
    let py = given.py();
    let (elements, object) = match Elements::of(given) {
        Ok(elements) => (elements, given.clone()),
        Err(_) => {
            let object = through_numpy(given, name, dtype)?;
            (Elements::of(&object)?, object)
        }
    };
    let have = elements.dtype();
    // A negative dim is free.
    let fits = |(&size, &dim): (&usize, &i64)| i64::try_from(size) == Ok(dim) || dim < 0;
    let same_dims = port.is_none_or(|port| {
        let (shape, dims) = (elements.shape(), &port.port.dims);
        shape.len() == dims.len() && shape.iter().zip(dims).all(fits)
    });
    if have != Ok(dtype) || !same_dims {
        let shape = elements.shape();
        let other = port.filter(|p| have == Ok(dtype) && p.port.dims.len() == shape.len());
        let axis = other.and_then(|p| shape.iter().zip(&p.port.dims).position(|at| !fits(at)));
        let axis = axis.map_or_else(String::new, |axis| format!(": axis {axis} differs"));
        let have = have.map_or_else(|format| format!("elements `{format}`"), str::to_owned);
        let dims = port.map_or("", |p| &p.spelt);
        let message =
            format!("input `{name}`: it takes {dtype}{dims}, and {have}{shape:?} was given{axis}");
        return Err(user_error(py, message));
    }
    if elements.is_plain() {
        return Ok(elements);
    }
    elements.release(py);
    let numpy = py.import(intern!(py, "numpy"))?;
    Elements::of(&numpy.call_method1(intern!(py, "require"), (object, py.None(), "CA"))?)
}

/// An object without the buffer protocol as an array of NumPy, by DLPack.
fn through_numpy<'py>(given: &Bound<'py, PyAny>, name: &str, dtype: &str) -> PyResult<Bound<'py, PyAny>> {
    let py = given.py();
    let refused = |why: String| user_error(py, format!("input `{name}`: it takes {dtype}, and {why}"));
    let class = given.get_type().fully_qualified_name()?;
    if !given.hasattr(intern!(py, "__dlpack__"))? {
        return Err(refused(format!("{class} is no array: it has neither the buffer protocol nor DLPack")));
    }
    let numpy = py.import(intern!(py, "numpy"))?;
    let read = numpy.call_method1(intern!(py, "from_dlpack"), (given,));
    read.map_err(|e| refused(format!("NumPy cannot read this {class}: {e}")))
}
