//! Writing kernels: every method appends a statement to the innermost open block.

use crate::ir::*;

/// Builds one kernel.
#[derive(Debug)]
pub struct KernelBuilder {
    kernel: Kernel,
    blocks: Vec<Vec<Stmt>>,
    /// Bytes of its vectors.
    vector_bytes: usize,
    /// (magnitudes of a vector's lanes, limit above which a lane is unfit): see [`KernelBuilder::take_unfit`].
    unfit: Vec<(V, V)>,
}

impl KernelBuilder {
    /// Start a kernel of `tasks` independent tasks, whose vectors are those that every target has.
    pub fn new(name: &str, tasks: i64) -> KernelBuilder {
        let kernel = Kernel {
            name: name.to_owned(),
            params: vec![],
            types: vec![Ty::scalar(Elem::I64)],
            locals: vec![],
            tasks: tasks.max(1),
            task: V(0),
            body: vec![],
        };
        KernelBuilder { kernel, blocks: vec![vec![]], vector_bytes: BASE_VECTOR_BYTES, unfit: vec![] }
    }

    /// The same with vectors of 16, 32 or 64 bytes ([`Ty::vector_of`]).
    #[must_use]
    pub fn with_vector_bytes(mut self, bytes: usize) -> KernelBuilder {
        self.vector_bytes = bytes;
        self
    }

    /// Bytes of its vectors.
    pub fn vector_bytes(&self) -> usize {
        self.vector_bytes
    }

    /// Its vector of an element type.
    pub fn vector(&self, elem: Elem) -> Ty {
        Ty::vector_of(elem, self.vector_bytes)
    }

    /// The task index.
    pub fn task(&self) -> V {
        self.kernel.task
    }

    /// The finished kernel.
    pub fn finish(mut self) -> Kernel {
        self.kernel.body = self.blocks.pop().expect("the outermost block");
        debug_assert!(self.blocks.is_empty(), "a block is still open");
        assert!(self.unfit.is_empty(), "lanes that may be unfit are stored as they are");
        self.kernel
    }

    /// Add a buffer parameter.
    pub fn param(&mut self, elem: Elem, len: usize, access: Access) -> Param {
        self.kernel.params.push(ParamInfo { elem, len, access });
        Param(self.kernel.params.len() as u32 - 1)
    }

    /// Element type of a parameter.
    pub fn param_elem(&self, p: Param) -> Elem {
        self.kernel.params[p.0 as usize].elem
    }

    /// Type of a value.
    pub fn ty(&self, v: V) -> Ty {
        self.kernel.types[v.0 as usize]
    }

    fn push(&mut self, stmt: Stmt) {
        self.blocks.last_mut().expect("an open block").push(stmt);
    }

    fn value(&mut self, ty: Ty) -> V {
        self.kernel.types.push(ty);
        V(self.kernel.types.len() as u32 - 1)
    }

    fn define(&mut self, ty: Ty, inst: Inst) -> V {
        let v = self.value(ty);
        self.push(Stmt::Let(v, inst));
        v
    }

    // ---- values ----

    /// A constant from its bits, in every lane.
    pub fn const_bits(&mut self, ty: Ty, bits: u64) -> V {
        self.define(ty, Inst::Const(ty, bits))
    }

    /// An i64 scalar.
    pub fn int(&mut self, value: i64) -> V {
        self.const_bits(Ty::scalar(Elem::I64), value as u64)
    }

    /// A number in a type: floats are rounded, integers truncated and wrapped, bool is `value != 0`.
    pub fn number(&mut self, ty: Ty, value: f64) -> V {
        let bits = number_bits(ty.elem, value);
        self.const_bits(ty, bits)
    }

    /// `sum(v * c) + offset` of i64 scalars.
    pub fn affine(&mut self, terms: &[(V, i64)], offset: i64) -> V {
        let terms: Vec<_> = terms.iter().copied().filter(|(_, c)| *c != 0).collect();
        match terms.as_slice() {
            [(v, 1)] if offset == 0 => *v,
            [] => self.int(offset),
            _ => self.define(Ty::scalar(Elem::I64), Inst::Affine(terms, offset)),
        }
    }

    /// See [`UnOp`].
    pub fn unary(&mut self, op: UnOp, x: V) -> V {
        self.define(self.ty(x), Inst::Unary(op, x))
    }

    /// See [`BinOp`].
    pub fn binary(&mut self, op: BinOp, a: V, b: V) -> V {
        debug_assert_eq!(self.ty(a), self.ty(b), "{op:?} of two types");
        self.define(self.ty(a), Inst::Binary(op, a, b))
    }

    /// a * b + c.
    pub fn fma(&mut self, a: V, b: V, c: V) -> V {
        self.define(self.ty(a), Inst::Fma(a, b, c))
    }

    /// Comparison.
    pub fn compare(&mut self, op: Cmp, a: V, b: V) -> V {
        debug_assert_eq!(self.ty(a), self.ty(b), "{op:?} of two types");
        self.define(self.ty(a).with(Elem::Bool), Inst::Compare(op, a, b))
    }

    /// b where `cond` holds, else c.
    pub fn select(&mut self, cond: V, b: V, c: V) -> V {
        debug_assert_eq!(self.ty(b), self.ty(c), "select of two types");
        self.define(self.ty(b), Inst::Select(cond, b, c))
    }

    /// To another element type; x itself where it has it.
    pub fn convert(&mut self, to: Elem, x: V) -> V {
        if self.ty(x).elem == to {
            return x;
        }
        self.define(self.ty(x).with(to), Inst::Convert(to, x))
    }

    /// The same bits as another element type of the same size.
    pub fn bitcast(&mut self, to: Elem, x: V) -> V {
        if self.ty(x).elem == to {
            return x;
        }
        self.define(self.ty(x).with(to), Inst::Bitcast(to, x))
    }

    /// The scalar at an index.
    pub fn load(&mut self, p: Param, index: V) -> V {
        let ty = Ty::scalar(self.param_elem(p));
        self.define(ty, Inst::Load(p, index, ty))
    }

    /// The full vector from an index on.
    pub fn load_vector(&mut self, p: Param, index: V) -> V {
        self.load_lanes(p, index, self.vector(self.param_elem(p)).lanes)
    }

    /// So many elements from an index on; a scalar for one.
    pub fn load_lanes(&mut self, p: Param, index: V, lanes: u8) -> V {
        let ty = Ty { elem: self.param_elem(p), lanes };
        debug_assert!(Ty::new(ty.elem, lanes).is_some(), "there is no {ty}");
        self.define(ty, Inst::Load(p, index, ty))
    }

    /// The first `count` of so many elements from an index on, and zeros.
    pub fn load_first(&mut self, p: Param, index: V, lanes: u8, count: u8) -> V {
        if count == lanes {
            return self.load_lanes(p, index, lanes);
        }
        let ty = Ty { elem: self.param_elem(p), lanes };
        debug_assert!(Ty::new(ty.elem, lanes).is_some() && (1..lanes).contains(&count), "{count} of {ty}");
        self.define(ty, Inst::LoadFirst(p, index, ty, count))
    }

    /// A mask of so many lanes, of which the first `count` hold.
    pub fn first(&mut self, lanes: u8, count: u8) -> V {
        self.define(Ty { elem: Elem::Bool, lanes }, Inst::First(lanes, count))
    }

    /// A scalar in every lane; the scalar itself for 1 lane.
    pub fn splat(&mut self, x: V, lanes: u8) -> V {
        if lanes == 1 {
            return x;
        }
        let ty = Ty { elem: self.ty(x).elem, lanes };
        self.define(ty, Inst::Splat(x, lanes))
    }

    /// One lane.
    pub fn extract(&mut self, x: V, lane: u8) -> V {
        self.define(Ty::scalar(self.ty(x).elem), Inst::Extract(x, lane))
    }

    /// The lanes of two vectors by a fixed order.
    pub fn shuffle(&mut self, op: Shuffle, a: V, b: V) -> V {
        let ty = self.ty(a);
        debug_assert!(op.takes(ty), "{} of {ty}", op.name());
        debug_assert_eq!(ty, self.ty(b), "shuffle of unlike vectors");
        self.define(ty, Inst::Shuffle(op, a, b))
    }

    /// The columns of a square block of which these vectors are the rows: vector `i` of the result has lane `i` of each of them.
    pub fn transpose(&mut self, rows: Vec<V>) -> Vec<V> {
        let n = rows.len();
        let ty = self.ty(rows[0]);
        debug_assert!(
            rows.iter().all(|&v| self.ty(v) == ty && usize::from(ty.lanes) == n),
            "a block that is not square"
        );
        // By blocks of 16 bytes, with what machines do to each of them at once; where a vector is one of them, or none, by lanes.
        let block = usize::from(Shuffle::block(ty.elem));
        if ty.elem.size() < 4 || n <= block {
            return self.weave(rows, Shuffle::Interleave);
        }
        // `columns[g][j]` has, for each block `q` of the rows, the lanes `j` of `q` of rows `g * block ..`.
        let columns: Vec<Vec<V>> =
            rows.chunks(block).map(|rows| self.weave(rows.to_vec(), Shuffle::Unpack)).collect();
        let of_lane: Vec<Vec<V>> =
            (0..block).map(|j| self.gather_blocks(columns.iter().map(|c| c[j]).collect())).collect();
        (0..n).map(|i| of_lane[i % block][i / block]).collect()
    }

    /// Rows by turns, until each lane of the first stands before that of the second, and so on: of `[a, b]` and `[c, d]` it gives
    /// `[a, c]` and `[b, d]`. As many rows as a power of 2. Each round takes the highest bit of the row's number to be the lowest of the
    /// lane's.
    pub fn weave(&mut self, mut rows: Vec<V>, by: fn(Half) -> Shuffle) -> Vec<V> {
        for _ in 0..rows.len().trailing_zeros() {
            let (upper, lower) = rows.split_at(rows.len() / 2);
            let pairs: Vec<(V, V)> = upper.iter().copied().zip(lower.iter().copied()).collect();
            rows = pairs
                .into_iter()
                .flat_map(|(a, b)| [Half::Low, Half::High].map(|half| self.shuffle(by(half), a, b)))
                .collect();
        }
        rows
    }

    /// Of so many vectors as each has blocks, vector `q` of the result has the blocks `q` of all.
    fn gather_blocks(&mut self, vectors: Vec<V>) -> Vec<V> {
        if vectors.len() == 1 {
            return vectors;
        }
        let [even, odd] = [Parity::Even, Parity::Odd].map(|parity| {
            let pairs =
                vectors.chunks(2).map(|v| self.shuffle(Shuffle::Blocks(parity), v[0], v[1])).collect();
            self.gather_blocks(pairs)
        });
        even.into_iter().zip(odd).flat_map(|(even, odd)| [even, odd]).collect()
    }

    /// One scalar of all lanes by an operation that [folds](BinOp::folds); the scalar itself where it is one.
    pub fn fold(&mut self, op: BinOp, x: V) -> V {
        debug_assert!(op.folds(), "{op:?} does not fold");
        let ty = self.ty(x);
        if ty.lanes == 1 {
            return x;
        }
        self.define(Ty::scalar(ty.elem), Inst::Fold(op, x))
    }

    /// Whether some lane of a `Bool` holds; the scalar itself where it is one.
    pub fn any(&mut self, x: V) -> V {
        let ty = self.ty(x);
        debug_assert_eq!(ty.elem, Elem::Bool, "any of another type");
        if ty.lanes == 1 {
            return x;
        }
        self.define(Ty::scalar(Elem::Bool), Inst::Any(x))
    }

    /// Write a scalar or a vector.
    pub fn store(&mut self, param: Param, index: V, value: V) {
        debug_assert_eq!(self.param_elem(param), self.ty(value).elem, "store of another element type");
        self.push(Stmt::Store { param, index, value });
    }

    /// Write the first `count` lanes of a vector.
    pub fn store_first(&mut self, param: Param, index: V, value: V, count: u8) {
        debug_assert_eq!(self.param_elem(param), self.ty(value).elem, "store of another element type");
        match self.ty(value).lanes == count {
            true => self.push(Stmt::Store { param, index, value }),
            false => self.push(Stmt::StoreFirst { param, index, value, count }),
        }
    }

    /// Note that the lanes of the vectors made here may be unfit for use: where `magnitude` is above `limit`.
    pub(crate) fn note_unfit(&mut self, magnitude: V, limit: V) {
        self.unfit.push((magnitude, limit));
    }

    /// Whether a lane of what was computed since the last call is unfit for use, as a `Bool` scalar; `None` where none can be.
    /// Elements of such vectors are to be computed anew, as scalars.
    pub fn take_unfit(&mut self) -> Option<V> {
        let notes = std::mem::take(&mut self.unfit);
        let mut masks: Vec<(Ty, V)> = vec![];
        for (magnitude, limit) in notes {
            let ty = self.ty(magnitude);
            let above = self.compare(Cmp::Gt, magnitude, limit);
            match masks.iter_mut().find(|m| m.0 == ty) {
                Some(mask) => mask.1 = self.or(mask.1, above),
                None => masks.push((ty, above)),
            }
        }
        let any: Vec<V> = masks.into_iter().map(|(_, mask)| self.any(mask)).collect();
        any.into_iter().reduce(|a, b| self.or(a, b))
    }

    // ---- locals ----

    /// A local that starts with a value.
    pub fn local(&mut self, init: V) -> Local {
        self.kernel.locals.push(self.ty(init));
        let l = Local(self.kernel.locals.len() as u32 - 1);
        self.set(l, init);
        l
    }

    /// The current value.
    pub fn get(&mut self, l: Local) -> V {
        self.define(self.kernel.locals[l.0 as usize], Inst::Get(l))
    }

    /// Change it.
    pub fn set(&mut self, l: Local, v: V) {
        debug_assert_eq!(self.kernel.locals[l.0 as usize], self.ty(v), "local of another type");
        self.push(Stmt::Set(l, v));
    }

    // ---- control ----

    fn block(&mut self, body: impl FnOnce(&mut Self)) -> Vec<Stmt> {
        self.blocks.push(vec![]);
        body(self);
        self.blocks.pop().expect("the block just opened")
    }

    /// `for i in 0..extent`.
    pub fn for_n(&mut self, extent: i64, body: impl FnOnce(&mut Self, V)) {
        self.for_range(0, extent, 1, body);
    }

    /// `for i in (begin..end).step_by(step)`, constants. A loop of one step is not a loop; one of none is nothing.
    pub fn for_range(&mut self, begin: i64, end: i64, step: i64, body: impl FnOnce(&mut Self, V)) {
        if begin >= end {
            return;
        }
        let b = self.int(begin);
        if begin + step >= end {
            return body(self, b);
        }
        let e = self.int(end);
        self.for_values(b, e, step, body);
    }

    /// `for i in (begin..end).step_by(step)` with bounds known at run time.
    pub fn for_values(&mut self, begin: V, end: V, step: i64, body: impl FnOnce(&mut Self, V)) {
        let var = self.value(Ty::scalar(Elem::I64));
        let body = self.block(|k| body(k, var));
        self.push(Stmt::For { var, begin, end, step, body });
    }

    /// `while head() { body() }`.
    pub fn while_(&mut self, head: impl FnOnce(&mut Self) -> V, body: impl FnOnce(&mut Self)) {
        let mut test = V(0);
        let head = self.block(|k| test = head(k));
        let body = self.block(body);
        self.push(Stmt::While { head, test, body });
    }

    /// `if cond { then() } else { otherwise() }`.
    pub fn if_(&mut self, cond: V, then: impl FnOnce(&mut Self), otherwise: impl FnOnce(&mut Self)) {
        let then = self.block(then);
        let otherwise = self.block(otherwise);
        self.push(Stmt::If { cond, then, otherwise });
    }

    /// Fail where a number from data is not in `low..high`.
    pub fn check(&mut self, value: V, low: impl Into<Bound>, high: impl Into<Bound>) {
        let (low, high) = (low.into(), high.into());
        for v in [low.value(), high.value(), Some(value)].into_iter().flatten() {
            debug_assert_eq!(self.ty(v), Ty::scalar(Elem::I64), "a check of another type");
        }
        self.push(Stmt::Check { value, low, high });
    }

    /// The contraction leaf.
    pub fn tile(&mut self, tile: Tile) {
        self.push(Stmt::Tile(Box::new(tile)));
    }
}

macro_rules! shorthands {
    ($($(#[$doc:meta])* $name:ident => $op:ident),* $(,)?) => {
        impl KernelBuilder { $($(#[$doc])* pub fn $name(&mut self, a: V, b: V) -> V { self.binary(BinOp::$op, a, b) })* }
    };
}
shorthands!(
    /// a + b
    add => Add,
    /// a - b
    sub => Sub,
    /// a * b
    mul => Mul,
    /// a / b
    div => Div,
    /// Remainder
    rem => Rem,
    /// Smaller, NaN wins
    min => Min,
    /// Larger, NaN wins
    max => Max,
    /// Conjunction
    and => And,
    /// Disjunction
    or => Or,
    /// Difference
    xor => Xor,
);
