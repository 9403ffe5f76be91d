//! A recurrent cell over the steps of some rows of the batch, in one direction: what is written of it is the same whether their numbers are
//! constants or known when a run begins.

use super::activation::activate;
use super::product::{Matrices, Rows, Sweep, product};
use super::rounded::{ByteParams, ByteState, round_state};
use crate::lanes;
use egret_ir::Op;
use egret_ir::interp::Activation;
use egret_loop::{BinOp, Cmp, Elem, KernelBuilder, Param, Ty, V};
use egret_machine::Machine;

/// What a cell is.
pub(crate) struct Cell<'g> {
    pub op: Op,
    pub hidden: i64,
    pub gates: i64,
    pub directions: i64,
    pub clip: f64,
    pub coupled: bool,
    /// LSTM: the state is rounded to a grid of 256 before the contraction.
    pub rounded: bool,
    /// LSTM: the weights of the state are bytes, with a scale.
    pub bytes: bool,
    /// LSTM: there are no weights of the input, which is its share of the gates.
    pub shares_given: bool,
    /// GRU: the reset gate is applied after the contraction.
    pub late_reset: bool,
    pub machine: &'g Machine,
}

/// A distance, in elements.
#[derive(Copy, Clone)]
pub(crate) enum Stride {
    Const(i64),
    Value(V),
}

impl Stride {
    /// So many of them behind an element.
    fn from(self, k: &mut KernelBuilder, base: V, index: V) -> V {
        match self {
            Stride::Const(stride) => k.affine(&[(base, 1), (index, stride)], 0),
            Stride::Value(stride) => {
                let further = k.mul(index, stride);
                k.add(base, further)
            }
        }
    }
}

/// Rows at every step.
#[derive(Copy, Clone)]
pub(crate) struct Sequence {
    /// Those of step 0.
    pub rows: Rows,
    /// From a step to the next.
    pub step: Stride,
}

impl Sequence {
    fn at(self, k: &mut KernelBuilder, time: V) -> Rows {
        Rows { base: self.step.from(k, self.rows.base, time), ..self.rows }
    }
}

/// How many steps there are.
#[derive(Copy, Clone)]
pub(crate) enum Steps {
    Const(i64),
    Value(V),
}

/// The weights of the state.
#[derive(Copy, Clone)]
pub(crate) enum Weights {
    /// In panels.
    Floats(Param),
    /// Bytes, with a scale for each column, and the state as bytes.
    Bytes(ByteParams, ByteState),
}

/// The steps of some rows of the batch in a direction.
pub(crate) struct Block<'a> {
    pub steps: Steps,
    /// How many rows.
    pub rows: i64,
    pub direction: i64,
    pub backward: bool,
    pub activations: &'a [Activation],
    /// The input's share of the gates.
    pub shares: Sequence,
    /// The gates of a step.
    pub sums: Rows,
    /// The state's contribution to a late-reset GRU's candidate, r * h of an early one, or an LSTM's rounded state.
    pub side: Option<Rows>,
    /// The state lives where the last one is wanted.
    pub state: Rows,
    /// The cell's state of an LSTM.
    pub cell: Option<Rows>,
    pub y: Sequence,
    pub weights: Weights,
    /// Panels of the weights of a GRU's candidate.
    pub candidate: Option<Param>,
    /// The bias of a late-reset GRU's candidate.
    pub candidate_bias: Option<Rows>,
    pub peephole: Option<Param>,
    /// How many steps each row has.
    pub lengths: Option<Rows>,
}

/// Loops over `count` elements in vectors, then one by one; the body gets the index and the type to compute
/// in.
fn elements(k: &mut KernelBuilder, count: i64, body: impl FnMut(&mut KernelBuilder, V, Ty)) {
    lanes::each(k, count, Elem::F32, body);
}

fn load(k: &mut KernelBuilder, ty: Ty, p: Param, at: V) -> V {
    lanes::load(k, p, at, ty)
}

impl Rows {
    /// Element `column + from` of a row.
    fn element(self, k: &mut KernelBuilder, row: V, column: V, from: i64) -> V {
        k.affine(&[(self.base, 1), (row, self.stride), (column, 1)], from)
    }
}

impl Cell<'_> {
    /// Columns of all gates.
    pub fn columns(&self) -> i64 {
        self.gates * self.hidden
    }

    fn clipped(&self, k: &mut KernelBuilder, x: V) -> V {
        if self.clip <= 0.0 {
            return x;
        }
        let ty = k.ty(x);
        let (low, high) = (k.number(ty, -self.clip), k.number(ty, self.clip));
        let x = k.binary(BinOp::SelMin, high, x);
        k.binary(BinOp::SelMax, low, x)
    }

    /// How a step reads its weights: to and fro where about half of them or more are still in the second-level cache then. Where that
    /// is less, what is read in one direction comes faster; where it has room for all, nothing is gained.
    fn sweep(&self, k: &mut KernelBuilder, step: V) -> Sweep {
        let size = if self.bytes { Elem::I8 } else { Elem::F32 }.size() as i64;
        let weights = (self.gates * size).saturating_mul(self.hidden).saturating_mul(self.hidden);
        let cache = self.machine.l2_bytes as i64;
        if weights <= cache / 2 || weights > cache * 2 {
            return Sweep::Forward;
        }
        let (zero, two) = (k.int(0), k.int(2));
        let odd = k.rem(step, two);
        Sweep::Backward(k.compare(Cmp::Ne, odd, zero))
    }

    fn gate(&self, k: &mut KernelBuilder, f: &Activation, x: V) -> V {
        let x = self.clipped(k, x);
        activate(k, f, x)
    }
}

/// Writes the steps of a block.
pub(crate) fn steps(k: &mut KernelBuilder, cell: &Cell, b: &Block) {
    let step = |k: &mut KernelBuilder, i: V| {
        let time = match (b.backward, b.steps) {
            (false, _) => i,
            (true, Steps::Const(t)) => k.affine(&[(i, -1)], t - 1),
            (true, Steps::Value(t)) => k.affine(&[(t, 1), (i, -1)], -1),
        };
        let sweep = cell.sweep(k, i);
        let share = b.shares.at(k, time);
        products(k, cell, b, sweep, share);
        k.for_n(b.rows, |k, row| cell_row(k, cell, b, share, time, row));
    };
    match b.steps {
        Steps::Const(t) => k.for_n(t, step),
        Steps::Value(t) => {
            let zero = k.int(0);
            k.for_values(zero, t, 1, step);
        }
    }
}

/// The gates of a step: the state's products, and the input's share.
fn products(k: &mut KernelBuilder, cell: &Cell, b: &Block, sweep: Sweep, share: Rows) {
    let (h, first) = (cell.hidden, if cell.op == Op::Gru { 2 * cell.hidden } else { cell.columns() });
    match b.weights {
        Weights::Bytes(weights, bytes) => {
            weights.product(k, cell.machine, sweep, (b.rows, b.state, bytes), b.sums, share);
        }
        Weights::Floats(panels) => {
            let a = match b.side.filter(|_| cell.rounded) {
                Some(side) => {
                    round_state(k, (b.rows, h), b.state, side);
                    side
                }
                None => b.state,
            };
            let m = Matrices { a, panels, out: b.sums };
            product(k, cell.machine, (b.rows, h, first), sweep, m, Some(share));
        }
    }
    let (Some(side), Some(panels)) = (b.side, b.candidate) else { return };
    if cell.late_reset {
        let m = Matrices { a: b.state, panels, out: side };
        return product(k, cell.machine, (b.rows, h, h), sweep, m, b.candidate_bias);
    }
    reset_state(k, cell, b, side);
    let last =
        |k: &mut KernelBuilder, rows: Rows| Rows { base: k.affine(&[(rows.base, 1)], 2 * h), ..rows };
    let (out, share) = (last(k, b.sums), last(k, share));
    let m = Matrices { a: side, panels, out };
    product(k, cell.machine, (b.rows, h, h), sweep, m, Some(share));
}

/// side = r * h, with r from the sums.
fn reset_state(k: &mut KernelBuilder, cell: &Cell, b: &Block, side: Rows) {
    k.for_n(b.rows, |k, row| {
        elements(k, cell.hidden, |k, j, ty| {
            let from = b.sums.element(k, row, j, cell.hidden);
            let r = load(k, ty, b.sums.param, from);
            let r = cell.gate(k, &b.activations[0], r);
            let from = b.state.element(k, row, j, 0);
            let state = load(k, ty, b.state.param, from);
            let v = k.mul(r, state);
            let to = side.element(k, row, j, 0);
            k.store(side.param, to, v);
        });
    });
}

/// One row of the batch at one time: new state, and y.
fn cell_row(k: &mut KernelBuilder, cell: &Cell, b: &Block, share: Rows, time: V, row: V) {
    let (h, d, acts) = (cell.hidden, b.direction, b.activations);
    let y = b.y.at(k, time);
    let compute = |k: &mut KernelBuilder| {
        elements(k, h, |k, j, ty| {
            let state_at = b.state.element(k, row, j, 0);
            let sum = |k: &mut KernelBuilder, gate: i64| {
                let from = b.sums.element(k, row, j, gate * h);
                load(k, ty, b.sums.param, from)
            };
            let new = match cell.op {
                Op::Lstm => {
                    let (i, o, f, c) = (sum(k, 0), sum(k, 1), sum(k, 2), sum(k, 3));
                    let Some(c_state) = b.cell else { return };
                    let c_at = c_state.element(k, row, j, 0);
                    let old = load(k, ty, c_state.param, c_at);
                    let peep = |k: &mut KernelBuilder, part: i64, x: V, c: V| match b.peephole {
                        None => x,
                        Some(p) => {
                            let from = k.affine(&[(j, 1)], d * 3 * h + part * h);
                            let w = load(k, ty, p, from);
                            k.fma(w, c, x)
                        }
                    };
                    let i = peep(k, 0, i, old);
                    let i = cell.gate(k, &acts[0], i);
                    let f = if cell.coupled {
                        let one = k.number(ty, 1.0);
                        k.sub(one, i)
                    } else {
                        let f = peep(k, 2, f, old);
                        cell.gate(k, &acts[0], f)
                    };
                    let c = cell.gate(k, &acts[1], c);
                    let kept = k.mul(f, old);
                    let c = k.fma(i, c, kept);
                    k.store(c_state.param, c_at, c);
                    let o = peep(k, 1, o, c);
                    let o = cell.gate(k, &acts[0], o);
                    let c = activate(k, &acts[2], c);
                    k.mul(o, c)
                }
                Op::Gru => {
                    let z = sum(k, 0);
                    let z = cell.gate(k, &acts[0], z);
                    let candidate = if cell.late_reset {
                        let r = sum(k, 1);
                        let r = cell.gate(k, &acts[0], r);
                        let from = share.element(k, row, j, 2 * h);
                        let share = load(k, ty, share.param, from);
                        let Some(side) = b.side else { return };
                        let from = side.element(k, row, j, 0);
                        let state = load(k, ty, side.param, from);
                        k.fma(r, state, share)
                    } else {
                        sum(k, 2)
                    };
                    let candidate = cell.gate(k, &acts[1], candidate);
                    let old = load(k, ty, b.state.param, state_at);
                    // Not candidate + z (old - candidate): where the candidate is large, what is small of the state would be lost.
                    let one = k.number(ty, 1.0);
                    let new = k.sub(one, z);
                    let new = k.mul(new, candidate);
                    k.fma(z, old, new)
                }
                _ => {
                    let v = sum(k, 0);
                    cell.gate(k, &acts[0], v)
                }
            };
            k.store(b.state.param, state_at, new);
            let to = y.element(k, row, j, 0);
            k.store(y.param, to, new);
        });
    };
    match b.lengths {
        None => compute(k),
        // Past its end a sequence keeps its state and gives zeros.
        Some(lengths) => {
            let at = k.affine(&[(lengths.base, 1), (row, lengths.stride)], 0);
            let len = k.load(lengths.param, at);
            let len = k.convert(Elem::I64, len);
            let alive = k.compare(Cmp::Lt, time, len);
            k.if_(alive, compute, |k| {
                elements(k, h, |k, j, ty| {
                    let to = y.element(k, row, j, 0);
                    let zero = k.number(ty, 0.0);
                    k.store(y.param, to, zero);
                });
            });
        }
    }
}
