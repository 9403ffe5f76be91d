//! Value numbering of node kinds: nodes with equal operation, attributes and result types have equal
//! numbers. Repeated blocks are found and compared by these numbers.

use egret_ir::{Attr, Attrs, Graph, Node, NodeId, Op, Type};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

/// Numbers of node kinds and of types.
#[derive(Default)]
pub(crate) struct Numbering {
    /// The keys are full encodings, so that a hash collision does no harm.
    keys: HashMap<Vec<u8>, u32>,
    nodes: Vec<u32>,
    encoding: Encoding,
}

impl Numbering {
    /// Numbers these nodes.
    pub fn of(graph: &Graph, order: &[NodeId]) -> Numbering {
        let mut numbering = Numbering::default();
        numbering.nodes.resize(order.iter().map(|n| n.0 as usize + 1).max().unwrap_or(0), 0);
        for &n in order {
            numbering.nodes[n.0 as usize] = numbering.number(|s| encode_node(s, graph, graph.node(n)));
        }
        numbering
    }

    /// The number of a node.
    pub fn node(&self, n: NodeId) -> u32 {
        self.nodes[n.0 as usize]
    }

    /// The number of a type.
    pub fn ty(&mut self, ty: &Type) -> u32 {
        self.number(|s| ty.hash(s))
    }

    fn number(&mut self, encode: impl FnOnce(&mut Encoding)) -> u32 {
        self.encoding.0.clear();
        encode(&mut self.encoding);
        if let Some(&is) = self.keys.get(&self.encoding.0) {
            return is;
        }
        let new = self.keys.len() as u32;
        self.keys.insert(self.encoding.0.clone(), new);
        new
    }
}

/// A "hasher" that keeps all bytes it is given: an encoding instead of a hash.
#[derive(Default)]
struct Encoding(Vec<u8>);

impl Hasher for Encoding {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

fn encode_node(s: &mut Encoding, graph: &Graph, node: &Node) {
    encode_head(s, node.op, &node.attrs);
    s.write_usize(node.results.len());
    node.results.iter().for_each(|&v| graph.ty(v).hash(s));
}

/// Encodes operation and attributes. The leading `0xff` distinguishes this from a type, which is encoded
/// without it.
fn encode_head(s: &mut Encoding, op: Op, attrs: &Attrs) {
    s.write_u8(0xff);
    (op as usize).hash(s);
    for (name, attr) in &attrs.0 {
        name.hash(s);
        encode_attr(s, attr);
    }
}

fn encode_attr(s: &mut Encoding, attr: &Attr) {
    match attr {
        Attr::Int(v) => v.hash(s),
        Attr::Float(v) => v.to_bits().hash(s),
        Attr::String(v) => v.hash(s),
        Attr::DType(v) => v.hash(s),
        Attr::Dim(v) => v.hash(s),
        Attr::Dims(v) => v.hash(s),
        Attr::Ints(v) => v.hash(s),
        Attr::Floats(v) => {
            s.write_usize(v.len());
            v.iter().for_each(|v| v.to_bits().hash(s));
        }
        Attr::Strings(v) => v.hash(s),
        Attr::Tensor(v) => v.content_hash().hash(s),
        Attr::Type(v) => v.hash(s),
        Attr::Symbols(v) => v.hash(s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_ir::text;

    #[test]
    fn numbers_differ_if_attributes_or_types_do() {
        let graph = text::parse(
            "graph @g(%0: f32[2, 2]) -> (%4) { %1 = transpose(%0) {perm = [1, 0]} %2 = transpose(%1) {perm = [1, 0]} \
             %3 = transpose(%2) {perm = [0, 1]} %4 = neg(%3) }",
            &|_| None,
        )
        .unwrap();
        let order = graph.topological().unwrap();
        let numbering = Numbering::of(&graph, &order);
        let kind = |i: usize| numbering.node(order[i]);
        assert_eq!(kind(0), kind(1));
        assert_ne!(kind(1), kind(2));
        assert_ne!(kind(2), kind(3));
    }
}
