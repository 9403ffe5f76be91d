//! Rules as data: what `ir-spec/rules/*.rules` says, parsed.

use super::functions::Function;
use egret_ir::{Attr, Op};
use std::fmt;
use std::str::FromStr;

/// What a rule may change.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Nothing: the same bits.
    Exact,
    /// The order of float operations and their rounding.
    Reassoc,
    /// Values, by a bounded error.
    Approx,
    /// Values, by what a user allows.
    Lossy,
}

impl Tier {
    /// All, strictest first.
    pub const ALL: [Tier; 4] = [Tier::Exact, Tier::Reassoc, Tier::Approx, Tier::Lossy];

    /// Whether rules of this tier state equalities, up to rounding. Others approximate: their two sides are
    /// never united, as congruence would hide the error.
    pub fn is_equality(self) -> bool {
        self <= Tier::Reassoc
    }

    /// The name in rule files and options.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Exact => "exact",
            Tier::Reassoc => "reassoc",
            Tier::Approx => "approx",
            Tier::Lossy => "lossy",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Tier {
    type Err = String;
    fn from_str(s: &str) -> Result<Tier, String> {
        let names = || Tier::ALL.map(Tier::name).join(", ");
        Tier::ALL
            .into_iter()
            .find(|t| t.name() == s)
            .ok_or_else(|| format!("`{s}` is no tier; there are {}", names()))
    }
}

/// The position of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `ir-spec/rules/PASS/FAMILY.rules`, or the user's file as given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// `name: lhs => rhs if guards tier`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, unique among the rules that are loaded: `name`, or `name/2` of the second alternative of a line.
    pub name: String,
    /// The folder of `ir-spec/rules` that it is in; of a user's rule the pass that it belongs to.
    pub pass: String,
    /// The name of its file in that folder; none of a user's rule.
    pub family: Option<String>,
    /// Where it stands.
    pub place: Place,
    /// The line itself.
    pub text: String,
    /// Its parts as they are spelt, for people.
    pub spelt: Spelt,
    /// The pattern; always a node.
    pub lhs: Pattern,
    /// The `for` clause, if it is a multi-pattern.
    pub multi_pattern: Option<MultiPattern>,
    /// The replacement.
    pub rhs: Pattern,
    /// The conditions; all must hold.
    pub guards: Vec<Guard>,
    /// What it may change.
    pub tier: Tier,
    /// The error bound, relative to the largest element of the value. Every `approx` rule has one, a
    /// `lossy` rule may.
    pub error: Option<f64>,
    /// Whether its not applying is no news: rules of algebra, and steps towards a pattern. `explain` ranks the others.
    pub quiet: bool,
    /// Names of the variables; patterns hold indices into these.
    pub vars: Vars,
}

/// The parts of a rule as they are spelt, blanks joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spelt {
    /// The left-hand side, with the clause of siblings where there is one.
    pub lhs: String,
    /// The right-hand side.
    pub rhs: String,
    /// `if` and the guards, where there are some, and the tier.
    pub conditions: String,
}

/// The clause `for ?w in ?ws at ?i`, as indices of variables.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MultiPattern {
    /// The value variable in which siblings differ: `?w`.
    pub of: usize,
    /// The list of its values in all siblings: `?ws`.
    pub list: usize,
    /// The attribute variable for the index in the list: `?i`.
    pub place: usize,
}

/// The variables of a rule, by kind.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    /// Values: `?x`.
    pub values: Vec<String>,
    /// Attributes: `axis=?a`.
    pub attrs: Vec<String>,
    /// All attributes of a node: `..?k`.
    pub spreads: Vec<String>,
    /// Operations: `unary@f`.
    pub ops: Vec<String>,
}

impl Rule {
    /// The name in the rule file: without the number of the alternative.
    pub fn line_name(&self) -> &str {
        self.name.split('/').next().unwrap_or(&self.name)
    }

    /// Whether it is in a set of rules: `FOLDER`, or `FOLDER/FAMILY`.
    pub fn is_in(&self, set: &str) -> bool {
        match set.split_once('/') {
            Some((folder, family)) => self.pass == folder && self.family.as_deref() == Some(family),
            None => self.pass == set,
        }
    }
}

/// A term with variables.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// `?x`: any value, the same wherever it stands.
    Value(usize),
    /// `0.5`, on the right: a scalar of the element type of the operand beside it. On the left a number is a
    /// variable with guards.
    Splat(f64),
    /// `count(?x, ?a)`, on the right: a computed scalar.
    Number(Expr),
    /// `_`: an optional operand that is left out.
    Absent,
    /// `(op attrs args)`.
    Node(NodePattern),
    /// `pattern..`, last among the arguments: all remaining operands; value variables in it are lists.
    Each(Box<Pattern>),
}

/// `?y:(op attr=pattern ..?k args)`.
#[derive(Clone, Debug, PartialEq)]
pub struct NodePattern {
    /// The operation.
    pub op: OpPattern,
    /// The value variable that the node's result is bound to.
    pub bind: Option<usize>,
    /// `..?k`: on the left all attributes are bound to it, on the right they are taken from it where not given.
    pub spread: Option<usize>,
    /// The attributes that are named.
    pub attrs: Vec<(&'static str, Expr)>,
    /// The operands.
    pub args: Vec<Pattern>,
}

/// The operation of a pattern.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum OpPattern {
    /// This one.
    One(Op),
    /// `unary@f`: any of a group, bound to an operation variable; on the right `@f` and no group.
    Any(Option<OpGroup>, usize),
}

/// Operations by what they have in common.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OpGroup {
    /// Elementwise, of one operand.
    Unary,
    /// Elementwise, of two operands.
    Binary,
    /// Elementwise, of any number of operands.
    Elementwise,
}

impl OpGroup {
    /// The names in rule files.
    pub const NAMES: [(&'static str, OpGroup); 3] =
        [("unary", OpGroup::Unary), ("binary", OpGroup::Binary), ("elementwise", OpGroup::Elementwise)];

    /// Whether an operation is one of these.
    pub fn holds(self, op: Op) -> bool {
        op.is_elementwise()
            && match self {
                OpGroup::Unary => op.info().operands.len() == 1,
                OpGroup::Binary => op.info().operands.len() == 2,
                OpGroup::Elementwise => true,
            }
    }
}

/// An attribute or a number, computed when the rule is applied.
#[derive(Clone, Debug)]
pub enum Expr {
    /// A literal.
    Literal(Attr),
    /// An attribute variable.
    Attr(usize),
    /// A value variable: what is known of the value.
    Value(usize),
    /// All attributes of a matched node.
    Spread(usize),
    /// A function of [`super::functions::FUNCTIONS`].
    Call(&'static Function, Vec<Expr>),
}

impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        match (self, other) {
            (Expr::Literal(a), Expr::Literal(b)) => a == b,
            (Expr::Attr(a), Expr::Attr(b))
            | (Expr::Value(a), Expr::Value(b))
            | (Expr::Spread(a), Expr::Spread(b)) => a == b,
            (Expr::Call(f, a), Expr::Call(g, b)) => f.name == g.name && a == b,
            _ => false,
        }
    }
}

/// Functions that do not hold of a value of which too little is known.
const KNOWLEDGE: [&str; 6] =
    ["constant", "is_zero", "is_number", "are_whole", "never_negative_zero", "away_from_zero"];

/// A condition on a match.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// The guard as written.
    pub text: String,
    /// The comparison; `None`: `left` is a condition by itself.
    pub right: Option<(Comparison, Expr)>,
    /// The condition, or its left side.
    pub left: Expr,
    /// `not`: it must fail.
    pub negated: bool,
}

impl Guard {
    /// Whether it holds as long as something is not known. Such a guard says where a rule is worth it, not whether it is right: what a rule
    /// says of a value cannot be wrong because more is known of it.
    pub fn wants_ignorance(&self) -> bool {
        let Expr::Call(function, _) = &self.left else { return false };
        self.negated && self.right.is_none() && KNOWLEDGE.contains(&function.name)
    }

    /// Whether a function of this name is in it.
    pub fn asks(&self, function: &str) -> bool {
        self.left.calls(function) || self.right.as_ref().is_some_and(|(_, right)| right.calls(function))
    }
}

impl Expr {
    fn calls(&self, function: &str) -> bool {
        match self {
            Expr::Call(f, args) => f.name == function || args.iter().any(|a| a.calls(function)),
            _ => false,
        }
    }
}

impl OpPattern {
    /// The operation, if it is about one only.
    pub fn one(self) -> Option<Op> {
        match self {
            OpPattern::One(op) => Some(op),
            OpPattern::Any(..) => None,
        }
    }
}

/// How a guard compares.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    Differ,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
}

impl Pattern {
    /// The nodes of a pattern, outermost first.
    pub fn nodes(&self) -> Vec<&NodePattern> {
        let mut out = vec![];
        self.collect(&mut out);
        out
    }

    fn collect<'a>(&'a self, out: &mut Vec<&'a NodePattern>) {
        match self {
            Pattern::Node(n) => {
                out.push(n);
                n.args.iter().for_each(|a| a.collect(out));
            }
            Pattern::Each(p) => p.collect(out),
            _ => {}
        }
    }

    /// The node pattern, if it is one.
    pub fn as_node(&self) -> Option<&NodePattern> {
        match self {
            Pattern::Node(n) => Some(n),
            _ => None,
        }
    }
}
