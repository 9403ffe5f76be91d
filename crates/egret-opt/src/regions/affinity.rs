//! Pattern affinity: how often two operations are adjacent in patterns of rules. A cut between such nodes
//! may hide a match.

use crate::rules::{OpGroup, OpPattern, Pattern, Rule};
use egret_ir::Op;
use std::sync::OnceLock;

/// For each pair of operations the number of places in patterns where one is an operand of the other.
pub(crate) struct Affinity {
    pairs: Vec<i64>,
    ops: usize,
}

impl Affinity {
    /// Counts the pairs in left-hand sides of rules.
    pub fn of<'a>(rules: impl Iterator<Item = &'a Rule>) -> Affinity {
        let ops = all().len();
        let mut affinity = Affinity { pairs: vec![0; ops * ops], ops };
        rules.for_each(|rule| affinity.add(&rule.lhs, None));
        affinity
    }

    /// In how many places of patterns `below` computes an operand of `above`.
    pub fn strength(&self, above: Op, below: Op) -> i64 {
        self.pairs[above as usize * self.ops + below as usize]
    }

    fn add(&mut self, pattern: &Pattern, above: Option<&[Op]>) {
        match pattern {
            Pattern::Each(inner) => self.add(inner, above),
            Pattern::Node(node) => {
                let one;
                let here = match &node.op {
                    OpPattern::One(op) => {
                        one = [*op];
                        &one[..]
                    }
                    OpPattern::Any(Some(group), _) => group_ops(*group),
                    OpPattern::Any(None, _) => all(),
                };
                for &a in above.unwrap_or_default() {
                    here.iter().for_each(|&b| self.pairs[a as usize * self.ops + b as usize] += 1);
                }
                node.args.iter().for_each(|arg| self.add(arg, Some(here)));
            }
            Pattern::Value(_) | Pattern::Splat(_) | Pattern::Number(_) | Pattern::Absent => {}
        }
    }
}

fn all() -> &'static [Op] {
    static ALL: OnceLock<Vec<Op>> = OnceLock::new();
    ALL.get_or_init(|| Op::all().collect())
}

fn group_ops(group: OpGroup) -> &'static [Op] {
    static GROUPS: OnceLock<Vec<(OpGroup, Vec<Op>)>> = OnceLock::new();
    let groups = GROUPS.get_or_init(|| {
        let of = |g: OpGroup| all().iter().copied().filter(|op| g.holds(*op)).collect();
        OpGroup::NAMES.iter().map(|&(_, g)| (g, of(g))).collect()
    });
    groups.iter().find(|(g, _)| *g == group).map_or(all(), |(_, ops)| ops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::parse;

    #[test]
    fn pairs_count_from_user_to_operand_only() {
        let rules =
            parse("a: (neg (transpose perm=?p (unary@f ?x))) => (neg ?x) exact", "mine.rules", "fuse", &[])
                .unwrap();
        let affinity = Affinity::of(rules.iter());
        assert_eq!(
            (affinity.strength(Op::Neg, Op::Transpose), affinity.strength(Op::Transpose, Op::Exp)),
            (1, 1)
        );
        assert_eq!(
            (affinity.strength(Op::Neg, Op::Matmul), affinity.strength(Op::Transpose, Op::Matmul)),
            (0, 0)
        );
    }
}
