//! LSTM, GRU and RNN. The input's share of all gates at all times is one contraction; what remains per step
//! is the state's share (a contraction over the batch) and the cell, elementwise. f32.

mod activation;
mod product;
mod rounded;

use self::activation::activate;
use self::product::{Matrices, PANEL, Rows, Sweep, panels, product};
use self::rounded::{ByteArgs, round_state};
use crate::error::Unsupported;
use crate::geometry::size;
use crate::lanes;
use crate::loops::writer::{Writer, data_length};
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::interp::{Activation, activations};
use egret_ir::{DType, Node, Op};
use egret_loop::{Access, Arg, BinOp, Cmp, Elem, KernelBuilder, Param, Ty, V};
use egret_machine::Machine;

/// The place of an LSTM's `scale` among its operands.
const SCALE: usize = 8;
const F32: Ty = Ty { elem: Elem::F32, lanes: 1 };

/// What the three cells have in common.
struct Cell<'g> {
    op: Op,
    steps: i64,
    batch: i64,
    input: i64,
    hidden: i64,
    gates: i64,
    directions: i64,
    clip: f64,
    coupled: bool,
    /// LSTM: the state is rounded to a grid of 256 before the contraction.
    rounded: bool,
    /// LSTM: the weights of the state are bytes, with a scale.
    bytes: bool,
    /// LSTM: there are no weights of the input, which is its share of the gates.
    shares_given: bool,
    /// GRU: the reset gate is applied after the contraction.
    late_reset: bool,
    machine: &'g Machine,
}

/// Lower a recurrent node.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let x = ctx.dims(node.operand(0));
    if ctx.dtype(node.operand(0)) != DType::F32 {
        return Err(Unsupported::new("computes in f32 only; run the model with --engine interp"));
    }
    let (gates, per_direction) = match node.op {
        Op::Lstm => (4, 3),
        Op::Gru => (3, 2),
        _ => (1, 1),
    };
    let directions = if node.attrs.str("direction") == "bidirectional" { 2 } else { 1 };
    let cell = Cell {
        op: node.op,
        steps: x[0],
        batch: x[1],
        input: x[2],
        hidden: node.attrs.int("hidden"),
        gates,
        directions,
        clip: node.attrs.float("clip"),
        coupled: node.op == Op::Lstm && node.attrs.flag("input_forget"),
        rounded: node.op == Op::Lstm && node.attrs.flag("rounded_state"),
        bytes: given(node, SCALE),
        shares_given: !given(node, 1),
        late_reset: node.op == Op::Gru && node.attrs.flag("linear_before_reset"),
        machine: &ctx.options.machine,
    };
    let all = activations(&node.attrs, (directions * per_direction) as usize)
        .map_err(|e| Unsupported::new(e.message))?;
    if cell.hidden == 0 || cell.input == 0 {
        return Err(Unsupported::new("has no inputs or no hidden units"));
    }
    if cell.bytes && !(cell.rounded && ctx.graph.as_const(node.operand(2)).is_some()) {
        return Err(Unsupported::new(
            "multiplies weights of i8 by a rounded state only, and only constant ones; run the model with --engine interp",
        ));
    }
    for d in 0..directions {
        let acts = &all[(d * per_direction) as usize..((d + 1) * per_direction) as usize];
        let backward = d == 1 || node.attrs.str("direction") == "reverse";
        direction(ctx, node, &cell, d, backward, acts)?;
    }
    Ok(())
}

/// Whether a node has its operand at an index.
fn given(node: &Node, i: usize) -> bool {
    node.operands.get(i).copied().flatten().is_some()
}

/// Loops over `count` elements in vectors, then one by one; the body gets the index and the type to compute
/// in.
fn elements(k: &mut KernelBuilder, count: i64, body: impl FnMut(&mut KernelBuilder, V, Ty)) {
    lanes::each(k, count, Elem::F32, body);
}

fn load(k: &mut KernelBuilder, ty: Ty, p: Param, at: V) -> V {
    lanes::load(k, p, at, ty)
}

impl Cell<'_> {
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

/// Buffers of the step kernel.
struct Step {
    /// The input's share of the gates, [steps * batch, gates * hidden]; of the gates of all directions where it is given.
    shares: Param,
    /// The gates of one step, [batch, gates * hidden].
    sums: Param,
    /// The state's contribution to a late-reset GRU's candidate, r * h of an early one, or an LSTM's
    /// rounded state, [batch, hidden].
    side: Option<Param>,
    state: Param,
    cell: Option<Param>,
    peephole: Option<Param>,
    lengths: Option<Param>,
    y: Param,
}

/// The bias of all gates as a row: input and state parts added, but for the candidate of a late-reset GRU.
fn bias_row(ctx: &mut Ctx, node: &Node, cell: &Cell, d: i64) -> Result<Option<Arg>, Unsupported> {
    if !given(node, 3) {
        return Ok(None);
    }
    let n = cell.gates * cell.hidden;
    let row = ctx.scratch(Elem::F32, &[n])?;
    let mut w = Writer::new(ctx, "recurrent_bias", 1);
    let b = w.operand(node, 3)?;
    let out = w.buffer(row, Elem::F32, n as usize, Access::Write);
    let both = if cell.late_reset { 2 * cell.hidden } else { n };
    w.k.for_range(0, n, 1, |k, i| {
        let at = k.affine(&[(i, 1)], d * 2 * n);
        let v = k.load(b, at);
        let state = k.affine(&[(i, 1)], d * 2 * n + n);
        let s = k.load(b, state);
        let sum = k.add(v, s);
        let end = k.int(both);
        let inside = k.compare(Cmp::Lt, i, end);
        let v = k.select(inside, sum, v);
        k.store(out, i, v);
    });
    w.finish()?;
    Ok(Some(row))
}

/// The input's share of the gates at all times, and its number of elements.
fn input_shares(ctx: &mut Ctx, node: &Node, cell: &Cell, d: i64) -> Result<(Arg, usize), Unsupported> {
    let (t, b, n) = (cell.steps, cell.batch, cell.gates * cell.hidden);
    let weights = panels(ctx, node, 1, d * n, n, cell.input)?;
    let bias = bias_row(ctx, node, cell, d)?;
    let dims = [t.max(1), b.max(1), n];
    let (shares, len) = (ctx.scratch(Elem::F32, &dims)?, size::elements(&dims)?);
    let panels = [(n as u64).div_ceil(PANEL as u64) as i64, cell.input, PANEL as i64];
    let mut w = Writer::new(ctx, "recurrent_input", 1);
    let x = w.operand(node, 0)?;
    let panels = w.buffer(weights, Elem::F32, size::elements(&panels)?, Access::Read);
    let out = w.buffer(shares, Elem::F32, len, Access::Write);
    let add = bias.map(|arg| w.buffer(arg, Elem::F32, n as usize, Access::Read));
    let k = &mut w.k;
    let zero = k.int(0);
    let rows = |param, stride| Rows { param, base: zero, stride };
    let m = Matrices { a: rows(x, cell.input), panels, out: rows(out, n) };
    product(k, cell.machine, (t * b, cell.input, n), Sweep::Forward, m, add.map(|a| rows(a, 0)));
    w.finish()?;
    Ok((shares, len))
}

fn direction(
    ctx: &mut Ctx,
    node: &Node,
    cell: &Cell,
    d: i64,
    backward: bool,
    acts: &[Activation],
) -> Result<(), Unsupported> {
    let (t, b, h, n) = (cell.steps, cell.batch, cell.hidden, cell.gates * cell.hidden);
    let shares = if cell.shares_given { None } else { Some(input_shares(ctx, node, cell, d)?) };

    // The state's weights: an early-reset GRU contracts its candidate by itself.
    let early = cell.op == Op::Gru && !cell.late_reset;
    let first = if cell.op == Op::Gru { 2 * h } else { n };
    let panel_len = |rows: i64, width: i64| {
        size::elements(&[(rows as u64).div_ceil(PANEL as u64) as i64, width, PANEL as i64])
    };
    let (state_weights, bytes) = if cell.bytes {
        (None, Some(ByteArgs::new(ctx, node, d, (b, h, n))?))
    } else {
        (Some(panels(ctx, node, 2, d * n, first, h)?), None)
    };
    let candidate_weights =
        if cell.op == Op::Gru { Some(panels(ctx, node, 2, d * n + first, h, h)?) } else { None };
    let (sums_dims, side_dims) = ([b.max(1), n], [b.max(1), h]);
    let sums = ctx.scratch(Elem::F32, &sums_dims)?;
    let side = if cell.op == Op::Gru || cell.rounded && !cell.bytes {
        Some(ctx.scratch(Elem::F32, &side_dims)?)
    } else {
        None
    };

    let mut w = Writer::new(ctx, "recurrent_steps", 1);
    let bh = size::elements(&side_dims)?;
    let shares = match shares {
        Some((arg, len)) => w.buffer(arg, Elem::F32, len, Access::Read),
        None => w.operand(node, 0)?,
    };
    let sums = w.buffer(sums, Elem::F32, size::elements(&sums_dims)?, Access::ReadWrite);
    let side = side.map(|arg| w.buffer(arg, Elem::F32, bh, Access::ReadWrite));
    let of_panels = panel_len(first, h)?;
    let state_weights = state_weights.map(|arg| w.buffer(arg, Elem::F32, of_panels, Access::Read));
    let bytes = bytes.map(|args| args.params(&mut w, node, d, (b, h, n))).transpose()?;
    let of_panels = panel_len(h, h)?;
    let candidate_weights = candidate_weights.map(|arg| w.buffer(arg, Elem::F32, of_panels, Access::Read));
    let optional = |w: &mut Writer, i: usize| -> Result<Option<Param>, Unsupported> {
        given(node, i).then(|| w.operand(node, i)).transpose()
    };
    let h0 = optional(&mut w, 5)?;
    let c0 = if cell.op == Op::Lstm { optional(&mut w, 6)? } else { None };
    let peephole = if cell.op == Op::Lstm { optional(&mut w, 7)? } else { None };
    let lengths = optional(&mut w, 4)?;
    let raw_bias = if cell.late_reset { optional(&mut w, 3)? } else { None };
    let y = w.result(node, 0, Access::ReadWrite)?;
    // The state lives where the last one is wanted.
    let state = w.result(node, 1, Access::ReadWrite)?;
    let c_state = if cell.op == Op::Lstm { Some(w.result(node, 2, Access::ReadWrite)?) } else { None };
    let step = Step { shares, sums, side, state, cell: c_state, peephole, lengths, y };

    let k = &mut w.k;
    if let Some(p) = lengths {
        k.for_n(b, |k, row| {
            data_length(k, p, row, t);
        });
    }
    let at = d * b * h;
    for (to, from) in [(Some(state), h0), (c_state, c0)] {
        let Some(to) = to else { continue };
        k.for_n(b * h, |k, i| {
            let i = k.affine(&[(i, 1)], at);
            let v = match from {
                Some(p) => k.load(p, i),
                None => k.number(F32, 0.0),
            };
            k.store(to, i, v);
        });
    }
    k.for_n(t, |k, i| {
        let time = if backward { k.affine(&[(i, -1)], t - 1) } else { i };
        let zero = k.int(0);
        let here = k.int(at);
        let sweep = cell.sweep(k, i);
        let (share_stride, share_at) =
            if cell.shares_given { (cell.directions * n, d * n) } else { (n, 0) };
        let share = k.affine(&[(time, b * share_stride)], share_at);
        let h_rows = Rows { param: step.state, base: here, stride: h };
        let sum_rows = Rows { param: step.sums, base: zero, stride: n };
        let share_rows = Rows { param: step.shares, base: share, stride: share_stride };
        if let Some(bytes) = &bytes {
            bytes.product(k, cell.machine, sweep, (state, at), sum_rows, share_rows);
        }
        if let Some(panels) = state_weights {
            let entering = match step.side.filter(|_| cell.rounded) {
                Some(side) => {
                    round_state(k, (b, h), state, at, side);
                    Rows { param: side, base: zero, stride: h }
                }
                None => h_rows,
            };
            let m = Matrices { a: entering, panels, out: sum_rows };
            product(k, cell.machine, (b, h, first), sweep, m, Some(share_rows));
        }
        if let (Some(side), Some(weights)) = (step.side, candidate_weights) {
            let side_rows = Rows { param: side, base: zero, stride: h };
            let last = k.int(2 * h);
            let sum_last = Rows { base: last, ..sum_rows };
            if early {
                reset_state(k, cell, &step, at, &acts[0]);
                let share_last = k.affine(&[(share, 1)], 2 * h);
                let m = Matrices { a: side_rows, panels: weights, out: sum_last };
                product(
                    k,
                    cell.machine,
                    (b, h, h),
                    sweep,
                    m,
                    Some(Rows { base: share_last, ..share_rows }),
                );
            } else {
                let bias =
                    raw_bias.map(|p| Rows { param: p, base: k.int(d * 2 * n + n + 2 * h), stride: 0 });
                let m = Matrices { a: h_rows, panels: weights, out: side_rows };
                product(k, cell.machine, (b, h, h), sweep, m, bias);
            }
        }
        k.for_n(b, |k, row| cell_row(k, cell, &step, d, time, row, acts));
    });
    w.finish()
}

/// side = r * h, with r from the sums.
fn reset_state(k: &mut KernelBuilder, cell: &Cell, s: &Step, at: i64, f: &Activation) {
    let (h, n) = (cell.hidden, cell.gates * cell.hidden);
    let Some(side) = s.side else { return };
    k.for_n(cell.batch, |k, row| {
        elements(k, h, |k, j, ty| {
            let from = k.affine(&[(row, n), (j, 1)], h);
            let r = load(k, ty, s.sums, from);
            let r = cell.gate(k, f, r);
            let from = k.affine(&[(row, h), (j, 1)], at);
            let state = load(k, ty, s.state, from);
            let v = k.mul(r, state);
            let to = k.affine(&[(row, h), (j, 1)], 0);
            k.store(side, to, v);
        });
    });
}

/// One row of the batch at one time: new state, and y.
fn cell_row(k: &mut KernelBuilder, cell: &Cell, s: &Step, d: i64, time: V, row: V, acts: &[Activation]) {
    let (b, h, n) = (cell.batch, cell.hidden, cell.gates * cell.hidden);
    let at = d * b * h;
    let y_base = k.affine(&[(time, cell.directions * b * h), (row, h)], at);
    let compute = |k: &mut KernelBuilder| {
        elements(k, h, |k, j, ty| {
            let state_at = k.affine(&[(row, h), (j, 1)], at);
            let sum = |k: &mut KernelBuilder, gate: i64| {
                let from = k.affine(&[(row, n), (j, 1)], gate * h);
                load(k, ty, s.sums, from)
            };
            let new = match cell.op {
                Op::Lstm => {
                    let (i, o, f, c) = (sum(k, 0), sum(k, 1), sum(k, 2), sum(k, 3));
                    let Some(c_state) = s.cell else { return };
                    let old = load(k, ty, c_state, state_at);
                    let peep = |k: &mut KernelBuilder, part: i64, x: V, c: V| match s.peephole {
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
                    k.store(c_state, state_at, c);
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
                        let from = k.affine(&[(time, b * n), (row, n), (j, 1)], 2 * h);
                        let share = load(k, ty, s.shares, from);
                        let Some(side) = s.side else { return };
                        let from = k.affine(&[(row, h), (j, 1)], 0);
                        let state = load(k, ty, side, from);
                        k.fma(r, state, share)
                    } else {
                        sum(k, 2)
                    };
                    let candidate = cell.gate(k, &acts[1], candidate);
                    let old = load(k, ty, s.state, state_at);
                    let difference = k.sub(old, candidate);
                    k.fma(z, difference, candidate)
                }
                _ => {
                    let v = sum(k, 0);
                    cell.gate(k, &acts[0], v)
                }
            };
            k.store(s.state, state_at, new);
            let to = k.affine(&[(y_base, 1), (j, 1)], 0);
            k.store(s.y, to, new);
        });
    };
    match s.lengths {
        None => compute(k),
        // Past its end a sequence keeps its state and gives zeros.
        Some(p) => {
            let len = k.load(p, row);
            let len = k.convert(Elem::I64, len);
            let alive = k.compare(Cmp::Lt, time, len);
            k.if_(alive, compute, |k| {
                elements(k, h, |k, j, ty| {
                    let to = k.affine(&[(y_base, 1), (j, 1)], 0);
                    let zero = k.number(ty, 0.0);
                    k.store(s.y, to, zero);
                });
            });
        }
    }
}
