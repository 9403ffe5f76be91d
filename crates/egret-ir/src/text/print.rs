//! Printing: canonical numbering and one line for each statement.

use super::{INLINE, literal};
use crate::{Attr, Def, Dim, Graph, Node, NodeId, Tensor, ValueId};
use std::collections::HashMap;
use std::fmt::{self, Write};

impl fmt::Display for Graph {
    /// The canonical text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        graph(f, self, 0)?;
        f.write_char('\n')
    }
}

/// How the text of a graph spells its values: their numbers are those of [`crate::text::print`].
pub struct Spelling<'a> {
    graph: &'a Graph,
    order: Vec<NodeId>,
    numbers: HashMap<ValueId, usize>,
    /// Constants that stand before the node at this place of the order; at its end those that are outputs only.
    constants: Vec<Vec<ValueId>>,
}

impl<'a> Spelling<'a> {
    /// Number the values of a graph.
    pub fn new(graph: &'a Graph) -> Spelling<'a> {
        // A graph with a cycle is printed too, to be looked at.
        let order = graph.topological().unwrap_or_else(|_| graph.node_ids());
        let mut numbers = HashMap::new();
        for &v in graph.inputs() {
            let next = numbers.len();
            numbers.insert(v, next);
        }
        let is_const = |v: ValueId| (v.0 as usize) < graph.value_count() && graph.as_const(v).is_some();
        let mut constants = vec![];
        for &n in &order {
            let node = graph.node(n);
            let mut before = vec![];
            for &v in node.operands.iter().flatten() {
                if is_const(v) && !numbers.contains_key(&v) {
                    numbers.insert(v, numbers.len());
                    before.push(v);
                }
            }
            constants.push(before);
            for &v in &node.results {
                numbers.insert(v, numbers.len());
            }
        }
        let mut last = vec![];
        for &v in graph.outputs() {
            if is_const(v) && !numbers.contains_key(&v) {
                numbers.insert(v, numbers.len());
                last.push(v);
            }
        }
        constants.push(last);
        Spelling { graph, order, numbers, constants }
    }

    /// A value; one that no statement defines is `%?` and its id.
    pub fn value(&self, id: ValueId) -> String {
        match self.numbers.get(&id) {
            Some(n) => format!("%{n}"),
            None => format!("%?{}", id.0),
        }
    }

    /// A node on one line, without its regions and sources.
    pub fn node(&self, id: NodeId) -> String {
        let node = self.graph.node(id);
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.statement(&mut out, node);
        out
    }

    fn defined(&self, id: ValueId) -> String {
        let name = match (id.0 as usize) < self.graph.value_count() {
            true => self.graph.value(id).name.as_str(),
            false => "",
        };
        if name.is_empty() { self.value(id) } else { format!("{} {name:?}", self.value(id)) }
    }

    fn statement(&self, f: &mut dyn Write, node: &Node) -> fmt::Result {
        if !node.results.is_empty() {
            let results: Vec<String> = node.results.iter().map(|&v| self.defined(v)).collect();
            write!(f, "{} = ", results.join(", "))?;
        }
        let operands: Vec<String> =
            node.operands.iter().map(|v| v.map_or("_".into(), |v| self.value(v))).collect();
        write!(f, "{}({})", node.op, operands.join(", "))?;
        if !node.attrs.0.is_empty() {
            f.write_str(" {")?;
            for (i, (name, attr)) in node.attrs.0.iter().enumerate() {
                let comma = if i > 0 { ", " } else { "" };
                write!(f, "{comma}{name} = {}", Spelt(attr))?;
            }
            f.write_str("}")?;
        }
        let known = node.results.iter().filter(|v| (v.0 as usize) < self.graph.value_count());
        let types: Vec<String> = known.map(|&v| self.graph.ty(v).to_string()).collect();
        if !types.is_empty() {
            write!(f, " : {}", types.join(", "))?;
        }
        Ok(())
    }
}

fn graph(f: &mut dyn Write, graph_: &Graph, depth: usize) -> fmt::Result {
    let spelling = Spelling::new(graph_);
    let indent = "  ".repeat(depth);
    write!(f, "graph @{}(", Name(&graph_.name))?;
    for (i, &v) in graph_.inputs().iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(f, "{comma}{}: {}", spelling.defined(v), graph_.ty(v))?;
    }
    f.write_str(") -> (")?;
    for (i, (&v, name)) in graph_.outputs().iter().zip(graph_.output_names()).enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(f, "{comma}{}", spelling.value(v))?;
        if !name.is_empty() {
            write!(f, " {name:?}")?;
        }
    }
    f.write_str(") {\n")?;
    for dim in graph_.conditions() {
        writeln!(f, "{indent}  require {dim}")?;
    }
    let constants = |f: &mut dyn Write, ids: &[ValueId]| -> fmt::Result {
        for &v in ids {
            if let Def::Const(t) = &graph_.value(v).def {
                writeln!(f, "{indent}  {} = const {}", spelling.defined(v), Constant(t))?;
            }
        }
        Ok(())
    };
    for (at, &n) in spelling.order.iter().enumerate() {
        constants(f, &spelling.constants[at])?;
        let node = graph_.node(n);
        write!(f, "{indent}  ")?;
        spelling.statement(f, node)?;
        for (i, source) in node.sources.iter().enumerate() {
            write!(f, "{}{source:?}", if i == 0 { " from " } else { ", " })?;
        }
        let names = node.op.info().regions;
        for (i, region) in node.regions.iter().enumerate() {
            write!(f, " {} ", names.get(i).unwrap_or(&"region"))?;
            graph(f, region, depth + 1)?;
        }
        f.write_char('\n')?;
    }
    constants(f, &spelling.constants[spelling.order.len()])?;
    write!(f, "{indent}}}")
}

/// The name of a graph: bare where it is an identifier, else quoted.
struct Name<'a>(&'a str);
impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        let plain = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if plain { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}

/// A tensor: type and elements, or type and hash.
struct Constant<'a>(&'a Tensor);
impl fmt::Display for Constant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.0.ty())?;
        if self.0.len() > INLINE {
            return write!(f, "#{}", self.0.content_hash());
        }
        list(f, &literal::elements(self.0))
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    f.write_str("[")?;
    for (i, item) in items.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(f, "{comma}{item}")?;
    }
    f.write_str("]")
}

impl fmt::Display for Attr {
    /// As in text IR.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Spelt(self).fmt(f)
    }
}

/// A constant as in text IR: type and elements, or type and hash.
pub fn constant(tensor: &Tensor) -> String {
    Constant(tensor).to_string()
}

/// An attribute's value in text IR.
struct Spelt<'a>(&'a Attr);
impl fmt::Display for Spelt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strings = |v: &[String]| v.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>();
        match self.0 {
            Attr::Int(v) => write!(f, "{v}"),
            Attr::Float(v) => f.write_str(&literal::float64(*v)),
            Attr::String(v) => write!(f, "{v:?}"),
            Attr::DType(v) => write!(f, "{v}"),
            Attr::Dim(v) => write!(f, "{v}"),
            Attr::Dims(v) => list::<Dim>(f, v),
            Attr::Ints(v) => list(f, v),
            Attr::Floats(v) => list(f, &v.iter().map(|v| literal::float64(*v)).collect::<Vec<_>>()),
            Attr::Strings(v) => list(f, &strings(v)),
            Attr::Tensor(v) => Constant(v).fmt(f),
            Attr::Type(v) => write!(f, "{v}"),
            Attr::Symbols(v) => {
                let name = |n: &Option<String>| n.as_deref().map_or_else(Dim::unnamed, Dim::symbol);
                list(f, &v.iter().map(name).collect::<Vec<_>>())
            }
        }
    }
}
