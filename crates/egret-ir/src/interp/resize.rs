//! Resizing: every axis on its own, each result coordinate a weighted sum of source coordinates.

use super::convert::{floats, from_floats};
use super::support::*;
use crate::{Attrs, DType, Tensor, Value};

/// Source coordinates of one result coordinate with their weights; `None` where it lies outside the source.
pub type Taps = Option<Vec<(usize, f64)>>;

/// Elements to either side that an antialiased resize may weigh.
const MOST_REACH: f64 = (1 << 20) as f64;

/// How one axis is resized.
struct Axis<'a> {
    mode: &'a str,
    coordinate: &'a str,
    nearest: &'a str,
    cubic_a: f64,
    exclude_outside: bool,
    antialias: bool,
    input: usize,
    output: usize,
    scale: f64,
    /// Start and end of the region of interest.
    roi: (f64, f64),
}

impl Axis<'_> {
    /// The source coordinate of a result coordinate; `None` outside the source (only where cropping).
    fn source(&self, at: usize) -> Res<Option<f64>> {
        let (x, input) = (at as f64, self.input as f64);
        // Not the result's size where the scales were given: that is rounded down.
        let output = self.scale * input;
        Ok(Some(match self.coordinate {
            "half_pixel" => (x + 0.5) / self.scale - 0.5,
            // `length_resized > 1 ? .. : 0` in the words of ONNX: here it is the result's size, as in ONNX Runtime.
            "pytorch_half_pixel" if self.output <= 1 => 0.0,
            "pytorch_half_pixel" => (x + 0.5) / self.scale - 0.5,
            "asymmetric" => x / self.scale,
            "align_corners" => {
                if output == 1.0 {
                    0.0
                } else {
                    x * (input - 1.0) / (output - 1.0)
                }
            }
            "half_pixel_symmetric" => {
                let adjustment = self.output as f64 / output;
                input / 2.0 * (1.0 - adjustment) + (x + 0.5) / self.scale - 0.5
            }
            "tf_crop_and_resize" => {
                let (start, end) = self.roi;
                let inside = if output == 1.0 {
                    (end - start) * (input - 1.0) / 2.0
                } else {
                    x * (end - start) * (input - 1.0) / (output - 1.0)
                };
                let at = inside + start * (input - 1.0);
                if at < 0.0 || at > input - 1.0 {
                    return Ok(None);
                }
                at
            }
            other => return fail(format!("resize coordinates `{other}`")),
        }))
    }

    fn clamped(&self, i: f64) -> usize {
        i.clamp(0.0, self.input as f64 - 1.0) as usize
    }

    /// Source coordinate of the nearest element.
    fn nearest(&self, x: f64) -> Res<usize> {
        let (low, fraction) = (x.floor(), x - x.floor());
        let up = match self.nearest {
            "round_prefer_floor" => fraction > 0.5,
            "round_prefer_ceil" => fraction >= 0.5,
            "floor" => false,
            "ceil" => fraction > 0.0,
            other => return fail(format!("nearest mode `{other}`")),
        };
        Ok(self.clamped(if up { low + 1.0 } else { low }))
    }

    /// Source coordinates and their weights.
    fn weighted(&self, x: f64) -> Res<Vec<(usize, f64)>> {
        // Antialiasing widens the kernel where the result is smaller.
        let stretch = if self.antialias { self.scale.min(1.0) } else { 1.0 };
        let a = self.cubic_a;
        let kernel = |d: f64| -> f64 {
            let d = d.abs();
            match self.mode {
                "linear" => (1.0 - d).max(0.0),
                _ if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
                _ if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
                _ => 0.0,
            }
        };
        let reach = match self.mode {
            "linear" => 1.0 / stretch,
            "cubic" => 2.0 / stretch,
            other => return fail(format!("resize mode `{other}`")),
        };
        // Scales that say nothing about the sizes reach far outside.
        if reach > MOST_REACH {
            return fail(format!("a resize by {} weighs more than {MOST_REACH} elements", self.scale));
        }
        let mut taps = vec![];
        let base = x.ceil() - 1.0;
        let mut offset = (-reach).floor() + 1.0;
        let last = 1.0 - offset;
        while offset <= last {
            let i = base + offset;
            let outside = i < 0.0 || i >= self.input as f64;
            let weight = if self.exclude_outside && outside { 0.0 } else { kernel((i - x) * stretch) };
            taps.push((self.clamped(i), weight));
            offset += 1.0;
        }
        let sum = sum(taps.iter().map(|t| t.1));
        if (self.antialias || self.exclude_outside) && sum != 0.0 {
            taps.iter_mut().for_each(|t| t.1 /= sum);
        }
        Ok(taps)
    }
}

/// The scale of axis `i` of a `resize`: 0 stands for the quotient of its sizes.
pub fn resize_scale(attrs: &Attrs, i: usize, input: usize, output: usize) -> f64 {
    match attrs.floats("scales")[i] {
        // Of an empty axis there is nothing to scale.
        0.0 if input == 0 => 1.0,
        0.0 => output as f64 / input as f64,
        scale => scale,
    }
}

/// One axis as the attributes say; `roi` is empty unless cropping.
fn axis<'a>(attrs: &'a Attrs, roi: &[f64], i: usize, input: usize, output: usize) -> Axis<'a> {
    Axis {
        mode: attrs.str("mode"),
        coordinate: attrs.str("coordinate"),
        nearest: attrs.str("nearest"),
        cubic_a: attrs.float("cubic_a"),
        exclude_outside: attrs.flag("exclude_outside"),
        antialias: attrs.flag("antialias"),
        input,
        output,
        scale: resize_scale(attrs, i, input, output),
        roi: if attrs.str("coordinate") == "tf_crop_and_resize" {
            (roi[i], roi[roi.len() / 2 + i])
        } else {
            (0.0, 1.0)
        },
    }
}

/// Where the elements along axis `i` of a `resize` come from: per result index the source indices and their weights, `None` where
/// the result is the extrapolation value. `roi`: starts then ends per axis, read only if cropping.
///
/// # Errors
/// An unknown mode.
pub fn resize_taps(attrs: &Attrs, roi: &[f64], i: usize, input: usize, output: usize) -> Res<Vec<Taps>> {
    let axis = axis(attrs, roi, i, input, output);
    (0..output)
        .map(|at| {
            let Some(x) = axis.source(at)? else { return Ok(None) };
            Ok(Some(if axis.mode == "nearest" { vec![(axis.nearest(x)?, 1.0)] } else { axis.weighted(x)? }))
        })
        .collect()
}

/// Evaluate `resize`.
pub(super) fn eval(attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let x = tensor(operands, 0)?;
    let rank = x.rank();
    let (shape, scales) = (shape_attr(attrs, "sizes")?, attrs.floats("scales"));
    let roi = optional(operands, 1)?.map_or(Ok(vec![]), floats)?;
    let coordinate = attrs.str("coordinate");
    let cropping = coordinate == "tf_crop_and_resize";
    if shape.len() != rank || scales.len() != rank || (cropping && roi.len() != 2 * rank) {
        return fail(format!("sizes {shape:?}, scales {scales:?}, roi {roi:?} of {}", x.ty()));
    }
    if count(&shape, 8)? == 0 {
        // Nothing is read, so any scale will do, also one of which no element is left along an axis.
        return Ok(match x.dtype() {
            DType::String => Tensor::from_strings(&shape, vec![]),
            dtype => Tensor::from_bytes(dtype, &shape, &[]),
        });
    }
    let axes: Vec<Axis<'_>> = (0..rank).map(|i| axis(attrs, &roi, i, x.shape()[i], shape[i])).collect();
    if axes.iter().any(|a| a.input == 0 || a.scale.is_nan() || a.scale <= 0.0) {
        return fail(format!(
            "resize of {} to {shape:?} by {scales:?}: a scale is not positive, or an axis without elements gets some",
            x.ty()
        ));
    }
    if attrs.str("mode") == "nearest" {
        return nearest(x, &axes, &shape, attrs.float("extrapolation"));
    }
    let (mut v, mut now) = (floats(x)?, x.shape().to_vec());
    for (i, axis) in axes.iter().enumerate() {
        if axis.scale == 1.0 && axis.input == axis.output && !cropping {
            continue;
        }
        let (from, from_step, _) = lines(&now, i);
        now[i] = axis.output;
        let (to, to_step, _) = lines(&now, i);
        let mut out = vec![0.0; count(&now, 8)?];
        for at in 0..axis.output {
            let taps = axis.source(at)?.map(|x| axis.weighted(x)).transpose()?;
            for (&f, &t) in from.iter().zip(&to) {
                out[t + at * to_step] = match &taps {
                    Some(taps) => sum(taps.iter().map(|&(k, w)| v[f + k * from_step] * w)),
                    None => attrs.float("extrapolation"),
                };
            }
        }
        v = out;
    }
    Ok(rounded(x.dtype(), &shape, v))
}

/// Into any number type: integers to the nearest within their range.
pub(super) fn rounded(dtype: DType, shape: &[usize], v: Vec<f64>) -> Tensor {
    if dtype.is_float() {
        return from_floats(dtype, shape, &v);
    }
    let ints: Vec<i128> =
        v.into_iter().map(|v| super::convert::float_to_int(dtype, v.round_ties_even())).collect();
    super::convert::from_ints(dtype, shape, &ints)
}

fn nearest(x: &Tensor, axes: &[Axis<'_>], shape: &[usize], extrapolation: f64) -> Res<Tensor> {
    let own = strides(x.shape());
    let mut at = vec![0usize];
    for (axis, &step) in axes.iter().zip(&own) {
        let map: Vec<usize> = (0..axis.output)
            .map(|i| axis.source(i)?.map_or(Ok(FILL), |x| axis.nearest(x)))
            .collect::<Res<_>>()?;
        at = at
            .iter()
            .flat_map(|&base| {
                map.iter()
                    .map(move |&m| if base == FILL || m == FILL { FILL } else { base + m * step as usize })
            })
            .collect();
    }
    let fill = match x.dtype() {
        DType::String => Tensor::from_strings(&[], vec![String::new()]),
        DType::Bool => Tensor::from_bools(&[], &[extrapolation != 0.0]),
        dtype => rounded(dtype, &[], vec![extrapolation]),
    };
    select(x, Some(&fill), shape, &at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dim, attrs};

    fn run(x: &[f32], size: i64, scale: f64, mode: &str, coordinate: &str, antialias: i64) -> Vec<f32> {
        let a = attrs! {
            sizes: vec![Dim::from(size)], scales: vec![scale], mode: mode, coordinate: coordinate, nearest: "round_prefer_floor",
            cubic_a: -0.75, exclude_outside: 0, antialias: antialias, extrapolation: 7.0,
        };
        let roi = if coordinate == "tf_crop_and_resize" { vec![0.5f32, 1.5] } else { vec![] };
        let operands =
            [Some(Tensor::new(&[x.len()], x.to_vec()).into()), Some(Tensor::new(&[roi.len()], roi).into())];
        eval(&a, &operands).unwrap().data::<f32>().to_vec()
    }

    #[test]
    fn no_elements() {
        for mode in ["nearest", "linear", "cubic"] {
            for coordinate in ["half_pixel", "align_corners", "asymmetric"] {
                // 0.5 of one element is none, and so is what a size of 0 asks for.
                assert_eq!(run(&[1.0], 0, 0.5, mode, coordinate, 0), []);
                assert_eq!(run(&[1.0, 2.0], 0, 0.0, mode, coordinate, 0), []);
                assert_eq!(run(&[], 0, 2.0, mode, coordinate, 0), []);
            }
        }
    }

    #[test]
    fn modes() {
        assert_eq!(run(&[1.0, 2.0], 4, 2.0, "nearest", "asymmetric", 0), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(run(&[1.0, 2.0], 4, 2.0, "linear", "half_pixel", 0), [1.0, 1.25, 1.75, 2.0]);
        assert_eq!(run(&[1.0, 2.0], 4, 0.0, "linear", "half_pixel", 0), [1.0, 1.25, 1.75, 2.0]);
        assert_eq!(
            run(&[1.0, 2.0, 3.0], 5, 5.0 / 3.0, "linear", "align_corners", 0),
            [1.0, 1.5, 2.0, 2.5, 3.0]
        );
        assert_eq!(run(&[1.0, 2.0, 3.0], 3, 1.0, "linear", "tf_crop_and_resize", 0), [2.0, 3.0, 7.0]);
        // Resize 11, as ONNX Runtime 1.32 has it: -0.5 and 1/3 would be other elements than the first.
        assert_eq!(run(&[1.0, 2.0, 3.0, 5.0], 1, 0.25, "cubic", "pytorch_half_pixel", 0), [1.0]);
        assert_eq!(run(&[1.0, 2.0, 4.0], 1, 0.6, "linear", "pytorch_half_pixel", 0), [1.0]);
        // Weights 3/8, 3/8, 1/8 of the four elements around, clamped at the ends and normalised.
        assert_eq!(run(&[1.0, 2.0, 3.0, 4.0], 2, 0.5, "linear", "half_pixel", 1), [1.625, 3.375]);
        assert_eq!(run(&[1.0, 1.0, 1.0, 1.0], 8, 2.0, "cubic", "half_pixel", 0), [1.0; 8]);
    }
}
