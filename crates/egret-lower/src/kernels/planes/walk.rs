//! The walk of a kernel over a plane.

use super::Plan;
use crate::error::Unsupported;
use crate::kernels::taps::{Taps, pairs};
use crate::lanes;
use crate::program::context::Ctx;
use egret_loop::{
    Access, Arg, BinOp, Cmp, Elem, KernelBuilder, Local, MAX_LANES, Param, Parity, Shuffle, Ty, V,
};

/// The taps along the last axis that lie in a row of the operand, each with what is there; 0 beside the plane.
pub type Values = Vec<(i64, V)>;

/// Some rows of the result.
#[derive(Copy, Clone)]
struct Rows {
    /// The first.
    first: V,
    /// How many.
    count: i64,
    /// The first where it is known; otherwise all their windows lie inside along the first axis.
    known: Option<i64>,
}

/// Which taps along the last axis are inside.
#[derive(Copy, Clone)]
pub enum Along {
    /// All, in every lane.
    Inside,
    /// Those of an element.
    Taps(Taps),
    /// Those of a vector that begins at a known column.
    Vector(i64),
}

/// Where an element of the result, or a vector along the last axis, is.
pub struct Spot {
    /// Its row.
    pub row: V,
    /// The taps along the first axis that are inside.
    pub down: Taps,
    /// Its column, or that of the first lane.
    pub column: V,
    /// The taps along the last axis that are inside.
    pub along: Along,
}

/// What is made of windows.
pub trait Reduce {
    /// An element, or a vector, of the operand: f32.
    fn load(&self, k: &mut KernelBuilder, at: V, ty: Ty) -> Result<V, Unsupported>;

    /// Takes what lies in a row of the operand into the sums of the rows that have it: each by its number, and as which of its taps along
    /// the first axis.
    fn take(&self, k: &mut KernelBuilder, values: Values, readers: &[(usize, i64)], sums: &[Local], ty: Ty);

    /// Stores what a window came to.
    fn store(&self, k: &mut KernelBuilder, value: V, spot: &Spot) -> Result<(), Unsupported>;
}

/// How what vectors find beside a plane is dropped.
#[derive(Copy, Clone)]
pub enum Edges {
    /// By the machine's masks.
    Masks,
    /// By bits in memory: zeros, then ones, then zeros, a widest vector of each.
    Bits(Param),
}

impl Edges {
    /// Those of a kernel; a table that it takes is the next of its arguments.
    pub fn of(ctx: &mut Ctx, k: &mut KernelBuilder, args: &mut Vec<Arg>) -> Edges {
        if lanes::masks(k.vector_bytes()) {
            return Edges::Masks;
        }
        let zeros = std::iter::repeat_n(0i32, MAX_LANES);
        let bits = zeros.clone().chain(std::iter::repeat_n(-1, MAX_LANES)).chain(zeros);
        args.push(ctx.table("edges of planes", Elem::I32, bits.flat_map(i32::to_le_bytes).collect()));
        Edges::Bits(k.param(Elem::I32, 3 * MAX_LANES, Access::Read))
    }

    /// A vector of f32 with 0 in so many lanes at its beginning and its end.
    fn without(self, k: &mut KernelBuilder, value: V, (before, behind): (u8, u8)) -> V {
        let ty = k.ty(value);
        let zero = k.number(ty, 0.0);
        if before >= ty.lanes || behind >= ty.lanes {
            return zero;
        }
        match self {
            Edges::Masks => {
                let mut left = value;
                if before > 0 {
                    let outside = k.first(ty.lanes, before);
                    left = k.select(outside, zero, left);
                }
                if behind > 0 {
                    let inside = k.first(ty.lanes, ty.lanes - behind);
                    left = k.select(inside, left, zero);
                }
                left
            }
            Edges::Bits(table) => {
                let most = MAX_LANES as i64;
                let (begin, end) =
                    (most - i64::from(before), 2 * most - i64::from(ty.lanes) + i64::from(behind));
                let mut bits = k.bitcast(Elem::I32, value);
                for at in [(before > 0).then_some(begin), (behind > 0).then_some(end)].into_iter().flatten()
                {
                    let at = k.int(at);
                    let mask = k.load_lanes(table, at, ty.lanes);
                    bits = k.binary(BinOp::And, bits, mask);
                }
                k.bitcast(Elem::F32, bits)
            }
        }
    }
}

/// The kernel of a plan.
pub struct Planes<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What is made of windows.
    pub reduce: &'a dyn Reduce,
    /// How edges are dropped.
    pub edges: Edges,
    /// Which of the operand's planes is read, and how many there are.
    pub plane: (V, i64),
}

impl Planes<'_> {
    /// Computes a plane.
    pub fn compute(&self, k: &mut KernelBuilder) -> Result<(), Unsupported> {
        let Plan { w, rows, count, .. } = self.plan;
        let (height, count) = (w.output[0], *count);
        let begins: Vec<i64> = (0..height).step_by(count as usize).map(|i| i.min(height - count)).collect();
        let steady = |begin: &i64| rows.contains(begin) && begin + count <= rows.end;
        for &begin in begins.iter().filter(|b| !steady(b)) {
            self.at_an_end(k, begin)?;
        }
        let steady: Vec<i64> = begins.into_iter().filter(steady).collect();
        let (Some(&first), Some(&last)) = (steady.first(), steady.last()) else { return Ok(()) };
        let mut result = Ok(());
        k.for_range(first, first + steady.len() as i64 * count, count, |k, begin| {
            let most = k.int(last);
            let first = k.min(begin, most);
            result = self.between_rows(k, Rows { first, count, known: None });
        });
        result
    }

    /// Rows of which some have windows that reach above the plane or below it, or edges that have no row beside them in the plane.
    fn at_an_end(&self, k: &mut KernelBuilder, begin: i64) -> Result<(), Unsupported> {
        let Plan { rows, count, .. } = self.plan;
        let (plane, planes) = self.plane;
        let mut none_beside = None;
        for (is, end) in [(begin < rows.start, 0), (begin + count > rows.end, planes - 1)] {
            if is {
                let end = k.int(end);
                let own = k.compare(Cmp::Eq, plane, end);
                none_beside = Some(none_beside.map_or(own, |other| k.or(other, own)));
            }
        }
        let first = k.int(begin);
        let together = Rows { first, count: *count, known: Some(begin) };
        let Some(none_beside) = none_beside else { return self.between_rows(k, together) };
        let (mut alone, mut beside) = (Ok(()), Ok(()));
        k.if_(
            none_beside,
            |k| {
                alone = (begin..begin + count).try_for_each(|row| {
                    let first = k.int(row);
                    self.beside_none(k, Rows { first, count: 1, known: Some(row) })
                });
            },
            |k| beside = self.between_rows(k, together),
        );
        alone.and(beside)
    }

    /// A row whose edges have no row beside them.
    fn beside_none(&self, k: &mut KernelBuilder, row: Rows) -> Result<(), Unsupported> {
        let Plan { w, columns, lanes, .. } = self.plan;
        let mut result = Ok(());
        for o in (0..columns.start).chain(columns.end..w.output[1]) {
            let at = k.int(o);
            self.element(k, row, at, Along::Taps(w.last_taps(o)))?;
        }
        let ty = Ty { elem: Elem::F32, lanes: *lanes as u8 };
        lanes::each_overlapping(k, columns.clone(), ty, |k, i, ty| {
            let done = match ty.lanes {
                1 => self.element(k, row, i, Along::Inside),
                _ => self.vector(k, row, i, ty, Along::Inside),
            };
            if let Err(e) = done {
                result = Err(e);
            }
        });
        result
    }

    /// Rows whose edges have rows beside them.
    fn between_rows(&self, k: &mut KernelBuilder, rows: Rows) -> Result<(), Unsupported> {
        let Plan { w, columns, lanes, .. } = self.plan;
        let (width, lanes) = (w.output[1], *lanes);
        let ty = Ty { elem: Elem::F32, lanes: lanes as u8 };
        let begins: Vec<i64> = (0..width).step_by(lanes as usize).map(|i| i.min(width - lanes)).collect();
        let inside = |i: &i64| *i >= columns.start && i + lanes <= columns.end;
        for &i in begins.iter().filter(|i| !inside(i)) {
            let at = k.int(i);
            self.vector(k, rows, at, ty, Along::Vector(i))?;
        }
        let inner: Vec<i64> = begins.into_iter().filter(inside).collect();
        let (Some(&first), Some(&last)) = (inner.first(), inner.last()) else { return Ok(()) };
        let mut result = Ok(());
        let whole = inner.len() as i64;
        let steady = if (last - first) % lanes == 0 { whole } else { whole - 1 };
        k.for_range(first, first + steady * lanes, lanes, |k, i| {
            result = self.vector(k, rows, i, ty, Along::Inside);
        });
        result?;
        if steady < whole {
            let at = k.int(last);
            self.vector(k, rows, at, ty, Along::Inside)?;
        }
        Ok(())
    }

    /// The operand's element (or vector) so many rows below the first that `rows` read, at an offset along the last axis from where
    /// the window of column `i` begins.
    fn read(
        &self,
        k: &mut KernelBuilder,
        rows: Rows,
        row: i64,
        (i, offset): (V, i64),
        ty: Ty,
    ) -> Result<V, Unsupported> {
        let w = &self.plan.w;
        let (down, along, width) = (&w.axes[0], &w.axes[1], w.input[1]);
        let terms =
            [(self.plane.0, w.input[0] * width), (rows.first, down.stride * width), (i, along.stride)];
        let at = k.affine(&terms, (row - down.low) * width + offset - along.low);
        self.reduce.load(k, at, ty)
    }

    /// What the windows of some rows come to, a value for each. `read` gives what lies in a row of the operand, counted from the first
    /// that they read.
    fn sums(
        &self,
        k: &mut KernelBuilder,
        rows: Rows,
        ty: Ty,
        read: &mut dyn FnMut(&mut KernelBuilder, i64) -> Result<Values, Unsupported>,
    ) -> Result<Vec<V>, Unsupported> {
        let zero = k.number(ty, 0.0);
        // Locals, so that a row's elements are used before the next row's are loaded.
        let sums: Vec<Local> = (0..rows.count).map(|_| k.local(zero)).collect();
        for row in 0..self.plan.read_by(rows.count) {
            let readers = self.plan.readers(rows.count, rows.known, row);
            if !readers.is_empty() {
                let values = read(k, row)?;
                self.reduce.take(k, values, &readers, &sums, ty);
            }
        }
        Ok(sums.into_iter().map(|sum| k.get(sum)).collect())
    }

    /// An element of each row.
    fn element(&self, k: &mut KernelBuilder, rows: Rows, i: V, along: Along) -> Result<(), Unsupported> {
        let (ty, axis) = (Ty::scalar(Elem::F32), &self.plan.w.axes[1]);
        let taps = match along {
            Along::Taps(taps) => taps,
            Along::Inside | Along::Vector(_) => (0, axis.kernel),
        };
        let sums = self.sums(k, rows, ty, &mut |k, row| {
            let each = |tap| Ok((tap, self.read(k, rows, row, (i, tap * axis.dilation), ty)?));
            (taps.0..taps.1).map(each).collect()
        })?;
        self.store(k, rows, i, along, sums)
    }

    /// A vector of each row.
    fn vector(
        &self,
        k: &mut KernelBuilder,
        rows: Rows,
        i: V,
        ty: Ty,
        along: Along,
    ) -> Result<(), Unsupported> {
        let axis = &self.plan.w.axes[1];
        let sums = self.sums(k, rows, ty, &mut |k, row| {
            let mut found = vec![];
            if axis.stride == 1 {
                for tap in 0..axis.kernel {
                    found.push((tap, self.read(k, rows, row, (i, tap * axis.dilation), ty)?));
                }
            } else {
                for pair in pairs(axis) {
                    let [first, second] = [0, i64::from(ty.lanes)]
                        .map(|half| self.read(k, rows, row, (i, pair.first + half), ty));
                    let (first, second) = (first?, second?);
                    for parity in pair.taps {
                        let at = pair.first + i64::from(parity == Parity::Odd);
                        found.push((
                            at / axis.dilation,
                            k.shuffle(Shuffle::Deinterleave(parity), first, second),
                        ));
                    }
                }
            }
            if let Along::Vector(first) = along {
                for (tap, value) in &mut found {
                    let column = first * axis.stride - axis.low + *tap * axis.dilation;
                    *value = self.edges.without(k, *value, self.outside(column, ty.lanes));
                }
            }
            Ok(found)
        })?;
        self.store(k, rows, i, along, sums)
    }

    /// How many of a vector's elements, a stride apart, the first of which is at this column, are before the plane and behind it.
    fn outside(&self, column: i64, lanes: u8) -> (u8, u8) {
        let (stride, width) = (self.plan.w.axes[1].stride, self.plan.w.input[1]);
        let columns = (0..lanes).map(|lane| column + i64::from(lane) * stride);
        let before = columns.clone().filter(|c| *c < 0).count();
        let behind = columns.filter(|c| *c >= width).count();
        (before as u8, behind as u8)
    }

    /// Stores what came of each row.
    fn store(
        &self,
        k: &mut KernelBuilder,
        rows: Rows,
        column: V,
        along: Along,
        sums: Vec<V>,
    ) -> Result<(), Unsupported> {
        let w = &self.plan.w;
        for (r, value) in (0..).zip(sums) {
            let row = k.affine(&[(rows.first, 1)], r);
            let down = rows.known.map_or((0, w.axes[0].kernel), |first| w.known_taps(0, first + r));
            self.reduce.store(k, value, &Spot { row, down, column, along })?;
        }
        Ok(())
    }
}
