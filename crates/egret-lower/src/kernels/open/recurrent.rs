//! LSTM, GRU and RNN whose steps or batch are free. The input's share of the gates is a product of all rows of all steps; the steps are written as
//! with constant dims ([`recurrent`]), a task a block of the rows of the batch, for as many rows as a run has left of a block. Weights may be inputs
//! ([`weights`]).

use super::{Writer, place, weights, whole_dims};
use crate::error::Unsupported;
use crate::kernels::recurrent::{
    self, Activations, Block, ByteParams, ByteState, ByteWeights, Cell, Matrices, ROWS, Rows, Sequence,
    Steps, Stride, Weights, given, product_of_rows,
};
use crate::loops::heights::of_height;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, Node, NodeId, Op, Tensor, ValueId};
use egret_loop::{Access, Arg, Elem, Extent, KernelBuilder, Param, ParamInfo, SizeOp, V};

/// Rows of the input that a task does.
const INPUT_ROWS: i64 = 4 * ROWS;

/// Whether the kernels can do a node: its weights are floats, or constants.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let float = graph.ty(node.operand(0)).as_tensor().is_some_and(|t| t.dtype == DType::F32);
    let constant = |i: usize| !given(node, i) || graph.as_const(node.operand(i)).is_some();
    float && (!given(node, recurrent::SCALE) || [2, recurrent::SCALE].into_iter().all(constant))
}

/// The dims of a node's input.
struct Input {
    x: ValueId,
    steps: Dim,
    batch: Dim,
    width: Dim,
}

/// Writes the kernels of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let x = node.operand(0);
    let dims = whole_dims(ctx, x)?;
    let [steps, batch, width] = &dims[..] else { return Err(Unsupported::bug("has no steps")) };
    if width.as_const().is_some_and(|w| w <= 0) {
        return Err(Unsupported::new("has no inputs"));
    }
    let known = match given(node, 1) && !weights::is_given(ctx, node, 1) {
        true => graph.tensor_ty(node.operand(1)).shape[2].clone(),
        false => width.clone(),
    };
    ctx.hold_equal(width, &known)?;
    let input = Input { x, steps: steps.clone(), batch: batch.clone(), width: known };
    let (cell, all) = recurrent::of_node(ctx, node)?;
    weights::hold_dims(ctx, node, &cell, &input.width)?;
    for &v in &node.results {
        ctx.place_open(v)?;
    }
    for d in 0..cell.directions {
        let shares =
            if cell.shares_given { None } else { Some(input_shares(ctx, node, &cell, &input, d)?) };
        direction(ctx, node, (&cell, &all), &input, d, shares)?;
    }
    Ok(())
}

/// A dim so many times.
fn times(dim: &Dim, n: i64) -> Dim {
    dim.clone() * Dim::constant(n)
}

/// The bias of all gates of a direction: input and state parts added, but for the candidate of a late-reset GRU.
fn bias(ctx: &mut Ctx, node: &Node, cell: &Cell, d: i64) -> Result<Option<Arg>, Unsupported> {
    if !given(node, 3) {
        return Ok(None);
    }
    let n = cell.columns() as usize;
    let both = if cell.late_reset { 2 * cell.hidden as usize } else { n };
    if weights::is_given(ctx, node, 3) {
        return weights::bias(ctx, node, cell, d, both as i64).map(Some);
    }
    let row = |t: &Tensor| {
        let own = &t.data::<f32>()[d as usize * 2 * n..][..2 * n];
        let sum = |i: usize| if i < both { own[i] + own[n + i] } else { own[i] };
        (0..n).flat_map(|i| sum(i).to_le_bytes()).collect()
    };
    ctx.packed(node.operand(3), &format!("recurrent bias {d} {both}"), Elem::F32, row).map(Some)
}

/// The input's share of the gates at all steps: `[steps * batch, gates]`.
fn input_shares(
    ctx: &mut Ctx,
    node: &Node,
    cell: &Cell,
    input: &Input,
    d: i64,
) -> Result<Arg, Unsupported> {
    let n = cell.columns();
    let bias = bias(ctx, node, cell, d)?;
    let rows = input.steps.clone() * input.batch.clone();
    let shares = ctx.room_for(Elem::F32, &times(&rows, n))?;
    let Some(width) = input.width.as_const() else {
        weights::shares(ctx, node, (cell, d), (&rows, &input.width), (shares, bias))?;
        return Ok(shares);
    };
    let weights = weights::panels(ctx, node, 1, (d * n, n), width)?;
    let count = ctx.extent(&rows)?;
    let tasks = ctx.size_op(SizeOp::CeilDiv, count, Extent::Const(INPUT_ROWS))?;
    let mut w = Writer::new(ctx, "recurrent_input_any");
    let x = w.value(input.x, Access::Read)?;
    let weights = w.own(Elem::F32, weights, Access::Read);
    let out = w.own(Elem::F32, shares, Access::Write);
    let bias = bias.map(|arg| w.own(Elem::F32, arg, Access::Read));
    let all = w.dim(&rows)?;
    let k = &mut w.k;
    let (zero, task) = (k.int(0), k.task());
    let first = k.affine(&[(task, INPUT_ROWS)], 0);
    let end = k.affine(&[(first, 1)], INPUT_ROWS);
    let end = k.min(end, all);
    let rows = |param, stride| Rows { param, base: zero, stride };
    let m = Matrices { a: rows(x, width), panels: weights, out: rows(out, n) };
    product_of_rows(k, cell.machine, (first, end), (width, n), m, bias.map(|b| rows(b, 0)));
    w.finish_tasks(tasks, &Dim::constant(1))?;
    Ok(shares)
}

/// What a kernel of steps reads and writes.
struct Params {
    shares: Param,
    sums: Param,
    side: Option<Param>,
    y: Param,
    state: Param,
    cell: Option<Param>,
    lengths: Option<Param>,
}

/// The steps of a direction; `shares` is what the input gives to its gates, if that is not the input.
fn direction(
    ctx: &mut Ctx,
    node: &Node,
    (cell, activations): (&Cell, &Activations),
    input: &Input,
    d: i64,
    shares: Option<Arg>,
) -> Result<(), Unsupported> {
    let (h, n) = (cell.hidden, cell.columns());
    let is_gru = cell.op == Op::Gru;
    let first = if is_gru { 2 * h } else { n };
    let weights = match cell.bytes {
        true => Err(ByteWeights::new(ctx, node, d, h, n)?),
        false => Ok(weights::panels(ctx, node, 2, (d * n, first), h)?),
    };
    let candidate = if is_gru { Some(weights::panels(ctx, node, 2, (d * n + first, h), h)?) } else { None };
    let sums = ctx.room_for(Elem::F32, &times(&input.batch, n))?;
    let has_side = is_gru || cell.rounded && !cell.bytes;
    let side = if has_side { Some(ctx.room_for(Elem::F32, &times(&input.batch, h))?) } else { None };
    let constant = |ctx: &mut Ctx, i: usize, wanted: bool| -> Result<Option<Arg>, Unsupported> {
        (wanted && given(node, i)).then(|| weights::table(ctx, node, i)).transpose()
    };
    let is_lstm = cell.op == Op::Lstm;
    let states = match &weights {
        Err(bytes) => {
            let state = ctx.room_for(Elem::U8, &times(&input.batch, bytes.width()))?;
            let belows = ctx.room_for(Elem::I32, &input.batch)?;
            Some((state, belows, ctx.room_for(Elem::F32, &input.batch)?))
        }
        Ok(_) => None,
    };
    let scale = constant(ctx, recurrent::SCALE, cell.bytes)?;
    let peephole = constant(ctx, 7, is_lstm)?;
    let raw_bias = constant(ctx, 3, cell.late_reset)?;

    let batch = input.batch.as_const();
    let count = ctx.extent(&input.batch)?;
    // The rows of a free batch in as few blocks of at most `ROWS` as there can be, of about as many rows each.
    let (tasks, block) = match batch {
        Some(_) => (Extent::Const(1), count),
        None => {
            let tasks = ctx.size_op(SizeOp::CeilDiv, count, Extent::Const(ROWS))?;
            let some = ctx.size_op(SizeOp::Max, tasks, Extent::Const(1))?;
            (tasks, ctx.size_op(SizeOp::CeilDiv, count, some)?)
        }
    };
    let mut w = Writer::new(ctx, "recurrent_steps_any");
    let params = Params {
        shares: match shares {
            Some(arg) => w.own(Elem::F32, arg, Access::Read),
            None => w.value(input.x, Access::Read)?,
        },
        sums: w.own(Elem::F32, sums, Access::ReadWrite),
        side: side.map(|arg| w.own(Elem::F32, arg, Access::ReadWrite)),
        y: w.value(node.results[0], Access::ReadWrite)?,
        state: w.value(node.results[1], Access::ReadWrite)?,
        cell: if is_lstm { Some(w.value(node.results[2], Access::ReadWrite)?) } else { None },
        lengths: None,
    };
    let weights = match (weights, scale, states) {
        (Ok(panels), ..) => Ok(w.own(Elem::F32, panels, Access::Read)),
        (Err(of), Some(scale), Some((state, belows, scales))) => {
            let states = [(Elem::U8, state), (Elem::I32, belows), (Elem::F32, scales)]
                .map(|(elem, arg)| w.own(elem, arg, Access::ReadWrite));
            let weights = w.own(Elem::I8, of.weights, Access::Read);
            let column_sums = w.own(Elem::I32, of.column_sums, Access::Read);
            let scale = w.own(Elem::F32, scale, Access::Read);
            Err((ByteParams { of, weights, column_sums, scale }, states))
        }
        (Err(_), ..) => return Err(Unsupported::bug("has no scale")),
    };
    let candidate = candidate.map(|arg| w.own(Elem::F32, arg, Access::Read));
    let table = |w: &mut Writer, arg: Option<Arg>| arg.map(|arg| w.own(Elem::F32, arg, Access::Read));
    let (peephole, raw_bias) = (table(&mut w, peephole), table(&mut w, raw_bias));
    let before = [Initial::of(&mut w, node, 5, input, d)?, Initial::of(&mut w, node, 6, input, d)?];
    let lengths = lengths(&mut w, node, input)?;
    let params = Params { lengths, ..params };

    let share_stride = if cell.shares_given { cell.directions * n } else { n };
    let along_batch = |w: &mut Writer, each: i64| -> Result<Stride, Unsupported> {
        Ok(match batch {
            Some(b) => Stride::Const(b * each),
            None => Stride::Value(w.dim(&times(&input.batch, each))?),
        })
    };
    let share_step = along_batch(&mut w, share_stride)?;
    let y_step = along_batch(&mut w, cell.directions * h)?;
    let of_direction = w.dim(&times(&input.batch, d * h))?;
    let steps = match input.steps.as_const() {
        Some(t) => Steps::Const(t),
        None => Steps::Value(w.dim(&input.steps)?),
    };
    let limit = w.dim(&input.steps)?;
    let all = w.dim(&input.batch)?;
    let block = w.size(block);
    let (activations, backward) = activations.direction(node, d);

    let k = &mut w.k;
    let rows_of = |k: &mut KernelBuilder, first: V, count: i64| {
        let rows = |k: &mut KernelBuilder, param, base: Option<V>, stride: i64, from: i64| {
            let base = match base {
                Some(base) => k.affine(&[(base, 1), (first, stride)], from),
                None => k.affine(&[(first, stride)], from),
            };
            Rows { param, base, stride }
        };
        let state = rows(k, params.state, Some(of_direction), h, 0);
        let states = params.cell.map(|c| rows(k, c, Some(of_direction), h, 0));
        for (to, from) in [(Some(state), &before[0]), (states, &before[1])] {
            let Some(to) = to else { continue };
            from.store(k, to, first, (count, h));
        }
        let share_from = if cell.shares_given { d * n } else { 0 };
        let block = Block {
            steps,
            rows: count,
            direction: d,
            backward,
            activations,
            shares: Sequence {
                rows: rows(k, params.shares, None, share_stride, share_from),
                step: share_step,
            },
            sums: rows(k, params.sums, None, n, 0),
            side: params.side.map(|side| rows(k, side, None, h, 0)),
            state,
            cell: states,
            y: Sequence { rows: rows(k, params.y, Some(of_direction), h, 0), step: y_step },
            weights: match weights {
                Ok(panels) => Weights::Floats(panels),
                Err((params, [state, belows, scales])) => {
                    let state = rows(k, state, None, params.of.width(), 0);
                    let belows = rows(k, belows, None, 1, 0);
                    Weights::Bytes(params, ByteState { state, belows, scales: rows(k, scales, None, 1, 0) })
                }
            },
            candidate,
            candidate_bias: raw_bias.map(|param| Rows {
                param,
                base: k.int(d * 2 * n + n + 2 * h),
                stride: 0,
            }),
            peephole,
            lengths: params.lengths.map(|param| rows(k, param, None, 1, 0)),
        };
        if let Some(lengths) = block.lengths {
            k.for_n(count, |k, row| {
                let at = k.affine(&[(lengths.base, 1), (row, 1)], 0);
                let len = k.load(lengths.param, at);
                let len = k.convert(Elem::I64, len);
                let end = k.affine(&[(limit, 1)], 1);
                let none = k.int(0);
                k.check(len, none, end);
            });
        }
        recurrent::steps(k, cell, &block);
    };
    match batch {
        Some(b) => {
            let first = k.int(0);
            rows_of(k, first, b);
        }
        None => {
            let task = k.task();
            let first = k.mul(task, block);
            let left = k.sub(all, first);
            let count = k.min(left, block);
            of_height(k, count, (1, ROWS), &mut |k, count| rows_of(k, first, count));
        }
    }
    w.finish_tasks(tasks, &Dim::constant(1))
}

/// The state of a direction before the first step.
struct Initial {
    /// Where it stands, its first element, and strides along the batch and the hidden units; zeros if it is not given.
    given: Option<(Param, V, [V; 2])>,
}

impl Initial {
    fn of(w: &mut Writer, node: &Node, i: usize, input: &Input, d: i64) -> Result<Initial, Unsupported> {
        if !given(node, i) {
            return Ok(Initial { given: None });
        }
        let (param, first, stored) = w.laid_out(node.operand(i))?;
        let dims = [stored.dims[0].clone(), input.batch.clone(), stored.dims[2].clone()];
        // A state is one of each row, not one for all.
        w.ctx.hold_equal(&stored.dims[1], &input.batch)?;
        let strides = w.aligned(&stored, &dims)?;
        let first = w.dim(&first)?;
        let strides = w.dims(&strides)?;
        let direction = w.k.int(d);
        let first = place(&mut w.k, first, &[direction], &strides[..1]);
        Ok(Initial { given: Some((param, first, [strides[1], strides[2]])) })
    }

    /// Writes `count` rows from row `first` on.
    fn store(&self, k: &mut KernelBuilder, to: Rows, first: V, (count, h): (i64, i64)) {
        k.for_n(count, |k, row| {
            k.for_n(h, |k, j| {
                let v = match &self.given {
                    Some((param, begin, strides)) => {
                        let row = k.add(first, row);
                        let at = place(k, *begin, &[row, j], strides);
                        k.load(*param, at)
                    }
                    None => k.const_bits(egret_loop::Ty::scalar(Elem::F32), 0),
                };
                let at = k.affine(&[(to.base, 1), (row, to.stride), (j, 1)], 0);
                k.store(to.param, at, v);
            });
        });
    }
}

/// How many steps each row of the batch has.
fn lengths(w: &mut Writer, node: &Node, input: &Input) -> Result<Option<Param>, Unsupported> {
    if !given(node, 4) {
        return Ok(None);
    }
    let v = node.operand(4);
    for dim in whole_dims(w.ctx, v)? {
        w.ctx.hold_equal(&dim, &input.batch)?;
    }
    let elem = w.ctx.elem(v)?;
    let arg = w.ctx.whole(v)?;
    w.args.push(arg);
    Ok(Some(w.k.param(elem, ParamInfo::OPEN, Access::Read)))
}
