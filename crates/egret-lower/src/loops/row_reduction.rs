//! Kernels that visit a group of axes several times for every index of the others: reductions, softmax,
//! normalisation.
//!
//! A row is one index of the kept axes, with all elements of the reduced axes. Where the innermost axis is
//! reduced, vectors run along the row, several partial sums at a time; where it is kept, a row is a strip
//! of neighbouring columns and each lane is a row of its own.
//!
//! A row of few vectors is written without a loop, and what one visit computes stays in registers for the next ([`Held`]).

mod visit;

use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::buffer_elem;
use crate::lanes;
use crate::loops::map::GRAIN;
use crate::loops::nest::{Edge, Level, Nest, range};
use crate::loops::operands::{StridedOperand, normalise, touched};
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{DType, Node};
use egret_loop::{Access, Arg, Arith, BinOp, BlockedSum, Elem, KernelBuilder, Local, Param, Ty, V};

/// What the anchor's first operand is made of.
pub fn source(ctx: &Ctx, group: &FusionGroup, node: &Node) -> Expr {
    let x = node.operand(0);
    group.prologue.clone().unwrap_or_else(|| Expr::load(ctx.dims(x), x, ctx.dtype(x)))
}

/// The vectors that a kernel may use.
#[derive(Copy, Clone)]
pub struct Vectors {
    /// Lanes of the widest.
    lanes: u8,
    /// How many of a row may stay in registers: half of these, the rest is for what is computed with.
    held: usize,
}

/// Those that fit everything a kernel computes, if any do.
pub fn vectors(ctx: &Ctx, parts: &[&Expr]) -> Option<Vectors> {
    let words = |e: &&Expr| !e.branches() && e.lane_sizes().is_some_and(|s| s.widest <= 4);
    let machine = &ctx.options.machine;
    let vectors = Vectors { lanes: (machine.kernel_bytes / 4) as u8, held: machine.registers / 2 };
    parts.iter().all(words).then_some(vectors)
}

/// The vectors for rows of f64 alone, where the machine's have as many lanes as the narrowest of a row.
pub fn long_vectors(ctx: &Ctx, parts: &[&Expr]) -> Option<Vectors> {
    let f64s = |e: &&Expr| {
        let mut dtypes = e.operands.iter().map(|o| o.dtype).chain(e.terms.iter().map(|t| t.1));
        dtypes.all(|d| d == DType::F64) && !e.branches() && e.lane_sizes().is_some()
    };
    let machine = &ctx.options.machine;
    let lanes = (machine.kernel_bytes / 8) as u8;
    (lanes >= LEAST && parts.iter().all(f64s)).then_some(Vectors { lanes, held: machine.registers / 2 })
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
    /// How many vectors of a row may stay in registers.
    held: usize,
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
    /// Whether it is written without a loop, so that its values can stay in registers.
    held: bool,
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
    /// Which vector of the row it is, where the row is short enough to be written without a loop.
    pub place: Option<usize>,
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
    /// Buffers over `dims`, of which some are reduced. `vectors`: those that the kernel can use, if any.
    pub fn new(
        dims: &[i64],
        reduced: &[bool],
        operands: Vec<(StridedOperand, Arg, Access)>,
        vectors: Option<Vectors>,
    ) -> Result<RowReduction, Unsupported> {
        let mut args: Vec<Arg> = operands.iter().map(|s| s.1).collect();
        let uses = operands.iter().map(|s| s.2).collect();
        let mut operands: Vec<StridedOperand> = operands.into_iter().map(|s| s.0).collect();
        let (dims, reduced) = normalise(dims, reduced, &mut operands, &mut args)?;
        let mut rows =
            RowReduction { dims, reduced, operands, args, uses, width: 1, partial: false, held: 0 };
        if let (Some(Vectors { lanes: width, held }), Some(&last)) = (vectors, rows.dims.last()) {
            let axis = rows.dims.len() - 1;
            let varies = |s: &&StridedOperand| s.access.strides[axis] != 0;
            let partial = rows.reduced[axis]
                && lanes::masks(4 * usize::from(width))
                && rows.operands.iter().filter(varies).all(|s| lanes::masked(s.elem));
            if let Some(width) = lanes::fitting(last, (width, LEAST), partial)
                && rows.operands.iter().all(|s| matches!(s.access.strides[axis], 0 | 1))
            {
                (rows.width, rows.partial, rows.held) = (width, partial, held);
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
        self.kernel_of_rows(name, 1, |k, rows| rows.iter().try_for_each(|row| body(k, row)))
    }

    /// How many rows are worth being written side by side, so that what one waits for (the fold of a vector into one number, a
    /// division) passes while another is computed: of those that stay in registers, as a loop is too long for a CPU to look beyond.
    pub fn side_by_side(&self) -> usize {
        if self.columns() || !self.holds(self.width) {
            return 1;
        }
        let vectors = self.dims.last().map_or(1, |n| (*n as u64).div_ceil(self.width.into()) as usize);
        let enough = if vectors <= SLOTS { SLOTS } else { 2 };
        let rows = self.axes(false).last().map_or(1, |a| self.dims[a]);
        if rows < enough as i64 { 1 } else { enough }
    }

    /// The kernel that does `body` for rows, in tasks: so many at once as long as there are, then one by one. Strips of columns come
    /// by themselves.
    pub fn kernel_of_rows(
        &self,
        name: &str,
        at_once: usize,
        mut body: impl FnMut(&mut KernelBuilder, &[Row]) -> Result<(), Unsupported>,
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
        let mut emit = |k: &mut KernelBuilder, rows: &[Row]| {
            if let Err(e) = body(k, rows) {
                result = Err(e);
            }
        };
        nest.emit(&mut k, &accesses, offsets, &mut |k, bases, begin, end| {
            if kept.is_empty() {
                return emit(k, &[self.row(&params, bases.to_vec(), None, self.width)]);
            }
            let axis = kept[kept.len() - 1];
            let mut rest = begin;
            if !self.columns() {
                for count in if at_once > 1 { vec![at_once, 1] } else { vec![1] } {
                    let step = count as i64;
                    let stop = if count > 1 { end.rounded_down(k, rest, step) } else { end };
                    range(k, rest, stop, step, &mut |k, first| {
                        let row = |more| {
                            let i = k.affine(&[(first, 1)], more);
                            let bases = self.advance(k, bases, axis, i);
                            self.row(&params, bases, None, self.width)
                        };
                        let rows: Vec<Row> = (0..step).map(row).collect();
                        emit(k, &rows);
                    });
                    rest = stop;
                }
                return;
            }
            let mut rounds = vec![(SLOTS, self.width), (1, self.width)];
            rounds.extend((self.width > LEAST).then_some((1, LEAST)));
            rounds.push((1, 1));
            for (slots, width) in rounds {
                let step = slots as i64 * i64::from(width);
                let stop: Edge = end.rounded_down(k, rest, step);
                range(k, rest, stop, step, &mut |k, i| {
                    let row = Row { slots, ..self.row(&params, bases.to_vec(), Some(i), width) };
                    emit(k, &[row]);
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
        let held = column.is_none() && self.holds(width);
        Row { rows: self, params, bases, column, width, tails, slots, held }
    }

    /// Whether a row is along one axis, and so short that its vectors stay in registers.
    fn holds(&self, width: u8) -> bool {
        let (mut axes, w) = (self.axes(true), i64::from(width));
        let (Some(axis), None) = (axes.next(), axes.next()) else { return false };
        let n = self.dims[axis];
        width > 1 && (self.partial || n % w == 0) && (n as u64).div_ceil(w as u64) <= self.held as u64
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
        let mut visit = visit::Visit { row: self, cut, inner, f: &mut f, fold };
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
        Point {
            bases: &self.bases,
            index: self.column.unwrap_or(zero),
            more,
            width,
            count: None,
            slot,
            place: None,
        }
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

/// What a visit of a row has computed at its points, for the next visit: values, where the row is short enough for them to stay in
/// registers.
#[derive(Default)]
pub struct Held(Vec<V>);

impl Held {
    /// Whether the value of a point was kept, as its row's stay.
    pub fn set(&mut self, p: &Point, value: V) -> bool {
        match p.place {
            Some(place) if place < self.0.len() => self.0[place] = value,
            Some(_) => self.0.push(value),
            None => return false,
        }
        true
    }

    /// The value that was kept of a point.
    pub fn get(&self, p: &Point) -> Option<V> {
        p.place.and_then(|place| self.0.get(place)).copied()
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
