//! A step of a model on bytes, which are copied nowhere on their way in or out.

use crate::engine::Executable;
use crate::error::{Error, Result};
use egret_ir::{DType, Tensor, Value};
use egret_runtime::{AlignedBytes, Input};

/// A tensor that is given.
#[derive(Copy, Clone)]
pub struct Given<'a> {
    /// Its elements.
    pub bytes: &'a [u8],
    /// Their type.
    pub dtype: DType,
    /// Its dims.
    pub dims: &'a [i64],
}

/// A tensor of its own.
pub struct Made {
    /// Its elements, and perhaps more bytes behind them.
    pub bytes: AlignedBytes,
    /// Their type.
    pub dtype: DType,
    /// Its dims.
    pub dims: Vec<i64>,
}

impl Made {
    /// A copy of a tensor.
    ///
    /// # Errors
    /// More bytes than there are.
    pub fn of(t: &Tensor) -> Result<Made> {
        let bytes = AlignedBytes::copy_of(t.bytes()).ok_or_else(|| no_room(t.bytes().len()))?;
        Ok(Made { bytes, dtype: t.dtype(), dims: t.shape().iter().map(|&d| d as i64).collect() })
    }

    /// Zeros. `None` where there is no room for them.
    fn zeros(dtype: DType, dims: Vec<i64>) -> Option<Made> {
        Some(Made { bytes: AlignedBytes::zeroed(bytes_of(dtype, &dims)?)?, dtype, dims })
    }

    /// To be given.
    pub fn given(&self) -> Given<'_> {
        let bytes = bytes_of(self.dtype, &self.dims).and_then(|n| self.bytes.get(..n));
        Given { bytes: bytes.unwrap_or(&[]), dtype: self.dtype, dims: &self.dims }
    }
}

fn bytes_of(dtype: DType, dims: &[i64]) -> Option<usize> {
    dims.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(usize::try_from(d).ok()?))
}

fn no_room(bytes: usize) -> Error {
    Error::memory(format!(
        "there is no memory for a tensor of {bytes} bytes; give fewer tokens or a smaller --count"
    ))
}

/// Runs a model once. `made` holds what it gave before, whose memory serves again where it has the size, and gets what it gives now.
///
/// # Errors
/// What the run fails by; more bytes than there are.
pub fn run(executable: &Executable, inputs: &[Given<'_>], made: &mut Vec<Made>) -> Result<()> {
    let Some(native) = executable.native() else {
        let shape = |dims: &[i64]| dims.iter().map(|&d| d as usize).collect::<Vec<_>>();
        let value = |g: &Given<'_>| Value::from(Tensor::from_bytes(g.dtype, &shape(g.dims), g.bytes));
        let outputs = executable.run(&inputs.iter().map(value).collect::<Vec<_>>())?;
        let tensors = outputs.iter().map(|v| {
            v.as_tensor().ok_or_else(|| Error::internal("an output is no tensor")).and_then(Made::of)
        });
        *made = tensors.collect::<Result<_>>()?;
        return Ok(());
    };
    let dims: Vec<&[i64]> = inputs.iter().map(|g| g.dims).collect();
    let needs = native.model().needs(&dims)?.outputs;
    let mut before = std::mem::take(made).into_iter().map(|m| m.bytes);
    let (mut rooms, mut kinds) = (vec![], vec![]);
    for (port, dims) in native.model().outputs().iter().zip(needs) {
        let dtype = DType::from_abi_code(port.dtype)
            .ok_or_else(|| Error::internal(format!("the output `{}` has an unknown dtype", port.name)))?;
        let bytes = bytes_of(dtype, &dims).unwrap_or(usize::MAX);
        let same = before.next().filter(|room| room.len() == bytes);
        let room = same.or_else(|| Made::zeros(dtype, dims.clone()).map(|m| m.bytes));
        rooms.push(room.ok_or_else(|| no_room(bytes))?);
        kinds.push((dtype, dims));
    }
    let inputs: Vec<Input<'_>> =
        inputs.iter().map(|g| Input { bytes: g.bytes, dtype: g.dtype.abi_code(), dims: g.dims }).collect();
    let found = native.call(&inputs, &mut rooms)?;
    let of = |(i, (bytes, (dtype, dims))): (usize, (AlignedBytes, (DType, Vec<i64>)))| {
        // Where data decides dims, they have come to these.
        Made { bytes, dtype, dims: found.get(i).cloned().unwrap_or(dims) }
    };
    *made = rooms.into_iter().zip(kinds).enumerate().map(of).collect();
    Ok(())
}
