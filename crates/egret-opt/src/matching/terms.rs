//! The traits that patterns are matched against (`Terms`) and built in (`Sink`), and matches.

use crate::analysis::Facts;
use crate::rules::Rule;
use egret_ir::{Attr, Attrs, DType, Op};

/// Something that holds terms: an e-graph, a graph, a proof.
pub trait Terms {
    /// A value: an e-class, or a single term.
    type Id: Copy + Eq + Ord + std::fmt::Debug;

    /// What is known of a value.
    fn facts(&self, id: Self::Id) -> &Facts;

    /// The nodes that compute a value, of those with one result and no sub-graphs.
    fn nodes(&self, id: Self::Id) -> impl Iterator<Item = TermNode<'_, Self::Id>>;

    /// Whether an operand is omitted.
    fn is_absent(&self, id: Self::Id) -> bool;
}

/// A node that computes a value.
#[derive(Clone, Debug)]
pub struct TermNode<'a, Id> {
    /// Distinguishes it from the other nodes of the value.
    pub key: usize,
    /// Its operation.
    pub op: Op,
    /// Its attributes.
    pub attrs: &'a Attrs,
    /// Its operands.
    pub operands: &'a [Id],
}

/// Something that new terms can be added to.
pub trait Sink: Terms {
    /// Add a node with one result.
    ///
    /// # Errors
    /// Its operands' types break a rule of the operation.
    fn add_node(&mut self, op: Op, attrs: Attrs, operands: &[Option<Self::Id>])
    -> Result<Self::Id, String>;

    /// Whether the element type of constants holds what a rule would make of them. Whoever only follows an application need not ask.
    ///
    /// # Errors
    /// It does not: why.
    fn fits(&self, _op: Op, _operands: &[Option<Self::Id>]) -> Result<(), String> {
        Ok(())
    }

    /// Add a scalar constant.
    ///
    /// # Errors
    /// An element type that rules do not make constants of.
    fn add_scalar(&mut self, value: f64, dtype: DType) -> Result<Self::Id, String>;
}

/// The binding of a value variable.
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
    /// The matched nodes in the order of the pattern: value, key of the node, whether its two operands were
    /// swapped.
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

    /// The match with list variables bound to their elements at this index.
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
