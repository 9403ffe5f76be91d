//! The e-graph of a region: egg's, over interned symbols (an operation with attributes, or a leaf), with
//! `Facts` as the data of its classes. Constants are kept beside it, each with a symbol.

use crate::analysis::magnitude;
use crate::analysis::{Facts, attrs_key, op_facts, scalar};
use crate::cost::CostModel;
use crate::matching::{Sink, TermNode, Terms};
use crate::regions::Constant;
use egg::{Analysis, DidMerge, EGraph, Id, Language};
use egret_ir::{Attrs, DType, Op, Tensor, Type};
use rustc_hash::FxHashMap;

/// A node without its operands.
#[derive(Clone, Debug)]
pub enum Symbol {
    /// An operation with attributes.
    Op {
        /// Which.
        op: Op,
        /// All attributes of the op table.
        attrs: Attrs,
    },
    /// A node that no rule matches: it has several results or sub-graphs, is random, or inference gives
    /// another type.
    Opaque {
        /// Its index in the region.
        node: usize,
        /// Its results' types.
        types: Vec<Type>,
    },
    /// An input of the region.
    Input(usize),
    /// A constant, by its place in [`Symbols::constants`].
    Const(usize),
    /// One of the results of an opaque node.
    Project(usize),
    /// An operand that is left out.
    Absent,
}

/// Interned symbols.
#[derive(Default)]
pub struct Symbols {
    list: Vec<Symbol>,
    keys: FxHashMap<String, u32>,
    /// What is known of the inputs of the region.
    pub inputs: Vec<Facts>,
    /// The constants; those of the region come first, with the same indices.
    pub constants: Vec<Constant>,
    constant_keys: FxHashMap<egret_ir::ContentHash, usize>,
}

impl Symbols {
    /// With the inputs and constants of a region.
    pub fn with(inputs: &[Facts], constants: &[Constant]) -> Symbols {
        let mut keys = FxHashMap::default();
        for (i, constant) in constants.iter().enumerate() {
            if let Constant::Known(t) = constant {
                keys.entry(t.content_hash()).or_insert(i);
            }
        }
        Symbols {
            inputs: inputs.to_vec(),
            constants: constants.to_vec(),
            constant_keys: keys,
            ..Symbols::default()
        }
    }

    /// The symbol of a constant of the region.
    pub fn given(&mut self, i: usize) -> u32 {
        match &self.constants[i] {
            Constant::Known(t) => self.constant(t.clone()),
            Constant::Weight(..) => self.intern(Symbol::Const(i)),
        }
    }

    /// The symbol of a number.
    pub fn get(&self, i: u32) -> &Symbol {
        &self.list[i as usize]
    }

    /// The number of a symbol.
    pub fn intern(&mut self, symbol: Symbol) -> u32 {
        let key = match &symbol {
            Symbol::Op { op, attrs } => attrs_key(*op, attrs),
            Symbol::Opaque { node, .. } => format!("#{node}"),
            Symbol::Input(i) => format!("%{i}"),
            Symbol::Const(i) => format!("${i}"),
            Symbol::Project(i) => format!(".{i}"),
            Symbol::Absent => "_".into(),
        };
        *self.keys.entry(key).or_insert_with(|| {
            self.list.push(symbol);
            self.list.len() as u32 - 1
        })
    }

    /// The symbol of a constant whose elements are known; equal constants have one symbol.
    pub fn constant(&mut self, tensor: Tensor) -> u32 {
        let next = self.constants.len();
        let at = *self.constant_keys.entry(tensor.content_hash()).or_insert(next);
        if at == next {
            self.constants.push(Constant::Known(tensor));
        }
        self.intern(Symbol::Const(at))
    }
}

/// A node of the e-graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ENode {
    /// Its symbol.
    pub symbol: u32,
    /// Its operands.
    pub children: Box<[Id]>,
}

impl Language for ENode {
    type Discriminant = u32;

    fn discriminant(&self) -> u32 {
        self.symbol
    }

    fn matches(&self, other: &ENode) -> bool {
        self.symbol == other.symbol && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

/// The e-graph's analysis: keeps the facts of classes.
pub struct Knowledge {
    /// The symbols of nodes.
    pub symbols: Symbols,
    /// Whether facts keep the elements of constants of any size.
    pub deep: bool,
    /// What nodes cost.
    pub cost: &'static CostModel,
    /// Contradictions between united classes: the fault of a rule.
    pub errors: Vec<String>,
}

/// The e-graph of a region.
pub type Egraph = EGraph<ENode, Knowledge>;

impl Analysis<ENode> for Knowledge {
    type Data = Facts;

    fn make(egraph: &mut EGraph<ENode, Self>, node: &ENode, _: Id) -> Facts {
        let knowledge = &egraph.analysis;
        let children: Vec<&Facts> = node.children.iter().map(|&c| &egraph[c].data).collect();
        match facts_of(&knowledge.symbols, node.symbol, &children, knowledge.deep) {
            Ok(facts) => facts,
            Err(e) => {
                egraph.analysis.errors.push(e);
                Facts::default()
            }
        }
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        match a.merge(b) {
            Ok((mine, theirs)) => DidMerge(mine, theirs),
            Err(e) => {
                self.errors.push(e.0);
                DidMerge(false, false)
            }
        }
    }
}

/// The facts of a node from those of its operands.
///
/// # Errors
/// The operands do not fit the operation.
pub fn facts_of(symbols: &Symbols, symbol: u32, children: &[&Facts], deep: bool) -> Result<Facts, String> {
    match symbols.get(symbol) {
        Symbol::Input(i) => Ok(symbols.inputs[*i].clone()),
        Symbol::Const(i) => Ok(match &symbols.constants[*i] {
            Constant::Known(t) => Facts::constant(t, deep),
            Constant::Weight(ty, summary) => Facts::weight(ty.clone(), *summary),
        }),
        Symbol::Absent => Ok(Facts::default()),
        Symbol::Opaque { types, .. } => Ok(Facts { types: types.clone(), ..Facts::default() }),
        Symbol::Project(i) => {
            Ok(Facts::of(children.first().and_then(|c| c.types.get(*i)).cloned().ok_or("no such result")?))
        }
        Symbol::Op { op, attrs } => op_facts(*op, attrs, children, deep),
    }
}

/// Queries beside egg's own.
pub(crate) trait Ask {
    /// The operation of a node, unless it is a leaf or opaque.
    fn op(&self, node: &ENode) -> Option<Op>;
}

impl Ask for Egraph {
    fn op(&self, node: &ENode) -> Option<Op> {
        match self.analysis.symbols.get(node.symbol) {
            Symbol::Op { op, .. } => Some(*op),
            _ => None,
        }
    }
}

impl Terms for Egraph {
    type Id = Id;

    fn facts(&self, id: Id) -> &Facts {
        &self[id].data
    }

    fn nodes(&self, id: Id) -> impl Iterator<Item = TermNode<'_, Id>> {
        let nodes = self[id].nodes.iter().enumerate();
        nodes.filter_map(|(key, n)| match self.analysis.symbols.get(n.symbol) {
            Symbol::Op { op, attrs } => Some(TermNode { key, op: *op, attrs, operands: &n.children }),
            _ => None,
        })
    }

    fn is_absent(&self, id: Id) -> bool {
        self[id].data.types.is_empty()
    }
}

impl Sink for Egraph {
    fn fits(&self, op: Op, operands: &[Option<Id>]) -> Result<(), String> {
        let known: Vec<&Facts> = operands.iter().flatten().map(|&id| &self[id].data).collect();
        let Some(dtype) =
            known.first().and_then(|f| f.dtype()).filter(|_| known.iter().all(|f| f.constant))
        else {
            return Ok(());
        };
        let known: Vec<_> = known.iter().map(|f| f.summary.magnitude).collect();
        magnitude::fits(op, dtype, &known)
    }

    fn add_node(&mut self, op: Op, attrs: Attrs, operands: &[Option<Id>]) -> Result<Id, String> {
        let children: Box<[Id]> = operands
            .iter()
            .map(|v| match v {
                Some(id) => self.find(*id),
                None => {
                    let symbol = self.analysis.symbols.intern(Symbol::Absent);
                    self.add(ENode { symbol, children: Box::default() })
                }
            })
            .collect();
        let facts: Vec<&Facts> = children.iter().map(|&c| &self[c].data).collect();
        op_facts(op, &attrs, &facts, false)?;
        let symbol = self.analysis.symbols.intern(Symbol::Op { op, attrs });
        Ok(self.add(ENode { symbol, children }))
    }

    fn add_scalar(&mut self, value: f64, dtype: DType) -> Result<Id, String> {
        let symbol = self.analysis.symbols.constant(scalar(value, dtype)?);
        Ok(self.add(ENode { symbol, children: Box::default() }))
    }
}
