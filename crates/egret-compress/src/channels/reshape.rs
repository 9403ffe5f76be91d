//! Reshapes: axes of size 1 come and go, and neighbours are merged (`Flatten`): a channel owns a run of the merged axis then.

use crate::channels::walk::{Axis, Size, Walk};
use crate::layout::integer;
use egret::ir::Dim;
use onnx_protobuf::NodeProto;
use std::rc::Rc;

/// The axes of a reshape's output.
///
/// # Errors
/// Why what its operand has must stay.
pub fn axes(walk: &mut Walk<'_>, node: &NodeProto) -> Result<Vec<Vec<Axis>>, String> {
    let x = walk.axes(node, 0)?;
    let from = walk.dims(node, 0).to_vec();
    let to = node.output.first().and_then(|o| walk.shapes.get(o)).cloned();
    let to = to.ok_or("the shape of its output is not known")?;
    let found = regroup(&x, &from, &to)?;
    if node.op_type == "Reshape" {
        for (axis, ids) in found.iter().enumerate() {
            let Some(ids) = ids else { continue };
            let copied = x.get(axis).is_some_and(|a| a.as_ref() == Some(ids));
            let size = written(walk, node, axis, to.len());
            match size.ok_or("the new size of the channels is computed, or read elsewhere too")? {
                (_, _, -1) => {}
                (_, _, 0) if copied && integer(node, "allowzero", 0) == 0 => {}
                (name, element, n) if n == ids.len() as i64 => {
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
        // Numbers that stay as they are may be read by others.
        (number <= 0 || walk.constants.is_read_once(name)).then(|| (name.to_owned(), element, number))
    };
    if walk.tensors.contains_key(name.as_str()) {
        return of(name, axis);
    }
    let concat = walk.graph.node.iter().find(|n| n.output.first() == Some(name))?;
    if concat.op_type != "Concat" || !walk.constants.is_read_once(name) {
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

/// The ids of the new axes.
fn regroup(x: &[Axis], from: &[Dim], to: &[Dim]) -> Result<Vec<Axis>, String> {
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
        match (with_ids[..].len(), j - left) {
            (0, _) => {}
            (1, 1) => out[new[left]] = Some(merged(x, from, run).ok_or_else(lost)?),
            _ => return Err("it splits channels, or mixes two axes of them".to_owned()),
        }
    }
    if i < old.len() || j < new.len() {
        return Err(lost());
    }
    Ok(out)
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
