//! Sizes, checked: how many elements and bytes buffers may have, and what fails instead of wrapping.
//!
//! `plan::legalize` holds every tensor of a graph to [`MAX_BYTES`], with empty axes counted as one element.
//! So the product of any of a tensor's axes, and every stride in it, is below 2^46, and i64 has room for the
//! product of such a figure and a constant. What combines figures of several tensors, or a tensor's with an
//! attribute's (pads, steps, dilations), goes through the functions of this file; arithmetic that would still
//! overflow panics, in release builds too (`overflow-checks` in the workspace's Cargo.toml).

use crate::error::Unsupported;

/// The most bytes of a buffer, and of all buffers of a program together: 64 TiB, half of what user space
/// can address.
pub const MAX_BYTES: i64 = 1 << 46;

/// Bytes of a tensor or buffer of these dims, empty axes counted as one element: the strides of the other
/// axes are computed all the same.
///
/// # Errors
/// More than [`MAX_BYTES`]; a sentence part that follows the buffer's name.
pub fn bytes(dims: &[i64], size: usize) -> Result<usize, String> {
    let exact = dims.iter().try_fold(size as i128, |n, &d| n.checked_mul(i128::from(d.max(1))));
    match exact.map(i64::try_from) {
        Some(Ok(n)) if n <= MAX_BYTES => Ok(n as usize),
        Some(Ok(n)) => Err(too_large(&n.to_string())),
        _ => Err(too_large("more than 2^63")),
    }
}

fn too_large(amount: &str) -> String {
    format!(
        "takes {amount} bytes, and compiled code holds at most {MAX_BYTES} (64 TiB); make its dims smaller"
    )
}

/// Product of figures of several tensors.
pub fn product(figures: &[i64]) -> Result<i64, Unsupported> {
    let exact = figures.iter().try_fold(1i64, |n, &d| n.checked_mul(d));
    exact.ok_or_else(|| Unsupported::new(format!("computes a size of {figures:?} multiplied, above 2^63")))
}

/// Number of elements of a buffer of these dims.
pub fn elements(dims: &[i64]) -> Result<usize, Unsupported> {
    bytes(dims, 1)
        .map_err(|e| Unsupported::new(format!("needs a buffer of {dims:?} elements, which {e}")))?;
    Ok(dims.iter().product::<i64>() as usize)
}

/// `n` or the next multiple of `of`, which is above 0.
pub fn up_to(n: i64, of: i64) -> i64 {
    (n + of - 1) / of * of
}

/// How far rows of so many elements stand apart so that each begins with a line of the cache, and few share one of its sets: an odd number of lines, of `line`
/// elements each. Of short ones several are in a line.
pub fn apart(elements: i64, line: i64) -> i64 {
    if elements <= line / 2 {
        return (elements as u64).next_power_of_two() as i64;
    }
    ((up_to(elements, line) / line) | 1) * line
}

/// Elements from the first to the last of those at `sum(i * stride)`, for every `i` below the extent. All
/// (extent, stride) with a stride that is not negative, and an extent of at least 1.
pub fn reach(axes: impl IntoIterator<Item = (i64, i64)>) -> Result<usize, Unsupported> {
    let last = axes.into_iter().try_fold(0i64, |sum, (extent, stride)| {
        sum.checked_add(extent.checked_sub(1)?.checked_mul(stride)?)
    });
    let len = last.and_then(|n| n.checked_add(1)).filter(|n| (1..=MAX_BYTES).contains(n));
    len.map(|n| n as usize).ok_or_else(|| Unsupported::new("reaches outside its buffers"))
}

/// An element's index as the offset of an argument.
pub fn offset(index: i64) -> Result<usize, Unsupported> {
    let index = usize::try_from(index).ok();
    index.ok_or_else(|| Unsupported::new("reads or writes before its buffer begins"))
}

/// Elements up to which a buffer around a value is small, whatever the value: 64 MiB of f32.
const SMALL: i64 = 1 << 24;

/// Whether a value of dims `inner` is worth copying into a buffer of dims `outer`, most of which may be
/// zeros: windows with huge pads or dilations read almost nothing but zeros.
pub fn pays(inner: &[i64], outer: &[i64]) -> bool {
    let volume = |dims: &[i64]| dims.iter().try_fold(1i64, |n, &d| n.checked_mul(d.max(1)));
    match (volume(inner), volume(outer)) {
        (Some(inner), Some(outer)) => outer <= SMALL || outer / 16 <= inner,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_wraps() {
        let huge = [1 << 31, 1 << 31, 1 << 31];
        assert_eq!(bytes(&[3, 0, 5], 4), Ok(60));
        assert_eq!(bytes(&[1 << 44], 4), Ok(1 << 46));
        assert!(bytes(&[(1 << 44) + 1], 4).unwrap_err().contains("70368744177668 bytes"));
        assert!(bytes(&huge, 8).unwrap_err().contains("2^63"));
        // The product is 0, the strides of the other axes are not.
        assert!(bytes(&[0, huge[0], huge[1], huge[2]], 8).is_err());
        assert!(elements(&huge).is_err() && product(&huge).is_err());
        assert_eq!(elements(&[2, 0]), Ok(0));
    }

    #[test]
    fn reaches_end_in_their_buffer() {
        assert_eq!(reach([(3, 10), (4, 2)]), Ok(27));
        assert!(reach([(2, i64::MAX), (2, i64::MAX)]).is_err());
        assert!(reach([(i64::MIN, 2)]).is_err());
        assert!(reach([(5, -1)]).is_err());
        assert!(offset(-1).is_err());
    }

    #[test]
    fn zeros_around_little_do_not_pay() {
        assert!(pays(&[64, 64], &[66, 66]));
        assert!(pays(&[1, 1], &[4096, 4096]));
        assert!(!pays(&[1, 1], &[1 << 31, 1 << 31]));
        assert!(!pays(&[1], &[1 << 62, 1 << 62]));
    }
}
