//! The extracted graph as terms: each class has its chosen node only, so that patterns are matched against
//! the graph that comes out and not against all equal forms.

use crate::analysis::Facts;
use crate::eqsat::egraph::{ENode, Egraph, Symbol};
use crate::eqsat::extract::Extraction;
use crate::matching::{TermNode, Terms};
use egg::Id;
use std::collections::BTreeMap;

pub(crate) struct Extracted<'a> {
    egraph: &'a Egraph,
    nodes: BTreeMap<Id, &'a ENode>,
}

impl<'a> Extracted<'a> {
    pub fn new(egraph: &'a Egraph, extraction: &'a Extraction) -> Extracted<'a> {
        Extracted { egraph, nodes: extraction.chosen.iter().map(|(&class, node)| (class, node)).collect() }
    }

    /// The chosen node of a class.
    pub fn node(&self, class: Id) -> Option<&'a ENode> {
        self.nodes.get(&self.egraph.find(class)).copied()
    }
}

impl Terms for Extracted<'_> {
    type Id = Id;

    fn facts(&self, id: Id) -> &Facts {
        &self.egraph[id].data
    }

    fn nodes(&self, id: Id) -> impl Iterator<Item = TermNode<'_, Id>> {
        self.node(id).into_iter().filter_map(|node| match self.egraph.analysis.symbols.get(node.symbol) {
            Symbol::Op { op, attrs } => Some(TermNode { key: 0, op: *op, attrs, operands: &node.children }),
            _ => None,
        })
    }

    fn is_absent(&self, id: Id) -> bool {
        self.facts(id).types.is_empty()
    }
}
