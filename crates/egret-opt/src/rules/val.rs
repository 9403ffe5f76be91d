//! What expressions of rules come to.

use crate::analysis::Facts;
use egret_ir::{Attr, Attrs};

/// The result of an expression.
#[derive(Clone, Debug)]
pub enum Val<'a> {
    /// A value of an attribute.
    Attr(Attr),
    /// The same, of a match or a rule.
    Given(&'a Attr),
    /// What is known of a value.
    Facts(&'a Facts),
    /// What is known of the values of a list.
    List(Vec<&'a Facts>),
    /// All attributes of a node.
    Attrs(&'a Attrs),
    /// Whether something holds.
    Bool(bool),
}

impl Val<'_> {
    /// The value of an attribute, if it is one.
    pub fn attr(&self) -> Option<&Attr> {
        match self {
            Val::Attr(a) => Some(a),
            Val::Given(a) => Some(a),
            _ => None,
        }
    }

    /// The same, as one of its own.
    pub fn into_attr(self) -> Option<Attr> {
        match self {
            Val::Attr(a) => Some(a),
            Val::Given(a) => Some(a.clone()),
            _ => None,
        }
    }
}
