//! Whether the sizes that a run tells leave a valid graph: a window fits its axis, a reshape keeps the number of elements.

use egret_ir::{DimEnv, Graph, NodeId, Op, Rule, verify};

/// Whether a graph whose sizes are known is valid, its branches and bodies for the sizes that they are given among it. What does not fit may lie in
/// a branch that is not taken, or in a loop without rounds.
pub(super) fn fits(graph: &Graph) -> bool {
    // What has nothing to do with sizes is a bug of Egret, and told as that.
    let of_sizes = |rule| matches!(rule, Rule::Sizes | Rule::Typing | Rule::RecordedTypes);
    let broken = verify(graph).err().is_some_and(|errors| errors.iter().any(|e| of_sizes(e.rule)));
    !broken && graph.node_ids().into_iter().all(|n| bodies_fit(graph, n))
}

fn bodies_fit(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    // The input of a sub-graph from which on the inputs have the same sizes whenever it runs, and the operand that is the first of them.
    let (inside, outside) = match node.op {
        Op::If => (0, 1),
        Op::Loop => {
            let captured = 2 + node.attrs.index("carried");
            (captured, captured)
        }
        _ => return true,
    };
    node.regions.iter().all(|region| {
        let mut sizes = DimEnv::new();
        for (&v, given) in region.inputs().iter().skip(inside).zip(node.operands.iter().skip(outside)) {
            let (Some(taken), Some(given)) = (region.ty(v).as_tensor(), given) else { continue };
            let given = graph.ty(*given).fixed_dims();
            for (dim, given) in taken.shape.iter().zip(given) {
                if let (Some(symbol), Some(size)) = (dim.as_symbol(), given.as_const()) {
                    sizes.entry(symbol.to_owned()).or_insert(size);
                }
            }
        }
        // What is carried may have other sizes in another round.
        for &v in region.inputs().iter().take(inside) {
            for dim in region.ty(v).fixed_dims() {
                dim.as_symbol().map(|symbol| sizes.remove(symbol));
            }
        }
        let mut region = region.clone();
        region.bind_dims(&sizes);
        fits(&region)
    })
}
