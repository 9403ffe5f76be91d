//! Operands that lie across the result: their neighbours stand along another axis than the result's. Both axes are walked in square
//! blocks, which are transposed in registers, so that loads and stores are of vectors; the blocks of a cache line stand one after
//! another, so that no line is fetched twice. For example, 16x16 f32 in vectors of 64 bytes are read and written in whole lines.
//!
//! Where the result's rows are shorter than any vector (the channels of a pixel, often 3), each is written as one vector, of which the
//! next row overwrites what is too much.

use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::loops::nest::{self, Edge, Level};
use crate::loops::operands::StridedOperand;
use egret_loop::{BASE_VECTOR_BYTES, Elem, KernelBuilder, Param, Ty, V};
use egret_machine::Machine;

/// Rows of the result that are worth cutting it along them, if there are more columns.
const MANY_ROWS: i64 = 256;

/// Lines that are read one after another of each column of the result, before the next columns are.
const LINES: i64 = 2;

/// Lanes of the vectors for results of short rows.
const SHORT: u8 = 4;

/// How a kernel walks its innermost axis together with the one along which some operands have their neighbours.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Across {
    /// The other axis.
    axis: usize,
    /// Side of a block: lanes of the vectors.
    lanes: u8,
    /// Elements of a cache line, or the side of a block if that is more.
    line: i64,
    /// Whether some elements may be computed twice, by one task, so that no rest is left of blocks.
    again: bool,
    /// Whether the result's rows are shorter than a vector.
    short: bool,
}

/// Where an operand has its neighbours.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Lies {
    /// Nowhere: it is one number in all of the block.
    Still,
    /// It is one number in each row of the result.
    ByRow,
    /// In the row of the result.
    Along,
    /// In the column of the result.
    Across,
}

impl Across {
    /// For an expression over `dims`, the last operand being its result, in the vectors of a machine; nothing where no operand lies
    /// across, or where there are no vectors for it. `again`: elements may be computed twice.
    pub fn of(
        expr: &Expr,
        dims: &[i64],
        operands: &[StridedOperand],
        copies: bool,
        machine: &Machine,
        again: bool,
    ) -> Option<Across> {
        let vector_bytes = machine.kernel_bytes;
        let inner = dims.len().checked_sub(1)?;
        let (out, inputs) = operands.split_last()?;
        let strided = inputs.iter().find(|s| !(0..=1).contains(&s.access.strides[inner]))?;
        let axis = (0..inner).find(|&a| strided.access.strides[a] == 1)?;
        let (most, least) = if copies {
            // Elements of fewer than 4 bytes have lanes of their own size in base vectors only.
            let bytes = if out.elem.size() < 4 { BASE_VECTOR_BYTES } else { vector_bytes };
            (Ty::vector_of(out.elem, bytes).lanes, Ty::vector(out.elem).lanes.min(4))
        } else if expr.branches() {
            return None;
        } else {
            let sizes = expr.lane_sizes()?;
            (sizes.lanes(vector_bytes)?, sizes.least_lanes().min(4))
        };
        let mut halves = std::iter::successors(Some(most), |n| Some(n / 2)).take_while(|n| *n >= least);
        let short = copies
            && out.elem.size() * usize::from(SHORT) == BASE_VECTOR_BYTES
            && (2..i64::from(SHORT)).contains(&dims[inner])
            && out.access.strides[axis] == dims[inner]
            && dims[axis] > SHORT.into();
        let lanes = match short {
            true => SHORT,
            false => halves.find(|n| dims[inner] >= i64::from(*n) && dims[axis] >= i64::from(*n))?,
        };
        let lies = |s: &StridedOperand| Across::lies(axis, inner, &s.access);
        let fits = |s: &StridedOperand| match lies(s) {
            Some(Lies::Across) => s.elem != Elem::Bool,
            lies => lies.is_some(),
        };
        let across = inputs.iter().filter(|s| lies(s) == Some(Lies::Across));
        let size = across.chain([out]).map(|s| s.elem.size() as i64).max()?;
        let line = (machine.line_bytes as i64 / size).max(lanes.into());
        (out.access.strides[inner] == 1 && inputs.iter().all(fits)).then_some(Across {
            axis,
            lanes,
            line,
            again,
            short,
        })
    }

    fn lies(axis: usize, inner: usize, access: &StridedAccess) -> Option<Lies> {
        match (access.strides[inner], access.strides[axis]) {
            (0, 0) => Some(Lies::Still),
            (0, _) => Some(Lies::ByRow),
            (1, _) => Some(Lies::Along),
            (_, 1) => Some(Lies::Across),
            _ => None,
        }
    }

    /// Whether the nest is cut into tasks along the other axis: the rows of the result.
    fn cuts_rows(&self, dims: &[i64]) -> bool {
        dims[self.axis] >= MANY_ROWS || dims.last().is_none_or(|n| dims[self.axis] >= *n)
    }

    /// The loops around [`Blocks::run`].
    pub fn levels(&self, dims: &[i64]) -> Vec<Level> {
        let inner = dims.len() - 1;
        let mut levels: Vec<Level> = (0..inner).filter(|&a| a != self.axis).map(Level::Full).collect();
        levels.push(Level::Strip(if self.cuts_rows(dims) { self.axis } else { inner }, self.lanes.into()));
        levels
    }
}

/// A part of the innermost axis, element by element; the bases are the indices of its element 0.
type Row<'a> = &'a dyn Fn(&mut KernelBuilder, &[V], Edge, Edge) -> Result<(), Unsupported>;

/// The two innermost loops.
pub struct Blocks<'a> {
    /// How they go.
    pub across: Across,
    /// What is computed.
    pub expr: &'a Expr,
    /// The buffers; the last one is the result.
    pub params: &'a [Param],
    /// Where their elements stand.
    pub operands: &'a [StridedOperand],
    /// Axes of the nest.
    pub dims: &'a [i64],
    /// What no block covers.
    pub row: Row<'a>,
}

/// Begin and end.
type Bounds = (Edge, Edge);

impl Blocks<'_> {
    fn stride(&self, operand: usize, axis: usize) -> i64 {
        self.operands[operand].access.strides[axis]
    }

    fn inner(&self) -> usize {
        self.dims.len() - 1
    }

    fn lies(&self, operand: usize) -> Option<Lies> {
        Across::lies(self.across.axis, self.inner(), &self.operands[operand].access)
    }

    /// The elements `begin..end` of the strip's axis and all of the other.
    pub fn run(
        &self,
        k: &mut KernelBuilder,
        bases: &[V],
        begin: Edge,
        end: Edge,
    ) -> Result<(), Unsupported> {
        let Across { axis, lanes, line, again, short } = self.across;
        if short {
            return self.short_rows(k, bases, begin, end);
        }
        let all = |axis: usize| (Edge::Const(0), Edge::Const(self.dims[axis]));
        let (rows, columns) = match self.across.cuts_rows(self.dims) {
            true => ((begin, end), all(self.inner())),
            false => (all(axis), (begin, end)),
        };
        let still: Vec<Option<V>> = (0..self.operands.len() - 1)
            .map(|p| {
                (self.lies(p) == Some(Lies::Still)).then(|| {
                    let v = k.load(self.params[p], bases[p]);
                    k.splat(v, lanes)
                })
            })
            .collect();
        let mut result = Ok(());
        let mut keep = |r: Result<(), Unsupported>| {
            if r.is_err() {
                result = r;
            }
        };
        let side = i64::from(lanes);
        let whole = |k: &mut KernelBuilder, (begin, end): Bounds| match again {
            true => (begin, end),
            false => (begin, end.rounded_down(k, begin, side)),
        };
        let (tops, lefts) = (whole(k, rows), whole(k, columns));
        // A few lines' rows at a time: each row is written from its begin to its end.
        parts(k, tops, None, line * LINES, &mut |k, top| {
            parts(k, lefts, None, line, &mut |k, left| {
                parts(k, top, Some(line * LINES), side, &mut |k, rows| {
                    let row = self.first(k, axis, rows.0, tops.1);
                    parts(k, left, Some(line), side, &mut |k, columns| {
                        let column = self.first(k, self.inner(), columns.0, lefts.1);
                        keep(self.block(k, bases, &still, row, column));
                    });
                });
            });
        });
        if again {
            return result;
        }
        // Below the blocks, and to the right of them.
        let mut rests = |k: &mut KernelBuilder, rows: Bounds, columns: Bounds| {
            nest::range(k, rows.0, rows.1, 1, &mut |k, row| {
                let bases: Vec<V> = (0..bases.len())
                    .map(|p| k.affine(&[(bases[p], 1), (row, self.stride(p, axis))], 0))
                    .collect();
                keep((self.row)(k, &bases, columns.0, columns.1));
            });
        };
        rests(k, (tops.1, rows.1), (columns.0, lefts.1));
        rests(k, rows, (lefts.1, columns.1));
        result
    }

    /// The rows `begin..end` of the result, which are shorter than a vector. The last one, behind which nothing is overwritten, is
    /// written element by element, and so are up to three before it.
    fn short_rows(
        &self,
        k: &mut KernelBuilder,
        bases: &[V],
        begin: Edge,
        end: Edge,
    ) -> Result<(), Unsupported> {
        let Across { axis, lanes, .. } = self.across;
        let (columns, side) = (self.dims[self.inner()], i64::from(lanes));
        let last = match end {
            Edge::Const(end) => Edge::Const(end - 1),
            Edge::Value(end) => Edge::Value(k.affine(&[(end, 1)], -1)),
        };
        let whole = last.rounded_down(k, begin, side);
        let at = |k: &mut KernelBuilder, p: usize, (row, more): (V, i64), column: i64| {
            let down = self.stride(p, axis);
            k.affine(&[(bases[p], 1), (row, down)], more * down + column * self.stride(p, self.inner()))
        };
        nest::range(k, begin, whole, side, &mut |k, row| {
            let lines = (0..side)
                .map(|c| {
                    let at = at(k, 0, (row, 0), c.min(columns - 1));
                    k.load_lanes(self.params[0], at, lanes)
                })
                .collect();
            for (r, line) in k.transpose(lines).into_iter().enumerate() {
                let at = at(k, 1, (row, r as i64), 0);
                k.store(self.params[1], at, line);
            }
        });
        let mut result = Ok(());
        nest::range(k, whole, end, 1, &mut |k, row| {
            let bases: Vec<V> = (0..2).map(|p| at(k, p, (row, 0), 0)).collect();
            if let Err(e) = (self.row)(k, &bases, Edge::Const(0), Edge::Const(columns)) {
                result = Err(e);
            }
        });
        result
    }

    /// Where a block begins along an axis: the last one may begin in the one before it.
    fn first(&self, k: &mut KernelBuilder, axis: usize, begin: Edge, end: Edge) -> V {
        let (begin, side) = (begin.value(k), i64::from(self.across.lanes));
        if !self.across.again || self.dims[axis] % side == 0 {
            return begin;
        }
        let end = end.value(k);
        let last = k.affine(&[(end, 1)], -side);
        k.min(begin, last)
    }

    fn block(
        &self,
        k: &mut KernelBuilder,
        bases: &[V],
        still: &[Option<V>],
        row: V,
        column: V,
    ) -> Result<(), Unsupported> {
        let (axis, inner, lanes) = (self.across.axis, self.inner(), self.across.lanes);
        let side = i64::from(lanes);
        let at = |k: &mut KernelBuilder, p: usize, r: i64, c: i64| {
            let (down, right) = (self.stride(p, axis), self.stride(p, inner));
            k.affine(&[(bases[p], 1), (column, right), (row, down)], r * down + c * right)
        };
        let out = self.operands.len() - 1;
        // By operand, a vector for each row of the result.
        let turned: Vec<Option<Vec<V>>> = (0..out)
            .map(|p| {
                (self.lies(p) == Some(Lies::Across)).then(|| {
                    let columns = (0..side)
                        .map(|c| {
                            let at = at(k, p, 0, c);
                            k.load_lanes(self.params[p], at, lanes)
                        })
                        .collect();
                    k.transpose(columns)
                })
            })
            .collect();
        let copies = self.expr.is_copy() && out == 1;
        for r in 0..side {
            let values: Vec<V> = (0..out)
                .map(|p| match (&turned[p], still[p]) {
                    (Some(rows), _) => rows[r as usize],
                    (_, Some(v)) => v,
                    _ if self.lies(p) == Some(Lies::ByRow) => {
                        let at = at(k, p, r, 0);
                        let v = k.load(self.params[p], at);
                        k.splat(v, lanes)
                    }
                    _ => {
                        let at = at(k, p, r, 0);
                        k.load_lanes(self.params[p], at, lanes)
                    }
                })
                .collect();
            let value = if copies {
                values[0]
            } else {
                let like = k.const_bits(Ty { elem: self.operands[out].elem, lanes }, 0);
                self.expr.emit(k, like, None, &values)?
            };
            let at = at(k, out, r, 0);
            k.store(self.params[out], at, value);
        }
        Ok(())
    }
}

/// A range of at most so many elements in parts of `step`, the last of which may have fewer.
fn parts(
    k: &mut KernelBuilder,
    (begin, end): Bounds,
    most: Option<i64>,
    step: i64,
    body: &mut dyn FnMut(&mut KernelBuilder, Bounds),
) {
    let most = if let (Edge::Const(b), Edge::Const(e)) = (begin, end) { Some(e - b) } else { most };
    if most.is_some_and(|n| (1..=step).contains(&n)) {
        return body(k, (begin, end));
    }
    nest::range(k, begin, end, step, &mut |k, first| {
        let past = Edge::Value(k.affine(&[(first, 1)], step)).least(k, end);
        body(k, (Edge::Value(first), past));
    });
}
