//! Linear models and support vector machines of ai.onnx.ml: products with constant matrices. They compute in f32, as ONNX Runtime does.

use super::DOMAIN;
use super::scores::{Emitted, First, Labels, PostTransform, affine, floats, greatest, rows};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use crate::ops::OnnxOp;
use egret_ir::{DType, Op, Tensor, ValueId};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    OnnxOp { domain: DOMAIN, name: "LinearClassifier", since: 1, import: linear_classifier },
    OnnxOp { domain: DOMAIN, name: "LinearRegressor", since: 1, import: linear_regressor },
    OnnxOp { domain: DOMAIN, name: "SVMClassifier", since: 1, import: svm_classifier },
    OnnxOp { domain: DOMAIN, name: "SVMRegressor", since: 1, import: svm_regressor },
];

fn invalid(ctx: &NodeCtx, what: String) -> ImportError {
    ImportError::invalid(format!("{} {what}", ctx.op_type))
}

fn linear_regressor(ctx: &mut NodeCtx) -> OpResult {
    let targets = ctx.int("targets", 1)?;
    let targets = usize::try_from(targets).map_err(|_| ctx.bad_attr("targets", targets))?;
    let post = PostTransform::take(ctx)?;
    let coefficients = floats(ctx, "coefficients")?;
    let intercepts = ctx.opt_floats("intercepts")?.unwrap_or_default();
    if !intercepts.is_empty() && intercepts.len() != targets {
        return Err(invalid(ctx, format!("has {} intercepts for {targets} targets", intercepts.len())));
    }
    let x = rows(ctx, DType::F32)?;
    let y = affine(ctx, x, &coefficients, targets, &intercepts)?;
    Ok(vec![post.of_targets(ctx, y, targets)?])
}

/// The label is that of the greatest score before the post transform. A single score for two classes is that of the second, whose label it
/// is where it is above 0. As in ONNX Runtime the coefficients are rows as wide as the input's, and more than these are not read.
fn linear_classifier(ctx: &mut NodeCtx) -> OpResult {
    let labels = Labels::take(ctx, "classlabels_ints")?;
    // One against the rest or one model for all: the scores are the same.
    ctx.opt_int("multi_class")?;
    let post = PostTransform::take(ctx)?;
    let coefficients = floats(ctx, "coefficients")?;
    let intercepts = ctx.opt_floats("intercepts")?.unwrap_or_default();
    let x = rows(ctx, DType::F32)?;
    let features = ctx.shape_of(x)?[1].as_const().and_then(|f| usize::try_from(f).ok());
    let scores = match (intercepts.len(), features) {
        (0, Some(features)) if features > 0 => coefficients.len() / features,
        (0, _) => labels.len(),
        (n, _) => n,
    };
    let read = features.and_then(|f| f.checked_mul(scores)).unwrap_or(coefficients.len());
    let y = affine(ctx, x, &coefficients[..read.min(coefficients.len())], scores, &intercepts)?;
    match (scores, labels.len()) {
        (1, 2) => {
            let label = labels.of_two(ctx, y, 0.0)?;
            Ok(vec![label, post.of_one_score(ctx, y, First::Complement)?])
        }
        (scores, classes) if scores == classes && scores > 1 => {
            let label = labels.of_greatest(ctx, y)?;
            Ok(vec![label, post.apply(ctx, y)?])
        }
        (scores, classes) => Err(invalid(ctx, format!("has {scores} scores for {classes} class labels"))),
    }
}

/// What support vectors are compared by.
enum Kernel {
    Linear,
    /// (gamma x v + coef0) ^ degree
    Poly([f32; 3]),
    /// exp(-gamma |x - v|^2)
    Rbf(f32),
    /// tanh(gamma x v + coef0)
    Sigmoid([f32; 2]),
}

impl Kernel {
    fn take(ctx: &mut NodeCtx) -> Result<Kernel, ImportError> {
        let kind = ctx.str("kernel_type", "LINEAR")?;
        let params = ctx.opt_floats("kernel_params")?.unwrap_or_default();
        let [gamma, coef0, degree] = match params[..] {
            [] => [0.0; 3],
            [gamma, coef0, degree] => [gamma, coef0, degree],
            _ => {
                return Err(invalid(
                    ctx,
                    format!(
                        "needs gamma, coef0 and degree as `kernel_params`, not {} numbers",
                        params.len()
                    ),
                ));
            }
        };
        match kind.as_str() {
            "LINEAR" => Ok(Kernel::Linear),
            "POLY" => Ok(Kernel::Poly([gamma, coef0, degree])),
            "RBF" => Ok(Kernel::Rbf(gamma)),
            "SIGMOID" => Ok(Kernel::Sigmoid([gamma, coef0])),
            other => Err(ctx.bad_attr("kernel_type", other)),
        }
    }

    /// Rows against `count` support vectors, which are given one after another: [rows, count].
    fn compare(&self, ctx: &mut NodeCtx, x: ValueId, vectors: &[f32], count: usize) -> Emitted {
        let product = |ctx: &mut NodeCtx, gamma: f32, coef0: f32| {
            let dots = affine(ctx, x, vectors, count, &[])?;
            let scaled = ctx.with_scalar(Op::Mul, dots, gamma.into())?;
            ctx.with_scalar(Op::Add, scaled, coef0.into())
        };
        match *self {
            Kernel::Linear => affine(ctx, x, vectors, count, &[]),
            Kernel::Poly([gamma, coef0, degree]) => {
                let base = product(ctx, gamma, coef0)?;
                ctx.with_scalar(Op::Pow, base, degree.into())
            }
            Kernel::Sigmoid([gamma, coef0]) => {
                let inner = product(ctx, gamma, coef0)?;
                ctx.unary(Op::Tanh, inner)
            }
            Kernel::Rbf(gamma) => {
                if !vectors.len().is_multiple_of(count) {
                    return Err(invalid(
                        ctx,
                        format!("has {} numbers for {count} support vectors", vectors.len()),
                    ));
                }
                let v = Tensor::new(&[count, vectors.len() / count], vectors.to_vec());
                let v = ctx.builder.constant(v);
                let x = ctx.unsqueeze(x, 1)?;
                let difference = ctx.binary(Op::Sub, x, v)?;
                let square = ctx.binary(Op::Mul, difference, difference)?;
                let distance = ctx.reduce("sum", square, vec![2], false)?;
                let inner = ctx.with_scalar(Op::Mul, distance, f64::from(-gamma))?;
                ctx.unary(Op::Exp, inner)
            }
        }
    }
}

/// Without support vectors the model is linear, whatever its kernel. As in ONNX Runtime there is no post transform.
fn svm_regressor(ctx: &mut NodeCtx) -> OpResult {
    PostTransform::take(ctx)?;
    let kernel = Kernel::take(ctx)?;
    let supports = ctx.int("n_supports", 0)?;
    let supports = usize::try_from(supports).map_err(|_| ctx.bad_attr("n_supports", supports))?;
    let vectors = ctx.opt_floats("support_vectors")?.unwrap_or_default();
    let (coefficients, rho) = (floats(ctx, "coefficients")?, floats(ctx, "rho")?);
    let one_class = ctx.flag("one_class", false)?;
    let x = rows(ctx, DType::F32)?;
    let seen = if supports > 0 { kernel.compare(ctx, x, &vectors, supports)? } else { x };
    let y = affine(ctx, seen, &coefficients, 1, &rho[..1])?;
    if !one_class {
        return Ok(vec![y]);
    }
    let zero = ctx.zero(DType::F32);
    let inside = ctx.binary(Op::Less, zero, y)?;
    let (one, other) = (ctx.scalar(DType::F32, 1.0)?, ctx.scalar(DType::F32, -1.0)?);
    Ok(vec![ctx.select(inside, one, other)?])
}

fn svm_classifier(ctx: &mut NodeCtx) -> OpResult {
    let labels = Labels::take(ctx, "classlabels_ints")?;
    let post = PostTransform::take(ctx)?;
    let kernel = Kernel::take(ctx)?;
    let vectors = ctx.opt_floats("support_vectors")?.unwrap_or_default();
    let per_class = ctx.opt_ints("vectors_per_class")?.unwrap_or_default();
    let (coefficients, rho) = (floats(ctx, "coefficients")?, floats(ctx, "rho")?);
    let coupled = [ctx.opt_floats("prob_a")?, ctx.opt_floats("prob_b")?];
    if labels.len() < 2 {
        return Err(ImportError::unsupported(format!("{} of a single class", ctx.op_type)));
    }
    let x = rows(ctx, DType::F32)?;
    if per_class.iter().all(|&n| n == 0) {
        return linear_svm(ctx, x, &labels, post, &coefficients, rho[0]);
    }
    // The probabilities of each two classes are made one by an iteration whose steps depend on the data, and whose end ONNX leaves open.
    if coupled.into_iter().flatten().any(|p| !p.is_empty()) {
        return Err(ImportError::unsupported(format!(
            "{} with probabilities (`prob_a`, `prob_b`), which an iteration couples until it is near enough; \
             export the scores: probability=False in scikit-learn",
            ctx.op_type
        )));
    }
    let machines = Machines::new(ctx, &per_class, labels.len(), &coefficients, &rho)?;
    let seen = kernel.compare(ctx, x, &vectors, machines.vectors)?;
    let scores = affine(ctx, seen, &machines.weights, rho.len(), &rho)?;
    let label = machines.vote(ctx, scores, &labels)?;
    let scores = match (labels.len(), post) {
        (2, PostTransform::None) => post.of_one_score(ctx, scores, First::Negative)?,
        (2, _) => post.of_one_score(ctx, scores, First::Complement)?,
        _ => post.apply(ctx, scores)?,
    };
    Ok(vec![label, scores])
}

/// A score for each class, to all of which the first `rho` is added. Of two classes the label is, as in ONNX Runtime, the second wherever a score is
/// above 0 (at least 0.5, if no coefficient is negative), and that of the greater one elsewhere.
fn linear_svm(
    ctx: &mut NodeCtx,
    x: ValueId,
    labels: &Labels,
    post: PostTransform,
    coefficients: &[f32],
    rho: f32,
) -> OpResult {
    let scores = affine(ctx, x, coefficients, labels.len(), &[rho])?;
    let label = if labels.len() == 2 {
        let top = greatest(ctx, scores)?;
        let max = ctx.reduce("max", scores, vec![1], false)?;
        let second = if coefficients.iter().all(|&c| c >= 0.0) {
            let half = ctx.scalar(DType::F32, 0.5)?;
            ctx.binary(Op::LessEqual, half, max)?
        } else {
            let zero = ctx.zero(DType::F32);
            ctx.binary(Op::Less, zero, max)?
        };
        let one = ctx.scalar(DType::I64, 1.0)?;
        let index = ctx.select(second, one, top)?;
        labels.at(ctx, index)?
    } else {
        labels.of_greatest(ctx, scores)?
    };
    Ok(vec![label, post.apply(ctx, scores)?])
}

/// One machine for each two classes.
struct Machines {
    classes: usize,
    vectors: usize,
    /// By machine, then by support vector: 0 for those of other classes.
    weights: Vec<f32>,
}

impl Machines {
    /// `coefficients` has a row less than there are classes: what the vectors of class i are worth against class j is in row j - 1 where
    /// i < j, else in row j.
    fn new(
        ctx: &NodeCtx,
        per_class: &[i64],
        classes: usize,
        coefficients: &[f32],
        rho: &[f32],
    ) -> Result<Machines, ImportError> {
        let sizes: Option<Vec<usize>> = per_class.iter().map(|&n| usize::try_from(n).ok()).collect();
        let sizes = sizes.filter(|s| s.len() == classes).ok_or_else(|| {
            invalid(ctx, format!("has `vectors_per_class` {per_class:?} for {classes} classes"))
        })?;
        let mut class_of = vec![];
        for (class, &n) in sizes.iter().enumerate() {
            if n > coefficients.len() {
                return Err(invalid(ctx, format!("has no coefficients for {n} vectors of class {class}")));
            }
            class_of.extend(std::iter::repeat_n(class, n));
        }
        let (vectors, pairs) = (class_of.len(), classes * (classes - 1) / 2);
        if coefficients.len() != (classes - 1) * vectors || rho.len() != pairs {
            return Err(invalid(
                ctx,
                format!(
                    "has {} coefficients and {} numbers `rho` for {vectors} vectors of {classes} classes, which need {} and {pairs}",
                    coefficients.len(),
                    rho.len(),
                    (classes - 1) * vectors
                ),
            ));
        }
        let weight = |(i, j): (usize, usize), v: usize| match class_of[v] {
            c if c == i => coefficients[(j - 1) * vectors + v],
            c if c == j => coefficients[i * vectors + v],
            _ => 0.0,
        };
        let weights = pairs_of(classes).flat_map(|pair| (0..vectors).map(move |v| (pair, v)));
        Ok(Machines { classes, vectors, weights: weights.map(|(pair, v)| weight(pair, v)).collect() })
    }

    /// The label of the class that most machines are for: a score above 0 is one for the first of its two.
    fn vote(&self, ctx: &mut NodeCtx, scores: ValueId, labels: &Labels) -> Emitted {
        let zero = ctx.zero(DType::F32);
        let first = ctx.binary(Op::Less, zero, scores)?;
        let first = ctx.cast(first, DType::F32)?;
        // By class, then by machine.
        let mut votes = vec![];
        let mut start = vec![0.0; self.classes];
        for (class, start) in start.iter_mut().enumerate() {
            for (i, j) in pairs_of(self.classes) {
                votes.push(if class == i {
                    1.0
                } else if class == j {
                    -1.0
                } else {
                    0.0
                });
                *start += if class == j { 1.0 } else { 0.0 };
            }
        }
        let votes = affine(ctx, first, &votes, self.classes, &start)?;
        labels.of_greatest(ctx, votes)
    }
}

/// Each two classes, in the order of the machines.
fn pairs_of(classes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..classes).flat_map(move |i| (i + 1..classes).map(move |j| (i, j)))
}
