//! The table of derivatives: what each primitive has, and the rules.

mod attention;
mod contraction;
mod elementwise;
mod indexing;
mod movement;
mod reduction;
mod window;

use crate::emit::{Emit, Refusal};
use egret_ir::{Attrs, Node, Op, TensorType, ValueId};

/// What the derivative of a primitive is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Derivative {
    /// There is a rule.
    Rule,
    /// It is zero wherever it exists: the reason.
    Zero(&'static str),
    /// There is none, or no rule for it: the reason.
    None(&'static str),
}

/// A rule: given the gradients of a node's results it gives those of its operands.
pub(crate) type Rule = fn(&mut Call) -> Result<(), Refusal>;

enum Row {
    Rule(Rule),
    Zero(&'static str),
    None(&'static str),
}

/// What a primitive's derivative is.
pub fn derivative(op: Op) -> Derivative {
    match row(op) {
        Row::Rule(_) => Derivative::Rule,
        Row::Zero(reason) => Derivative::Zero(reason),
        Row::None(reason) => Derivative::None(reason),
    }
}

/// The rule of a primitive, if it has one.
pub(crate) fn rule(op: Op) -> Option<Rule> {
    match row(op) {
        Row::Rule(rule) => Some(rule),
        _ => None,
    }
}

/// The table. There is no catch-all: a new primitive asks for its row.
fn row(op: Op) -> Row {
    use Op::*;
    const STEPS: &str = "it is constant between its steps";
    const DISCRETE: &str = "its results are no real numbers";
    const CONSTANT: &str = "its results do not depend on the elements of its operands";
    const NO_RULE: &str = "there is no rule for it yet";
    const HOST: &str = "it works on values that live on the host only";
    match op {
        Neg | Abs | Sqrt | Exp | Log | Sin | Cos | Tan | Asin | Acos | Atan | Sinh | Cosh | Tanh
        | Asinh | Acosh | Atanh | Erf | Sigmoid | Gelu | Silu | HardSwish => Row::Rule(elementwise::unary),
        Add | Sub | Mul | Div | Mod | Pow | Max | Min => Row::Rule(elementwise::binary),
        Where => Row::Rule(elementwise::select),
        Cast => Row::Rule(elementwise::cast),
        Sign | Floor | Ceil | Round => Row::Zero(STEPS),
        Not | BitNot | IsNan | IsInf | And | Or | Xor | BitAnd | BitOr | BitXor | ShiftLeft
        | ShiftRight | Equal | Less | LessEqual => Row::Zero(DISCRETE),
        BitCast => Row::None("it reads the bits of numbers as others"),

        Reshape => Row::Rule(movement::reshape),
        Broadcast => Row::Rule(movement::broadcast),
        Transpose => Row::Rule(movement::transpose),
        Slice => Row::Rule(movement::slice),
        Pad => Row::Rule(movement::pad),
        Dilate => Row::Rule(movement::dilate),
        Concat => Row::Rule(movement::concat),
        Shape | Iota | RandomUniform | RandomNormal => Row::Zero(CONSTANT),

        Gather => Row::Rule(indexing::gather),
        GatherElements => Row::Rule(indexing::gather_elements),
        GatherNd => Row::Rule(indexing::gather_nd),
        ScatterElements => Row::Rule(indexing::scatter_elements),
        ScatterNd => Row::Rule(indexing::scatter_nd_rule),
        ReverseSequence => Row::Rule(indexing::reverse_sequence),
        Compress => Row::Rule(indexing::compress),
        TopK => Row::Rule(indexing::top_k),
        Nonzero | ArgReduce | Nms => Row::Zero(DISCRETE),
        Unique => Row::None("equal elements become one"),

        Reduce => Row::Rule(reduction::reduce),
        Cumulative => Row::Rule(reduction::cumulative),
        Softmax => Row::Rule(reduction::softmax),
        LayerNorm => Row::Rule(reduction::layer_norm),
        RmsNorm => Row::Rule(reduction::rms_norm),
        Attention => Row::Rule(attention::attention),
        Rotary => Row::Rule(attention::rotary),

        Matmul => Row::Rule(contraction::matmul),
        Conv => Row::Rule(contraction::conv),
        ConvTranspose => Row::Rule(contraction::conv_transpose),
        Pool => Row::Rule(window::pool),
        MaxPoolIndices => Row::Rule(window::max_pool_indices),
        Resize => Row::Rule(window::resize),
        Det | GridSample | RoiAlign | DeformConv | Col2im => Row::None(NO_RULE),

        Lstm | Gru | Rnn => Row::None(NO_RULE),
        If | Loop | Scan => Row::None(NO_RULE),

        TreeEnsemble => Row::Zero("trees are constant between their thresholds"),
        Tfidf | LabelEncode | StringConcat | StringNormalize | StringSplit | RegexFullMatch => {
            Row::Zero(DISCRETE)
        }
        SequenceLength | OptionalHas | SequenceEmpty | OptionalNone => Row::Zero(CONSTANT),
        SequenceConstruct | SequenceInsert | SequenceErase | SequenceAt | SequenceConcat
        | SequenceSplit | SequenceMap | OptionalSome | OptionalGet => Row::None(HOST),
    }
}

/// A node whose rule is at work.
pub(crate) struct Call<'a> {
    /// Where nodes are made.
    pub e: &'a mut Emit,
    pub op: Op,
    pub attrs: &'a Attrs,
    operands: &'a [Option<ValueId>],
    results: &'a [ValueId],
    gradients: Vec<Option<ValueId>>,
    wanted: Vec<bool>,
    given: Vec<Option<ValueId>>,
}

impl<'a> Call<'a> {
    /// `gradients`: of the results; `wanted`: the operands whose gradients are asked for.
    pub fn new(
        e: &'a mut Emit,
        node: &'a Node,
        gradients: Vec<Option<ValueId>>,
        wanted: Vec<bool>,
    ) -> Call<'a> {
        let given = vec![None; wanted.len()];
        let (operands, results) = (&node.operands, &node.results);
        Call { e, op: node.op, attrs: &node.attrs, operands, results, gradients, wanted, given }
    }

    /// Operand `i`, which is there.
    pub fn x(&self, i: usize) -> ValueId {
        self.operands[i].expect("the verifier has seen that the operand is there")
    }

    /// Operand `i`, if it is there.
    pub fn optional(&self, i: usize) -> Option<ValueId> {
        self.operands.get(i).copied().flatten()
    }

    /// Number of operands.
    pub fn arity(&self) -> usize {
        self.operands.len()
    }

    /// The type of operand `i`.
    pub fn ty(&self, i: usize) -> TensorType {
        self.e.ty(self.x(i))
    }

    /// The first result.
    pub fn y(&self) -> ValueId {
        self.results[0]
    }

    /// Result `i`.
    pub fn result(&self, i: usize) -> ValueId {
        self.results[i]
    }

    /// The gradient of the first result.
    ///
    /// # Errors
    /// It has none: only another result has.
    pub fn g(&self) -> Result<ValueId, Refusal> {
        self.gradients[0].ok_or_else(|| Refusal::Reason("only its first result has a derivative".into()))
    }

    /// Whether the gradient of operand `i` is asked for.
    pub fn wants(&self, i: usize) -> bool {
        self.wanted.get(i).copied().unwrap_or(false)
    }

    /// Give operand `i` a gradient of its own shape.
    pub fn give(&mut self, i: usize, gradient: ValueId) -> Result<(), Refusal> {
        let dtype = self.ty(i).dtype;
        self.given[i] = Some(self.e.cast(gradient, dtype)?);
        Ok(())
    }

    /// Give operand `i`, which was broadcast, a gradient of the broadcast shape.
    pub fn give_summed(&mut self, i: usize, gradient: ValueId) -> Result<(), Refusal> {
        let shape = self.ty(i).shape;
        let sum = self.e.sum_to(gradient, &shape)?;
        self.give(i, sum)
    }

    /// What the operands were given.
    pub fn given(self) -> Vec<Option<ValueId>> {
        self.given
    }
}
