//! How large dims may be that a model decides while it runs, as whoever compiles it says.

use crate::error::{Error, Result};
use egret_ir::{Dim, DimEnv, Graph, text};
use egret_lower::MAX_BYTES;
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
