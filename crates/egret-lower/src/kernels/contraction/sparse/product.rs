//! A product by the nonzeros of constant weights, as one kernel.

use super::pixels::Pixels;
use crate::error::Unsupported;
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::buffer_elem;
use crate::geometry::size;
use crate::kernels::contraction::product::{Stream, epilogue};
use crate::kernels::contraction::target::{Target, floats};
use crate::program::context::Ctx;
use egret_ir::ValueId;
use egret_loop::{
    Access, BlockedSum, Cmp, Elem, KernelBuilder, NonzeroStep, Nonzeros, Param, Place, Products, Tile, V,
};
use egret_machine::{BYTES_OF_NONZERO, Machine};

/// Tasks of a kernel, at least, where there are so many tiles: what threads share.
const TASKS: i64 = 16;
/// Tiles of a task, at least; more than one, as the last two may write the same pixels.
const TILES: i64 = 2;

/// The weights of a product: rows of as many weights as the right operand has rows.
#[derive(Copy, Clone, Debug)]
pub struct Weights {
    /// The constant.
    pub value: ValueId,
    /// Elements from one row to the next, and from one weight of a row to the next.
    pub strides: [usize; 2],
    /// How many are not zero.
    pub nonzeros: usize,
}

/// Calls the kernel of a product: `target` has the dims `[images, rows, pixels]`.
pub fn run(
    ctx: &mut Ctx,
    name: &str,
    w: Weights,
    input: &Pixels,
    target: &Target,
) -> Result<(), Unsupported> {
    let &[images, channels, _] = target.expr.dims.as_slice() else {
        return Err(Unsupported::new("has a result of other axes"));
    };
    let dims = &target.expr.dims;
    let machine = &ctx.options.machine;
    let (lane, most) = (machine.lanes() as i64, machine.costs.sparse_rows as i64);
    let weights = ctx.graph.as_const(w.value).map(|t| floats(t.bytes()));
    let weights = weights.ok_or_else(|| Unsupported::new("needs constant weights"))?;
    let blocks = Blocks::new(channels, most);
    let order = Order { depth: input.taps.len(), strides: w.strides, blocks };
    let key = format!("nonzeros of {} rows, {:?} apart", blocks.rows, w.strides);
    let len = w.nonzeros * Elem::F32.size();
    let a = ctx.packed_later(w.value, &key, Elem::F32, len, move |t, to| {
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
    let together = pixels_first(machine, w.nonzeros, input.len / images.max(1) as usize);
    let tasks_of_blocks = if together { 1 } else { blocks.count() };
    let alike = images * tasks_of_blocks;
    let wanted = (TASKS + alike - 1) / alike;
    let least = if per_run == 1 { 1 } else { TILES };
    let chunks = if input.runs == 1 { (tiles / least).clamp(1, wanted) } else { input.runs.min(wanted) };
    let each = if input.runs == 1 { tiles / chunks } else { input.runs / chunks * per_run };

    let steps = order.steps(&weights, &input.taps, u32::try_from(each).unwrap_or(u32::MAX));

    let mut k = ctx.kernel(name, alike * chunks);
    let reach =
        |access: &StridedAccess| size::reach(dims.iter().copied().zip(access.strides.iter().copied()));
    let mut params = vec![
        k.param(Elem::F32, w.nonzeros, Access::Read),
        k.param(Elem::F32, input.len, Access::Read),
        k.param(elems[2], reach(&target.out.access)?, Access::Write),
    ];
    for (access, elem) in accesses.iter().zip(&elems[3..]) {
        params.push(k.param(*elem, reach(access)?, Access::Read));
    }
    let task = k.task();
    let [chunk, rest] = parts(&mut k, task, chunks);
    let [block, image] = parts(&mut k, rest, tasks_of_blocks);
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
        let mut one = |k: &mut KernelBuilder, i: i64| {
            if let Err(e) = tile_of(k, &places, target, (blocks, i), cols, &steps[i as usize], &elems) {
                result = Err(e);
            }
        };
        match together {
            true => (0..blocks.count()).for_each(|i| one(k, i)),
            false => choose(k, block, 0..blocks.count(), &mut { one }),
        }
    });
    result?;
    ctx.call(k.finish(), &args)?;
    Ok(())
}

/// Whether all output channels of some pixels are computed before those of the next pixels, and not all pixels of some channels: where the rows (`elements` of an image)
/// do not stay in the second cache until the next channels read them, and the code of all channels stays in the first one.
fn pixels_first(machine: &Machine, nonzeros: usize, elements: usize) -> bool {
    elements * Elem::F32.size() > machine.l2_bytes && nonzeros * BYTES_OF_NONZERO <= machine.l1_bytes
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
    /// Elements from one output channel to the next, and from one of its weights to the next.
    strides: [usize; 2],
    blocks: Blocks,
}

impl Order {
    fn index(self, channel: usize, weight: usize) -> usize {
        channel * self.strides[0] + weight * self.strides[1]
    }

    /// The steps of each block, and the index of its first weight. `taps`: where in the planes a row's weight belongs.
    fn steps(&self, weights: &[f32], taps: &[i64], runs: u32) -> Vec<(i64, Nonzeros)> {
        let mut first = 0;
        let block = |i: i64| {
            let channels = self.blocks.channels(i);
            let step = |(at, &b): (usize, &i64)| {
                let mask = |(bit, c): (usize, usize)| u32::from(weights[self.index(c, at)] != 0.0) << bit;
                let rows = channels.clone().enumerate().map(mask).sum();
                (rows != 0).then_some(NonzeroStep { b, rows })
            };
            let steps: Vec<NonzeroStep> = taps.iter().enumerate().filter_map(step).collect();
            let nonzeros = Nonzeros { steps, runs };
            let own = first;
            first += nonzeros.products() as i64;
            (own, nonzeros)
        };
        (0..self.blocks.count()).map(block).collect()
    }

    /// The weights that are not zero.
    fn weights(self, weights: &[[u8; 4]]) -> impl Iterator<Item = [u8; 4]> {
        let at = move |at: usize, i: i64| self.blocks.channels(i).map(move |c| weights[self.index(c, at)]);
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
