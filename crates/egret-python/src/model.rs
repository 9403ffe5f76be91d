//! [`Model`]: an ONNX model that was read, to be compiled or explained under choices.

use crate::advice;
use crate::choices::options;
use crate::host::{HostModule, Ports};
use crate::module::{Module, about};
use crate::{raise, user_error, values};
use egret::frontend::{DeclaredInput, ModelFile};
use egret::ir::{Graph, Tensor, Type, Value};
use egret::{Engine, Executable, ImportOptions, files, limits, report, shapes, story};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An ONNX model, read and parsed once.
#[pyclass(frozen, module = "egret._native")]
pub struct Model {
    file: ModelFile,
    name: String,
}

/// A name and what is declared of it: its type ([`declared_type`]), its dims (a size, a name or `None`), where it gives any, and
/// whether it need not be given.
type Declared<'py> = (String, String, Option<Vec<Bound<'py, PyAny>>>, bool);

/// Shapes of inputs by name, as they are written.
type Shapes = BTreeMap<String, String>;

/// What is decided about a model before it is imported.
#[derive(Default)]
struct Given {
    dims: BTreeMap<String, i64>,
    shapes: Shapes,
    /// The most that dims may be which loops decide, as they are written.
    at_most: BTreeMap<String, String>,
    bind: BTreeMap<String, Tensor>,
    feeds: Option<BTreeMap<String, Value>>,
}

/// A graph, and the inputs whose values it was made for.
type Imported = (Graph, BTreeMap<String, Tensor>);

#[pymethods]
impl Model {
    /// A file, or the bytes of one.
    #[new]
    #[pyo3(signature = (path=None, data=None))]
    fn new(py: Python<'_>, path: Option<PathBuf>, data: Option<&[u8]>) -> PyResult<Model> {
        let file = match (&path, data) {
            (Some(path), None) => py.detach(|| ModelFile::open(path)),
            (None, Some(data)) => py.detach(|| ModelFile::from_bytes(data)),
            _ => return Err(user_error(py, "give a model by path or by its bytes")),
        };
        let name = path.as_deref().and_then(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned());
        Ok(Model { file: file.map_err(|e| raise(py, &e))?, name: name.unwrap_or_else(|| "model".into()) })
    }

    /// The inputs as the model declares them.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Declared<'py>>> {
        let declared = self.file.declared().map_err(|e| raise(py, &e))?;
        declared.inputs.iter().map(|i| self.declared(py, i)).collect()
    }

    /// The outputs as the model declares them.
    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Declared<'py>>> {
        let declared = self.file.declared().map_err(|e| raise(py, &e))?;
        let output = |o: egret::Result<DeclaredInput>| self.declared(py, &o.map_err(|e| raise(py, &e))?);
        declared.outputs.into_iter().map(output).collect()
    }

    /// Compile it, to a module, or a module with host steps where it has strings, sequences or optionals. `feeds`: values whose shapes, and
    /// which themselves where they are needed, it is compiled for. `host_loops`: the interpreter runs loops whose results have sizes that nothing tells before.
    #[pyo3(signature = (*, dims, shapes, at_most=None, bind=None, feeds=None, threads=Some(1), target=None, tier=None, denormals=None, host_loops=false))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn compile(
        &self,
        py: Python<'_>,
        dims: BTreeMap<String, i64>,
        shapes: Shapes,
        at_most: Option<BTreeMap<String, String>>,
        bind: Option<Bound<'_, PyDict>>,
        feeds: Option<Bound<'_, PyDict>>,
        threads: Option<usize>,
        target: Option<String>,
        tier: Option<&str>,
        denormals: Option<&str>,
        host_loops: bool,
    ) -> PyResult<Py<PyAny>> {
        let options = options(py, threads, target, tier, denormals)?;
        let bind = bind.map_or_else(|| Ok(BTreeMap::new()), |bind| self.bound(bind))?;
        let feeds = feeds.map(|feeds| self.values(feeds)).transpose()?;
        let given = Given { dims, shapes, at_most: at_most.unwrap_or_default(), bind, feeds };
        let imported = py.detach(|| self.import(given));
        let (graph, bound) = imported.map_err(|e| self.refused(py, e, &[]))?;
        let (free, about, ports) = (graph.free_dims(), about(&graph, &bound), Ports::of(py, &graph)?);
        let code = py.detach(|| match host_loops {
            true => Executable::new(graph, Engine::Jit, &options, &bound),
            false => Executable::jit_around_values(graph, &options, &bound),
        });
        match code.map_err(|e| self.refused(py, e, &free))? {
            Executable::Native(native) => Ok(Py::new(py, Module::new(py, *native, about)?)?.into_any()),
            Executable::Mixed(mixed) => Ok(Py::new(py, HostModule::new(*mixed, ports, &bound))?.into_any()),
            Executable::Interp(..) => Err(raise(py, &egret::Error::internal("compiled to no code"))),
        }
    }

    /// Write the page about what the compiler makes of it; where it is refused the page says why.
    #[pyo3(signature = (path, *, dims, shapes, at_most=None, bind=None, target=None, tier=None, denormals=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn report(
        &self,
        py: Python<'_>,
        path: PathBuf,
        dims: BTreeMap<String, i64>,
        shapes: Shapes,
        at_most: Option<BTreeMap<String, String>>,
        bind: Option<Bound<'_, PyDict>>,
        target: Option<String>,
        tier: Option<&str>,
        denormals: Option<&str>,
    ) -> PyResult<()> {
        let options = options(py, None, target, tier, denormals)?;
        let bind = bind.map_or_else(|| Ok(BTreeMap::new()), |bind| self.bound(bind))?;
        let given = Given { dims, shapes, at_most: at_most.unwrap_or_default(), bind, feeds: None };
        let written = py.detach(|| {
            let (graph, bound) = self.import(given)?;
            let (page, _) =
                report::explain(&self.name, graph, &options, &bound, &report::Focus::default())?;
            files::write(&path, page.as_bytes())
        });
        written.map_err(|e| self.refused(py, e, &[]))
    }

    /// What the compiler makes of it, as text.
    #[pyo3(signature = (*, dims, shapes, at_most=None, target=None, tier=None, denormals=None, missed=false, verbose=false))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn explain(
        &self,
        py: Python<'_>,
        dims: BTreeMap<String, i64>,
        shapes: Shapes,
        at_most: Option<BTreeMap<String, String>>,
        target: Option<String>,
        tier: Option<&str>,
        denormals: Option<&str>,
        missed: bool,
        verbose: bool,
    ) -> PyResult<String> {
        let options = options(py, None, target, tier, denormals)?;
        let given = Given { dims, shapes, at_most: at_most.unwrap_or_default(), ..Given::default() };
        let imported = py.detach(|| self.import(given));
        let (graph, bound) = imported.map_err(|e| self.refused(py, e, &[]))?;
        let free = graph.free_dims();
        let explain = || {
            let (name, opsets) = (self.name.clone(), self.file.opsets());
            let request = story::Request { name, opsets, bound, measure: None };
            let told = story::tell(graph, &options, &request, &mut |_| {})?;
            Ok(if missed { told.story.missed(verbose) } else { told.story.text(verbose) })
        };
        let text = py.detach(explain).map_err(|e| self.refused(py, e, &free))?;
        Ok(advice::in_python(&text, &free))
    }
}

impl Model {
    fn declared<'py>(&self, py: Python<'py>, port: &DeclaredInput) -> PyResult<Declared<'py>> {
        let dim = |d: &egret::ir::Dim| match (d.as_const(), d.as_symbol()) {
            (Some(n), _) => Ok(n.into_pyobject(py)?.into_any()),
            (None, Some(name)) if !d.is_unnamed() => Ok(name.into_pyobject(py)?.into_any()),
            _ => Ok(py.None().into_bound(py)),
        };
        let dims = self.file.declared_dims(&port.name);
        let dims = dims.map(|dims| dims.iter().map(dim).collect::<PyResult<_>>()).transpose()?;
        Ok((port.name.clone(), declared_type(&port.ty), dims, port.has_default))
    }

    /// Copies of values by the types that the model declares.
    fn values(&self, given: Bound<'_, PyDict>) -> PyResult<BTreeMap<String, Value>> {
        let (py, mut out) = (given.py(), BTreeMap::new());
        let types = self.types(py)?;
        for (name, value) in &given {
            let name: String = name.extract()?;
            let Some(ty) = types.get(&name) else {
                let names: Vec<String> = types.keys().map(|n| format!("`{n}`")).collect();
                let names = names.join(", ");
                return Err(user_error(
                    py,
                    format!("the model has no input `{name}`; its inputs are {names}"),
                ));
            };
            out.insert(name.clone(), values::given(&value, &name, ty)?);
        }
        Ok(out)
    }

    /// Copies of arrays that inputs are fixed to.
    fn bound(&self, given: Bound<'_, PyDict>) -> PyResult<BTreeMap<String, Tensor>> {
        let py = given.py();
        let tensor = |(name, value): (String, Value)| match value.as_tensor() {
            Some(tensor) => Ok((name, tensor.clone())),
            None => Err(user_error(py, format!("the input `{name}` is no tensor: it cannot be bound"))),
        };
        self.values(given)?.into_iter().map(tensor).collect()
    }

    /// The types of inputs by name.
    fn types(&self, py: Python<'_>) -> PyResult<BTreeMap<String, Type>> {
        let declared = self.file.declared().map_err(|e| raise(py, &e))?;
        Ok(declared.inputs.into_iter().map(|i| (i.name, i.ty)).collect())
    }

    fn import(&self, given: Given) -> egret::Result<Imported> {
        let Given { dims, shapes, at_most, bind, feeds } = given;
        let at_most = limits::read(&at_most)?;
        let shape = |(name, written): (String, String)| {
            let shape = shapes::read(&written);
            Ok((
                name.clone(),
                shape.map_err(|e| egret::Error::user(format!("the shape of `{name}`: {e}")))?,
            ))
        };
        let input_shapes = shapes.into_iter().map(shape).collect::<egret::Result<_>>()?;
        let options = ImportOptions { dims, input_shapes, bind, ..ImportOptions::default() };
        let (mut graph, options) = match feeds {
            Some(feeds) => self.file.import_beside(options, &feeds)?,
            None => (self.file.import(&options)?, options),
        };
        limits::set(&mut graph, &at_most, &self.file.known_dims(&options))?;
        Ok((graph, options.bind))
    }

    /// What Egret refuses, with remedies for who writes Python. `free`: the free dims of the graph, where there is one.
    fn refused(&self, py: Python<'_>, e: egret::Error, free: &[String]) -> PyErr {
        let mut names = free.to_vec();
        let inputs = self.file.declared().map_or_else(|_| vec![], |d| d.inputs);
        for input in inputs {
            for dim in self.file.declared_dims(&input.name).into_iter().flatten() {
                dim.collect_symbols(&mut names);
            }
        }
        raise(py, &egret::Error { message: advice::in_python(&e.message, &names), ..e })
    }
}

/// A type as ONNX Runtime spells it, with Egret's names of elements: `tensor(f32)`, `seq(tensor(string))`.
fn declared_type(ty: &Type) -> String {
    match ty {
        Type::Tensor(t) => format!("tensor({})", t.dtype.name()),
        Type::Sequence(of) => format!("seq(tensor({}))", of.dtype.name()),
        Type::Optional(of) => format!("optional({})", declared_type(of)),
    }
}
