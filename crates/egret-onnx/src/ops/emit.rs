//! Short forms for the primitives that many operators are made of.

use crate::context::NodeCtx;
use crate::error::ImportError;
use egret_ir::{Attr, Attrs, DType, Dim, DimOp, Op, Tensor, ValueId, attrs};

type Emitted = Result<ValueId, ImportError>;

/// A constant dim.
pub(crate) fn dim(value: i64) -> Dim {
    Dim::constant(value)
}

/// The product of dims.
pub(crate) fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(dim(1), |a, d| a * d.clone())
}

/// 0 where a dim is at least `least`; where it is less it has no value, so that no run accepts it. Nothing where it is known never to be.
pub(crate) fn held(d: &Dim, least: i64) -> Option<Dim> {
    let above = (d.clone() - dim(least.saturating_sub(1))).op(DimOp::Max, &dim(0));
    // 0 over 0 has none.
    let is = above.op(DimOp::FloorDiv, &above) - dim(1);
    (is.as_const() != Some(0)).then_some(is)
}

/// 0 where a dim, which is not negative, has a value, and no value where it has none.
fn has_value(d: &Dim) -> Dim {
    d.op(DimOp::FloorDiv, &(d.clone() + dim(1)))
}

/// The tensor whose elements are all `0` (empty for strings) of a dtype, as a constant scalar.
pub(crate) fn zero_tensor(dtype: DType) -> Tensor {
    if dtype == DType::String {
        Tensor::from_strings(&[], vec![String::new()])
    } else {
        Tensor::from_bytes(dtype, &[], &vec![0; dtype.size()])
    }
}

/// A dim that must be constant.
pub(crate) fn const_dim(ctx: &NodeCtx, d: &Dim) -> Result<i64, ImportError> {
    d.as_const()
        .ok_or_else(|| ImportError::open(format!("{} needs the dim {d} as a constant", ctx.op_type), d))
}

impl NodeCtx<'_> {
    /// The dims of a tensor.
    pub(crate) fn shape_of(&self, x: ValueId) -> Result<Vec<Dim>, ImportError> {
        Ok(self.tensor(x)?.shape)
    }

    /// The INTS attribute `name`, or `count` times `default`; another length is an error.
    pub(crate) fn ints_or(
        &mut self,
        name: &str,
        count: usize,
        default: i64,
    ) -> Result<Vec<i64>, ImportError> {
        match self.opt_ints(name)? {
            None => Ok(vec![default; count]),
            Some(v) if v.len() == count => Ok(v),
            Some(v) => Err(ImportError::invalid(format!(
                "attribute `{name}` of {} has {} entries instead of {count}",
                self.op_type,
                v.len()
            ))),
        }
    }

    /// A flag attribute: 0 or anything else.
    pub(crate) fn flag(&mut self, name: &str, default: bool) -> Result<bool, ImportError> {
        Ok(self.int(name, default.into())? != 0)
    }

    /// The attribute `name` with the code of an element type.
    pub(crate) fn opt_dtype(&mut self, name: &str) -> Result<Option<DType>, ImportError> {
        let Some(code) = self.opt_int(name)? else { return Ok(None) };
        let code = i32::try_from(code).unwrap_or(-1);
        crate::data::dtype(code).map(Some)
    }

    /// The integer in a tensor of one element that must be known.
    pub(crate) fn need_int(&self, value: ValueId, what: &str) -> Result<i64, ImportError> {
        match self.need_ints(value, what)?.as_slice() {
            [v] => Ok(*v),
            _ => Err(ImportError::invalid(format!("{what} of {} must have one element", self.op_type))),
        }
    }

    /// The numbers of a float tensor that must be known.
    pub(crate) fn need_floats(&mut self, value: ValueId, what: &str) -> Result<Vec<f64>, ImportError> {
        let wide = self.cast(value, DType::F64)?;
        match self.as_const(wide) {
            Some(t) => Ok(t.data::<f64>().to_vec()),
            None => Err(self.needs_value(value, what)),
        }
    }

    /// As [`Lengths::only_at_run_time`](crate::context::Lengths::only_at_run_time).
    pub(crate) fn only_at_run_time(&self, value: ValueId) -> bool {
        self.lengths.only_at_run_time(self.builder, value)
    }

    /// Axes that must be known, non-negative.
    pub(crate) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, ImportError> {
        axes.iter().map(|&a| self.axis(a, rank)).collect()
    }

    /// A constant 0, 1, .. along `axis` of a shape whose other dims are 1, so that it broadcasts.
    pub(crate) fn iota_along(&mut self, dtype: DType, size: Dim, axis: usize, rank: usize) -> Emitted {
        let mut shape = vec![dim(1); rank];
        shape[axis] = size;
        self.emit(Op::Iota, attrs! { to: dtype, shape: shape, axis: axis as i64 }, &[])
    }

    /// A scalar zero (false, the empty string) of a dtype.
    pub(crate) fn zero(&mut self, dtype: DType) -> ValueId {
        self.builder.constant(zero_tensor(dtype))
    }

    /// x repeated up to exactly a shape.
    pub(crate) fn broadcast(&mut self, x: ValueId, shape: Vec<Dim>) -> Emitted {
        if self.shape_of(x)? == shape {
            return Ok(x);
        }
        self.emit(Op::Broadcast, attrs! { shape: shape }, &[x])
    }

    /// x, which is there only where all of these dims have values: all of it from element 0 on, a number made of them.
    pub(crate) fn fitting(&mut self, x: ValueId, dims: &[Dim]) -> Emitted {
        let open = dims.iter().map(has_value).filter(|d| d.as_const() != Some(0));
        let Some(start) = open.reduce(|a, b| a + b) else { return Ok(x) };
        let sizes = self.shape_of(x)?;
        let steps = vec![1i64; sizes.len()];
        let mut starts = vec![dim(0); sizes.len()];
        if let Some(first) = starts.first_mut() {
            *first = start;
        }
        self.emit(Op::Slice, attrs! { starts: starts, sizes: sizes, steps: steps }, &[x])
    }

    /// `a` where `cond` holds, else `b`.
    pub(crate) fn select(&mut self, cond: ValueId, a: ValueId, b: ValueId) -> Emitted {
        self.emit(Op::Where, Attrs::default(), &[cond, a, b])
    }

    /// `size` slices of x from `start` along an axis.
    pub(crate) fn narrow(&mut self, x: ValueId, axis: usize, start: Dim, size: Dim) -> Emitted {
        let sizes = self.shape_of(x)?;
        if axis >= sizes.len() {
            return Err(ImportError::invalid(format!(
                "{} needs an axis {axis}, but a rank is {}",
                self.op_type,
                sizes.len()
            )));
        }
        if start.as_const() == Some(0) && sizes[axis] == size {
            return Ok(x);
        }
        let (mut starts, mut sizes) = (vec![dim(0); sizes.len()], sizes);
        let steps = vec![1i64; starts.len()];
        starts[axis] = start;
        sizes[axis] = size;
        self.emit(Op::Slice, attrs! { starts: starts, sizes: sizes, steps: steps }, &[x])
    }

    /// The slice at a constant index of an axis, which goes away.
    pub(crate) fn pick(&mut self, x: ValueId, axis: usize, index: i64) -> Emitted {
        let one = self.narrow(x, axis, dim(index), dim(1))?;
        self.squeeze(one, &[axis])
    }

    /// x without axes of size 1.
    pub(crate) fn squeeze(&mut self, x: ValueId, axes: &[usize]) -> Emitted {
        let shape = self
            .shape_of(x)?
            .into_iter()
            .enumerate()
            .filter(|(i, _)| !axes.contains(i))
            .map(|(_, d)| d)
            .collect();
        self.reshape(x, shape)
    }

    /// x with a new axis of size 1 at a place of the result.
    pub(crate) fn unsqueeze(&mut self, x: ValueId, at: usize) -> Emitted {
        let mut shape = self.shape_of(x)?;
        shape.insert(at.min(shape.len()), dim(1));
        self.reshape(x, shape)
    }

    /// x, which has one element, as a scalar.
    pub(crate) fn single(&mut self, x: ValueId) -> Emitted {
        if self.rank(x)? == 0 { Ok(x) } else { self.reshape(x, vec![]) }
    }

    /// The operands one after another along an axis; a single one is itself.
    pub(crate) fn concat(&mut self, xs: &[ValueId], axis: usize) -> Emitted {
        match xs {
            [x] => Ok(*x),
            _ => self.emit(Op::Concat, attrs! { axis: axis as i64 }, xs),
        }
    }

    /// x with elements added around it; `mode` as in the primitive `pad`.
    pub(crate) fn pad(
        &mut self,
        x: ValueId,
        low: Vec<Dim>,
        high: Vec<Dim>,
        mode: &str,
        value: Option<ValueId>,
    ) -> Emitted {
        let value = match (mode, value) {
            ("constant", None) => {
                let dtype = self.dtype(x)?;
                Some(self.zero(dtype))
            }
            ("constant", v) => v,
            _ => None,
        };
        let node = self.emit_node(
            Op::Pad,
            attrs! { low: low, high: high, mode: mode },
            &[Some(x), value],
            vec![],
        )?;
        Ok(node[0])
    }

    /// The last two axes swapped.
    pub(crate) fn swap_last(&mut self, x: ValueId) -> Emitted {
        let rank = self.rank(x)?;
        if rank < 2 {
            return Err(ImportError::invalid(format!("{} needs a matrix here", self.op_type)));
        }
        let mut perm: Vec<i64> = (0..rank as i64).collect();
        perm.swap(rank - 1, rank - 2);
        self.transpose(x, perm)
    }

    /// The softmax of x along an axis.
    pub(crate) fn softmax(&mut self, x: ValueId, axis: usize) -> Emitted {
        self.emit(Op::Softmax, attrs! { axis: axis as i64 }, &[x])
    }

    /// x combined with a constant by a two-operand primitive.
    pub(crate) fn with_scalar(&mut self, op: Op, x: ValueId, value: f64) -> Emitted {
        let dtype = self.dtype(x)?;
        let c = self.scalar(dtype, value)?;
        self.binary(op, x, c)
    }

    /// The dims as a vector of i64: constants where they are known, read off `x` where they are symbolic.
    pub(crate) fn dims_value(&mut self, x: ValueId) -> Emitted {
        self.emit(Op::Shape, attrs! {}, &[x])
    }

    /// A refusal of a value of an attribute.
    pub(crate) fn bad_attr(&self, name: &str, value: impl std::fmt::Display) -> ImportError {
        ImportError::invalid(format!(
            "attribute `{name}` of {} has the value {value}, which ONNX does not define",
            self.op_type
        ))
    }

    /// The number of elements, an i64 scalar: a constant where the dims are.
    pub(crate) fn element_count(&mut self, x: ValueId) -> Emitted {
        if let Some(count) = product(&self.shape_of(x)?).as_const() {
            return Ok(self.builder.constant(Tensor::scalar(count)));
        }
        let dims = self.dims_value(x)?;
        self.reduce("prod", dims, vec![0], false)
    }

    /// x under dims that an iterator gives.
    pub(crate) fn reshape_to(&mut self, x: ValueId, shape: impl IntoIterator<Item = Dim>) -> Emitted {
        self.emit(Op::Reshape, attrs! { shape: Attr::Dims(shape.into_iter().collect()) }, &[x])
    }
}
