//! The text form of graphs (`.egret`): a printer whose output is canonical, and the parser that reads it back.
//!
//! The grammar is `ir-spec/grammar.ebnf`. Values are numbered in the order of the text, constants stand before their
//! first use, nodes stand in topological order: graphs that are equal print equally, and `print(parse(print(g)))` is
//! `print(g)`. Constants of more than [`INLINE`] elements are spelt by type and hash, so parsing needs a resolver.

mod lex;
mod literal;
mod parse;
mod print;
mod syntax;

use crate::{Attr, Def, Dim, Graph, Tensor};
use std::collections::BTreeMap;
use std::fmt;

pub use print::{Spelling, constant};

/// Constants of at most this many elements are spelt out.
pub const INLINE: usize = 16;

/// Finds a constant by the hex digits of its hash that text IR shows.
pub type Resolver<'a> = dyn Fn(&str) -> Option<Tensor> + 'a;

/// Where text is no graph, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was expected, and what is there.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}
impl std::error::Error for ParseError {}

/// The canonical text of a graph.
pub fn print(graph: &Graph) -> String {
    graph.to_string()
}

/// Read one graph. Types are taken as spelt; [`crate::verify`] holds them against inference.
///
/// # Errors
/// The place and what was expected.
pub fn parse(text: &str, resolve: &Resolver) -> Result<Graph, ParseError> {
    parse::graph(text, resolve)
}

/// Read one dim: `2*seq + 1`.
///
/// # Errors
/// The place and what was expected.
pub fn parse_dim(text: &str) -> Result<Dim, ParseError> {
    parse::dim(text)
}

/// Read one constant: `f32[2] [0.5, 1.0]`.
///
/// # Errors
/// The place and what was expected.
pub fn parse_tensor(text: &str, resolve: &Resolver) -> Result<Tensor, ParseError> {
    parse::tensor(text, resolve)
}

/// The large constants of a graph, of its regions and attributes, by the spelling that a [`Resolver`] is asked for.
pub fn constants(graph: &Graph) -> BTreeMap<String, Tensor> {
    let mut found = BTreeMap::new();
    collect(graph, &mut found);
    found
}

fn collect(graph: &Graph, found: &mut BTreeMap<String, Tensor>) {
    let mut add = |t: &Tensor| {
        if t.len() > INLINE {
            found.insert(t.content_hash().to_string(), t.clone());
        }
    };
    for id in graph.value_ids() {
        if let Def::Const(t) = &graph.value(id).def {
            add(t);
        }
    }
    for id in graph.node_ids() {
        for attr in graph.node(id).attrs.0.values() {
            if let Attr::Tensor(t) = attr {
                add(t);
            }
        }
    }
    for id in graph.node_ids() {
        for region in &graph.node(id).regions {
            collect(region, found);
        }
    }
}

#[cfg(test)]
mod tests;
