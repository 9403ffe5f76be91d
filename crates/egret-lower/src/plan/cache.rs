//! Attention over a cache and what is new: `concat(past, new)`, of which a run is given `past`. Both are read where they are, instead of
//! being copied into one value first: the scores of the queries with each are joined, which are few, and what the shares of each make of its
//! values is added.

use egret_ir::{Builder, Dim, Graph, Op, TypeError, ValueId, attrs};

/// Keys in pieces, and values in pieces as long.
pub type Pieces = ([ValueId; 2], [ValueId; 2]);

/// The pieces of keys and values that are a cache and what is new, if both are and nothing else reads them as one.
///
/// # Errors
/// A rule of types that is broken, which an unverified graph may cause.
pub fn pieces(b: &mut Builder, k: ValueId, v: ValueId) -> Result<Option<Pieces>, TypeError> {
    let (Some(keys), Some(values)) = (joined(&b.graph, k), joined(&b.graph, v)) else { return Ok(None) };
    let length = |i: usize| {
        let [k, v] = [keys[i], values[i]].map(|x| &b.graph.tensor_ty(x).shape);
        Some((k.get(k.len().checked_sub(2)?)?.clone(), v.get(v.len().checked_sub(2)?)?.clone()))
    };
    if (0..2).any(|i| length(i).is_none_or(|(k, v)| k != v)) {
        return Ok(None);
    }
    let keys = [piece(b, keys[0], k)?, piece(b, keys[1], k)?];
    Ok(Some((keys, [piece(b, values[0], v)?, piece(b, values[1], v)?])))
}

/// What a value joins along its last axis but one, if that is a cache and what is new, and it is read once.
fn joined(graph: &Graph, mut x: ValueId) -> Option<[ValueId; 2]> {
    loop {
        let node = graph.node(graph.producer(x)?);
        if graph.outputs().contains(&x) || graph.users(x).len() != 1 {
            return None;
        }
        let rank = graph.ty(x).as_tensor()?.rank();
        match (node.op, &node.operands[..]) {
            (Op::Concat, &[Some(past), Some(new)]) => {
                return (node.attrs.index("axis") + 2 == rank && is_given(graph, past))
                    .then_some([past, new]);
            }
            (Op::Reshape, &[Some(from)]) => {
                let [from_dims, to_dims] = [from, x].map(|v| graph.ty(v).as_tensor().map(|t| &t.shape[..]));
                let (from_dims, to_dims) = (from_dims?, to_dims?);
                if from_dims.last_chunk::<2>()? != to_dims.last_chunk::<2>()? {
                    return None;
                }
                x = from;
            }
            _ => return None,
        }
    }
}

/// Whether a value is an input, perhaps with its axes in another order.
fn is_given(graph: &Graph, mut x: ValueId) -> bool {
    while let Some(n) = graph.producer(x) {
        let node = graph.node(n);
        if !matches!(node.op, Op::Transpose | Op::Reshape) {
            return false;
        }
        x = node.operand(0);
    }
    graph.inputs().contains(&x)
}

/// A piece with the outer dims of the whole.
fn piece(b: &mut Builder, x: ValueId, whole: ValueId) -> Result<ValueId, TypeError> {
    let (own, of) = (b.tensor_ty(x).shape.to_vec(), b.tensor_ty(whole).shape.to_vec());
    let outer = &of[..of.len().saturating_sub(2)];
    let dims: Vec<Dim> = outer.iter().chain(&own[own.len().saturating_sub(2)..]).cloned().collect();
    if dims == own { Ok(x) } else { b.emit(Op::Reshape, attrs! { shape: dims }, &[x]) }
}

/// The scores of queries with all pieces of keys, whose last two axes are exchanged.
pub fn scores(b: &mut Builder, q: ValueId, turned: &[ValueId]) -> Result<ValueId, TypeError> {
    let mut all = vec![];
    for &piece in turned {
        all.push(b.emit(Op::Matmul, attrs!(), &[q, piece])?);
    }
    match all[..] {
        [one] => Ok(one),
        _ => {
            let axis = b.tensor_ty(all[0]).rank() as i64 - 1;
            b.emit(Op::Concat, attrs! { axis: axis }, &all)
        }
    }
}

/// The sum of all pieces of values, of which there is one at least, each row by its share.
pub fn weighted(b: &mut Builder, shares: ValueId, values: &[ValueId]) -> Result<ValueId, TypeError> {
    if let [one] = values {
        return b.emit(Op::Matmul, attrs!(), &[shares, *one]);
    }
    let mut sizes = b.tensor_ty(shares).shape.to_vec();
    let (rank, last) = (sizes.len(), sizes.len() - 1);
    let (steps, mut starts) = (vec![1i64; rank], vec![Dim::constant(0); rank]);
    let mut products = vec![];
    for &piece in values {
        let rows = b.tensor_ty(piece).shape.to_vec();
        sizes[last] = rows[rows.len() - 2].clone();
        let of = attrs! { starts: starts.clone(), sizes: sizes.clone(), steps: steps.clone() };
        let own = b.emit(Op::Slice, of, &[shares])?;
        products.push(b.emit(Op::Matmul, attrs!(), &[own, piece])?);
        starts[last] = starts[last].clone() + sizes[last].clone();
    }
    let mut sum = products[0];
    for &product in &products[1..] {
        sum = b.emit(Op::Add, attrs!(), &[sum, product])?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use crate::plan::decompose::decompose;
    use egret_ir::{Graph, Op, text};

    /// A group of three heads of queries to each of keys and values, which are given token by token.
    const GROUPS: &str = r#"graph @g(%0 "q": f32[1, 2, 3, seq, 4], %1 "keys": f32[past, 1, 2, 4], %2 "values": f32[past, 1, 2, 4], %3 "k": f32[1, 2, seq, 4], %4 "v": f32[1, 2, seq, 4]) -> (%11 "y") {
  %5 = transpose(%1) {perm = [1, 2, 0, 3]} : f32[1, 2, past, 4]
  %6 = transpose(%2) {perm = [1, 2, 0, 3]} : f32[1, 2, past, 4]
  %7 = concat(%5, %3) {axis = 2} : f32[1, 2, past + seq, 4]
  %8 = concat(%6, %4) {axis = 2} : f32[1, 2, past + seq, 4]
  %9 = reshape(%7) {shape = [1, 2, 1, past + seq, 4]} : f32[1, 2, 1, past + seq, 4]
  %10 = reshape(%8) {shape = [1, 2, 1, past + seq, 4]} : f32[1, 2, 1, past + seq, 4]
  %11 = attention(%0, %9, %10, _) {fill = 0.0, safe = 0, scale = 0.5} : f32[1, 2, 3, seq, 4]
}
"#;

    fn joined(source: &str) -> Vec<String> {
        let graph = text::parse(source, &|_| None).expect("a graph");
        let (out, _) = decompose(&graph, true).expect("a graph");
        let mut out: Graph = out.into_owned();
        out.remove_dead();
        let nodes = out.node_ids().into_iter().map(|n| out.node(n));
        nodes.filter(|n| n.op == Op::Concat).map(|n| out.ty(n.results[0]).to_string()).collect()
    }

    #[test]
    fn only_scores_are_joined() {
        assert_eq!(joined(GROUPS), ["f32[1, 2, 3, seq, past + seq]"]);
    }

    #[test]
    fn what_is_read_as_one_is_made_once() {
        // An output, and keys of which a run computes the first ones.
        for other in [
            GROUPS.replace("(%11 \"y\")", "(%11 \"y\", %7 \"present\")"),
            GROUPS.replace(
                "%7 = concat(%5, %3)",
                "%12 = sin(%3) : f32[1, 2, seq, 4]\n  %7 = concat(%12, %5)",
            ),
            GROUPS
                .replace("%5 = transpose(%1)", "%12 = sin(%1) : f32[past, 1, 2, 4]\n  %5 = transpose(%12)"),
        ] {
            let all = joined(&other);
            assert!(all.contains(&"f32[1, 2, past + seq, 4]".to_owned()), "{all:?}");
        }
    }
}
