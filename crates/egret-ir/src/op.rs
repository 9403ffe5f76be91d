//! The closed set of primitive operations, generated from the op table in `ir-spec/ops`.

use crate::Attr;
use std::fmt;

include!(concat!(env!("OUT_DIR"), "/op_table.rs"));

/// One row of the op table.
#[derive(Debug)]
pub struct OpInfo {
    /// The operation.
    pub op: Op,
    /// Its spelling in text IR.
    pub name: &'static str,
    /// The file of `ir-spec/ops` that it is in.
    pub family: Family,
    /// Operand names; `?x` may be left out, and the last one starts with `*` if any number may follow.
    pub operands: &'static [&'static str],
    /// Number of results; -1 if it depends on the node.
    pub results: i64,
    /// Names of the sub-graphs.
    pub regions: &'static [&'static str],
    /// Further properties.
    pub traits: &'static [Trait],
    /// Bound of the operands' element type: `any`, `number`, `float`, `int`, `bool`, `string`.
    pub types: &'static str,
    /// Element type of the result: `same`, a dtype's name, or `attr NAME`.
    pub result: &'static str,
    /// What a node of it takes its time for.
    pub cost: CostClass,
    /// What fusion may do with its nodes.
    pub fusion: FusionRoles,
    /// Whether its result may lie in its first operand's memory.
    pub aliases: Aliases,
    /// How it rounds results of f16 and bf16.
    pub rounding: Rounding,
    /// Bounds of the elements of a float result, whatever its operands are. An element may be NaN nevertheless.
    pub range: Option<(f64, f64)>,
    /// What its derivative is.
    pub derivative: Derivative,
    /// The attributes, each of which every node has.
    pub attrs: &'static [AttrInfo],
    /// What it does.
    pub doc: &'static str,
}

/// An attribute of an operation.
#[derive(Copy, Clone, Debug)]
pub struct AttrInfo {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: AttrKind,
}

/// What an attribute may be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AttrKind {
    /// An integer.
    Int,
    /// The integer 0 or 1.
    Flag,
    /// A number.
    Float,
    /// Any text.
    String,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An element type.
    DType,
    /// A dim, symbolic or not.
    Dim,
    /// Dims.
    Dims,
    /// Integers.
    Ints,
    /// Numbers.
    Floats,
    /// Texts.
    Strings,
    /// A constant.
    Tensor,
    /// A type.
    Type,
    /// Names of dims that the node declares; no operation has it in the op table.
    Symbols,
}

impl AttrKind {
    /// The kind of the attribute's value, as [`Attr::kind`](crate::Attr::kind) names it: a flag is an `int`, a word a
    /// `string`.
    pub fn value(self) -> &'static str {
        match self {
            AttrKind::Int | AttrKind::Flag => "int",
            AttrKind::Float => "float",
            AttrKind::String | AttrKind::Word(_) => "string",
            AttrKind::DType => "dtype",
            AttrKind::Dim => "dim",
            AttrKind::Dims => "dims",
            AttrKind::Ints => "ints",
            AttrKind::Floats => "floats",
            AttrKind::Strings => "strings",
            AttrKind::Tensor => "tensor",
            AttrKind::Type => "type",
            AttrKind::Symbols => "symbols",
        }
    }

    /// Hold a value against the kind.
    ///
    /// # Errors
    /// What it is, and what it may be.
    pub fn check(self, value: &Attr) -> Result<(), String> {
        match (self, value) {
            (AttrKind::Flag, Attr::Int(v)) if !(0..=1).contains(v) => {
                Err(format!("is {v}, but must be 0 or 1"))
            }
            (AttrKind::Word(words), Attr::String(v)) if !words.contains(&v.as_str()) => {
                Err(format!("is {v:?}, not one of {words:?}"))
            }
            (kind, value) if kind.value() != value.kind() => {
                Err(format!("is of kind {}, not {}", value.kind(), kind.value()))
            }
            _ => Ok(()),
        }
    }
}

/// As in the specification: `flag`, `"none" | "tanh"`, `ints`.
impl fmt::Display for AttrKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttrKind::Flag => f.write_str("flag"),
            AttrKind::Word(words) => {
                let words: Vec<String> = words.iter().map(|w| format!("{w:?}")).collect();
                f.write_str(&words.join(" | "))
            }
            other => f.write_str(other.value()),
        }
    }
}

/// Properties of operations that cross families.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trait {
    /// The two operands may change places.
    Commutative,
    /// The dims of a result depend on the values of operands.
    DataDependent,
    /// Its values are none that compiled code holds: strings, sequences, optionals.
    Host,
}

/// What a node takes its time for. The optimiser's cost model has a formula for each, and each target its numbers.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CostClass {
    /// Nothing: the result is the operand's memory.
    View,
    /// Its arithmetic only, as it mostly ends up in a neighbour's kernel.
    Elementwise,
    /// A copy of every operand, each by a kernel of its own.
    Copies,
    /// The multiply-adds of a matrix product.
    Matmul,
    /// The multiply-adds of a convolution.
    Conv,
    /// Two matrix products whose scores stay in the cache.
    Attention,
    /// One pass over rows that stay in the cache.
    Rows,
    /// Windows, cells and other contractions: more work than memory.
    Windows,
    /// The memory read and written.
    Memory,
}

/// What fusion may do with nodes of an operation that is not elementwise. Its kernel has to be able to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FusionRoles {
    /// Elementwise operations on the result become part of its kernel.
    pub epilogue: bool,
    /// Elementwise operations on the operand become part of its kernel.
    pub prologue: bool,
    /// It only moves elements: loads of another kernel with other strides.
    pub strided: bool,
}

/// Whether the result of an operation may be its first operand's memory, or a part of it, instead of a copy.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Aliases {
    /// It has memory of its own.
    Never,
    /// Where the elements of the result lie together there in their order: a slice of the first rows.
    Contiguous,
    /// Always.
    Always,
}

/// How an operation comes to its results of f16 and bf16: whether f32 may be in between.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// It moves elements.
    Moves,
    /// Every result is an operand's element, with another sign at most, a whole number near it, or 0.
    Chooses,
    /// They are computed as if with real numbers, and rounded once.
    Once,
    /// What is computed on the way is rounded too.
    Steps,
}

/// What the derivative of an operation is. `egret-grad` has the rules.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Derivative {
    /// There is a rule.
    Rule,
    /// That of one operand is another operation on the operand: `sin` has the slope `cos`.
    Slope(Op),
    /// It is zero wherever it exists: the reason.
    Zero(&'static str),
    /// There is none, or no rule for it: the reason.
    None(&'static str),
}

impl OpInfo {
    /// Whether the row names a trait.
    pub fn has(&self, property: Trait) -> bool {
        self.traits.contains(&property)
    }

    /// The attribute of this name.
    pub fn attr(&self, name: &str) -> Option<AttrInfo> {
        self.attrs.iter().find(|a| a.name == name).copied()
    }
}

impl Op {
    /// The row of the op table.
    pub fn info(self) -> &'static OpInfo {
        &TABLE[self as usize]
    }

    /// The spelling in text IR.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The family: elementwise, movement, reduction, ...
    pub fn family(self) -> Family {
        self.info().family
    }

    /// The operation spelt `name`.
    pub fn from_name(name: &str) -> Option<Op> {
        TABLE.binary_search_by(|r| r.name.cmp(name)).ok().map(|i| TABLE[i].op)
    }

    /// Every operation, by name.
    pub fn all() -> impl Iterator<Item = Op> {
        TABLE.iter().map(|r| r.op)
    }

    /// What a node of it takes its time for.
    pub fn cost_class(self) -> CostClass {
        self.info().cost
    }

    /// What fusion may do with nodes of it.
    pub fn fusion(self) -> FusionRoles {
        self.info().fusion
    }

    /// Whether its two operands may change places.
    pub fn is_commutative(self) -> bool {
        self.info().has(Trait::Commutative)
    }

    /// Whether dims of its results depend on the values of its operands.
    pub fn is_data_dependent(self) -> bool {
        self.info().has(Trait::DataDependent)
    }

    /// Whether it works on values that only the host holds: strings, sequences, optionals.
    pub fn is_host_only(self) -> bool {
        self.info().has(Trait::Host)
    }

    /// Whether its results come from a random generator.
    pub fn is_random(self) -> bool {
        self.family() == Family::Random
    }

    /// Whether it has sub-graphs.
    pub fn has_regions(self) -> bool {
        !self.info().regions.is_empty()
    }

    /// Whether the result at an index depends only on the operands at that (broadcast) index.
    pub fn is_elementwise(self) -> bool {
        self.family() == Family::Elementwise
    }
}

impl Family {
    /// Every family, by name.
    pub fn all() -> impl Iterator<Item = Family> {
        FAMILIES.iter().copied()
    }

    /// The name: that of its files.
    pub fn name(self) -> &'static str {
        FAMILY_NAMES[self as usize]
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_at_their_names() {
        for (i, family) in Family::all().enumerate() {
            assert_eq!(family as usize, i);
        }
        let names: Vec<&str> = Family::all().map(Family::name).collect();
        assert!(names.is_sorted() && names.contains(&"gather_scatter"), "{names:?}");
        assert_eq!(Op::Softmax.family().name(), "normalization");
    }

    #[test]
    fn rows_stand_at_their_op() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.op as usize, i);
            assert_eq!(Op::from_name(row.name), Some(row.op));
        }
    }
}
