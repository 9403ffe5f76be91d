//! Quantised weights less their zero point, as bytes where they are.

use egret_ir::{DType, Tensor};

/// Bytes less a zero point, which broadcasts to them and differs along one axis at most; `None` where a difference is no i8.
///
/// Weights of 7 bits, as quantisers for machines without VNNI write them, are u8 around a zero point, and all differences are bytes.
/// Contractions of bytes are found by their types: as a difference of i32, which large constants stay until they are folded,
/// they would be found too late.
pub fn less(x: &Tensor, zero: &Tensor) -> Option<Tensor> {
    let value: fn(u8) -> i64 = match x.dtype() {
        DType::U8 => i64::from,
        DType::I8 => |byte| i64::from(byte as i8),
        _ => return None,
    };
    let zeros = zero.to_i64s()?;
    let lead = x.rank().checked_sub(zero.rank())?;
    // Elements of x for which the zero point is the same, one after the other.
    let run = match zero.shape().iter().position(|&d| d > 1) {
        None => x.len(),
        Some(axis) if x.shape()[lead + axis] == zeros.len() => {
            x.shape()[lead + axis + 1..].iter().product()
        }
        Some(_) => return None,
    };
    let differences = x.bytes().iter().enumerate().map(|(i, &byte)| {
        let zero = zeros.get(i / run % zeros.len().max(1))?;
        i8::try_from(value(byte).checked_sub(*zero)?).ok()
    });
    Some(Tensor::new(x.shape(), differences.collect::<Option<Vec<i8>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_points_of_all_and_along_an_axis_are_taken_away() {
        let x = Tensor::new(&[2, 3], vec![0u8, 1, 127, 50, 51, 52]);
        let all = less(&x, &Tensor::scalar(51i32)).unwrap();
        assert_eq!(all.data::<i8>(), [-51, -50, 76, -1, 0, 1]);
        let rows = less(&x, &Tensor::new(&[2, 1], vec![0i32, 50])).unwrap();
        assert_eq!(rows.data::<i8>(), [0, 1, 127, 0, 1, 2]);
        let columns = less(&x, &Tensor::new(&[3], vec![0i32, 1, 2])).unwrap();
        assert_eq!(columns.data::<i8>(), [0, 0, 125, 50, 50, 50]);
        let signed = less(&Tensor::new(&[2], vec![-128i8, 100]), &Tensor::scalar(-3i32)).unwrap();
        assert_eq!(signed.data::<i8>(), [-125, 103]);
    }

    #[test]
    fn what_is_no_byte_or_does_not_fit_is_left() {
        let x = Tensor::new(&[2, 2], vec![0u8, 255, 128, 7]);
        assert!(less(&x, &Tensor::scalar(1i32)).is_none());
        assert!(less(&x, &Tensor::scalar(-1i32)).is_none());
        assert!(less(&Tensor::new(&[1], vec![-100i8]), &Tensor::scalar(100i32)).is_none());
        // Along two axes, of another length, of higher rank, of no bytes, of none.
        assert!(less(&x, &Tensor::new(&[2, 2], vec![128i32; 4])).is_none());
        assert!(less(&x, &Tensor::new(&[3], vec![128i32; 3])).is_none());
        assert!(less(&x, &Tensor::new(&[1, 1, 1], vec![128i32])).is_none());
        assert!(less(&Tensor::new(&[1], vec![3i32]), &Tensor::scalar(1i32)).is_none());
        assert!(less(&x, &Tensor::new(&[0], Vec::<i32>::new())).is_none());
        let none = less(&Tensor::new(&[0, 2], Vec::<u8>::new()), &Tensor::scalar(1i32)).unwrap();
        assert_eq!((none.shape(), none.dtype()), (&[0, 2][..], DType::I8));
    }
}
