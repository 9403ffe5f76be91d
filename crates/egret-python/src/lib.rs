//! `egret._native`, the compiled half of the Python package `egret`: models read, compiled, explained and run.
//!
//! [`Model`] is a file or bytes, parsed once; [`Module`] is what it was compiled to, [`HostModule`] where it has
//! strings, sequences or optionals. `tools` has the commands that make copies of models and check them. `array` has the views of NumPy's memory, and
//! all that is unsafe. What the user sees is `python/egret/__init__.py`, which adds what needs no compiler.

mod advice;
mod array;
mod choices;
mod given;
mod host;
mod model;
mod module;
mod port;
mod tools;
mod values;

pub use host::{HostModule, HostPort};
pub use model::Model;
pub use module::Module;
pub use port::Port;

use egret::ErrorKind;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

pyo3::create_exception!(
    egret,
    Error,
    PyRuntimeError,
    "What Egret refuses, and why. `kind` is \"user\" (a wrong argument, file, model or input), \"unsupported\", \"memory\", \
     \"differs\" (what was asked for cannot be reached), or \"internal\" (a bug of Egret)."
);

/// An error of Egret as an exception of Python.
fn raise(py: Python<'_>, e: &egret::Error) -> PyErr {
    let kind = match e.kind {
        ErrorKind::User | ErrorKind::Bound | ErrorKind::Closed | ErrorKind::Lost => "user",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Memory => "memory",
        ErrorKind::Differs => "differs",
        ErrorKind::Internal => "internal",
    };
    let error = Error::new_err(e.message.clone());
    match error.value(py).setattr("kind", kind) {
        Ok(()) => error,
        Err(other) => other,
    }
}

/// The user's error.
fn user_error(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raise(py, &egret::Error::user(message))
}

/// The compiled half of the package `egret`.
#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let error = m.py().get_type::<Error>();
    error.setattr("kind", "user")?;
    m.add("Error", error)?;
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_function(wrap_pyfunction!(module::load, m)?)?;
    m.add_function(wrap_pyfunction!(tools::quantized, m)?)?;
    m.add_function(wrap_pyfunction!(tools::pruned, m)?)?;
    m.add_function(wrap_pyfunction!(tools::compressed, m)?)?;
    m.add_function(wrap_pyfunction!(tools::checked, m)?)?;
    m.add_function(wrap_pyfunction!(tools::write, m)?)?;
    m.add_function(wrap_pyfunction!(tools::writable, m)?)?;
    m.add_class::<Model>()?;
    m.add_class::<Module>()?;
    m.add_class::<Port>()?;
    m.add_class::<HostModule>()?;
    m.add_class::<HostPort>()
}
