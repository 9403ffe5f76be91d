//! One rule from its line.

use super::ast::{
    Comparison, Expr, Guard, MultiPattern, NodePattern, OpGroup, OpPattern, Pattern, Place, Rule, Spelt,
    Tier, Vars,
};
use super::functions;
use super::lex::{Token, tokens};
use super::numbers::Numbers;
use egret_ir::{Attr, AttrInfo, AttrKind, DType, Dim, Op};

pub(super) fn rule(text: &str, pass: &str, place: &Place) -> Result<Rule, String> {
    let (vars, numbers) = (Vars::default(), Numbers::default());
    let mut p = Parser { text, tokens: tokens(text)?, at: 0, vars, numbers, right: false };
    let name = p.word("the rule's name")?;
    p.expect(":")?;
    let begin = p.end();
    let lhs = p.pattern()?;
    if lhs.as_node().is_none_or(|n| matches!(n.op, OpPattern::Any(None, _))) {
        return Err("the left-hand side is `(operation ..)`".into());
    }
    let multi_pattern = if p.take_word("for") { Some(p.multi_pattern()?) } else { None };
    let left = begin..p.end();
    p.expect("=>")?;
    p.right = true;
    let begin = p.end();
    let rhs = p.pattern()?;
    let right = begin..p.end();
    let mut guards = vec![];
    if p.take_word("if") {
        loop {
            guards.push(p.guard()?);
            if !p.take(",") {
                break;
            }
        }
    }
    let tier: Tier = p.word("a tier: exact, reassoc, approx or lossy")?.parse()?;
    let error = p.error(tier)?;
    let conditions = right.end..p.end();
    let quiet = p.take_word("quiet");
    if let Some((token, _)) = p.tokens.get(p.at) {
        return Err(format!("nothing follows the tier but `quiet`, and {} does", show(token)));
    }
    let joined = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let spelt = Spelt {
        lhs: joined(&text[left]),
        rhs: joined(&text[right]),
        conditions: joined(&text[conditions.clone()]),
    };
    let text = joined(&text[..conditions.end]);
    Ok(Rule {
        name,
        pass: pass.to_owned(),
        family: None,
        place: place.clone(),
        text,
        spelt,
        lhs,
        multi_pattern,
        rhs,
        guards: p.numbers.around(guards),
        tier,
        error,
        quiet,
        vars: p.vars,
    })
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, usize)>,
    at: usize,
    vars: Vars,
    /// Constants in the pattern and what they ask for.
    numbers: Numbers,
    /// After `=>`: a variable must be known.
    right: bool,
}

fn show(token: &Token) -> String {
    match token {
        Token::Word(w) => format!("`{w}`"),
        Token::Var(v) => format!("`?{v}`"),
        Token::OpVar(v) => format!("`@{v}`"),
        Token::Int(v) => format!("`{v}`"),
        Token::Float(v) => format!("`{v:?}`"),
        Token::Text(t) => format!("{t:?}"),
        Token::Sign(s) => format!("`{s}`"),
    }
}

/// The index of a name in a list of variables, added to it where that is allowed.
fn variable(list: &mut Vec<String>, name: &str, right: bool, kind: &str) -> Result<usize, String> {
    match list.iter().position(|n| n == name) {
        Some(i) => Ok(i),
        None if right => Err(format!("{kind} `{name}` is not bound by the left-hand side")),
        None => {
            list.push(name.to_owned());
            Ok(list.len() - 1)
        }
    }
}

impl Parser<'_> {
    /// The byte behind the last token that was taken.
    fn end(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |i| self.tokens[i].1)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(t, _)| t)
    }

    fn next(&mut self, wanted: &str) -> Result<Token, String> {
        let token =
            self.peek().cloned().ok_or_else(|| format!("{wanted} is expected, but the rule ends"))?;
        self.at += 1;
        Ok(token)
    }

    fn take(&mut self, sign: &'static str) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w == word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), String> {
        match self.take(sign) {
            true => Ok(()),
            false => {
                Err(format!("`{sign}` is expected, not {}", self.peek().map_or("the end".into(), show)))
            }
        }
    }

    fn word(&mut self, wanted: &str) -> Result<String, String> {
        match self.next(wanted)? {
            Token::Word(w) => Ok(w),
            other => Err(format!("{wanted} is expected, not {}", show(&other))),
        }
    }

    /// `?w in ?ws at ?i`.
    fn multi_pattern(&mut self) -> Result<MultiPattern, String> {
        let var = |p: &mut Self, wanted: &str| match p.next(wanted)? {
            Token::Var(name) => Ok(name),
            other => Err(format!("{wanted} is expected, not {}", show(&other))),
        };
        let name = var(self, "a value in which siblings differ")?;
        let of = variable(&mut self.vars.values, &name, true, "value")?;
        let new = |p: &mut Self, word: &str, wanted: &str| {
            if !p.take_word(word) {
                return Err(format!("`for ?w in ?ws at ?i` is expected: `{word}` is not there"));
            }
            let name = var(p, wanted)?;
            match p.vars.values.contains(&name) || p.vars.attrs.contains(&name) {
                true => Err(format!("`?{name}` stands for something else already")),
                false => Ok(name),
            }
        };
        let list = new(self, "in", "a name for the list")?;
        let list = variable(&mut self.vars.values, &list, false, "value")?;
        let place = new(self, "at", "a name for the place in the list")?;
        let place = variable(&mut self.vars.attrs, &place, false, "attribute")?;
        Ok(MultiPattern { of, list, place })
    }

    /// The bound that follows the tiers of near values.
    fn error(&mut self, tier: Tier) -> Result<Option<f64>, String> {
        let Some(&Token::Float(bound)) = self.peek().filter(|_| !tier.is_equality()) else {
            return match tier {
                Tier::Approx => Err("`approx` is followed by a bound of the error relative to the largest element: `approx 1e-5`".into()),
                _ => Ok(None),
            };
        };
        self.at += 1;
        match bound.is_finite() && bound > 0.0 {
            true => Ok(Some(bound)),
            false => Err(format!("{bound:?} bounds no error")),
        }
    }

    fn pattern(&mut self) -> Result<Pattern, String> {
        let pattern = match self.next("a pattern")? {
            Token::Var(name) => {
                let bound = self.peek() == Some(&Token::Sign(":"));
                let i = variable(&mut self.vars.values, &name, self.right, "value")?;
                if bound && !self.right {
                    self.at += 1;
                    self.expect("(")?;
                    Pattern::Node(self.node(Some(i))?)
                } else {
                    Pattern::Value(i)
                }
            }
            Token::Int(v) => self.number(v as f64, false),
            Token::Float(v) => self.number(v, false),
            Token::Sign("~") if !self.right => match self.next("a number")? {
                Token::Int(v) => self.number(v as f64, true),
                Token::Float(v) => self.number(v, true),
                other => return Err(format!("a number is expected after `~`, not {}", show(&other))),
            },
            Token::Word(word) if self.right && self.peek() == Some(&Token::Sign("(")) => {
                Pattern::Number(self.call(&word)?)
            }
            Token::Sign("_") => Pattern::Absent,
            Token::Sign("(") => Pattern::Node(self.node(None)?),
            other => {
                return Err(format!(
                    "a pattern is expected (`?x`, `(op ..)`, a number or `_`), not {}",
                    show(&other)
                ));
            }
        };
        if !self.take("..") {
            return Ok(pattern);
        }
        match self.numbers.hold(&pattern) {
            true => Err("a number is one operand".into()),
            false => Ok(Pattern::Each(Box::new(pattern))),
        }
    }

    /// A number: on the right a scalar, on the left a constant of its own.
    fn number(&mut self, value: f64, near: bool) -> Pattern {
        if self.right { Pattern::Splat(value) } else { self.numbers.constant(&mut self.vars, value, near) }
    }

    fn op(&mut self) -> Result<OpPattern, String> {
        match self.next("an operation")? {
            Token::OpVar(name) if self.right => {
                Ok(OpPattern::Any(None, variable(&mut self.vars.ops, &name, true, "operation")?))
            }
            Token::Word(word) => {
                if let Some(Token::OpVar(name)) = self.peek().cloned() {
                    self.at += 1;
                    let Some((_, group)) = OpGroup::NAMES.iter().find(|(n, _)| *n == word) else {
                        let names = OpGroup::NAMES.map(|(n, _)| n).join(", ");
                        return Err(format!("`{word}` is no group of operations; there are {names}"));
                    };
                    return Ok(OpPattern::Any(
                        Some(*group),
                        variable(&mut self.vars.ops, &name, self.right, "operation")?,
                    ));
                }
                Op::from_name(&word)
                    .map(OpPattern::One)
                    .ok_or_else(|| format!("`{word}` is no operation of ir-spec/ops"))
            }
            other => Err(format!("an operation is expected, not {}", show(&other))),
        }
    }

    /// What follows `(`.
    fn node(&mut self, bind: Option<usize>) -> Result<NodePattern, String> {
        let op = self.op()?;
        let mut node = NodePattern { op, bind, spread: None, attrs: vec![], args: vec![] };
        loop {
            if self.take(")") {
                break;
            }
            if self.take("..") {
                let Token::Var(name) = self.next("`?k`")? else {
                    return Err("`..` before an operand binds all attributes: `..?k`".into());
                };
                node.spread = Some(variable(&mut self.vars.spreads, &name, self.right, "attributes")?);
                continue;
            }
            let named = match (self.peek(), self.tokens.get(self.at + 1)) {
                (Some(Token::Word(w)), Some((Token::Sign("="), _))) => Some(w.clone()),
                _ => None,
            };
            if let Some(name) = named {
                self.at += 2;
                let attr = self.attribute(op, &name)?;
                node.attrs.push(attr);
                continue;
            }
            if !self.right && matches!(node.args.last(), Some(Pattern::Each(_))) {
                return Err("`..` after an operand takes all that are left: it stands last".into());
            }
            node.args.push(self.pattern()?);
        }
        self.complete(&node)?;
        if !self.right {
            self.numbers.keep_shapes(&mut self.vars, &mut node)?;
        }
        Ok(node)
    }

    fn attribute(&mut self, op: OpPattern, name: &str) -> Result<(&'static str, Expr), String> {
        let OpPattern::One(op) = op else {
            return Err("a group of operations has no attributes but `..?k`".into());
        };
        let Some(AttrInfo { name, kind }) = op.info().attr(name) else {
            let names: Vec<&str> = op.info().attrs.iter().map(|a| a.name).collect();
            return Err(format!("`{op}` has no attribute `{name}`; it has {}", names.join(", ")));
        };
        let expr = self.expr()?;
        if !self.right && matches!(expr, Expr::Call(..) | Expr::Value(_)) {
            return Err(format!("`{name}=` on the left is a variable or a literal; compute in a guard"));
        }
        let expr = match expr {
            Expr::Literal(a) => {
                Expr::Literal(as_kind(a, kind).map_err(|e| format!("`{name}` of `{op}`: {e}"))?)
            }
            other => other,
        };
        Ok((name, expr))
    }

    /// A right-hand side gives all attributes of a node.
    fn complete(&self, node: &NodePattern) -> Result<(), String> {
        let OpPattern::One(op) = node.op else { return Ok(()) };
        let row = op.info();
        let open = row.operands.last().is_some_and(|o| o.starts_with('*'))
            || matches!(node.args.last(), Some(Pattern::Each(_)));
        let least = row.operands.iter().filter(|o| !o.starts_with(['?', '*'])).count();
        if !open && (node.args.len() < least || node.args.len() > row.operands.len()) {
            return Err(format!("`{op}` takes {} ({})", row.operands.len(), row.operands.join(", ")));
        }
        if row.results != 1 || !row.regions.is_empty() {
            return Err(format!("`{op}` has several results or sub-graphs: rules do not reach it"));
        }
        if self.right && node.spread.is_none() {
            for AttrInfo { name, .. } in row.attrs {
                if !node.attrs.iter().any(|(n, _)| n == name) {
                    return Err(format!(
                        "`{op}` on the right needs `{name}=`, or `..?k` of a matched node"
                    ));
                }
            }
        }
        Ok(())
    }

    fn expr(&mut self) -> Result<Expr, String> {
        Ok(match self.next("a value")? {
            Token::Var(name) => self.value_or_attr(&name)?,
            Token::Int(v) => Expr::Literal(Attr::Int(v)),
            Token::Float(v) => Expr::Literal(Attr::Float(v)),
            Token::Text(t) => Expr::Literal(Attr::String(t)),
            Token::Sign("..") => match self.next("`?k`")? {
                Token::Var(name) => {
                    Expr::Spread(variable(&mut self.vars.spreads, &name, self.right, "attributes")?)
                }
                other => return Err(format!("`?k` is expected after `..`, not {}", show(&other))),
            },
            Token::Sign("[") => self.list()?,
            Token::Word(word) if self.peek() == Some(&Token::Sign("(")) => self.call(&word)?,
            Token::Word(word) => {
                Expr::Literal(DType::from_name(&word).map_or(Attr::String(word), Attr::DType))
            }
            other => return Err(format!("a value is expected, not {}", show(&other))),
        })
    }

    /// A variable in an expression: a value's where there is one of that name, else an attribute's.
    fn value_or_attr(&mut self, name: &str) -> Result<Expr, String> {
        if let Some(i) = self.vars.attrs.iter().position(|n| n == name) {
            return Ok(Expr::Attr(i));
        }
        if self.right {
            return variable(&mut self.vars.values, name, true, "variable").map(Expr::Value);
        }
        variable(&mut self.vars.attrs, name, false, "attribute").map(Expr::Attr)
    }

    fn list(&mut self) -> Result<Expr, String> {
        let (mut ints, mut floats) = (vec![], vec![]);
        while !self.take("]") {
            match self.next("a number")? {
                Token::Int(v) => {
                    ints.push(v);
                    floats.push(v as f64);
                }
                Token::Float(v) => floats.push(v),
                other => return Err(format!("a list holds numbers, not {}", show(&other))),
            }
            self.take(",");
        }
        Ok(Expr::Literal(if ints.len() == floats.len() { Attr::Ints(ints) } else { Attr::Floats(floats) }))
    }

    fn call(&mut self, word: &str) -> Result<Expr, String> {
        let Some(function) = functions::FUNCTIONS.iter().find(|f| f.name == word) else {
            let names: Vec<&str> = functions::FUNCTIONS.iter().map(|f| f.name).collect();
            return Err(format!("no function is called `{word}`; there are {}", names.join(", ")));
        };
        self.expect("(")?;
        let mut args = vec![];
        while !self.take(")") {
            args.push(self.expr()?);
            self.take(",");
        }
        if args.len() != function.args.len() {
            return Err(format!("`{word}` takes ({})", function.args.join(", ")));
        }
        Ok(Expr::Call(function, args))
    }

    fn guard(&mut self) -> Result<Guard, String> {
        let start = self.tokens.get(self.at.saturating_sub(1)).map_or(0, |(_, end)| *end);
        let negated = self.take_word("not");
        let left = self.expr()?;
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Differ),
            ("<=", Comparison::LessEqual),
            ("<", Comparison::Less),
        ];
        let mut right = None;
        for (sign, comparison) in comparisons {
            if self.take(sign) {
                right = Some((comparison, self.expr()?));
                break;
            }
        }
        let end = self.tokens.get(self.at.saturating_sub(1)).map_or(start, |(_, end)| *end);
        let text = self.text[start..end].trim().to_owned();
        Ok(Guard { text, left, right, negated })
    }
}

/// A literal as the kind of an attribute.
fn as_kind(literal: Attr, kind: AttrKind) -> Result<Attr, String> {
    kind.check(&literal).or_else(|e| if literal.kind() == kind.value() { Err(e) } else { Ok(()) })?;
    Ok(match (literal, kind.value()) {
        (a, k) if a.kind() == k => a,
        (Attr::Int(v), "float") => Attr::Float(v as f64),
        (Attr::Int(v), "dim") => Attr::Dim(Dim::constant(v)),
        (Attr::Ints(v), "dims") => Attr::Dims(v.into_iter().map(Dim::constant).collect()),
        (Attr::Ints(v), "floats") => Attr::Floats(v.into_iter().map(|v| v as f64).collect()),
        (a, k) => return Err(format!("{} is expected, not {}", k, a.kind())),
    })
}
