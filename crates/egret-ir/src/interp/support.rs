//! What the families share: errors, checked shapes, strided walks, reading operands and attributes.

use super::{EvalError, Fault};
use crate::{Attrs, Tensor, Value};

pub(super) type Res<T> = Result<T, EvalError>;

/// Results above this many bytes are refused: no machine that this runs on would hold them.
pub(super) const MAX_BYTES: usize = 1 << 33;

pub(super) fn error(message: impl Into<String>) -> EvalError {
    EvalError { at: String::new(), message: message.into(), fault: Fault::Model }
}

pub(super) fn fail<T>(message: impl Into<String>) -> Res<T> {
    Err(error(message))
}

/// The number of elements of a shape, refused if absurd for elements of `size` bytes.
pub(super) fn count(shape: &[usize], size: usize) -> Res<usize> {
    // An empty tensor may have other dims of any size, but their product must not overflow either.
    let bytes =
        shape.iter().try_fold(size.max(1), |a, &d| a.checked_mul(d.max(1))).filter(|&b| b <= MAX_BYTES);
    match bytes {
        Some(_) => Ok(shape.iter().product()),
        None => fail(format!("a tensor {shape:?} is too large")),
    }
}

/// Operand `i`, a tensor that must be there.
pub(super) fn tensor(operands: &[Option<Value>], i: usize) -> Res<&Tensor> {
    optional(operands, i)?.ok_or_else(|| error(format!("operand {i} is left out")))
}

/// Operand `i`, a tensor, if it is there.
pub(super) fn optional(operands: &[Option<Value>], i: usize) -> Res<Option<&Tensor>> {
    match operands.get(i) {
        Some(Some(v)) => v.as_tensor().map(Some).ok_or_else(|| error(format!("operand {i} is no tensor"))),
        _ => Ok(None),
    }
}

/// Operand `i`, anything that must be there.
pub(super) fn value(operands: &[Option<Value>], i: usize) -> Res<&Value> {
    operands.get(i).and_then(Option::as_ref).ok_or_else(|| error(format!("operand {i} is left out")))
}

/// An attribute of kind `int` that names an axis of a tensor of this rank.
pub(super) fn axis(attrs: &Attrs, name: &str, rank: usize) -> Res<usize> {
    let v = attrs.int(name);
    match usize::try_from(v) {
        Ok(a) if a < rank => Ok(a),
        _ => fail(format!("`{name}` is {v}, the tensor has {rank} axes")),
    }
}

/// An attribute of kind `ints` whose entries are at least `least`, as many as `len`.
pub(super) fn sizes(attrs: &Attrs, name: &str, len: usize, least: i64) -> Res<Vec<usize>> {
    let v = attrs.ints(name);
    if v.len() != len || v.iter().any(|&v| v < least) {
        return fail(format!("`{name}` is {v:?}: {len} entries of at least {least} are needed"));
    }
    Ok(v.iter().map(|&v| v as usize).collect())
}

/// An attribute of kind `dims`, all bound.
pub(super) fn bound_dims(attrs: &Attrs, name: &str) -> Res<Vec<i64>> {
    attrs
        .const_dims(name)
        .ok_or_else(|| error(format!("`{name}` has an unbound symbol: {:?}", attrs.dims(name))))
}

/// An attribute of kind `dims` that is a shape.
pub(super) fn shape_attr(attrs: &Attrs, name: &str) -> Res<Vec<usize>> {
    let dims = bound_dims(attrs, name)?;
    dims.iter()
        .map(|&d| usize::try_from(d).map_err(|_| error(format!("`{name}` has a negative dim: {dims:?}"))))
        .collect()
}

/// Row-major strides.
pub(super) fn strides(shape: &[usize]) -> Vec<isize> {
    let mut out = vec![1isize; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i].max(1) as isize;
    }
    out
}

/// Flat source index of every element of a result of this shape, given the step in the source along every axis.
pub(super) fn strided(shape: &[usize], offset: isize, strides: &[isize]) -> Vec<usize> {
    let mut out = Vec::with_capacity(shape.iter().product());
    runs(shape, [offset], [strides], |[base], [step], n| {
        out.extend((0..n as isize).map(|i| (base + i * step) as usize));
    });
    out
}

/// Walk a result of this shape in order, in runs along its last axis. Of each of N sources the steps along every axis are given; `run`
/// gets where the run begins in them, their steps along it, and its length.
pub(super) fn runs<const N: usize>(
    shape: &[usize],
    offsets: [isize; N],
    strides: [&[isize]; N],
    mut run: impl FnMut([isize; N], [isize; N], usize),
) {
    if shape.contains(&0) {
        return;
    }
    let (shape, steps) = merged(shape, strides);
    let Some((&inner, outer)) = shape.split_last() else { return run(offsets, [0; N], 1) };
    let mut at = vec![0usize; outer.len()];
    let mut base = offsets;
    let go = |base: &mut [isize; N], axis: usize, times: isize| {
        base.iter_mut().zip(&steps[axis]).for_each(|(b, s)| *b += s * times);
    };
    loop {
        run(base, steps[outer.len()], inner);
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            at[axis] += 1;
            go(&mut base, axis, 1);
            if at[axis] < outer[axis] {
                break;
            }
            go(&mut base, axis, -(outer[axis] as isize));
            at[axis] = 0;
        }
    }
}

/// The same index space with fewer axes: those of extent 1 dropped, neighbours joined where one step continues the other. The steps
/// of an axis in all sources stand together.
fn merged<const N: usize>(shape: &[usize], strides: [&[isize]; N]) -> (Vec<usize>, Vec<[isize; N]>) {
    let (mut dims, mut steps): (Vec<usize>, Vec<[isize; N]>) = (vec![], vec![]);
    for (axis, &d) in shape.iter().enumerate().filter(|(_, d)| **d != 1) {
        let step = strides.map(|s| s[axis]);
        match (dims.last_mut(), steps.last_mut()) {
            (Some(last), Some(outer)) if *outer == step.map(|s| s * d as isize) => {
                *last *= d;
                *outer = step;
            }
            _ => {
                dims.push(d);
                steps.push(step);
            }
        }
    }
    (dims, steps)
}

/// The elements of x from `offset` on, by steps along the axes of a result of this shape: a view, made dense.
pub(super) fn view(x: &Tensor, shape: &[usize], offset: isize, strides: &[isize]) -> Res<Tensor> {
    count(shape, x.dtype().size())?;
    if x.dtype() == crate::DType::String {
        return select(x, None, shape, &strided(shape, offset, strides));
    }
    let fill = |to: &mut [u8]| match x.dtype().size() {
        1 => copy_view::<1>(x.bytes(), to, shape, offset, strides),
        2 => copy_view::<2>(x.bytes(), to, shape, offset, strides),
        4 => copy_view::<4>(x.bytes(), to, shape, offset, strides),
        _ => copy_view::<8>(x.bytes(), to, shape, offset, strides),
    };
    Ok(Tensor::filled(x.dtype(), shape, fill))
}

/// Elements of a square that both its sides find in the cache.
const SQUARE: usize = 16;

fn copy_view<const N: usize>(
    from: &[u8],
    to: &mut [u8],
    shape: &[usize],
    offset: isize,
    strides: &[isize],
) {
    let (from, to) = (from.as_chunks::<N>().0, to.as_chunks_mut::<N>().0);
    let (dims, steps) = merged(shape, [strides]);
    let steps: Vec<isize> = steps.into_iter().map(|[s]| s).collect();
    // What lies together in the source is an outer axis of the result: a transpose. Element by element along the result, it would
    // load a cache line for each; so it goes in squares along both.
    let last = dims.len().saturating_sub(1);
    if let Some(near) = steps.iter().position(|s| *s == 1).filter(|near| *near < last) {
        let (rows, columns) = (dims[near], dims[last]);
        let own = self::strides(&dims);
        let rest: Vec<usize> =
            (0..dims.len()).map(|i| if i == near || i == last { 1 } else { dims[i] }).collect();
        runs(&rest, [offset, 0], [&steps, &own], |[source, result], [by, along], n| {
            for i in 0..n as isize {
                let (source, result) = ((source + i * by) as usize, (result + i * along) as usize);
                for row in (0..rows).step_by(SQUARE) {
                    for column in (0..columns).step_by(SQUARE) {
                        for r in row..rows.min(row + SQUARE) {
                            let to = &mut to[result + r * own[near] as usize..];
                            for c in column..columns.min(column + SQUARE) {
                                to[c] = from
                                    [(source as isize + r as isize + c as isize * steps[last]) as usize];
                            }
                        }
                    }
                }
            }
        });
        return;
    }
    let mut done = 0;
    runs(shape, [offset], [strides], |[base], [step], n| {
        let to = &mut to[done..done + n];
        match step {
            1 => to.copy_from_slice(&from[base as usize..base as usize + n]),
            0 => to.fill(from[base as usize]),
            _ => {
                to.iter_mut().enumerate().for_each(|(i, v)| *v = from[(base + i as isize * step) as usize])
            }
        }
        done += n;
    });
}

/// The row-major coordinates of a flat index.
pub(super) fn coordinates(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut out = vec![0; shape.len()];
    for (o, &d) in out.iter_mut().zip(shape).rev() {
        *o = flat % d.max(1);
        flat /= d.max(1);
    }
    out
}

/// NumPy's broadcast shape.
pub(super) fn broadcast_shape(shapes: &[&[usize]]) -> Res<Vec<usize>> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![1; rank];
    for s in shapes {
        for (o, &d) in out[rank - s.len()..].iter_mut().zip(*s) {
            match (*o, d) {
                (a, b) if a == b => {}
                (1, b) => *o = b,
                (_, 1) => {}
                _ => return fail(format!("shapes {shapes:?} do not broadcast")),
            }
        }
    }
    Ok(out)
}

/// Flat index into a tensor of shape `from` for every element of the shape `to` that it broadcasts to.
pub(super) fn broadcast_indices(from: &[usize], to: &[usize]) -> Vec<usize> {
    strided(to, 0, &broadcast_strides(from, to))
}

/// The steps in a tensor of shape `from` along the axes of the shape `to` that it broadcasts to.
pub(super) fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<isize> {
    let own = strides(from);
    let lead = to.len() - from.len();
    (0..to.len()).map(|i| if i < lead || from[i - lead] == 1 { 0 } else { own[i - lead] }).collect()
}

/// The lines of a tensor along an axis: flat index of their first elements, the step along them, their length.
pub(super) fn lines(shape: &[usize], axis: usize) -> (Vec<usize>, usize, usize) {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let n = shape[axis];
    let starts = (0..outer).flat_map(|o| (0..inner).map(move |i| o * n * inner + i)).collect();
    (starts, inner, n)
}

/// An index that may count from the end, checked.
pub(super) fn wrap_index(i: i64, n: usize) -> Res<usize> {
    let at = if i < 0 { i.checked_add(n as i64) } else { Some(i) };
    match at.and_then(|v| usize::try_from(v).ok()) {
        Some(v) if v < n => Ok(v),
        _ => fail(format!("index {i} is out of range for {n} elements")),
    }
}

/// No source element: [`select`] puts the fill there.
pub(super) const FILL: usize = usize::MAX;

/// The elements of x at these flat indices, of any dtype; [`FILL`] takes the (only) element of `fill`.
pub(super) fn select(x: &Tensor, fill: Option<&Tensor>, shape: &[usize], indices: &[usize]) -> Res<Tensor> {
    if let Some(f) = fill
        && (f.dtype() != x.dtype() || f.len() != 1)
    {
        return fail(format!("the fill {} is no scalar of {}", f.ty(), x.dtype()));
    }
    count(shape, x.dtype().size())?;
    if x.dtype() == crate::DType::String {
        let (strings, fill) = (x.strings(), fill.map(Tensor::strings));
        let pick = |&i: &usize| {
            if i == FILL { fill.map_or_else(String::new, |f| f[0].clone()) } else { strings[i].clone() }
        };
        return Ok(Tensor::from_strings(shape, indices.iter().map(pick).collect()));
    }
    let fill = fill.map_or(&[][..], Tensor::bytes);
    let bytes = match x.dtype().size() {
        1 => select_bytes::<1>(x.bytes(), fill, indices),
        2 => select_bytes::<2>(x.bytes(), fill, indices),
        4 => select_bytes::<4>(x.bytes(), fill, indices),
        _ => select_bytes::<8>(x.bytes(), fill, indices),
    };
    Ok(Tensor::from_bytes(x.dtype(), shape, &bytes))
}

fn select_bytes<const N: usize>(x: &[u8], fill: &[u8], indices: &[usize]) -> Vec<u8> {
    let (elements, _) = x.as_chunks::<N>();
    let fill = fill.as_chunks::<N>().0.first().copied().unwrap_or([0; N]);
    let mut out = Vec::with_capacity(indices.len() * N);
    for &i in indices {
        out.extend_from_slice(if i == FILL { &fill } else { &elements[i] });
    }
    out
}

/// The elements of several tensors of one dtype, one after another, as one vector: `select` reads from it.
pub(super) fn joined(parts: &[&Tensor]) -> Res<Tensor> {
    let dtype = parts.first().map_or(crate::DType::F32, |t| t.dtype());
    if parts.iter().any(|t| t.dtype() != dtype) {
        return fail(format!(
            "element types differ: {}",
            parts.iter().map(|t| t.ty().to_string()).collect::<Vec<_>>().join(", ")
        ));
    }
    let n: usize = parts.iter().map(|t| t.len()).sum();
    count(&[n], dtype.size())?;
    Ok(if dtype == crate::DType::String {
        Tensor::from_strings(&[n], parts.iter().flat_map(|t| t.strings().iter().cloned()).collect())
    } else {
        Tensor::from_bytes(dtype, &[n], &parts.iter().map(|t| t.bytes()).collect::<Vec<_>>().concat())
    })
}

/// The same elements under another shape of equal size.
pub(super) fn reshaped(x: &Tensor, shape: &[usize]) -> Res<Tensor> {
    if count(shape, x.dtype().size())? != x.len() {
        return fail(format!("{:?} has another number of elements than {:?}", x.shape(), shape));
    }
    Ok(x.reshaped(shape))
}

/// A sum of floats that starts at +0, so that no terms, and -0 alone, give +0. (`Iterator::sum` starts at -0.)
pub(super) fn sum(terms: impl IntoIterator<Item = f64>) -> f64 {
    terms.into_iter().fold(0.0, |a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::{coordinates, strided, view};
    use crate::Tensor;

    #[test]
    fn strided_indices_are_sums_of_steps() {
        let shapes: [&[usize]; 7] = [&[], &[1], &[5], &[2, 3], &[2, 1, 3], &[4, 3, 2, 2], &[2, 0, 3]];
        for shape in shapes {
            for kind in 0..5 {
                let mut step = 1;
                let strides: Vec<isize> = (0..shape.len())
                    .rev()
                    .map(|axis| {
                        let own = step;
                        step *= shape[axis] as isize;
                        match kind {
                            0 => own,
                            1 if axis % 2 == 0 => 0,
                            2 => own * 2,
                            3 => -own,
                            4 if axis == 0 => own + 1,
                            _ => own,
                        }
                    })
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .collect();
                let n = shape.iter().product();
                let want: Vec<usize> = (0..n)
                    .map(|i| {
                        let at = coordinates(i, shape);
                        (at.iter().zip(&strides).map(|(&i, s)| i as isize * s).sum::<isize>() + 1000)
                            as usize
                    })
                    .collect();
                assert_eq!(strided(shape, 1000, &strides), want, "{shape:?} {strides:?}");
            }
        }
    }

    /// Views are copied in runs, or in squares where they transpose; either way element by element what the indices say.
    #[test]
    fn a_view_has_the_elements_at_its_indices() {
        let shape = [17, 3, 1, 20];
        let x = Tensor::new(&shape, (0..1020).collect::<Vec<i32>>());
        let own = super::strides(&shape);
        let check = |shape: &[usize], offset: isize, steps: &[isize]| {
            let want: Vec<i32> = strided(shape, offset, steps).into_iter().map(|i| i as i32).collect();
            let got = view(&x, shape, offset, steps).unwrap();
            assert_eq!((got.shape(), got.data::<i32>()), (shape, &want[..]), "{shape:?} {steps:?}");
        };
        for i in 0..256 {
            let perm = [i % 4, i / 4 % 4, i / 16 % 4, i / 64];
            if (0..4).all(|axis| perm.contains(&axis)) {
                let steps = perm.map(|p| own[p]);
                check(&perm.map(|p| shape[p]), 0, &steps);
                // Backwards along the last axis, and every second element of the first.
                let mut part = perm.map(|p| shape[p]);
                part[0] = part[0].div_ceil(2);
                let end = (part[3] as isize - 1) * steps[3];
                check(&part, end, &[2 * steps[0], steps[1], steps[2], -steps[3]]);
            }
        }
        check(&[5, 20, 4], 0, &[0, 1, 0]);
        check(&[20, 0, 17], 0, &[1, 1, 60]);
        check(&[0, 17], 0, &[1, 60]);
    }
}
