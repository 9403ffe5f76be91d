//! Short spellings for the nodes that rules are made of.

use crate::error::GradError;
use egret_ir::{Attrs, Builder, DType, Dim, Op, Tensor, TensorType, TypeError, ValueId, advice, attrs};

/// Why a rule gives no gradient for a node.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// This node has no derivative: the reason.
    Reason(String),
    /// The rule made a node that does not fit.
    Type(TypeError),
}

impl From<TypeError> for Refusal {
    fn from(e: TypeError) -> Refusal {
        Refusal::Type(e)
    }
}

impl From<GradError> for Refusal {
    /// What stands in the way within a region.
    fn from(e: GradError) -> Refusal {
        match e {
            GradError::NotDifferentiable(places) => {
                let places: Vec<String> = places.iter().map(ToString::to_string).collect();
                Refusal::Reason(format!("in its body, {}", places.join("; ")))
            }
            GradError::Rule(_, e) => Refusal::Type(e),
            other => Refusal::Reason(format!("in its body, {other}")),
        }
    }
}

pub(crate) type Made = Result<ValueId, Refusal>;

/// An attribute made of axes.
pub(crate) fn ints(axes: &[usize]) -> Vec<i64> {
    axes.iter().map(|&a| a as i64).collect()
}

/// The product of dims.
pub(crate) fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::constant(1), |a, d| a * d.clone())
}

/// Whether gradients are computed in an element type.
pub(crate) fn is_real(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

/// A builder with short spellings.
pub(crate) struct Emit {
    pub b: Builder,
}

impl Emit {
    pub fn ty(&self, v: ValueId) -> TensorType {
        self.b.tensor_ty(v).clone()
    }

    pub fn shape(&self, v: ValueId) -> Vec<Dim> {
        self.b.tensor_ty(v).shape.clone()
    }

    pub fn rank(&self, v: ValueId) -> usize {
        self.b.tensor_ty(v).rank()
    }

    pub fn dtype(&self, v: ValueId) -> DType {
        self.b.tensor_ty(v).dtype
    }

    pub fn op(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> Made {
        Ok(self.b.emit(op, attrs, operands)?)
    }

    pub fn unary(&mut self, op: Op, x: ValueId) -> Made {
        self.op(op, attrs! {}, &[x])
    }

    pub fn binary(&mut self, op: Op, x: ValueId, y: ValueId) -> Made {
        self.op(op, attrs! {}, &[x, y])
    }

    pub fn add(&mut self, x: ValueId, y: ValueId) -> Made {
        self.binary(Op::Add, x, y)
    }

    pub fn sub(&mut self, x: ValueId, y: ValueId) -> Made {
        self.binary(Op::Sub, x, y)
    }

    pub fn mul(&mut self, x: ValueId, y: ValueId) -> Made {
        self.binary(Op::Mul, x, y)
    }

    pub fn div(&mut self, x: ValueId, y: ValueId) -> Made {
        self.binary(Op::Div, x, y)
    }

    pub fn neg(&mut self, x: ValueId) -> Made {
        self.unary(Op::Neg, x)
    }

    pub fn square(&mut self, x: ValueId) -> Made {
        self.mul(x, x)
    }

    /// A scalar of a number type.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Made {
        let constant = match dtype {
            DType::F32 => Tensor::scalar(value as f32),
            _ => Tensor::scalar(value),
        };
        let constant = self.b.constant(constant);
        self.cast(constant, dtype)
    }

    /// `x op c`.
    pub fn with(&mut self, op: Op, x: ValueId, c: f64) -> Made {
        let c = self.scalar(self.dtype(x), c)?;
        self.binary(op, x, c)
    }

    /// `c op x`.
    pub fn from(&mut self, c: f64, op: Op, x: ValueId) -> Made {
        let c = self.scalar(self.dtype(x), c)?;
        self.binary(op, c, x)
    }

    pub fn select(&mut self, cond: ValueId, a: ValueId, b: ValueId) -> Made {
        self.op(Op::Where, attrs! {}, &[cond, a, b])
    }

    /// x where the condition holds, else 0.
    pub fn only(&mut self, cond: ValueId, x: ValueId) -> Made {
        let zero = self.scalar(self.dtype(x), 0.0)?;
        self.select(cond, x, zero)
    }

    /// x where the condition does not hold, else 0.
    pub fn unless(&mut self, cond: ValueId, x: ValueId) -> Made {
        let zero = self.scalar(self.dtype(x), 0.0)?;
        self.select(cond, zero, x)
    }

    pub fn cast(&mut self, x: ValueId, to: DType) -> Made {
        if self.dtype(x) == to {
            return Ok(x);
        }
        self.op(Op::Cast, attrs! { to: to, saturate: 1i64, round: "nearest" }, &[x])
    }

    /// x in f32 at least.
    pub fn wide(&mut self, x: ValueId) -> Made {
        let to = if matches!(self.dtype(x), DType::F16 | DType::BF16) { DType::F32 } else { self.dtype(x) };
        self.cast(x, to)
    }

    pub fn reduce(&mut self, kind: &str, x: ValueId, axes: &[usize], keep: bool) -> Made {
        self.op(Op::Reduce, attrs! { kind: kind, axes: ints(axes), keepdims: keep }, &[x])
    }

    pub fn reshape(&mut self, x: ValueId, shape: Vec<Dim>) -> Made {
        if self.b.tensor_ty(x).shape == shape {
            return Ok(x);
        }
        self.op(Op::Reshape, attrs! { shape: shape }, &[x])
    }

    pub fn broadcast(&mut self, x: ValueId, shape: Vec<Dim>) -> Made {
        if self.b.tensor_ty(x).shape == shape {
            return Ok(x);
        }
        self.op(Op::Broadcast, attrs! { shape: shape }, &[x])
    }

    /// A tensor of one number.
    pub fn full(&mut self, dtype: DType, shape: Vec<Dim>, value: f64) -> Made {
        let value = self.scalar(dtype, value)?;
        self.broadcast(value, shape)
    }

    pub fn zeros(&mut self, dtype: DType, shape: Vec<Dim>) -> Made {
        self.full(dtype, shape, 0.0)
    }

    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Made {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(x);
        }
        self.op(Op::Transpose, attrs! { perm: ints(perm) }, &[x])
    }

    /// The last two axes swapped.
    pub fn transpose_last(&mut self, x: ValueId) -> Made {
        let mut perm: Vec<usize> = (0..self.rank(x)).collect();
        let n = perm.len();
        perm.swap(n - 2, n - 1);
        self.transpose(x, &perm)
    }

    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> Made {
        self.binary(Op::Matmul, a, b)
    }

    pub fn slice(&mut self, x: ValueId, starts: Vec<Dim>, sizes: Vec<Dim>, steps: Vec<i64>) -> Made {
        let zero = Dim::constant(0);
        if sizes == self.shape(x) && starts.iter().all(|s| *s == zero) && steps.iter().all(|s| *s == 1) {
            return Ok(x);
        }
        self.op(Op::Slice, attrs! { starts: starts, sizes: sizes, steps: steps }, &[x])
    }

    /// x with elements of a number before and after each axis; negative: removed.
    pub fn pad(&mut self, x: ValueId, low: Vec<Dim>, high: Vec<Dim>, value: f64) -> Made {
        let zero = Dim::constant(0);
        if low.iter().chain(&high).all(|d| *d == zero) {
            return Ok(x);
        }
        let value = self.scalar(self.dtype(x), value)?;
        self.op(Op::Pad, attrs! { low: low, high: high, mode: "constant" }, &[x, value])
    }

    /// x with zeros between neighbours.
    pub fn dilate(&mut self, x: ValueId, factors: Vec<i64>, value: f64) -> Made {
        if factors.iter().all(|f| *f == 1) {
            return Ok(x);
        }
        let value = self.scalar(self.dtype(x), value)?;
        self.op(Op::Dilate, attrs! { factors: factors }, &[x, value])
    }

    pub fn iota(&mut self, to: DType, shape: Vec<Dim>, axis: usize) -> Made {
        self.op(Op::Iota, attrs! { to: to, shape: shape, axis: axis as i64 }, &[])
    }

    /// The number of elements of x along axes, as a scalar of a dtype.
    pub fn count(&mut self, x: ValueId, axes: &[usize], dtype: DType) -> Made {
        let shape = self.shape(x);
        let dims: Vec<Dim> = axes.iter().map(|&a| shape[a].clone()).collect();
        if let Some(n) = product(&dims).as_const() {
            return self.scalar(dtype, n as f64);
        }
        let shape = self.unary(Op::Shape, x)?;
        let axes = self.b.constant(Tensor::new(&[axes.len()], ints(axes)));
        let dims = self.op(Op::Gather, attrs! { axis: 0i64 }, &[shape, axes])?;
        let n = self.reduce("prod", dims, &[0], false)?;
        self.cast(n, dtype)
    }

    /// The mean over axes of `n` elements, which stay as dims of 1.
    pub fn mean(&mut self, x: ValueId, axes: &[usize], n: ValueId) -> Made {
        let sum = self.reduce("sum", x, axes, true)?;
        self.div(sum, n)
    }

    /// Sum over the axes along which a value of shape `to` was broadcast.
    pub fn sum_to(&mut self, x: ValueId, to: &[Dim]) -> Made {
        let shape = self.shape(x);
        let one = Dim::constant(1);
        let Some(new) = shape.len().checked_sub(to.len()) else {
            // Leading dims of 1 that the result of a rule has lost.
            return self.reshape(x, to.to_vec());
        };
        let mut axes: Vec<usize> = (0..new).collect();
        for (i, (from, to)) in shape[new..].iter().zip(to).enumerate() {
            if *to == one && *from != one {
                axes.push(new + i);
            } else if from != to && to.as_const().is_none() {
                return Err(Refusal::Reason(format!(
                    "whether it broadcasts {to} to {from} depends on the input: {}",
                    advice::to_be_constant([from, to], &self.b.graph.free_dims())
                )));
            }
        }
        let sum = if axes.is_empty() { x } else { self.reduce("sum", x, &axes, false)? };
        self.reshape(sum, to.to_vec())
    }
}
