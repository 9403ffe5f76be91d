//! The parser.

mod tile;

use super::lex::{Placed, Token, lex};
use super::names::{self, Name, parse_const};
use super::{ParseError, Resolver, hash};
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
    params: usize,
    locals: Vec<Ty>,
    depth: usize,
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
        let len = self.number("a number of elements")?;
        self.mark("]")?;
        Ok((elem, len))
    }

    // ---- programs ----

    fn bytes(&mut self, resolve: &Resolver) -> Parse<Vec<u8>> {
        let len: usize = self.number("a number of bytes")?;
        let at = self.at;
        let wanted = self.quoted("the hash of bytes")?;
        let bytes = if len == 0 { Some(vec![]) } else { resolve(&wanted) };
        match bytes {
            Some(bytes) if bytes.len() == len && hash(&bytes) == wanted => Ok(bytes),
            Some(_) => self.error_at(at, format!("the bytes are not the {len} of hash {wanted}")),
            None => self.error_at(at, format!("nobody has the {len} bytes of hash {wanted}")),
        }
    }

    fn port(&mut self, resolve: &Resolver) -> Parse<Port> {
        let name = self.quoted("a name")?;
        self.mark(":")?;
        self.keyword("onnx")?;
        let onnx_dtype = self.number("a data type")?;
        self.mark("[")?;
        let dims = self.list("]", |p| p.extent("a dim"))?;
        self.keyword("size")?;
        let elem_size = self.number("a size")?;
        let bound = if self.takes_word("bound") { Some(self.bytes(resolve)?) } else { None };
        Ok(Port { name, onnx_dtype, dims, elem_size, bound })
    }

    fn program(&mut self, resolve: &Resolver) -> Parse<Program> {
        self.keyword("program")?;
        let mut out = Program { name: self.word("the program's name")?, ..Program::default() };
        self.mark("{")?;
        while self.takes_word("input") {
            out.inputs.push(self.port(resolve)?);
        }
        while self.takes_word("output") {
            out.outputs.push(self.port(resolve)?);
        }
        while self.takes_word("size") {
            self.next_id('s', out.sizes.len())?;
            self.mark("=")?;
            out.sizes.push(self.size()?);
        }
        self.keyword("arena")?;
        out.arena_bytes = self.number("a number of bytes")?;
        out.arena_size = if self.takes_word("or") { Some(self.size_id()?) } else { None };
        self.keyword("weights")?;
        out.weights = self.bytes(resolve)?.into();
        while self.takes_word("buffer") {
            self.next_id('b', out.buffers.len())?;
            self.mark(":")?;
            let (elem, len) = self.room()?;
            let times = if self.takes_word("times") { Some(self.size_id()?) } else { None };
            self.keyword("in")?;
            let kind = self.at;
            let place = self.word("a place")?;
            let at = match self.extent("a position")? {
                Extent::Size(at) if place == "arena" => {
                    out.buffers.push(Buffer { elem, len, times, storage: Storage::ArenaAt(at) });
                    continue;
                }
                Extent::Const(at) if at >= 0 => at as usize,
                _ => return self.error_at(kind, "expected a position"),
            };
            let storage = match place.as_str() {
                "input" => Storage::Input(at),
                "output" => Storage::Output(at),
                "arena" => Storage::Arena(at),
                "weights" => Storage::Weights(at),
                _ => return self.error_at(kind, "expected `input`, `output`, `arena` or `weights`"),
            };
            out.buffers.push(Buffer { elem, len, times, storage });
        }
        self.mark("}")?;
        while self.takes_word("kernel") {
            self.next_id('k', out.kernels.len())?;
            let name = self.word("the kernel's name")?;
            let kernel = self.kernel(name)?;
            out.kernels.push(kernel);
        }
        while self.takes_word("call") {
            let kernel = KernelId(self.known('k', out.kernels.len(), "a kernel")?);
            self.mark("(")?;
            let args = self.list(")", |p| p.arg(out.buffers.len()))?;
            let repeat = if self.takes_word("repeat") { Some(self.repeat()?) } else { None };
            let mut sources = vec![];
            if self.takes_word("of") {
                sources.push(self.quoted("a node")?);
                while self.takes(",") {
                    sources.push(self.quoted("a node")?);
                }
            }
            out.calls.push(Call { kernel, args, repeat, sources });
        }
        loop {
            let repeats = self.takes_word("while");
            if !repeats && !self.takes_word("if") {
                return Ok(out);
            }
            let holds = !self.takes_word("not");
            let cond = self.arg(out.buffers.len())?;
            self.keyword("run")?;
            let begin = self.number("the first call")?;
            self.mark("..")?;
            let end = self.number("the call behind the last")?;
            out.guards.push(Guard { cond, holds, calls: begin..end, repeats });
        }
    }

    fn size_id(&mut self) -> Parse<SizeId> {
        Ok(SizeId(self.id('s', "a size")?))
    }

    /// A number or a size.
    fn extent(&mut self, what: &str) -> Parse<Extent> {
        let size = |w: &str| Some(Extent::Size(SizeId(w.strip_prefix('s')?.parse().ok()?)));
        self.some(what, |w| w.parse().ok().map(Extent::Const).or_else(|| size(w)))
    }

    fn size(&mut self) -> Parse<Size> {
        if self.takes_word("dim") {
            let axis = self.number("an axis")?;
            self.keyword("of")?;
            self.keyword("input")?;
            return Ok(Size::Dim { input: self.number("an input")?, axis });
        }
        let op = |w: &str| SizeOp::ALL.into_iter().find(|op| op.name() == w);
        let op = match self.peek() {
            Token::Word(w) => op(w),
            _ => None,
        };
        let Some(op) = op else { return Ok(Size::Const(self.number("a size")?)) };
        self.at += 1;
        let a = self.size_id()?;
        self.mark(",")?;
        Ok(Size::Op(op, a, self.size_id()?))
    }

    /// The runs of a call, behind `repeat`.
    fn repeat(&mut self) -> Parse<Repeat> {
        let runs = self.size_id()?;
        self.keyword("from")?;
        let first = self.extent("the first unit")?;
        self.keyword("step")?;
        Ok(Repeat { first, runs, step: self.number("a number of units")? })
    }

    /// One of so many buffers, from an element on.
    fn arg(&mut self, buffers: usize) -> Parse<Arg> {
        let buffer = BufferId(self.known('b', buffers, "a buffer")?);
        let offset = if self.takes("+") { self.number("an offset")? } else { 0 };
        Ok(Arg { buffer, offset })
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
        self.scope.params = params.len();
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

    fn v(&mut self) -> Parse<V> {
        let at = self.at;
        let v = V(self.id('v', "a value")?);
        self.scope.uses.push((v, at));
        Ok(v)
    }

    fn param(&mut self) -> Parse<Param> {
        Ok(Param(self.known('p', self.scope.params, "a parameter")?))
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
            let low = self.number("the least number")?;
            self.mark("..")?;
            Ok(Stmt::Check { value, low, high: self.number("the end of the numbers")? })
        } else if self.takes_word("tile") {
            Ok(Stmt::Tile(Box::new(self.tile()?)))
        } else {
            self.let_()
        }
    }

    fn let_(&mut self) -> Parse<Stmt> {
        let (at, v) = (self.at, self.id('v', "a statement")?);
        self.mark("=")?;
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
            "interleave_low" | "interleave_high" => {
                let half = if op == "interleave_low" { Half::Low } else { Half::High };
                let [a, b] = self.two(Self::v)?;
                Inst::Interleave(half, a, b)
            }
            "deinterleave_even" | "deinterleave_odd" => {
                let parity = if op == "deinterleave_even" { Parity::Even } else { Parity::Odd };
                let [a, b] = self.two(Self::v)?;
                Inst::Deinterleave(parity, a, b)
            }
            "fold" => {
                let op = self.some("an operation that folds", |w| BinOp::of(w).filter(|op| op.folds()))?;
                Inst::Fold(op, self.v()?)
            }
            "first" => Inst::First(0, self.number("how many lanes")?),
            "any" => Inst::Any(self.v()?),
            "get" => Inst::Get(self.local()?),
            _ => match (UnOp::of(&op), BinOp::of(&op), Cmp::of(&op)) {
                (Some(op), ..) => Inst::Unary(op, self.v()?),
                (_, Some(op), _) => {
                    let [a, b] = self.two(Self::v)?;
                    Inst::Binary(op, a, b)
                }
                (_, _, Some(op)) => {
                    let [a, b] = self.two(Self::v)?;
                    Inst::Compare(op, a, b)
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
        match self.scope.types.insert(v, ty) {
            None => Ok(Stmt::Let(V(v), inst)),
            Some(_) => self.error_at(at, format!("v{v} is defined twice")),
        }
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
