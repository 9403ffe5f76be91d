//! How large dims may be that a model decides while it runs, as whoever compiles it says.

use crate::error::{Error, Result};
use egret_ir::interp::size_text;
use egret_ir::{Dim, DimEnv, Graph, text};
use egret_loop::{Extent, Program, sizes};
use egret_lower::MAX_BYTES;
use egret_runtime::memory;
use std::collections::BTreeMap;

/// Limits of dims as they are written: numbers, or expressions of free dims.
///
/// # Errors
/// What is neither.
pub fn read(written: &BTreeMap<String, String>) -> Result<BTreeMap<String, Dim>> {
    let one = |(name, most): (&String, &String)| match text::parse_dim(most) {
        Ok(dim) => Ok((name.clone(), dim)),
        Err(e) => Err(Error::user(format!("`{name}` at most `{most}`: {e}"))),
    };
    written.iter().map(one).collect()
}

/// Says how much dims may be at most that loops of a graph decide, where free dims of the model have been given these values.
///
/// # Errors
/// A name that is no such dim; what is made of anything but free dims; more than compiled code ever has room for, which would fail in every run.
pub fn set(graph: &mut Graph, most: &BTreeMap<String, Dim>, dims: &DimEnv) -> Result<()> {
    let most: BTreeMap<_, _> =
        most.iter().map(|(name, most)| (name.clone(), most.substitute(dims))).collect();
    // An element takes a byte at least.
    if let Some((name, most)) = most.iter().find(|(_, most)| most.as_const().is_some_and(|n| n > MAX_BYTES))
    {
        return Err(Error::user(format!(
            "`{name}` at most `{most}`: compiled code makes room for as many elements, and has {MAX_BYTES} bytes at most; say how many \
             a run really needs"
        )));
    }
    graph.limit_dims(&most).map_err(Error::user)
}

/// The limits of a graph's dims, as the options that say them: `--at-most rounds=1000`. Empty where none is limited.
pub(crate) fn said(graph: &Graph) -> String {
    let one = |(name, most): (String, Dim)| format!("--at-most {name}={most}");
    graph.limits().into_iter().map(one).collect::<Vec<_>>().join(" ")
}

/// That compiled code has as much room as these limits ask for, where that is known.
///
/// # Errors
/// It has not: no run would succeed.
pub(crate) fn hold(program: &Program, said: &str) -> Result<()> {
    if said.is_empty() || !program.symbols.is_empty() {
        return Ok(());
    }
    let needed = needed(program);
    if needed.is_some_and(|n| n <= MAX_BYTES) {
        return Ok(());
    }
    Err(Error::user(format!(
        "with {said} a run would need {} for outputs and what it computes on the way, and compiled code has {} at most; say how many a run \
         really needs",
        written(needed),
        size_text(MAX_BYTES as u64)
    )))
}

/// That this process can have as much memory as these limits ask for, where that is known.
///
/// # Errors
/// It cannot.
pub(crate) fn fit(program: &Program, said: &str) -> Result<()> {
    if said.is_empty() || !program.symbols.is_empty() {
        return Ok(());
    }
    let (needed, most) = (needed(program), memory::available().unwrap_or(u64::MAX));
    if needed.is_some_and(|n| n as u64 <= most) {
        return Ok(());
    }
    Err(Error::memory(format!(
        "with {said} a run needs {} for outputs and what it computes on the way, more than the {} that this process can have; say how many \
         a run really needs",
        written(needed),
        size_text(most)
    )))
}

/// An error of a run whose sizes are too large, with the limits that these sizes are of.
pub(crate) fn blame(e: Error, said: &str) -> Error {
    match said.is_empty() {
        true => e,
        false => Error {
            message: format!("{}; {said} asks for such room: say how many a run really needs", e.message),
            ..e
        },
    }
}

/// The bytes of the arena and of the outputs at their largest, where no dim is free; nothing if they are beyond i64.
fn needed(program: &Program) -> Option<i64> {
    let sizes = sizes::each(&program.sizes, &[], &[]);
    let value = |e: &Extent| match *e {
        Extent::Const(n) => Some(n),
        Extent::Size(s) => sizes.get(s.0 as usize).copied().flatten(),
    };
    let arena = match program.arena_size {
        Some(size) => value(&Extent::Size(size))?,
        None => program.arena_bytes as i64,
    };
    program.outputs.iter().try_fold(arena, |sum, port| {
        let dims = port.dims.iter().map(value).collect::<Option<Vec<i64>>>()?;
        let bytes = match dims.contains(&0) {
            true => 0,
            false => dims.iter().try_fold(port.elem_size as i64, |n, d| n.checked_mul(*d))?,
        };
        sum.checked_add(bytes)
    })
}

fn written(bytes: Option<i64>) -> String {
    bytes.map_or_else(|| "more than 8 EiB".to_owned(), |n| size_text(n as u64))
}
