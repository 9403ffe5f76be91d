//! The element type and the shape of a tensor, as processes tell each other.

use crate::error::{Error, Result};
use egret_ir::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// The element type and the shape of a tensor, for another process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Form {
    dtype: String,
    shape: Vec<usize>,
}

impl Form {
    /// That of a tensor.
    pub(super) fn of(tensor: &Tensor) -> Form {
        Form { dtype: tensor.dtype().name().to_owned(), shape: tensor.shape().to_vec() }
    }

    /// Where it is that of a tensor of numbers: its element type and how many bytes it has.
    ///
    /// # Errors
    /// It is that of none.
    pub(super) fn size(&self) -> Result<(DType, usize)> {
        let known = DType::ALL.into_iter().find(|d| d.name() == self.dtype && *d != DType::String);
        let dtype =
            known.ok_or_else(|| Error::internal(format!("no tensor of {} is shared", self.dtype)))?;
        let bytes = egret_ir::checked_len(&self.shape).and_then(|count| count.checked_mul(dtype.size()));
        let bytes =
            bytes.ok_or_else(|| Error::internal(format!("{:?} is too large a shape", self.shape)))?;
        Ok((dtype, bytes))
    }

    /// A tensor of this form, of bytes that are put into it.
    ///
    /// # Errors
    /// It is that of no tensor of numbers; as `fill` has them.
    pub(super) fn read(&self, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Tensor> {
        let (dtype, _) = self.size()?;
        let mut done = Ok(());
        let tensor = Tensor::filled(dtype, &self.shape, |bytes| done = fill(bytes));
        done.map(|()| tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tensor_of_numbers_is_refused() {
        for (dtype, shape) in [("string", vec![1]), ("f33", vec![1]), ("f32", vec![usize::MAX, 8])] {
            let form = Form { dtype: dtype.into(), shape };
            assert!(form.size().is_err() && form.read(|_| Ok(())).is_err(), "{dtype}");
        }
        let form = Form { dtype: "f32".into(), shape: vec![4] };
        assert_eq!(form.size().unwrap().1, 16);
        assert!(form.read(|_| Err(Error::user("no"))).is_err());
    }
}
