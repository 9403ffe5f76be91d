//! Recurrent cells: backpropagation through time.
//!
//! The states that the node gave say what went into the gates at all times at once, so that only what flows from step to step is a scan:
//! the cell state of an LSTM forward, the gradients of the states backward. Products with inputs and weights are each one over all times.

mod cell;

use super::control::{region, scan_over};
use super::{Call, PulledBack};
use crate::emit::{Emit, Made, Refusal, is_real, product};
use cell::{Cell, Step};
use egret_ir::{DType, Dim, Op, Type, ValueId, attrs};
use std::collections::HashMap;

/// Places of operands.
const X: usize = 0;
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
const LENGTHS: usize = 4;
const H0: usize = 5;
const C0: usize = 6;
const P: usize = 7;
const SCALE: usize = 8;

impl Emit {
    /// Values side by side along their last axis.
    fn last_axis(&mut self, parts: &[ValueId]) -> Made {
        let axis = self.rank(parts[0]) as i64 - 1;
        self.op(Op::Concat, attrs! { axis: axis }, parts)
    }

    /// Element `i` of an axis, which goes.
    fn at(&mut self, x: ValueId, axis: usize, i: usize) -> Made {
        let mut shape = self.shape(x);
        let mut starts = vec![Dim::constant(0); shape.len()];
        starts[axis] = Dim::constant(i as i64);
        shape[axis] = Dim::constant(1);
        let steps = vec![1; shape.len()];
        let one = self.slice(x, starts, shape.clone(), steps)?;
        shape.remove(axis);
        self.reshape(one, shape)
    }

    /// Elements along a first axis that is new.
    fn stack(&mut self, parts: &[ValueId]) -> Made {
        let mut all = vec![];
        for &part in parts {
            let mut shape = self.shape(part);
            shape.insert(0, Dim::constant(1));
            all.push(self.reshape(part, shape)?);
        }
        if let [one] = all[..] {
            return Ok(one);
        }
        self.op(Op::Concat, attrs! { axis: 0i64 }, &all)
    }

    /// `[time, batch, n]` as `[time * batch, n]`.
    fn flat(&mut self, x: ValueId) -> Made {
        let shape = self.shape(x);
        self.reshape(x, vec![product(&shape[..2]), shape[2].clone()])
    }

    /// The sum over time and batch of the products of g's rows and x's.
    fn outer(&mut self, g: ValueId, x: ValueId) -> Made {
        let (g, x) = (self.flat(g)?, self.flat(x)?);
        let g = self.transpose_last(g)?;
        self.matmul(g, x)
    }
}

/// What both directions read, in f32 at least.
struct Node {
    pulled_back: PulledBack,
    dtype: DType,
    x: ValueId,
    w: Option<ValueId>,
    /// As floats.
    r: ValueId,
    b: Option<ValueId>,
    /// `[batch]`, and which steps are within them `[time, batch, 1]`.
    lengths: Option<(ValueId, ValueId)>,
    h0: Option<ValueId>,
    c0: Option<ValueId>,
    p: Option<ValueId>,
    y: ValueId,
    /// Of the results.
    gradients: [Option<ValueId>; 3],
    time: Dim,
    batch: Dim,
}

/// The gradients of one direction.
struct Gradients {
    /// Of what the input gives to the gates, in the order of time.
    of_x: ValueId,
    r: ValueId,
    b: ValueId,
    h0: ValueId,
    c0: Option<ValueId>,
    p: Option<ValueId>,
}

impl Node {
    fn read(call: &mut Call) -> Result<Node, Refusal> {
        if call.op == Op::Lstm && call.attrs.flag("rounded_state") {
            return Err(Refusal::Reason("its state is rounded to 8 bits in every step".into()));
        }
        let wide = |call: &mut Call, i: usize| call.optional(i).map(|v| call.e.wide(v)).transpose();
        let mut r = call.x(R);
        let x = call.e.wide(call.x(X))?;
        let dtype = call.e.dtype(x);
        if !is_real(call.e.dtype(r)) {
            r = call.e.cast(r, dtype)?;
        }
        let mut r = call.e.wide(r)?;
        if let Some(scale) = wide(call, SCALE)? {
            let mut shape = call.e.shape(scale);
            shape.push(Dim::constant(1));
            let scale = call.e.reshape(scale, shape)?;
            r = call.e.mul(r, scale)?;
        }
        let shape = call.e.shape(x);
        let (time, batch) = (shape[0].clone(), shape[1].clone());
        let lengths = match call.optional(LENGTHS) {
            None => None,
            Some(lengths) => {
                let e = &mut *call.e;
                let lengths = e.cast(lengths, DType::I64)?;
                let steps = vec![time.clone(), batch.clone(), Dim::constant(1)];
                let steps = e.iota(DType::I64, steps, 0)?;
                let ends = e.reshape(lengths, vec![batch.clone(), Dim::constant(1)])?;
                Some((lengths, e.binary(Op::Less, steps, ends)?))
            }
        };
        let y = call.e.wide(call.y())?;
        let mut gradients = [None; 3];
        for (i, gradient) in gradients.iter_mut().enumerate().take(call.results()) {
            *gradient = call.gradient(i).map(|v| call.e.wide(v)).transpose()?;
        }
        Ok(Node {
            pulled_back: call.within.pulled_back,
            dtype,
            x,
            w: wide(call, W)?,
            r,
            b: wide(call, B)?,
            lengths,
            h0: wide(call, H0)?,
            c0: wide(call, C0)?,
            p: wide(call, P)?,
            y,
            gradients,
            time,
            batch,
        })
    }

    /// Between the order of time `[time, batch, n]` and that in which a direction sees it.
    fn turned(&self, e: &mut Emit, x: ValueId, backwards: bool) -> Made {
        match &self.lengths {
            _ if !backwards => Ok(x),
            Some((lengths, _)) => {
                e.op(Op::ReverseSequence, attrs! { time_axis: 0i64, batch_axis: 1i64 }, &[x, *lengths])
            }
            None => {
                let (zero, sizes) = (Dim::constant(0), e.shape(x));
                let starts = vec![self.time.clone() - Dim::constant(1), zero.clone(), zero];
                e.slice(x, starts, sizes, vec![-1, 1, 1])
            }
        }
    }

    /// The state `[batch, hidden]` of a direction, or zeros.
    fn state(&self, e: &mut Emit, of: Option<ValueId>, d: usize, cell: &Cell) -> Made {
        match of {
            Some(all) => e.at(all, 0, d),
            None => e.zeros(self.dtype, vec![self.batch.clone(), Dim::constant(cell.hidden)]),
        }
    }

    /// What the input gives to the gates of a direction, `[time, batch, rows]` in the order of time.
    fn of_x(&self, e: &mut Emit, d: usize, cell: &Cell) -> Made {
        let rows = cell.rows();
        let Some(w) = self.w else {
            let from = rows * d as i64;
            return cell.blocks(e, self.x, from, from + rows);
        };
        let w = e.at(w, 0, d)?;
        let w = e.transpose_last(w)?;
        let product = e.matmul(self.x, w)?;
        let Some(b) = self.b else { return Ok(product) };
        let b = e.at(b, 0, d)?;
        let b = cell.blocks(e, b, 0, rows)?;
        e.add(product, b)
    }

    fn direction(
        &self,
        e: &mut Emit,
        d: usize,
        backwards: bool,
        cell: &Cell,
    ) -> Result<Gradients, Refusal> {
        let rows = cell.rows();
        let r = e.at(self.r, 0, d)?;
        let split = Dim::constant(cell.state_rows() * cell.hidden);
        let width = Dim::constant(cell.hidden);
        let zero = || Dim::constant(0);
        let state_r = e.slice(r, vec![zero(), zero()], vec![split.clone(), width.clone()], vec![1, 1])?;
        let state_b = match self.b {
            None => None,
            Some(b) => {
                let b = e.at(b, 0, d)?;
                Some((cell.blocks(e, b, rows, rows + cell.state_rows())?, b))
            }
        };
        let product = if cell.multiplies() {
            let own = e.slice(r, vec![split, zero()], vec![width.clone(), width.clone()], vec![1, 1])?;
            let own = e.transpose_last(own)?;
            let bias = match state_b {
                Some((_, b)) => cell.blocks(e, b, rows + 2, rows + 3)?,
                None => e.zeros(self.dtype, vec![width.clone()])?,
            };
            Some((own, bias))
        } else {
            None
        };
        let peepholes = self.p.map(|p| e.at(p, 0, d)).transpose()?;

        // In the order in which this direction sees time: the states before each step, and the gates.
        let h0 = self.state(e, self.h0, d, cell)?;
        let y = e.at(self.y, 1, d)?;
        let y = self.turned(e, y, backwards)?;
        let first = e.stack(&[h0])?;
        let states = e.op(Op::Concat, attrs! { axis: 0i64 }, &[first, y])?;
        let sizes = vec![self.time.clone(), self.batch.clone(), width];
        let before = e.slice(states, vec![zero(), zero(), zero()], sizes, vec![1, 1, 1])?;
        let transposed = e.transpose_last(state_r)?;
        let mut of_h = e.matmul(before, transposed)?;
        if let Some((b, _)) = state_b {
            of_h = e.add(of_h, b)?;
        }
        let of_x = self.of_x(e, d, cell)?;
        let of_x = self.turned(e, of_x, backwards)?;
        let gates = cell.joined(e, of_x, of_h)?;
        let cells = match cell.op {
            Op::Lstm => {
                let c0 = self.state(e, self.c0, d, cell)?;
                Some(self.cells(e, cell, gates, before, c0, peepholes)?)
            }
            _ => None,
        };

        let back =
            self.back(e, d, backwards, cell, &Taken { gates, before, cells, state_r, product, peepholes })?;
        let (of_x, of_h) = cell.parted(e, back.gates)?;
        let mut gr = e.outer(of_h, before)?;
        let mut gb = e.reduce("sum", of_h, &[0, 1], false)?;
        if let Some((rows, bias)) = back.product {
            let rows = e.transpose_last(rows)?;
            gr = e.op(Op::Concat, attrs! { axis: 0i64 }, &[gr, rows])?;
            gb = e.last_axis(&[gb, bias])?;
        }
        let own = e.reduce("sum", of_x, &[0, 1], false)?;
        let b = e.last_axis(&[own, gb])?;
        let of_x = self.turned(e, of_x, backwards)?;
        Ok(Gradients { of_x, r: gr, b, h0: back.h0, c0: back.c0, p: back.p })
    }

    /// The cell states before each step.
    fn cells(
        &self,
        e: &mut Emit,
        cell: &Cell,
        gates: ValueId,
        h: ValueId,
        c0: ValueId,
        peepholes: Option<ValueId>,
    ) -> Made {
        let mut r = region(e, "cell states");
        let c = input_like(e, &mut r, c0, false);
        let gates_now = input_like(e, &mut r, gates, true);
        let h_now = input_like(e, &mut r, h, true);
        let p = peepholes.map(|p| input_like(e, &mut r, p, false));
        let step = Step { gates: gates_now, h: h_now, c: Some(c), peepholes: p, product: None };
        let (_, next) = cell.step(&mut r, &step)?;
        r.b.output("", next.expect("an LSTM has two states"));
        r.b.output("", c);
        r.b.graph.remove_dead();
        let operands: Vec<ValueId> = [c0, gates, h].into_iter().chain(peepholes).collect();
        Ok(scan_over(e, 1, 2, false, &operands, r.b.graph)?[1])
    }

    /// The scan backward.
    fn back(
        &self,
        e: &mut Emit,
        d: usize,
        backwards: bool,
        cell: &Cell,
        t: &Taken,
    ) -> Result<Back, Refusal> {
        let gy = match self.gradients[0] {
            None => None,
            Some(all) => {
                let own = e.at(all, 1, d)?;
                Some(self.turned(e, own, backwards)?)
            }
        };
        let mut seeds = vec![self.state(e, self.gradients[1], d, cell)?];
        if t.cells.is_some() {
            seeds.push(self.state(e, self.gradients[2], d, cell)?);
        }
        let states = seeds.len();
        // Weights that the step itself reads: their gradients are summed up on the way.
        let weights: Vec<ValueId> =
            t.product.into_iter().flat_map(|(rows, bias)| [rows, bias]).chain(t.peepholes).collect();
        for &w in &weights {
            let ty = e.ty(w);
            seeds.push(e.zeros(ty.dtype, ty.shape)?);
        }
        let mask = self.lengths.map(|(_, mask)| mask);
        let sequences: Vec<ValueId> =
            [t.gates, t.before].into_iter().chain(t.cells).chain(gy).chain(mask).collect();
        let captured: Vec<ValueId> = [t.state_r].into_iter().chain(weights.iter().copied()).collect();

        let mut r = region(e, "backward through time");
        let carried: Vec<ValueId> = seeds.iter().map(|&v| input_like(e, &mut r, v, false)).collect();
        let mut taken =
            sequences.iter().map(|&v| input_like(e, &mut r, v, true)).collect::<Vec<_>>().into_iter();
        let mut next = |there: bool| if there { taken.next() } else { None };
        let gates = next(true).expect("gates");
        let h = next(true).expect("states");
        let (c, gy, mask) = (next(t.cells.is_some()), next(gy.is_some()), next(mask.is_some()));
        let held: Vec<ValueId> = captured.iter().map(|&v| input_like(e, &mut r, v, false)).collect();
        let own = &held[1..];
        let product = t.product.map(|_| (own[0], own[1]));
        let peepholes = t.peepholes.and(own.last().copied());
        let (h_next, c_next) = cell.step(&mut r, &Step { gates, h, c, peepholes, product })?;
        let forward = r.b.graph.clone();
        let mut gh = carried[0];
        if let Some(gy) = gy {
            gh = r.add(gh, gy)?;
        }
        let mut of = HashMap::from([(h_next, self.within(&mut r, mask, gh)?)]);
        if let Some(c_next) = c_next {
            of.insert(c_next, self.within(&mut r, mask, carried[1])?);
        }
        let wrt: Vec<ValueId> = [gates, h].into_iter().chain(c).chain(own.iter().copied()).collect();
        let mut gradients = (self.pulled_back)(&mut r, &forward, of, &wrt)?.into_iter();
        let Some(g_gates) = gradients.next().flatten() else {
            return Err(Refusal::Reason("its activations are constant".into()));
        };
        let (_, of_h) = cell.parted(&mut r, g_gates)?;
        let mut g_before = r.matmul(of_h, held[0])?;
        if let Some(direct) = gradients.next().flatten() {
            g_before = r.add(g_before, direct)?;
        }
        let passed = self.past(&mut r, mask, g_before, carried[0])?;
        r.b.output("", passed);
        if c.is_some() {
            let ty = r.ty(carried[1]);
            let g = match gradients.next().flatten() {
                Some(g) => g,
                None => r.zeros(ty.dtype, ty.shape)?,
            };
            let passed = self.past(&mut r, mask, g, carried[1])?;
            r.b.output("", passed);
        }
        for (&before, g) in carried[states..].iter().zip(gradients) {
            let sum = match g {
                Some(g) => r.add(before, g)?,
                None => before,
            };
            r.b.output("", sum);
        }
        r.b.output("", g_gates);
        r.b.graph.remove_dead();

        let scans = sequences.len();
        let operands = [seeds.clone(), sequences, captured].concat();
        let results = scan_over(e, seeds.len(), scans, true, &operands, r.b.graph)?;
        let sums = &results[states..seeds.len()];
        Ok(Back {
            gates: results[seeds.len()],
            h0: results[0],
            c0: t.cells.map(|_| results[1]),
            product: t.product.map(|_| (sums[0], sums[1])),
            p: t.peepholes.and(sums.last().copied()),
        })
    }

    /// A gradient of a step, 0 where the sequence has ended.
    fn within(&self, e: &mut Emit, mask: Option<ValueId>, g: ValueId) -> Made {
        match mask {
            Some(mask) => e.only(mask, g),
            None => Ok(g),
        }
    }

    /// A gradient of the state before a step: that after it where the sequence has ended.
    fn past(&self, e: &mut Emit, mask: Option<ValueId>, before: ValueId, after: ValueId) -> Made {
        match mask {
            Some(mask) => e.select(mask, before, after),
            None => Ok(before),
        }
    }
}

/// What the scan backward reads.
struct Taken {
    gates: ValueId,
    before: ValueId,
    cells: Option<ValueId>,
    state_r: ValueId,
    product: Option<(ValueId, ValueId)>,
    peepholes: Option<ValueId>,
}

/// What it gives.
struct Back {
    gates: ValueId,
    h0: ValueId,
    c0: Option<ValueId>,
    product: Option<(ValueId, ValueId)>,
    p: Option<ValueId>,
}

/// An input of a region: a value of the graph around it, or an element of its first axis. Of its dims only the batch may be free.
fn input_like(e: &Emit, r: &mut Emit, v: ValueId, element: bool) -> ValueId {
    let mut ty = e.ty(v);
    if element {
        ty.shape.remove(0);
    }
    for dim in ty.shape.iter_mut().filter(|d| d.as_const().is_none()) {
        *dim = Dim::symbol("batch");
    }
    r.b.input("", Type::Tensor(ty))
}

/// `lstm`, `gru`, `rnn`.
pub(super) fn recurrent(call: &mut Call) -> Result<(), Refusal> {
    let node = Node::read(call)?;
    let direction = call.attrs.str("direction");
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    let (mut all, mut cells) = (vec![], vec![]);
    for d in 0..directions {
        let cell = Cell::new(call.op, call.attrs, d, directions)?;
        let backwards = d == 1 || direction == "reverse";
        all.push(node.direction(call.e, d, backwards, &cell)?);
        cells.push(cell);
    }
    let of_x: Vec<ValueId> = all.iter().map(|g| g.of_x).collect();
    if call.wants(X) {
        let gradient = match node.w {
            None => call.e.last_axis(&of_x)?,
            Some(w) => {
                let mut sum = None;
                for (d, &g) in of_x.iter().enumerate() {
                    let w = call.e.at(w, 0, d)?;
                    let g = call.e.matmul(g, w)?;
                    sum = Some(match sum {
                        Some(before) => call.e.add(before, g)?,
                        None => g,
                    });
                }
                sum.expect("one direction at least")
            }
        };
        call.give(X, gradient)?;
    }
    if call.wants(W) {
        let mut parts = vec![];
        for &g in &of_x {
            parts.push(call.e.outer(g, node.x)?);
        }
        give_stacked(call, W, parts.into_iter().map(Some))?;
    }
    if call.wants(R) || call.wants(SCALE) {
        let parts: Vec<ValueId> = all.iter().map(|g| g.r).collect();
        let mut gradient = call.e.stack(&parts)?;
        if call.optional(SCALE).is_some() {
            let r = call.e.cast(call.x(R), node.dtype)?;
            gradient = call.e.mul(gradient, r)?;
            gradient = call.e.reduce("sum", gradient, &[2], false)?;
            call.give(SCALE, gradient)?;
        } else {
            call.give(R, gradient)?;
        }
    }
    give_stacked(call, B, all.iter().map(|g| Some(g.b)))?;
    give_stacked(call, H0, all.iter().map(|g| Some(g.h0)))?;
    give_stacked(call, C0, all.iter().map(|g| g.c0))?;
    give_stacked(call, P, all.iter().map(|g| g.p))
}

/// Give an operand, if it is asked for, the gradients of its directions.
fn give_stacked(
    call: &mut Call,
    i: usize,
    parts: impl Iterator<Item = Option<ValueId>>,
) -> Result<(), Refusal> {
    if !call.wants(i) {
        return Ok(());
    }
    let parts: Option<Vec<ValueId>> = parts.collect();
    let gradient = call.e.stack(&parts.expect("each direction has it"))?;
    call.give(i, gradient)
}
