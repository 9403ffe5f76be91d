//! Windows over spatial axes: their geometry, pooling, and blocks added into an image.

use super::convert::{Nums, floats};
use super::elementwise::max;
use super::movement::permuted;
use super::support::*;
use crate::families;
use crate::geometry::{self, Axis};
use crate::{Attrs, DType, Tensor, Value};

/// How a kernel walks over the spatial axes of an input.
pub(super) struct Window {
    pub(super) input: Vec<usize>,
    pub(super) kernel: Vec<usize>,
    pub(super) output: Vec<usize>,
    pub(super) axes: Vec<Axis>,
}

/// How windows of `kernel` taps walk along the spatial axes: `strides`, `dilations` and `pads`, checked.
pub(super) fn axes(attrs: &Attrs, kernel: &[usize]) -> Res<Vec<Axis>> {
    let n = kernel.len();
    sizes(attrs, "strides", n, 1)?;
    sizes(attrs, "dilations", n, 1)?;
    let pads = attrs.ints("pads");
    let absurd = |&p: &i64| p.unsigned_abs() > 1 << 40;
    let taps = kernel.iter().map(|&k| i64::try_from(k).ok()).collect::<Option<Vec<i64>>>();
    taps.filter(|_| !pads.iter().any(absurd))
        .and_then(|taps| geometry::axes(attrs, &taps))
        .ok_or_else(|| error(format!("pads {pads:?} and kernel {kernel:?} do not fit {n} spatial axes")))
}

impl Window {
    /// Read `strides`, `dilations` and `pads`; the output size follows.
    pub(super) fn new(attrs: &Attrs, input: &[usize], kernel: &[usize], extra: &[i64]) -> Res<Window> {
        let n = input.len();
        if kernel.len() != n || kernel.contains(&0) {
            return fail(format!("kernel {kernel:?} does not fit {n} spatial axes"));
        }
        let mut axes = axes(attrs, kernel)?;
        let mut output = vec![];
        for (i, axis) in axes.iter_mut().enumerate() {
            axis.high = axis.high.saturating_add(extra.get(i).copied().unwrap_or(0));
            let count = axis.positions(&(input[i] as i64)).ok().and_then(|n| usize::try_from(n).ok());
            output.push(count.ok_or_else(|| {
                let pads = attrs.ints("pads");
                error(format!("a window of {kernel:?} does not fit {input:?} with pads {pads:?}"))
            })?);
        }
        count(&output, 1)?;
        count(kernel, 1)?;
        Ok(Window { input: input.to_vec(), kernel: kernel.to_vec(), output, axes })
    }

    /// Of one output position (flat): which kernel elements (flat) meet which input elements (flat).
    pub(super) fn taps(&self, position: usize, out: &mut Vec<(usize, usize)>) {
        out.clear();
        out.push((0, 0));
        let at = coordinates(position, &self.output);
        let mut next = vec![];
        for (i, &at) in at.iter().enumerate() {
            let n = self.input[i];
            // The kernel may be far larger than the input: only elements that can meet it are looked at.
            let (axis, at) = (&self.axes[i], at as i64);
            let start = axis.start(at).unwrap_or(i64::MAX);
            let hits: Vec<(usize, usize)> = (axis.taps(n as i64, at).unwrap_or_default())
                .map(|k| (k as usize, (start + k * axis.dilation) as usize))
                .collect();
            next.clear();
            for &(k, x) in out.iter() {
                next.extend(hits.iter().map(|&(hk, hx)| (k * self.kernel[i] + hk, x * n + hx)));
            }
            std::mem::swap(out, &mut next);
        }
    }
}

/// The tensor with channels first, whatever its `layout`, and the permutation that undoes that.
pub(super) fn channels_first(x: &Tensor, attrs: &Attrs) -> Res<(Tensor, Option<Vec<usize>>)> {
    let rank = x.rank();
    if rank < 2 {
        return fail(format!("{} has no channel axis", x.ty()));
    }
    match attrs.str("layout") {
        "channels_first" => Ok((x.clone(), None)),
        "channels_last" => {
            let forth: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
            let back = [0].into_iter().chain(2..rank).chain([1]).collect();
            Ok((permuted(x, &forth)?, Some(back)))
        }
        other => fail(format!("layout `{other}`")),
    }
}

/// Evaluate an operation of this family.
pub(super) fn eval(op: families::Window, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Vec<Tensor>> {
    let x = tensor(operands, 0)?;
    match op {
        families::Window::Pool => Ok(vec![pool(x, attrs)?]),
        families::Window::MaxPoolIndices => max_pool_indices(x, attrs),
        families::Window::Col2im => Ok(vec![col2im(x, attrs)?]),
    }
}

fn pool(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let kind = attrs.str("kind");
    if !["max", "sum", "mean"].contains(&kind) {
        return fail(format!("pooling by `{kind}`"));
    }
    let (x, back) = channels_first(x, attrs)?;
    let kernel = sizes(attrs, "kernel", x.rank() - 2, 1)?;
    let window = Window::new(attrs, &x.shape()[2..], &kernel, attrs.ints("high_extra"))?;
    let planes = x.shape()[0] * x.shape()[1];
    let (plane, positions) =
        (window.input.iter().product::<usize>(), window.output.iter().product::<usize>());
    let mut shape = x.shape()[..2].to_vec();
    shape.extend(&window.output);
    let total = count(&shape, 8)?;
    let mut taps = vec![];
    let mut nums = match Nums::of(&x)? {
        Nums::F(v) => {
            let mut out = vec![0f64; total];
            for p in 0..positions {
                window.taps(p, &mut taps);
                for c in 0..planes {
                    let plane = &v[c * plane..(c + 1) * plane];
                    out[c * positions + p] = match kind {
                        "max" => taps.iter().fold(f64::NEG_INFINITY, |a, &(_, i)| max(a, plane[i])),
                        "sum" => sum(taps.iter().map(|&(_, i)| plane[i])),
                        _ => sum(taps.iter().map(|&(_, i)| plane[i])) / taps.len() as f64,
                    };
                }
            }
            Nums::F(out)
        }
        Nums::I(v) => {
            let mut out = vec![0i128; total];
            let least = super::convert::int_range(x.dtype()).0;
            for p in 0..positions {
                window.taps(p, &mut taps);
                for c in 0..planes {
                    let plane = &v[c * plane..(c + 1) * plane];
                    out[c * positions + p] = match kind {
                        "max" => taps.iter().fold(least, |a, &(_, i)| a.max(plane[i])),
                        "sum" => taps.iter().map(|&(_, i)| plane[i]).sum(),
                        _ => {
                            taps.iter().map(|&(_, i)| plane[i]).sum::<i128>() / (taps.len() as i128).max(1)
                        }
                    };
                }
            }
            Nums::I(out)
        }
    };
    if x.dtype() == DType::Bool
        && let Nums::I(v) = &mut nums
    {
        v.iter_mut().for_each(|v| *v = i128::from(*v != 0));
    }
    let out = nums.tensor(x.dtype(), &shape);
    back.map_or(Ok(out.clone()), |b| permuted(&out, &b))
}

fn max_pool_indices(x: &Tensor, attrs: &Attrs) -> Res<Vec<Tensor>> {
    if x.rank() < 2 {
        return fail(format!("{} has no channel axis", x.ty()));
    }
    let kernel = sizes(attrs, "kernel", x.rank() - 2, 1)?;
    let window = Window::new(attrs, &x.shape()[2..], &kernel, attrs.ints("high_extra"))?;
    let planes = x.shape()[0] * x.shape()[1];
    let (plane, positions) =
        (window.input.iter().product::<usize>(), window.output.iter().product::<usize>());
    let mut shape = x.shape()[..2].to_vec();
    shape.extend(&window.output);
    let total = count(&shape, 8)?;
    let compare = super::sort::comparer(x)?;
    let column_major = attrs.flag("column_major");
    let (mut pick, mut places) = (vec![0usize; total], vec![0i64; total]);
    let mut taps = vec![];
    for p in 0..positions {
        window.taps(p, &mut taps);
        let Some(&(_, first)) = taps.first() else {
            return fail("a pooling window lies wholly in the padding");
        };
        for c in 0..planes {
            let base = c * plane;
            // NaN is above all numbers here.
            let best = taps
                .iter()
                .fold(first, |best, &(_, i)| if compare(base + i, base + best).is_gt() { i } else { best });
            let spatial = if column_major {
                coordinates(best, &window.input)
                    .iter()
                    .zip(&window.input)
                    .rev()
                    .fold(0, |a, (&i, &n)| a * n + i)
            } else {
                best
            };
            pick[c * positions + p] = base + best;
            places[c * positions + p] = (base + spatial) as i64;
        }
    }
    Ok(vec![select(x, None, &shape, &pick)?, Tensor::new(&shape, places)])
}

fn col2im(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let n = attrs.ints("image_shape").len();
    let (image, block) = (sizes(attrs, "image_shape", n, 1)?, sizes(attrs, "block_shape", n, 1)?);
    let window = Window::new(attrs, &image, &block, &[])?;
    let (area, positions): (usize, usize) = (block.iter().product(), window.output.iter().product());
    let &[batch, rows, columns] = x.shape() else { return fail(format!("col2im of {}", x.ty())) };
    if rows % area != 0 || columns != positions {
        return fail(format!(
            "col2im of {} into {image:?} by blocks {block:?} ({positions} of them)",
            x.ty()
        ));
    }
    let channels = rows / area;
    let mut shape = vec![batch, channels];
    shape.extend(&image);
    let plane: usize = image.iter().product();
    let v = floats(x)?;
    let mut out = vec![0f64; count(&shape, 8)?];
    let mut taps = vec![];
    for p in 0..positions {
        window.taps(p, &mut taps);
        for c in 0..batch * channels {
            for &(k, i) in &taps {
                out[c * plane + i] += v[(c * area + k) * positions + p];
            }
        }
    }
    super::convert::cast(&Tensor::new(&shape, out), x.dtype(), true, "up")
}

#[cfg(test)]
mod tests {
    use super::super::eval_op;
    use super::*;
    use crate::{Op, attrs};

    fn run(op: Op, attrs: Attrs, x: &Tensor) -> Vec<Tensor> {
        let out = eval_op(op, &attrs, &[Some(x.clone().into())], &[]).unwrap();
        out.iter().map(|v| v.as_tensor().unwrap().clone()).collect()
    }

    #[test]
    fn pools() {
        let x = Tensor::new(&[1, 1, 4], vec![1f32, 4.0, 2.0, 3.0]);
        let p = |kind: &str, pads: Vec<i64>, extra: i64| {
            let a = attrs! { kind: kind, kernel: vec![2], strides: vec![2], dilations: vec![1], pads: pads, high_extra: vec![extra], layout: "channels_first" };
            run(Op::Pool, a, &x)[0].data::<f32>().to_vec()
        };
        assert_eq!(p("max", vec![0, 0], 0), [4.0, 3.0]);
        assert_eq!(p("mean", vec![1, 0], 1), [1.0, 3.0, 3.0]);
        assert_eq!(p("sum", vec![1, 0], 0), [1.0, 6.0]);
        let a = attrs! { kernel: vec![2], strides: vec![2], dilations: vec![1], pads: vec![0, 0], high_extra: vec![0], column_major: 0 };
        let m = run(Op::MaxPoolIndices, a, &x);
        assert_eq!((m[0].data::<f32>(), m[1].data::<i64>()), (&[4f32, 3.0][..], &[1i64, 3][..]));
        let last = Tensor::new(&[1, 2, 2], vec![1f32, 10.0, 2.0, 20.0]);
        let a = attrs! { kind: "sum", kernel: vec![2], strides: vec![1], dilations: vec![1], pads: vec![0, 0], high_extra: vec![0], layout: "channels_last" };
        let s = run(Op::Pool, a, &last);
        assert_eq!((s[0].shape(), s[0].data::<f32>()), (&[1, 1, 2][..], &[3f32, 30.0][..]));
    }

    #[test]
    fn columns() {
        let x = Tensor::new(&[1, 2, 2], vec![1f32, 2.0, 3.0, 4.0]);
        let a = attrs! { image_shape: vec![3], block_shape: vec![2], strides: vec![1], dilations: vec![1], pads: vec![0, 0] };
        assert_eq!(run(Op::Col2im, a, &x)[0].data::<f32>(), [1.0, 5.0, 4.0]);
    }
}
