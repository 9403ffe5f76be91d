//! What patterns are matched against: anything that has terms (an e-graph, a graph, the terms of a proof), and a match in it.

use crate::analysis::Facts;
use crate::rules::Rule;
use egret_ir::{Attr, Attrs, DType, Op};

/// Something that has terms to match.
pub trait Terms {
    /// A value: a class of equal terms, or a term.
    type Id: Copy + Eq + Ord + std::fmt::Debug;

    /// What is known of a value.
    fn facts(&self, id: Self::Id) -> &Facts;

    /// The nodes with one result and no sub-graphs that compute a value.
    fn nodes(&self, id: Self::Id) -> Vec<TermNode<'_, Self::Id>>;

    /// Whether an operand is one that is left out.
    fn is_absent(&self, id: Self::Id) -> bool;
}

/// A node that computes a value.
#[derive(Clone, Debug)]
pub struct TermNode<'a, Id> {
    /// What tells it from the other nodes of the value.
    pub key: usize,
    /// Its operation.
    pub op: Op,
    /// Its attributes.
    pub attrs: &'a Attrs,
    /// Its operands.
    pub operands: &'a [Id],
}

/// Something that terms can be added to.
pub trait Sink: Terms {
    /// Add a node with one result.
    ///
    /// # Errors
    /// Its operands' types break a rule of the operation.
    fn add_node(&mut self, op: Op, attrs: Attrs, operands: &[Option<Self::Id>])
    -> Result<Self::Id, String>;

    /// Add a scalar constant.
    ///
    /// # Errors
    /// Numbers of this element type are not made by rules.
    fn add_scalar(&mut self, value: f64, dtype: DType) -> Result<Self::Id, String>;
}

/// What a value variable is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bound<Id> {
    /// One value.
    One(Id),
    /// The values of `pattern..`.
    List(Vec<Id>),
}

/// A match of a rule's left-hand side.
#[derive(Clone, Debug)]
pub struct Match<Id> {
    /// By index of value variable.
    pub values: Vec<Option<Bound<Id>>>,
    /// By index of attribute variable.
    pub attrs: Vec<Option<Attr>>,
    /// By index of `..?k`.
    pub spreads: Vec<Option<Attrs>>,
    /// By index of operation variable.
    pub ops: Vec<Option<Op>>,
    /// The nodes matched, in the order of the pattern: the value, which of its nodes, and whether its two operands were
    /// taken in the other order.
    pub matched: Vec<(Id, usize, bool)>,
}

impl<Id: Copy + Eq> Match<Id> {
    pub(super) fn empty(rule: &Rule) -> Match<Id> {
        let v = &rule.vars;
        Match {
            values: vec![None; v.values.len()],
            attrs: vec![None; v.attrs.len()],
            spreads: vec![None; v.spreads.len()],
            ops: vec![None; v.ops.len()],
            matched: vec![],
        }
    }

    /// The match with the variables of a list bound to its elements of this number.
    pub(super) fn at_element(&self, vars: &[usize], i: usize) -> Match<Id> {
        let mut one = self.clone();
        for &v in vars {
            if let Some(Bound::List(ids)) = &self.values[v] {
                one.values[v] = ids.get(i).map(|&id| Bound::One(id));
            }
        }
        one
    }
}
