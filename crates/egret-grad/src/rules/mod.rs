//! Derivatives: what the op table says that each primitive has, and the rules.

mod attention;
mod contraction;
mod control;
mod elementwise;
mod indexing;
mod movement;
mod recurrent;
mod reduction;
mod walk;
mod window;

use crate::emit::{Emit, Refusal};
use crate::error::GradError;
use egret_ir::{Attrs, Graph, Node, Op, TensorType, ValueId};
use std::collections::HashMap;

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

/// What the op table says, with the rule where it says that there is one.
fn row(op: Op) -> Row {
    use egret_ir::Derivative as D;
    match op.info().derivative {
        D::Rule => written(op).map_or(Row::None("its rule is not written"), Row::Rule),
        D::Slope(_) => Row::Rule(elementwise::slope),
        D::Zero(reason) => Row::Zero(reason),
        D::None(reason) => Row::None(reason),
    }
}

/// The rules: one for every operation that has one in the op table (a test holds it).
fn written(op: Op) -> Option<Rule> {
    use Op::*;
    Some(match op {
        Neg | Abs | Sqrt | Exp | Log | Cos | Tan | Asin | Acos | Atan | Tanh | Asinh | Acosh | Atanh
        | Erf | Sigmoid | Gelu | Silu | HardSwish => elementwise::unary,
        Add | Sub | Mul | Div | Mod | Pow | Max | Min => elementwise::binary,
        Where => elementwise::select,
        Cast => elementwise::cast,
        Reshape => movement::reshape,
        Broadcast => movement::broadcast,
        Transpose => movement::transpose,
        Slice => movement::slice,
        Pad => movement::pad,
        Dilate => movement::dilate,
        Concat => movement::concat,
        Gather => indexing::gather,
        GatherElements => indexing::gather_elements,
        GatherNd => indexing::gather_nd,
        ScatterElements => indexing::scatter_elements,
        ScatterNd => indexing::scatter_nd_rule,
        ReverseSequence => indexing::reverse_sequence,
        Compress => indexing::compress,
        TopK => indexing::top_k,
        Reduce => reduction::reduce,
        Cumulative => reduction::cumulative,
        Softmax => reduction::softmax,
        LayerNorm => reduction::layer_norm,
        RmsNorm => reduction::rms_norm,
        Attention => attention::attention,
        Rotary => attention::rotary,
        Matmul => contraction::matmul,
        Conv => contraction::conv,
        ConvTranspose => contraction::conv_transpose,
        Pool => window::pool,
        MaxPoolIndices => window::max_pool_indices,
        Resize => window::resize,
        If => control::branch,
        Loop => control::repeat,
        Scan => control::scan,
        Lstm | Gru | Rnn => recurrent::recurrent,
        _ => return None,
    })
}

/// How a rule differentiates a region: what the sweep lends to the rules, which it knows itself.
#[derive(Clone, Copy)]
pub(crate) struct Within {
    /// The gradients of values of a region that is being built, of which the graph is what there was before the seeds: of those that have any.
    pub pulled_back: PulledBack,
    /// Which inputs of a body that hands its first outputs, so many, to itself as inputs have a derivative, if these have.
    pub carried_activity: CarriedActivity,
}

pub(crate) type PulledBack =
    fn(&mut Emit, &Graph, HashMap<ValueId, ValueId>, &[ValueId]) -> Result<Vec<Option<ValueId>>, GradError>;

pub(crate) type CarriedActivity = fn(&Graph, Vec<bool>, usize) -> Result<Vec<bool>, Refusal>;

/// A node whose rule is at work.
pub(crate) struct Call<'a> {
    /// Where nodes are made.
    pub e: &'a mut Emit,
    pub op: Op,
    pub attrs: &'a Attrs,
    /// How its regions are differentiated.
    pub within: Within,
    /// The regions of the node.
    pub regions: &'a [Graph],
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
        within: Within,
    ) -> Call<'a> {
        let given = vec![None; wanted.len()];
        let (operands, results) = (&node.operands, &node.results);
        let (attrs, regions) = (&node.attrs, &node.regions);
        Call { e, op: node.op, attrs, within, regions, operands, results, gradients, wanted, given }
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

    /// Number of results.
    pub fn results(&self) -> usize {
        self.results.len()
    }

    /// The gradient of result `i`, if it has one.
    pub fn gradient(&self, i: usize) -> Option<ValueId> {
        self.gradients[i]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_op_table_is_written_and_no_other() {
        for op in Op::all() {
            let has = op.info().derivative == egret_ir::Derivative::Rule;
            assert_eq!(
                written(op).is_some(),
                has,
                "`{op}`: its `derivative` in ir-spec/ops, and its rule here"
            );
        }
    }
}
