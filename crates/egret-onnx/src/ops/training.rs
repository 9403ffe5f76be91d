//! Steps of optimisers: Adagrad, Adam, Momentum.

use super::OnnxOp;
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, ValueId};

const DOMAIN: &str = "ai.onnx.preview.training";

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    OnnxOp { domain: DOMAIN, name: "Adagrad", since: 1, import: adagrad },
    OnnxOp { domain: DOMAIN, name: "Adam", since: 1, import: adam },
    OnnxOp { domain: DOMAIN, name: "Momentum", since: 1, import: momentum },
];

/// The tensors being optimised, with what belongs to each: `groups[g][i]` is the g-th of tensor i.
fn groups(ctx: &NodeCtx, count: usize) -> Result<Vec<Vec<ValueId>>, ImportError> {
    let tensors = ctx.inputs.len().saturating_sub(2);
    if tensors == 0 || !tensors.is_multiple_of(count) {
        return Err(ImportError::invalid(format!(
            "{} takes {count} inputs per tensor, but has {tensors}",
            ctx.op_type
        )));
    }
    let each = tensors / count;
    (0..count).map(|g| (0..each).map(|i| ctx.input(2 + g * each + i)).collect()).collect()
}

/// Input i, a scalar, in the element type of the tensors.
fn scalar_input(ctx: &mut NodeCtx, i: usize, dtype: DType) -> Result<ValueId, ImportError> {
    let v = ctx.single(ctx.input(i)?)?;
    ctx.cast(v, dtype)
}

/// An attribute that must be there.
fn coefficient(ctx: &mut NodeCtx, name: &str) -> Result<f64, ImportError> {
    let v = ctx.opt_float(name)?;
    v.map(f64::from)
        .ok_or_else(|| ImportError::invalid(format!("{} needs its attribute `{name}`", ctx.op_type)))
}

/// Small arithmetic on values, so that the update rules read as in the specification.
struct Calc<'a, 'b>(&'a mut NodeCtx<'b>);

impl Calc<'_, '_> {
    fn add(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, ImportError> {
        self.0.binary(Op::Add, a, b)
    }
    fn sub(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, ImportError> {
        self.0.binary(Op::Sub, a, b)
    }
    fn mul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, ImportError> {
        self.0.binary(Op::Mul, a, b)
    }
    fn div(&mut self, a: ValueId, b: ValueId) -> Result<ValueId, ImportError> {
        self.0.binary(Op::Div, a, b)
    }
    fn times(&mut self, a: ValueId, factor: f64) -> Result<ValueId, ImportError> {
        self.0.with_scalar(Op::Mul, a, factor)
    }
    fn plus(&mut self, a: ValueId, term: f64) -> Result<ValueId, ImportError> {
        self.0.with_scalar(Op::Add, a, term)
    }
    fn sqrt(&mut self, a: ValueId) -> Result<ValueId, ImportError> {
        self.0.unary(Op::Sqrt, a)
    }
    /// 1 - base^t
    fn one_minus_power(&mut self, base: f64, t: ValueId) -> Result<ValueId, ImportError> {
        let dtype = self.0.dtype(t)?;
        let base = self.0.scalar(dtype, base)?;
        let power = self.0.binary(Op::Pow, base, t)?;
        let negative = self.times(power, -1.0)?;
        self.plus(negative, 1.0)
    }
    /// The gradient g of x plus that of the regularisation.
    fn regularized(&mut self, x: ValueId, g: ValueId, norm: f64) -> Result<ValueId, ImportError> {
        let pull = self.times(x, norm)?;
        self.add(pull, g)
    }
    /// `yes` in later steps than the first, else `no`.
    fn after_first(&mut self, t: ValueId, yes: ValueId, no: ValueId) -> Result<ValueId, ImportError> {
        let dtype = self.0.dtype(t)?;
        let zero = self.0.zero(dtype);
        let later = self.0.binary(Op::Less, zero, t)?;
        self.0.select(later, yes, no)
    }
}

fn adagrad(ctx: &mut NodeCtx) -> OpResult {
    let (decay, epsilon, norm) =
        (ctx.float("decay_factor", 0.0)?, ctx.float("epsilon", 1e-6)?, ctx.float("norm_coefficient", 0.0)?);
    let groups = groups(ctx, 3)?;
    let (mut xs, mut hs) = (vec![], vec![]);
    for ((&x, &g), &h) in groups[0].iter().zip(&groups[1]).zip(&groups[2]) {
        let dtype = ctx.dtype(x)?;
        let (rate, t) = (scalar_input(ctx, 0, dtype)?, scalar_input(ctx, 1, dtype)?);
        let mut c = Calc(ctx);
        let slowing = c.times(t, decay.into())?;
        let slowing = c.plus(slowing, 1.0)?;
        let rate = c.div(rate, slowing)?;
        let g = c.regularized(x, g, norm.into())?;
        let square = c.mul(g, g)?;
        let h_new = c.add(h, square)?;
        let root = c.sqrt(h_new)?;
        let root = c.plus(root, epsilon.into())?;
        let step = c.mul(rate, g)?;
        let step = c.div(step, root)?;
        xs.push(c.sub(x, step)?);
        hs.push(h_new);
    }
    xs.extend(hs);
    Ok(xs)
}

fn adam(ctx: &mut NodeCtx) -> OpResult {
    let (alpha, beta): (f64, f64) = (ctx.float("alpha", 0.9)?.into(), ctx.float("beta", 0.999)?.into());
    let epsilon = ctx.float("epsilon", 1e-6)?;
    let (norm, norm_post) = (ctx.float("norm_coefficient", 0.0)?, ctx.float("norm_coefficient_post", 0.0)?);
    let groups = groups(ctx, 4)?;
    let (mut xs, mut vs, mut hs) = (vec![], vec![], vec![]);
    for (i, &x) in groups[0].iter().enumerate() {
        let [g, v, h] = [groups[1][i], groups[2][i], groups[3][i]];
        let dtype = ctx.dtype(x)?;
        let (rate, t) = (scalar_input(ctx, 0, dtype)?, scalar_input(ctx, 1, dtype)?);
        let mut c = Calc(ctx);
        let g = c.regularized(x, g, norm.into())?;
        let (old, new) = (c.times(v, alpha)?, c.times(g, 1.0 - alpha)?);
        let v_new = c.add(old, new)?;
        let square = c.mul(g, g)?;
        let (old, new) = (c.times(h, beta)?, c.times(square, 1.0 - beta)?);
        let h_new = c.add(old, new)?;
        let root = c.sqrt(h_new)?;
        let root = c.plus(root, epsilon.into())?;
        let second = c.one_minus_power(beta, t)?;
        let second = c.sqrt(second)?;
        let first = c.one_minus_power(alpha, t)?;
        let corrected = c.mul(rate, second)?;
        let corrected = c.div(corrected, first)?;
        let rate = c.after_first(t, corrected, rate)?;
        let direction = c.div(v_new, root)?;
        let step = c.mul(rate, direction)?;
        let x_new = c.sub(x, step)?;
        xs.push(c.times(x_new, 1.0 - f64::from(norm_post))?);
        vs.push(v_new);
        hs.push(h_new);
    }
    xs.extend(vs);
    xs.extend(hs);
    Ok(xs)
}

fn momentum(ctx: &mut NodeCtx) -> OpResult {
    let (alpha, beta) = (coefficient(ctx, "alpha")?, coefficient(ctx, "beta")?);
    let norm = coefficient(ctx, "norm_coefficient")?;
    let nesterov = match ctx.str("mode", "")?.as_str() {
        "nesterov" => true,
        "standard" => false,
        other => return Err(ctx.bad_attr("mode", other)),
    };
    let groups = groups(ctx, 3)?;
    let (mut xs, mut vs) = (vec![], vec![]);
    for ((&x, &g), &v) in groups[0].iter().zip(&groups[1]).zip(&groups[2]) {
        let dtype = ctx.dtype(x)?;
        let (rate, t) = (scalar_input(ctx, 0, dtype)?, scalar_input(ctx, 1, dtype)?);
        let (one, beta) = (ctx.scalar(dtype, 1.0)?, ctx.scalar(dtype, beta)?);
        let mut c = Calc(ctx);
        let g = c.regularized(x, g, norm)?;
        let weight = c.after_first(t, beta, one)?;
        let new = c.mul(weight, g)?;
        let old = c.times(v, alpha)?;
        let v_new = c.add(old, new)?;
        let direction = if nesterov {
            let ahead = c.times(v_new, alpha)?;
            c.add(g, ahead)?
        } else {
            v_new
        };
        let step = c.mul(rate, direction)?;
        xs.push(c.sub(x, step)?);
        vs.push(v_new);
    }
    xs.extend(vs);
    Ok(xs)
}
