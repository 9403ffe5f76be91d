//! Pools and resizing.

use super::Call;
use super::contraction::{Geometry, spread};
use crate::emit::{Emit, Made, Refusal, product};
use egret_ir::{DType, Dim, Op, Tensor, ValueId, attrs, interp};

fn turned(e: &mut Emit, x: ValueId, layout: &str) -> Made {
    let rank = e.rank(x);
    if layout == "channels_first" {
        return Ok(x);
    }
    let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    e.transpose(x, &perm)
}

fn turned_back(e: &mut Emit, x: ValueId, layout: &str) -> Made {
    let rank = e.rank(x);
    if layout == "channels_first" {
        return Ok(x);
    }
    let perm: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    e.transpose(x, &perm)
}

/// `pool`: a maximum's gradient goes to where it is, a sum's to all of the window.
pub(super) fn pool(call: &mut Call) -> Result<(), Refusal> {
    let layout = call.attrs.str("layout");
    let (x, g) = (call.x(0), call.g()?);
    let (x, g) = (turned(call.e, x, layout)?, turned(call.e, g, layout)?);
    let gradient = match call.attrs.str("kind") {
        "max" => scattered(call, x, g)?,
        kind => {
            let mean = kind == "mean";
            shared(call, x, g, mean)?
        }
    };
    let gradient = turned_back(call.e, gradient, layout)?;
    call.give(0, gradient)
}

/// `max_pool_indices`.
pub(super) fn max_pool_indices(call: &mut Call) -> Result<(), Refusal> {
    let (x, g) = (call.x(0), call.g()?);
    let gradient = scattered(call, x, g)?;
    call.give(0, gradient)
}

/// The gradients of windows' maxima, each added where the first of them lies.
fn scattered(call: &mut Call, x: ValueId, g: ValueId) -> Made {
    let mut attrs = attrs! { column_major: 0i64 };
    for name in ["kernel", "strides", "dilations", "pads", "high_extra"] {
        attrs.0.insert(name, call.attrs.ints(name).to_vec().into());
    }
    let e = &mut *call.e;
    let places = e.b.emit_node(Op::MaxPoolIndices, attrs, &[Some(x)], vec![])?[1];
    let (shape, windows) = (e.shape(x), product(&e.shape(g)));
    let (places, g) = (e.reshape(places, vec![windows.clone()])?, e.reshape(g, vec![windows])?);
    let nothing = e.zeros(e.dtype(x), vec![product(&shape)])?;
    let sums = e.op(Op::ScatterElements, attrs! { axis: 0i64, reduction: "add" }, &[nothing, places, g])?;
    e.reshape(sums, shape)
}

/// The gradients of windows' sums (or means), each added to all elements of its window.
fn shared(call: &mut Call, x: ValueId, g: ValueId, mean: bool) -> Made {
    let (geometry, kernel) = (Geometry::of(call), call.attrs.ints("kernel").to_vec());
    let mut attrs = call.attrs.clone();
    attrs.0.insert("kind", "sum".into());
    attrs.0.insert("layout", "channels_first".into());
    let e = &mut *call.e;
    let (shape, dtype) = (e.shape(x), e.dtype(x));
    let image = shape[2..].to_vec();
    let g = if mean {
        let one = Dim::constant(1);
        let ones = e.full(dtype, [&[one.clone(), one], &image[..]].concat(), 1.0)?;
        let counts = e.op(Op::Pool, attrs, &[ones])?;
        e.div(g, counts)?
    } else {
        g
    };
    // Every plane is an image of one channel.
    let planes = shape[0].clone() * shape[1].clone();
    let flat = [&[planes, Dim::constant(1)], &e.shape(g)[2..]].concat();
    let g = e.reshape(g, flat)?;
    let filter: Vec<Dim> = [1, 1].iter().chain(&kernel).map(|&k| Dim::constant(k)).collect();
    let ones = e.full(dtype, filter, 1.0)?;
    let sums = spread(e, g, ones, &geometry, &image, 1, "channels_first")?;
    e.reshape(sums, shape)
}

/// `resize`: along each axis the transposed matrix of its weights.
pub(super) fn resize(call: &mut Call) -> Result<(), Refusal> {
    if call.wants(1) {
        return Err(Refusal::Reason("there is no rule for its region of interest".into()));
    }
    let needs = |what: &str| {
        Refusal::Reason(format!(
            "its {what} must be known: fix the dims of the model's inputs by --dim NAME=N"
        ))
    };
    let input = call.ty(0).const_dims().ok_or_else(|| needs("input size"))?;
    let output = call.e.ty(call.y()).const_dims().ok_or_else(|| needs("output size"))?;
    let roi = match call.optional(1) {
        Some(roi) if call.attrs.str("coordinate") == "tf_crop_and_resize" => {
            let roi = call.e.cast(roi, DType::F64)?;
            let known = call.e.b.graph.as_const(roi).ok_or_else(|| needs("region of interest"))?;
            known.data::<f64>().to_vec()
        }
        _ => vec![],
    };
    let mut g = call.g()?;
    let dtype = call.e.dtype(g);
    for axis in 0..input.len() {
        let (n, m) = (input[axis], output[axis]);
        let taps = interp::resize_taps(call.attrs, &roi, axis, n, m)
            .map_err(|e| Refusal::Reason(e.to_string()))?;
        let mut weights = vec![0.0; m * n];
        for (i, taps) in taps.iter().enumerate() {
            taps.iter().flatten().for_each(|&(j, w)| weights[i * n + j] += w);
        }
        let same = |(at, w): (usize, &f64)| *w == f64::from(u8::from(at / n == at % n));
        if n == m && weights.iter().enumerate().all(same) {
            continue;
        }
        let e = &mut *call.e;
        let matrix = match dtype {
            DType::F64 => Tensor::new(&[m, n], weights),
            _ => Tensor::new(&[m, n], weights.iter().map(|&w| w as f32).collect()),
        };
        let matrix = e.b.constant(matrix);
        let matrix = e.cast(matrix, dtype)?;
        let mut perm: Vec<usize> = (0..input.len()).collect();
        perm.swap(axis, input.len() - 1);
        let last = if input.len() == 1 {
            e.reshape(g, vec![Dim::constant(1), Dim::from(m)])?
        } else {
            e.transpose(g, &perm)?
        };
        let sums = e.matmul(last, matrix)?;
        g = if input.len() == 1 { e.reshape(sums, vec![Dim::from(n)])? } else { e.transpose(sums, &perm)? };
    }
    call.give(0, g)
}
