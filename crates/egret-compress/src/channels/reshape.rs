//! Reshapes: axes of size 1 come and go, neighbours are merged (`Flatten`): a channel owns a run of the merged axis then, and an axis is
//! split into heads and what each is made of: whole heads go.

use crate::channels::ids::{Id, Ids};
use crate::channels::walk::{Axis, Size, Walk};
use crate::layout::integer;
use egret::ir::Dim;
use onnx_protobuf::NodeProto;
use std::rc::Rc;

/// The axes of a reshape's output.
///
/// # Errors
/// Why what its operand has must stay.
pub fn axes(walk: &mut Walk<'_>, at: usize, node: &NodeProto) -> Result<Vec<Vec<Axis>>, String> {
    let x = walk.axes(node, 0)?;
    let from = walk.dims(node, 0).to_vec();
    let to = node.output.first().and_then(|o| walk.shapes.get(o)).cloned();
    let to = to.ok_or("the shape of its output is not known")?;
    let found = regroup(&mut walk.ids, &x, &from, &to)?;
    if node.op_type == "Reshape" {
        for (axis, ids) in found.iter().enumerate() {
            let Some(ids) = ids else { continue };
            let copied = x.get(axis).is_some_and(|a| a.as_ref() == Some(ids));
            let size = written(walk, node, axis, to.len());
            match size.ok_or("the new size of the channels is computed")? {
                (_, _, -1) => {}
                (_, _, 0) if copied && integer(node, "allowzero", 0) == 0 => {}
                (name, element, n) if n == ids.len() as i64 => {
                    if !is_own(walk, node, &name) {
                        walk.shared.insert(at);
                        return Err("the new size of the channels is read elsewhere too".to_owned());
                    }
                    walk.sizes.push((Size::Element(name, element), ids.clone()));
                }
                _ => return Err("its shape has another number than the channels".to_owned()),
            }
        }
    }
    Ok(vec![found])
}

/// Where the new size of an axis stands: the constant, its element, and the number there.
fn written(walk: &Walk<'_>, node: &NodeProto, axis: usize, rank: usize) -> Option<(String, usize, i64)> {
    let name = node.input.get(1)?;
    let of = |name: &str, element: usize| {
        let tensor = walk.tensors.get(name)?;
        let number = *crate::channels::shapes::integers(tensor)?.get(element)?;
        Some((name.to_owned(), element, number))
    };
    if walk.tensors.contains_key(name.as_str()) {
        return of(name, axis);
    }
    let concat = walk.graph.node.iter().find(|n| n.output.first() == Some(name))?;
    if concat.op_type != "Concat" {
        return None;
    }
    let mut at = 0;
    for part in &concat.input {
        let count = walk.shapes.get(part)?.first()?.as_const().and_then(|d| usize::try_from(d).ok())?;
        if (at..at + count).contains(&axis) && at + count <= rank {
            return of(part, axis - at);
        }
        at += count;
    }
    None
}

/// Whether nothing but a reshape reads the constant that is its shape, or a part of it.
fn is_own(walk: &Walk<'_>, node: &NodeProto, name: &str) -> bool {
    walk.constants.is_read_once(name) && node.input.get(1).is_some_and(|s| walk.constants.is_read_once(s))
}

/// The ids of the new axes.
fn regroup(ids: &mut Ids, x: &[Axis], from: &[Dim], to: &[Dim]) -> Result<Vec<Axis>, String> {
    let one = |d: &Dim| d.as_const() == Some(1);
    if (0..x.len()).any(|a| one(&from[a]) && x[a].is_some()) && from.len() != to.len() {
        return Err("it moves an axis of one channel".to_owned());
    }
    let old: Vec<usize> = (0..from.len()).filter(|&a| !one(&from[a])).collect();
    let new: Vec<usize> = (0..to.len()).filter(|&a| !one(&to[a])).collect();
    let mut out: Vec<Axis> = vec![None; to.len()];
    let (mut i, mut j) = (0, 0);
    let lost = || "its axes cannot be told apart".to_owned();
    while i < old.len() && j < new.len() {
        let (top, left) = (i, j);
        if from[old[i]] == to[new[j]] {
            (i, j) = (i + 1, j + 1);
        } else {
            let size = |d: &Dim| d.as_const().ok_or_else(lost);
            let (mut a, mut b) = (size(&from[old[i]])?, size(&to[new[j]])?);
            (i, j) = (i + 1, j + 1);
            while a != b {
                if a < b {
                    a *= size(&from[*old.get(i).ok_or_else(lost)?])?;
                    i += 1;
                } else {
                    b *= size(&to[*new.get(j).ok_or_else(lost)?])?;
                    j += 1;
                }
            }
        }
        let run = &old[top..i];
        let with_ids: Vec<usize> = run.iter().copied().filter(|&a| x[a].is_some()).collect();
        match (with_ids[..].len(), run.len(), j - left) {
            (0, _, _) => {}
            (1, _, 1) => out[new[left]] = Some(merged(x, from, run).ok_or_else(lost)?),
            (1, 1, _) => {
                let sizes = new[left..j].iter().map(|&a| usize::try_from(to[a].as_const()?).ok());
                let sizes = sizes.collect::<Option<Vec<usize>>>().ok_or_else(lost)?;
                let (axis, found) = split(ids, x[run[0]].as_ref().ok_or_else(lost)?, &sizes);
                out[new[left + axis]] = Some(Rc::new(found));
            }
            _ => {
                return Err(
                    "it splits channels together with other axes, or mixes two axes of them".to_owned()
                );
            }
        }
    }
    if i < old.len() || j < new.len() {
        return Err(lost());
    }
    Ok(out)
}

/// Which of several new axes has the ids of the one that it was part of: the first, of heads, unless that holds the queries, keys and values
/// of all heads one behind another. What stands at one index of that axis goes together.
fn split(ids: &mut Ids, old: &[Id], sizes: &[usize]) -> (usize, Vec<Id>) {
    /// Queries, keys and values; keys and values.
    const STACKED: std::ops::RangeInclusive<usize> = 2..=3;
    let axis = usize::from(sizes.len() > 2 && STACKED.contains(&sizes[0]));
    let (count, inner) = (sizes[axis], sizes[axis + 1..].iter().product::<usize>().max(1));
    let first: Vec<Id> = (0..count).map(|i| old[i * inner]).collect();
    for (at, &id) in old.iter().enumerate() {
        ids.unite(first[at / inner % count], id);
    }
    (axis, first)
}

/// The ids of merged axes, one of which has any.
fn merged(x: &[Axis], from: &[Dim], run: &[usize]) -> Option<Rc<Vec<u32>>> {
    let at = run.iter().position(|&a| x[a].is_some())?;
    let ids = x[run[at]].as_ref()?;
    if run.len() == 1 {
        return Some(ids.clone());
    }
    let product = |axes: &[usize]| -> Option<usize> {
        axes.iter().map(|&a| usize::try_from(from[a].as_const()?).ok()).product()
    };
    let (outer, inner) = (product(&run[..at])?, product(&run[at + 1..])?);
    let each = ids.iter().flat_map(|&id| std::iter::repeat_n(id, inner));
    Some(Rc::new(std::iter::repeat_n(each.collect::<Vec<u32>>(), outer).flatten().collect()))
}
