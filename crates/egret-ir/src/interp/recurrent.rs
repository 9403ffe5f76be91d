//! Recurrent cells over time.

use super::convert::{floats, from_floats, ints};
use super::denormals::current;
use super::elementwise::{max, min, sigmoid};
use super::support::*;
use crate::families::Recurrent;
use crate::{Attrs, Tensor, Value};

/// An activation function of a recurrent cell with its parameters.
#[derive(Clone, Debug)]
pub struct Activation {
    /// ONNX's name in lower case.
    pub name: String,
    /// Its alpha, 0 where it has none.
    pub alpha: f64,
    /// Its beta, 0 where it has none.
    pub beta: f64,
}

impl Activation {
    fn apply(&self, x: f64) -> f64 {
        let (a, b) = (self.alpha, self.beta);
        match self.name.as_str() {
            "sigmoid" => sigmoid(x),
            "tanh" => x.tanh(),
            "relu" => max(x, 0.0),
            "affine" => a * x + b,
            "leakyrelu" => {
                if x >= 0.0 {
                    x
                } else {
                    a * x
                }
            }
            "thresholdedrelu" => {
                if x >= a {
                    x
                } else {
                    0.0
                }
            }
            "scaledtanh" => a * (b * x).tanh(),
            "hardsigmoid" => (a * x + b).clamp(0.0, 1.0),
            "elu" => {
                if x >= 0.0 {
                    x
                } else {
                    a * x.exp_m1()
                }
            }
            "softsign" => x / (1.0 + x.abs()),
            // "softplus": checked in `activations`.
            _ => x.exp().ln_1p(),
        }
    }
}

/// The activations of all directions. Parameters stand one per activation, or in the order of those that have any.
/// The activations that a recurrent node's attributes name, with their parameters or the defaults.
///
/// # Errors
/// A number of them other than `needed`; an unknown one.
pub fn activations(attrs: &Attrs, needed: usize) -> Res<Vec<Activation>> {
    let names = attrs.strings("activations");
    if names.len() != needed {
        return fail(format!("{} activations where {needed} are needed", names.len()));
    }
    let (alphas, betas) = (attrs.floats("alphas"), attrs.floats("betas"));
    let (mut next_alpha, mut next_beta) = (0, 0);
    let take = |list: &[f64], next: &mut usize, i: usize, default: Option<f64>| -> f64 {
        let Some(default) = default else { return 0.0 };
        let at = if list.len() == needed { i } else { *next };
        *next += 1;
        list.get(at).copied().unwrap_or(default)
    };
    let mut out = vec![];
    for (i, name) in names.iter().enumerate() {
        let name = name.to_ascii_lowercase();
        // Default alpha and beta of those that have them.
        let (alpha, beta) = match name.as_str() {
            "affine" => (Some(1.0), Some(0.0)),
            "leakyrelu" => (Some(0.01), None),
            "thresholdedrelu" | "elu" => (Some(1.0), None),
            "scaledtanh" => (Some(1.0), Some(1.0)),
            "hardsigmoid" => (Some(0.2), Some(0.5)),
            "sigmoid" | "tanh" | "relu" | "softsign" | "softplus" => (None, None),
            _ => return fail(format!("activation `{name}`")),
        };
        let (alpha, beta) = (take(alphas, &mut next_alpha, i, alpha), take(betas, &mut next_beta, i, beta));
        out.push(Activation { name, alpha, beta });
    }
    Ok(out)
}

/// Everything that the three cells read alike.
struct Cell {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    directions: usize,
    gates: usize,
    x: Vec<f64>,
    /// None where `x` is what it would give.
    w: Option<Vec<f64>>,
    r: Vec<f64>,
    b: Vec<f64>,
    h0: Vec<f64>,
    lengths: Vec<usize>,
    activations: Vec<Activation>,
    clip: f64,
}

fn sized(t: Option<&Tensor>, shape: &[usize], what: &str) -> Res<Vec<f64>> {
    match t {
        None => Ok(vec![0.0; count(shape, 8)?]),
        Some(t) if t.shape() == shape => floats(t),
        Some(t) => fail(format!("`{what}` is {}, {shape:?} is needed", t.ty())),
    }
}

impl Cell {
    fn read(op: Recurrent, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Cell> {
        let x = tensor(operands, 0)?;
        let &[steps, batch, input] = x.shape() else {
            return fail(format!("x is {}, three axes are needed", x.ty()));
        };
        let hidden = usize::try_from(attrs.int("hidden")).map_err(|_| error("`hidden` is negative"))?;
        let directions = match attrs.str("direction") {
            "forward" | "reverse" => 1,
            "bidirectional" => 2,
            other => return fail(format!("direction `{other}`")),
        };
        let (gates, per_direction) = match op {
            Recurrent::Lstm => (4, 3),
            Recurrent::Gru => (3, 2),
            Recurrent::Rnn => (1, 1),
        };
        let rows = hidden.checked_mul(gates).ok_or_else(|| error("`hidden` is too large"))?;
        let lengths = match optional(operands, 4)? {
            None => vec![steps; batch],
            Some(t) => ints(t)?.into_iter().map(|v| usize::try_from(v).unwrap_or(usize::MAX)).collect(),
        };
        if lengths.len() != batch || lengths.iter().any(|&l| l > steps) {
            return fail(format!("lengths {lengths:?} for {batch} sequences of {steps}"));
        }
        let w = match optional(operands, 1)? {
            None if input == directions * rows => None,
            None => return fail(format!("x is {}, and there is no w", x.ty())),
            w => Some(sized(w, &[directions, rows, input], "w")?),
        };
        let mut r = sized(optional(operands, 2)?, &[directions, rows, hidden], "r")?;
        if let Some(scale) = optional(operands, 8)? {
            let scale = sized(Some(scale), &[directions, rows], "scale")?;
            r.chunks_exact_mut(hidden.max(1))
                .zip(scale)
                .for_each(|(row, s)| row.iter_mut().for_each(|v| *v *= s));
        }
        Ok(Cell {
            steps,
            batch,
            input,
            hidden,
            directions,
            gates,
            x: floats(x)?,
            w,
            r,
            b: sized(optional(operands, 3)?, &[directions, 2 * rows], "b")?,
            h0: sized(optional(operands, 5)?, &[directions, batch, hidden], "h0")?,
            lengths,
            activations: activations(attrs, directions * per_direction)?,
            clip: attrs.float("clip"),
        })
    }

    fn clipped(&self, v: f64) -> f64 {
        if self.clip > 0.0 { v.clamp(-self.clip, self.clip) } else { v }
    }

    /// w x + its bias for one element of the batch at one time, all gates.
    fn input_part(&self, d: usize, t: usize, b: usize) -> Vec<f64> {
        let x = &self.x[(t * self.batch + b) * self.input..][..self.input];
        let rows = self.gates * self.hidden;
        let Some(w) = &self.w else { return x[d * rows..][..rows].to_vec() };
        (0..rows)
            .map(|i| dot(&w[(d * rows + i) * self.input..][..self.input], x) + self.b[d * 2 * rows + i])
            .collect()
    }

    /// r h + its bias, for the gates in this range.
    fn state_part(&self, d: usize, h: &[f64], gates: std::ops::Range<usize>) -> Vec<f64> {
        let rows = self.gates * self.hidden;
        (gates.start * self.hidden..gates.end * self.hidden)
            .map(|i| {
                dot(&self.r[(d * rows + i) * self.hidden..][..self.hidden], h)
                    + self.b[d * 2 * rows + rows + i]
            })
            .collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    sum(a.iter().zip(b).map(|(a, b)| a * b))
}

/// Evaluate a recurrent operation.
pub(super) fn eval(op: Recurrent, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Vec<Tensor>> {
    let cell = Cell::read(op, attrs, operands)?;
    let (n, dtype) = (cell.hidden, tensor(operands, 0)?.dtype());
    let state_shape = [cell.directions, cell.batch, n];
    let y_shape = [cell.steps, cell.directions, cell.batch, n];
    let mut y = vec![0.0; count(&y_shape, 8)?];
    let mut h_end = cell.h0.clone();
    let mut c_end =
        if op == Recurrent::Lstm { sized(optional(operands, 6)?, &state_shape, "c0")? } else { vec![] };
    // Without peepholes an infinite state is no part of the gates: zeros in their place would make NaN of it.
    let peepholes = match op {
        Recurrent::Lstm => optional(operands, 7)?,
        _ => None,
    };
    let peepholes = peepholes.map(|p| sized(Some(p), &[cell.directions, 3 * n], "p")).transpose()?;
    for d in 0..cell.directions {
        let backward = d == 1 || attrs.str("direction") == "reverse";
        for b in 0..cell.batch {
            let at = (d * cell.batch + b) * n;
            let mut h = h_end[at..at + n].to_vec();
            for step in 0..cell.lengths[b] {
                let t = if backward { cell.lengths[b] - 1 - step } else { step };
                h = match op {
                    Recurrent::Lstm => lstm(
                        &cell,
                        attrs,
                        d,
                        t,
                        b,
                        &h,
                        &mut c_end[at..at + n],
                        peepholes.as_ref().map(|p| &p[d * 3 * n..(d + 1) * 3 * n]),
                    ),
                    Recurrent::Gru => gru(&cell, attrs, d, t, b, &h),
                    Recurrent::Rnn => {
                        let f = &cell.activations[d];
                        let (x, r) = (cell.input_part(d, t, b), cell.state_part(d, &h, 0..1));
                        (0..n).map(|i| f.apply(cell.clipped(x[i] + r[i]))).collect()
                    }
                };
                y[((t * cell.directions + d) * cell.batch + b) * n..][..n].copy_from_slice(&h);
            }
            h_end[at..at + n].copy_from_slice(&h);
        }
    }
    let mut out = vec![from_floats(dtype, &y_shape, &y), from_floats(dtype, &state_shape, &h_end)];
    if op == Recurrent::Lstm {
        out.push(from_floats(dtype, &state_shape, &c_end));
    }
    Ok(out)
}

#[allow(clippy::too_many_arguments, reason = "one step of one sequence")]
fn lstm(
    cell: &Cell,
    attrs: &Attrs,
    d: usize,
    t: usize,
    b: usize,
    h: &[f64],
    c: &mut [f64],
    peepholes: Option<&[f64]>,
) -> Vec<f64> {
    let n = cell.hidden;
    let r = if attrs.flag("rounded_state") {
        cell.state_part(d, &rounded(h), 0..4)
    } else {
        cell.state_part(d, h, 0..4)
    };
    let x = cell.input_part(d, t, b);
    let [f, g, out] = [0, 1, 2].map(|i| &cell.activations[d * 3 + i]);
    let coupled = attrs.flag("input_forget");
    (0..n)
        .map(|k| {
            let gate = |i: usize| x[i * n + k] + r[i * n + k];
            // ONNX's order of peepholes is i, o, f.
            let peeping = |i: usize, c: f64| gate(i) + peepholes.map_or(0.0, |p| p[i * n + k] * c);
            let input = f.apply(cell.clipped(peeping(0, c[k])));
            let forget = if coupled { 1.0 - input } else { f.apply(cell.clipped(peeping(2, c[k]))) };
            c[k] = forget * c[k] + input * g.apply(cell.clipped(gate(3)));
            f.apply(cell.clipped(peeping(1, c[k]))) * out.apply(c[k])
        })
        .collect()
}

/// The values on a grid of 256 over their own range, which includes 0 as a point: ONNX's DynamicQuantizeLinear and back. That is an
/// operator of f32, and which of two points a value goes to hangs on f32's rounding: saturated states lie on both sides of 0
/// alike, so that the zero point is halfway between two integers.
fn rounded(h: &[f64]) -> Vec<f64> {
    let low = h.iter().fold(0.0, |a, &v| min(a, v)) as f32;
    let high = h.iter().fold(0.0, |a, &v| max(a, v)) as f32;
    let h: Vec<f32> = h.iter().map(|&v| v as f32).collect();
    let scale = current().round(f64::from(high - low) / 255.0);
    // Zeros, or so small that the step is none.
    if scale == 0.0 {
        return vec![0.0; h.len()];
    }
    let zero = (-low / scale).round_ties_even();
    let steps = |v: f32| ((v / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero;
    h.into_iter().map(|v| f64::from(steps(v)) * f64::from(scale)).collect()
}

fn gru(cell: &Cell, attrs: &Attrs, d: usize, t: usize, b: usize, h: &[f64]) -> Vec<f64> {
    let n = cell.hidden;
    let (x, s) = (cell.input_part(d, t, b), cell.state_part(d, h, 0..2));
    let [f, g] = [0, 1].map(|i| &cell.activations[d * 2 + i]);
    let gate = |i: usize, k: usize| f.apply(cell.clipped(x[i * n + k] + s[i * n + k]));
    let reset: Vec<f64> = (0..n).map(|k| gate(1, k)).collect();
    let hidden: Vec<f64> = if attrs.flag("linear_before_reset") {
        cell.state_part(d, h, 2..3).iter().zip(&reset).map(|(v, r)| v * r).collect()
    } else {
        cell.state_part(d, &h.iter().zip(&reset).map(|(h, r)| h * r).collect::<Vec<_>>(), 2..3)
    };
    (0..n)
        .map(|k| {
            let z = gate(0, k);
            (1.0 - z) * g.apply(cell.clipped(x[2 * n + k] + hidden[k])) + z * h[k]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attrs;

    fn common(direction: &str, names: &[&str]) -> Attrs {
        attrs! { direction: direction, hidden: 1, activations: names.iter().map(|s| s.to_string()).collect::<Vec<_>>(), alphas: Vec::<f64>::new(), betas: Vec::<f64>::new(), clip: 0.0 }
    }

    fn of(shape: &[usize], v: &[f64]) -> Option<Value> {
        Some(Tensor::new(shape, v.to_vec()).into())
    }

    #[test]
    fn simple_cell_both_ways() {
        let x = of(&[2, 1, 1], &[1.0, 2.0]);
        let w = of(&[2, 1, 1], &[1.0, 10.0]);
        let r = of(&[2, 1, 1], &[1.0, 1.0]);
        let out =
            eval(Recurrent::Rnn, &common("bidirectional", &["Relu", "Relu"]), &[x, w, r, None, None, None])
                .unwrap();
        assert_eq!(out[0].data::<f64>(), [1.0, 30.0, 3.0, 20.0]);
        assert_eq!(out[1].data::<f64>(), [3.0, 30.0]);
    }

    #[test]
    fn gated_cells() {
        let x = of(&[1, 1, 1], &[1.0]);
        let mut a = common("forward", &["Sigmoid", "Tanh", "Tanh"]);
        a.0.insert("input_forget", 0i64.into());
        a.0.insert("rounded_state", 0i64.into());
        let (w, r) = (of(&[1, 4, 1], &[0.0, 0.0, 0.0, 1.0]), of(&[1, 4, 1], &[0.0; 4]));
        let out = eval(
            Recurrent::Lstm,
            &a,
            &[x.clone(), w.clone(), r.clone(), None, None, None, of(&[1, 1, 1], &[2.0]), None, None],
        )
        .unwrap();
        let c = 0.5 * 2.0 + 0.5 * 1f64.tanh();
        assert_eq!(out[2].data::<f64>(), [c]);
        assert_eq!(out[1].data::<f64>(), [0.5 * c.tanh()]);
        // An infinite state is kept, or let go, by the gates alone where there are no peepholes.
        let infinite = of(&[1, 1, 1], &[f64::INFINITY]);
        let out = eval(
            Recurrent::Lstm,
            &a,
            &[x.clone(), w.clone(), r.clone(), None, None, None, infinite, None, None],
        )
        .unwrap();
        assert_eq!((out[1].data::<f64>(), out[2].data::<f64>()), (&[0.5][..], &[f64::INFINITY][..]));
        // Without w, x is what it would give; rows of r with a scale.
        let shares = of(&[1, 1, 4], &[0.0, 1.0, 2.0, 3.0]);
        let state = || of(&[1, 1, 1], &[0.5]);
        let float = of(&[1, 4, 1], &[1.0, -1.0, 0.5, 2.0]);
        let bytes = Some(Value::from(Tensor::new(&[1, 4, 1], vec![2i8, -2, 1, 1])));
        let scale = of(&[1, 4], &[0.5, 0.5, 0.5, 2.0]);
        let w = of(&[1, 4, 4], &(0..16).map(|i| f64::from(i % 5 == 0)).collect::<Vec<_>>());
        let by = |w, r, scale| {
            eval(Recurrent::Lstm, &a, &[shares.clone(), w, r, None, None, state(), None, None, scale])
                .unwrap()
        };
        assert_eq!(by(None, bytes, scale), by(w, float, None));
        assert_eq!(rounded(&[0.0, 255.0, 127.6, 0.5, 1.5]), [0.0, 255.0, 128.0, 0.0, 2.0]);
        assert_eq!(rounded(&[-100.2, 154.8]), [-100.0, 155.0]);
        // The zero point is 127, as -low / scale is 127.49999 in f32: DynamicQuantizeLinear of ONNX Runtime 1.32, opset 11.
        let saturated: Vec<f32> = rounded(&[1.0, -1.0, 0.25]).iter().map(|&v| v as f32).collect();
        assert_eq!(saturated, [0.9960785, -0.9960785, 0.2509804]);
        assert_eq!(rounded(&[0.0, 0.0]), [0.0, 0.0]);
        let mut a = common("forward", &["Sigmoid", "Tanh"]);
        a.0.insert("linear_before_reset", 1i64.into());
        let (w, r) = (of(&[1, 3, 1], &[0.0, 0.0, 1.0]), of(&[1, 3, 1], &[0.0, 0.0, 1.0]));
        let out = eval(Recurrent::Gru, &a, &[x, w, r, None, None, of(&[1, 1, 1], &[2.0])]).unwrap();
        assert_eq!(out[1].data::<f64>(), [0.5 * 2f64.tanh() + 0.5 * 2.0]);
    }
}
