//! Tensors of any element type as f64 and back.

use egret::ir::{DType, Op, Tensor, Value, attrs, interp};
use egret::{Error, Result, compare};

/// The elements of a value that is a tensor of numbers.
pub(crate) fn to_f64(value: &Value) -> Result<Vec<f64>> {
    let tensor = value.as_tensor().ok_or_else(|| Error::internal("a list where a tensor was expected"))?;
    compare::to_f64(tensor).map_err(Error::internal)
}

/// A tensor of a type, each element rounded to it.
pub(crate) fn from_f64(dtype: DType, shape: &[usize], data: Vec<f64>) -> Result<Tensor> {
    match dtype {
        DType::F64 => Ok(Tensor::new(shape, data)),
        DType::F32 => Ok(Tensor::new(shape, data.into_iter().map(|v| v as f32).collect())),
        // The interpreter knows every conversion.
        _ => {
            let cast = attrs! { to: dtype, saturate: 1i64, round: "nearest" };
            let out = interp::eval_op(Op::Cast, &cast, &[Some(Tensor::new(shape, data).into())], &[])
                .map_err(|e| Error::internal(e.to_string()))?;
            out.first()
                .and_then(Value::as_tensor)
                .cloned()
                .ok_or_else(|| Error::internal("a cast gave no tensor"))
        }
    }
}

/// A flat index as the index of every axis.
pub(crate) fn unravel(flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = flat;
    let mut out = vec![0; shape.len()];
    for (axis, &dim) in shape.iter().enumerate().rev() {
        out[axis] = rest % dim.max(1);
        rest /= dim.max(1);
    }
    out
}

/// `image[0,3]`; of a scalar its name alone.
pub(crate) fn spelt(name: &str, index: &[usize]) -> String {
    if index.is_empty() {
        return name.to_owned();
    }
    let list: Vec<String> = index.iter().map(ToString::to_string).collect();
    format!("{name}[{}]", list.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_values_in_every_type() {
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16, DType::I64, DType::U8] {
            let t = from_f64(dtype, &[2], vec![1.0, 3.0]).unwrap();
            assert_eq!((t.dtype(), to_f64(&t.into()).unwrap()), (dtype, vec![1.0, 3.0]));
        }
    }

    #[test]
    fn flat_indices_are_unravelled_last_axis_first() {
        assert_eq!(unravel(7, &[2, 3, 2]), [1, 0, 1]);
        assert_eq!(spelt("x", &unravel(7, &[2, 3, 2])), "x[1,0,1]");
        assert_eq!(spelt("x", &unravel(0, &[])), "x");
    }
}
