//! The parser.

mod program;
mod tile;

use super::lex::{Placed, Token, lex};
use super::names::{self, Name, parse_const};
use super::{ParseError, Resolver};
use crate::ir::*;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Blocks within blocks, at most.
const DEPTH: usize = 200;

type Parse<T> = Result<T, ParseError>;

pub(super) fn program(text: &str, resolve: &Resolver) -> Parse<Program> {
    let mut p = Parser::new(text)?;
    let program = p.program(resolve)?;
    p.end()?;
    Ok(program)
}

pub(super) fn kernel(text: &str) -> Parse<Kernel> {
    let mut p = Parser::new(text)?;
    p.keyword("kernel")?;
    let name = p.word("the kernel's name")?;
    let kernel = p.kernel(name)?;
    p.end()?;
    Ok(kernel)
}

/// Where a kernel's names are used and defined, to be checked when all of it is read.
#[derive(Default)]
struct Scope {
    types: BTreeMap<u32, Ty>,
    /// Value, and the token that uses it.
    uses: Vec<(V, usize)>,
    params: Vec<ParamInfo>,
    locals: Vec<Ty>,
    depth: usize,
    /// How many values an epilogue has that is being read: instructions use these.
    epilogue: Option<usize>,
}

struct Parser {
    tokens: Vec<Placed>,
    at: usize,
    scope: Scope,
}

impl Parser {
    fn new(text: &str) -> Parse<Parser> {
        Ok(Parser { tokens: lex(text)?, at: 0, scope: Scope::default() })
    }

    // ---- tokens ----

    /// The last token, the end, stays.
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].token
    }

    fn error_at<T>(&self, token: usize, message: impl Into<String>) -> Parse<T> {
        let at = &self.tokens[token.min(self.tokens.len() - 1)];
        Err(ParseError { line: at.line, column: at.column, message: message.into() })
    }

    fn expected<T>(&self, what: &str) -> Parse<T> {
        self.error_at(self.at, format!("expected {what}, found {}", self.peek().spelt()))
    }

    fn is(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(m) if *m == mark)
    }

    fn takes(&mut self, mark: &str) -> bool {
        let is = self.is(mark);
        self.at += usize::from(is);
        is
    }

    fn mark(&mut self, mark: &str) -> Parse<()> {
        if self.takes(mark) { Ok(()) } else { self.expected(&format!("`{mark}`")) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(w) if w == word)
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.at += usize::from(is);
        is
    }

    fn keyword(&mut self, word: &str) -> Parse<()> {
        if self.takes_word(word) { Ok(()) } else { self.expected(&format!("`{word}`")) }
    }

    fn end(&self) -> Parse<()> {
        if *self.peek() == Token::End { Ok(()) } else { self.expected("the end") }
    }

    /// The next word, made into something.
    fn some<T>(&mut self, what: &str, of: impl FnOnce(&str) -> Option<T>) -> Parse<T> {
        let found = match self.peek() {
            Token::Word(w) => of(w),
            _ => None,
        };
        match found {
            Some(found) => {
                self.at += 1;
                Ok(found)
            }
            None => self.expected(what),
        }
    }

    fn word(&mut self, what: &str) -> Parse<String> {
        self.some(what, |w| Some(w.to_owned()))
    }

    fn number<T: FromStr>(&mut self, what: &str) -> Parse<T> {
        self.some(what, |w| w.parse().ok())
    }

    fn quoted(&mut self, what: &str) -> Parse<String> {
        let Token::Quoted(q) = self.peek() else { return self.expected(what) };
        let q = q.clone();
        self.at += 1;
        Ok(q)
    }

    /// A name of a letter and a number.
    fn id(&mut self, letter: char, what: &str) -> Parse<u32> {
        self.some(what, |w| w.strip_prefix(letter)?.parse().ok())
    }

    /// The same, of which the number must be the next.
    fn next_id(&mut self, letter: char, next: usize) -> Parse<()> {
        self.some(&format!("`{letter}{next}`"), |w| (w == format!("{letter}{next}")).then_some(()))
    }

    /// An id below a limit.
    fn known(&mut self, letter: char, limit: usize, what: &str) -> Parse<u32> {
        let at = self.at;
        let id = self.id(letter, what)?;
        if (id as usize) < limit { Ok(id) } else { self.error_at(at, format!("there is no {letter}{id}")) }
    }

    fn list<T>(&mut self, end: &str, mut item: impl FnMut(&mut Self) -> Parse<T>) -> Parse<Vec<T>> {
        let mut out = vec![];
        if self.takes(end) {
            return Ok(out);
        }
        loop {
            out.push(item(self)?);
            if self.takes(end) {
                return Ok(out);
            }
            self.mark(",")?;
        }
    }

    fn elem(&mut self) -> Parse<Elem> {
        self.some("an element type", Elem::of)
    }

    fn ty(&mut self) -> Parse<Ty> {
        self.mark(":")?;
        self.some("a type", names::ty)
    }

    /// `f32[64]`.
    fn room(&mut self) -> Parse<(Elem, usize)> {
        let elem = self.elem()?;
        self.mark("[")?;
        let open = self.takes_word("open");
        let len = if open { ParamInfo::OPEN } else { self.number("a number of elements")? };
        self.mark("]")?;
        Ok((elem, len))
    }

    // ---- kernels ----

    /// A kernel from its parameters on.
    fn kernel(&mut self, name: String) -> Parse<Kernel> {
        self.scope = Scope::default();
        self.mark("(")?;
        let mut n = 0;
        let params = self.list(")", |p| {
            p.next_id('p', n)?;
            n += 1;
            p.mark(":")?;
            let (elem, len) = p.room()?;
            Ok(ParamInfo { elem, len, access: p.some("`read`, `write` or `readwrite`", Access::of)? })
        })?;
        self.scope.params.clone_from(&params);
        self.keyword("tasks")?;
        let task = self.define(Ty::scalar(Elem::I64))?;
        self.keyword("in")?;
        let tasks = self.number("a number of tasks")?;
        self.mark("{")?;
        while self.takes_word("local") {
            self.next_id('l', self.scope.locals.len())?;
            let ty = self.ty()?;
            self.scope.locals.push(ty);
        }
        let body = self.rest_of_block()?;
        let scope = std::mem::take(&mut self.scope);
        for (v, at) in scope.uses {
            if !scope.types.contains_key(&v.0) {
                return self.error_at(at, format!("{v} is defined nowhere"));
            }
        }
        if let Some((n, _)) = (0..).zip(scope.types.keys()).find(|(n, v)| n != *v) {
            return self
                .error_at(self.at, format!("the kernel {name} has no v{n}, and has values above it"));
        }
        let types = scope.types.into_values().collect();
        Ok(Kernel { name, params, types, locals: scope.locals, tasks, task, body })
    }

    fn define(&mut self, ty: Ty) -> Parse<V> {
        let at = self.at;
        let v = self.id('v', "a value")?;
        match self.scope.types.insert(v, ty) {
            None => Ok(V(v)),
            Some(_) => self.error_at(at, format!("v{v} is defined twice")),
        }
    }

    /// An end of a range: a number, or a value.
    fn bound(&mut self, what: &str) -> Parse<Bound> {
        match self.peek() {
            Token::Word(w) if w.starts_with('v') => self.v().map(Bound::Value),
            _ => self.number(what).map(Bound::Number),
        }
    }

    fn v(&mut self) -> Parse<V> {
        if let Some(values) = self.scope.epilogue {
            return Ok(V(self.known('e', values, "an earlier value of the epilogue")?));
        }
        let at = self.at;
        let v = V(self.id('v', "a value")?);
        self.scope.uses.push((v, at));
        Ok(v)
    }

    fn param(&mut self) -> Parse<Param> {
        Ok(Param(self.known('p', self.scope.params.len(), "a parameter")?))
    }

    fn local(&mut self) -> Parse<Local> {
        Ok(Local(self.known('l', self.scope.locals.len(), "a local")?))
    }

    /// `p0[v1]`.
    fn place(&mut self) -> Parse<Place> {
        let param = self.param()?;
        self.mark("[")?;
        let base = self.v()?;
        self.mark("]")?;
        Ok(Place { param, base })
    }

    fn block(&mut self) -> Parse<Vec<Stmt>> {
        self.mark("{")?;
        self.rest_of_block()
    }

    fn rest_of_block(&mut self) -> Parse<Vec<Stmt>> {
        self.scope.depth += 1;
        if self.scope.depth > DEPTH {
            return self.error_at(self.at, format!("more than {DEPTH} blocks within one another"));
        }
        let mut out = vec![];
        while !self.takes("}") {
            out.push(self.stmt()?);
        }
        self.scope.depth -= 1;
        Ok(out)
    }

    fn stmt(&mut self) -> Parse<Stmt> {
        if self.takes_word("set") {
            let l = self.local()?;
            self.mark(",")?;
            Ok(Stmt::Set(l, self.v()?))
        } else if self.takes_word("store") {
            let Place { param, base: index } = self.place()?;
            self.mark(",")?;
            let value = self.v()?;
            if self.takes_word("first") {
                return Ok(Stmt::StoreFirst { param, index, value, count: self.number("how many lanes")? });
            }
            Ok(Stmt::Store { param, index, value })
        } else if self.takes_word("for") {
            let var = self.define(Ty::scalar(Elem::I64))?;
            self.keyword("in")?;
            let begin = self.v()?;
            self.mark("..")?;
            let end = self.v()?;
            let step = if self.takes_word("step") { self.number("a step")? } else { 1 };
            if step < 1 {
                return self.error_at(self.at - 1, "a step is positive");
            }
            Ok(Stmt::For { var, begin, end, step, body: self.block()? })
        } else if self.takes_word("while") {
            let head = self.block()?;
            let test = self.v()?;
            Ok(Stmt::While { head, test, body: self.block()? })
        } else if self.takes_word("if") {
            let cond = self.v()?;
            let then = self.block()?;
            let otherwise = if self.takes_word("else") { self.block()? } else { vec![] };
            Ok(Stmt::If { cond, then, otherwise })
        } else if self.takes_word("check") {
            let value = self.v()?;
            self.keyword("in")?;
            let low = self.bound("the least number")?;
            self.mark("..")?;
            Ok(Stmt::Check { value, low, high: self.bound("the end of the numbers")? })
        } else if self.takes_word("tile") {
            Ok(Stmt::Tile(Box::new(self.tile()?)))
        } else {
            self.let_()
        }
    }

    fn let_(&mut self) -> Parse<Stmt> {
        let (at, v) = (self.at, self.id('v', "a statement")?);
        self.mark("=")?;
        let (inst, ty) = self.inst()?;
        match self.scope.types.insert(v, ty) {
            None => Ok(Stmt::Let(V(v), inst)),
            Some(_) => self.error_at(at, format!("v{v} is defined twice")),
        }
    }

    /// An instruction and its type.
    fn inst(&mut self) -> Parse<(Inst, Ty)> {
        let op_at = self.at;
        let op = self.word("an instruction")?;
        // Constants are spelt by their type, which stands behind them.
        let inst = match op.as_str() {
            "const" => {
                let (word, word_at) = (self.word("a constant")?, self.at - 1);
                let ty = self.ty()?;
                self.at -= 2;
                match parse_const(ty.elem, &word) {
                    Some(bits) => Inst::Const(ty, bits),
                    None => return self.error_at(word_at, format!("`{word}` is no {}", ty.elem)),
                }
            }
            "affine" => self.affine()?,
            "fma" => {
                let [a, b, c] = self.three(Self::v)?;
                Inst::Fma(a, b, c)
            }
            "select" => {
                let [a, b, c] = self.three(Self::v)?;
                Inst::Select(a, b, c)
            }
            // What they make is in the type.
            "convert" => Inst::Convert(Elem::Bool, self.v()?),
            "bitcast" => Inst::Bitcast(Elem::Bool, self.v()?),
            "splat" => Inst::Splat(self.v()?, 0),
            "load" => {
                let Place { param, base } = self.place()?;
                match self.takes_word("first") {
                    true => {
                        Inst::LoadFirst(param, base, Ty::scalar(Elem::Bool), self.number("how many lanes")?)
                    }
                    false => Inst::Load(param, base, Ty::scalar(Elem::Bool)),
                }
            }
            "extract" => {
                let x = self.v()?;
                self.mark(",")?;
                Inst::Extract(x, self.number("a lane")?)
            }
            "fold" => {
                let op = self.some("an operation that folds", |w| BinOp::of(w).filter(|op| op.folds()))?;
                Inst::Fold(op, self.v()?)
            }
            "first" => Inst::First(0, self.number("how many lanes")?),
            "any" => Inst::Any(self.v()?),
            "get" => Inst::Get(self.local()?),
            _ => match (UnOp::of(&op), BinOp::of(&op), Cmp::of(&op), Shuffle::of(&op)) {
                (Some(op), ..) => Inst::Unary(op, self.v()?),
                (_, Some(op), ..) => {
                    let [a, b] = self.two(Self::v)?;
                    Inst::Binary(op, a, b)
                }
                (_, _, Some(op), _) => {
                    let [a, b] = self.two(Self::v)?;
                    Inst::Compare(op, a, b)
                }
                (.., Some(op)) => {
                    let [a, b] = self.two(Self::v)?;
                    Inst::Shuffle(op, a, b)
                }
                _ => return self.error_at(op_at, format!("there is no instruction `{op}`")),
            },
        };
        let ty = self.ty()?;
        let inst = match inst {
            Inst::Convert(_, x) => Inst::Convert(ty.elem, x),
            Inst::Bitcast(_, x) => Inst::Bitcast(ty.elem, x),
            Inst::Splat(x, _) => Inst::Splat(x, ty.lanes),
            Inst::Load(p, at, _) => Inst::Load(p, at, ty),
            Inst::LoadFirst(p, at, _, count) => Inst::LoadFirst(p, at, ty, count),
            Inst::First(_, count) => Inst::First(ty.lanes, count),
            other => other,
        };
        Ok((inst, ty))
    }

    fn affine(&mut self) -> Parse<Inst> {
        let (mut terms, mut offset) = (vec![], 0);
        loop {
            if matches!(self.peek(), Token::Word(w) if w.starts_with('v')) {
                terms.push((self.v()?, 1));
            } else {
                let n = self.number("a value or a number")?;
                if !self.takes("*") {
                    offset = n;
                    break;
                }
                terms.push((self.v()?, n));
            }
            if !self.takes("+") {
                break;
            }
        }
        Ok(Inst::Affine(terms, offset))
    }

    fn two<T>(&mut self, item: impl Fn(&mut Self) -> Parse<T>) -> Parse<[T; 2]> {
        let a = item(self)?;
        self.mark(",")?;
        Ok([a, item(self)?])
    }

    fn three<T>(&mut self, item: impl Fn(&mut Self) -> Parse<T>) -> Parse<[T; 3]> {
        let [a, b] = self.two(&item)?;
        self.mark(",")?;
        Ok([a, b, item(self)?])
    }
}
