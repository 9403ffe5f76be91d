//! A product by the nonzeros of constant weights, as one kernel.

use super::pixels::{Pixels, Tap};
use crate::error::Unsupported;
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::buffer_elem;
use crate::geometry::size;
use crate::kernels::contraction::product::{Stream, epilogue};
use crate::kernels::contraction::target::Target;
use crate::program::context::Ctx;
use egret_ir::{Quads, Tensor, ValueId};
use egret_loop::{
    Access, BlockedSum, Cmp, Elem, KernelBuilder, NonzeroStep, Nonzeros, Param, Place, Products, Second,
    Tile, V,
};
use egret_machine::Machine;
use std::borrow::Cow;

/// Tasks of a kernel, at least, where there are so many tiles: what threads share.
const TASKS: i64 = 16;
/// Tiles of a task, at least; more than one, as the last two may write the same pixels.
const TILES: i64 = 2;

/// A product: its weights, and the planes that they multiply.
pub struct Factors {
    pub weights: Weights,
    pub pixels: Pixels,
}

/// The weights of a product: rows of as many weights as the right operand has rows.
#[derive(Copy, Clone, Debug)]
pub struct Weights {
    /// The constant.
    pub value: ValueId,
    /// Elements from one row to the next, and from one weight of a row to the next.
    pub strides: [usize; 2],
    /// How many are not zero.
    pub nonzeros: usize,
    /// Weights are quads of bytes, of which strides and nonzeros tell.
    pub quads: Option<Quads>,
}

impl Weights {
    /// What they are multiplied by.
    pub fn products(self) -> Products {
        if self.quads.is_some() { Products::Quads } else { Products::Floats }
    }

    /// All of them.
    fn words(self, t: &Tensor) -> Cow<'_, [[u8; 4]]> {
        match self.quads {
            Some(quads) => quads.all(t.bytes()).collect(),
            None => Cow::Borrowed(t.bytes().as_chunks::<4>().0),
        }
    }

    /// Whether one of them is not zero.
    fn is_kept(self, word: [u8; 4]) -> bool {
        match self.quads {
            Some(_) => word != [0; 4],
            None => f32::from_le_bytes(word) != 0.0,
        }
    }
}

/// Calls the kernel of a product, or of the sum of two whose planes are as large, in one run each: `target` has the dims `[images, rows, pixels]`.
pub fn run(
    ctx: &mut Ctx,
    name: &str,
    product: &Factors,
    addend: Option<&Factors>,
    target: &Target,
) -> Result<(), Unsupported> {
    let &[images, channels, _] = target.expr.dims.as_slice() else {
        return Err(Unsupported::new("has a result of other axes"));
    };
    let dims = &target.expr.dims;
    let machine = &ctx.options.machine;
    let (lane, most) = (machine.lanes() as i64, machine.costs.sparse_rows as i64);
    let blocks = Blocks::new(channels, most);
    let both = || [product].into_iter().chain(addend);
    let constant = |f: &Factors| {
        let tensor = ctx.graph.as_const(f.weights.value).cloned();
        tensor.ok_or_else(|| Unsupported::new("needs constant weights"))
    };
    let orders: Vec<Order> =
        (both()).map(|f| Order { depth: f.pixels.taps.len(), of: f.weights, blocks }).collect();
    let tensors = both().map(constant).collect::<Result<Vec<Tensor>, _>>()?;
    let nonzeros: usize = both().map(|f| f.weights.nonzeros).sum();
    let kind = product.weights.products();
    if both().any(|f| f.weights.products() != kind) {
        return Err(Unsupported::new("adds a product of other elements"));
    }
    let (weight, pixel) = kind.operands();
    let mut key = format!("nonzeros of {} rows", blocks.rows);
    for (order, tensor) in orders.iter().zip(&tensors) {
        key.push_str(&format!(", {:?} apart of {:?}", order.of.strides, tensor.content_hash()));
    }
    let (of, packed) = (orders.clone(), tensors.clone());
    let a =
        ctx.packed_later(product.weights.value, &key, weight, nonzeros * weight.size(), move |_, to| {
            let parts: Vec<_> = of.iter().zip(&packed).map(|(o, t)| (o, o.of.words(t))).collect();
            let used =
                (0..blocks.count()).flat_map(|i| parts.iter().flat_map(move |(o, w)| o.weights(i, w)));
            to.as_chunks_mut::<4>().0.iter_mut().zip(used).for_each(|(to, w)| *to = w);
        })?;
    let input = &product.pixels;
    let mut args = vec![a, input.at, target.out.at];
    let mut elems = vec![weight, pixel, buffer_elem(target.expr.dtype())?];
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
    if let Some(addend) = addend {
        args.push(addend.pixels.at);
    }
    let masks = input.edges.count();
    let words = input.edges.table(input.run, cols);
    let len_of_masks = words.len() / Elem::I32.size();
    if masks > 0 {
        args.push(ctx.table("masks of columns", Elem::I32, words));
    }
    let per_run = (input.run + cols - 1) / cols;
    let tiles = input.runs * per_run;
    let elements = both().map(|f| f.pixels.len).sum::<usize>() / images.max(1) as usize;
    let together = pixels_first(machine, nonzeros, elements);
    let tasks_of_blocks = if together { 1 } else { blocks.count() };
    let alike = images * tasks_of_blocks;
    let wanted = (TASKS + alike - 1) / alike;
    let least = if per_run == 1 { 1 } else { TILES };
    let chunks = if input.runs == 1 { (tiles / least).clamp(1, wanted) } else { input.runs.min(wanted) };
    let each = if input.runs == 1 { tiles / chunks } else { input.runs / chunks * per_run };

    let runs = u32::try_from(each).unwrap_or(u32::MAX);
    let words: Vec<Cow<[[u8; 4]]>> = orders.iter().zip(&tensors).map(|(o, t)| o.of.words(t)).collect();
    let mut first = 0;
    let of_block = |i: i64| {
        let steps: Vec<Vec<NonzeroStep>> =
            both().zip(&orders).zip(&words).map(|((f, o), w)| o.steps(i, w, &f.pixels.taps)).collect();
        let from = steps[0].len();
        let nonzeros = Nonzeros { steps: steps.concat(), runs, second: None, masks: None };
        let own = first;
        first += nonzeros.products() as i64;
        Block { first: own, nonzeros, from }
    };
    let steps: Vec<Block> = (0..blocks.count()).map(of_block).collect();

    let mut k = ctx.kernel(name, alike * chunks);
    let reach =
        |access: &StridedAccess| size::reach(dims.iter().copied().zip(access.strides.iter().copied()));
    let mut params = vec![
        k.param(weight, nonzeros, Access::Read),
        k.param(pixel, input.len, Access::Read),
        k.param(elems[2], reach(&target.out.access)?, Access::Write),
    ];
    for (access, elem) in accesses.iter().zip(&elems[3..]) {
        params.push(k.param(*elem, reach(access)?, Access::Read));
    }
    let second = addend.map(|f| (&f.pixels, k.param(pixel, f.pixels.len, Access::Read)));
    let masks_at = (masks > 0).then(|| k.param(Elem::I32, len_of_masks, Access::Read));
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
        let masks = masks_at.map(|param| Place { param, base: k.affine(&[(within, masks)], 0) });
        let second =
            second.map(|(p, param)| Place { param, base: k.affine(&[(image, p.image), (at, 1)], 0) });
        let places = Places { params: &params, b, out, operands: &operands, second, masks, kind };
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
    elements * Elem::F32.size() > machine.l2_bytes
        && nonzeros * machine.costs.sparse_bytes as usize <= machine.l1_bytes
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

/// The order of the weights of a block: place by place of a row of weights, channel by channel.
#[derive(Copy, Clone, Debug)]
struct Order {
    /// Weights of an output channel.
    depth: usize,
    of: Weights,
    blocks: Blocks,
}

impl Order {
    fn at(self, weights: &[[u8; 4]], channel: usize, weight: usize) -> [u8; 4] {
        weights[channel * self.of.strides[0] + weight * self.of.strides[1]]
    }

    /// The steps of a block. `taps`: what in the planes belongs to a row's weights.
    fn steps(&self, block: i64, weights: &[[u8; 4]], taps: &[Tap]) -> Vec<NonzeroStep> {
        let channels = self.blocks.channels(block);
        let step = |(at, tap): (usize, &Tap)| {
            let kept = |c: usize| self.of.is_kept(self.at(weights, c, at));
            let mask = |(bit, c): (usize, usize)| u32::from(kept(c)) << bit;
            let rows = channels.clone().enumerate().map(mask).sum();
            (rows != 0).then_some(NonzeroStep { b: tap.at, rows, mask: tap.mask })
        };
        taps.iter().enumerate().filter_map(step).collect()
    }

    /// The weights of a block that are not zero.
    fn weights(self, block: i64, weights: &[[u8; 4]]) -> impl Iterator<Item = [u8; 4]> {
        let at = move |at: usize| self.blocks.channels(block).map(move |c| self.at(weights, c, at));
        (0..self.depth).flat_map(at).filter(move |w| self.of.is_kept(*w))
    }
}

/// What the tile of a block is made of.
struct Block {
    /// The index of its first weight.
    first: i64,
    nonzeros: Nonzeros,
    /// The first step of the addend.
    from: usize,
}

/// Where a tile's operands are but for its block.
struct Places<'a> {
    params: &'a [Param],
    b: V,
    out: V,
    operands: &'a [V],
    second: Option<Place>,
    masks: Option<Place>,
    kind: Products,
}

/// The tile of a block.
fn tile_of(
    k: &mut KernelBuilder,
    at: &Places,
    target: &Target,
    (blocks, block): (Blocks, i64),
    cols: i64,
    of: &Block,
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
    let epilogue = epilogue(&target.expr, at.kind, elems[2], &operands, None)?;
    let a = k.int(of.first);
    let second = at.second.clone().map(|b| Second { b, from: of.from });
    let nonzeros = Nonzeros { second, masks: at.masks.clone(), ..of.nonzeros.clone() };
    let out = begin(k, at.out, &target.out.access);
    k.tile(Tile {
        cols: cols as usize,
        axes: vec![],
        nonzeros: Some(nonzeros),
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
