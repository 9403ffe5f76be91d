//! Sampling an image at real coordinates: grids, regions of interest, deformed kernels.

use super::convert::{floats, from_floats, ints};
use super::elementwise::max;
use super::support::*;
use crate::families::Sampling;
use crate::{Attrs, Tensor, Value};

/// Evaluate an operation of this family.
pub(super) fn eval(op: Sampling, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    match op {
        Sampling::Resize => super::resize::eval(attrs, operands),
        Sampling::GridSample => grid_sample(tensor(operands, 0)?, tensor(operands, 1)?, attrs),
        Sampling::RoiAlign => roi_align(attrs, operands),
        Sampling::DeformConv => deform_conv(attrs, operands),
    }
}

/// x into [low, high], mirrored at the borders as often as needed.
fn reflected(x: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    if range <= 0.0 {
        return low;
    }
    let beyond = if x < low {
        low - x
    } else if x > high {
        x - high
    } else {
        return x;
    };
    let times = (beyond / range).trunc();
    let left = beyond - times * range;
    // An even number of whole turns ends at the border that was crossed.
    if (x < low) == (times % 2.0 == 0.0) { low + left } else { high - left }
}

/// One spatial axis of a grid sample.
struct GridAxis<'a> {
    size: usize,
    mode: &'a str,
    padding: &'a str,
    align: bool,
}

impl GridAxis<'_> {
    fn border(&self) -> (f64, f64) {
        let n = self.size as f64;
        if self.align { (0.0, n - 1.0) } else { (-0.5, n - 0.5) }
    }

    /// The element at an integer coordinate, by the padding; `None` where that is zero.
    fn element(&self, i: f64) -> Option<usize> {
        let last = self.size as f64 - 1.0;
        match self.padding {
            "zeros" => (i >= 0.0 && i <= last).then_some(i as usize),
            "border" => Some(i.clamp(0.0, last) as usize),
            _ => {
                let (low, high) = self.border();
                Some(reflected(i, low, high).trunc().clamp(0.0, last) as usize)
            }
        }
    }

    /// Elements and weights at a grid coordinate in [-1, 1].
    fn taps(&self, g: f64) -> Vec<(usize, f64)> {
        let n = self.size as f64;
        // Kept in f32 as the reference does: it decides ties.
        let x = if self.align { (g + 1.0) / 2.0 * (n - 1.0) } else { ((g + 1.0) * n - 1.0) / 2.0 };
        let mut x = f64::from(x as f32);
        if self.mode == "nearest" {
            x = x.round_ties_even();
        }
        let (low, high) = self.border();
        if x < low || x > high {
            match self.padding {
                "border" => x = x.clamp(0.0, n - 1.0),
                "reflection" => x = reflected(x, low, high),
                _ => {}
            }
        }
        let base = x.floor();
        let f = x - base;
        let a = -0.75;
        let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
        let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
        let weights: Vec<(f64, f64)> = match self.mode {
            "nearest" => vec![(x, 1.0)],
            "linear" => vec![(base, 1.0 - f), (base + 1.0, f)],
            _ => vec![
                (base - 1.0, far(1.0 + f)),
                (base, near(f)),
                (base + 1.0, near(1.0 - f)),
                (base + 2.0, far(2.0 - f)),
            ],
        };
        weights.into_iter().filter_map(|(i, w)| Some((self.element(i)?, w))).collect()
    }
}

fn grid_sample(x: &Tensor, grid: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let (mode, padding) = (attrs.str("mode"), attrs.str("padding"));
    if !["nearest", "linear", "cubic"].contains(&mode)
        || !["zeros", "border", "reflection"].contains(&padding)
    {
        return fail(format!("grid sample by `{mode}` with padding `{padding}`"));
    }
    let n = x
        .rank()
        .checked_sub(2)
        .filter(|&n| n > 0 && grid.rank() == n + 2)
        .ok_or_else(|| error(format!("grid {} for {}", grid.ty(), x.ty())))?;
    let spatial = &x.shape()[2..];
    if grid.shape()[0] != x.shape()[0] || grid.shape()[n + 1] != n || spatial.contains(&0) {
        return fail(format!("grid {} for {}", grid.ty(), x.ty()));
    }
    let places: usize = grid.shape()[1..=n].iter().product();
    let (batch, channels) = (x.shape()[0], x.shape()[1]);
    let mut shape = x.shape()[..2].to_vec();
    shape.extend(&grid.shape()[1..=n]);
    let mut out = vec![0.0; count(&shape, 8)?];
    let (v, g) = (floats(x)?, floats(grid)?);
    let plane: usize = spatial.iter().product();
    for b in 0..batch {
        for p in 0..places {
            let at = &g[(b * places + p) * n..][..n];
            let mut taps = vec![(0usize, 1.0)];
            for (i, &size) in spatial.iter().enumerate() {
                // The grid names the last axis first.
                let own = GridAxis { size, mode, padding, align: attrs.flag("align_corners") }
                    .taps(at[n - 1 - i]);
                taps = taps
                    .iter()
                    .flat_map(|&(o, w)| own.iter().map(move |&(i, v)| (o * size + i, w * v)))
                    .collect();
            }
            for c in 0..channels {
                let plane = &v[(b * channels + c) * plane..][..plane];
                out[(b * channels + c) * places + p] = sum(taps.iter().map(|&(i, w)| plane[i] * w));
            }
        }
    }
    Ok(super::resize::rounded(x.dtype(), &shape, out))
}

/// The four neighbours of a point and their weights; the nearest ones beyond the image.
fn bilinear(y: f64, x: f64, height: usize, width: usize) -> [(usize, f64); 4] {
    let clamp = |v: f64, n: usize| {
        let v = max(v, 0.0);
        let low = (v as usize).min(n - 1);
        let high = (low + 1).min(n - 1);
        let fraction = if low == n - 1 { 0.0 } else { v - low as f64 };
        (low, high, fraction)
    };
    let ((y0, y1, fy), (x0, x1, fx)) = (clamp(y, height), clamp(x, width));
    [
        (y0 * width + x0, (1.0 - fy) * (1.0 - fx)),
        (y0 * width + x1, (1.0 - fy) * fx),
        (y1 * width + x0, fy * (1.0 - fx)),
        (y1 * width + x1, fy * fx),
    ]
}

fn roi_align(attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let (x, rois, batch) = (tensor(operands, 0)?, tensor(operands, 1)?, tensor(operands, 2)?);
    let (&[batches, channels, height, width], &[n, 4]) = (x.shape(), rois.shape()) else {
        return fail(format!("regions {} of {}", rois.ty(), x.ty()));
    };
    if batch.len() != n || height == 0 || width == 0 {
        return fail(format!("batch indices {} for {n} regions of {}", batch.ty(), x.ty()));
    }
    let size =
        |name: &str| usize::try_from(attrs.int(name)).map_err(|_| error(format!("`{name}` is negative")));
    let (out_h, out_w, ratio) =
        (size("output_height")?, size("output_width")?, attrs.int("sampling_ratio"));
    let (half, maximum) = (attrs.flag("half_pixel"), attrs.str("mode") == "max");
    let scale = attrs.float("spatial_scale");
    let shape = [n, channels, out_h, out_w];
    let mut out = vec![0.0; count(&shape, 8)?];
    let (v, r, batch) = (floats(x)?, floats(rois)?, ints(batch)?);
    for k in 0..n {
        let image = wrap_index(batch[k], batches)?;
        let offset = if half { 0.5 } else { 0.0 };
        let edge = |i: usize| r[k * 4 + i] * scale - offset;
        let extent = |from: usize| {
            let e = edge(from + 2) - edge(from);
            // Malformed regions count as one element.
            if half { e } else { max(e, 1.0) }
        };
        let (bin_h, bin_w) = (extent(1) / out_h as f64, extent(0) / out_w as f64);
        let samples = |bin: f64| if ratio > 0 { ratio as usize } else { bin.ceil().max(0.0) as usize };
        let (grid_h, grid_w) = (samples(bin_h), samples(bin_w));
        count(&[grid_h, grid_w], 8)?;
        for py in 0..out_h {
            for px in 0..out_w {
                let mut points = vec![];
                for iy in 0..grid_h {
                    let y = edge(1) + py as f64 * bin_h + (iy as f64 + 0.5) * bin_h / grid_h as f64;
                    for ix in 0..grid_w {
                        let x = edge(0) + px as f64 * bin_w + (ix as f64 + 0.5) * bin_w / grid_w as f64;
                        let outside = y < -1.0 || y > height as f64 || x < -1.0 || x > width as f64;
                        points.push(if outside { [(0, 0.0); 4] } else { bilinear(y, x, height, width) });
                    }
                }
                for c in 0..channels {
                    let plane = &v[(image * channels + c) * height * width..][..height * width];
                    let terms = points.iter().map(|p| p.map(|(i, w)| plane[i] * w));
                    out[((k * channels + c) * out_h + py) * out_w + px] = if points.is_empty() {
                        0.0
                    } else if maximum {
                        terms
                            .map(|t| t.into_iter().fold(f64::NEG_INFINITY, max))
                            .fold(f64::NEG_INFINITY, max)
                    } else {
                        sum(terms.map(sum)) / points.len() as f64
                    };
                }
            }
        }
    }
    Ok(from_floats(x.dtype(), &shape, &out))
}

fn deform_conv(attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let (x, w, offset, mask) =
        (tensor(operands, 0)?, tensor(operands, 1)?, tensor(operands, 2)?, optional(operands, 3)?);
    let (&[n, channels, height, width], &[outputs, per_group, kh, kw]) = (x.shape(), w.shape()) else {
        return fail(format!("deform_conv of {} by {}", x.ty(), w.ty()));
    };
    let positive = |name: &str| {
        usize::try_from(attrs.int(name))
            .ok()
            .filter(|&g| g > 0)
            .ok_or_else(|| error(format!("`{name}` is not positive")))
    };
    let (groups, offset_groups) = (positive("groups")?, positive("offset_groups")?);
    let window = super::window::Window::new(attrs, &[height, width], &[kh, kw], &[])?;
    let &[out_h, out_w] = window.output.as_slice() else { return fail("deform_conv is two-dimensional") };
    let taps = kh * kw;
    let fits = channels == per_group.checked_mul(groups).unwrap_or(0)
        && outputs % groups == 0
        && channels % offset_groups == 0
        && offset.shape() == [n, offset_groups * taps * 2, out_h, out_w]
        && mask.is_none_or(|m| m.shape() == [n, offset_groups * taps, out_h, out_w]);
    if !fits {
        return fail(format!("deform_conv of {} by {} with offsets {}", x.ty(), w.ty(), offset.ty()));
    }
    let shape = [n, outputs, out_h, out_w];
    let mut out = vec![0.0; count(&shape, 8)?];
    let (v, w, offset) = (floats(x)?, floats(w)?, floats(offset)?);
    let mask = mask.map(floats).transpose()?;
    let plane = out_h * out_w;
    let mut columns = vec![0.0; channels * taps];
    for b in 0..n {
        for p in 0..plane {
            let start = [0, 1].map(|axis| {
                window.axes[axis].start([p / out_w, p % out_w][axis] as i64).unwrap_or(i64::MAX)
            });
            for group in 0..offset_groups {
                for tap in 0..taps {
                    let step =
                        [0, 1].map(|axis| [tap / kw, tap % kw][axis] as i64 * window.axes[axis].dilation);
                    let at = |axis: usize| {
                        let moved =
                            offset[(((b * offset_groups + group) * taps + tap) * 2 + axis) * plane + p];
                        (start[axis] + step[axis]) as f64 + moved
                    };
                    let factor = mask
                        .as_ref()
                        .map_or(1.0, |m| m[((b * offset_groups + group) * taps + tap) * plane + p]);
                    let near = zero_bilinear(at(0), at(1), height, width);
                    for c in group * channels / offset_groups..(group + 1) * channels / offset_groups {
                        let image = &v[(b * channels + c) * height * width..][..height * width];
                        columns[c * taps + tap] = factor * sum(near.iter().map(|&(i, w)| image[i] * w));
                    }
                }
            }
            for o in 0..outputs {
                let first = o / (outputs / groups) * per_group;
                let met = &columns[first * taps..(first + per_group) * taps];
                let weights = &w[o * per_group * taps..][..per_group * taps];
                out[(b * outputs + o) * plane + p] = sum(met.iter().zip(weights).map(|(a, b)| a * b));
            }
        }
    }
    Ok(from_floats(x.dtype(), &shape, &out))
}

/// The neighbours of a point that lie in the image, and their weights.
fn zero_bilinear(y: f64, x: f64, height: usize, width: usize) -> Vec<(usize, f64)> {
    let axis = |v: f64, n: usize| {
        let low = v.floor();
        [(low, 1.0 - (v - low)), (low + 1.0, v - low)]
            .into_iter()
            .filter(move |&(i, _)| i >= 0.0 && i < n as f64)
    };
    axis(y, height)
        .flat_map(|(i, a)| axis(x, width).map(move |(j, b)| (i as usize * width + j as usize, a * b)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attrs;

    #[test]
    fn grids() {
        let x: Value = Tensor::new(&[1, 1, 2, 2], vec![1f32, 2.0, 3.0, 4.0]).into();
        let g = |mode: &str, padding: &str, y: f32, x_: f32| {
            let grid = Tensor::new(&[1, 1, 1, 2], vec![x_, y]).into();
            eval(
                Sampling::GridSample,
                &attrs! { mode: mode, padding: padding, align_corners: 1 },
                &[Some(x.clone()), Some(grid)],
            )
            .unwrap()
            .data::<f32>()[0]
        };
        assert_eq!(g("linear", "zeros", 0.0, 0.0), 2.5);
        assert_eq!(g("nearest", "zeros", -1.0, 1.0), 2.0);
        assert_eq!(g("nearest", "border", 9.0, 9.0), 4.0);
        assert_eq!(g("linear", "zeros", -2.0, -1.0), 0.5);
        assert_eq!(reflected(-0.75, -0.5, 1.5), -0.25);
        assert_eq!(reflected(2.0, 0.0, 1.0), 0.0);
    }

    #[test]
    fn regions() {
        let x: Value = Tensor::new(&[1, 1, 2, 2], vec![1f32, 2.0, 3.0, 4.0]).into();
        let a = attrs! { mode: "avg", output_height: 1, output_width: 1, sampling_ratio: 1, spatial_scale: 1.0, half_pixel: 1 };
        let rois = Tensor::new(&[1, 4], vec![0f32, 0.0, 2.0, 2.0]).into();
        let y = eval(
            Sampling::RoiAlign,
            &a,
            &[Some(x), Some(rois), Some(Tensor::new(&[1], vec![0i64]).into())],
        )
        .unwrap();
        assert_eq!(y.data::<f32>(), [2.5]);
    }

    #[test]
    fn deformed() {
        let x: Value = Tensor::new(&[1, 1, 2, 2], vec![1f32, 2.0, 3.0, 4.0]).into();
        let w = Tensor::new(&[1, 1, 1, 1], vec![2f32]).into();
        let offset = Tensor::new(&[1, 2, 2, 2], vec![0f32, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0]).into();
        let a = attrs! { strides: vec![1, 1], dilations: vec![1, 1], pads: vec![0, 0, 0, 0], groups: 1, offset_groups: 1 };
        let y = eval(Sampling::DeformConv, &a, &[Some(x), Some(w), Some(offset), None]).unwrap();
        assert_eq!(y.data::<f32>(), [3.0, 2.0, 6.0, 8.0]);
    }
}
