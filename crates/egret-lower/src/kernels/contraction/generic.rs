//! Contractions of any dtype and layout: what register tiles do not multiply. Where the elements of a result's row have their own columns of
//! the right operand they are summed in the lanes of vectors, else one at a time; each sum is in the same order either way.

use super::target::copy;
use crate::error::Unsupported;
use crate::expr::{decode, encode};
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::dtypes::{buffer_elem, compute_elem};
use crate::geometry::shape::strides;
use crate::kernels::elementwise;
use crate::lanes;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::families::Contraction;
use egret_ir::{DType, Member, NodeId, Tensor, ValueId};
use egret_loop::{Access, Arg, Cmp, Elem, KernelBuilder, Local, Param, Ty, V};

/// The index along an axis of `a`: `(sum(index * factor) + offset) / step`; where that is outside or no
/// whole number, the summand is nothing.
#[derive(Clone, Debug)]
struct Bound {
    terms: Vec<(usize, i64)>,
    offset: i64,
    step: i64,
    /// Extent and stride of the axis.
    extent: i64,
    stride: i64,
}

/// Does something with the place of an element of `a`.
type AtPlace<'a> = &'a mut dyn FnMut(&mut KernelBuilder, V) -> Result<(), Unsupported>;

/// Vectors of sums that are worked on at once.
const SLOTS: usize = 4;

/// Neighbours in a row of the result that are summed at once.
#[derive(Copy, Clone, Debug)]
struct Strip {
    /// Of each vector; 1 for a single element.
    lanes: u8,
    /// Vectors.
    slots: usize,
}

/// A sum of products over plain loops. Indices are numbered: first the result's axes, then the reduction's.
struct Sum {
    /// Dims of the result.
    dims: Vec<i64>,
    /// Extents of the reduction.
    reduction: Vec<i64>,
    /// Element of each operand: `sum(index * stride)`, index by number.
    a: Vec<(usize, i64)>,
    b: Vec<(usize, i64)>,
    /// Further parts of `a`'s element that have bounds.
    bounds: Vec<Bound>,
    /// Whether `a` is 0 outside of its bounds rather than nothing: 0 times a weight that is not finite is NaN.
    zeros: bool,
    /// Index of the group along the result's channel axis, where there are several: axis, channels of a
    /// group, strides in a and b of a group.
    group: Option<(usize, i64, i64, i64)>,
}

/// Lower any contraction.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup, anchor: NodeId) -> Result<(), Unsupported> {
    let node = ctx.graph.node(anchor);
    let (x, w, result) = (node.operand(0), node.operand(1), node.results[0]);
    let dtype = ctx.dtype(result);
    let Member::Contraction(op) = node.op.member() else {
        return Err(Unsupported::new(format!("`{}` is no contraction", node.op)));
    };
    let mut sum = match op {
        Contraction::Matmul => matmul(&ctx.dims(x), &ctx.dims(w), &ctx.dims(result)),
        Contraction::Conv => conv(&ConvShape::new(ctx.graph, anchor), &ctx.dims(result), false),
        Contraction::ConvTranspose => conv(&ConvShape::new(ctx.graph, anchor), &ctx.dims(result), true),
    };
    let dtypes = (ctx.dtype(x), ctx.dtype(w), dtype);
    let vector = sum.vector(dtypes, ctx.options.machine.kernel_bytes);
    let (a, b) = match vector {
        Some(_) => (ctx.place(x)?, sum.columns(ctx, w)?),
        None => (ctx.place(x)?, ctx.place(w)?),
    };
    let direct = group.expr.is_anchor();
    let out = if direct {
        ctx.place(group.result)?
    } else {
        ctx.scratch(buffer_elem(dtypes.2)?, &ctx.dims(result))?
    };
    let lens = (ctx.len(x), ctx.len(w), ctx.len(result));
    let kernel = sum.kernel(node.op.name(), dtypes, lens, vector, ctx.options.machine.kernel_bytes)?;
    ctx.call(kernel, &[a, b, out])?;
    if direct { Ok(()) } else { elementwise::epilogue(ctx, group, out) }
}

fn matmul(a: &[i64], b: &[i64], out: &[i64]) -> Sum {
    let batch = out.len() - 2;
    let along = |dims: &[i64]| -> Vec<(usize, i64)> {
        let own = strides(dims);
        let skip = batch + 2 - dims.len();
        (skip..batch).filter(|i| dims[i - skip] != 1).map(|i| (i, own[i - skip])).collect()
    };
    let (k, n) = (a[a.len() - 1], b[b.len() - 1]);
    let mut left = along(a);
    left.extend([(batch, k), (batch + 2, 1)]);
    let mut right = along(b);
    right.extend([(batch + 1, 1), (batch + 2, n)]);
    Sum {
        dims: out.to_vec(),
        reduction: vec![k],
        a: left,
        b: right,
        bounds: vec![],
        zeros: false,
        group: None,
    }
}

fn conv(s: &ConvShape, out: &[i64], transposed: bool) -> Sum {
    let rank = s.rank();
    let (per_in, per_out) = (s.channels.0 / s.groups, s.channels.1 / s.groups);
    let (channel, spatial) = if s.channels_last { (rank + 1, 1) } else { (1, 2) };
    let x = if s.channels_last {
        strides(&[&[s.n], s.input.as_slice(), &[s.channels.0]].concat())
    } else {
        strides(&[&[s.n, s.channels.0], s.input.as_slice()].concat())
    };
    let kernel = strides(&s.kernel);
    let taps = s.taps();
    // Reduction: input channels of the group, then taps.
    let first = rank + 2;
    let mut a = vec![(0, x[0])];
    a.push((first, x[channel]));
    // w is [O, I/g, k..], transposed [I, O/g, k..].
    let mut b = if transposed {
        vec![(channel, taps), (first, per_out * taps)]
    } else {
        vec![(channel, per_in * taps), (first, taps)]
    };
    let mut bounds = vec![];
    for i in 0..rank {
        b.push((first + 1 + i, kernel[i]));
        let (o, k) = (spatial + i, first + 1 + i);
        let (stride, extent) = (x[spatial + i], s.input[i]);
        bounds.push(if transposed {
            Bound {
                terms: vec![(o, 1), (k, -s.dilations[i])],
                offset: s.low[i],
                step: s.strides[i],
                extent,
                stride,
            }
        } else {
            Bound {
                terms: vec![(o, s.strides[i]), (k, s.dilations[i])],
                offset: -s.low[i],
                step: 1,
                extent,
                stride,
            }
        });
    }
    let reduction = [&[per_in], s.kernel.as_slice()].concat();
    // A group's weights follow by its output channel already, except where w's first axis are input
    // channels.
    let of_b = if transposed { per_in * per_out * taps - per_out * taps } else { 0 };
    let group = (s.groups > 1).then_some((channel, per_out, per_in * x[channel], of_b));
    Sum { dims: out.to_vec(), reduction, a, b, bounds, zeros: !transposed, group }
}

impl Sum {
    fn kernel(
        &self,
        name: &str,
        dtypes: (DType, DType, DType),
        lens: (usize, usize, usize),
        vector: Option<Ty>,
        vector_bytes: usize,
    ) -> Result<egret_loop::Kernel, Unsupported> {
        let (last, outer) =
            self.dims.split_last().ok_or_else(|| Unsupported::new("has a result without axes"))?;
        let mut k = KernelBuilder::new(name, outer.iter().product()).with_vector_bytes(vector_bytes);
        let a = k.param(buffer_elem(dtypes.0)?, lens.0, Access::Read);
        let b = k.param(buffer_elem(dtypes.1)?, lens.1, Access::Read);
        let out = k.param(buffer_elem(dtypes.2)?, lens.2, Access::Write);
        let mut left = k.task();
        let mut indices = vec![left; outer.len()];
        for (i, &n) in outer.iter().enumerate().rev() {
            if i > 0 {
                let n = k.int(n);
                indices[i] = k.rem(left, n);
                left = k.div(left, n);
            } else {
                indices[i] = left;
            }
        }
        let task = k.task();
        let elem = compute_elem(dtypes.2)?;
        let mut strips = vec![];
        for (lanes, some) in vector.map_or_else(|| vec![(1, *last)], |ty| lanes::runs(*last, ty)) {
            let at_once = if lanes > 1 { i64::from(lanes) * SLOTS as i64 } else { i64::MAX };
            strips.push((Strip { lanes, slots: SLOTS }, some - some % at_once));
            strips.push((Strip { lanes, slots: 1 }, some % at_once));
        }
        let (mut begin, mut result) = (0, Ok(()));
        for (strip, some) in strips {
            let step = i64::from(strip.lanes) * strip.slots as i64;
            k.for_range(begin, begin + some, step, |k, i| {
                let mut indices = indices.clone();
                indices.push(i);
                let zero = k.number(Ty { elem, lanes: strip.lanes }, 0.0);
                let sums = (0..strip.slots).map(|_| k.local(zero)).collect();
                let product = Product { a: (a, dtypes.0), b: (b, dtypes.1), elem, strip, sums };
                if let Err(e) = self.reduce(k, &mut indices, &product) {
                    result = Err(e);
                }
                for (slot, &sum) in product.sums.iter().enumerate() {
                    let sum = k.get(sum);
                    match encode(k, dtypes.2, sum) {
                        Ok(v) => {
                            let at = k.affine(&[(task, *last), (i, 1)], strip.first(slot));
                            k.store(out, at, v);
                        }
                        Err(e) => result = Err(e),
                    }
                }
            });
            begin += some;
        }
        result?;
        Ok(k.finish())
    }

    /// How many elements further neighbours in a row of the result read each operand; nothing where it depends on where they are.
    fn steps(&self) -> Option<(i64, i64)> {
        let last = self.dims.len() - 1;
        let bounded = self.bounds.iter().any(|b| b.terms.iter().any(|(i, _)| *i == last));
        let grouped = self.group.is_some_and(|g| g.0 == last);
        let of = |terms: &[(usize, i64)]| terms.iter().filter(|(i, _)| *i == last).map(|(_, s)| s).sum();
        (!bounded && !grouped).then(|| (of(&self.a), of(&self.b)))
    }

    /// The widest vector for a row of the result, if it is summed in lanes.
    fn vector(&self, dtypes: (DType, DType, DType), bytes: usize) -> Option<Ty> {
        let elem = compute_elem(dtypes.2).ok()?;
        let has_lanes =
            |d: DType| matches!(d, DType::F32 | DType::F64 | DType::I32 | DType::I8 | DType::U8);
        let fits = matches!(elem, Elem::F32 | Elem::F64 | Elem::I32)
            && [dtypes.0, dtypes.1, dtypes.2].into_iter().all(has_lanes);
        let ty = Ty::vector_of(elem, bytes);
        let (last, steps) = (*self.dims.last()?, self.steps()?);
        (fits && steps.0 == 0 && steps.1 != 0 && last >= Ty::vector(elem).lanes.into()).then_some(ty)
    }

    /// The right operand so that neighbours in a row of the result read neighbours: as `[reduction.., columns]` where it is not so already.
    fn columns(&mut self, ctx: &mut Ctx, w: ValueId) -> Result<Arg, Unsupported> {
        let last = self.dims.len() - 1;
        let stride = |i: usize, b: &[(usize, i64)]| b.iter().filter(|t| t.0 == i).map(|t| t.1).sum::<i64>();
        // Matrices that differ from batch to batch are rows of columns.
        if stride(last, &self.b) == 1 {
            return ctx.place(w);
        }
        let mut dims = self.reduction.clone();
        let mut from: Vec<i64> = (0..dims.len()).map(|i| stride(last + 1 + i, &self.b)).collect();
        from.push(stride(last, &self.b));
        dims.push(self.dims[last]);
        let own = strides(&dims);
        self.b = (0..dims.len() - 1).map(|i| (last + 1 + i, own[i])).collect();
        self.b.push((last, 1));
        if ctx.graph.as_const(w).is_some() {
            let (elem, key) = (ctx.elem(w)?, format!("columns {dims:?} {from:?}"));
            return ctx.packed(w, &key, elem, |t| rearranged(t, &dims, &from));
        }
        let (to, at) = (ctx.scratch(ctx.elem(w)?, &dims)?, ctx.place(w)?);
        let out = Destination::dense(to, &dims);
        copy(ctx, dims, w, at, StridedAccess { offset: 0, strides: from }, &out)?;
        Ok(to)
    }

    /// The loops over the reduction.
    fn reduce(
        &self,
        k: &mut KernelBuilder,
        indices: &mut Vec<V>,
        product: &Product,
    ) -> Result<(), Unsupported> {
        let depth = indices.len() - self.dims.len();
        if let Some(&extent) = self.reduction.get(depth) {
            let mut result = Ok(());
            k.for_n(extent, |k, i| {
                indices.push(i);
                result = self.reduce(k, indices, product);
                indices.pop();
            });
            return result;
        }
        let mut a: Vec<(V, i64)> = self.a.iter().map(|&(i, s)| (indices[i], s)).collect();
        let mut b: Vec<(V, i64)> = self.b.iter().map(|&(i, s)| (indices[i], s)).collect();
        if let Some((axis, channels, of_a, of_b)) = self.group {
            let n = k.int(channels);
            let group = k.div(indices[axis], n);
            a.push((group, of_a));
            b.push((group, of_b));
        }
        let b = k.affine(&b, 0);
        if !self.zeros || !product.elem.is_float() {
            return self.bounded(k, indices, 0, a, &mut |k, a| {
                let x = product.load(k, product.a, a, 1)?;
                product.add(k, x, b)
            });
        }
        // One element of `a` meets all columns of a strip.
        let zero = k.number(Ty::scalar(product.elem), 0.0);
        let x = k.local(zero);
        self.bounded(k, indices, 0, a, &mut |k, a| {
            let v = product.load(k, product.a, a, 1)?;
            k.set(x, v);
            Ok(())
        })?;
        let x = k.get(x);
        product.add(k, x, b)
    }

    /// `body` where the indices from axis `i` on are within their bounds.
    fn bounded(
        &self,
        k: &mut KernelBuilder,
        indices: &[V],
        i: usize,
        a: Vec<(V, i64)>,
        body: AtPlace,
    ) -> Result<(), Unsupported> {
        let Some(Bound { terms, offset, step, extent, stride }) = self.bounds.get(i) else {
            let at = k.affine(&a, 0);
            return body(k, at);
        };
        let terms: Vec<(V, i64)> = terms.iter().map(|&(i, c)| (indices[i], c)).collect();
        let at = k.affine(&terms, *offset);
        let zero = k.int(0);
        let end = k.int(extent * step);
        let above = k.compare(Cmp::Ge, at, zero);
        let below = k.compare(Cmp::Lt, at, end);
        let mut inside = k.and(above, below);
        let mut index = at;
        if *step != 1 {
            let n = k.int(*step);
            let rest = k.rem(at, n);
            let exact = k.compare(Cmp::Eq, rest, zero);
            inside = k.and(inside, exact);
            index = k.div(at, n);
        }
        let mut result = Ok(());
        k.if_(
            inside,
            |k| {
                let mut a = a.clone();
                a.push((index, *stride));
                result = self.bounded(k, indices, i + 1, a, body);
            },
            |_| {},
        );
        result
    }
}

/// The bytes of a tensor's elements in another order: by strides of these dims.
fn rearranged(t: &Tensor, dims: &[i64], strides: &[i64]) -> Vec<u8> {
    let (size, bytes) = (t.dtype().size(), t.bytes());
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = vec![0i64; dims.len()];
    for _ in 0..dims.iter().product::<i64>() {
        let at = index.iter().zip(strides).map(|(i, s)| i * s).sum::<i64>() as usize * size;
        out.extend_from_slice(&bytes[at..at + size]);
        for (i, n) in index.iter_mut().zip(dims).rev() {
            *i += 1;
            if *i < *n {
                break;
            }
            *i = 0;
        }
    }
    out
}

impl Strip {
    /// The first element of a vector.
    fn first(self, slot: usize) -> i64 {
        slot as i64 * i64::from(self.lanes)
    }
}

/// The operands of a sum of products, and where it is gathered.
struct Product {
    a: (Param, DType),
    b: (Param, DType),
    elem: Elem,
    strip: Strip,
    /// One for each vector of the strip.
    sums: Vec<Local>,
}

impl Product {
    /// An element, or a vector of them, as it is computed with.
    fn load(
        &self,
        k: &mut KernelBuilder,
        from: (Param, DType),
        at: V,
        lanes: u8,
    ) -> Result<V, Unsupported> {
        let v = k.load_lanes(from.0, at, lanes);
        let v = decode(k, from.1, v)?;
        Ok(k.convert(self.elem, v))
    }

    /// Adds an element of `a` times those of `b` from a place on.
    fn add(&self, k: &mut KernelBuilder, x: V, b: V) -> Result<(), Unsupported> {
        let lanes = self.strip.lanes;
        let x = k.splat(x, lanes);
        for (slot, &sum) in self.sums.iter().enumerate() {
            let at = k.affine(&[(b, 1)], self.strip.first(slot));
            let y = self.load(k, self.b, at, lanes)?;
            let old = k.get(sum);
            let new = if self.elem.is_float() {
                k.fma(x, y, old)
            } else {
                let product = k.mul(x, y);
                k.add(product, old)
            };
            k.set(sum, new);
        }
        Ok(())
    }
}
