//! Windows: elements of an input that are changed together.

use crate::feature::Feature;
use crate::numbers::spelt;
use crate::picture::places;
use egret::compare::unravel;
use egret::{Error, Result};

/// Elements of an input that are set to the baseline together.
pub(crate) struct Window {
    pub feature: usize,
    pub elements: Vec<usize>,
}

/// How far one window is from the next.
pub(crate) enum Step<'a> {
    /// As given, else half of a usual window, and 1 for a given one.
    Overlapping(Option<&'a [usize]>),
    /// Each where the one before ends: every element lies in one window.
    Apart,
}

/// Windows over the last axes of each input, and a line about those of each.
pub(crate) fn windows(
    features: &[Feature],
    window: Option<&[usize]>,
    step: &Step,
) -> Result<(Vec<Window>, Vec<String>)> {
    let (mut windows, mut notes) = (vec![], vec![]);
    for (i, f) in features.iter().enumerate() {
        let (size, stride) = sizes(f, window, step)?;
        let own = cover(&f.shape, &size, &stride);
        let (count, size, stride) = (own.len(), by(&size), by(&stride));
        notes.push(match step {
            Step::Apart => format!("{count} segments of {size} of `{}`", f.name),
            Step::Overlapping(_) => format!("{count} windows of {size} over `{}`, stride {stride}", f.name),
        });
        windows.extend(own.into_iter().map(|elements| Window { feature: i, elements }));
    }
    Ok((windows, notes))
}

impl Window {
    /// `image[0,0,4..8,12..16]`; `..` is a whole axis.
    pub(crate) fn spelt(&self, f: &Feature) -> String {
        let mut ranges: Vec<(usize, usize)> = f.shape.iter().map(|&d| (d, 0)).collect();
        for &e in &self.elements {
            for (range, at) in ranges.iter_mut().zip(unravel(e, &f.shape)) {
                *range = (range.0.min(at), range.1.max(at + 1));
            }
        }
        let single = ranges.iter().all(|(low, high)| low + 1 == *high);
        if single {
            return spelt(&f.name, &ranges.iter().map(|r| r.0).collect::<Vec<_>>());
        }
        let axis = |(&(low, high), &dim): (&(usize, usize), &usize)| match high - low {
            1 => low.to_string(),
            n if n == dim => "..".into(),
            _ => format!("{low}..{high}"),
        };
        let list: Vec<String> = ranges.iter().zip(&f.shape).map(axis).collect();
        format!("{}[{}]", f.name, list.join(","))
    }
}

/// `4x4`
fn by(sizes: &[usize]) -> String {
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// The size and the stride of the windows over an input: of an image an eighth of its sides in steps of half of that, else 1.
pub(crate) fn sizes(
    f: &Feature,
    window: Option<&[usize]>,
    step: &Step,
) -> Result<(Vec<usize>, Vec<usize>)> {
    let rank = f.shape.len();
    let size = match window {
        Some(size) => size.to_vec(),
        None => match places(&f.shape).filter(|p| p.len() >= 2 && p.last() == Some(&(rank - 1))) {
            Some(places) => places.iter().map(|&axis| f.shape[axis].div_ceil(8).max(1)).collect(),
            None => vec![1; rank.min(1)],
        },
    };
    if size.len() > rank {
        return Err(Error::user(format!(
            "the window {} has more axes than the input `{}`, {:?}",
            by(&size),
            f.name,
            f.shape
        )));
    }
    let last = &f.shape[rank - size.len()..];
    if size.iter().zip(last).any(|(w, d)| w > d) {
        return Err(Error::user(format!(
            "the window {} is larger than the input `{}`, whose last axes are {}",
            by(&size),
            f.name,
            by(last)
        )));
    }
    let stride = match step {
        Step::Apart => return Ok((size.clone(), size)),
        Step::Overlapping(stride) => *stride,
    };
    let step = match stride {
        Some([one]) => vec![*one; size.len()],
        Some(step) if step.len() == size.len() => step.to_vec(),
        Some(step) => {
            return Err(Error::user(format!(
                "the stride {} has other axes than the window {}",
                by(step),
                by(&size)
            )));
        }
        None if window.is_some() => vec![1; size.len()],
        None => size.iter().map(|w| w.div_ceil(2)).collect(),
    };
    if step.iter().zip(&size).any(|(s, w)| s > w) {
        return Err(Error::user(format!(
            "the stride {} is larger than the window {}: what lies between would have no attribution",
            by(&step),
            by(&size)
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

    #[test]
    fn windows_are_named_by_their_ranges() {
        let data = vec![0.0; 36];
        let f = Feature {
            position: 0,
            value: egret::ir::ValueId(0),
            name: "x".into(),
            dtype: egret::ir::DType::F32,
            shape: vec![1, 2, 6, 3],
            baseline: data.clone(),
            data,
        };
        let (all, notes) = windows(std::slice::from_ref(&f), Some(&[4, 1]), &Step::Apart).unwrap();
        assert_eq!(notes, ["6 segments of 4x1 of `x`"]);
        let names: Vec<String> = all.iter().map(|w| w.spelt(&f)).collect();
        assert_eq!(names[..4], ["x[0,..,0..4,0]", "x[0,..,0..4,1]", "x[0,..,0..4,2]", "x[0,..,4..6,0]"]);
        let mut elements: Vec<usize> = all.iter().flat_map(|w| w.elements.clone()).collect();
        elements.sort_unstable();
        assert_eq!(elements, (0..36).collect::<Vec<_>>());
        assert_eq!(Window { feature: 0, elements: vec![1] }.spelt(&f), "x[0,0,0,1]");
    }
}
