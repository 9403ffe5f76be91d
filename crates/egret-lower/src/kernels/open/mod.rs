//! Kernels with free dims: what is not computed unit by unit ([`units`](crate::plan::units)), such as the scores of every token with
//! every other. Their loops and strides are sizes that a run knows when it begins, given to the kernel as arguments of i64.
//!
//! A kernel is of one node. It works on whole buffers; its tasks are rows of the result, or blocks of them.

pub mod axis;
mod blocks;
pub mod col2im;
pub mod conv;
pub mod deform_conv;
pub mod found;
pub mod gather;
pub mod join;
pub mod map;
pub mod matmul;
pub mod nms;
pub mod norm;
pub mod pad;
pub mod places;
pub mod pool;
pub mod random;
pub mod ranked;
pub mod recurrent;
pub mod reduce;
pub mod resize;
pub mod reversed;
pub mod rotary;
pub mod rows;
pub mod sampled;
pub mod scatter;
pub mod softmax;
mod standing;
mod turn;
pub mod unique;
mod walk;
mod weights;
mod window;

pub use found::{count_found, hold_room};
pub use standing::{Rounds, copy_round, copy_standing, hold_round, standing, tell};

use crate::error::Unsupported;
use crate::geometry::shape::{free_strides as strides, volume};
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, DimOp, Graph, NodeId, Op, TensorType, ValueId};
use egret_loop::{
    Access, Arg, BASE_VECTOR_BYTES, BinOp, Cmp, Elem, Extent, KernelBuilder, Local, Param, ParamInfo,
    SizeOp, Ty, V, number_bits,
};
use std::collections::BTreeMap;

/// Elements of a task that is cut out of more.
const GRAIN: i64 = 4096;

/// Takes every node.
pub fn always(_: &Graph, _: NodeId) -> bool {
    true
}

/// Takes a node that has tensors only.
pub fn of_tensors(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    node.operands.iter().flatten().chain(&node.results).all(|&v| graph.ty(v).as_tensor().is_some())
}

/// Takes a node whose first operand is of f32.
pub fn of_f32(graph: &Graph, n: NodeId) -> bool {
    first(graph, n).is_some_and(|t| t.dtype == DType::F32)
}

/// Takes a node whose first operand is of f32 or f64.
pub fn of_floats(graph: &Graph, n: NodeId) -> bool {
    first(graph, n).is_some_and(|t| matches!(t.dtype, DType::F32 | DType::F64))
}

/// Takes a node whose first operand is not of strings.
pub fn of_numbers(graph: &Graph, n: NodeId) -> bool {
    first(graph, n).is_some_and(|t| t.dtype != DType::String)
}

fn first(graph: &Graph, n: NodeId) -> Option<&TensorType> {
    graph.ty(graph.node(n).operand(0)).as_tensor()
}

/// Whether the result of a node stands in another value, where it is read, or was written.
pub fn stands(ctx: &Ctx, graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    ctx.units.as_ref().is_some_and(|u| {
        let moved = node.op == Op::Transpose && u.written.contains_key(&node.operand(0));
        u.views.contains_key(&node.results[0]) || moved
    })
}

/// The dims of a tensor; none of what is no tensor.
fn shape(graph: &Graph, v: ValueId) -> Vec<Dim> {
    graph.ty(v).as_tensor().map_or(vec![], |t| t.shape.to_vec())
}

/// The dims of a value all of whose elements stand one after the other from now on, if they do not yet: of one that is kept once for all units, or
/// is a part of another value, a copy is made.
pub fn whole_dims(ctx: &mut Ctx<'_>, v: ValueId) -> Result<Vec<Dim>, Unsupported> {
    let units = ctx.units.as_ref().ok_or_else(|| Unsupported::bug("has no free dims"))?;
    let dims = units.dims(v).to_vec();
    let once = units.stored(v) != dims;
    if !ctx.copies.contains_key(&v) && (once || ctx.whole(v).is_err()) {
        map::spread(ctx, v)?;
    }
    Ok(dims)
}

/// A kernel under construction, its arguments, and the sizes that it has read.
pub struct Writer<'c, 'g> {
    pub ctx: &'c mut Ctx<'g>,
    pub k: KernelBuilder,
    pub args: Vec<Arg>,
    known: BTreeMap<Dim, V>,
}

impl<'c, 'g> Writer<'c, 'g> {
    /// One of this name.
    pub fn new(ctx: &'c mut Ctx<'g>, name: &str) -> Writer<'c, 'g> {
        let k = ctx.kernel(name, 1);
        Writer { ctx, k, args: vec![], known: BTreeMap::new() }
    }

    /// All elements of a value.
    pub fn value(&mut self, v: ValueId, access: Access) -> Result<Param, Unsupported> {
        let (elem, arg) = (self.ctx.elem(v)?, self.ctx.whole(v)?);
        self.args.push(arg);
        Ok(self.k.param(elem, ParamInfo::OPEN, access))
    }

    /// A value as it stands: the element that it begins at, and a stride for each of its dims.
    fn laid_out(&mut self, v: ValueId) -> Result<(Param, Dim, Stored), Unsupported> {
        let elem = self.ctx.elem(v)?;
        self.laid_out_as(v, elem)
    }

    /// The same, as other elements of as many bytes.
    fn laid_out_as(&mut self, v: ValueId, elem: Elem) -> Result<(Param, Dim, Stored), Unsupported> {
        let Some(units) = &self.ctx.units else { return Err(Unsupported::bug("has no free dims")) };
        let (dims, mut kept) = (units.dims(v).to_vec(), units.stored(v));
        let view = units.views.get(&v).cloned();
        let copy = self.ctx.copies.get(&v).copied();
        if copy.is_some() {
            kept.clone_from(&dims);
        }
        let (arg, offset, strides) = match (view, copy) {
            (_, Some(copy)) => (copy, Dim::constant(0), strides(&dims)),
            (Some(view), _) => (self.ctx.whole(view.of)?, view.offset, view.strides),
            (None, None) => {
                let (arg, strides) = self.ctx.layout(v)?;
                (arg, Dim::constant(0), strides)
            }
        };
        self.args.push(arg);
        let param = self.k.param(elem, ParamInfo::OPEN, Access::Read);
        Ok((param, offset, Stored { dims, kept, strides }))
    }

    /// A dim, or a product of some, as a value. All are read before the first loop.
    pub fn dim(&mut self, dim: &Dim) -> Result<V, Unsupported> {
        if let Some(&v) = self.known.get(dim) {
            return Ok(v);
        }
        let size = self.ctx.extent(dim)?;
        let v = self.size(size);
        self.known.insert(dim.clone(), v);
        Ok(v)
    }

    /// A size as a value.
    fn size(&mut self, size: Extent) -> V {
        match size {
            Extent::Const(c) => self.k.int(c),
            size => {
                let arg = self.ctx.size(size);
                self.args.push(arg);
                let p = self.k.param(Elem::I64, 1, Access::Read);
                let zero = self.k.int(0);
                self.k.load(p, zero)
            }
        }
    }

    fn dims(&mut self, dims: &[Dim]) -> Result<Vec<V>, Unsupported> {
        dims.iter().map(|d| self.dim(d)).collect()
    }

    /// The strides of a value along the axes of `to`, aligned at the last; 0 where it is repeated. Where only a run knows whether it is,
    /// the stride is made of how many elements there are, and runs are held to one of the two.
    fn aligned(&mut self, from: &Stored, to: &[Dim]) -> Result<Vec<Dim>, Unsupported> {
        let skip = to.len() - from.dims.len();
        let mut strides = vec![Dim::constant(0); skip];
        for (i, to) in to[skip..].iter().enumerate() {
            let (dim, kept) = (&from.dims[i], &from.kept[i]);
            if dim != to && dim.as_const() != Some(1) {
                if dim.as_const().is_some() && to.as_const().is_some() {
                    return Err(Unsupported::new(format!("reads {dim} elements along a dim of {to}")));
                }
                self.ctx.hold_broadcast(dim, to)?;
            }
            strides.push(match kept.as_const() {
                Some(1) => Dim::constant(0),
                _ if kept == to => from.strides[i].clone(),
                _ if kept == dim => from.strides[i].clone() * if_many(dim),
                _ => return Err(Unsupported::new(format!("repeats {kept} elements along a dim of {to}"))),
            });
        }
        Ok(strides)
    }

    /// Adds the call, of as many tasks as these dims make; none where a row, of `inner` elements, has none.
    pub fn finish(self, rows: &[Dim], inner: &Dim) -> Result<(), Unsupported> {
        let rows = self.ctx.extent(&volume(rows))?;
        self.finish_tasks(rows, inner)
    }

    /// The same for so many tasks.
    fn finish_tasks(self, tasks: Extent, inner: &Dim) -> Result<(), Unsupported> {
        let inner = self.ctx.extent(inner)?;
        let tasks = self.ctx.rows_of_some(tasks, inner)?;
        let mut kernel = self.k.finish();
        kernel.tasks = tasks.as_const().unwrap_or(1).max(1);
        if tasks == Extent::Const(0) {
            return Ok(());
        }
        self.ctx.call_whole(kernel, &self.args, tasks)
    }
}

/// How the axes of a value are stored.
#[derive(Clone)]
struct Stored {
    dims: Vec<Dim>,
    /// Of what is the same in every unit the dims of what is kept.
    kept: Vec<Dim>,
    strides: Vec<Dim>,
}

impl Stored {
    /// Some of the first axes.
    fn first(&self, axes: usize) -> Stored {
        let of = |list: &[Dim]| list[..axes].to_vec();
        Stored { dims: of(&self.dims), kept: of(&self.kept), strides: of(&self.strides) }
    }
}

/// 1 for a dim of at least 2, and else 0.
fn if_many(dim: &Dim) -> Dim {
    dim.op(DimOp::FloorDiv, &Dim::constant(2)).op(DimOp::Min, &Dim::constant(1))
}

/// The indices of a task along axes of these extents, the last one fastest.
fn indices(k: &mut KernelBuilder, extents: &[V]) -> Vec<V> {
    let task = k.task();
    indices_of(k, task, extents)
}

/// The indices of an element along axes of these extents, the last one fastest.
fn indices_of(k: &mut KernelBuilder, element: V, extents: &[V]) -> Vec<V> {
    let mut rest = element;
    let mut out = vec![rest; extents.len()];
    for (axis, &extent) in extents.iter().enumerate().rev() {
        if axis == 0 {
            out[0] = rest;
            break;
        }
        let quotient = k.div(rest, extent);
        let back = k.mul(quotient, extent);
        out[axis] = k.sub(rest, back);
        rest = quotient;
    }
    out
}

/// In how many parts of at least `of` elements an axis is cut, if it has so many.
fn parts(ctx: &mut Ctx, extent: Extent, of: Extent) -> Result<Extent, Unsupported> {
    let whole = ctx.size_op(SizeOp::FloorDiv, extent, of)?;
    ctx.size_op(SizeOp::Max, whole, Extent::Const(1))
}

/// Begin and end of a part; the last one has all that is left.
fn span(k: &mut KernelBuilder, part: V, parts: V, of: V, extent: V) -> [V; 2] {
    let begin = k.mul(part, of);
    let (end, next) = (k.add(begin, of), k.affine(&[(part, 1)], 1));
    let last = k.compare(Cmp::Ge, next, parts);
    [begin, k.select(last, extent, end)]
}

/// `from + sum(index * stride)`
fn place(k: &mut KernelBuilder, from: V, indices: &[V], strides: &[V]) -> V {
    indices.iter().zip(strides).fold(from, |at, (&i, &stride)| {
        let further = k.mul(i, stride);
        k.add(at, further)
    })
}

/// Loops over `0..extent`: vectors of so many lanes, then single elements. The body gets the first index and the lanes.
fn along(k: &mut KernelBuilder, extent: V, lanes: &[u8], body: &mut dyn FnMut(&mut KernelBuilder, V, u8)) {
    let mut begin = k.int(0);
    for &lanes in lanes.iter().chain([&1]) {
        let left = k.sub(extent, begin);
        let left = rest(k, left, i64::from(lanes));
        let end = k.sub(extent, left);
        k.for_values(begin, end, i64::from(lanes), |k, i| body(k, i, lanes));
        begin = end;
    }
}

/// What is left of a number of elements behind as many as are a multiple of a power of two.
fn rest(k: &mut KernelBuilder, count: V, of: i64) -> V {
    debug_assert!(of > 0 && (of & (of - 1)) == 0, "{of} is no power of two");
    if of == 1 {
        return k.int(0);
    }
    let below = k.int(of - 1);
    k.and(count, below)
}

/// A vector's lanes, or a scalar, of a constant.
fn constant(k: &mut KernelBuilder, elem: Elem, lanes: u8, bits: u64) -> V {
    k.const_bits(Ty { elem, lanes }, bits)
}

/// Lanes of full vectors of floats, and of those of the base.
fn float_lanes(k: &KernelBuilder, elem: Elem) -> Vec<u8> {
    let (widest, base) = (k.vector(elem).lanes, (BASE_VECTOR_BYTES / elem.size()) as u8);
    if widest > base { vec![widest, base] } else { vec![base] }
}

/// Partial results of a row that is gone through in vectors and then single elements ([`along`]): one for each number of lanes.
struct Partials {
    op: BinOp,
    of: Vec<(u8, Local)>,
}

impl Partials {
    fn new(k: &mut KernelBuilder, elem: Elem, lanes: &[u8], op: BinOp, start: f64) -> Partials {
        Partials::from_bits(k, elem, lanes, op, number_bits(elem, start))
    }

    /// The same, of elements that all begin as these bits.
    fn from_bits(k: &mut KernelBuilder, elem: Elem, lanes: &[u8], op: BinOp, start: u64) -> Partials {
        let mut of = vec![];
        for lanes in lanes.iter().copied().chain([1]) {
            let start = k.const_bits(Ty { elem, lanes }, start);
            of.push((lanes, k.local(start)));
        }
        Partials { op, of }
    }

    /// Takes in a vector of so many lanes.
    fn take(&self, k: &mut KernelBuilder, v: V) {
        let lanes = k.ty(v).lanes;
        for &(_, local) in self.of.iter().filter(|(n, _)| *n == lanes) {
            let old = k.get(local);
            let new = k.binary(self.op, old, v);
            k.set(local, new);
        }
    }

    /// What all come to.
    fn result(&self, k: &mut KernelBuilder) -> V {
        let parts: Vec<V> = self.of.iter().map(|&(_, local)| k.get(local)).collect();
        folded(k, self.op, &parts)
    }
}

/// What partial results come to.
fn folded(k: &mut KernelBuilder, op: BinOp, parts: &[V]) -> V {
    let mut all: Vec<V> = parts.iter().map(|&v| k.fold(op, v)).collect();
    let first = all.remove(0);
    all.into_iter().fold(first, |a, b| k.binary(op, a, b))
}
