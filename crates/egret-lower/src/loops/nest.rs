//! Loop nests: which axes are tasks, which are blocked, and where the strided buffers stand in each loop.

use crate::geometry::access::StridedAccess;
use egret_loop::{KernelBuilder, V};

/// Side of the square blocks in which transposed operands are read: a cache line of words.
const BLOCK: i64 = 16;

/// A loop of a nest.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Level {
    /// All of an axis.
    Full(usize),
    /// The first elements of an axis' blocks.
    Blocks(usize),
    /// The elements of the current block of an axis.
    Within(usize),
    /// An axis that the innermost code walks together with another one, with the fewest elements of a part of it: the last level.
    Strip(usize, i64),
}

/// Where a loop begins or ends.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Edge {
    /// Known.
    Const(i64),
    /// Known at run time.
    Value(V),
}

impl Edge {
    /// It as a value.
    pub fn value(self, k: &mut KernelBuilder) -> V {
        match self {
            Edge::Const(c) => k.int(c),
            Edge::Value(v) => v,
        }
    }

    /// The smaller of two.
    pub fn least(self, k: &mut KernelBuilder, other: Edge) -> Edge {
        let (a, b) = (self.value(k), other.value(k));
        Edge::Value(k.min(a, b))
    }

    /// The largest `from + n * step` that is not above this.
    pub fn rounded_down(self, k: &mut KernelBuilder, from: Edge, step: i64) -> Edge {
        if step == 1 {
            return self;
        }
        if let (Edge::Const(end), Edge::Const(begin)) = (self, from) {
            return Edge::Const(begin + (end - begin).max(0) / step * step);
        }
        let (end, begin) = (self.value(k), from.value(k));
        let len = k.affine(&[(end, 1), (begin, -1)], 0);
        let step_value = k.int(step);
        let rest = k.rem(len, step_value);
        Edge::Value(k.affine(&[(end, 1), (rest, -1)], 0))
    }
}

/// `for i in (begin..end).step_by(step)`.
pub fn range(
    k: &mut KernelBuilder,
    begin: Edge,
    end: Edge,
    step: i64,
    body: &mut dyn FnMut(&mut KernelBuilder, V),
) {
    if let (Edge::Const(b), Edge::Const(e)) = (begin, end) {
        return k.for_range(b, e, step, |k, i| body(k, i));
    }
    let (b, e) = (begin.value(k), end.value(k));
    k.for_values(b, e, step, |k, i| body(k, i));
}

/// A loop nest whose outermost loops are tasks.
pub struct Nest<'a> {
    dims: &'a [i64],
    levels: Vec<Level>,
    /// This many of the first levels are tasks, one per iteration.
    whole: usize,
    /// The level after them is cut into chunks of this many elements, each a task.
    chunk: Option<i64>,
}

/// What runs in the innermost loop: the indices of its element 0 in every buffer, and its range.
type Leaf<'a> = &'a mut dyn FnMut(&mut KernelBuilder, &[V], Edge, Edge);

impl<'a> Nest<'a> {
    /// Cuts a nest into tasks of about `grain` elements.
    pub fn split(dims: &'a [i64], levels: Vec<Level>, grain: i64) -> Nest<'a> {
        let mut inside: i64 = dims.iter().product();
        let (mut whole, mut chunk) = (0, None);
        for level in &levels {
            let (Level::Full(axis) | Level::Blocks(axis) | Level::Strip(axis, _)) = *level else { break };
            let below = inside / dims[axis];
            if matches!(level, Level::Full(_)) && below >= grain {
                whole += 1;
                inside = below;
                continue;
            }
            let step = match level {
                Level::Blocks(_) => BLOCK as u64,
                _ if whole + 1 == levels.len() => 64,
                _ => 1,
            };
            let mut per = ((grain / below.max(1)).max(1) as u64).next_multiple_of(step) as i64;
            if let Level::Strip(_, least) = *level {
                while (1..least).contains(&(dims[axis] % per)) {
                    per += step as i64;
                }
            }
            chunk = (per < dims[axis]).then_some(per);
            break;
        }
        Nest { dims, levels, whole, chunk }
    }

    fn axis(&self, level: usize) -> usize {
        let (Level::Full(a) | Level::Blocks(a) | Level::Within(a) | Level::Strip(a, _)) =
            self.levels[level];
        a
    }

    fn chunks(&self) -> i64 {
        self.chunk.map_or(1, |c| (self.dims[self.axis(self.whole)] as u64).div_ceil(c as u64) as i64)
    }

    /// Number of tasks.
    pub fn tasks(&self) -> i64 {
        (0..self.whole).map(|l| self.dims[self.axis(l)]).product::<i64>() * self.chunks()
    }

    /// Writes the loops around `leaf`; `bases` are the buffers' indices of element 0.
    pub fn emit(&self, k: &mut KernelBuilder, accesses: &[&StridedAccess], bases: Vec<V>, leaf: Leaf) {
        let mut bases = bases;
        let mut rest = k.task();
        let mut first = None;
        if let Some(chunk) = self.chunk {
            let (quotient, part) = divide(k, rest, self.chunks());
            let begin = k.affine(&[(part, chunk)], 0);
            let dim = self.dims[self.axis(self.whole)];
            let end = k.affine(&[(begin, 1)], chunk);
            let end = if dim % chunk == 0 {
                end
            } else {
                let dim = k.int(dim);
                k.min(end, dim)
            };
            first = Some((Edge::Value(begin), Edge::Value(end)));
            rest = quotient;
        }
        for level in (0..self.whole).rev() {
            let axis = self.axis(level);
            let index = if level == 0 {
                rest
            } else {
                let (quotient, index) = divide(k, rest, self.dims[axis]);
                rest = quotient;
                index
            };
            bases = advance(k, accesses, &bases, axis, index);
        }
        let mut blocks = vec![None; self.dims.len()];
        self.level(k, accesses, self.whole, &bases, &mut blocks, first, leaf);
    }

    #[allow(clippy::too_many_arguments, reason = "the state of a recursion")]
    fn level(
        &self,
        k: &mut KernelBuilder,
        accesses: &[&StridedAccess],
        at: usize,
        bases: &[V],
        blocks: &mut Vec<Option<V>>,
        range_of_first: Option<(Edge, Edge)>,
        leaf: Leaf,
    ) {
        if at == self.levels.len() {
            // A single element.
            return leaf(k, bases, Edge::Const(0), Edge::Const(1));
        }
        let level = self.levels[at];
        let axis = self.axis(at);
        let dim = self.dims[axis];
        let (begin, end) = match (level, blocks[axis]) {
            (Level::Within(_), Some(block)) => {
                let end = k.affine(&[(block, 1)], BLOCK);
                let end = if dim % BLOCK == 0 {
                    end
                } else {
                    let dim = k.int(dim);
                    k.min(end, dim)
                };
                (Edge::Value(block), Edge::Value(end))
            }
            _ => range_of_first.unwrap_or((Edge::Const(0), Edge::Const(dim))),
        };
        if at + 1 == self.levels.len() {
            return leaf(k, bases, begin, end);
        }
        let step = if matches!(level, Level::Blocks(_)) { BLOCK } else { 1 };
        range(k, begin, end, step, &mut |k, i| {
            if matches!(level, Level::Blocks(_)) {
                blocks[axis] = Some(i);
                self.level(k, accesses, at + 1, bases, blocks, None, leaf);
            } else {
                let bases = advance(k, accesses, bases, axis, i);
                self.level(k, accesses, at + 1, &bases, blocks, None, leaf);
            }
        });
    }
}

/// Quotient and remainder by a constant.
fn divide(k: &mut KernelBuilder, x: V, by: i64) -> (V, V) {
    let by_value = k.int(by);
    let quotient = k.div(x, by_value);
    let rest = k.affine(&[(x, 1), (quotient, -by)], 0);
    (quotient, rest)
}

/// The buffers' indices further on by `index` along an axis.
fn advance(
    k: &mut KernelBuilder,
    accesses: &[&StridedAccess],
    bases: &[V],
    axis: usize,
    index: V,
) -> Vec<V> {
    accesses
        .iter()
        .zip(bases)
        .map(|(a, &base)| k.affine(&[(base, 1), (index, a.strides[axis])], 0))
        .collect()
}
