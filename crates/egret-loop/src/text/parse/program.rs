//! Programs: ports, symbols and sizes, buffers, calls and guards.

use super::super::lex::Token;
use super::super::{Resolver, hash};
use super::{Parse, Parser};
use crate::ir::*;

impl Parser {
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
        let mut found = None;
        if self.takes_word("found") {
            self.mark("[")?;
            found = Some(self.list("]", |p| p.extent("a dim"))?);
        }
        let bound = if self.takes_word("bound") { Some(self.bytes(resolve)?) } else { None };
        Ok(Port { name, onnx_dtype, dims, found, elem_size, bound })
    }

    pub(super) fn program(&mut self, resolve: &Resolver) -> Parse<Program> {
        self.keyword("program")?;
        let mut out = Program { name: self.word("the program's name")?, ..Program::default() };
        self.mark("{")?;
        while self.takes_word("input") {
            out.inputs.push(self.port(resolve)?);
        }
        while self.takes_word("output") {
            out.outputs.push(self.port(resolve)?);
        }
        while self.takes_word("symbol") {
            let name = self.quoted("a name")?;
            self.mark("=")?;
            self.keyword("dim")?;
            let axis = self.number("an axis")?;
            self.keyword("of")?;
            self.keyword("input")?;
            out.symbols.push(Symbol { name, input: self.number("an input")?, axis });
        }
        while self.takes_word("length") {
            let name = self.quoted("a name")?;
            self.mark("=")?;
            self.keyword("most")?;
            let most = self.extent("the most that it can be")?;
            self.keyword("call")?;
            let call = self.number("a call")?;
            self.keyword("at")?;
            // Calls and buffers stand behind it.
            out.lengths.push(Length { name, most, call, at: self.arg(usize::MAX)? });
        }
        while self.takes_word("size") {
            self.next_id('s', out.sizes.len())?;
            self.mark("=")?;
            out.sizes.push(self.size()?);
            if let Some(nodes) = self.nodes()? {
                out.needed.insert(SizeId(out.sizes.len() as u32 - 1), nodes);
            }
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
                "sizes" => Storage::Sizes,
                _ => {
                    return self
                        .error_at(kind, "expected `input`, `output`, `arena`, `weights` or `sizes`");
                }
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
            let tasks = if self.takes_word("tasks") { Some(self.size_id()?) } else { None };
            let sources = self.nodes()?.unwrap_or_default();
            let mut needs = vec![];
            while self.takes_word("needs") {
                needs.push(Need { size: self.size()?, nodes: self.nodes()?.unwrap_or_default() });
            }
            out.calls.push(Call { kernel, args, repeat, tasks, sources, needs });
        }
        loop {
            let repeats = self.takes_word("while");
            if !repeats && !self.takes_word("if") {
                break;
            }
            let holds = !self.takes_word("not");
            let cond = self.arg(out.buffers.len())?;
            self.keyword("run")?;
            let begin = self.number("the first call")?;
            self.mark("..")?;
            let end = self.number("the call behind the last")?;
            out.guards.push(Guard { cond, holds, calls: begin..end, repeats });
        }
        while self.takes_word("branches") {
            self.mark("(")?;
            let calls = self.list(")", |p| {
                let begin = p.number("the first call")?;
                p.mark("..")?;
                Ok(begin..p.number("the call behind the last")?)
            })?;
            self.keyword("on")?;
            let least = self.number("the least threads")?;
            self.keyword("to")?;
            out.branches.push(Branches { calls, threads: [least, self.number("the most threads")?] });
        }
        Ok(out)
    }

    /// The ONNX nodes behind `of`, if there are some.
    fn nodes(&mut self) -> Parse<Option<Vec<String>>> {
        if !self.takes_word("of") {
            return Ok(None);
        }
        let mut nodes = vec![self.quoted("a node")?];
        while self.takes(",") {
            nodes.push(self.quoted("a node")?);
        }
        Ok(Some(nodes))
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
        if self.takes_word("symbol") {
            return Ok(Size::Symbol(self.number("a symbol")?));
        }
        if self.takes_word("length") {
            return Ok(Size::Length(self.number("a length")?));
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
}
