//! What has to hold for a size to have a value, in words: why a run fails.

use crate::ir::{Need, Program};
use crate::sizes::{Extent, Size, SizeId, SizeOp, spell};
use std::collections::BTreeMap;

/// Between two sizes that have to be equal.
const EQUAL: &str = " to be equal to ";

/// Nodes that a condition names.
const NAMED: usize = 3;

/// The conditions of a program. Their numbers begin with 1: those of [earlier](Program::earlier) programs, of sizes, in order, and behind them those of
/// calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// The sizes that have one: without a value where it does not hold. Sums and products have none, which only overflow.
    sizes: BTreeMap<SizeId, u32>,
    /// The number of the first need of each call that has some.
    calls: BTreeMap<usize, u32>,
    /// All of them in words: "node `Slice:/tail` needs `seq` to be at least 8". The dims in it are spelt between backticks.
    pub texts: Vec<String>,
    /// The places in `texts` of those that every run is held to and that say the most of a dim, as a number: "`seq` to be at most 512".
    pub limits: Vec<usize>,
}

impl Conditions {
    /// Those of a program.
    pub fn of(program: &Program) -> Conditions {
        let mut out = Conditions { texts: program.earlier.clone(), ..Conditions::default() };
        let words = Words { program, together: &[] };
        for (id, size) in (0..).map(SizeId).zip(&program.sizes) {
            if let Some(needs) = words.needs(Some(id), size) {
                let nodes = program.needed.get(&id).map_or(&[][..], |nodes| nodes);
                let number = out.number(program, vec![said(nodes, &needs)]);
                out.sizes.insert(id, number);
                if words.most(size).is_some_and(|(id, most)| !words.is_at_most(id, most)) {
                    out.limits.push(number as usize - 1);
                }
            }
        }
        for (i, call) in program.calls.iter().enumerate().filter(|(_, call)| !call.needs.is_empty()) {
            let words = Words { program, together: &call.needs };
            let text = |Need { size, nodes }: &Need| {
                let needs = words.needs(None, size).unwrap_or_else(|| "sizes that can be counted".into());
                said(nodes, &needs)
            };
            let number = out.number(program, call.needs.iter().map(text).collect());
            out.calls.insert(i, number);
        }
        out
    }

    /// The number of the first of some conditions that follow one another.
    fn number(&mut self, program: &Program, texts: Vec<String>) -> u32 {
        let place = program.earlier.windows(texts.len()).position(|said| said == texts);
        let place = place.unwrap_or_else(|| {
            let next = self.texts.len();
            self.texts.extend(texts);
            next
        });
        place as u32 + 1
    }

    /// The number of the condition of a size; 0 for none.
    pub fn of_size(&self, id: SizeId) -> u32 {
        self.sizes.get(&id).copied().unwrap_or(0)
    }

    /// The number of the first need of a call, if it has some.
    pub fn of_call(&self, call: usize) -> Option<u32> {
        self.calls.get(&call).copied()
    }

    /// The calls that have needs, and the numbers of their first ones.
    pub fn calls(&self) -> impl Iterator<Item = (usize, u32)> {
        self.calls.iter().map(|(&call, &first)| (call, first))
    }
}

/// What nodes need, and what can be done where they do not have it: what a loop itself, and none of its body, needs to be equal is a dim of what it
/// carries, which a loop for free dims keeps from round to round.
fn said(nodes: &[String], needs: &str) -> String {
    let is_loop = |node: &String| node.starts_with("Loop:") || node.starts_with("Scan:");
    let equal = needs.contains(EQUAL) && !needs.contains(" or one of them");
    let advice = match nodes {
        [node] if is_loop(node) && equal => {
            " in every round; where a round changes it, compile the model for that size (--dim)"
        }
        _ => "",
    };
    format!("{} {needs}{advice}", who(nodes))
}

/// The nodes that need something.
fn who(nodes: &[String]) -> String {
    let names: Vec<String> = nodes.iter().take(NAMED).map(|n| format!("`{n}`")).collect();
    match nodes.len() {
        0 => "the model needs".to_owned(),
        1 => format!("node {} needs", names[0]),
        n if n > NAMED => format!("nodes {} and {} more need", names.join(", "), n - NAMED),
        _ => format!("nodes {} need", names.join(", ")),
    }
}

struct Words<'p> {
    program: &'p Program,
    /// What is needed beside the sizes of the program.
    together: &'p [Need],
}

impl Words<'_> {
    /// What has to hold for a size, of this number if it has one, to have a value.
    fn needs(&self, id: Option<SizeId>, size: &Size) -> Option<String> {
        let is_there = |size: &Size| {
            self.program.sizes.contains(size) || self.together.iter().any(|need| need.size == *size)
        };
        match *size {
            Size::Symbol(_) => Some(format!("{} to be at least 0", self.dim(id?))),
            Size::Op(SizeOp::Sub, a, b) if is_there(&Size::Op(SizeOp::Sub, b, a)) => {
                Some(format!("{}{EQUAL}{}", self.dim(a), self.dim(b)))
            }
            Size::Op(SizeOp::Sub, a, b) if self.is_least_of(b, a) => None,
            Size::Op(SizeOp::Sub, a, b) => match (self.most(size), self.constant(b)) {
                (Some((id, most)), _) => Some(format!("{} to be at most {most}", self.dim(id))),
                (None, Some(least)) => self.at_least(a, least),
                (None, None) => match self.bound(a, b) {
                    Some((id, Bound::Least(least))) => self.at_least(id, least),
                    _ => Some(format!("{} to be at least {}", self.dim(a), self.dim(b))),
                },
            },
            Size::Op(SizeOp::FloorDiv | SizeOp::CeilDiv | SizeOp::Mod, _, by) => match self.constant(by) {
                Some(_) => None,
                None => self.at_least(by, 1),
            },
            Size::Op(SizeOp::Broadcast, a, b) => {
                Some(format!("{} to be equal to {}, or one of them to be 1", self.dim(a), self.dim(b)))
            }
            Size::Length(_) | Size::Const(_) => None,
            Size::Op(SizeOp::Add | SizeOp::Mul | SizeOp::Min | SizeOp::Max, ..) => None,
        }
    }

    /// What can be at most a number for a size to have a value, and that number.
    fn most(&self, size: &Size) -> Option<(SizeId, i64)> {
        let Size::Op(SizeOp::Sub, a, b) = *size else { return None };
        match (self.constant(a), self.constant(b)) {
            (_, Some(_)) => None,
            (Some(most), None) => Some((b, most)),
            (None, None) => match self.bound(a, b)? {
                (id, Bound::Most(most)) => Some((id, most)),
                (_, Bound::Least(_)) => None,
            },
        }
    }

    /// Whether a length is no more than this whatever data says.
    fn is_at_most(&self, id: SizeId, most: i64) -> bool {
        let Some(Size::Length(n)) = self.program.sizes.get(id.0 as usize) else { return false };
        self.program.lengths.get(*n).and_then(|l| l.most.as_const()).is_some_and(|room| room <= most)
    }

    /// What the only dim of two sizes has to be for the first to be at least the second: `c` at most 1 for `c >= 2 * c - 1`.
    fn bound(&self, a: SizeId, b: SizeId) -> Option<(SizeId, Bound)> {
        let ([times_a, a, dim_a], [times_b, b, dim_b]) =
            (self.linear(a, DEEPEST)?, self.linear(b, DEEPEST)?);
        let dim = if times_a != 0 { dim_a } else { dim_b };
        if times_a != 0 && times_b != 0 && dim_a != dim_b {
            return None;
        }
        // times * dim >= least
        let (times, least) = (times_a.checked_sub(times_b)?, b.checked_sub(a)?);
        let bound = match times {
            0 => return None,
            1.. => Bound::Least(least.div_euclid(times) + i64::from(least.rem_euclid(times) != 0)),
            _ => Bound::Most(least.checked_neg()?.div_euclid(times.checked_neg()?)),
        };
        Some((SizeId(u32::try_from(dim).ok()?), bound))
    }

    /// A size as so many times a dim and so many more: these, and the number of the size that the dim is (whatever it is for none).
    fn linear(&self, id: SizeId, depth: u32) -> Option<[i64; 3]> {
        match *self.program.sizes.get(id.0 as usize)? {
            Size::Const(c) => Some([0, c, 0]),
            Size::Symbol(_) | Size::Length(_) => Some([1, 0, i64::from(id.0)]),
            Size::Op(op, a, b) => {
                let depth = depth.checked_sub(1)?;
                let ([times_a, a, dim_a], [times_b, b, dim_b]) =
                    (self.linear(a, depth)?, self.linear(b, depth)?);
                let one = times_a == 0 || times_b == 0 || dim_a == dim_b;
                let dim = if times_a != 0 { dim_a } else { dim_b };
                match op {
                    SizeOp::Add if one => Some([times_a.checked_add(times_b)?, a.checked_add(b)?, dim]),
                    SizeOp::Sub if one => Some([times_a.checked_sub(times_b)?, a.checked_sub(b)?, dim]),
                    SizeOp::Mul if times_a == 0 => Some([times_b.checked_mul(a)?, b.checked_mul(a)?, dim]),
                    SizeOp::Mul if times_b == 0 => Some([times_a.checked_mul(b)?, a.checked_mul(b)?, dim]),
                    _ => None,
                }
            }
        }
    }

    /// A bound of a size, as one of what it is made of; nothing where it always holds.
    fn at_least(&self, mut id: SizeId, mut least: i64) -> Option<String> {
        while let Some(Size::Op(op, a, b)) = self.program.sizes.get(id.0 as usize).copied() {
            let (inner, constant) = match (self.constant(a), self.constant(b)) {
                (_, Some(constant)) => (a, constant),
                (Some(constant), None) if op != SizeOp::Sub => (b, constant),
                _ => break,
            };
            let bound = match op {
                SizeOp::Add => least.checked_sub(constant),
                SizeOp::Sub => least.checked_add(constant),
                SizeOp::Max => Some(least).filter(|_| constant < least),
                _ => None,
            };
            let Some(bound) = bound else { break };
            (id, least) = (inner, bound);
        }
        let holds = match self.program.sizes.get(id.0 as usize) {
            Some(Size::Op(SizeOp::Max, a, b)) => {
                [*a, *b].into_iter().any(|x| self.constant(x) >= Some(least))
            }
            Some(Size::Symbol(_)) => least <= 0,
            _ => false,
        };
        (!holds).then(|| format!("{} to be at least {least}", self.dim(id)))
    }

    /// Whether a size is the smaller of another one and something.
    fn is_least_of(&self, id: SizeId, of: SizeId) -> bool {
        matches!(self.program.sizes.get(id.0 as usize), Some(Size::Op(SizeOp::Min, a, b)) if *a == of || *b == of)
    }

    fn constant(&self, id: SizeId) -> Option<i64> {
        match self.program.sizes.get(id.0 as usize) {
            Some(Size::Const(c)) => Some(*c),
            _ => None,
        }
    }

    fn dim(&self, id: SizeId) -> String {
        let name = |size: &Size| match *size {
            Size::Symbol(i) => self.program.symbols.get(i).map(|s| s.name.clone()),
            Size::Length(i) => self.program.lengths.get(i).map(|l| l.name.clone()),
            Size::Const(_) | Size::Op(..) => None,
        };
        match spell(&self.program.sizes, Extent::Size(id), &name, LONGEST) {
            Some(text) => format!("`{text}`"),
            None => "a size".to_owned(),
        }
    }
}

/// What a dim has to be.
enum Bound {
    Least(i64),
    Most(i64),
}

/// Operations within one another that are looked through for the dim in a size.
const DEEPEST: u32 = 8;

/// Characters of the longest dim that is spelt.
const LONGEST: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes::{SizeList, Symbol};
    use crate::{Call, KernelId};

    #[test]
    fn conditions_are_said_of_dims() {
        let mut list = SizeList::default();
        let (n, m, c) = (list.symbol(0), list.symbol(1), |c| Extent::Const(c));
        let op = |list: &mut SizeList, op, a, b| list.op(op, a, b).expect("a size");
        let sub = |list: &mut SizeList, a, b| op(list, SizeOp::Sub, a, b);
        let short = sub(&mut list, n, c(8));
        sub(&mut list, c(512), m);
        sub(&mut list, n, m);
        op(&mut list, SizeOp::Mul, n, m);
        op(&mut list, SizeOp::Broadcast, n, m);
        // held(m - 1, 1)
        let above = op(&mut list, SizeOp::Max, m, c(1));
        let above = sub(&mut list, above, c(1));
        op(&mut list, SizeOp::FloorDiv, above, above);
        let both = op(&mut list, SizeOp::Add, n, m);
        let four = op(&mut list, SizeOp::Mul, n, c(4));
        sub(&mut list, both, four);
        sub(&mut list, four, both);
        // Both sides of the one dim.
        let twice = op(&mut list, SizeOp::Mul, m, c(2));
        let less = op(&mut list, SizeOp::Add, twice, c(5));
        sub(&mut list, m, less);
        let more = op(&mut list, SizeOp::Add, twice, c(7));
        let thrice = op(&mut list, SizeOp::Mul, c(3), m);
        sub(&mut list, more, thrice);
        let far = op(&mut list, SizeOp::Mul, m, c(4));
        let near = op(&mut list, SizeOp::Add, twice, c(9));
        sub(&mut list, far, near);
        let Extent::Size(short) = short else { panic!("{short}") };
        let symbol = |name: &str| Symbol { name: name.into(), input: 0, axis: 0 };
        let nodes = |n: usize| (0..n).map(|i| format!("Slice:/{i}")).collect::<Vec<_>>();
        let mut program = Program {
            symbols: vec![symbol("seq"), symbol("m")],
            sizes: list.list().to_vec(),
            needed: [(short, nodes(1))].into(),
            ..Program::default()
        };
        let texts = |p: &Program| Conditions::of(p).texts;
        let limits = |p: &Program| -> Vec<String> {
            let all = Conditions::of(p);
            all.limits.iter().map(|&i| all.texts[i].clone()).collect()
        };
        let want = [
            "the model needs `seq` to be at least 0",
            "the model needs `m` to be at least 0",
            "node `Slice:/0` needs `seq` to be at least 8",
            "the model needs `m` to be at most 512",
            "the model needs `seq` to be at least `m`",
            "the model needs `seq` to be equal to `m`, or one of them to be 1",
            "the model needs `m` to be at least 2",
            "the model needs `seq + m` to be equal to `seq * 4`",
            "the model needs `seq * 4` to be equal to `seq + m`",
            "the model needs `m` to be at most -5",
            "the model needs `m` to be at most 7",
            "the model needs `m` to be at least 5",
        ];
        assert_eq!(texts(&program), want);
        assert_eq!(limits(&program), [want[3], want[9], want[10]]);
        program.needed = [(short, nodes(5))].into();
        let of_five = "nodes `Slice:/0`, `Slice:/1`, `Slice:/2` and 2 more need `seq` to be at least 8";
        assert_eq!(texts(&program)[2], of_five);
    }

    /// What only a call needs has the numbers behind those of the sizes.
    #[test]
    fn calls_have_conditions() {
        let mut list = SizeList::default();
        let [n, m, two] = [list.symbol(0), list.symbol(1), Extent::Const(2)].map(|e| list.named(e));
        // What n and m are broadcast to, as sizes of calls that may not run are written.
        let both = {
            let one = list.named(Extent::Const(1));
            let mut op = |op, a, b| {
                let size = list.op(op, Extent::Size(a), Extent::Size(b)).expect("a size");
                list.named(size)
            };
            let [larger, smaller] = [SizeOp::Max, SizeOp::Min].map(|o| op(o, m, one));
            let apart = op(SizeOp::Sub, larger, smaller);
            let some = op(SizeOp::Min, apart, one);
            let single = op(SizeOp::Sub, one, some);
            let some = op(SizeOp::Min, single, one);
            let many = op(SizeOp::Sub, one, some);
            let (a, b) = (op(SizeOp::Mul, many, m), op(SizeOp::Mul, single, n));
            op(SizeOp::Add, a, b)
        };
        let by = |node: &str, op, a, b| Need { size: Size::Op(op, a, b), nodes: vec![node.into()] };
        let need = |op, a, b| by("Add:/x", op, a, b);
        let of = |needs| Call { needs, ..Call::new(KernelId(0), vec![]) };
        let symbol = |name: &str| Symbol { name: name.into(), input: 0, axis: 0 };
        let program = Program {
            symbols: vec![symbol("n"), symbol("m")],
            sizes: list.list().to_vec(),
            calls: vec![
                of(vec![]),
                of(vec![need(SizeOp::Sub, n, m), need(SizeOp::Sub, m, n)]),
                of(vec![need(SizeOp::Sub, n, two), need(SizeOp::Mod, n, m)]),
                of(vec![by("Loop:/l", SizeOp::Sub, n, both), by("Loop:/l", SizeOp::Sub, both, n)]),
            ],
            ..Program::default()
        };
        let conditions = Conditions::of(&program);
        let want = [
            "the model needs `n` to be at least 0",
            "the model needs `m` to be at least 0",
            "node `Add:/x` needs `n` to be equal to `m`",
            "node `Add:/x` needs `m` to be equal to `n`",
            "node `Add:/x` needs `n` to be at least 2",
            "node `Add:/x` needs `m` to be at least 1",
            "node `Loop:/l` needs `n` to be equal to `broadcast(m, n)` in every round; where a round changes it, compile the model for that size (--dim)",
            "node `Loop:/l` needs `broadcast(m, n)` to be equal to `n` in every round; where a round changes it, compile the model for that size (--dim)",
        ];
        let said = |text: &&String| !text.starts_with("the model") || text.contains("at least 0");
        let texts: Vec<String> = conditions.texts.iter().filter(said).cloned().collect();
        assert_eq!(texts, want);
        let calls = [0, 1, 2, 3].map(|call| conditions.of_call(call));
        let before = (conditions.texts.len() - 6) as u32;
        assert_eq!(calls, [None, Some(before + 1), Some(before + 3), Some(before + 5)]);
        assert_eq!([n, m, two].map(|id| conditions.of_size(id)), [1, 2, 0]);
    }

    /// Levels of one artifact have one list: what the first has said keeps its number in the second.
    #[test]
    fn what_was_said_earlier_keeps_its_number() {
        let mut list = SizeList::default();
        let n = list.symbol(0);
        for least in [2, 8] {
            list.op(SizeOp::Sub, n, Extent::Const(least)).expect("a size");
        }
        let [n, m] = [n, Extent::Const(3)].map(|e| list.named(e));
        let need = Need { size: Size::Op(SizeOp::Sub, n, m), nodes: vec!["Add:/x".into()] };
        let program = Program {
            symbols: vec![Symbol { name: "n".into(), input: 0, axis: 0 }],
            sizes: list.list().to_vec(),
            calls: vec![Call { needs: vec![need], ..Call::new(KernelId(0), vec![]) }],
            ..Program::default()
        };
        let alone = Conditions::of(&program);
        assert_eq!(alone.texts.len(), 4);
        let other = [alone.texts[3].clone(), "something else".to_owned(), alone.texts[1].clone()];
        let behind = Conditions::of(&Program { earlier: other.to_vec(), ..program.clone() });
        assert_eq!(behind.texts[..3], other);
        assert_eq!(behind.texts[3..], [alone.texts[0].clone(), alone.texts[2].clone()]);
        assert_eq!(behind.of_call(0), Some(1));
        let numbers: Vec<u32> = (0..6).map(|i| behind.of_size(SizeId(i))).filter(|n| *n > 0).collect();
        assert_eq!(numbers, [4, 3, 5]);
        let again = Conditions::of(&Program { earlier: alone.texts.clone(), ..program });
        assert_eq!(again, alone);
    }
}
