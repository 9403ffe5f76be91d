//! Contraction tiles of bytes by AMX: the reduction in tile registers of 16 rows by 64 bytes, the epilogue in vectors.
//!
//! A pass sums up to two runs of 16 rows by two vectors of columns in four tile registers. Panels of `b` as dot products of vectors
//! read them (four bytes a column, a vector of columns a step) are what a tile register of `b` holds: its rows are steps. One of `a`
//! is read where it is, a row's steps side by side. Sums go through the stack to the epilogue, which is that of all wide tiles.

use std::ops::Range;

use egret_loop::{Axis, ParamInfo, Products, Tile};
use iced_x86::code_asm::{AsmRegister64, r8, r9, r10, rax, rbx};
use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::super::{Encoded, Encoding, broken};
use super::asm::{Mem, Vr, WideIsa};
use super::tile::{self, Encoder, WholeTile, displacement, split};

/// Rows of a tile register.
const ROWS: usize = 16;
/// Steps of the reduction in a row of a tile register of `a`: four bytes each.
const STEPS: i64 = 16;
/// Steps of a chunk below which tile registers are too empty.
const LEAST_STEPS: i64 = 8;
/// Multiply-adds of vectors, at least, that a tile register saves the time for its configuration with.
const LEAST_WORK: i64 = 1024;

/// What of a tile AMX needs to know.
#[derive(Debug)]
pub(super) struct Form {
    /// Runs of at most 16 rows, evenly apart in `a`.
    runs: Vec<Range<usize>>,
    /// Elements of `a` from a row of a run to the next.
    row_stride: i64,
    /// Axes around the chunks.
    outer: Vec<Axis>,
    /// Chunks of steps: how many, and how many steps each is.
    chunks: i64,
    steps: i64,
    /// Elements of `b` from a step to the next.
    b_stride: i64,
}

/// Tile registers of a pass: rows of each run, and bytes of each vector of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    rows: Vec<usize>,
    bytes: Vec<usize>,
    steps: i64,
}

impl Shape {
    const A: usize = 4;
    const B: usize = 6;

    fn sum(run: usize, vector: usize) -> usize {
        2 * run + vector
    }

    /// What `ldtilecfg` reads: palette 1, from byte 16 on two bytes of columns for each register, from byte 48 on one of rows.
    fn words(&self) -> Vec<u32> {
        let mut config = [0u8; 64];
        config[0] = 1;
        let mut set = |register: usize, rows: usize, bytes: usize| {
            (config[16 + 2 * register], config[48 + register]) = (bytes as u8, rows as u8);
        };
        for (run, &rows) in self.rows.iter().enumerate() {
            set(Shape::A + run, rows, 4 * self.steps as usize);
            self.bytes.iter().enumerate().for_each(|(v, &bytes)| set(Shape::sum(run, v), rows, bytes));
        }
        self.bytes.iter().enumerate().for_each(|(v, &bytes)| set(Shape::B + v, self.steps as usize, bytes));
        config.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect()
    }
}

/// Encode a tile as [`tile::encode`] does, tiles of bytes by AMX where that is faster.
pub(super) fn encode(tile: &Tile, params: &[ParamInfo]) -> Encoding {
    match form(tile, params).filter(|f| f.pays(tile)) {
        Some(form) => encode_as(tile, params, form),
        None => tile::encode(tile, params, WideIsa::Avx512, true),
    }
}

/// Encode a tile by AMX.
pub(super) fn encode_as(tile: &Tile, params: &[ParamInfo], form: Form) -> Encoding {
    let (asm, data) = tile::assemble_as(tile, params, WideIsa::Avx512, true, Some(&form))?;
    let bytes = asm.finish()?;
    Ok(Encoded { code: bytes.len() - data, bytes, calls: vec![], next: None })
}

/// How AMX can compute a tile; nothing where it cannot.
pub(super) fn form(tile: &Tile, params: &[ParamInfo]) -> Option<Form> {
    if tile.products(params) != Some(Products::Bytes) || tile.a_rows.is_empty() {
        return None;
    }
    let mut outer = Axis::joined(&tile.axes);
    let inner = outer.pop()?;
    // The steps of a row of `a` are side by side; those of `b` lie in rows that are read forwards.
    if inner.a_stride != 4 || outer.len() > 2 || inner.b_stride < 0 {
        return None;
    }
    let steps = (1..=STEPS).rev().find(|s| inner.extent % s == 0)?;
    let mut runs: Vec<Range<usize>> = vec![];
    let row_stride = tile.a_rows.get(1).map_or(0, |r| r - tile.a_rows[0]);
    let mut begin = 0;
    for row in 1..=tile.a_rows.len() {
        if row == tile.a_rows.len() || tile.a_rows[row] - tile.a_rows[row - 1] != row_stride {
            runs.extend(split(row - begin, ROWS).into_iter().map(|r| begin + r.start..begin + r.end));
            begin = row;
        }
    }
    let far = [row_stride, inner.b_stride].into_iter().any(|s| i32::try_from(s).is_err());
    (!far).then_some(Form {
        runs,
        row_stride,
        outer,
        chunks: inner.extent / steps,
        steps,
        b_stride: inner.b_stride,
    })
}

impl Form {
    /// Is it faster than dot products of vectors?
    fn pays(&self, tile: &Tile) -> bool {
        let rows = tile.a_rows.len();
        let outer: i64 = self.outer.iter().map(|a| a.extent).product();
        let work = (rows * tile.cols.div_ceil(WideIsa::Avx512.lanes())) as i64;
        self.steps >= LEAST_STEPS
            && 2 * rows >= ROWS * self.runs.len()
            && work * outer * self.chunks * self.steps >= LEAST_WORK
    }

    /// Two runs of rows by two vectors each.
    fn passes(&self, vectors: usize) -> Vec<(Range<usize>, Range<usize>)> {
        let columns = split(vectors, 2);
        let of = |runs: Range<usize>| columns.iter().map(move |v| (runs.clone(), v.clone()));
        split(self.runs.len(), 2).into_iter().flat_map(of).collect()
    }

    /// Those of all passes, each once.
    fn shapes(&self, e: &Encoder<'_>) -> Vec<Shape> {
        let mut shapes = vec![];
        for (runs, vectors) in self.passes(e.vectors) {
            let shape = self.shape(e, &runs, &vectors);
            if !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
        shapes
    }

    /// The tile registers of a pass.
    fn shape(&self, e: &Encoder<'_>, runs: &Range<usize>, vectors: &Range<usize>) -> Shape {
        let bytes = |v: usize| 4 * e.mask(v).and(e.tail).unwrap_or(e.isa.lanes());
        Shape {
            rows: self.runs[runs.clone()].iter().map(Range::len).collect(),
            bytes: vectors.clone().map(bytes).collect(),
            steps: self.steps,
        }
    }
}

impl WholeTile for Form {
    /// The sums of a run.
    fn on_stack(&self, e: &Encoder<'_>) -> Encoding<usize> {
        Ok(self.runs.iter().map(Range::len).max().unwrap_or(0) * e.vectors.min(2))
    }

    fn words(&self, e: &Encoder<'_>) -> Vec<u32> {
        self.shapes(e).iter().flat_map(Shape::words).collect()
    }

    fn emit(&self, e: &mut Encoder<'_>, words_at: i64) -> Encoding<()> {
        e.amx(self, words_at)
    }
}

fn tmm(n: usize) -> Register {
    Register::TMM0 + n as u32
}

/// A tile's place in memory: the index register holds how far its rows are apart.
fn rows_at(base: Register, stride: AsmRegister64, disp: i64) -> MemoryOperand {
    let size = u32::from(disp != 0);
    MemoryOperand::new(base, stride.into(), 1, disp, size, false, Register::None)
}

impl Encoder<'_> {
    /// The whole tile; configurations begin at `configs_at` behind where the constants begin.
    fn amx(&mut self, form: &Form, configs_at: i64) -> Encoding<()> {
        let shapes = form.shapes(self);
        let mut current = None;
        for (runs, vectors) in form.passes(self.vectors) {
            let shape = form.shape(self, &runs, &vectors);
            let index = shapes.iter().position(|s| *s == shape);
            let index = index.ok_or_else(|| broken("a pass without a configuration"))?;
            if current != Some(index) {
                let config = Mem::at(Register::R11, configs_at + 64 * index as i64);
                self.asm.add(Instruction::with1(Code::VEX_Ldtilecfg_m512, config.operand()));
                current = Some(index);
            }
            self.sum_up(form, &runs, &vectors)?;
            for (i, run) in runs.enumerate() {
                self.give(&form.runs[run], i, &vectors)?;
            }
        }
        self.asm.add(Ok(Instruction::with(Code::VEX_Tilerelease)));
        Ok(())
    }

    /// The reduction of a pass.
    fn sum_up(&mut self, form: &Form, runs: &Range<usize>, vectors: &Range<usize>) -> Encoding<()> {
        for (run, vector) in (0..runs.len()).flat_map(|r| (0..vectors.len()).map(move |v| (r, v))) {
            let sum = tmm(Shape::sum(run, vector));
            self.asm.add(Instruction::with1(Code::VEX_Tilezero_tmm, sum));
        }
        let code = &mut self.asm.code;
        let strides = [code.mov(r9, form.row_stride), code.mov(r10, form.b_stride)];
        strides.into_iter().for_each(|r| self.asm.ok(r));
        let (a, b) = self.around(form, runs, vectors, 0)?;
        self.bump(-a, -b)
    }

    /// The loops from axis `depth` inwards; gives how far they moved the pointers.
    fn around(
        &mut self,
        form: &Form,
        runs: &Range<usize>,
        vectors: &Range<usize>,
        depth: usize,
    ) -> Encoding<(i64, i64)> {
        const COUNTERS: [AsmRegister64; 2] = [r8, rbx];
        let Some(axis) = form.outer.get(depth) else {
            return self.chunks(form, runs, vectors);
        };
        let counter = *COUNTERS.get(depth).ok_or_else(|| broken("an axis without a counter"))?;
        let mut head = self.count(counter, axis.extent)?;
        self.begin(&mut head);
        let (a, b) = self.around(form, runs, vectors, depth + 1)?;
        self.bump(axis.a_stride - a, axis.b_stride - b)?;
        self.end(counter, head);
        Ok((axis.extent * axis.a_stride, axis.extent * axis.b_stride))
    }

    /// The innermost loop.
    fn chunks(&mut self, form: &Form, runs: &Range<usize>, vectors: &Range<usize>) -> Encoding<(i64, i64)> {
        let (a, b) = (4 * form.steps, form.steps * form.b_stride);
        if form.chunks == 1 {
            self.multiply(form, runs, vectors)?;
            return Ok((0, 0));
        }
        let mut head = self.count(rax, form.chunks)?;
        self.begin(&mut head);
        self.multiply(form, runs, vectors)?;
        self.bump(a, b)?;
        self.end(rax, head);
        Ok((form.chunks * a, form.chunks * b))
    }

    /// The products of a chunk.
    fn multiply(&mut self, form: &Form, runs: &Range<usize>, vectors: &Range<usize>) -> Encoding<()> {
        for (i, run) in runs.clone().enumerate() {
            let first = displacement(0, self.tile.a_rows[form.runs[run].start])?;
            let load = |r, at| Instruction::with2(Code::VEX_Tileloadd_tmm_sibmem, r, at);
            self.asm.add(load(tmm(Shape::A + i), rows_at(Register::RDI, r9, first)));
            for (v, vector) in vectors.clone().enumerate() {
                let b = tmm(Shape::B + v);
                if i == 0 {
                    let at = rows_at(Register::RSI, r10, self.isa.bytes() * vector as i64);
                    self.asm.add(load(b, at));
                }
                let sum = tmm(Shape::sum(i, v));
                let code = Code::VEX_Tdpbusd_tmm_tmm_tmm;
                self.asm.add(Instruction::with3(code, sum, tmm(Shape::A + i), b));
            }
        }
        Ok(())
    }

    /// Run the epilogue on the sums of a run, number `i` of its pass, and store them.
    fn give(&mut self, rows: &Range<usize>, i: usize, vectors: &Range<usize>) -> Encoding<()> {
        let width = self.isa.bytes() * vectors.len() as i64;
        let r = self.asm.code.mov(rax, width);
        self.asm.ok(r);
        for v in 0..vectors.len() {
            let at = rows_at(Register::RSP, rax, self.isa.bytes() * v as i64);
            let code = Code::VEX_Tilestored_sibmem_tmm;
            self.asm.add(Instruction::with2(code, at, tmm(Shape::sum(i, v))));
        }
        let operands = self.pin_operands();
        let map: Vec<Vr> = (0..self.isa.registers() as Vr).collect();
        for (r, row) in rows.clone().enumerate() {
            for (v, vector) in vectors.clone().enumerate() {
                let at = Mem::at(Register::RSP, r as i64 * width + self.isa.bytes() * v as i64);
                self.asm.load(0, at, self.mask(vector));
                self.one_epilogue(row, vector, &map, &operands)?;
            }
        }
        Ok(())
    }
}
