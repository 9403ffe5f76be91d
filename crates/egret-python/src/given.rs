//! What a call gives, in the order of a model's inputs.

use crate::user_error;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

/// Arguments by their places and by name; `None` where an input is not given. `names`: those of the inputs.
pub(crate) fn placed<'a, 'py>(
    names: impl ExactSizeIterator<Item = &'a str> + Clone,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
    let (given, most) = (args.len(), names.len());
    if given > most {
        let message = format!("{given} inputs given, the model has {most}: {}", list(names));
        return Err(user_error(args.py(), message));
    }
    let mut out: Vec<Option<Bound<'py, PyAny>>> = args.iter().map(Some).collect();
    out.resize_with(most, || None);
    if let Some(kwargs) = kwargs {
        take(names, kwargs, &mut out)?;
    }
    Ok(out)
}

/// As [`placed`], of values by name alone.
pub(crate) fn named<'a, 'py>(
    names: impl ExactSizeIterator<Item = &'a str> + Clone,
    feeds: &Bound<'py, PyDict>,
) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
    let mut out: Vec<Option<Bound<'py, PyAny>>> = names.clone().map(|_| None).collect();
    take(names, feeds, &mut out)?;
    Ok(out)
}

/// Put values that are given by name into their places.
fn take<'a, 'py>(
    names: impl Iterator<Item = &'a str> + Clone,
    by_name: &Bound<'py, PyDict>,
    places: &mut [Option<Bound<'py, PyAny>>],
) -> PyResult<()> {
    let py = by_name.py();
    for (name, value) in by_name {
        let name = name.cast_into::<PyString>()?;
        let name = name.to_cow()?;
        let Some(i) = names.clone().position(|n| n == name) else {
            let names = list(names);
            return Err(user_error(py, format!("the model has no input `{name}`; its inputs are {names}")));
        };
        if places[i].replace(value).is_some() {
            return Err(user_error(py, format!("the input `{name}` is given twice")));
        }
    }
    Ok(())
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// What a call returns: the output, or a tuple of as many as there are.
pub(crate) fn returned<'py>(
    py: Python<'py>,
    mut outputs: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match outputs.len() {
        1 => Ok(outputs.swap_remove(0)),
        _ => Ok(PyTuple::new(py, outputs)?.into_any()),
    }
}
