//! Grad-CAM and Grad-CAM++: where the feature maps of a layer that speak for the target are active.
//!
//! Both add up the feature maps A by a weight for each channel, and keep what is positive. Grad-CAM (Selvaraju 2017) takes the mean of the channel's
//! gradients g. Grad-CAM++ (Chattopadhay 2018) takes the sum over the places of max(g, 0) g^2 / (2 g^2 + g^3 sum A): the exponential
//! of the score has the derivatives g, g^2 and g^3 but for a factor. An object that is seen at few places then counts as one that is seen at many.

use crate::explanation::Explanation;
use crate::feature::Feature;
use crate::layer::{downstream, layer};
use crate::map::Map;
use crate::numbers::to_f64;
use crate::picture::places;
use crate::program::{Gradients, Model};
use crate::target::Wanted;
use egret::ir::{Value, ValueId};
use egret::{Error, Result};

/// The map of a layer, enlarged to every input that has as many axes; the layer's own where none has.
pub(crate) fn attribute(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    name: Option<&str>,
    plus: bool,
) -> Result<Explanation> {
    let on: Vec<ValueId> = features.iter().map(|f| f.value).collect();
    let layer = layer(&model.graph, wanted.value, &on, name, plus)?;
    let program = Gradients::new(model, wanted.value, &[layer.value], &[layer.value])?;
    let output = program.run(model.inputs.clone(), &[])?.output;
    let elements = wanted.elements(&program.shape, &output)?;
    let point = program.run(model.inputs.clone(), &elements.at)?;
    let activation = point.further.first().and_then(Value::as_tensor);
    let activation = activation.ok_or_else(|| Error::internal("the layer gave no tensor"))?;
    let shape = activation.shape().to_vec();
    let activations = to_f64(&activation.clone().into())?;
    let weigh = if plus { weight_plus } else { weight };
    let cam = weighed(&shape, &activations, &point.gradients[0], weigh);
    let mut notes = vec![format!("layer `{}`, {}", layer.name, activation.ty())];
    if plus && activations.iter().any(|a| *a < 0.0) {
        notes.push("it has activations below 0, for which Grad-CAM++ is not made; name one behind a ReLU by --layer".into());
    }
    let mut maps = vec![];
    for f in features {
        let seen = downstream(&model.graph, &[f.value])?[layer.value.0 as usize];
        let Some(places) = places(&f.shape).filter(|p| seen && p.len() + 2 == shape.len()) else {
            continue;
        };
        if f.shape[0] != shape[0] {
            continue;
        }
        let to: Vec<usize> = places.iter().map(|&axis| f.shape[axis]).collect();
        let values = enlarged(&cam, shape[0], &shape[2..], &to);
        maps.push(Map { shape: [&[shape[0], 1][..], &to].concat(), ..f.map(values) });
    }
    if maps.is_empty() {
        notes.push("no input has the layer's axes: the map is the layer's own".into());
        let shape = [&[shape[0], 1][..], &shape[2..]].concat();
        maps.push(Map { name: layer.name, shape, values: cam, input: None });
    }
    Ok(Explanation { notes, ..Explanation::new(elements.target, maps) })
}

/// The weight of a channel, from its activations and gradients.
type Weigh = fn(&[f64], &[f64]) -> f64;

/// That of Grad-CAM.
fn weight(_: &[f64], gradient: &[f64]) -> f64 {
    gradient.iter().sum::<f64>() / gradient.len() as f64
}

/// That of Grad-CAM++.
fn weight_plus(activation: &[f64], gradient: &[f64]) -> f64 {
    let sum: f64 = activation.iter().sum();
    let one = |g: f64| match 2.0 * g.powi(2) + g.powi(3) * sum {
        0.0 => 0.0,
        below => g.max(0.0) * g.powi(2) / below,
    };
    gradient.iter().map(|&g| one(g)).sum()
}

/// At each place the sum over channels of activation and weight of the channel, where it is positive.
fn weighed(shape: &[usize], activation: &[f64], gradient: &[f64], weigh: Weigh) -> Vec<f64> {
    let (samples, channels) = (shape[0], shape[1]);
    let places: usize = shape[2..].iter().product();
    let mut out = vec![0.0; samples * places];
    for sample in 0..samples {
        for channel in 0..channels {
            let from = (sample * channels + channel) * places;
            let by = weigh(&activation[from..from + places], &gradient[from..from + places]);
            for place in 0..places {
                out[sample * places + place] += by * activation[from + place];
            }
        }
    }
    out.into_iter().map(|v| v.max(0.0)).collect()
}

/// Linear interpolation along every axis, pixels taken as areas (ONNX's `half_pixel`).
fn enlarged(data: &[f64], samples: usize, from: &[usize], to: &[usize]) -> Vec<f64> {
    let mut data = data.to_vec();
    let mut shape = from.to_vec();
    for axis in 0..from.len() {
        let (old, new) = (from[axis], to[axis]);
        let outer = samples * shape[..axis].iter().product::<usize>();
        let inner: usize = shape[axis + 1..].iter().product();
        let mut out = Vec::with_capacity(outer * new * inner);
        for o in 0..outer {
            for i in 0..new {
                let at = ((i as f64 + 0.5) * old as f64 / new as f64 - 0.5).clamp(0.0, (old - 1) as f64);
                let low = at as usize;
                let (high, part) = ((low + 1).min(old - 1), at - low as f64);
                let row = |r: usize| &data[(o * old + r) * inner..][..inner];
                out.extend(row(low).iter().zip(row(high)).map(|(l, h)| l + part * (h - l)));
            }
        }
        data = out;
        shape[axis] = new;
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_channels_by_hand() {
        // Channel 0 has mean gradient 2, channel 1 has -1.
        let activation = [1.0, 0.0, 3.0, 4.0, 5.0, 6.0];
        let gradient = [1.0, 2.0, 3.0, -3.0, 0.0, 0.0];
        assert_eq!(weighed(&[1, 2, 3], &activation, &gradient, weight), [0.0, 0.0, 0.0]);
        let activation = [4.0, 0.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(weighed(&[1, 2, 3], &activation, &gradient, weight), [4.0, 0.0, 0.0]);
    }

    #[test]
    fn grad_cam_plus_by_hand() {
        // The sum of A is 4: 1 * 1 / (2 + 4) and 4 * 2 / (8 + 32); negative gradients and zeros add nothing.
        let weight = weight_plus(&[1.0, 0.0, 3.0, 0.0], &[1.0, 2.0, -1.0, 0.0]);
        assert!((weight - (1.0 / 6.0 + 0.2)).abs() < 1e-15, "{weight}");
        let map = weighed(&[1, 1, 4], &[1.0, 0.0, 3.0, 0.0], &[1.0, 2.0, -1.0, 0.0], weight_plus);
        assert!((map[2] - 1.1).abs() < 1e-14 && map[1] == 0.0, "{map:?}");
    }

    #[test]
    fn enlarging_interpolates_between_centres() {
        assert_eq!(enlarged(&[0.0, 4.0], 1, &[2], &[4]), [0.0, 1.0, 3.0, 4.0]);
        let square = enlarged(&[0.0, 4.0, 8.0, 12.0], 1, &[2, 2], &[4, 4]);
        assert_eq!(square[..4], [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(square[4..8], [2.0, 3.0, 5.0, 6.0]);
        assert_eq!(enlarged(&[1.0, 2.0], 2, &[1], &[3]), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    }
}
