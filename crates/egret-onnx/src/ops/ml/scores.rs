//! What the models of ai.onnx.ml have in common: rows of features, class labels, what becomes of scores.
//!
//! Where the text of ONNX leaves room, or ONNX Runtime 1.32 does otherwise than it says, ONNX Runtime is followed: the functions say so.

use super::super::emit::dim;
use crate::context::NodeCtx;
use crate::error::ImportError;
use egret_ir::{DType, Op, Tensor, ValueId, attrs};

/// A value, or why there is none.
pub(super) type Emitted = Result<ValueId, ImportError>;

/// The first input as rows of features, in `dtype`; a vector is one row.
pub(super) fn rows(ctx: &mut NodeCtx, dtype: DType) -> Emitted {
    let x = ctx.input(0)?;
    let shape = ctx.shape_of(x)?;
    let x = match &shape[..] {
        [_, _] => x,
        [features] => ctx.reshape(x, vec![dim(1), features.clone()])?,
        _ => {
            return Err(ImportError::invalid(format!(
                "{} takes rows of features (rank 1 or 2), not a tensor of rank {}",
                ctx.op_type,
                shape.len()
            )));
        }
    };
    ctx.cast(x, dtype)
}

/// The numbers of a FLOATS attribute, or of the TENSOR attribute `{name}_as_tensor` that may be in its place; nothing where both are absent.
pub(super) fn numbers(ctx: &mut NodeCtx, name: &str) -> Result<Vec<f64>, ImportError> {
    let tensor = ctx.opt_tensor(&format!("{name}_as_tensor"))?;
    let list = ctx.opt_floats(name)?.unwrap_or_default();
    match tensor {
        None => Ok(list.into_iter().map(f64::from).collect()),
        Some(_) if !list.is_empty() => {
            Err(ImportError::invalid(format!("{} has `{name}` as a list and as a tensor", ctx.op_type)))
        }
        Some(t) => t.to_f64s().ok_or_else(|| {
            ImportError::invalid(format!("`{name}_as_tensor` of {} holds no numbers", ctx.op_type))
        }),
    }
}

/// A FLOATS attribute that must be there.
pub(super) fn floats(ctx: &mut NodeCtx, name: &str) -> Result<Vec<f32>, ImportError> {
    let list = ctx.opt_floats(name)?.filter(|l| !l.is_empty());
    list.ok_or_else(|| ImportError::invalid(format!("{} needs its `{name}`", ctx.op_type)))
}

/// The product of x with a constant matrix of `outputs` rows, which are given one after another, plus one addend for each or for all.
pub(super) fn affine(
    ctx: &mut NodeCtx,
    x: ValueId,
    weights: &[f32],
    outputs: usize,
    addends: &[f32],
) -> Emitted {
    if outputs == 0 || !weights.len().is_multiple_of(outputs) {
        return Err(ImportError::invalid(format!(
            "{} has {} coefficients, no multiple of its {outputs} scores",
            ctx.op_type,
            weights.len()
        )));
    }
    let inputs = weights.len() / outputs;
    let columns: Vec<f32> =
        (0..weights.len()).map(|i| weights[(i % outputs) * inputs + i / outputs]).collect();
    let matrix = ctx.builder.constant(Tensor::new(&[inputs, outputs], columns));
    let y = ctx.emit(Op::Matmul, attrs! {}, &[x, matrix])?;
    if addends.is_empty() {
        return Ok(y);
    }
    let addends = ctx.builder.constant(Tensor::new(&[addends.len()], addends.to_vec()));
    ctx.binary(Op::Add, y, addends)
}

/// Class labels, integers or strings.
pub(super) struct Labels(Tensor);

impl Labels {
    /// The one of the attributes `ints` and `classlabels_strings` that is there.
    pub(super) fn take(ctx: &mut NodeCtx, ints: &str) -> Result<Labels, ImportError> {
        let numbers = ctx.opt_ints(ints)?.filter(|l| !l.is_empty());
        let strings = ctx.opt_strings("classlabels_strings")?.filter(|l| !l.is_empty());
        match (numbers, strings) {
            (Some(l), None) => Ok(Labels(Tensor::new(&[l.len()], l))),
            (None, Some(l)) => Ok(Labels(Tensor::from_strings(&[l.len()], l))),
            _ => Err(ImportError::invalid(format!(
                "{} needs one of `{ints}` and `classlabels_strings`",
                ctx.op_type
            ))),
        }
    }

    /// How many classes there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether they are strings.
    pub(super) fn are_strings(&self) -> bool {
        self.0.dtype() == DType::String
    }

    /// The labels of the classes at some indices.
    pub(super) fn at(&self, ctx: &mut NodeCtx, indices: ValueId) -> Emitted {
        let labels = ctx.builder.constant(self.0.clone());
        ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[labels, indices])
    }

    /// The label of the first of the greatest scores of every row.
    pub(super) fn of_greatest(&self, ctx: &mut NodeCtx, scores: ValueId) -> Emitted {
        let top = greatest(ctx, scores)?;
        self.at(ctx, top)
    }

    /// The second label where the only score of a row is above a threshold, else the first.
    pub(super) fn of_two(&self, ctx: &mut NodeCtx, score: ValueId, threshold: f64) -> Emitted {
        let second = above(ctx, score, threshold)?;
        self.at(ctx, second)
    }
}

/// The index of the first of the greatest scores of every row.
pub(super) fn greatest(ctx: &mut NodeCtx, scores: ValueId) -> Emitted {
    let attrs = attrs! { kind: "max", axis: 1i64, keepdims: false, last: false };
    ctx.emit(Op::ArgReduce, attrs, &[scores])
}

/// 1 where the only score of a row is above a threshold, else 0: a vector of i64.
pub(super) fn above(ctx: &mut NodeCtx, score: ValueId, threshold: f64) -> Emitted {
    let score = ctx.squeeze(score, &[1])?;
    let dtype = ctx.dtype(score)?;
    let threshold = ctx.scalar(dtype, threshold)?;
    let above = ctx.binary(Op::Less, threshold, score)?;
    ctx.cast(above, DType::I64)
}

/// What becomes of the scores of a row.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum PostTransform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

/// The score of the first of two classes, from that of the second.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum First {
    /// 1 minus it.
    Complement,
    /// It with the other sign.
    Negative,
}

impl PostTransform {
    /// The attribute `post_transform`.
    pub(super) fn take(ctx: &mut NodeCtx) -> Result<PostTransform, ImportError> {
        match ctx.str("post_transform", "NONE")?.as_str() {
            "NONE" => Ok(PostTransform::None),
            "SOFTMAX" => Ok(PostTransform::Softmax),
            "LOGISTIC" => Ok(PostTransform::Logistic),
            "SOFTMAX_ZERO" => Ok(PostTransform::SoftmaxZero),
            "PROBIT" => Ok(PostTransform::Probit),
            other => Err(ctx.bad_attr("post_transform", other)),
        }
    }

    /// Scores of any number of columns.
    pub(super) fn apply(self, ctx: &mut NodeCtx, scores: ValueId) -> Emitted {
        match self {
            PostTransform::None => Ok(scores),
            PostTransform::Softmax => ctx.softmax(scores, 1),
            PostTransform::Logistic => ctx.unary(Op::Sigmoid, scores),
            PostTransform::SoftmaxZero => softmax_zero(ctx, scores),
            PostTransform::Probit => probit(ctx, scores),
        }
    }

    /// What a regressor's `targets` become. As in ONNX Runtime only PROBIT is applied to a single one.
    pub(super) fn of_targets(self, ctx: &mut NodeCtx, y: ValueId, targets: usize) -> Emitted {
        if targets == 1 && self != PostTransform::Probit { Ok(y) } else { self.apply(ctx, y) }
    }

    /// The scores of two classes from that of the second. As in ONNX Runtime neither softmax is applied to these.
    pub(super) fn of_one_score(self, ctx: &mut NodeCtx, score: ValueId, first: First) -> Emitted {
        match self {
            // ONNX Runtime 1.32 leaves one of the two columns unwritten.
            PostTransform::Probit => Err(ImportError::unsupported(format!(
                "{} with PROBIT of a single score for two classes, which ONNX leaves open; export a column of scores for each class",
                ctx.op_type
            ))),
            PostTransform::Logistic => {
                let negative = ctx.unary(Op::Neg, score)?;
                let both = ctx.concat(&[negative, score], 1)?;
                ctx.unary(Op::Sigmoid, both)
            }
            _ => {
                let other = match first {
                    First::Negative => ctx.unary(Op::Neg, score)?,
                    First::Complement => {
                        let dtype = ctx.dtype(score)?;
                        let one = ctx.scalar(dtype, 1.0)?;
                        ctx.binary(Op::Sub, one, score)?
                    }
                };
                ctx.concat(&[other, score], 1)
            }
        }
    }
}

/// The softmax of those scores that are not about 0, which the sum leaves out; what is about 0 becomes itself / (exp(max) sum), as in ONNX Runtime.
fn softmax_zero(ctx: &mut NodeCtx, scores: ValueId) -> Emitted {
    let size = ctx.unary(Op::Abs, scores)?;
    let tiny = ctx.scalar(DType::F32, f64::from(1e-7f32))?;
    let counts = ctx.binary(Op::Less, tiny, size)?;
    let max = ctx.reduce("max", scores, vec![1], true)?;
    let below = ctx.binary(Op::Sub, scores, max)?;
    let exp = ctx.unary(Op::Exp, below)?;
    let zero = ctx.zero(DType::F32);
    let summed = ctx.select(counts, exp, zero)?;
    let sum = ctx.reduce("sum", summed, vec![1], true)?;
    let negative = ctx.unary(Op::Neg, max)?;
    let scale = ctx.unary(Op::Exp, negative)?;
    let small = ctx.binary(Op::Mul, scores, scale)?;
    let y = ctx.select(counts, exp, small)?;
    ctx.binary(Op::Div, y, sum)
}

/// The inverse of the normal distribution's cumulative function, sqrt(2) erfinv(2 p - 1), with Winitzki's approximation of erfinv and its
/// constants as ONNX Runtime has them: other approximations differ from it in the third digit.
#[expect(clippy::approx_constant, reason = "ONNX Runtime's digits of pi")]
fn probit(ctx: &mut NodeCtx, scores: ValueId) -> Emitted {
    const A: f32 = 0.147;
    let twice = ctx.with_scalar(Op::Mul, scores, 2.0)?;
    let e = ctx.with_scalar(Op::Sub, twice, 1.0)?;
    let one = ctx.scalar(DType::F32, 1.0)?;
    let (less, more) = (ctx.binary(Op::Sub, one, e)?, ctx.binary(Op::Add, one, e)?);
    let product = ctx.binary(Op::Mul, less, more)?;
    let log = ctx.unary(Op::Log, product)?;
    let half = ctx.with_scalar(Op::Mul, log, 0.5)?;
    let v = ctx.with_scalar(Op::Add, half, f64::from(2.0 / (3.14159f32 * A)))?;
    let w = ctx.with_scalar(Op::Mul, log, f64::from(1.0 / A))?;
    let square = ctx.binary(Op::Mul, v, v)?;
    let inner = ctx.binary(Op::Sub, square, w)?;
    let root = ctx.unary(Op::Sqrt, inner)?;
    let difference = ctx.binary(Op::Sub, root, v)?;
    let size = ctx.unary(Op::Sqrt, difference)?;
    let size = ctx.with_scalar(Op::Mul, size, f64::from(std::f32::consts::SQRT_2))?;
    let zero = ctx.zero(DType::F32);
    let below = ctx.binary(Op::Less, e, zero)?;
    let negative = ctx.unary(Op::Neg, size)?;
    ctx.select(below, negative, size)
}
