//! Recurrent layers: a hidden unit owns a row of every gate, in the weights of the input and of the state before and in both biases, its
//! column of the weights of the state before, its peepholes, its places in the initial states, and its place in each output. Both
//! directions of a layer lose the same units: they are planes of one tensor.

use crate::channels::ids::Id;
use crate::channels::walk::{Axis, Product, Size, Walk};
use crate::layout::integer;
use onnx_protobuf::NodeProto;
use std::rc::Rc;

/// Inputs of a recurrent layer.
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
const H0: usize = 5;
const C0: usize = 6;
const P: usize = 7;

/// The axes of a recurrent layer's outputs.
///
/// # Errors
/// Why what its operands have must stay.
pub fn axes(walk: &mut Walk<'_>, at: usize, node: &NodeProto) -> Result<Vec<Vec<Axis>>, String> {
    // What is computed of constants has the channels of these, and no numbers that could go.
    let is_constant = |walk: &Walk<'_>, slot: usize| walk.tensors.contains_key(node.input[slot].as_str());
    if [W, R].iter().any(|&slot| walk.has(node, slot) && !is_constant(walk, slot)) {
        return Err("its weights are no constants".to_owned());
    }
    let weights = [W, R].map(|slot| walk.axes(node, slot));
    let [Ok(w), Ok(r)] = weights else { return Err("its weights have no known shapes".to_owned()) };
    let ([_, Some(w_rows), w_columns], [_, Some(r_rows), Some(r_columns)]) = (&w[..], &r[..]) else {
        return Err("its weights are no constants".to_owned());
    };
    let count = r_columns.len();
    let whole = count > 0 && w_rows.len() == r_rows.len() && w_rows.len().is_multiple_of(count);
    if !whole || integer(node, "hidden_size", count as i64) != count as i64 {
        return Err("its weights do not have the sizes of their gates".to_owned());
    }
    let units: Rc<Vec<Id>> = r_columns.clone();
    gates(walk, &units, w_rows);
    gates(walk, &units, r_rows);
    // Both directions have one axis of units.
    [&w, &r].into_iter().for_each(|t| walk.fix(&t[0], "they are directions of a recurrent layer"));
    for (slot, what) in [(B, "its biases are no constants"), (P, "its peepholes are no constants")] {
        if walk.has(node, slot) {
            if !is_constant(walk, slot) {
                return Err(what.to_owned());
            }
            match walk.axes(node, slot)?.as_slice() {
                [directions, Some(list)] if list.len().is_multiple_of(count) => {
                    let directions = directions.clone();
                    gates(walk, &units, &list.clone());
                    walk.fix(&directions, "they are directions of a recurrent layer");
                }
                _ => return Err(what.to_owned()),
            }
        }
    }
    let hidden: Axis = Some(units.clone());
    for slot in [H0, C0] {
        if walk.has(node, slot) {
            let state = walk.axes(node, slot)?;
            let last = state.last().cloned().flatten();
            walk.join(&hidden, &last, "they meet an initial state that is not made of hidden units");
        }
    }
    match walk.axes(node, 0) {
        Ok(x) => {
            let features = x.last().cloned().unwrap_or_default();
            walk.join(
                &features,
                w_columns,
                "a recurrent layer sums over an axis that is not made of channels",
            );
        }
        Err(why) => walk.fix(w_columns, &why),
    }
    let columns = w_columns.clone().unwrap_or_default();
    walk.products.push(Product {
        node: at,
        rows: w_rows.clone(),
        columns,
        depthwise: false,
        recurrent: true,
    });
    walk.sizes.push((Size::Hidden(at), units.clone()));
    walk.units.extend(units.iter());
    for state in node.output.iter().skip(1) {
        walk.states.insert(state.clone());
    }
    let outputs = [4, 3, 3].map(|rank| {
        let mut axes = vec![None; rank];
        axes[rank - 1] = hidden.clone();
        axes
    });
    Ok(outputs[..node.output.len().min(3)].to_vec())
}

/// Unite rows of all gates with the units that they belong to.
fn gates(walk: &mut Walk<'_>, units: &[Id], rows: &[Id]) {
    for gate in rows.chunks(units.len()) {
        walk.ids.unite_all(units, gate);
    }
}
