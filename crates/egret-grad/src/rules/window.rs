//! Pools and resizing.

use super::Call;
use super::walk::{Geometry, channels_first, dilated, spatial, spread};
use crate::emit::{Emit, Made, Refusal, product};
use egret_ir::{Attrs, DType, Dim, Op, Tensor, ValueId, attrs, interp};

/// Channels as the last axis.
fn channels_last(e: &mut Emit, x: ValueId, layout: &str) -> Made {
    let rank = e.rank(x);
    if layout == "channels_last" {
        return Ok(x);
    }
    let perm: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    e.transpose(x, &perm)
}

/// What has channels as the last axis, as a layout has them.
fn channels_back(e: &mut Emit, x: ValueId, layout: &str) -> Made {
    let rank = e.rank(x);
    if layout == "channels_last" {
        return Ok(x);
    }
    let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    e.transpose(x, &perm)
}

/// `pool`: a maximum's gradient goes to where it is, a sum's to all of the window.
pub(super) fn pool(call: &mut Call) -> Result<(), Refusal> {
    let layout = call.attrs.str("layout");
    let (x, g) = (call.x(0), call.g()?);
    let kind = call.attrs.str("kind");
    if kind != "max" {
        let gradient = shared(call, x, g, kind == "mean")?;
        return call.give(0, gradient);
    }
    let gradient = maxima(call, x, g, layout)?;
    call.give(0, gradient)
}

/// The gradient of a pool of maxima: [`scattered`] with channels last, as convolutions have them around it, which are one more axis of
/// windows of one element.
fn maxima(call: &mut Call, x: ValueId, g: ValueId, layout: &str) -> Made {
    if call.attrs.ints("kernel").is_empty() {
        // Windows of one element, as there are no axes that they could reach along.
        return Ok(g);
    }
    let mut attrs = attrs! {};
    for (name, ends) in [("kernel", 1), ("strides", 1), ("dilations", 1), ("pads", 2), ("high_extra", 1)] {
        let given = call.attrs.ints(name);
        let channels = i64::from(ends == 1 && name != "high_extra");
        let each = given.chunks(given.len() / ends).flat_map(|c| c.iter().copied().chain([channels]));
        attrs.0.insert(name, each.collect::<Vec<i64>>().into());
    }
    let e = &mut *call.e;
    let (x, g) = (channels_last(e, x, layout)?, channels_last(e, g, layout)?);
    let one_channel = |shape: Vec<Dim>| [&[shape[0].clone(), Dim::constant(1)], &shape[1..]].concat();
    let shape = e.shape(x);
    let image = e.reshape(x, one_channel(shape.clone()))?;
    let windows = one_channel(e.shape(g));
    let g = e.reshape(g, windows)?;
    let sums = scattered(e, attrs, image, g)?;
    let sums = e.reshape(sums, shape)?;
    channels_back(e, sums, layout)
}

/// `max_pool_indices`.
pub(super) fn max_pool_indices(call: &mut Call) -> Result<(), Refusal> {
    let (x, g) = (call.x(0), call.g()?);
    let gradient = scattered(call.e, call.attrs.clone(), x, g)?;
    call.give(0, gradient)
}

/// The gradients of windows' maxima, each added where the first of them lies.
fn scattered(e: &mut Emit, mut attrs: Attrs, x: ValueId, g: ValueId) -> Made {
    attrs.0.insert("column_major", 0i64.into());
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
    let (attrs, layout) = (call.attrs.clone(), call.attrs.str("layout"));
    let e = &mut *call.e;
    let (shape, dtype) = (e.shape(x), e.dtype(x));
    let (image, positions) = (spatial(e, x, layout), spatial(e, g, layout));
    let g = if mean {
        let mut sums = attrs.clone();
        sums.0.insert("kind", "sum".into());
        let one = || Dim::constant(1);
        let plane = if layout == "channels_first" {
            [&[one(), one()], &image[..]].concat()
        } else {
            [&[one()], &image[..], &[one()]].concat()
        };
        let ones = e.full(dtype, plane, 1.0)?;
        let counts = e.op(Op::Pool, sums, &[ones])?;
        e.div(g, counts)?
    } else {
        g
    };
    let whole = image.iter().zip(&kernel).all(|(d, &k)| *d == Dim::constant(k));
    let still = geometry.dilations.iter().all(|&d| d == 1) && geometry.low.iter().all(|&l| l == 0);
    if whole && still && positions.iter().all(|p| *p == Dim::constant(1)) {
        return e.broadcast(g, shape);
    }
    // An element has the sum of the windows that it is in.
    if let Some(pads) = geometry.pads_back(&kernel, &positions, &image) {
        let n = kernel.len();
        let g = dilated(e, g, &geometry.strides, layout)?;
        let back = attrs! {
            kind: "sum", kernel: kernel, strides: vec![1i64; n], dilations: geometry.dilations.clone(), pads: pads,
            high_extra: vec![0i64; n], layout: layout,
        };
        return e.op(Op::Pool, back, &[g]);
    }
    // Every plane is an image of one channel.
    let g = channels_first(e, g, layout)?;
    let lead = e.shape(g)[..2].to_vec();
    let flat = [&[product(&lead), Dim::constant(1)], &positions[..]].concat();
    let g = e.reshape(g, flat)?;
    let filter: Vec<Dim> = [1, 1].iter().chain(&kernel).map(|&k| Dim::constant(k)).collect();
    let ones = e.full(dtype, filter, 1.0)?;
    let sums = spread(e, g, ones, &geometry, &image, 1, "channels_first")?;
    let sums = e.reshape(sums, [lead, image].concat())?;
    if layout == "channels_first" { Ok(sums) } else { channels_last(e, sums, "channels_first") }
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
