//! Parsing below the level of statements: tokens, dims, types, attributes, constants.

use super::lex::{Placed, Token};
use super::{ParseError, Resolver, literal};
use crate::{Attr, AttrKind, DType, Dim, DimOp, SeqType, Tensor, TensorType, Type};

/// How deep types, dims and regions may nest.
pub(super) const MAX_DEPTH: usize = 64;

/// How many terms a dim may have.
const MAX_TERMS: usize = 1024;

/// The tokens, and the place in them.
pub(super) struct Cursor<'a> {
    pub(super) tokens: Vec<Placed>,
    pub(super) at: usize,
    pub(super) depth: usize,
    pub(super) resolve: &'a Resolver<'a>,
}

pub(super) type Parsed<T> = Result<T, ParseError>;

impl Cursor<'_> {
    /// The next token. The last one, the end, stays.
    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)].token
    }

    pub(super) fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    /// An error at the token `at`.
    pub(super) fn fail_at<T>(&self, at: usize, message: impl Into<String>) -> Parsed<T> {
        let place = &self.tokens[at.min(self.tokens.len() - 1)];
        Err(ParseError { line: place.line, column: place.column, message: message.into() })
    }

    pub(super) fn expected<T>(&self, what: &str) -> Parsed<T> {
        self.fail_at(self.at, format!("expected {what}, found {}", self.peek().describe()))
    }

    pub(super) fn eat(&mut self, mark: &'static str) -> bool {
        let there = *self.peek() == Token::Mark(mark);
        if there {
            self.advance();
        }
        there
    }

    pub(super) fn expect(&mut self, mark: &'static str) -> Parsed<()> {
        if self.eat(mark) { Ok(()) } else { self.expected(&format!("`{mark}`")) }
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let there = matches!(self.peek(), Token::Word(w) if w == word);
        if there {
            self.advance();
        }
        there
    }

    pub(super) fn word(&mut self, what: &str) -> Parsed<String> {
        match self.peek() {
            Token::Word(w) => {
                let w = w.clone();
                self.advance();
                Ok(w)
            }
            _ => self.expected(what),
        }
    }

    pub(super) fn string(&mut self) -> Parsed<String> {
        match self.peek() {
            Token::Str(s) => {
                let s = s.clone();
                self.advance();
                Ok(s)
            }
            _ => self.expected("a string"),
        }
    }

    pub(super) fn optional_string(&mut self) -> Parsed<Option<String>> {
        match self.peek() {
            Token::Str(_) => self.string().map(Some),
            _ => Ok(None),
        }
    }

    /// Items between `open` and `close`, separated by commas.
    pub(super) fn list<T>(
        &mut self,
        open: &'static str,
        close: &'static str,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.expect(open)?;
        let mut out = vec![];
        if self.eat(close) {
            return Ok(out);
        }
        loop {
            out.push(item(self)?);
            if self.eat(close) {
                return Ok(out);
            }
            if !self.eat(",") {
                return self.expected(&format!("`,` or `{close}`"));
            }
        }
    }

    /// Go one level down, refusing input that nests too deep for the stack.
    pub(super) fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return self.fail_at(self.at, format!("nests deeper than {MAX_DEPTH} levels"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// A number or word such as `nan` with its sign, as text.
    fn signed(&mut self, what: &str) -> Parsed<String> {
        let sign = if self.eat("-") { "-" } else { "" };
        match self.peek() {
            Token::Number(n) | Token::Word(n) => {
                let text = format!("{sign}{n}");
                self.advance();
                Ok(text)
            }
            _ => self.expected(what),
        }
    }

    pub(super) fn int(&mut self) -> Parsed<i64> {
        let at = self.at;
        let text = self.signed("an integer")?;
        text.parse()
            .or_else(|_| self.fail_at(at, format!("expected an integer of 64 bits, found `{text}`")))
    }

    fn float(&mut self) -> Parsed<f64> {
        let at = self.at;
        let text = self.signed("a number")?;
        literal::read_float64(&text)
            .map_or_else(|| self.fail_at(at, format!("expected a number, found `{text}`")), Ok)
    }

    /// A sum of products.
    pub(super) fn dim(&mut self) -> Parsed<Dim> {
        self.nested(|c| {
            let at = c.at;
            let negative = c.eat("-");
            let mut sum = c.product(negative)?;
            loop {
                if sum.term_count() > MAX_TERMS {
                    return c.fail_at(at, "the expression has too many terms");
                }
                let negative = *c.peek() == Token::Mark("-");
                if !negative && *c.peek() != Token::Mark("+") {
                    return Ok(sum);
                }
                c.advance();
                sum = sum + c.product(negative)?;
            }
        })
    }

    fn product(&mut self, negative: bool) -> Parsed<Dim> {
        let at = self.at;
        // The sign goes to a leading number: the least integer is in range only with it.
        let mut product = match self.peek() {
            Token::Number(n) => {
                let text = if negative { format!("-{n}") } else { n.clone() };
                let Ok(v) = text.parse() else { return self.expected("an integer of 64 bits") };
                self.advance();
                Dim::constant(v)
            }
            _ => Dim::constant(if negative { -1 } else { 1 }) * self.atom()?,
        };
        while self.eat("*") {
            let factor = self.atom()?;
            if product.term_count().saturating_mul(factor.term_count()) > MAX_TERMS {
                return self.fail_at(at, "the expression has too many terms");
            }
            product = product * factor;
        }
        Ok(product)
    }

    fn atom(&mut self) -> Parsed<Dim> {
        match self.peek().clone() {
            Token::Number(n) => match n.parse() {
                Ok(v) => {
                    self.advance();
                    Ok(Dim::constant(v))
                }
                Err(_) => self.expected("an integer of 64 bits"),
            },
            Token::Str(name) if name.is_empty() => self.expected("the name of a symbol"),
            Token::Str(name) => {
                self.advance();
                Ok(Dim::symbol(&name))
            }
            Token::Word(name) if name == "_" => {
                self.advance();
                Ok(Dim::unnamed())
            }
            Token::Word(name) => {
                self.advance();
                let Some(op) = DimOp::ALL.into_iter().find(|o| o.name() == name) else {
                    return Ok(Dim::symbol(&name));
                };
                self.expect("(")?;
                let a = self.dim()?;
                self.expect(",")?;
                let b = self.dim()?;
                self.expect(")")?;
                Ok(a.op(op, &b))
            }
            Token::Mark("(") => {
                self.advance();
                let d = self.dim()?;
                self.expect(")")?;
                Ok(d)
            }
            _ => self.expected("a dim: an integer, a symbol or an expression of them"),
        }
    }

    fn dims(&mut self) -> Parsed<Vec<Dim>> {
        self.list("[", "]", Self::dim)
    }

    fn dtype(&mut self) -> Parsed<DType> {
        let at = self.at;
        let name = self.word("an element type")?;
        DType::from_name(&name)
            .map_or_else(|| self.fail_at(at, format!("expected an element type, found `{name}`")), Ok)
    }

    fn tensor_type(&mut self) -> Parsed<TensorType> {
        Ok(TensorType { dtype: self.dtype()?, shape: self.dims()? })
    }

    pub(super) fn ty(&mut self) -> Parsed<Type> {
        self.nested(|c| {
            if c.eat_word("seq") {
                c.expect("<")?;
                let dtype = c.dtype()?;
                let shape = if *c.peek() == Token::Mark("[") { Some(c.dims()?) } else { None };
                c.expect(">")?;
                return Ok(Type::Sequence(Box::new(SeqType { dtype, shape })));
            }
            if c.eat_word("opt") {
                c.expect("<")?;
                let inner = c.ty()?;
                c.expect(">")?;
                return Ok(Type::Optional(Box::new(inner)));
            }
            c.tensor_type().map(Type::Tensor)
        })
    }

    /// A constant: its type, then its elements, its hash, or a rule that makes it.
    pub(super) fn tensor(&mut self) -> Parsed<Tensor> {
        let at = self.at;
        let ty = self.tensor_type()?;
        let (Some(shape), Some(len)) = (ty.const_dims(), ty.const_len()) else {
            return self.fail_at(at, format!("expected constant dims that fit memory, found {ty}"));
        };
        let place = self.at;
        match self.peek().clone() {
            Token::Hash(digits) => {
                self.advance();
                match (self.resolve)(&digits) {
                    Some(t) if t.ty() == ty => Ok(t),
                    Some(t) => {
                        self.fail_at(place, format!("the constant #{digits} is {}, not {ty}", t.ty()))
                    }
                    None => self.fail_at(place, format!("there is no constant #{digits} to be had")),
                }
            }
            Token::Mark("[") => self.elements(ty.dtype, &shape, len),
            Token::Word(rule) if rule == "splat" || rule == "random" => {
                self.advance();
                let size = ty.dtype.size();
                if size == 0 || len.checked_mul(size).is_none_or(|b| b > literal::MAX_BYTES) {
                    return self.fail_at(place, format!("`{rule}` does not make {ty}"));
                }
                self.expect("(")?;
                let bytes = if rule == "splat" {
                    self.element(ty.dtype)?.repeat(len)
                } else {
                    let seed = self.int()?;
                    match literal::random(ty.dtype, len, seed as u64) {
                        Some(bytes) => bytes,
                        None => return self.fail_at(place, format!("`random` does not make {ty}")),
                    }
                };
                self.expect(")")?;
                Ok(Tensor::from_bytes(ty.dtype, &shape, &bytes))
            }
            _ => self
                .expected("the elements `[..]`, the hash `#..`, `splat(..)` or `random(..)` of a constant"),
        }
    }

    fn elements(&mut self, dtype: DType, shape: &[usize], len: usize) -> Parsed<Tensor> {
        let at = self.at;
        let wrong = |found: usize| format!("expected {len} elements, found {found}");
        if dtype == DType::String {
            let strings = self.list("[", "]", Self::string)?;
            if strings.len() != len {
                return self.fail_at(at, wrong(strings.len()));
            }
            return Ok(Tensor::from_strings(shape, strings));
        }
        let elements = self.list("[", "]", |c| c.element(dtype))?;
        if elements.len() != len {
            return self.fail_at(at, wrong(elements.len()));
        }
        Ok(Tensor::from_bytes(dtype, shape, &elements.concat()))
    }

    fn element(&mut self, dtype: DType) -> Parsed<Vec<u8>> {
        let at = self.at;
        let text = self.signed(&format!("an element of type {dtype}"))?;
        literal::read_element(dtype, &text).map_or_else(
            || self.fail_at(at, format!("expected an element of type {dtype}, found `{text}`")),
            Ok,
        )
    }

    /// An entry of a declaration: a symbol, or `_`.
    fn declared(&mut self) -> Parsed<Option<String>> {
        let at = self.at;
        match self.dim()?.as_symbol() {
            Some("") => Ok(None),
            Some(name) => Ok(Some(name.to_owned())),
            None => self.fail_at(at, "expected a symbol or `_`"),
        }
    }

    /// An attribute's value of the kind that the op table gives.
    pub(super) fn attr(&mut self, kind: AttrKind) -> Parsed<Attr> {
        Ok(match kind {
            AttrKind::Int | AttrKind::Flag => Attr::Int(self.int()?),
            AttrKind::Float => Attr::Float(self.float()?),
            AttrKind::String | AttrKind::Word(_) => Attr::String(self.string()?),
            AttrKind::DType => Attr::DType(self.dtype()?),
            AttrKind::Dim => Attr::Dim(self.dim()?),
            AttrKind::Dims => Attr::Dims(self.dims()?),
            AttrKind::Ints => Attr::Ints(self.list("[", "]", Self::int)?),
            AttrKind::Floats => Attr::Floats(self.list("[", "]", Self::float)?),
            AttrKind::Strings => Attr::Strings(self.list("[", "]", Self::string)?),
            AttrKind::Tensor => Attr::Tensor(self.tensor()?),
            AttrKind::Type => Attr::Type(self.ty()?),
            AttrKind::Symbols => Attr::Symbols(self.list("[", "]", Self::declared)?),
        })
    }
}
