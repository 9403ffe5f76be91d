//! Views: how the rows of a contraction's linear problem stand in its input and its output.
//!
//! A row is one output position: the inputs that it sums (a window of a convolution, in the order of [`crate::layout::Layout`]) and
//! what it gives. Of a large output only some positions are taken, spread over it, borders included.

use crate::constants::Refusal;
use crate::data::taps::floats;
use crate::layers::Layer;
use crate::layout::{Side, integer};
use crate::moments::Sums;
use crate::report::Reason;
use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::{Error, Result};
use onnx_protobuf::NodeProto;

/// How many inputs of rows a sample may give: rows are fewer where they are long.
const ROOM: usize = 1 << 16;
/// Fewest and most rows of a sample.
const ROWS: [usize; 2] = [64, 1024];

/// How a contraction reads its input.
#[derive(Clone, Debug)]
pub enum View {
    /// A matrix product; whether rows stand in columns of the input, and of the output.
    Lines {
        /// Of the input.
        x: bool,
        /// Of the output.
        y: bool,
        /// What the input is multiplied by.
        scale: f32,
    },
    /// A convolution.
    Window {
        /// Steps of the window.
        strides: Vec<usize>,
        /// Steps inside the window.
        dilations: Vec<usize>,
        /// Padding.
        pads: Pads,
        /// Whether it is transposed.
        transposed: bool,
    },
}

/// The padding before each spatial axis.
#[derive(Clone, Debug)]
pub enum Pads {
    /// So much.
    Given(Vec<i64>),
    /// As the output's size asks, the odd one at the end.
    SameUpper,
    /// As the output's size asks, the odd one at the beginning.
    SameLower,
}

fn ints(node: &NodeProto, name: &str, or: Vec<i64>) -> Vec<i64> {
    node.attribute.iter().find(|a| a.name == name).map_or(or, |a| a.ints.clone())
}

fn sizes(list: &[i64]) -> Option<Vec<usize>> {
    list.iter().map(|&d| usize::try_from(d).ok().filter(|d| *d > 0)).collect()
}

impl View {
    /// How a layer's node reads its input.
    ///
    /// # Errors
    /// Why no data can be used for it.
    pub fn of(node: &NodeProto, layer: &Layer) -> std::result::Result<View, Refusal> {
        let not_done = |text: &str| Err((Reason::NotDone, format!("{text}: not done with data yet")));
        let window = matches!(node.op_type.as_str(), "Conv" | "ConvTranspose");
        if window {
            let axes = layer.layout.positions.len();
            let pads = ints(node, "pads", vec![0; 2 * axes]);
            let auto = node.attribute.iter().find(|a| a.name == "auto_pad").map(|a| a.s.clone());
            let transposed = node.op_type == "ConvTranspose";
            let pads = match auto.as_deref() {
                None | Some(b"" | b"NOTSET") => Pads::Given(pads.iter().take(axes).copied().collect()),
                Some(b"VALID") => Pads::Given(vec![0; axes]),
                Some(b"SAME_UPPER") if !transposed => Pads::SameUpper,
                Some(b"SAME_LOWER") if !transposed => Pads::SameLower,
                Some(_) => return not_done("its auto_pad"),
            };
            if transposed && node.attribute.iter().any(|a| a.name == "output_shape") {
                return not_done("its output_shape");
            }
            let strides = sizes(&ints(node, "strides", vec![1; axes]));
            let dilations = sizes(&ints(node, "dilations", vec![1; axes]));
            return match (strides, dilations) {
                (Some(strides), Some(dilations)) if strides.len() == axes && dilations.len() == axes => {
                    Ok(View::Window { strides, dilations, pads, transposed })
                }
                _ => not_done("its strides and dilations do not fit its window"),
            };
        }
        if layer.layout.group_count() != 1 || layer.layout.groups.iter().any(|g| g.size != 1) {
            return not_done("a weight with batches");
        }
        let left = layer.side == Side::Left;
        if node.op_type == "Gemm" {
            if left {
                return not_done("the first operand of Gemm as the weight");
            }
            let alpha = node.attribute.iter().find(|a| a.name == "alpha").map_or(1.0, |a| a.f);
            return Ok(View::Lines { x: integer(node, "transA", 0) != 0, y: false, scale: alpha });
        }
        Ok(View::Lines { x: left, y: left, scale: 1.0 })
    }

    /// Add the rows of a sample to the sums of each group.
    ///
    /// # Errors
    /// Values whose shapes do not fit the layer.
    pub fn add(
        &self,
        layer: &Layer,
        x: &Tensor,
        y: &Tensor,
        sample: usize,
        sums: &mut [Sums],
    ) -> Result<()> {
        let misfit = || {
            let (x, y) = (x.ty(), y.ty());
            Error::unsupported(format!("`{}`: its input is {x}, its output {y}", layer.weight))
        };
        let (xs, ys) = (floats(x).ok_or_else(misfit)?, floats(y).ok_or_else(misfit)?);
        let l = &layer.layout;
        let [groups, rows, channels] = [l.group_count(), l.row_count(), l.channel_count()];
        let columns = l.position_count() * channels;
        if groups * rows * columns == 0 {
            return Err(misfit());
        }
        let most = (ROOM / columns).clamp(ROWS[0], ROWS[1]);
        match self {
            View::Lines { x: x_turned, y: y_turned, scale } => {
                let line = |turned: bool, t: &Tensor, width: usize| {
                    let n = if turned && t.rank() > 1 { t.shape()[t.rank() - 1] } else { 1 };
                    (t.len().checked_div(width).unwrap_or(0), n.max(1))
                };
                let ((count, xn), (y_count, yn)) = (line(*x_turned, x, columns), line(*y_turned, y, rows));
                if count * columns != xs.len() || count != y_count || count * rows != ys.len() {
                    return Err(misfit());
                }
                for at in picks(count, most, sample) {
                    let (xo, yo) = (at / xn * xn * columns + at % xn, at / yn * yn * rows + at % yn);
                    let (x_row, y_row) = sums[0].row();
                    x_row.iter_mut().enumerate().for_each(|(k, v)| *v = scale * xs[xo + k * xn]);
                    y_row.iter_mut().enumerate().for_each(|(r, v)| *v = ys[yo + r * yn]);
                }
            }
            View::Window { strides, dilations, pads, transposed } => {
                let (x_shape, y_shape) = (x.shape(), y.shape());
                let axes = strides.len();
                let fits = x_shape.len() == axes + 2
                    && y_shape.len() == axes + 2
                    && x_shape[0] == y_shape[0]
                    && x_shape[1] == groups * channels
                    && y_shape[1] == groups * rows;
                if !fits {
                    return Err(misfit());
                }
                let (x_space, y_space) = (&x_shape[2..], &y_shape[2..]);
                let kernel: Vec<usize> = l.positions.iter().map(|d| d.size).collect();
                let before: Vec<i64> = (0..axes)
                    .map(|a| match pads {
                        Pads::Given(list) => list.get(a).copied().unwrap_or(0),
                        same => {
                            let reach = (y_space[a] as i64 - 1) * strides[a] as i64
                                + (kernel[a] as i64 - 1) * dilations[a] as i64
                                + 1;
                            let all = (reach - x_space[a] as i64).max(0);
                            if matches!(same, Pads::SameLower) { all - all / 2 } else { all / 2 }
                        }
                    })
                    .collect();
                let x_size: usize = x_space.iter().product();
                let y_size: usize = y_space.iter().product();
                // Where each place of the window reads, of the output position at hand.
                let mut reads: Vec<Option<usize>> = vec![None; l.position_count()];
                for at in picks(x_shape[0] * y_size, most, sample) {
                    let (image, place) = (at / y_size, at % y_size);
                    for (p, slot) in reads.iter_mut().enumerate() {
                        let (mut place, mut p, mut stride, mut read) = (place, p, 1, Some(0));
                        for a in (0..axes).rev() {
                            let (o, k) = ((place % y_space[a]) as i64, (p % kernel[a]) as i64);
                            (place, p) = (place / y_space[a], p / kernel[a]);
                            let (step, inside) = (strides[a] as i64, k * dilations[a] as i64);
                            let i = if *transposed {
                                let i = o + before[a] - inside;
                                if i % step == 0 { i / step } else { -1 }
                            } else {
                                o * step - before[a] + inside
                            };
                            let i = usize::try_from(i).ok().filter(|i| *i < x_space[a]);
                            read = read.zip(i).map(|(r, i)| r + i * stride);
                            stride *= x_space[a];
                        }
                        *slot = read;
                    }
                    for (g, sums) in sums.iter_mut().enumerate() {
                        let (x_row, y_row) = sums.row();
                        let base = (image * groups + g) * channels * x_size;
                        for (part, read) in x_row.chunks_exact_mut(channels).zip(&reads) {
                            if let Some(read) = read {
                                part.iter_mut()
                                    .enumerate()
                                    .for_each(|(c, v)| *v = xs[base + c * x_size + read]);
                            }
                        }
                        let base = (image * groups + g) * rows * y_size + place;
                        y_row.iter_mut().enumerate().for_each(|(r, v)| *v = ys[base + r * y_size]);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Positions of a sample: all, or one in each of `most` equal parts.
fn picks(count: usize, most: usize, sample: usize) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    let mut rng = Rng::new(sample as u64);
    (0..most)
        .map(|i| {
            let [from, to] = [i, i + 1].map(|i| i * count / most);
            from + rng.below(to - from)
        })
        .collect()
}
