//! The data of Loop IR: programs, buffers, kernels, statements.
//!
//! A kernel is a loop nest over flat buffers. Values are SSA (`v3`), scalars or vectors ([`Ty`]); what changes over time lives
//! in locals (`l0`) or in buffers. Indices count elements. The contraction leaf, [`Tile`], stays whole, so that an emitter
//! can encode it as it likes; everything else is one instruction at a time.

use crate::blocked_sum::BlockedSum;
pub use crate::branches::Branches;
pub use crate::broken_rule::BrokenRule;
pub use crate::elem::{Elem, number_bits};
pub use crate::ids::{Bound, BufferId, KernelId, Local, Param, V};
pub use crate::nonzeros::{NonzeroStep, Nonzeros, Second};
pub use crate::ops::{BinOp, Cmp, Half, Parity, UnOp};
pub use crate::out_of_range::OutOfRange;
pub use crate::place::Place;
pub use crate::products::Products;
pub use crate::scale::ScaleLimits;
pub use crate::shuffle::Shuffle;
pub use crate::sizes::{Extent, Repeat, Size, SizeId, SizeList, SizeOp, Symbol};
pub use crate::ty::{BASE_VECTOR_BYTES, MAX_LANES, MAX_VECTOR_BYTES, Ty};
use crate::weights::Weights;
use std::collections::BTreeMap;

/// An instruction: how a value is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inst {
    /// The bits of a constant, in the low bytes; in every lane of a vector.
    Const(Ty, u64),
    /// `sum(v * c) + offset`, i64 scalars.
    Affine(Vec<(V, i64)>, i64),
    /// See [`UnOp`].
    Unary(UnOp, V),
    /// See [`BinOp`].
    Binary(BinOp, V, V),
    /// a * b + c, rounded once where the target has FMA (twice elsewhere). Float.
    Fma(V, V, V),
    /// Comparison; the result is `Bool` with the operands' lanes.
    Compare(Cmp, V, V),
    /// b where the `Bool` a holds, else c (lane by lane).
    Select(V, V, V),
    /// To another element type. Float to integer truncates and saturates (NaN gives 0); integers wrap or extend by the
    /// source's sign; bool gives 0 or 1. Of a vector every lane. f16 is converted from and to f32 only, by rounding to nearest even,
    /// which flushes no subnormal f16.
    Convert(Elem, V),
    /// The same bits as another element type of the same size.
    Bitcast(Elem, V),
    /// The element (or the contiguous vector) at an index of a buffer. Vectors need not be aligned.
    Load(Param, V, Ty),
    /// The first elements of a vector at an index of a buffer, so many and no more of them are read; the other lanes are 0. At least 1,
    /// at most the lanes; not of f16. For example, the first 5 of `f32x16` are what is left of a row of 197.
    LoadFirst(Param, V, Ty, u8),
    /// A `Bool` vector of so many lanes, of which the first so many hold.
    First(u8, u8),
    /// A scalar in every lane.
    Splat(V, u8),
    /// One lane of a vector.
    Extract(V, u8),
    /// The lanes of two vectors by a fixed order (see [`Shuffle`]). Not of `Bool`.
    Shuffle(Shuffle, V, V),
    /// One scalar of all lanes of a vector, by an operation that [folds](BinOp::folds): the lower half of the lanes with the upper
    /// half, lane by lane, and again, until one is left. Of `[a, b, c, d]`: `(a op c) op (b op d)`.
    Fold(BinOp, V),
    /// Whether some lane of a `Bool` vector holds; a `Bool` scalar.
    Any(V),
    /// The current value of a local.
    Get(Local),
}

macro_rules! each_operand {
    ($inst:expr, $f:ident, $iter:ident) => {
        match $inst {
            Inst::Const(..) | Inst::First(..) | Inst::Get(_) => {}
            Inst::Affine(terms, _) => terms.$iter().for_each(|(v, _)| $f(v)),
            Inst::Unary(_, x)
            | Inst::Convert(_, x)
            | Inst::Bitcast(_, x)
            | Inst::Load(_, x, _)
            | Inst::LoadFirst(_, x, ..)
            | Inst::Splat(x, _)
            | Inst::Extract(x, _)
            | Inst::Fold(_, x)
            | Inst::Any(x) => $f(x),
            Inst::Binary(_, a, b) | Inst::Compare(_, a, b) | Inst::Shuffle(_, a, b) => {
                [a, b].into_iter().for_each($f)
            }
            Inst::Fma(a, b, c) | Inst::Select(a, b, c) => [a, b, c].into_iter().for_each($f),
        }
    };
}

impl Inst {
    /// Gives the values that it reads.
    pub fn for_operands(&self, mut f: impl FnMut(&V)) {
        each_operand!(self, f, iter);
    }

    /// Gives the values that it reads, to be changed.
    pub fn for_operands_mut(&mut self, mut f: impl FnMut(&mut V)) {
        each_operand!(self, f, iter_mut);
    }

    /// Whether each lane of its result is computed from the same lane of its operands, or is constant.
    pub fn is_elementwise(&self) -> bool {
        use Inst::*;
        matches!(
            self,
            Const(..)
                | Unary(..)
                | Binary(..)
                | Fma(..)
                | Compare(..)
                | Select(..)
                | Convert(..)
                | Bitcast(..)
        )
    }
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// Defines a value.
    Let(V, Inst),
    /// Changes a local.
    Set(Local, V),
    /// Writes an element (or a contiguous vector) of a buffer.
    Store {
        /// Where.
        param: Param,
        /// Index in elements (i64 scalar).
        index: V,
        /// What.
        value: V,
    },
    /// Writes the first lanes of a vector as neighbouring elements of a buffer; see [`Inst::LoadFirst`].
    StoreFirst {
        /// Where.
        param: Param,
        /// Index in elements (i64 scalar).
        index: V,
        /// What.
        value: V,
        /// How many lanes.
        count: u8,
    },
    /// `for var in (begin..end).step_by(step)`; i64.
    For {
        /// The loop variable.
        var: V,
        /// First value.
        begin: V,
        /// End, exclusive.
        end: V,
        /// Positive.
        step: i64,
        /// What to do.
        body: Vec<Stmt>,
    },
    /// Runs `head`, stops if `test` (a `Bool` scalar made there) does not hold, runs `body`, and again.
    While {
        /// Computes the condition.
        head: Vec<Stmt>,
        /// The condition.
        test: V,
        /// What to do.
        body: Vec<Stmt>,
    },
    /// Runs one of two blocks.
    If {
        /// A `Bool` scalar.
        cond: V,
        /// Where it holds.
        then: Vec<Stmt>,
        /// Where it does not.
        otherwise: Vec<Stmt>,
    },
    /// Holds a number from data (i64 scalar): where it is not in `low..high`, the kernel fails. It then does nothing more of its
    /// range of tasks, no later call of the program runs, and the run reports the number. No number is in a range whose end is not above
    /// its least.
    Check {
        /// An index or a length, as the data has it.
        value: V,
        /// The least that is right.
        low: Bound,
        /// The end of what is right, exclusive.
        high: Bound,
    },
    /// The contraction leaf.
    Tile(Box<Tile>),
}

/// A reduction axis of a [`Tile`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    /// Number of steps; at least 1.
    pub extent: i64,
    /// Elements of `a` per step.
    pub a_stride: i64,
    /// Elements of `b` per step.
    pub b_stride: i64,
}

impl Axis {
    /// The same reduction with fewer axes: those of one step dropped, neighbours joined where both strides continue. Never empty.
    pub fn joined(axes: &[Axis]) -> Vec<Axis> {
        let mut out: Vec<Axis> = vec![];
        for axis in axes.iter().filter(|a| a.extent != 1) {
            match out.last_mut() {
                Some(o)
                    if o.a_stride == axis.extent * axis.a_stride
                        && o.b_stride == axis.extent * axis.b_stride =>
                {
                    *o = Axis { extent: o.extent * axis.extent, ..axis.clone() };
                }
                _ => out.push(axis.clone()),
            }
        }
        if out.is_empty() {
            out.push(Axis { extent: 1, a_stride: 0, b_stride: 0 });
        }
        out
    }
}

/// A register tile of a contraction with an elementwise epilogue:
///
/// `acc[r][c] = sum over axes of a[a.base + a_rows[r] + sum(i * a_stride)] * b[b.base + c + sum(i * b_stride)]`,
/// `out[out.base + out_rows[r] + c] = epilogue(acc[r][c])` for all rows and `cols` columns ([`Epilogue`]).
///
/// The order of the sum is part of the meaning, so that all engines give the same bits. Products are added to +0 in the order of
/// the axes, up to `block` of them ([`BlockedSum`]); what the first block comes to is the total, and what each later one comes to
/// is added to it. Within a block there are `sets` partial sums, which do not wait for one another: step `i` of the innermost
/// axis, counted from where its block or its loop begins, goes to partial sum `i % sets`; at the end of the block the second is
/// added to the first, then the third, and so on. For example, 6 steps of one block in 2 sets are `(p0 + p2 + p4) + (p1 + p3 + p5)`.
///
/// A step is a multiply-add as [`Inst::Fma`]. Rows of `b` are read for `cols` columns only.
///
/// Where `a` is of u8 and `b` of i8 ([`Products::Bytes`]), a step takes the four elements of `a` from its index on and, for column
/// `c`, the four of `b` from `4 * c` on: `acc[r][c] += a[..][0] * b[.. + 4 * c][0] + .. + a[..][3] * b[.. + 4 * c][3]` in i32, which wraps,
/// so that the order of the sum does not matter. Strides and offsets are in elements as everywhere.
/// Where `a` is mostly zeros, [`nonzeros`](Tile::nonzeros) stand in place of `axes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Columns; contiguous in `b` and `out`.
    pub cols: usize,
    /// Reduction axes, outermost first; the product of extents is at least 1. None where there are `nonzeros`.
    pub axes: Vec<Axis>,
    /// The reduction where most of `a` is zero: `a` has the other weights only, so that all of `a_rows` are 0. Of floats or of [`Products::Quads`], in one set.
    pub nonzeros: Option<Nonzeros>,
    /// The most products that are added one after another; at least 1.
    pub block: i64,
    /// The partial sums of a block: one of [`Tile::SETS`].
    pub sets: usize,
    /// Left operand.
    pub a: Place,
    /// Offset of each row in `a`.
    pub a_rows: Vec<i64>,
    /// Right operand: weights packed in panels, or a row-major matrix.
    pub b: Place,
    /// Result.
    pub out: Place,
    /// Offset of each row in `out`.
    pub out_rows: Vec<i64>,
    /// What happens to the sums.
    pub epilogue: Epilogue,
}

impl Tile {
    /// What [`sets`](Tile::sets) may be.
    pub const SETS: [usize; 3] = [1, 2, 4];

    /// The most partial sums, up to `wanted`, that the innermost axis of a reduction fills.
    pub fn fitting_sets(axes: &[Axis], wanted: usize) -> usize {
        let steps = Axis::joined(axes).last().map_or(1, |a| a.extent);
        Tile::SETS.into_iter().rfind(|s| *s <= wanted && *s as i64 <= steps).unwrap_or(1)
    }

    /// What its steps multiply; `params` are its kernel's. Nothing where no tile multiplies such elements.
    pub fn products(&self, params: &[ParamInfo]) -> Option<Products> {
        let elem = |p: &Place| params.get(p.param.0 as usize).map(|i| i.elem);
        Products::of(elem(&self.a)?, elem(&self.b)?)
    }

    /// How many multiply-adds its sums are of, for one column.
    pub fn products_of_column(&self) -> f64 {
        let dense = || self.axes.iter().map(|a| a.extent as f64).product::<f64>();
        self.nonzeros.as_ref().map_or_else(|| self.out_rows.len() as f64 * dense(), |n| n.products() as f64)
    }

    /// The places that it reads and writes.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        [&self.a, &self.b, &self.out].into_iter().chain(self.others())
    }

    /// The places that are read beside the first operands of its products: those of its epilogue, its second right operand, its masks.
    pub fn others(&self) -> impl Iterator<Item = &Place> {
        self.epilogue
            .operands
            .iter()
            .map(|o| &o.place)
            .chain(self.nonzeros.iter().flat_map(Nonzeros::places))
    }

    /// As [`places`](Tile::places).
    pub fn places_mut(&mut self) -> impl Iterator<Item = &mut Place> {
        let others = self.epilogue.operands.iter_mut().map(|o| &mut o.place);
        let more = self.nonzeros.iter_mut().flat_map(Nonzeros::places_mut);
        [&mut self.a, &mut self.b, &mut self.out].into_iter().chain(others).chain(more)
    }

    /// How the sum is cut; `axes` are the tile's, [joined](Axis::joined). Sums of integers have no order.
    pub fn cut(&self, axes: &[Axis], products: Products) -> Option<BlockedSum> {
        match products {
            Products::Floats if self.nonzeros.is_some() => None,
            Products::Floats => BlockedSum::new(axes.iter().map(|a| a.extent), self.block),
            Products::Bytes | Products::Quads => None,
        }
    }
}

/// A straight-line program on every element of a tile. Its values are scalars, and not those of the kernel: `V(0)` is the sum, of the type
/// of [`Products::sum`]; the values of `operands` follow, then those of `insts`, in order. Engines run it on as many elements at once as
/// they like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epilogue {
    /// Values read beside the sum.
    pub operands: Vec<EpilogueOperand>,
    /// What is computed, [element by element](Inst::is_elementwise); operands of an instruction are earlier values. What is computed
    /// with is 4 bytes wide (f32, i32, bool): u8 and i8 are read, converted and stored only, and f32 is converted to f16 only to be
    /// converted back, which rounds it.
    pub insts: Vec<Inst>,
    /// What is stored.
    pub result: V,
}

/// A buffer that an epilogue reads: for element `[r][c]`, `param[base + rows[r] + c * col_stride]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EpilogueOperand {
    /// The place of row 0, column 0.
    pub place: Place,
    /// Offset of each row.
    pub rows: Vec<i64>,
    /// 1, or 0 for one value per row.
    pub col_stride: i64,
}

/// How a kernel uses a parameter.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Only read.
    Read,
    /// Only written; its content before is undefined.
    Write,
    /// Written and read back, or updated in place.
    ReadWrite,
}

/// A buffer parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParamInfo {
    /// Element type.
    pub elem: Elem,
    /// Elements that may be touched; [`ParamInfo::OPEN`] where that is known only when a run begins.
    pub len: usize,
    /// How.
    pub access: Access,
}

impl ParamInfo {
    /// As many elements as the buffer has.
    pub const OPEN: usize = usize::MAX;
}

/// A kernel: one function of compiled code. It runs its body once for every task in a given range. The tasks of a call are
/// independent of one another, through all of its runs, and may run at the same time: what one of them writes, no other reads or
/// writes, not even equal bytes. The interpreter ([`interp`](crate::interp)) finds a task that does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// What it is, for profiles and symbols: `conv3x3_relu`. An identifier.
    pub name: String,
    /// Buffers.
    pub params: Vec<ParamInfo>,
    /// Types of the values.
    pub types: Vec<Ty>,
    /// Types of the locals.
    pub locals: Vec<Ty>,
    /// Number of tasks, unless its calls say; at least 1.
    pub tasks: i64,
    /// The task index (i64 scalar).
    pub task: V,
    /// The body.
    pub body: Vec<Stmt>,
}

impl Kernel {
    /// Bytes of its widest vector; 0 where it has none. Masks are as wide as what they mask.
    pub fn vector_bytes(&self) -> usize {
        let vectors = self.types.iter().chain(&self.locals).filter(|t| t.lanes > 1 && t.elem != Elem::Bool);
        vectors.map(|t| t.bytes()).max().unwrap_or(0)
    }

    /// Whether it may fail: it holds numbers from data to a range.
    pub fn can_fail(&self) -> bool {
        self.has(|s| matches!(s, Stmt::Check { .. }))
    }

    /// Whether one of its tiles has only weights that are not zero.
    pub fn has_nonzeros(&self) -> bool {
        self.has(|s| matches!(s, Stmt::Tile(t) if t.nonzeros.is_some()))
    }

    /// Whether some statement of it is such a one.
    fn has(&self, is: impl Fn(&Stmt) -> bool) -> bool {
        fn any(stmts: &[Stmt], is: &dyn Fn(&Stmt) -> bool) -> bool {
            stmts.iter().any(|s| match s {
                Stmt::For { body, .. } => any(body, is),
                Stmt::While { head, body, .. } => any(head, is) || any(body, is),
                Stmt::If { then, otherwise, .. } => any(then, is) || any(otherwise, is),
                _ => is(s),
            })
        }
        any(&self.body, &is)
    }
}

/// Where a buffer of a program lives.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// The caller's input at this position.
    Input(usize),
    /// The caller's output at this position.
    Output(usize),
    /// The arena, at this byte offset (a multiple of 64).
    Arena(usize),
    /// The arena, at a byte offset (a multiple of 64) that is known when a run begins.
    ArenaAt(SizeId),
    /// The weights, at this byte offset (a multiple of 64).
    Weights(usize),
    /// The values of the program's sizes, in order, as i64.
    Sizes,
}

/// A buffer of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Element type.
    pub elem: Elem,
    /// Number of elements; of one unit, where it has units.
    pub len: usize,
    /// How many units it has, one behind the other, where that is known when a run begins.
    pub times: Option<SizeId>,
    /// Where it lives. Buffers that are never alive together may overlap in the arena.
    pub storage: Storage,
}

impl Buffer {
    /// A buffer of so many elements.
    pub fn new(elem: Elem, len: usize, storage: Storage) -> Buffer {
        Buffer { elem, len, times: None, storage }
    }
}

/// An argument of a call: a buffer from an element on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The buffer.
    pub buffer: BufferId,
    /// First element.
    pub offset: usize,
}

/// One kernel run of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The kernel.
    pub kernel: KernelId,
    /// One argument per parameter; of a buffer that has units, an element of its first.
    pub args: Vec<Arg>,
    /// Whether it runs for one unit of its buffers after the other.
    pub repeat: Option<Repeat>,
    /// How many tasks its kernel has, where that is known when a run begins.
    pub tasks: Option<SizeId>,
    /// The ONNX nodes (`Conv:/conv1`) whose work it does, sorted.
    pub sources: Vec<String>,
    /// What sizes need to have a value where it runs, and not before: its kernel fails, with the number of the first that has none.
    pub needs: Vec<Need>,
}

/// A size that has to have a value, and the ONNX nodes that need it, where they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The size; it need not be one of the program's, but what it is made of is.
    pub size: Size,
    /// The nodes.
    pub nodes: Vec<String>,
}

impl Call {
    /// A call that runs once.
    pub fn new(kernel: KernelId, args: Vec<Arg>) -> Call {
        Call { kernel, args, repeat: None, tasks: None, sources: vec![], needs: vec![] }
    }
}

/// Calls that run only where a condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// A `Bool` of a buffer.
    pub cond: Arg,
    /// What the condition must be.
    pub holds: bool,
    /// The calls, by index; never empty. Guards are nested or disjoint.
    pub calls: std::ops::Range<usize>,
    /// Whether the condition is looked at again behind the calls, and they run again.
    pub repeats: bool,
}

/// An input or output of a program, as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// ONNX `TensorProto.DataType`.
    pub onnx_dtype: i32,
    /// Dims; of an output whose dims data decides, the most that they can be.
    pub dims: Vec<Extent>,
    /// Dims of an output when the run has ended, where data decides them: made of lengths.
    pub found: Option<Vec<Extent>>,
    /// Bytes of one element.
    pub elem_size: usize,
    /// For an input whose value was bound at compile time: the bytes that it must have.
    pub bound: Option<Vec<u8>>,
}

impl Port {
    /// Its dims, where all are constants.
    pub fn const_dims(&self) -> Option<Vec<i64>> {
        self.dims.iter().map(|d| d.as_const()).collect()
    }
}

/// A dim that data decides, such as how many elements of a tensor are not 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Length {
    /// Its name in the model.
    pub name: String,
    /// The most that it can be; made of symbols alone.
    pub most: Extent,
    /// The call that finds it.
    pub call: usize,
    /// The i64 that the call writes it to. It is not negative and at most `most`.
    pub at: Arg,
}

/// A whole model: what to run, in order, on which buffers.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Program {
    /// The model's name: an identifier, prefix of all symbols.
    pub name: String,
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// Its free dims.
    pub symbols: Vec<Symbol>,
    /// Its dims that data decides.
    pub lengths: Vec<Length>,
    /// What is known when a run begins, or when its lengths are found.
    pub sizes: Vec<Size>,
    /// The ONNX nodes that need a size to have a value, where they are known.
    pub needed: BTreeMap<SizeId, Vec<String>>,
    /// Buffers.
    pub buffers: Vec<Buffer>,
    /// Distinct kernels.
    pub kernels: Vec<Kernel>,
    /// Kernel runs, in order; each sees what the ones before it wrote.
    pub calls: Vec<Call>,
    /// Which of them run only where a condition holds, and which run again.
    pub guards: Vec<Guard>,
    /// Which of them may run at the same time, in order.
    pub branches: Vec<Branches>,
    /// Bytes of the arena; at least [`OutOfRange::BYTES`] where a kernel may fail.
    pub arena_bytes: usize,
    /// Bytes of the arena where they are known only when a run begins: at least `arena_bytes`.
    pub arena_size: Option<SizeId>,
    /// The constants, packed.
    pub weights: Weights,
    /// What has to hold for sizes of other programs, whose numbers are before those of this one's: levels that are in one artifact with it. What
    /// is said there already has the number that it has there. See [`crate::conditions`].
    pub earlier: Vec<String>,
}
