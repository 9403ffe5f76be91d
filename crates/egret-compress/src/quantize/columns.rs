//! Codes towards the outputs of the original: column by column, where the columns behind make up for what rounding changed (GPTQ, arXiv
//! 2210.17323), from the inputs that the layer has in the quantised model. Then single codes and scales move as long as that helps.

use crate::integers::grid::fit;
use crate::integers::{Form, Integers};
use crate::layout::Layout;
use crate::methods::Normal;
use crate::moments::Moments;
use crate::numbers;
use egret::linalg::{axpy, dot, solve_rows, times};
use onnx_protobuf::TensorProto;

/// Columns whose errors reach the columns behind them at once.
const PANEL: usize = 64;
/// How often all codes and scales of a row are looked at again.
const SWEEPS: usize = 4;

/// The integers of a layer's weight; `None` where the data make no system that can be solved.
pub fn solve(
    tensor: &TensorProto,
    form: Form,
    layout: &Layout,
    moments: &[Moments],
    damping: f64,
) -> Option<Integers> {
    let mut out = Integers::of(tensor, form)?;
    let all = numbers::read(tensor)?;
    let offsets = layout.offsets();
    let weights: Vec<f64> = offsets.iter().map(|&i| all[i]).collect();
    let n = layout.position_count() * layout.channel_count();
    let rows = layout.row_count();
    let size = (n * rows).max(1);
    let sharing = out.sharing();
    let of: Vec<usize> = offsets.iter().map(|&i| sharing[i]).collect();
    // Scales of 8 bits are those of the weights; blocks get theirs when their turn comes.
    let shared = is_shared(layout, form, out.grids.len());
    let mut fitted = vec![!matches!(form, Form::Blocks(..)); out.grids.len()];
    for (g, (weights, moments)) in weights.chunks_exact(size).zip(moments).enumerate() {
        let normal = Normal::new(weights, moments, damping)?;
        let u = &normal.u;
        let mut w = solve_rows(&normal.b, u, n);
        let of = &of[g * size..(g + 1) * size];
        let offsets = &offsets[g * size..(g + 1) * size];
        for (from, to) in panels(layout, form) {
            let width = to - from;
            let mut errors = vec![0.0; rows * width];
            for (r, line) in w.chunks_exact_mut(n).enumerate() {
                for j in from..to {
                    let (at, id) = (offsets[r * n + j], of[r * n + j]);
                    if !fitted[id] {
                        let run = of[r * n + j..(r + 1) * n].iter().take_while(|&&i| i == id).count();
                        let round = |v: f64| out.rounded(v);
                        out.grids[id] = fit(&line[j..j + run], 0, 15, &round);
                        fitted[id] = true;
                    }
                    let grid = out.grids[id];
                    out.codes[at] = grid.code(line[j]);
                    let is = grid.value(out.codes[at]);
                    let error = (line[j] - is) / u[j * n + j];
                    axpy(&mut line[j..to], -error, &u[j * n + j..j * n + to]);
                    line[j] = is;
                    errors[r * width + j - from] = error;
                }
            }
            for (line, errors) in w.chunks_exact_mut(n).zip(errors.chunks_exact(width)) {
                for (t, &error) in errors.iter().enumerate() {
                    axpy(&mut line[to..], -error, &u[(from + t) * n + to..(from + t + 1) * n]);
                }
            }
        }
        for (r, line) in w.chunks_exact_mut(n).enumerate() {
            let part = r * n..(r + 1) * n;
            let row = Row { offsets: &offsets[part.clone()], of: &of[part.clone()], h: &normal.h };
            row.refine(line, &normal.b[part], &mut out, shared);
        }
    }
    Some(out)
}

/// Whether a scale belongs to more than one row of the layout.
fn is_shared(layout: &Layout, form: Form, scales: usize) -> bool {
    match form {
        Form::Blocks(_, size) => layout.group_count() > 1 && !layout.channel_count().is_multiple_of(size),
        Form::Axis(_) | Form::Whole => scales != layout.group_count() * layout.row_count(),
    }
}

/// Columns in pieces: none has columns of two blocks, or of two positions of the window.
fn panels(layout: &Layout, form: Form) -> Vec<(usize, usize)> {
    let channels = layout.channel_count();
    let width = if let Form::Blocks(_, size) = form { size.min(PANEL) } else { PANEL };
    let of = |p: usize| {
        let left = p * channels;
        (0..channels).step_by(width).map(move |c| (left + c, left + (c + width).min(channels)))
    };
    (0..layout.position_count()).flat_map(of).collect()
}

/// A row of a layer: where its codes stand, and which scale each has.
struct Row<'a> {
    offsets: &'a [usize],
    of: &'a [usize],
    h: &'a [f64],
}

impl Row<'_> {
    /// Move codes and scales, one at a time, to where the squared error is least.
    fn refine(&self, w: &mut [f64], b: &[f64], out: &mut Integers, shared: bool) {
        let n = w.len();
        let mut image = vec![0.0; n];
        times(w, self.h, &mut image);
        let mut rest: Vec<f64> = b.iter().zip(&image).map(|(b, i)| b - i).collect();
        for _ in 0..SWEEPS {
            let mut moved = false;
            for j in 0..n {
                let (at, grid) = (self.offsets[j], out.grids[self.of[j]]);
                let line = &self.h[j * n..(j + 1) * n];
                let code = grid.code(w[j] + rest[j] / line[j]);
                if code != out.codes[at] {
                    let step = grid.value(code) - w[j];
                    out.codes[at] = code;
                    w[j] += step;
                    axpy(&mut rest, -step, line);
                    moved = true;
                }
            }
            if !shared {
                self.scales(w, &mut rest, out);
            }
            if !moved {
                break;
            }
        }
    }

    /// The best scale for the codes of each block.
    fn scales(&self, w: &mut [f64], rest: &mut [f64], out: &mut Integers) {
        let n = w.len();
        let mut from = 0;
        while from < n {
            let id = self.of[from];
            let to = from + self.of[from..].iter().take_while(|&&i| i == id).count();
            let grid = out.grids[id];
            let steps: Vec<f64> =
                self.offsets[from..to].iter().map(|&at| f64::from(out.codes[at] - grid.zero)).collect();
            let mut image = vec![0.0; n];
            for (t, &step) in steps.iter().enumerate().filter(|s| *s.1 != 0.0) {
                axpy(&mut image, step, &self.h[(from + t) * n..(from + t + 1) * n]);
            }
            let curve = dot(&steps, &image[from..to]);
            let scale = out.rounded(grid.scale + dot(&steps, &rest[from..to]) / curve);
            // A scale that grows or shrinks by much would leave the codes behind.
            if curve > 0.0 && (0.5..2.0).contains(&(scale / grid.scale)) {
                axpy(rest, grid.scale - scale, &image);
                out.grids[id].scale = scale;
                w[from..to].iter_mut().zip(&steps).for_each(|(w, s)| *w = s * scale);
            }
            from = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::integers::grid::Grid;
    use crate::layout::Dim;
    use crate::methods::DAMPING;
    use egret::ir::rng::Rng;

    /// Sum over rows of what is lost of the outputs.
    fn loss(w: &[f64], normal: &Normal, n: usize) -> f64 {
        let mut image = vec![0.0; n];
        let rows = w.chunks_exact(n).zip(normal.b.chunks_exact(n));
        rows.map(|(w, b)| {
            times(w, &normal.h, &mut image);
            dot(w, &image) - 2.0 * dot(w, b)
        })
        .sum()
    }

    #[test]
    fn correlated_inputs_make_up_for_each_other() {
        let (rows, n) = (3, 80);
        let mut rng = Rng::new(4);
        let mix: Vec<f64> = (0..n * 8).map(|_| rng.signed_f64()).collect();
        let unit = |k: usize| if k / n == k % n { 0.05 } else { 0.0 };
        let xx: Vec<f64> = (0..n * n)
            .map(|k| unit(k) + (0..8).map(|t| mix[k / n * 8 + t] * mix[k % n * 8 + t]).sum::<f64>())
            .collect();
        let w: Vec<f64> = (0..rows * n).map(|_| f64::from(rng.signed_f64() as f32)).collect();
        let mut yx = vec![0.0; rows * n];
        w.chunks_exact(n).zip(yx.chunks_exact_mut(n)).for_each(|(w, out)| times(w, &xx, out));
        let yy = w.chunks_exact(n).zip(yx.chunks_exact(n)).map(|(w, y)| dot(w, y)).collect();
        let moments = [Moments { count: 99, x_mean: vec![0.0; n], y_mean: vec![0.0; rows], xx, yx, yy }];
        let mut tensor =
            TensorProto { dims: vec![rows as i64, n as i64], data_type: 1, ..TensorProto::default() };
        numbers::write(&mut tensor, &w);
        let layout = Layout {
            rows: vec![Dim { size: rows, stride: n }],
            channels: vec![Dim { size: n, stride: 1 }],
            ..Layout::default()
        };
        let normal = Normal::new(&w, &moments[0], DAMPING).expect("positive");
        let floor = loss(&w, &normal, n);
        for form in [Form::Blocks(1, 16), Form::Blocks(1, 128), Form::Axis(0)] {
            let made = solve(&tensor, form, &layout, &moments, DAMPING).expect("numbers");
            let rounded = Integers::of(&tensor, form).expect("numbers");
            let [ours, plain] = [&made, &rounded].map(|m| loss(&m.values(), &normal, n) - floor);
            assert!(ours < 0.35 * plain, "{form:?}: {ours}, rounded {plain}");
            let fits = |g: &Grid, c: i32| (g.low..=g.high).contains(&c);
            assert!(made.sharing().iter().zip(&made.codes).all(|(&g, &c)| fits(&made.grids[g], c)));
        }
    }
}
