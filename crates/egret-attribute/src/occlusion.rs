//! Occlusion: what the score loses when a window of an input is set to the baseline.

use crate::batch::{Batched, batched};
use crate::explanation::Explanation;
use crate::feature::Feature;
use crate::numbers::to_f64;
use crate::picture::places;
use crate::program::{Model, only, score};
use crate::target::{Elements, Wanted};
use egret::ir::{Tensor, Value};
use egret::{Error, Result};

/// A window: the elements of an input that are set to the baseline together.
struct Window {
    feature: usize,
    elements: Vec<usize>,
}

/// Attributions by windows over the last axes of each input.
pub(crate) fn attribute(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    window: Option<&[usize]>,
    stride: Option<&[usize]>,
) -> Result<Explanation> {
    let mut windows = vec![];
    let mut notes = vec![];
    for (i, f) in features.iter().enumerate() {
        let (size, step) = sizes(f, window, stride)?;
        let own = cover(&f.shape, &size, &step);
        let spell = |list: &[usize]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        notes.push(format!(
            "{} windows of {} over `{}`, stride {}",
            own.len(),
            spell(&size),
            f.name,
            spell(&step)
        ));
        windows.extend(own.into_iter().map(|elements| Window { feature: i, elements }));
    }
    let several = match batched(model, wanted, features, windows.len() + 1)? {
        Ok(batch) => in_batches(model, wanted, features, &windows, &batch)?,
        Err(why) => Err(why),
    };
    let (elements, scores) = match several {
        Ok((elements, scores, runs)) => {
            notes.push(format!("run in {runs} batch{}", if runs == 1 { "" } else { "es" }));
            (elements, scores)
        }
        Err(why) => {
            notes.push(format!("run one by one: {why}"));
            one_by_one(model, wanted, features, &windows)?
        }
    };
    let mut sums: Vec<Vec<f64>> = features.iter().map(|f| vec![0.0; f.data.len()]).collect();
    let mut counts = sums.clone();
    for (w, s) in windows.iter().zip(&scores) {
        for &e in &w.elements {
            sums[w.feature][e] += elements.target.score - s;
            counts[w.feature][e] += 1.0;
        }
    }
    let mean = |(s, c): (Vec<f64>, &Vec<f64>)| s.iter().zip(c).map(|(s, c)| s / c).collect::<Vec<f64>>();
    let maps =
        features.iter().zip(sums.into_iter().zip(&counts).map(mean)).map(|(f, v)| f.map(v)).collect();
    Ok(Explanation { target: elements.target, maps, completeness: None, notes })
}

/// The size and the stride of the windows over an input: of an image an eighth of its sides in steps of half of that, else 1.
fn sizes(
    f: &Feature,
    window: Option<&[usize]>,
    stride: Option<&[usize]>,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let rank = f.shape.len();
    let size = match window {
        Some(size) => size.to_vec(),
        None => match places(&f.shape).filter(|p| p.len() >= 2 && p.last() == Some(&(rank - 1))) {
            Some(places) => places.iter().map(|&axis| f.shape[axis].div_ceil(8).max(1)).collect(),
            None => vec![1; rank.min(1)],
        },
    };
    let spell = |list: &[usize]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
    if size.len() > rank {
        return Err(Error::user(format!(
            "the window {} has more axes than the input `{}`, {:?}",
            spell(&size),
            f.name,
            f.shape
        )));
    }
    let last = &f.shape[rank - size.len()..];
    if size.iter().zip(last).any(|(w, d)| w > d) {
        return Err(Error::user(format!(
            "the window {} is larger than the input `{}`, whose last axes are {}",
            spell(&size),
            f.name,
            spell(last)
        )));
    }
    let step = match stride {
        Some([one]) => vec![*one; size.len()],
        Some(step) if step.len() == size.len() => step.to_vec(),
        Some(step) => {
            return Err(Error::user(format!(
                "the stride {} has other axes than the window {}",
                spell(step),
                spell(&size)
            )));
        }
        None if window.is_some() => vec![1; size.len()],
        None => size.iter().map(|w| w.div_ceil(2)).collect(),
    };
    if step.iter().zip(&size).any(|(s, w)| s > w) {
        return Err(Error::user(format!(
            "the stride {} is larger than the window {}: what lies between would have no attribution",
            spell(&step),
            spell(&size)
        )));
    }
    Ok((size, step))
}

/// The elements of every window; the last ones of a row end with the axis.
fn cover(shape: &[usize], size: &[usize], step: &[usize]) -> Vec<Vec<usize>> {
    let last = &shape[shape.len() - size.len()..];
    let block: usize = last.iter().product();
    let blocks = shape.iter().product::<usize>() / block.max(1);
    // Cells of the block, an axis at a time.
    let mut cells: Vec<Vec<usize>> = vec![vec![0]];
    for ((&dim, &w), &s) in last.iter().zip(size).zip(step) {
        let count = (dim - w).div_ceil(s) + 1;
        let ranges = (0..count).map(|i| i * s..(i * s + w).min(dim));
        let ranges: Vec<_> = ranges.collect();
        let widen = |before: &Vec<usize>| -> Vec<Vec<usize>> {
            let one = |r: &std::ops::Range<usize>| {
                before.iter().flat_map(|c| r.clone().map(move |i| c * dim + i)).collect()
            };
            ranges.iter().map(one).collect()
        };
        cells = cells.iter().flat_map(widen).collect();
    }
    let all = |c: &Vec<usize>| (0..blocks).flat_map(|b| c.iter().map(move |i| b * block + i)).collect();
    cells.iter().map(all).collect()
}

/// The features of an input without a window.
fn without(f: &Feature, w: &Window) -> Vec<f64> {
    let mut data = f.data.clone();
    w.elements.iter().for_each(|&e| data[e] = f.baseline[e]);
    data
}

fn the_tensor(outputs: &[Value]) -> Result<&Tensor> {
    outputs.first().and_then(Value::as_tensor).ok_or_else(|| Error::internal("the target is no tensor"))
}

/// A run for the inputs as they are, and one for each window.
fn one_by_one(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    windows: &[Window],
) -> Result<(Elements, Vec<f64>)> {
    let executable = model.ready(only(&model.graph, wanted.value), &model.bound)?;
    let whole = executable.run(&model.inputs)?;
    let elements = wanted.elements(the_tensor(&whole)?.shape(), &to_f64(&whole[0])?)?;
    let one = |w: &Window| {
        let f = &features[w.feature];
        let mut inputs = model.inputs.clone();
        inputs[f.position] = Tensor::from_f64s(f.dtype, &f.shape, without(f, w)).into();
        let out = to_f64(&executable.run(&inputs)?[0])?;
        match elements.at.iter().all(|&i| i < out.len()) {
            true => Ok(score(&out, &elements.at)),
            false => Err(Error::unsupported("the size of the target follows from the inputs' values")),
        }
    };
    let scores = windows.iter().map(one).collect::<Result<_>>()?;
    Ok((elements, scores))
}

/// As [`one_by_one`] in batches, and their number. The inputs as they are run alone and again beside windows: a score that differs
/// then says that samples of a batch are not independent.
#[allow(clippy::type_complexity, reason = "scores or why there are none")]
fn in_batches(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    windows: &[Window],
    batch: &Batched,
) -> Result<std::result::Result<(Elements, Vec<f64>, usize), String>> {
    let copies = batch.copies;
    let whole: Vec<Value> =
        (0..model.inputs.len()).map(|i| copied(model, batch, i)).collect::<Result<_>>()?;
    let outputs = batch.executable.run(&whole)?;
    let mut shape = the_tensor(&outputs)?.shape().to_vec();
    shape[0] /= copies;
    let each: usize = shape.iter().product();
    let elements = wanted.elements(&shape, &to_f64(&outputs[0])?[..each])?;
    let mut scores = vec![];
    // The first copy of the first batch stays whole.
    let jobs: Vec<Option<&Window>> = std::iter::once(None).chain(windows.iter().map(Some)).collect();
    for chunk in jobs.chunks(copies) {
        let mut inputs = whole.clone();
        for (i, f) in features.iter().enumerate() {
            let mut data = Vec::with_capacity(copies * f.data.len());
            for job in chunk.iter().copied().chain(std::iter::repeat(None)).take(copies) {
                match job.filter(|w| w.feature == i) {
                    Some(w) => data.extend(without(f, w)),
                    None => data.extend(&f.data),
                }
            }
            let mut shape = f.shape.clone();
            shape[0] *= copies;
            inputs[f.position] = Tensor::from_f64s(f.dtype, &shape, data).into();
        }
        let out = to_f64(&batch.executable.run(&inputs)?[0])?;
        scores.extend((0..chunk.len()).map(|k| score(&out[k * each..(k + 1) * each], &elements.at)));
    }
    let again = scores.remove(0);
    let target = &elements.target;
    if (again - target.score).abs() > 1e-5 * (1.0 + target.score.abs()) {
        return Ok(Err(format!(
            "the samples of a batch are not independent ({} is {} alone and {again} beside others)",
            target.spelt(),
            target.score
        )));
    }
    Ok(Ok((elements, scores, jobs.len().div_ceil(copies))))
}

/// An input as often as the batch holds it.
fn copied(model: &Model, batch: &Batched, i: usize) -> Result<Value> {
    let value = &model.inputs[i];
    let Some(tensor) = value.as_tensor().filter(|_| batch.copied[i]) else { return Ok(value.clone()) };
    let mut shape = tensor.shape().to_vec();
    shape[0] *= batch.copies;
    if tensor.strings().is_empty() {
        return Ok(Tensor::from_bytes(tensor.dtype(), &shape, &tensor.bytes().repeat(batch.copies)).into());
    }
    let texts = std::iter::repeat_n(tensor.strings(), batch.copies).flatten().cloned().collect();
    Ok(Tensor::from_strings(&shape, texts).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_every_element() {
        assert_eq!(cover(&[2, 3], &[1], &[1]), [[0, 3], [1, 4], [2, 5]]);
        // The last window ends with the axis.
        assert_eq!(cover(&[5], &[2], &[2]), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(cover(&[1, 3, 3], &[2, 2], &[1, 1])[1], [1, 2, 4, 5]);
        assert_eq!(cover(&[2], &[], &[]), [[0, 1]]);
    }
}
