//! Putting a sub-graph into the graph around it.

use crate::error::ImportError;
use egret_ir::{AT_MOST, Attr, Attrs, Builder, DECLARED, Dim, Graph, Type, ValueId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Symbols of the sub-graph and what they are outside.
#[derive(Default)]
struct Symbols(BTreeMap<String, Dim>);

impl Symbols {
    fn learn(&mut self, inner: &Type, outer: &Type) {
        if let (Type::Tensor(i), Type::Tensor(o)) = (inner, outer) {
            for (i, o) in i.shape.iter().zip(&o.shape) {
                if let Some(name) = i.as_symbol() {
                    self.0.entry(name.to_owned()).or_insert_with(|| o.clone());
                }
            }
        }
    }

    fn dim(&self, inner: &Dim) -> Dim {
        let outer = |name: &str| Some(self.0.get(name).cloned().unwrap_or_else(|| Dim::symbol(name)));
        inner.map_symbols(&outer).unwrap_or_else(|| inner.clone())
    }

    fn attrs(&self, attrs: &Attrs) -> Attrs {
        let mut attrs = attrs.clone();
        for value in attrs.0.values_mut() {
            match value {
                Attr::Dim(d) => *d = self.dim(d),
                Attr::Dims(ds) => ds.iter_mut().for_each(|d| *d = self.dim(d)),
                _ => {}
            }
        }
        // What it declares gets a new name with each copy.
        attrs.0.remove(DECLARED);
        attrs.0.remove(AT_MOST);
        attrs
    }
}

/// Add the nodes of `graph`, fed with `operands`; its outputs as values of the builder. They come from the ONNX nodes that the builder names;
/// where it names none, from their own.
pub(crate) fn inline(
    builder: &mut Builder,
    graph: &Graph,
    operands: &[ValueId],
) -> Result<Vec<ValueId>, ImportError> {
    if graph.inputs().len() != operands.len() {
        return Err(ImportError::invalid(format!(
            "a sub-graph takes {} values, but is given {}",
            graph.inputs().len(),
            operands.len()
        )));
    }
    let mut symbols = Symbols::default();
    let mut values: HashMap<ValueId, ValueId> = HashMap::new();
    for (&inner, &outer) in graph.inputs().iter().zip(operands) {
        symbols.learn(graph.ty(inner), builder.graph.ty(outer));
        values.insert(inner, outer);
    }
    let order = graph
        .topological()
        .map_err(|n| ImportError::invalid(format!("a sub-graph has a cycle through {n}")))?;
    let own_sources = builder.sources().is_empty();
    for id in order {
        let node = graph.node(id);
        if own_sources {
            builder.set_sources(node.sources.clone());
        }
        let operands: Vec<Option<ValueId>> =
            node.operands.iter().map(|v| v.map(|v| outside(builder, graph, &mut values, v))).collect();
        let mut regions = node.regions.clone();
        regions.iter_mut().for_each(|r| r.map_free_symbols(&|name| symbols.0.get(name).cloned()));
        let results = builder.emit_node(node.op, symbols.attrs(&node.attrs), &operands, regions)?;
        for (&inner, &outer) in node.results.iter().zip(&results) {
            // Also a data-dependent dim has a symbol of its own on either side.
            symbols.learn(graph.ty(inner), builder.graph.ty(outer));
            values.insert(inner, outer);
        }
    }
    if own_sources {
        builder.set_sources(BTreeSet::new());
    }
    Ok(graph.outputs().iter().map(|&v| outside(builder, graph, &mut values, v)).collect())
}

/// The value outside; constants are brought over where they are used.
fn outside(
    builder: &mut Builder,
    graph: &Graph,
    values: &mut HashMap<ValueId, ValueId>,
    inner: ValueId,
) -> ValueId {
    if let Some(&outer) = values.get(&inner) {
        return outer;
    }
    match graph.as_const(inner) {
        Some(t) => {
            let outer = builder.constant(t.clone());
            values.insert(inner, outer);
            outer
        }
        // Inputs and results of earlier nodes are in the map: the order is topological.
        None => inner,
    }
}
