//! What the commands `quantize`, `prune`, `compress` and `check` do, on files: `python/egret/tools.py` makes files of what Python has in memory. Choices are the
//! texts that the commands take.

use crate::{choices, raise, user_error};
use egret::check::{self, Verdict};
use egret::inputs::{Given, Inputs};
use egret::ir::interp::Bounds;
use egret::ir::{Graph, Value};
use egret::source::Request;
use egret::{Engine, Error, ErrorKind, Executable, Result, files, limits, npz, shapes};
use egret_compress::{Compressed, Goal, Pattern, Quantization, compress as search, prune, quantize};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// A compressed model: its bytes, and its report as JSON.
type Made<'py> = (Bound<'py, PyBytes>, String);

/// A copy with integers.
#[pyfunction(name = "quantize")]
#[pyo3(signature = (model, *, to, runtime, data, stats, skip, smooth))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn quantized<'py>(
    py: Python<'py>,
    model: PathBuf,
    to: &str,
    runtime: Option<&str>,
    data: Vec<PathBuf>,
    stats: Vec<PathBuf>,
    skip: Vec<String>,
    smooth: bool,
) -> PyResult<Made<'py>> {
    let mut request = Quantization { data, stats, skip, smooth, ..Quantization::new(read(py, "to", to)?) };
    if let Some(runtime) = runtime {
        request.runtime = read(py, "runtime", runtime)?;
    }
    made(py, || quantize(&model, &request))
}

/// A copy with zeros, or with fewer channels.
#[pyfunction(name = "prune")]
#[pyo3(signature = (model, *, to, method, data, stats, scope, multiple, all, layers, skip))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn pruned<'py>(
    py: Python<'py>,
    model: PathBuf,
    to: &str,
    method: &str,
    data: Vec<PathBuf>,
    stats: Vec<PathBuf>,
    scope: Option<&str>,
    multiple: Option<usize>,
    all: bool,
    layers: BTreeMap<String, String>,
    skip: Vec<String>,
) -> PyResult<Made<'py>> {
    let pattern: Pattern = read(py, "to", to)?;
    let layer = |(name, amount): (String, String)| {
        let pattern = pattern.with(&amount).map_err(|e| raise(py, &e.at(format!("layers[{name:?}]"))))?;
        Ok((name, pattern))
    };
    let request = egret_compress::Request {
        method: read(py, "method", method)?,
        data,
        stats,
        scope: scope.map(|scope| read(py, "scope", scope)).transpose()?,
        multiple,
        all,
        layers: layers.into_iter().map(layer).collect::<PyResult<_>>()?,
        skip,
        ..egret_compress::Request::new(pattern)
    };
    made(py, || prune(&model, &request))
}

/// The copy that a goal asks for; behind its bytes and its report the recipe of it, and what of the goal it does not meet.
#[pyfunction(name = "compress")]
#[pyo3(signature = (model, *, data, stats, eval, metric, to, size, budget, speed, zeros, target, measure, skip))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn compressed<'py>(
    py: Python<'py>,
    model: PathBuf,
    data: Vec<PathBuf>,
    stats: Vec<PathBuf>,
    eval: Vec<PathBuf>,
    metric: Option<&str>,
    to: &str,
    size: Option<&str>,
    budget: Option<&str>,
    speed: Option<&str>,
    zeros: Option<&str>,
    target: Option<String>,
    measure: bool,
    skip: Vec<String>,
) -> PyResult<(Bound<'py, PyBytes>, String, String, Option<String>)> {
    let goal = Goal {
        to: read(py, "to", to)?,
        data,
        stats,
        eval,
        metric: metric.map(|x| read(py, "metric", x)).transpose()?,
        size: size.map(|x| read(py, "size", x)).transpose()?,
        budget: budget.map(|x| read(py, "budget", x)).transpose()?,
        speed: speed.map(|x| read(py, "speed", x)).transpose()?,
        zeros: zeros.map(|x| read(py, "zeros", x)).transpose()?,
        target,
        measure,
        skip,
    };
    let searched = py.detach(|| {
        let outcome = search(&model, &goal, None, &mut |_, _, _| {})?;
        let (report, recipe) = (outcome.to_json().to_string(), outcome.recipe.text());
        Ok((outcome.made.model, report, recipe, outcome.unmet))
    });
    let (model, report, recipe, unmet) = searched.map_err(|e: Error| raise(py, &e))?;
    Ok((PyBytes::new(py, &model), report, recipe, unmet))
}

/// What is asked of [`checked`].
struct Check {
    request: Request,
    options: egret::Options,
    expected: Option<PathBuf>,
    max_trips: u64,
}

/// Each output beside what it should be: its name, the verdict (`same`, `unstable`, `differs`) and how far it is off in words.
#[pyfunction(name = "check")]
#[pyo3(signature = (model, *, inputs, expected, dims, given_shapes, at_most, bind, random, threads, target, tier, denormals, max_trips))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn checked(
    py: Python<'_>,
    model: PathBuf,
    inputs: Vec<PathBuf>,
    expected: Option<PathBuf>,
    dims: BTreeMap<String, i64>,
    given_shapes: BTreeMap<String, String>,
    at_most: BTreeMap<String, String>,
    bind: BTreeMap<String, PathBuf>,
    random: u64,
    threads: Option<usize>,
    target: Option<String>,
    tier: Option<&str>,
    denormals: Option<&str>,
    max_trips: u64,
) -> PyResult<Vec<(String, &'static str, String)>> {
    let options = choices::options(py, threads, target, tier, denormals)?;
    let shape = |(name, written): (String, String)| match shapes::read(&written) {
        Ok(shape) => Ok((name, shape)),
        Err(e) => Err(user_error(py, format!("the shape of `{name}`: {e}"))),
    };
    let request = Request {
        model,
        dims,
        shapes: given_shapes.into_iter().map(shape).collect::<PyResult<_>>()?,
        at_most: limits::read(&at_most).map_err(|e| raise(py, &e))?,
        inputs: Inputs { files: inputs, ..Inputs::default() },
        bind: bind.into_iter().map(|(name, path)| (name, Given::File(path))).collect(),
        random: Some(random),
        default_dim: Some(1),
        ..Request::default()
    };
    let check = Check { request, options, expected, max_trips };
    py.detach(|| check.run()).map_err(|e| raise(py, &e))
}

impl Check {
    fn run(&self) -> Result<Vec<(String, &'static str, String)>> {
        let prepared = self.request.prepare()?;
        let names = prepared.graph.output_names().to_vec();
        let random = egret::cases::random_outputs(&prepared.graph);
        let executable =
            Executable::new(prepared.graph.clone(), Engine::Jit, &self.options, &prepared.bound)?;
        let bounds = || Bounds { trips: Some(self.max_trips), ..Bounds::default() };
        let reference = |graph: &Graph, inputs: &[Value]| {
            egret::interpret(graph, inputs, self.options.denormals(), bounds()).map_err(|e| match e.kind {
                ErrorKind::Bound => Error { message: format!("{}; raise max_trips", e.message), ..e },
                _ => e,
            })
        };
        let expected: Vec<Option<Value>> = match &self.expected {
            None => reference(&prepared.graph, &prepared.inputs)?.into_iter().map(Some).collect(),
            Some(path) => {
                let given = npz::read_npz(path)?;
                if let Some(unknown) = given.keys().find(|n| !names.contains(n)) {
                    let message = format!("expected: the model has no output `{unknown}`");
                    return Err(Error::user(message));
                }
                names.iter().map(|n| given.get(n).cloned().map(Value::from)).collect()
            }
        };
        let got = executable.run(&prepared.inputs)?;
        let movements = || {
            let moved = || check::movements(&prepared.graph, &prepared.inputs, &expected, reference);
            self.expected.is_none().then(moved).flatten()
        };
        let outcomes = check::judge(&names, &expected, &got, &random, movements);
        let told = outcomes.into_iter().map(|outcome| match outcome.verdict {
            Verdict::Same => (outcome.output, "same", outcome.told),
            Verdict::Differs => (outcome.output, "differs", outcome.told),
            Verdict::Unstable(moves) => {
                let why = format!(
                    "{}; the reference itself moves by {moves:.3e} with the last digits of weights and sums",
                    outcome.told
                );
                (outcome.output, "unstable", why)
            }
        });
        Ok(told.collect())
    }
}

/// Write a file whole or not at all.
#[pyfunction]
pub(crate) fn write(py: Python<'_>, path: PathBuf, bytes: &[u8]) -> PyResult<()> {
    py.detach(|| files::write(&path, bytes)).map_err(|e| raise(py, &e))
}

/// That a file can be written, before the long work whose result it is to hold, and is none of these.
#[pyfunction]
pub(crate) fn writable(py: Python<'_>, path: PathBuf, read: Vec<PathBuf>) -> PyResult<()> {
    let apart = || files::apart(&path, read.iter().map(PathBuf::as_path));
    apart().and_then(|()| files::writable(&path)).map_err(|e| raise(py, &e))
}

/// A choice as the commands write it.
fn read<T: FromStr<Err: ToString>>(py: Python<'_>, name: &str, text: &str) -> PyResult<T> {
    text.parse().map_err(|e: T::Err| user_error(py, format!("{name}={text:?}: {}", e.to_string())))
}

fn made<'py>(py: Python<'py>, work: impl Send + FnOnce() -> Result<Compressed>) -> PyResult<Made<'py>> {
    let made = py.detach(|| work().map(|made| (made.model, made.report.to_json().to_string())));
    let (model, report) = made.map_err(|e| raise(py, &e))?;
    Ok((PyBytes::new(py, &model), report))
}
