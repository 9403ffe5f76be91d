//! [`HostModule`]: a model with strings, sequences or optionals, of which machine code and the interpreter run each a part.

use crate::port::dims_of;
use crate::{given, raise, user_error, values};
use egret::ErrorKind;
use egret::host::Mixed;
use egret::ir::{Graph, Tensor, Type, Value, ValueId};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An input or output that need not be a tensor.
#[pyclass(frozen, module = "egret")]
pub struct HostPort {
    /// Its name in the model.
    #[pyo3(get)]
    name: String,
    /// Its shape: a number for each axis, or the name of a dim that is free; `None` where it is no tensor.
    #[pyo3(get)]
    shape: Option<Py<PyTuple>>,
    ty: Type,
}

#[pymethods]
impl HostPort {
    /// The type as Egret spells it: `string`, `f32`, `seq<f32[n]>`, `opt<f32[3]>` ...
    #[getter]
    fn r#type(&self) -> String {
        self.ty.as_tensor().map_or_else(|| self.ty.to_string(), |t| t.dtype.name().to_owned())
    }

    fn __repr__(&self) -> String {
        format!("HostPort(name={:?}, type={:?})", self.name, self.ty.to_string())
    }
}

/// A compiled model with strings, sequences or optionals, called like a `Module`.
///
/// Strings are arrays of `str` (dtype `object`), a sequence is a list, an optional that is empty is `None`. Nodes that work on them are run
/// by the interpreter, all others as machine code; `notes` says which. Inputs and outputs are copied. Parts with free dims are compiled when
/// they first run, for the sizes that they have then.
#[pyclass(frozen, module = "egret")]
pub struct HostModule {
    mixed: Mixed,
    inputs: Vec<Py<HostPort>>,
    outputs: Vec<Py<HostPort>>,
    /// The values that inputs were fixed to.
    bound: BTreeMap<String, Tensor>,
}

#[pymethods]
impl HostModule {
    /// Run the model on values, in the order of `inputs` or by name.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        let placed = given::placed(names(&self.inputs), args, kwargs)?;
        given::returned(py, self.outputs(py, placed)?)
    }

    /// Run the model on values by name; the results by name.
    fn run<'py>(&self, feeds: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let py = feeds.py();
        let results = self.outputs(py, given::named(names(&self.inputs), feeds)?)?;
        let out = PyDict::new(py);
        names(&self.outputs).zip(results).try_for_each(|(name, value)| out.set_item(name, value))?;
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
        for (name, tensor) in &self.bound {
            out.set_item(name, values::returned(py, name, &tensor.clone().into())?)?;
        }
        Ok(out)
    }

    /// Threads that compiled parts may use, the caller's included.
    #[getter]
    fn threads(&self) -> usize {
        self.mixed.threads()
    }

    /// How many nodes the interpreter runs, and which, and what else there is to know; a line each.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.mixed.notes().to_vec()
    }

    /// Refused: the interpreter runs a part of the module, of which a file of code has none.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let message = format!(
            "{}: a module that the interpreter runs a part of is not saved ({}); keep the model, and compile it where it runs",
            path.display(),
            self.mixed.notes().first().map_or("", String::as_str)
        );
        Err(raise(py, &egret::Error { kind: ErrorKind::Unsupported, message }))
    }

    fn __repr__(&self) -> String {
        let list = |ports: &[Py<HostPort>]| {
            let one = |p: &Py<HostPort>| format!("{}: {}", p.get().name, p.get().ty);
            ports.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        format!("<egret.HostModule ({}) -> ({})>", list(&self.inputs), list(&self.outputs))
    }
}

impl HostModule {
    /// `ports`: those of the graph that it was made of.
    pub(crate) fn new(mixed: Mixed, ports: Ports, bound: &BTreeMap<String, Tensor>) -> HostModule {
        let Ports { inputs, outputs } = ports;
        HostModule { mixed, inputs, outputs, bound: bound.clone() }
    }

    /// A run.
    fn outputs<'py>(
        &self,
        py: Python<'py>,
        given: Vec<Option<Bound<'py, PyAny>>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut inputs: Vec<Value> = Vec::with_capacity(given.len());
        for (object, port) in given.into_iter().zip(&self.inputs) {
            let HostPort { name, ty, .. } = port.get();
            inputs.push(match (object, self.bound.get(name)) {
                (Some(object), _) => values::given(&object, name, ty)?,
                (None, Some(bound)) => bound.clone().into(),
                (None, None) => {
                    let message = format!("no value for the input `{name}`: it takes {ty}");
                    return Err(user_error(py, message));
                }
            });
        }
        let results = py.detach(|| self.mixed.run(&inputs)).map_err(|e| raise(py, &e))?;
        names(&self.outputs).zip(&results).map(|(name, value)| values::returned(py, name, value)).collect()
    }
}

/// The inputs and outputs of a graph.
pub(crate) struct Ports {
    inputs: Vec<Py<HostPort>>,
    outputs: Vec<Py<HostPort>>,
}

impl Ports {
    pub(crate) fn of(py: Python<'_>, graph: &Graph) -> PyResult<Ports> {
        let port = |(&v, name): (&ValueId, &String)| {
            let ty = graph.ty(v).clone();
            let shape = ty.as_tensor().map(|t| dims_of(py, &t.shape)).transpose()?;
            Py::new(py, HostPort { name: name.clone(), shape, ty })
        };
        let names: Vec<String> = graph.inputs().iter().map(|&v| graph.value(v).name.clone()).collect();
        Ok(Ports {
            inputs: graph.inputs().iter().zip(&names).map(port).collect::<PyResult<_>>()?,
            outputs: graph.outputs().iter().zip(graph.output_names()).map(port).collect::<PyResult<_>>()?,
        })
    }
}

fn names(ports: &[Py<HostPort>]) -> impl ExactSizeIterator<Item = &str> + Clone {
    ports.iter().map(|p| p.get().name.as_str())
}
