//! Shapes that are said of a model's inputs: `1,3,H,W` for `[1, 3, H, W]`.

use crate::error::{Error, Result};
use egret_ir::{Dim, DimEnv, Graph};
use std::collections::BTreeMap;

/// The shape that is written as `1,3,H,W`, in brackets or not: sizes, names of free dims, and `?` for a free dim that needs no name.
///
/// # Errors
/// A dim that is none of these.
pub fn read(written: &str) -> std::result::Result<Vec<Dim>, String> {
    let inside = written.trim();
    let inside = inside.strip_prefix('[').and_then(|s| s.strip_suffix(']')).unwrap_or(inside);
    if inside.trim().is_empty() {
        return Ok(vec![]);
    }
    inside.split(',').map(|dim| dim_of(dim.trim())).collect()
}

fn dim_of(written: &str) -> std::result::Result<Dim, String> {
    let is_name = |name: &str| {
        let letters = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | ':' | ' ' | '-');
        name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name.chars().all(letters)
    };
    match written.parse::<i64>() {
        Ok(size) if size >= 0 => Ok(Dim::constant(size)),
        Err(_) if matches!(written, "?" | "_") => Ok(Dim::unnamed()),
        Err(_) if is_name(written) => Ok(Dim::symbol(written)),
        _ => Err(format!(
            "`{written}` is no dim: write sizes, names, and ? where a name is not needed, e.g. 1,3,H,W"
        )),
    }
}

/// A shape as [`read`] reads it.
pub fn spelt(shape: &[Dim]) -> String {
    let dim = |d: &Dim| match d.as_symbol() {
        _ if d.is_unnamed() => "?".to_owned(),
        Some(name) => name.to_owned(),
        None => d.to_string(),
    };
    shape.iter().map(dim).collect::<Vec<_>>().join(",")
}

/// Holds the shape of a value to the one that is said for it, whose free dims get their values by it.
///
/// # Errors
/// They do not fit, or another value is there already.
pub(crate) fn fit(said: &mut [Dim], have: &[Dim], dims: &mut DimEnv) -> std::result::Result<(), String> {
    let misfit = format!("its shape {} is not {}, which --shape says", spelt(have), spelt(said));
    if said.len() != have.len() {
        return Err(misfit);
    }
    for (dim, have) in said.iter_mut().zip(have) {
        match (dim.as_symbol(), have.as_const()) {
            _ if dim.is_unnamed() => dim.clone_from(have),
            (Some(name), Some(size)) => {
                let other = *dims.entry(name.to_owned()).or_insert(size);
                if other != size {
                    return Err(format!("{misfit}: the dim `{name}` is {other} elsewhere"));
                }
            }
            _ if dim == have => {}
            _ => return Err(misfit),
        }
    }
    Ok(())
}

/// The dims that are asked for, with those that shapes say of the inputs of a graph, which declares all shapes itself.
///
/// # Errors
/// There is no such input, or its shape is another one whatever its free dims are.
pub(crate) fn dims_of(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<Dim>>,
    asked: &DimEnv,
) -> Result<DimEnv> {
    let mut out = asked.clone();
    for (name, said) in shapes {
        let port = graph.inputs().iter().find(|&&v| graph.value(v).name == *name);
        let Some(ty) = port.and_then(|&v| graph.ty(v).as_tensor()) else {
            let known: Vec<String> =
                graph.inputs().iter().map(|&v| format!("`{}`", graph.value(v).name)).collect();
            return Err(Error::user(format!(
                "--shape: the graph has no tensor `{name}` among its inputs; they are {}",
                known.join(", ")
            )));
        };
        let fits = said.len() == ty.shape.len()
            && said.iter().zip(&ty.shape).all(|(said, dim)| {
                let size = said.as_const().zip(dim.as_symbol());
                let same = said == dim || said.is_unnamed();
                same || size.is_some_and(|(size, name)| *out.entry(name.to_owned()).or_insert(size) == size)
            });
        if !fits {
            return Err(Error::user(format!(
                "--shape {name}={}: text IR says that it is {ty}; only its free dims take values",
                spelt(said)
            )));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_as_they_are_written() {
        for (written, spelt_) in [
            ("1,3,H,W", "1,3,H,W"),
            (" [ 2 , ? ,_] ", "2,?,?"),
            ("", ""),
            ("[]", ""),
            ("batch size", "batch size"),
        ] {
            assert_eq!(spelt(&read(written).expect("a shape")), spelt_, "{written}");
        }
        for wrong in ["-1", "1,,2", "2*N", "1;2", "3.5", "1,3,"] {
            let e = read(wrong).expect_err(wrong);
            assert!(e.contains("is no dim"), "{e}");
        }
    }

    #[test]
    fn values_have_the_shape_that_is_said() {
        let fits = |said: &str, have: &str, dims: &[(&str, i64)]| {
            let (mut said, have) = (read(said).unwrap(), read(have).unwrap());
            let mut dims: DimEnv = dims.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
            fit(&mut said, &have, &mut dims).map(|()| (spelt(&said), dims.len()))
        };
        assert_eq!(fits("1,?,N,N", "1,3,4,4", &[]), Ok(("1,3,N,N".to_owned(), 1)));
        for (said, have, dims, why) in [
            ("1,3", "1,3,4", &[][..], "its shape 1,3,4 is not 1,3"),
            ("1,3", "2,3", &[], "is not 1,3"),
            ("N,N", "2,3", &[], "the dim `N` is 2 elsewhere"),
            ("N,3", "2,3", &[("N", 4)], "the dim `N` is 4 elsewhere"),
        ] {
            let e = fits(said, have, dims).expect_err(why);
            assert!(e.contains(why), "{e}");
        }
    }
}
