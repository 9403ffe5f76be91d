//! f32 convolutions whose constant weights are mostly zeros, with channels first: tiles of up to [`CostModel::sparse_rows`] output channels by a
//! vector of pixels, each with the places of its own weights in it ([`Nonzeros`]), so that only these are multiplied.
//!
//! A tap of a window over neighbouring output pixels reads neighbouring elements of a plane, so that it is a row of the right operand
//! like any other. The planes are those of the input, of the input with zeros around it, or of one copy for each column of the window where
//! windows are apart or rows are short ([`Pixels`] has the choice).
//!
//! [`CostModel::sparse_rows`]: egret_machine::CostModel::sparse_rows

use super::conv_buffers::conv_name;
use super::pointwise::in_rows;
use super::product::{Stream, epilogue};
use super::target::{Target, copy, fits, floats};
use crate::error::Unsupported;
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::dtypes::buffer_elem;
use crate::geometry::halo::Halo;
use crate::geometry::shape::strides;
use crate::geometry::size;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::{NodeId, ValueId};
use egret_loop::{
    Access, Arg, BlockedSum, Cmp, Elem, KernelBuilder, NonzeroStep, Nonzeros, Param, Place, Products, Tile,
    V,
};

/// Tasks of a kernel, at least, where there are so many tiles: what threads share.
const TASKS: i64 = 16;
/// Tiles of a task, at least; more than one, as the last two may write the same pixels.
const TILES: i64 = 2;
/// A copy for each column of the window saves so many tiles that it pays: one in so many of those without it.
const SAVED_TILES: i64 = 4;

/// Lower a `conv` of f32; `false` if its weights are not mostly zeros, or the machine has no such tiles.
pub fn lower(
    ctx: &mut Ctx,
    group: &FusionGroup,
    anchor: NodeId,
    s: &ConvShape,
) -> Result<bool, Unsupported> {
    let node = ctx.graph.node(anchor);
    let (x, w) = (node.operand(0), node.operand(1));
    let pixels: i64 = s.output.iter().product();
    let Some(weights) = ctx.graph.as_const(w).map(|t| floats(t.bytes())) else { return Ok(false) };
    let nonzeros = weights.iter().filter(|w| **w != 0.0).count();
    let machine = &ctx.options.machine;
    let lane = machine.lanes() as i64;
    if s.channels_last
        || s.groups != 1
        || !matches!(s.rank(), 1 | 2)
        || !machine.costs.leaves_out_zeros(weights.len(), nonzeros, pixels as usize)
    {
        return Ok(false);
    }
    let (depth, channels) = s.channels;
    let dims = vec![s.n, channels, pixels];
    let target = match in_rows(&group.expr, &dims).filter(fits) {
        // An output of a convolution with channels first has no halo.
        Some(expr) => {
            let out = Destination::dense(ctx.place(group.result)?, &dims);
            Target { out, expr, separate: false }
        }
        None => Target::sums(ctx, &dims, Products::Floats)?,
    };
    let blocks = Blocks::new(channels, machine.costs.sparse_rows as i64);
    let input = Pixels::of(ctx, x, s, lane)?;
    let order = Order { depth: (depth * s.taps()) as usize, blocks };
    let steps = order.steps(&weights, &input.taps);
    let key = format!("nonzeros of {} rows", blocks.rows);
    let len = nonzeros * Elem::F32.size();
    let a = ctx.packed_later(w, &key, Elem::F32, len, move |t, to| {
        let used = order.weights(t.bytes().as_chunks::<4>().0);
        to.as_chunks_mut::<4>().0.iter_mut().zip(used).for_each(|(to, w)| *to = w);
    })?;
    let mut args = vec![a, input.at, target.out.at];
    let mut elems = vec![Elem::F32, Elem::F32, buffer_elem(target.expr.dtype())?];
    let mut accesses = vec![];
    for o in &target.expr.operands {
        let mut at = ctx.origin(o.value)?;
        at.offset += size::offset(o.access.offset)?;
        args.push(at);
        elems.push(buffer_elem(o.dtype)?);
        accesses.push(&o.access);
    }
    // Tiles of a run of pixels, of which the last one begins where it is whole.
    let cols = input.run.min(lane);
    let per_run = (input.run + cols - 1) / cols;
    let tiles = input.runs * per_run;
    let alike = s.n * blocks.count();
    let wanted = (TASKS + alike - 1) / alike;
    let least = if per_run == 1 { 1 } else { TILES };
    let chunks = if input.runs == 1 { (tiles / least).clamp(1, wanted) } else { input.runs.min(wanted) };
    let each = if input.runs == 1 { tiles / chunks } else { input.runs / chunks * per_run };

    let mut k = ctx.kernel(&conv_name("conv_sparse", &s.kernel), alike * chunks);
    let reach =
        |access: &StridedAccess| size::reach(dims.iter().copied().zip(access.strides.iter().copied()));
    let mut params = vec![
        k.param(Elem::F32, nonzeros, Access::Read),
        k.param(Elem::F32, input.len, Access::Read),
        k.param(elems[2], reach(&target.out.access)?, Access::Write),
    ];
    for (access, elem) in accesses.iter().zip(&elems[3..]) {
        params.push(k.param(*elem, reach(access)?, Access::Read));
    }
    let task = k.task();
    let [chunk, rest] = parts(&mut k, task, chunks);
    let [block, image] = parts(&mut k, rest, blocks.count());
    let begin = k.affine(&[(chunk, each)], 0);
    let (last, all) = (k.int(chunks - 1), k.int(tiles));
    let next = k.affine(&[(begin, 1)], each);
    let is_last = k.compare(Cmp::Eq, chunk, last);
    let end = k.select(is_last, all, next);
    let mut result = Ok(());
    k.for_values(begin, end, 1, |k, tile| {
        let [within, run] = parts(k, tile, per_run);
        let (at, whole) = (k.affine(&[(within, cols)], 0), k.int(input.run - cols));
        let at = k.min(at, whole);
        let pixel = k.affine(&[(run, input.run), (at, 1)], 0);
        let b = k.affine(&[(image, input.image), (run, input.apart), (at, 1)], 0);
        let along = |k: &mut KernelBuilder, a: &StridedAccess| {
            k.affine(&[(image, a.strides[0]), (pixel, a.strides[2])], 0)
        };
        let out = along(k, &target.out.access);
        let operands: Vec<V> = accesses.iter().map(|a| along(k, a)).collect();
        let places = Places { params: &params, b, out, operands: &operands };
        let one = |k: &mut KernelBuilder, i: i64| {
            if let Err(e) = tile_of(k, &places, &target, (blocks, i), cols, &steps[i as usize], &elems) {
                result = Err(e);
            }
        };
        choose(k, block, 0..blocks.count(), &mut { one });
    });
    result?;
    ctx.call(k.finish(), &args)?;
    target.finish(ctx, group)?;
    Ok(true)
}

/// `v % n` and `v / n`.
fn parts(k: &mut KernelBuilder, v: V, n: i64) -> [V; 2] {
    if n == 1 {
        return [k.int(0), v];
    }
    let n = k.int(n);
    [k.rem(v, n), k.div(v, n)]
}

/// Does what belongs to the number that `v` is.
fn choose(
    k: &mut KernelBuilder,
    v: V,
    of: std::ops::Range<i64>,
    one: &mut dyn FnMut(&mut KernelBuilder, i64),
) {
    if of.end - of.start == 1 {
        return one(k, of.start);
    }
    let middle = (of.start + of.end) / 2;
    let bound = k.int(middle);
    let below = k.compare(Cmp::Lt, v, bound);
    let one = std::cell::RefCell::new(one);
    k.if_(
        below,
        |k| choose(k, v, of.start..middle, *one.borrow_mut()),
        |k| choose(k, v, middle..of.end, *one.borrow_mut()),
    );
}

/// The output channels in blocks of a tile each, of equal size but for the last.
#[derive(Copy, Clone, Debug)]
struct Blocks {
    channels: i64,
    rows: i64,
}

impl Blocks {
    fn new(channels: i64, most: i64) -> Blocks {
        let count = (channels + most - 1) / most;
        Blocks { channels, rows: (channels + count - 1) / count }
    }

    fn count(self) -> i64 {
        (self.channels + self.rows - 1) / self.rows
    }

    /// The channels of a block.
    fn channels(self, block: i64) -> std::ops::Range<usize> {
        let begin = block * self.rows;
        begin as usize..(begin + self.rows).min(self.channels) as usize
    }
}

/// The order of the weights: block by block, place by place of a row of weights, channel by channel.
#[derive(Copy, Clone, Debug)]
struct Order {
    /// Weights of an output channel.
    depth: usize,
    blocks: Blocks,
}

impl Order {
    /// The steps of each block, and the index of its first weight. `taps`: where in the planes a row's weight belongs.
    fn steps(&self, weights: &[f32], taps: &[i64]) -> Vec<(i64, Nonzeros)> {
        let mut first = 0;
        let block = |i: i64| {
            let channels = self.blocks.channels(i);
            let step = |(at, &b): (usize, &i64)| {
                let mask = |(bit, c): (usize, usize)| u32::from(weights[c * self.depth + at] != 0.0) << bit;
                let rows = channels.clone().enumerate().map(mask).sum();
                (rows != 0).then_some(NonzeroStep { b, rows })
            };
            let steps: Vec<NonzeroStep> = taps.iter().enumerate().filter_map(step).collect();
            let nonzeros = Nonzeros { steps };
            let own = first;
            first += nonzeros.products() as i64;
            (own, nonzeros)
        };
        (0..self.blocks.count()).map(block).collect()
    }

    /// The weights that are not zero.
    fn weights(self, weights: &[[u8; 4]]) -> impl Iterator<Item = [u8; 4]> {
        let at =
            move |at: usize, i: i64| self.blocks.channels(i).map(move |c| weights[c * self.depth + at]);
        let all = (0..self.blocks.count()).flat_map(move |i| (0..self.depth).flat_map(move |d| at(d, i)));
        all.filter(|w| f32::from_le_bytes(*w) != 0.0)
    }
}

/// Where a tile's operands are but for its block.
struct Places<'a> {
    params: &'a [Param],
    b: V,
    out: V,
    operands: &'a [V],
}

/// The tile of a block.
fn tile_of(
    k: &mut KernelBuilder,
    at: &Places,
    target: &Target,
    (blocks, block): (Blocks, i64),
    cols: i64,
    (first, steps): &(i64, Nonzeros),
    elems: &[Elem],
) -> Result<(), Unsupported> {
    let channels = blocks.channels(block);
    let rows = |access: &StridedAccess| -> Vec<i64> {
        (0..channels.len() as i64).map(|r| r * access.strides[1]).collect()
    };
    let begin = |k: &mut KernelBuilder, v: V, access: &StridedAccess| {
        k.affine(&[(v, 1)], channels.start as i64 * access.strides[1])
    };
    let all: Vec<Vec<i64>> = target.expr.operands.iter().map(|o| rows(&o.access)).collect();
    let mut operands = vec![];
    for (i, o) in target.expr.operands.iter().enumerate() {
        let place = Place { param: at.params[3 + i], base: begin(k, at.operands[i], &o.access) };
        operands.push(Stream { elem: elems[3 + i], place, rows: &all[i], column: o.access.strides[2] });
    }
    let epilogue = epilogue(&target.expr, Products::Floats, elems[2], &operands, None)?;
    let a = k.int(*first);
    let out = begin(k, at.out, &target.out.access);
    k.tile(Tile {
        cols: cols as usize,
        axes: vec![],
        nonzeros: Some(steps.clone()),
        block: BlockedSum::BLOCK,
        sets: 1,
        a: Place { param: at.params[0], base: a },
        a_rows: vec![0; channels.len()],
        b: Place { param: at.params[1], base: at.b },
        out: Place { param: at.params[2], base: out },
        out_rows: rows(&target.out.access),
        epilogue,
    });
    Ok(())
}

/// The planes that tiles read, in runs of neighbouring pixels.
struct Pixels {
    /// The first image.
    at: Arg,
    /// Elements of all images.
    len: usize,
    /// Elements from one image to the next.
    image: i64,
    /// Where the element of each weight of an output channel is, for the first pixel, in the order of these weights.
    taps: Vec<i64>,
    /// How many runs, and how many pixels each is.
    runs: i64,
    run: i64,
    /// Elements from one run to the next.
    apart: i64,
}

impl Pixels {
    /// Of the input of a convolution.
    fn of(ctx: &mut Ctx, x: ValueId, s: &ConvShape, lanes: i64) -> Result<Pixels, Unsupported> {
        // One row where there are no rows.
        let two = |v: &[i64], of_rows: i64| match v {
            [only] => [of_rows, *only],
            [rows, columns, ..] => [*rows, *columns],
            [] => [of_rows, of_rows],
        };
        let (kernel, stride) = (two(&s.kernel, 1), two(&s.strides, 1));
        let (dilation, output) = (two(&s.dilations, 1), two(&s.output, 1));
        let depth = s.channels.0;
        let short = |runs: i64, run: i64| runs * ((run + lanes - 1) / lanes);
        let pixels = output[0] * output[1];
        let joined =
            stride == [1, 1] && s.input == s.output && kernel == [1, 1] && s.low.iter().all(|l| *l == 0);
        let of = |taps: Vec<i64>, (runs, run, apart): (i64, i64, i64), (at, image): (Arg, i64)| {
            let len = size::offset(s.n * image)?;
            Ok(Pixels { at, len, image, taps, runs, run, apart })
        };
        if joined {
            let taps = (0..depth).map(|c| c * pixels).collect();
            return of(taps, (1, pixels, 0), (ctx.place(x)?, depth * pixels));
        }
        // Rows that are read, as many of them for each row of a window that begins a step further on.
        let read = two(&s.read(), 1);
        let phases = if kernel[0] == 1 { 1 } else { stride[0] };
        let each = (read[0] + phases - 1) / phases;
        let planes = zeros_around(ctx, x, s, [each * phases, read[1]])?;
        let window = |tap: &dyn Fn(i64, i64, i64) -> i64| -> Vec<i64> {
            let at = |c: i64| {
                (0..kernel[0]).flat_map(move |y| (0..kernel[1]).map(move |x| tap(c, y * dilation[0], x)))
            };
            (0..depth).flat_map(at).collect()
        };
        let rows = short(output[0], output[1]);
        let flat = short(1, pixels);
        if stride[1] == 1 && rows - flat <= rows / SAVED_TILES {
            let [channel, row] = planes.strides;
            let taps = window(&|c, y, x| c * channel + y * row + x * dilation[1]);
            return of(taps, (output[0], output[1], stride[0] * row), (planes.at, planes.image));
        }
        // For each column of the window the elements that it reads, row behind row, those of every `phases`th row together.
        let dims = [s.n, depth, kernel[1], phases, each, output[1]];
        let [channel, row] = planes.strides;
        // A window of one row reads every row that a window begins at.
        let step = if kernel[0] == 1 { stride[0] } else { phases };
        let count = if kernel[0] == 1 { output[0] } else { each };
        let dims = [dims[0], dims[1], dims[2], dims[3], count, dims[5]];
        let access = StridedAccess {
            offset: planes.offset,
            strides: vec![planes.image, channel, dilation[1], row, step * row, stride[1]],
        };
        let at = ctx.scratch(Elem::F32, &dims)?;
        copy(ctx, dims.to_vec(), x, planes.from, access, &Destination::dense(at, &dims))?;
        let own = strides(&dims);
        let taps =
            window(&|c, y, x| c * own[1] + x * own[2] + (y % phases) * own[3] + (y / phases) * own[4]);
        of(taps, (1, pixels, 0), (at, own[0]))
    }
}

/// Planes with what windows read beyond the edges.
struct Planes {
    /// Where tiles find the first element.
    at: Arg,
    /// Where copies find it: `offset` elements further on.
    from: Arg,
    offset: i64,
    /// Elements from one image to the next.
    image: i64,
    /// Elements from one channel, and from one row, to the next.
    strides: [i64; 2],
}

/// The input where windows read nothing else, or a copy with zeros around it, of so many rows and columns.
fn zeros_around(ctx: &mut Ctx, x: ValueId, s: &ConvShape, read: [i64; 2]) -> Result<Planes, Unsupported> {
    let one = s.rank() == 1;
    let input = if one { [1, s.input[0]] } else { [s.input[0], s.input[1]] };
    let low = if one { [0, s.low[0]] } else { [s.low[0], s.low[1]] };
    let depth = s.channels.0;
    if low == [0, 0] && read[0] <= input[0] && read[1] <= input[1] {
        let at = ctx.place(x)?;
        let strides = [input[0] * input[1], input[1]];
        return Ok(Planes { at, from: at, offset: 0, image: depth * strides[0], strides });
    }
    let outer = [s.n, depth, read[0], read[1]];
    let to = ctx.scratch(Elem::F32, &outer)?;
    let kept: Vec<i64> = (0..2).map(|i| input[i].min(read[i] - low[i])).collect();
    let halo = Halo {
        low: vec![0, 0, low[0], low[1]],
        high: vec![0, 0, read[0] - low[0] - kept[0], read[1] - low[1] - kept[1]],
    };
    let dims = [s.n, depth, kept[0], kept[1]];
    let plane = input[0] * input[1];
    let access = StridedAccess { offset: 0, strides: vec![depth * plane, plane, input[1], 1] };
    let out = Destination {
        at: to,
        access: halo.access(&dims),
        halo: (!halo.is_none()).then(|| (halo, dims.to_vec())),
    };
    let from = ctx.place(x)?;
    copy(ctx, dims.to_vec(), x, from, access, &out)?;
    let strides = [read[0] * read[1], read[1]];
    Ok(Planes { at: to, from: to, offset: 0, image: depth * strides[0], strides })
}
