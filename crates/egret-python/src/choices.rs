//! Choices that calls share, as Python gives them.

use crate::user_error;
use egret::{Options, pipeline};
use pyo3::prelude::*;

/// Threads of a run; of `None` one for each core.
pub(crate) fn threads_of(py: Python<'_>, threads: Option<usize>) -> PyResult<usize> {
    match threads {
        Some(0) => {
            let message = "threads=0: give a whole number of at least 1, or None for all cores";
            Err(user_error(py, message))
        }
        Some(n) => Ok(n),
        None => Ok(Options::default().threads),
    }
}

/// How a model is compiled.
pub(crate) fn options(
    py: Python<'_>,
    threads: Option<usize>,
    target: Option<String>,
    tier: Option<&str>,
    denormals: Option<&str>,
) -> PyResult<Options> {
    let wrong = |e: String| user_error(py, e);
    let mut options = Options { threads: threads_of(py, threads)?, ..Options::default() };
    if let Some(target) = target {
        options.set_target(&target).map_err(|e| wrong(e.to_string()))?;
        options = pipeline::level_here(&options).map_err(|e| wrong(e.to_string()))?;
    }
    if let Some(tier) = tier {
        options.tier = tier.parse().map_err(wrong)?;
    }
    options.denormals = denormals.map(str::parse).transpose().map_err(wrong)?;
    Ok(options)
}
