//! Kernels that visit a group of axes several times for every index of the others: reductions, softmax,
//! normalisation.
//!
//! A row is one index of the kept axes, with all elements of the reduced axes. Where the innermost axis is
//! reduced, vectors run along the row, several partial sums at a time; where it is kept, a row is a strip
//! of neighbouring columns and each lane is a row of its own.

use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::buffer_elem;
use crate::lanes;
use crate::loops::map::GRAIN;
use crate::loops::nest::{Bound, Level, Nest, range};
use crate::loops::operands::{StridedOperand, normalise, touched};
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::Node;
use egret_loop::{Access, Arg, Arith, BinOp, BlockedSum, Elem, KernelBuilder, Local, Param, Ty, V};

/// What the anchor's first operand is made of.
pub fn source(ctx: &Ctx, group: &FusionGroup, node: &Node) -> Expr {
    let x = node.operand(0);
    group.prologue.clone().unwrap_or_else(|| Expr::load(ctx.dims(x), x, ctx.dtype(x)))
}

/// Lanes of the vectors that fit everything a kernel computes, if any do.
pub fn vectors(ctx: &Ctx, parts: &[&Expr]) -> Option<u8> {
    let words = |e: &&Expr| !e.branches() && e.lane_sizes().is_some_and(|s| s.widest <= 4);
    parts.iter().all(words).then_some((ctx.options.machine.kernel_bytes / 4) as u8)
}

/// Lanes of the narrowest vectors.
const LEAST: u8 = 4;

/// Partial results of one row, or strips of columns, that are worked on at once.
const SLOTS: usize = 4;

/// The buffers and axes of a row kernel.
pub struct RowReduction {
    dims: Vec<i64>,
    reduced: Vec<bool>,
    operands: Vec<StridedOperand>,
    args: Vec<Arg>,
    /// How each operand is used.
    uses: Vec<Access>,
    width: u8,
    /// Whether what is left over behind the last whole vector of a row is a vector of which the first lanes count.
    partial: bool,
}

/// A row while its kernel is written.
pub struct Row<'a> {
    rows: &'a RowReduction,
    /// Parameters, one per operand.
    params: &'a [Param],
    /// Index of the row's first element in every operand.
    bases: Vec<V>,
    /// The first column of the strip, where lanes are rows.
    column: Option<V>,
    /// Lanes of its vectors.
    pub width: u8,
    /// Lanes of what is left over behind the last vector, each less than those before; partial results of their own.
    tails: Vec<u8>,
    slots: usize,
}

/// A place in a row.
pub struct Point<'a> {
    bases: &'a [V],
    index: V,
    more: i64,
    /// Lanes.
    pub width: u8,
    /// How many lanes, the first, are elements of the row, where not all are.
    count: Option<u8>,
    /// Which of the row's partial results it belongs to.
    pub slot: usize,
}

impl Point<'_> {
    /// What a partial result becomes: lanes beyond the row keep what they have.
    fn counted(&self, k: &mut KernelBuilder, new: V, old: V) -> V {
        let Some(count) = self.count else { return new };
        let first = k.first(self.width, count);
        k.select(first, new, old)
    }
}

/// A value of a row, for every slot and width.
#[derive(Clone)]
pub struct RowValue {
    scalar: Option<V>,
    wide: Vec<V>,
    tails: Vec<V>,
}

impl RowReduction {
    /// Buffers over `dims`, of which some are reduced. `vectors`: lanes, where the kernel can use
    /// vectors.
    pub fn new(
        dims: &[i64],
        reduced: &[bool],
        operands: Vec<(StridedOperand, Arg, Access)>,
        vectors: Option<u8>,
    ) -> Result<RowReduction, Unsupported> {
        let mut args: Vec<Arg> = operands.iter().map(|s| s.1).collect();
        let uses = operands.iter().map(|s| s.2).collect();
        let mut operands: Vec<StridedOperand> = operands.into_iter().map(|s| s.0).collect();
        let (dims, reduced) = normalise(dims, reduced, &mut operands, &mut args)?;
        let mut rows = RowReduction { dims, reduced, operands, args, uses, width: 1, partial: false };
        if let (Some(width), Some(&last)) = (vectors, rows.dims.last()) {
            let axis = rows.dims.len() - 1;
            let varies = |s: &&StridedOperand| s.access.strides[axis] != 0;
            let partial = rows.reduced[axis]
                && lanes::masks(4 * usize::from(width))
                && rows.operands.iter().filter(varies).all(|s| lanes::masked(s.elem));
            if let Some(width) = lanes::fitting(last, (width, LEAST), partial)
                && rows.operands.iter().all(|s| matches!(s.access.strides[axis], 0 | 1))
            {
                (rows.width, rows.partial) = (width, partial);
            }
        }
        Ok(rows)
    }

    /// Arguments of the call, in the order of the operands.
    pub fn args(&self) -> &[Arg] {
        &self.args
    }

    /// Number of elements of a row.
    pub fn row_len(&self) -> i64 {
        self.axes(true).map(|a| self.dims[a]).product()
    }

    fn axes(&self, reduced: bool) -> impl Iterator<Item = usize> + '_ {
        (0..self.dims.len()).filter(move |&a| self.reduced[a] == reduced)
    }

    /// Whether the lanes of a vector are rows.
    fn columns(&self) -> bool {
        self.width > 1 && self.reduced.last() == Some(&false)
    }

    /// The kernel that does `body` for every row, in tasks.
    pub fn kernel(
        &self,
        name: &str,
        mut body: impl FnMut(&mut KernelBuilder, &Row) -> Result<(), Unsupported>,
    ) -> Result<egret_loop::Kernel, Unsupported> {
        let kept: Vec<usize> = self.axes(false).collect();
        let kept_dims: Vec<i64> = kept.iter().map(|&a| self.dims[a]).collect();
        let accesses: Vec<StridedAccess> = self
            .operands
            .iter()
            .map(|s| StridedAccess {
                offset: 0,
                strides: kept.iter().map(|&a| s.access.strides[a]).collect(),
            })
            .collect();
        let levels = (0..kept.len()).map(Level::Full).collect();
        let nest = Nest::split(&kept_dims, levels, (GRAIN / self.row_len().max(1)).max(1));
        let mut k = KernelBuilder::new(name, nest.tasks()).with_vector_bytes(
            (4 * usize::from(self.width))
                .clamp(egret_loop::BASE_VECTOR_BYTES, egret_loop::MAX_VECTOR_BYTES),
        );
        let params: Vec<Param> = self
            .operands
            .iter()
            .zip(&self.uses)
            .map(|(s, &u)| Ok(k.param(s.elem, touched(&self.dims, &s.access)?, u)))
            .collect::<Result<_, Unsupported>>()?;
        let offsets: Vec<V> = self.operands.iter().map(|s| k.int(s.access.offset)).collect();
        let accesses: Vec<&StridedAccess> = accesses.iter().collect();
        let mut result = Ok(());
        let mut emit = |k: &mut KernelBuilder, row: Row| {
            if let Err(e) = body(k, &row) {
                result = Err(e);
            }
        };
        nest.emit(&mut k, &accesses, offsets, &mut |k, bases, begin, end| {
            if kept.is_empty() {
                return emit(k, self.row(&params, bases.to_vec(), None, self.width));
            }
            let axis = kept[kept.len() - 1];
            if !self.columns() {
                return range(k, begin, end, 1, &mut |k, i| {
                    let bases = self.advance(k, bases, axis, i);
                    emit(k, self.row(&params, bases, None, self.width));
                });
            }
            let mut rest = begin;
            let mut rounds = vec![(SLOTS, self.width), (1, self.width)];
            rounds.extend((self.width > LEAST).then_some((1, LEAST)));
            rounds.push((1, 1));
            for (slots, width) in rounds {
                let step = slots as i64 * i64::from(width);
                let stop: Bound = end.rounded_down(k, rest, step);
                range(k, rest, stop, step, &mut |k, i| {
                    let row = Row { slots, ..self.row(&params, bases.to_vec(), Some(i), width) };
                    emit(k, row);
                });
                rest = stop;
            }
        });
        result?;
        Ok(k.finish())
    }

    fn row<'a>(&'a self, params: &'a [Param], bases: Vec<V>, column: Option<V>, width: u8) -> Row<'a> {
        let mut tails = vec![];
        if let (None, Some(&n), false) = (column, self.dims.last(), self.partial) {
            let some = n - n % i64::from(width);
            tails = lanes::runs(n - some, Ty { elem: Elem::F32, lanes: width });
        }
        let tails = if width > 1 { tails.into_iter().map(|(lanes, _)| lanes).collect() } else { vec![] };
        // A short row has fewer vectors.
        let vectors = if column.is_none() {
            self.dims.last().map(|n| (*n / i64::from(width)) as usize)
        } else {
            None
        };
        let slots = if width > 1 { vectors.unwrap_or(SLOTS).clamp(1, SLOTS) } else { 1 };
        Row { rows: self, params, bases, column, width, tails, slots }
    }

    fn advance(&self, k: &mut KernelBuilder, bases: &[V], axis: usize, index: V) -> Vec<V> {
        self.operands
            .iter()
            .zip(bases)
            .map(|(s, &b)| k.affine(&[(b, 1), (index, s.access.strides[axis])], 0))
            .collect()
    }
}

impl Row<'_> {
    /// A local for every partial result.
    pub fn locals(&self, k: &mut KernelBuilder, elem: Elem, bits: u64) -> Vec<Local> {
        let mut widths = vec![self.width; self.slots];
        widths.extend(&self.tails);
        widths
            .into_iter()
            .map(|lanes| {
                let init = k.const_bits(Ty { elem, lanes }, bits);
                k.local(init)
            })
            .collect()
    }

    /// One value of the row from its partial ones.
    pub fn join(&self, k: &mut KernelBuilder, locals: &[Local], op: BinOp) -> RowValue {
        let values: Vec<V> = locals.iter().map(|&l| k.get(l)).collect();
        if self.column.is_some() || self.width == 1 {
            return self.value(k, values);
        }
        let (wide, tails) = values.split_at(self.slots);
        let mut wide = wide.to_vec();
        while wide.len() > 1 {
            wide = wide
                .chunks(2)
                .map(|pair| if let [a, b] = *pair { k.binary(op, a, b) } else { pair[0] })
                .collect();
        }
        let mut all = k.fold(op, wide[0]);
        for &tail in tails {
            let tail = if k.ty(tail).lanes > 1 { k.fold(op, tail) } else { tail };
            all = k.binary(op, all, tail);
        }
        self.value(k, vec![all])
    }

    /// A value of the row from one per slot (where lanes are rows) or from one scalar.
    fn value(&self, k: &mut KernelBuilder, values: Vec<V>) -> RowValue {
        if self.column.is_some() || self.width == 1 {
            return RowValue { scalar: None, wide: values, tails: vec![] };
        }
        let wide = k.splat(values[0], self.width);
        let tails = self.tails.iter().map(|&lanes| k.splat(values[0], lanes)).collect();
        RowValue { scalar: Some(values[0]), wide: vec![wide; self.slots], tails }
    }

    /// A value of the row computed from another.
    pub fn map(
        &self,
        k: &mut KernelBuilder,
        x: &RowValue,
        mut f: impl FnMut(&mut KernelBuilder, V) -> Result<V, Unsupported>,
    ) -> Result<RowValue, Unsupported> {
        let values = match x.scalar {
            Some(v) => vec![f(k, v)?],
            None => x.wide.iter().map(|&v| f(k, v)).collect::<Result<_, _>>()?,
        };
        Ok(self.value(k, values))
    }

    /// Visits all elements of the row.
    pub fn pass(
        &self,
        k: &mut KernelBuilder,
        mut f: impl FnMut(&mut KernelBuilder, &Point) -> Result<(), Unsupported>,
    ) -> Result<(), Unsupported> {
        self.visit(k, None, &mut f, &mut |_| {})
    }

    /// Sums up over all elements of the row: `f` gives the new partial sum of a point from the old one.
    /// Long sums are cut into blocks, as those of contractions are.
    pub fn sum(
        &self,
        k: &mut KernelBuilder,
        elem: Elem,
        mut f: impl FnMut(&mut KernelBuilder, &Point, V) -> Result<V, Unsupported>,
    ) -> Result<RowValue, Unsupported> {
        let sums = self.locals(k, elem, 0);
        let mut add = |k: &mut KernelBuilder, p: &Point| {
            let old = k.get(sums[p.slot]);
            let new = f(k, p, old)?;
            let new = p.counted(k, new, old);
            k.set(sums[p.slot], new);
            Ok(())
        };
        let Some(cut) =
            BlockedSum::new(self.rounds().into_iter(), BlockedSum::BLOCK).filter(|_| elem.is_float())
        else {
            self.visit(k, None, &mut add, &mut |_| {})?;
            return Ok(self.join(k, &sums, BinOp::Add));
        };
        let totals = self.locals(k, elem, 0);
        let mut fold = |k: &mut KernelBuilder| {
            for (&sum, &total) in sums.iter().zip(&totals) {
                let (old, more) = (k.get(total), k.get(sum));
                let new = k.add(old, more);
                k.set(total, new);
                let zero = k.num(more, 0.0);
                k.set(sum, zero);
            }
        };
        self.visit(k, Some(cut), &mut add, &mut fold)?;
        // What is left over behind the last block.
        fold(k);
        Ok(self.join(k, &totals, BinOp::Add))
    }

    /// Turns of the loops around one summand of a partial sum, outermost first.
    fn rounds(&self) -> Vec<i64> {
        let mut rounds: Vec<i64> = self.rows.axes(true).map(|a| self.rows.dims[a]).collect();
        if let (None, Some(last)) = (self.column, rounds.last_mut()) {
            *last = (*last / (i64::from(self.width) * self.slots as i64)).max(1);
        }
        rounds
    }

    /// Visits all elements of the row, and calls `fold` after every block of the loops' turns.
    fn visit(
        &self,
        k: &mut KernelBuilder,
        cut: Option<BlockedSum>,
        f: &mut dyn FnMut(&mut KernelBuilder, &Point) -> Result<(), Unsupported>,
        fold: &mut dyn FnMut(&mut KernelBuilder),
    ) -> Result<(), Unsupported> {
        let mut axes: Vec<usize> = self.rows.axes(true).collect();
        let inner = if self.column.is_some() { None } else { axes.pop() };
        let mut result = Ok(());
        let mut f = |k: &mut KernelBuilder, p: &Point| {
            if let Err(e) = f(k, p) {
                result = Err(e);
            }
        };
        let mut visit = Visit { row: self, cut, inner, f: &mut f, fold };
        visit.outer(k, 0, &axes, &self.bases);
        result
    }

    /// The axis that a point's index runs along.
    fn axis(&self) -> Option<usize> {
        if self.column.is_some() { Some(self.rows.dims.len() - 1) } else { self.rows.axes(true).last() }
    }

    /// Index of a point in an operand.
    fn index(&self, k: &mut KernelBuilder, p: &Point, operand: usize) -> V {
        let stride = self.axis().map_or(0, |a| self.rows.operands[operand].access.strides[a]);
        k.affine(&[(p.bases[operand], 1), (p.index, stride)], p.more * stride)
    }

    /// The point that stands for the whole row in operands that do not vary along it, for one slot.
    pub fn whole(&self, k: &mut KernelBuilder, slot: usize) -> Point<'_> {
        let zero = k.int(0);
        let more = if self.column.is_some() { slot as i64 * i64::from(self.width) } else { 0 };
        let width = if self.column.is_some() { self.width } else { 1 };
        Point { bases: &self.bases, index: self.column.unwrap_or(zero), more, width, count: None, slot }
    }

    /// Number of slots that are rows of their own.
    pub fn rows_at_once(&self) -> usize {
        if self.column.is_some() { self.slots } else { 1 }
    }

    /// Reads an operand at a point.
    pub fn load(&self, k: &mut KernelBuilder, p: &Point, operand: usize) -> V {
        let at = self.index(k, p, operand);
        let varies = self.axis().is_some_and(|a| self.rows.operands[operand].access.strides[a] != 0);
        if let Some(count) = p.count.filter(|_| varies) {
            return k.load_first(self.params[operand], at, p.width, count);
        }
        if p.width > 1 && varies {
            return k.load_lanes(self.params[operand], at, p.width);
        }
        let x = k.load(self.params[operand], at);
        k.splat(x, p.width)
    }

    /// Writes an operand at a point.
    pub fn store(&self, k: &mut KernelBuilder, p: &Point, operand: usize, value: V) {
        let at = self.index(k, p, operand);
        match p.count {
            Some(count) => k.store_first(self.params[operand], at, value, count),
            None => k.store(self.params[operand], at, value),
        }
    }

    /// The expression at a point, as it is computed with; its operands are those of the kernel from `first`
    /// on.
    pub fn eval(
        &self,
        k: &mut KernelBuilder,
        p: &Point,
        expr: &Expr,
        first: usize,
        anchor: Option<V>,
    ) -> Result<V, Unsupported> {
        let operands: Vec<V> = (0..expr.operands.len()).map(|i| self.load(k, p, first + i)).collect();
        let like = k.const_bits(Ty { elem: Elem::F32, lanes: p.width }, 0);
        expr.emit_computed(k, like, anchor, &operands)
    }

    /// As [`Row::eval`], as a buffer of the expression's dtype holds it.
    pub fn eval_stored(
        &self,
        k: &mut KernelBuilder,
        p: &Point,
        expr: &Expr,
        first: usize,
        anchor: Option<V>,
    ) -> Result<V, Unsupported> {
        let value = self.eval(k, p, expr, first, anchor)?;
        crate::expr::encode(k, expr.dtype(), value)
    }
}

/// The loops over the elements of a row while they are written.
struct Visit<'v, 'r> {
    row: &'v Row<'r>,
    cut: Option<BlockedSum>,
    /// The axis that vectors run along.
    inner: Option<usize>,
    f: &'v mut dyn FnMut(&mut KernelBuilder, &Point),
    fold: &'v mut dyn FnMut(&mut KernelBuilder),
}

impl Visit<'_, '_> {
    /// `body` for every `step`th of `extent`: the loop at a depth, in blocks where it is the one that is
    /// cut.
    fn repeat(
        &mut self,
        k: &mut KernelBuilder,
        depth: usize,
        (extent, step): (i64, i64),
        body: &mut dyn FnMut(&mut Self, &mut KernelBuilder, V),
    ) {
        let Some(cut) = self.cut.filter(|c| c.depth == depth) else {
            return k.for_range(0, extent, step, |k, i| body(self, k, i));
        };
        k.for_range(0, extent, cut.turns * step, |k, first| {
            let (most, all) = (k.affine(&[(first, 1)], cut.turns * step), k.int(extent));
            let end = k.min(most, all);
            k.for_values(first, end, step, |k, i| body(self, k, i));
            (self.fold)(k);
        });
    }

    fn outer(&mut self, k: &mut KernelBuilder, depth: usize, axes: &[usize], bases: &[V]) {
        let row = self.row;
        if let Some((&axis, rest)) = axes.split_first() {
            return self.repeat(k, depth, (row.rows.dims[axis], 1), &mut |visit, k, i| {
                let bases = row.rows.advance(k, bases, axis, i);
                visit.outer(k, depth + 1, rest, &bases);
            });
        }
        if let Some(column) = row.column {
            for slot in 0..row.slots {
                let more = slot as i64 * i64::from(row.width);
                (self.f)(k, &Point { bases, index: column, more, width: row.width, count: None, slot });
            }
            return;
        }
        let Some(axis) = self.inner else {
            // A row of one element.
            let zero = k.int(0);
            let tail = if row.width > 1 { row.slots } else { 0 };
            return (self.f)(k, &Point { bases, index: zero, more: 0, width: 1, count: None, slot: tail });
        };
        let (n, w) = (row.rows.dims[axis], i64::from(row.width));
        if w == 1 {
            return self.repeat(k, depth, (n, 1), &mut |visit, k, index| {
                (visit.f)(k, &Point { bases, index, more: 0, width: 1, count: None, slot: 0 });
            });
        }
        let round = w * row.slots as i64;
        let many = n / round * round;
        self.repeat(k, depth, (many, round), &mut |visit, k, index| {
            for slot in 0..row.slots {
                (visit.f)(
                    k,
                    &Point { bases, index, more: slot as i64 * w, width: row.width, count: None, slot },
                );
            }
        });
        let some = n / w * w;
        k.for_range(many, some, w, |k, index| {
            (self.f)(k, &Point { bases, index, more: 0, width: row.width, count: None, slot: 0 })
        });
        if row.rows.partial && some < n {
            // Beside the vectors before it, which wait for one another.
            let (index, slot) = (k.int(some), row.slots - 1);
            let count = Some((n - some) as u8);
            return (self.f)(k, &Point { bases, index, more: 0, width: row.width, count, slot });
        }
        let mut begin = some;
        for (i, &width) in row.tails.iter().enumerate() {
            let end = if width == 1 { n } else { begin + i64::from(width) };
            k.for_range(begin, end, width.into(), |k, index| {
                (self.f)(k, &Point { bases, index, more: 0, width, count: None, slot: row.slots + i })
            });
            begin = end;
        }
    }
}

impl RowValue {
    /// The scalar value of the row (of the slot's row where lanes are rows).
    pub fn of_slot(&self, slot: usize) -> V {
        self.scalar.unwrap_or_else(|| self.wide[slot])
    }

    /// The value with as many lanes as a point.
    pub fn at(&self, p: &Point) -> V {
        match self.scalar {
            Some(v) if p.width == 1 => v,
            Some(_) if p.slot >= self.wide.len() => self.tails[p.slot - self.wide.len()],
            _ => self.wide[p.slot.min(self.wide.len() - 1)],
        }
    }
}

/// Combines a value into a point's partial result.
pub fn combine(k: &mut KernelBuilder, locals: &[Local], p: &Point, op: BinOp, value: V) {
    let l = locals[p.slot];
    let old = k.get(l);
    let new = k.binary(op, old, value);
    let new = p.counted(k, new, old);
    k.set(l, new);
}

/// Strided operands for the operands of an expression, with accesses mapped by `to` from the expression's
/// axes.
pub fn strided_operands(
    ctx: &mut Ctx,
    expr: &Expr,
    to: impl Fn(&StridedAccess) -> StridedAccess,
) -> Result<Vec<(StridedOperand, Arg, Access)>, Unsupported> {
    let mut out = vec![];
    for o in &expr.operands {
        let operand = StridedOperand { elem: buffer_elem(o.dtype)?, access: to(&o.access) };
        out.push((operand, ctx.place(o.value)?, Access::Read));
    }
    Ok(out)
}
