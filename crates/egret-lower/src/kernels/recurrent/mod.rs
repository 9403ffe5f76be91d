//! LSTM, GRU and RNN. The input's share of all gates at all times is one contraction; what remains per step
//! is the state's share (a contraction over the batch) and the cell, elementwise. f32.

mod activation;
mod cell;
mod product;
mod rounded;

pub(crate) use self::cell::{Block, Cell, Sequence, Steps, Stride, Weights, steps};
pub(crate) use self::product::{Matrices, PANEL, ROWS, Rows, pack_panels, panels, product_of_rows};
pub(crate) use self::rounded::{ByteParams, ByteState, ByteWeights};

use self::product::{F32, Sweep, product};
use crate::error::Unsupported;
use crate::geometry::size;
use crate::loops::writer::{Writer, data_length};
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::interp::{Activation, activations};
use egret_ir::{DType, Node, Op};
use egret_loop::{Access, Arg, Cmp, Elem, Param};

/// The place of an LSTM's `scale` among its operands.
pub(crate) const SCALE: usize = 8;

/// How many steps and rows a constant input has, and how long these are.
struct Extents {
    steps: i64,
    batch: i64,
    input: i64,
}

/// Lower a recurrent node.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let x = ctx.dims(node.operand(0));
    let extents = Extents { steps: x[0], batch: x[1], input: x[2] };
    let (cell, all) = of_node(ctx, node)?;
    if extents.input == 0 {
        return Err(Unsupported::new("has no inputs"));
    }
    for d in 0..cell.directions {
        direction(ctx, node, &cell, &extents, d, all.direction(node, d))?;
    }
    // Each direction has its part of the results to itself.
    node.results.iter().try_for_each(|&result| ctx.written_apart(result))
}

/// The activations of all directions.
pub(crate) struct Activations {
    all: Vec<Activation>,
    per_direction: usize,
}

impl Activations {
    /// Those of a direction, and whether it goes backward.
    pub fn direction(&self, node: &Node, d: i64) -> (&[Activation], bool) {
        let backward = d == 1 || node.attrs.str("direction") == "reverse";
        (&self.all[d as usize * self.per_direction..][..self.per_direction], backward)
    }
}

/// What the cell of a node is.
///
/// # Errors
/// What no kernel computes.
pub(crate) fn of_node<'g>(ctx: &Ctx<'g>, node: &Node) -> Result<(Cell<'g>, Activations), Unsupported> {
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
    if cell.hidden == 0 {
        return Err(Unsupported::new("has no hidden units"));
    }
    if cell.bytes && !(cell.rounded && ctx.graph.as_const(node.operand(2)).is_some()) {
        return Err(Unsupported::new(
            "multiplies weights of i8 by a rounded state only, and only constant ones; run the model with --engine interp",
        ));
    }
    Ok((cell, Activations { all, per_direction: per_direction as usize }))
}

/// Whether a node has its operand at an index.
pub(crate) fn given(node: &Node, i: usize) -> bool {
    node.operands.get(i).copied().flatten().is_some()
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
fn input_shares(
    ctx: &mut Ctx,
    node: &Node,
    cell: &Cell,
    &Extents { steps: t, batch: b, input }: &Extents,
    d: i64,
) -> Result<(Arg, usize), Unsupported> {
    let n = cell.columns();
    let weights = panels(ctx, node, 1, d * n, n, input)?;
    let bias = bias_row(ctx, node, cell, d)?;
    let dims = [t.max(1), b.max(1), n];
    let (shares, len) = (ctx.scratch(Elem::F32, &dims)?, size::elements(&dims)?);
    let panels = [(n as u64).div_ceil(PANEL as u64) as i64, input, PANEL as i64];
    let mut w = Writer::new(ctx, "recurrent_input", 1);
    let x = w.operand(node, 0)?;
    let panels = w.buffer(weights, Elem::F32, size::elements(&panels)?, Access::Read);
    let out = w.buffer(shares, Elem::F32, len, Access::Write);
    let add = bias.map(|arg| w.buffer(arg, Elem::F32, n as usize, Access::Read));
    let k = &mut w.k;
    let zero = k.int(0);
    let rows = |param, stride| Rows { param, base: zero, stride };
    let m = Matrices { a: rows(x, input), panels, out: rows(out, n) };
    product(k, cell.machine, (t * b, input, n), Sweep::Forward, m, add.map(|a| rows(a, 0)));
    w.finish()?;
    Ok((shares, len))
}

fn direction(
    ctx: &mut Ctx,
    node: &Node,
    cell: &Cell,
    extents: &Extents,
    d: i64,
    (activations, backward): (&[Activation], bool),
) -> Result<(), Unsupported> {
    let &Extents { steps: t, batch: b, .. } = extents;
    let (h, n) = (cell.hidden, cell.columns());
    let shares = if cell.shares_given { None } else { Some(input_shares(ctx, node, cell, extents, d)?) };

    // The state's weights: a GRU contracts its candidate by itself.
    let first = if cell.op == Op::Gru { 2 * h } else { n };
    let panel_len = |rows: i64, width: i64| {
        size::elements(&[(rows as u64).div_ceil(PANEL as u64) as i64, width, PANEL as i64])
    };
    let (state_weights, bytes) = if cell.bytes {
        let bytes = ByteWeights::new(ctx, node, d, h, n)?;
        let state = ctx.scratch(Elem::U8, &[b.max(1), bytes.width()])?;
        let [belows, scales] = [Elem::I32, Elem::F32].map(|elem| ctx.scratch(elem, &[b.max(1)]));
        (None, Some((bytes, [state, belows?, scales?])))
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
    let bytes = match bytes {
        Some((of, [state, belows, scales])) => {
            let rows = b.max(1);
            let weights = w.buffer(of.weights, Elem::I8, of.len()?, Access::Read);
            let column_sums = w.buffer(of.column_sums, Elem::I32, n as usize, Access::Read);
            let params = ByteParams { of, weights, column_sums, scale: w.operand(node, SCALE)? };
            let states = size::elements(&[rows, of.width()])?;
            let state = w.buffer(state, Elem::U8, states, Access::ReadWrite);
            let belows = w.buffer(belows, Elem::I32, rows as usize, Access::ReadWrite);
            let scales = w.buffer(scales, Elem::F32, rows as usize, Access::ReadWrite);
            Some((params, [state, belows, scales]))
        }
        None => None,
    };
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
    let (zero, here) = (k.int(0), k.int(at));
    let (share_stride, share_at) = if cell.shares_given { (cell.directions * n, d * n) } else { (n, 0) };
    let share_at = k.int(share_at);
    let weights = match (state_weights, bytes) {
        (Some(panels), _) => Weights::Floats(panels),
        (None, Some((params, [state, belows, scales]))) => {
            let rows = |param, stride| Rows { param, base: zero, stride };
            let (state, belows) = (rows(state, params.of.width()), rows(belows, 1));
            Weights::Bytes(params, ByteState { state, belows, scales: rows(scales, 1) })
        }
        (None, None) => return Err(Unsupported::bug("has no weights of the state")),
    };
    let rows = |param, base, stride| Rows { param, base, stride };
    let candidate_bias = raw_bias.map(|p| rows(p, k.int(d * 2 * n + n + 2 * h), 0));
    let block = Block {
        steps: Steps::Const(t),
        rows: b,
        direction: d,
        backward,
        activations,
        shares: Sequence {
            rows: rows(shares, share_at, share_stride),
            step: Stride::Const(b * share_stride),
        },
        sums: rows(sums, zero, n),
        side: side.map(|side| rows(side, zero, h)),
        state: rows(state, here, h),
        cell: c_state.map(|c| rows(c, here, h)),
        y: Sequence { rows: rows(y, here, h), step: Stride::Const(cell.directions * b * h) },
        weights,
        candidate: candidate_weights,
        candidate_bias,
        peephole,
        lengths: lengths.map(|p| rows(p, zero, 1)),
    };
    steps(k, cell, &block);
    w.finish()
}
