//! The printer.

use super::hash;
use super::names::{Name, spell_const};
use crate::epilogue::Source;
use crate::ir::*;
use std::fmt::Write;

/// Append formatted text; writing into a `String` does not fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => { let _ = write!($out, $($arg)*); };
}

pub(super) fn program(p: &Program, out: &mut String) {
    put!(out, "program {} {{\n", p.name);
    for (what, ports) in [("input", &p.inputs), ("output", &p.outputs)] {
        for port in ports {
            let dims = list(port.dims.iter().map(Extent::to_string));
            put!(out, "  {what} {:?}: onnx {} [{dims}]", port.name, port.onnx_dtype);
            put!(out, " size {}", port.elem_size);
            if let Some(found) = &port.found {
                put!(out, " found [{}]", list(found.iter().map(Extent::to_string)));
            }
            if let Some(bound) = &port.bound {
                put!(out, " bound {} {:?}", bound.len(), hash(bound));
            }
            out.push('\n');
        }
    }
    for s in &p.symbols {
        put!(out, "  symbol {:?} = dim {} of input {}\n", s.name, s.axis, s.input);
    }
    for l in &p.lengths {
        put!(out, "  length {:?} = most {} call {} at {}\n", l.name, l.most, l.call, arg(&l.at));
    }
    for (i, s) in p.sizes.iter().enumerate() {
        put!(out, "  size s{i} = {}", size(s));
        put!(out, "{}\n", p.needed.get(&SizeId(i as u32)).map_or_else(String::new, |nodes| of(nodes)));
    }
    put!(out, "  arena {}", p.arena_bytes);
    if let Some(s) = p.arena_size {
        put!(out, " or {s}");
    }
    out.push('\n');
    put!(out, "  weights {} {:?}\n", p.weights.len(), hash(&p.weights));
    for (i, b) in p.buffers.iter().enumerate() {
        let (place, at) = match b.storage {
            Storage::Input(i) => ("input", i.to_string()),
            Storage::Output(i) => ("output", i.to_string()),
            Storage::Arena(at) => ("arena", at.to_string()),
            Storage::ArenaAt(at) => ("arena", at.to_string()),
            Storage::Weights(at) => ("weights", at.to_string()),
            Storage::Sizes => ("sizes", "0".to_owned()),
        };
        let times = b.times.map_or_else(String::new, |s| format!(" times {s}"));
        put!(out, "  buffer b{i}: {}[{}]{times} in {place} {at}\n", b.elem, b.len);
    }
    out.push_str("}\n");
    for (i, k) in p.kernels.iter().enumerate() {
        out.push('\n');
        kernel(k, Some(KernelId(i as u32)), out);
    }
    if !p.calls.is_empty() {
        out.push('\n');
    }
    for call in &p.calls {
        let args = list(call.args.iter().map(arg));
        put!(out, "call {}({args})", call.kernel);
        if let Some(Repeat { first, runs, step }) = call.repeat {
            put!(out, " repeat {runs} from {first} step {step}");
        }
        if let Some(tasks) = call.tasks {
            put!(out, " tasks {tasks}");
        }
        out.push_str(&of(&call.sources));
        for need in &call.needs {
            put!(out, " needs {}{}", size(&need.size), of(&need.nodes));
        }
        out.push('\n');
    }
    for guard in &p.guards {
        let cond = arg(&guard.cond);
        let verb = if guard.repeats { "while" } else { "if" };
        let not = if guard.holds { "" } else { "not " };
        put!(out, "{verb} {not}{cond} run {} .. {}\n", guard.calls.start, guard.calls.end);
    }
    for branches in &p.branches {
        let calls = list(branches.calls.iter().map(|c| format!("{} .. {}", c.start, c.end)));
        let [least, most] = branches.threads;
        put!(out, "branches({calls}) on {least} to {most}\n");
    }
}

/// The ONNX nodes that something is of, if there are some.
fn of(nodes: &[String]) -> String {
    match nodes {
        [] => String::new(),
        nodes => format!(" of {}", list(nodes.iter().map(|s| format!("{s:?}")))),
    }
}

fn size(size: &Size) -> String {
    match *size {
        Size::Symbol(i) => format!("symbol {i}"),
        Size::Length(i) => format!("length {i}"),
        Size::Const(c) => c.to_string(),
        Size::Op(op, a, b) => format!("{} {a}, {b}", op.name()),
    }
}

/// A buffer from an element on.
fn arg(arg: &Arg) -> String {
    match arg.offset {
        0 => arg.buffer.to_string(),
        at => format!("{} + {at}", arg.buffer),
    }
}

pub(super) fn kernel(k: &Kernel, id: Option<KernelId>, out: &mut String) {
    out.push_str("kernel ");
    if let Some(id) = id {
        put!(out, "{id} ");
    }
    let len = |len| if len == ParamInfo::OPEN { "open".to_owned() } else { format!("{len}") };
    let param =
        |(i, p): (usize, &ParamInfo)| format!("p{i}: {}[{}] {}", p.elem, len(p.len), p.access.name());
    let params = list(k.params.iter().enumerate().map(param));
    put!(out, "{}({params}) tasks {} in {} {{\n", k.name, k.task, k.tasks);
    for (i, ty) in k.locals.iter().enumerate() {
        put!(out, "  local l{i} : {ty}\n");
    }
    Printer { kernel: k, out, depth: 1 }.block(&k.body);
    out.push_str("}\n");
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// Offsets of rows: `[0; 6]` where all are alike, `[0, 64, .., 320]` where more than three are evenly apart.
pub(super) fn rows(rows: &[i64]) -> String {
    let even = |step: i64| rows.windows(2).all(|w| w[0].checked_add(step) == Some(w[1]));
    match rows {
        [first, _, ..] if even(0) => format!("[{first}; {}]", rows.len()),
        [first, second, _, .., last] if second.checked_sub(*first).is_some_and(even) && rows.len() > 3 => {
            format!("[{first}, {second}, .., {last}]")
        }
        _ => format!("{rows:?}"),
    }
}

struct Printer<'a> {
    kernel: &'a Kernel,
    out: &'a mut String,
    depth: usize,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) {
        put!(self.out, "{:1$}{text}\n", "", 2 * self.depth);
    }

    fn block(&mut self, stmts: &[Stmt]) {
        for s in stmts {
            self.stmt(s);
        }
    }

    fn inner(&mut self, stmts: &[Stmt]) {
        self.depth += 1;
        self.block(stmts);
        self.depth -= 1;
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let(v, i) => {
                let ty = self.kernel.types.get(v.0 as usize);
                let ty = ty.map_or_else(|| "?".into(), Ty::to_string);
                self.line(&format!("{v} = {} : {ty}", inst(i, 'v')));
            }
            Stmt::Set(l, v) => self.line(&format!("set {l}, {v}")),
            Stmt::Store { param, index, value } => self.line(&format!("store {param}[{index}], {value}")),
            Stmt::StoreFirst { param, index, value, count } => {
                self.line(&format!("store {param}[{index}], {value} first {count}"));
            }
            Stmt::For { var, begin, end, step, body } => {
                let by = if *step == 1 { String::new() } else { format!(" step {step}") };
                self.line(&format!("for {var} in {begin} .. {end}{by} {{"));
                self.inner(body);
                self.line("}");
            }
            Stmt::While { head, test, body } => {
                self.line("while {");
                self.inner(head);
                self.line(&format!("}} {test} {{"));
                self.inner(body);
                self.line("}");
            }
            Stmt::If { cond, then, otherwise } => {
                self.line(&format!("if {cond} {{"));
                self.inner(then);
                if !otherwise.is_empty() {
                    self.line("} else {");
                    self.inner(otherwise);
                }
                self.line("}");
            }
            Stmt::Check { value, low, high } => self.line(&format!("check {value} in {low} .. {high}")),
            Stmt::Tile(tile) => {
                self.line("tile {");
                self.depth += 1;
                self.tile(tile);
                self.depth -= 1;
                self.line("}");
            }
        }
    }

    fn tile(&mut self, t: &Tile) {
        self.line(&format!("a {} rows {}", place(&t.a), rows(&t.a_rows)));
        self.line(&format!("b {} cols {}", place(&t.b), t.cols));
        for axis in &t.axes {
            self.line(&format!("axis {} a {} b {}", axis.extent, axis.a_stride, axis.b_stride));
        }
        if let Some(nonzeros) = &t.nonzeros {
            let masked = |s: &NonzeroStep| s.mask.map_or_else(String::new, |m| format!(" mask {m}"));
            let step = |s: &NonzeroStep| format!("{}: {}{}", s.b, s.rows, masked(s));
            let masks =
                nonzeros.masks.as_ref().map_or_else(String::new, |at| format!(" masks {}", place(at)));
            let second = nonzeros.second.as_ref();
            let second =
                second.map_or_else(String::new, |s| format!(" second {} from {}", place(&s.b), s.from));
            let steps = list(nonzeros.steps.iter().map(step));
            self.line(&format!("nonzeros runs {}{second}{masks} [{steps}]", nonzeros.runs));
        }
        self.line(&format!("block {} sets {}", t.block, t.sets));
        self.line(&format!("out {} rows {}", place(&t.out), rows(&t.out_rows)));
        self.epilogue(&t.epilogue, t.products(&self.kernel.params));
    }

    fn epilogue(&mut self, e: &Epilogue, products: Option<Products>) {
        let elems = products.and_then(|p| e.elems(p, &self.kernel.params).ok());
        for (n, source) in e.sources().enumerate() {
            match source {
                Source::Sum => self.line(&format!("sum e{n}")),
                Source::Operand(o) => {
                    let o = &e.operands[o];
                    let at = place(&o.place);
                    self.line(&format!("e{n} = {at} rows {} cols {}", rows(&o.rows), o.col_stride));
                }
                Source::Inst(i) => {
                    let elem = elems.as_ref().map_or_else(|| "?".into(), |all| all[n].to_string());
                    self.line(&format!("e{n} = {} : {elem}", inst(i, 'e')));
                }
            }
        }
        self.line(&format!("store e{}", e.result.0));
    }
}

fn place(p: &Place) -> String {
    format!("{}[{}]", p.param, p.base)
}

/// An instruction, whose operands have names of this letter.
fn inst(i: &Inst, letter: char) -> String {
    let n = |v: &V| format!("{letter}{}", v.0);
    match i {
        Inst::Const(ty, bits) => format!("const {}", spell_const(ty.elem, *bits)),
        Inst::Affine(terms, offset) => {
            let mut parts: Vec<String> = terms
                .iter()
                .map(|(v, c)| if *c == 1 { v.to_string() } else { format!("{c}*{v}") })
                .collect();
            if *offset != 0 || parts.is_empty() {
                parts.push(offset.to_string());
            }
            format!("affine {}", parts.join(" + "))
        }
        Inst::Unary(op, x) => format!("{} {}", op.name(), n(x)),
        Inst::Binary(op, a, b) => format!("{} {}, {}", op.name(), n(a), n(b)),
        Inst::Fma(a, b, c) => format!("fma {}, {}, {}", n(a), n(b), n(c)),
        Inst::Compare(op, a, b) => format!("{} {}, {}", op.name(), n(a), n(b)),
        Inst::Select(a, b, c) => format!("select {}, {}, {}", n(a), n(b), n(c)),
        Inst::Convert(_, x) => format!("convert {}", n(x)),
        Inst::Bitcast(_, x) => format!("bitcast {}", n(x)),
        Inst::Load(p, at, _) => format!("load {p}[{at}]"),
        Inst::LoadFirst(p, at, _, count) => format!("load {p}[{at}] first {count}"),
        Inst::First(_, count) => format!("first {count}"),
        Inst::Splat(x, _) => format!("splat {x}"),
        Inst::Extract(x, lane) => format!("extract {x}, {lane}"),
        Inst::Shuffle(op, a, b) => format!("{} {a}, {b}", op.name()),
        Inst::Fold(op, x) => format!("fold {} {x}", op.name()),
        Inst::Any(x) => format!("any {x}"),
        Inst::Get(l) => format!("get {l}"),
    }
}
