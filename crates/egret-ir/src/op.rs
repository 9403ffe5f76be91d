//! The closed set of primitive operations, generated from the op table in `ir-spec/ops`.

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
    /// Properties: `elementwise`, `commutative`, `movement`, `view`, `contraction`, `window`, `irregular`,
    /// `data_dependent`, `recurrent`, `random`, `control`, `host`.
    pub traits: &'static [&'static str],
    /// Bound of the operands' element type: `any`, `number`, `float`, `int`, `bool`, `string`.
    pub types: &'static str,
    /// Element type of the result: `same`, a dtype's name, or `attr NAME`.
    pub result: &'static str,
    /// Attribute names and kinds (`int`, `float`, `string`, `dtype`, `dim`, `dims`, `ints`, `floats`, `strings`, `tensor`, `type`).
    pub attrs: &'static [(&'static str, &'static str)],
    /// What it does.
    pub doc: &'static str,
}

impl OpInfo {
    /// Whether the row names the trait `name`.
    pub fn has_trait(&self, name: &str) -> bool {
        self.traits.contains(&name)
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
