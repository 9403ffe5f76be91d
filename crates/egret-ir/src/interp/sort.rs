//! Order among elements: sorting, distinct elements, the best boxes that do not overlap.

use super::convert::{Nums, floats, ints};
use super::gather_scatter::slices;
use super::support::*;
use crate::families::Sort;
use crate::{Attrs, DType, Tensor, Value};
use std::cmp::Ordering;

/// Evaluate an operation of this family.
pub(super) fn eval(op: Sort, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Vec<Tensor>> {
    let x = tensor(operands, 0)?;
    match op {
        Sort::TopK => top_k(x, attrs),
        Sort::Unique => unique(x, attrs),
        Sort::Nms => Ok(vec![nms(attrs, operands)?]),
    }
}

/// Order of two numbers; NaN above all.
pub(super) fn order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The order of the elements at two flat indices.
pub(super) fn comparer(x: &Tensor) -> Res<Box<dyn Fn(usize, usize) -> Ordering>> {
    Ok(match x.dtype() {
        DType::String => {
            let v = x.strings().to_vec();
            Box::new(move |i, j| v[i].cmp(&v[j]))
        }
        _ => match Nums::of(x)? {
            Nums::F(v) => Box::new(move |i, j| order(v[i], v[j])),
            Nums::I(v) => Box::new(move |i, j| v[i].cmp(&v[j])),
        },
    })
}

fn top_k(x: &Tensor, attrs: &Attrs) -> Res<Vec<Tensor>> {
    let axis = axis(attrs, "axis", x.rank())?;
    let k = attrs
        .dim("k")
        .as_const()
        .ok_or_else(|| error(format!("`k` has an unbound symbol: {}", attrs.dim("k"))))?;
    let n = x.shape()[axis];
    let k = usize::try_from(k)
        .ok()
        .filter(|&k| k <= n)
        .ok_or_else(|| error(format!("k = {k} of an axis of {n}")))?;
    let mut shape = x.shape().to_vec();
    shape[axis] = k;
    let (starts, step, _) = lines(x.shape(), axis);
    let (out_starts, out_step, _) = lines(&shape, axis);
    let (mut pick, mut places) = (vec![0usize; count(&shape, 8)?], vec![0i64; count(&shape, 8)?]);
    let compare = comparer(x)?;
    let largest = attrs.flag("largest");
    for (&s, &o) in starts.iter().zip(&out_starts) {
        let mut line: Vec<usize> = (0..n).collect();
        line.sort_by(|&i, &j| {
            let found = compare(s + i * step, s + j * step);
            if largest { found.reverse() } else { found }
        });
        for (i, &at) in line[..k].iter().enumerate() {
            pick[o + i * out_step] = s + at * step;
            places[o + i * out_step] = at as i64;
        }
    }
    Ok(vec![select(x, None, &shape, &pick)?, Tensor::new(&shape, places)])
}

fn unique(x: &Tensor, attrs: &Attrs) -> Res<Vec<Tensor>> {
    let flat;
    let (x, axis) = match attrs.flag("flat") {
        true => {
            flat = reshaped(x, &[x.len()])?;
            (&flat, 0)
        }
        false => (x, axis(attrs, "axis", x.rank())?),
    };
    let n = x.shape()[axis];
    let compare = comparer(x)?;
    // Flat offsets of the elements of a slice, in row-major order.
    let own = strides(x.shape());
    let mut rest = x.shape().to_vec();
    rest[axis] = 1;
    let offsets = strided(&rest, 0, &own);
    let step = own[axis] as usize;
    let order = |i: usize, j: usize| {
        offsets
            .iter()
            .map(|&o| compare(o + i * step, o + j * step))
            .find(|c| *c != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
    };
    let mut sorted: Vec<usize> = (0..n).collect();
    sorted.sort_by(|&i, &j| order(i, j).then(i.cmp(&j)));
    // Groups of equal slices, each in ascending order of place.
    let mut groups: Vec<Vec<usize>> = vec![];
    for i in sorted {
        match groups.last_mut() {
            Some(g) if order(g[0], i) == Ordering::Equal => g.push(i),
            _ => groups.push(vec![i]),
        }
    }
    if !attrs.flag("sorted") {
        groups.sort_by_key(|g| g[0]);
    }
    let first: Vec<usize> = groups.iter().map(|g| g[0]).collect();
    let mut inverse = vec![0i64; n];
    for (k, g) in groups.iter().enumerate() {
        g.iter().for_each(|&i| inverse[i] = k as i64);
    }
    let values = slices(x, axis, &first)?;
    let k = groups.len();
    Ok(vec![
        values,
        Tensor::new(&[k], first.iter().map(|&i| i as i64).collect()),
        Tensor::new(&[n], inverse),
        Tensor::new(&[k], groups.iter().map(|g| g.len() as i64).collect()),
    ])
}

/// Least and greatest x and y.
type Corners = [f64; 4];

fn corners(b: &[f64], center: bool) -> Corners {
    if center {
        [b[0] - b[2] / 2.0, b[1] - b[3] / 2.0, b[0] + b[2] / 2.0, b[1] + b[3] / 2.0]
    } else {
        [b[1].min(b[3]), b[0].min(b[2]), b[1].max(b[3]), b[0].max(b[2])]
    }
}

/// Intersection over union; 0 of degenerate boxes.
fn overlap(a: &Corners, b: &Corners) -> f64 {
    let (w, h) = (a[2].min(b[2]) - a[0].max(b[0]), a[3].min(b[3]) - a[1].max(b[1]));
    let area = |c: &Corners| (c[2] - c[0]) * (c[3] - c[1]);
    if w <= 0.0 || h <= 0.0 || area(a) <= 0.0 || area(b) <= 0.0 {
        return 0.0;
    }
    w * h / (area(a) + area(b) - w * h)
}

fn nms(attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let (boxes, scores) = (tensor(operands, 0)?, tensor(operands, 1)?);
    let (&[batches, n, 4], &[score_batches, classes, score_n]) = (boxes.shape(), scores.shape()) else {
        return fail(format!("nms of {} and {}", boxes.ty(), scores.ty()));
    };
    if (batches, n) != (score_batches, score_n) {
        return fail(format!("nms of {} and {}", boxes.ty(), scores.ty()));
    }
    let scalar = |i: usize| -> Res<Option<f64>> {
        optional(operands, i)?.map_or(Ok(None), |t| Ok(floats(t)?.first().copied()))
    };
    let most = optional(operands, 2)?.map_or(Ok(0), |t| Ok(ints(t)?.first().copied().unwrap_or(0)))?;
    let (limit, least) = (scalar(3)?.unwrap_or(0.0), scalar(4)?);
    let (boxes, scores) = (floats(boxes)?, floats(scores)?);
    let center = attrs.flag("center_point_box");
    let mut out = vec![];
    for b in 0..batches {
        let all: Vec<Corners> =
            boxes[b * n * 4..(b + 1) * n * 4].chunks(4).map(|c| corners(c, center)).collect();
        for class in 0..classes {
            let scores = &scores[(b * classes + class) * n..][..n];
            let mut order: Vec<usize> = (0..n).filter(|&i| least.is_none_or(|t| scores[i] > t)).collect();
            order.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]).then(i.cmp(&j)));
            let mut chosen: Vec<usize> = vec![];
            for i in order {
                if chosen.len() as i64 >= most {
                    break;
                }
                if chosen.iter().all(|&c| overlap(&all[i], &all[c]) <= limit) {
                    chosen.push(i);
                    out.extend([b as i64, class as i64, i as i64]);
                }
            }
        }
    }
    Ok(Tensor::new(&[out.len() / 3, 3], out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dim, attrs};

    #[test]
    fn distinct() {
        let x: Value = Tensor::new(&[5], vec![2i32, 1, 1, 3, 2]).into();
        let u = eval(Sort::Unique, &attrs! { axis: 0, flat: 1, sorted: 0 }, &[Some(x.clone())]).unwrap();
        assert_eq!(u[0].data::<i32>(), [2, 1, 3]);
        let u = eval(Sort::Unique, &attrs! { axis: 0, flat: 1, sorted: 1 }, &[Some(x)]).unwrap();
        assert_eq!(u[0].data::<i32>(), [1, 2, 3]);
        assert_eq!(u[1].data::<i64>(), [1, 0, 3]);
        assert_eq!(u[2].data::<i64>(), [1, 0, 0, 2, 1]);
        assert_eq!(u[3].data::<i64>(), [2, 2, 1]);
        let m: Value = Tensor::new(&[3, 2], vec![1i8, 0, 1, 0, 0, 9]).into();
        let u = eval(Sort::Unique, &attrs! { axis: 0, flat: 0, sorted: 1 }, &[Some(m)]).unwrap();
        assert_eq!((u[0].shape(), u[0].data::<i8>()), (&[2, 2][..], &[0i8, 9, 1, 0][..]));
    }

    #[test]
    fn largest() {
        let x: Value = Tensor::new(&[4], vec![1i8, 7, 7, -3]).into();
        let t = eval(Sort::TopK, &attrs! { k: Dim::from(2i64), axis: 0, largest: 1 }, &[Some(x)]).unwrap();
        assert_eq!((t[0].data::<i8>(), t[1].data::<i64>()), (&[7i8, 7][..], &[1i64, 2][..]));
    }

    #[test]
    fn overlapping_boxes_go() {
        let boxes =
            Tensor::new(&[1, 3, 4], vec![0f32, 0.0, 1.0, 1.0, 0.0, 0.1, 1.0, 1.1, 0.0, 10.0, 1.0, 11.0]);
        let scores = Tensor::new(&[1, 1, 3], vec![0.9f32, 0.95, 0.5]);
        let operands = [
            Some(boxes.into()),
            Some(scores.into()),
            Some(Tensor::new(&[1], vec![3i64]).into()),
            Some(Tensor::new(&[1], vec![0.5f32]).into()),
            None,
        ];
        assert_eq!(
            eval(Sort::Nms, &attrs! { center_point_box: 0 }, &operands).unwrap()[0].data::<i64>(),
            [0, 0, 1, 0, 0, 2]
        );
    }
}
