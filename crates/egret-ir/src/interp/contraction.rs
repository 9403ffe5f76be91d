//! Contractions: matrix products and convolutions, summed in f64 (or in wrapping i64 for integers).

use super::convert::{floats, from_floats, ints};
use super::movement::permuted;
use super::support::*;
use super::window::{Window, axes, channels_first};
use crate::families::Contraction;
use crate::{Attrs, DType, Op, Tensor, Value};
use std::array;

/// What products are summed in.
trait Sum: Copy {
    const ZERO: Self;
    fn add_product(self, a: Self, b: Self) -> Self;
    fn add(self, b: Self) -> Self;
    fn read(t: &Tensor) -> Res<Vec<Self>>;
    fn write(dtype: DType, shape: &[usize], v: Vec<Self>) -> Tensor;
}

impl Sum for f64 {
    const ZERO: f64 = 0.0;
    #[inline(always)]
    fn add_product(self, a: f64, b: f64) -> f64 {
        self + a * b
    }
    fn add(self, b: f64) -> f64 {
        self + b
    }
    fn read(t: &Tensor) -> Res<Vec<f64>> {
        floats(t)
    }
    fn write(dtype: DType, shape: &[usize], v: Vec<f64>) -> Tensor {
        from_floats(dtype, shape, &v)
    }
}

// Every integer dtype has at most 64 bits, and the low bits of sums and products depend on low bits only.
impl Sum for i64 {
    const ZERO: i64 = 0;
    #[inline(always)]
    fn add_product(self, a: i64, b: i64) -> i64 {
        self.wrapping_add(a.wrapping_mul(b))
    }
    fn add(self, b: i64) -> i64 {
        self.wrapping_add(b)
    }
    fn read(t: &Tensor) -> Res<Vec<i64>> {
        ints(t)
    }
    fn write(dtype: DType, shape: &[usize], v: Vec<i64>) -> Tensor {
        super::convert::from_ints(dtype, shape, &v.into_iter().map(i128::from).collect::<Vec<_>>())
    }
}

/// Evaluate a contraction.
pub(super) fn eval(op: Contraction, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let (a, b) = (tensor(operands, 0)?, tensor(operands, 1)?);
    let misfit = || error(format!("{} of {} and {}", Op::from(op), a.dtype(), b.dtype()));
    let sum = match op {
        Contraction::ConvTranspose => (a.dtype() == b.dtype()).then_some(a.dtype()),
        Contraction::Matmul | Contraction::Conv => crate::infer::sum_type(a.dtype(), b.dtype()),
    };
    let sum = sum.ok_or_else(misfit)?;
    let float = sum.is_float();
    match op {
        Contraction::Matmul if float => matmul::<f64>(a, b, sum),
        Contraction::Matmul => matmul::<i64>(a, b, sum),
        Contraction::Conv if float => conv::<f64>(a, b, attrs, sum),
        Contraction::Conv => conv::<i64>(a, b, attrs, sum),
        Contraction::ConvTranspose if float => conv_transpose::<f64>(a, b, attrs),
        Contraction::ConvTranspose => conv_transpose::<i64>(a, b, attrs),
    }
}

/// Columns that are summed together: small enough to stay in the nearest cache.
const BLOCK: usize = 128;

/// Steps of k whose products are added at once: sums are read and written once for all of them, in the order of k.
const STEPS: usize = 4;

/// Adds to the sums of `R` rows the products of their factors with `K` rows of b, those in order.
#[inline(always)]
fn add_products<T: Sum, const R: usize, const K: usize>(
    sums: &mut [&mut [T]; R],
    factors: [[T; K]; R],
    b: [&[T]; K],
) {
    let width = b[0].len();
    for i in 0..width {
        let b = b.map(|row| row[i]);
        for (sums, factors) in sums.iter_mut().zip(&factors) {
            let mut sum = sums[i];
            for (&f, b) in factors.iter().zip(b) {
                sum = sum.add_product(f, b);
            }
            sums[i] = sum;
        }
    }
}

/// Adds to the sums of `R` rows the products of their rows of a with b, of which `b_row` gives the columns of one step.
#[inline(always)]
fn add_rows<'b, T: Sum + 'b, const R: usize>(
    mut sums: [&mut [T]; R],
    a: [&[T]; R],
    b_row: impl Fn(usize) -> &'b [T],
) {
    let chunks = a.map(|row| row.as_chunks::<STEPS>());
    let steps = chunks[0].0.len();
    for i in 0..steps {
        let b = array::from_fn(|j| b_row(STEPS * i + j));
        add_products(&mut sums, chunks.map(|(chunks, _)| chunks[i]), b);
    }
    for i in 0..chunks[0].1.len() {
        add_products(&mut sums, chunks.map(|(_, rest)| [rest[i]]), [b_row(STEPS * steps + i)]);
    }
}

/// c [m, n] = a [m, k] x b [k, n], all row-major. Every sum runs over k in order, whatever the blocks.
fn product<T: Sum>(m: usize, k: usize, n: usize, a: &[T], b: &[T], c: &mut [T]) {
    c.fill(T::ZERO);
    for n0 in (0..n).step_by(BLOCK) {
        let width = BLOCK.min(n - n0);
        let b_row = |kk: usize| &b[kk * n + n0..][..width];
        let a_row = |row: usize| &a[row * k..][..k];
        for row in (0..m).step_by(2) {
            let (first, behind) = c[row * n..].split_at_mut(n);
            let first = &mut first[n0..][..width];
            if row + 1 < m {
                let second = &mut behind[n0..][..width];
                add_rows([first, second], [a_row(row), a_row(row + 1)], b_row);
            } else {
                add_rows([first], [a_row(row)], b_row);
            }
        }
    }
}

/// `sum` is the element type of the result.
fn matmul<T: Sum>(a: &Tensor, b: &Tensor, sum: DType) -> Res<Tensor> {
    let (Some((lead_a, &[m, k])), Some((lead_b, &[k2, n]))) =
        (a.shape().split_last_chunk::<2>(), b.shape().split_last_chunk::<2>())
    else {
        return fail(format!("matmul of {} and {}: rank 2 or more is needed", a.ty(), b.ty()));
    };
    if k != k2 {
        return fail(format!("matmul of {} and {}: {k} columns, {k2} rows", a.ty(), b.ty()));
    }
    let lead = broadcast_shape(&[lead_a, lead_b])?;
    let mut shape = lead.clone();
    shape.extend([m, n]);
    let mut out = vec![T::ZERO; count(&shape, 8)?];
    if !out.is_empty() {
        let (x, y) = (T::read(a)?, T::read(b)?);
        let places = broadcast_indices(lead_a, &lead).into_iter().zip(broadcast_indices(lead_b, &lead));
        for (c, (i, j)) in out.chunks_mut(m * n).zip(places) {
            product(m, k, n, &x[i * m * k..(i + 1) * m * k], &y[j * k * n..(j + 1) * k * n], c);
        }
    }
    Ok(T::write(sum, &shape, out))
}

/// Channels and groups of a convolution, checked.
struct Channels {
    batch: usize,
    groups: usize,
    /// Input channels of a group.
    input: usize,
    /// Output channels of a group.
    output: usize,
}

fn channels(x: &Tensor, w: &Tensor, attrs: &Attrs, transposed: bool) -> Res<Channels> {
    let bad = || error(format!("x {}, w {} and {} groups do not fit", x.ty(), w.ty(), attrs.int("groups")));
    if x.rank() < 2 || w.rank() != x.rank() {
        return Err(bad());
    }
    let groups = usize::try_from(attrs.int("groups"))
        .ok()
        .filter(|g| (1..=x.shape()[1].max(1)).contains(g))
        .ok_or_else(bad)?;
    let (c, first, second) = (x.shape()[1], w.shape()[0], w.shape()[1]);
    let fits = c % groups == 0
        && if transposed { first == c } else { second == c / groups && first % groups == 0 };
    if !fits {
        return Err(bad());
    }
    Ok(Channels {
        batch: x.shape()[0],
        groups,
        input: c / groups,
        output: if transposed { second } else { first / groups },
    })
}

/// `sum` is the element type of the result.
fn conv<T: Sum>(x: &Tensor, w: &Tensor, attrs: &Attrs, sum: DType) -> Res<Tensor> {
    let (x, back) = channels_first(x, attrs)?;
    let ch = channels(&x, w, attrs, false)?;
    let window = Window::new(attrs, &x.shape()[2..], &w.shape()[2..], &[])?;
    let (plane, positions): (usize, usize) =
        (window.input.iter().product(), window.output.iter().product());
    let area: usize = window.kernel.iter().product();
    let mut shape = vec![ch.batch, ch.groups * ch.output];
    shape.extend(&window.output);
    let mut out = vec![T::ZERO; count(&shape, 8)?];
    let (xs, ws) = (T::read(&x)?, T::read(w)?);
    let k = ch.input * area;
    // A block of output positions at a time: the input elements that each of them meets, one column per position.
    let (mut columns, mut sums) = (vec![T::ZERO; k * BLOCK], vec![T::ZERO; ch.output * BLOCK]);
    let mut taps = vec![];
    for p0 in (0..positions).step_by(BLOCK) {
        let width = BLOCK.min(positions - p0);
        let met: Vec<Vec<(usize, usize)>> = (p0..p0 + width)
            .map(|p| {
                window.taps(p, &mut taps);
                taps.clone()
            })
            .collect();
        for image in 0..ch.batch * ch.groups {
            columns[..k * width].fill(T::ZERO);
            for c in 0..ch.input {
                let plane = &xs[(image * ch.input + c) * plane..][..plane];
                let rows = &mut columns[c * area * width..(c + 1) * area * width];
                for (p, met) in met.iter().enumerate() {
                    for &(tap, i) in met {
                        rows[tap * width + p] = plane[i];
                    }
                }
            }
            let group = image % ch.groups;
            product(
                ch.output,
                k,
                width,
                &ws[group * ch.output * k..][..ch.output * k],
                &columns,
                &mut sums,
            );
            for o in 0..ch.output {
                out[(image * ch.output + o) * positions + p0..][..width]
                    .copy_from_slice(&sums[o * width..][..width]);
            }
        }
    }
    let out = T::write(sum, &shape, out);
    back.map_or(Ok(out.clone()), |b| permuted(&out, &b))
}

fn conv_transpose<T: Sum>(x: &Tensor, w: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let (x, back) = channels_first(x, attrs)?;
    let ch = channels(&x, w, attrs, true)?;
    let (spatial, kernel) = (&x.shape()[2..], &w.shape()[2..]);
    let n = spatial.len();
    let extra = sizes(attrs, "output_padding", n, 0)?;
    let mut image = vec![];
    let mut axes = axes(attrs, kernel)?;
    for ((axis, &size), &extra) in axes.iter_mut().zip(spatial).zip(&extra) {
        axis.high = axis.high.saturating_sub_unsigned(extra as u64);
        let size = axis.image(&(size as i64)).and_then(|s| usize::try_from(s).ok());
        let pads = attrs.ints("pads");
        image.push(
            size.ok_or_else(|| error(format!("the output of {} with pads {pads:?} has no size", x.ty())))?,
        );
    }
    let mut shape = vec![ch.batch, ch.groups * ch.output];
    shape.extend(&image);
    let mut out = vec![T::ZERO; count(&shape, 8)?];
    // The adjoint: where `conv` from the result's image would read, this adds. An output padding of a stride or more
    // would let that convolution fit further windows; they meet no element of x.
    let window = Window { input: image.clone(), kernel: kernel.to_vec(), output: spatial.to_vec(), axes };
    let (plane, positions): (usize, usize) = (image.iter().product(), spatial.iter().product());
    let area: usize = kernel.iter().product();
    let rows = ch.output * area;
    count(&[rows, positions], 8)?;
    let (xs, ws) = (T::read(&x)?, T::read(w)?);
    let mut taps = vec![];
    let mut sums = vec![T::ZERO; rows * positions];
    for item in 0..ch.batch * ch.groups {
        let group = item % ch.groups;
        let w = &ws[group * ch.input * rows..][..ch.input * rows];
        let turned: Vec<T> = (0..rows).flat_map(|r| (0..ch.input).map(move |c| w[c * rows + r])).collect();
        product(
            rows,
            ch.input,
            positions,
            &turned,
            &xs[item * ch.input * positions..][..ch.input * positions],
            &mut sums,
        );
        for p in 0..positions {
            window.taps(p, &mut taps);
            for o in 0..ch.output {
                let image = &mut out[(item * ch.output + o) * plane..][..plane];
                for &(tap, i) in &taps {
                    image[i] = image[i].add(sums[(o * area + tap) * positions + p]);
                }
            }
        }
    }
    let out = T::write(x.dtype(), &shape, out);
    back.map_or(Ok(out.clone()), |b| permuted(&out, &b))
}

#[cfg(test)]
mod tests {
    use super::super::eval_op;
    use super::*;
    use crate::attrs;

    fn run(op: Op, attrs: Attrs, a: &Tensor, b: &Tensor) -> Tensor {
        eval_op(op, &attrs, &[Some(a.clone().into()), Some(b.clone().into())], &[]).unwrap()[0]
            .as_tensor()
            .unwrap()
            .clone()
    }

    #[test]
    fn products() {
        let a = Tensor::new(&[2, 2], vec![1f32, 2.0, 3.0, 4.0]);
        assert_eq!(run(Op::Matmul, attrs! {}, &a, &a).data::<f32>(), [7.0, 10.0, 15.0, 22.0]);
        let batch = Tensor::new(&[2, 1, 2], vec![1f32, 0.0, 0.0, 1.0]);
        let m = run(Op::Matmul, attrs! {}, &batch, &a);
        assert_eq!((m.shape(), m.data::<f32>()), (&[2, 1, 2][..], &[1f32, 2.0, 3.0, 4.0][..]));
        let i = Tensor::new(&[1, 1], vec![-100i8]);
        assert_eq!(run(Op::Matmul, attrs! {}, &i, &i).data::<i32>(), [10_000]);
        let u = Tensor::new(&[1, 1], vec![200u8]);
        assert_eq!(run(Op::Matmul, attrs! {}, &u, &i).data::<i32>(), [-20_000]);
        let s = Tensor::new(&[1, 1], vec![1000i16]);
        assert_eq!(run(Op::Matmul, attrs! {}, &s, &s).data::<i16>(), [16_960]);
        // Against the plain triple loop, over sizes around the blocks.
        for (m, k, n) in [(1, 3, 200), (5, 7, 129), (4, 1, 1), (9, 0, 2)] {
            let a: Vec<i64> = (0..m * k).map(|i| (i * 7 % 11) as i64 - 5).collect();
            let b: Vec<i64> = (0..k * n).map(|i| (i * 5 % 13) as i64 - 6).collect();
            let mut c = vec![0i64; m * n];
            product(m, k, n, &a, &b, &mut c);
            for (i, &c) in c.iter().enumerate() {
                assert_eq!(c, (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum::<i64>());
            }
        }
    }

    #[test]
    fn convolutions() {
        let x = Tensor::new(&[1, 1, 4], vec![1f32, 2.0, 3.0, 4.0]);
        let w = Tensor::new(&[1, 1, 3], vec![1f32, 10.0, 100.0]);
        let a = |stride: i64, pads: Vec<i64>, layout: &str| {
            attrs! { strides: vec![stride], dilations: vec![1], pads: pads, groups: 1, layout: layout }
        };
        assert_eq!(
            run(Op::Conv, a(1, vec![1, 0], "channels_first"), &x, &w).data::<f32>(),
            [210.0, 321.0, 432.0]
        );
        assert_eq!(run(Op::Conv, a(2, vec![1, 1], "channels_first"), &x, &w).data::<f32>(), [210.0, 432.0]);
        let last = x.reshaped(&[1, 4, 1]);
        assert_eq!(
            run(Op::Conv, a(1, vec![0, 0], "channels_last"), &last, &w).data::<f32>(),
            [321.0, 432.0]
        );
        let grouped = attrs! { strides: vec![1], dilations: vec![1], pads: vec![0, 0], groups: 2, layout: "channels_first" };
        let y = run(Op::Conv, grouped, &x.reshaped(&[1, 2, 2]), &Tensor::new(&[2, 1, 1], vec![1f32, 10.0]));
        assert_eq!(y.data::<f32>(), [1.0, 2.0, 30.0, 40.0]);
        let mut t = a(2, vec![0, 0], "channels_first");
        t.0.insert("output_padding", vec![1i64].into());
        let two = Tensor::new(&[1, 1, 2], vec![1f32, 2.0]);
        assert_eq!(run(Op::ConvTranspose, t, &two, &w).data::<f32>(), [1.0, 10.0, 102.0, 20.0, 200.0, 0.0]);
    }
}
