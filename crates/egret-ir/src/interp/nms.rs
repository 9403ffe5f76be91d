//! Non-maximum suppression.

use super::convert::{floats, ints};
use super::support::*;
use crate::{Attrs, Tensor, Value};

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

/// Evaluate `nms`.
pub(super) fn eval(attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
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
    use crate::attrs;

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
            eval(&attrs! { center_point_box: 0 }, &operands).unwrap().data::<i64>(),
            [0, 0, 1, 0, 0, 2]
        );
    }
}
