//! One step of a cell, made of primitives: what the interpreter computes.

use crate::emit::{Emit, Made, Refusal};
use egret_ir::interp::{Activation, activations};
use egret_ir::{Attrs, Dim, Op, ValueId};

/// A cell of one direction.
pub(super) struct Cell {
    pub op: Op,
    pub hidden: i64,
    functions: Vec<Activation>,
    clip: f64,
    coupled: bool,
    /// Whether a GRU's reset gate comes after the product of its state.
    linear: bool,
}

/// What a step reads: the rows of its gates, the state, and what only some cells have.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// What goes into the activations, less what only the step itself can know: gates side by side.
    pub gates: ValueId,
    pub h: ValueId,
    pub c: Option<ValueId>,
    /// Peepholes `[3 * hidden]`.
    pub peepholes: Option<ValueId>,
    /// The product of a GRU's state that was reset: the transposed rows `[hidden, hidden]`, and the bias.
    pub product: Option<(ValueId, ValueId)>,
}

impl Cell {
    pub fn new(op: Op, attrs: &Attrs, direction: usize, directions: usize) -> Result<Cell, Refusal> {
        let each = match op {
            Op::Lstm => 3,
            Op::Gru => 2,
            _ => 1,
        };
        let all = activations(attrs, each * directions).map_err(|e| Refusal::Reason(e.to_string()))?;
        Ok(Cell {
            op,
            hidden: attrs.int("hidden"),
            functions: all[direction * each..(direction + 1) * each].to_vec(),
            clip: attrs.float("clip"),
            coupled: op == Op::Lstm && attrs.flag("input_forget"),
            linear: op == Op::Gru && attrs.flag("linear_before_reset"),
        })
    }

    /// Blocks of rows of `w`.
    pub fn rows(&self) -> i64 {
        match self.op {
            Op::Lstm => 4,
            Op::Gru => 3,
            _ => 1,
        }
    }

    /// Blocks of rows of `r` whose product with the state is known once all states are.
    pub fn state_rows(&self) -> i64 {
        if self.multiplies() { 2 } else { self.rows() }
    }

    /// Whether a step has a product of its own.
    pub fn multiplies(&self) -> bool {
        self.op == Op::Gru && !self.linear
    }

    /// Blocks `from..to` of the last axis.
    pub fn blocks(&self, e: &mut Emit, x: ValueId, from: i64, to: i64) -> Made {
        let mut sizes = e.shape(x);
        let last = sizes.len() - 1;
        let mut starts = vec![Dim::constant(0); sizes.len()];
        starts[last] = Dim::constant(from * self.hidden);
        sizes[last] = Dim::constant((to - from) * self.hidden);
        let steps = vec![1; sizes.len()];
        e.slice(x, starts, sizes, steps)
    }

    /// [`Step::gates`] of what the input and the state give to the gates.
    pub fn joined(&self, e: &mut Emit, of_x: ValueId, of_h: ValueId) -> Made {
        if self.op != Op::Gru {
            return e.add(of_x, of_h);
        }
        let (own, state) = (self.blocks(e, of_x, 0, 2)?, self.blocks(e, of_h, 0, 2)?);
        let gates = e.add(own, state)?;
        let own = self.blocks(e, of_x, 2, 3)?;
        let mut parts = vec![gates, own];
        if self.linear {
            parts.push(self.blocks(e, of_h, 2, 3)?);
        }
        e.last_axis(&parts)
    }

    /// The gradients of what the input and the state give, of those of [`Step::gates`].
    pub fn parted(&self, e: &mut Emit, g: ValueId) -> Result<(ValueId, ValueId), Refusal> {
        if self.op != Op::Gru {
            return Ok((g, g));
        }
        let (of_x, gates) = (self.blocks(e, g, 0, 3)?, self.blocks(e, g, 0, 2)?);
        if !self.linear {
            return Ok((of_x, gates));
        }
        let product = self.blocks(e, g, 3, 4)?;
        Ok((of_x, e.last_axis(&[gates, product])?))
    }

    /// The next states h and c.
    pub fn step(&self, e: &mut Emit, s: &Step) -> Result<(ValueId, Option<ValueId>), Refusal> {
        match self.op {
            Op::Lstm => {
                let c = s.c.expect("an LSTM has two states");
                let (h, c) = self.lstm(e, s, c)?;
                Ok((h, Some(c)))
            }
            Op::Gru => Ok((self.gru(e, s)?, None)),
            _ => Ok((self.function(e, 0, s.gates)?, None)),
        }
    }

    fn lstm(&self, e: &mut Emit, s: &Step, c: ValueId) -> Result<(ValueId, ValueId), Refusal> {
        // ONNX's order of peepholes is i, o, f.
        let gate = |e: &mut Emit, i: i64, c: ValueId| {
            let mut v = self.blocks(e, s.gates, i, i + 1)?;
            if let Some(p) = s.peepholes {
                let p = self.blocks(e, p, i, i + 1)?;
                let seen = e.mul(c, p)?;
                v = e.add(v, seen)?;
            }
            self.function(e, 0, v)
        };
        let input = gate(e, 0, c)?;
        let forget = if self.coupled { e.from(1.0, Op::Sub, input)? } else { gate(e, 2, c)? };
        let candidate = self.blocks(e, s.gates, 3, 4)?;
        let candidate = self.function(e, 1, candidate)?;
        let (kept, new) = (e.mul(forget, c)?, e.mul(input, candidate)?);
        let c = e.add(kept, new)?;
        let output = gate(e, 1, c)?;
        let shown = self.applied(e, 2, c)?;
        Ok((e.mul(output, shown)?, c))
    }

    fn gru(&self, e: &mut Emit, s: &Step) -> Made {
        let gate = |e: &mut Emit, i: i64| {
            let v = self.blocks(e, s.gates, i, i + 1)?;
            self.function(e, 0, v)
        };
        let (update, reset) = (gate(e, 0)?, gate(e, 1)?);
        let own = self.blocks(e, s.gates, 2, 3)?;
        let state = match s.product {
            None => {
                let product = self.blocks(e, s.gates, 3, 4)?;
                e.mul(reset, product)?
            }
            Some((rows, bias)) => {
                let left = e.mul(reset, s.h)?;
                let product = e.matmul(left, rows)?;
                e.add(product, bias)?
            }
        };
        let candidate = e.add(own, state)?;
        let candidate = self.function(e, 1, candidate)?;
        let other = e.from(1.0, Op::Sub, update)?;
        let (new, kept) = (e.mul(other, candidate)?, e.mul(update, s.h)?);
        e.add(new, kept)
    }

    /// An activation of what is clipped before.
    fn function(&self, e: &mut Emit, i: usize, x: ValueId) -> Made {
        let x = if self.clip > 0.0 {
            let x = e.with(Op::Max, x, -self.clip)?;
            e.with(Op::Min, x, self.clip)?
        } else {
            x
        };
        self.applied(e, i, x)
    }

    fn applied(&self, e: &mut Emit, i: usize, x: ValueId) -> Made {
        let Activation { name, alpha, beta } = &self.functions[i];
        let not_below = |e: &mut Emit, bound: f64| {
            let bound = e.scalar(e.dtype(x), bound)?;
            e.binary(Op::LessEqual, bound, x)
        };
        match name.as_str() {
            "sigmoid" => e.unary(Op::Sigmoid, x),
            "tanh" => e.unary(Op::Tanh, x),
            "relu" => e.with(Op::Max, x, 0.0),
            "softplus" => e.unary(Op::Softplus, x),
            "affine" => {
                let x = e.with(Op::Mul, x, *alpha)?;
                e.with(Op::Add, x, *beta)
            }
            "leakyrelu" => {
                let (up, low) = (not_below(e, 0.0)?, e.with(Op::Mul, x, *alpha)?);
                e.select(up, x, low)
            }
            "thresholdedrelu" => {
                let up = not_below(e, *alpha)?;
                e.only(up, x)
            }
            "scaledtanh" => {
                let x = e.with(Op::Mul, x, *beta)?;
                let x = e.unary(Op::Tanh, x)?;
                e.with(Op::Mul, x, *alpha)
            }
            "hardsigmoid" => {
                let x = e.with(Op::Mul, x, *alpha)?;
                let x = e.with(Op::Add, x, *beta)?;
                let x = e.with(Op::Max, x, 0.0)?;
                e.with(Op::Min, x, 1.0)
            }
            "elu" => {
                // Large x have no exponential: its gradient would be 0 times infinity.
                let (up, low) = (not_below(e, 0.0)?, e.with(Op::Min, x, 0.0)?);
                let low = e.unary(Op::Exp, low)?;
                let low = e.with(Op::Sub, low, 1.0)?;
                let low = e.with(Op::Mul, low, *alpha)?;
                e.select(up, x, low)
            }
            "softsign" => {
                let size = e.unary(Op::Abs, x)?;
                let size = e.with(Op::Add, size, 1.0)?;
                e.div(x, size)
            }
            other => Err(Refusal::Reason(format!("there is no rule for its activation `{other}`"))),
        }
    }
}
