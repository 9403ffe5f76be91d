//! Integers of a weight: which numbers share a scale, their codes, and the tensors that store them.

pub mod grid;

use crate::numbers;
use crate::state::{Pack, Unpack};
use grid::{Grid, fit, fit_weighed};
use onnx_protobuf::TensorProto;

/// `TensorProto.DataType`.
const INT8: i32 = 3;
const UINT4: i32 = 21;
const FLOAT: i32 = 1;
const FLOAT16: i32 = 10;
const BFLOAT16: i32 = 16;

/// How the numbers of a tensor become integers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// 8 bits, a scale for each index of an axis.
    Axis(usize),
    /// 8 bits, one scale.
    Whole,
    /// 4 bits, a scale and a zero point for each block of so many along an axis.
    Blocks(usize, usize),
}

impl Form {
    /// In words.
    pub fn words(self) -> String {
        match self {
            Form::Axis(_) => "int8, a scale per output".into(),
            Form::Whole => "int8, one scale".into(),
            Form::Blocks(_, size) => format!("uint4 in blocks of {size}"),
        }
    }

    /// The least code and the greatest.
    fn codes(self) -> [i32; 2] {
        if matches!(self, Form::Blocks(..)) { [0, 15] } else { [-127, 127] }
    }

    /// The least opset that can say it of weights of this type.
    pub fn opset(self, data_type: i32) -> i64 {
        match self {
            Form::Blocks(..) => 21,
            // Scales of fewer bits than those of a float.
            _ if data_type != FLOAT => 19,
            _ => 13,
        }
    }
}

/// The integers of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Integers {
    dims: Vec<usize>,
    form: Form,
    /// The type of the scales: that of the tensor.
    data_type: i32,
    scales: Vec<usize>,
    /// In the order of the tensor.
    pub codes: Vec<i32>,
    /// In the order of the scales.
    pub grids: Vec<Grid>,
}

/// A number as the float type stores it.
fn rounded(data_type: i32, v: f64) -> f64 {
    match data_type {
        FLOAT16 => egret::ir::f16_of(v).to_f64(),
        BFLOAT16 => egret::ir::bf16_of(v).to_f64(),
        _ => f64::from(v as f32),
    }
}

/// The shape of the scales.
fn shape(dims: &[usize], form: Form) -> Vec<usize> {
    match form {
        Form::Whole => vec![],
        Form::Axis(axis) => vec![dims[axis]],
        Form::Blocks(axis, size) => {
            let mut out = dims.to_vec();
            out[axis] = dims[axis].div_ceil(size);
            out
        }
    }
}

/// The shape of the scales, and the scale of each number.
fn sharing(dims: &[usize], form: Form) -> (Vec<usize>, Vec<usize>) {
    let count: usize = dims.iter().product();
    let inner = |axis: usize| dims[axis + 1..].iter().product::<usize>().max(1);
    let of: Vec<usize> = match form {
        Form::Whole => vec![0; count],
        Form::Axis(axis) => {
            let inner = inner(axis);
            (0..count).map(|i| i / inner % dims[axis]).collect()
        }
        Form::Blocks(axis, size) => {
            let (inner, blocks) = (inner(axis), dims[axis].div_ceil(size));
            let line = dims[axis] * inner;
            let of = |i: usize| (i / line * blocks + i / inner % dims[axis] / size) * inner + i % inner;
            (0..count).map(of).collect()
        }
    };
    (shape(dims, form), of)
}

/// Bytes of the codes, scales and zero points of a tensor.
pub fn bytes(tensor: &TensorProto, form: Form) -> usize {
    let dims: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
    let count: usize = dims.iter().product();
    let scales: usize = shape(&dims, form).iter().product();
    let codes = |n: usize| if matches!(form, Form::Blocks(..)) { n.div_ceil(2) } else { n };
    codes(count) + codes(scales) + scales * numbers::width(tensor)
}

impl Integers {
    /// The integers of least squared error; `None` where the tensor cannot be read, or holds what is no finite number.
    pub fn of(tensor: &TensorProto, form: Form) -> Option<Integers> {
        Integers::weighed(tensor, form, None)
    }

    /// As [`Integers::of`], where the squared error of each number counts as often as `by` says.
    pub fn weighed(tensor: &TensorProto, form: Form, by: Option<&[f64]>) -> Option<Integers> {
        let values = numbers::read(tensor).filter(|v| v.iter().all(|v| v.is_finite()))?;
        let dims: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
        let (scales, of) = sharing(&dims, form);
        let mut groups = vec![vec![]; scales.iter().product()];
        values.iter().zip(&of).for_each(|(&v, &g)| groups[g].push(v));
        let [low, high] = form.codes();
        let round = |v: f64| rounded(tensor.data_type, v);
        let grids: Vec<Grid> = match by {
            None => groups.iter().map(|g| fit(g, low, high, &round)).collect(),
            Some(by) => {
                let mut counts = vec![vec![]; groups.len()];
                by.iter().zip(&of).for_each(|(&f, &g)| counts[g].push(f));
                groups.iter().zip(&counts).map(|(g, by)| fit_weighed(g, by, low, high, &round)).collect()
            }
        };
        let codes = values.iter().zip(&of).map(|(&v, &g)| grids[g].code(v)).collect();
        Some(Integers { dims, form, data_type: tensor.data_type, scales, codes, grids })
    }

    /// As a part of a record.
    pub fn pack(&self, out: &mut Pack) {
        let (axis, block) = match self.form {
            Form::Whole => (0, 0),
            Form::Axis(axis) => (axis + 1, 0),
            Form::Blocks(axis, size) => (axis + 1, size),
        };
        let wholes = [axis, block, self.data_type as usize, self.dims.len()];
        wholes.into_iter().chain(self.dims.iter().copied()).for_each(|n| out.whole(n as u64));
        out.bytes(&self.codes.iter().map(|&c| c as i8 as u8).collect::<Vec<_>>());
        out.numbers(&self.grids.iter().map(|g| g.scale).collect::<Vec<_>>());
        out.bytes(&self.grids.iter().map(|g| g.zero as i8 as u8).collect::<Vec<_>>());
    }

    /// Of a part of a record; `None` where it is none.
    pub fn unpack(parts: &mut Unpack<'_>) -> Option<Integers> {
        let [axis, block] = [parts.length()?, parts.length()?];
        let data_type = i32::try_from(parts.whole()?).ok()?;
        let rank = parts.length()?;
        let dims: Vec<usize> = (0..rank).map(|_| parts.length()).collect::<Option<_>>()?;
        let form = match (axis.checked_sub(1), block) {
            (None, _) => Form::Whole,
            (Some(axis), 0) => Form::Axis(axis),
            (Some(axis), size) => Form::Blocks(axis, size),
        };
        let signed = |bytes: &[u8]| bytes.iter().map(|&b| i32::from(b as i8)).collect::<Vec<_>>();
        let codes = signed(parts.bytes()?);
        let scaled = parts.numbers()?;
        let zeros = signed(parts.bytes()?);
        let count = egret::ir::checked_len(&dims)?;
        if count != codes.len() || axis > rank {
            return None;
        }
        let scales = shape(&dims, form);
        let [low, high] = form.codes();
        let grid = |(&scale, &zero): (&f64, &i32)| Grid { scale, zero, low, high };
        let grids: Vec<Grid> = scaled.iter().zip(&zeros).map(grid).collect();
        let fits = scaled.len() == zeros.len() && scales.iter().product::<usize>() == grids.len();
        fits.then_some(Integers { dims, form, data_type, scales, codes, grids })
    }

    /// A scale as its type stores it.
    pub fn rounded(&self, v: f64) -> f64 {
        rounded(self.data_type, v)
    }

    /// The scale of each number.
    pub fn sharing(&self) -> Vec<usize> {
        sharing(&self.dims, self.form).1
    }

    /// Make scales as great as these at least, in the order of the grids; `was` are the numbers whose integers they are.
    pub fn widen(&mut self, least: &[f64], was: &[f64]) {
        let wider: Vec<bool> = self.grids.iter().zip(least).map(|(g, &least)| g.scale < least).collect();
        for ((grid, &least), _) in self.grids.iter_mut().zip(least).zip(&wider).filter(|(_, w)| **w) {
            grid.scale = rounded(self.data_type, least);
        }
        for ((code, at), was) in self.codes.iter_mut().zip(sharing(&self.dims, self.form).1).zip(was) {
            if wider[at] {
                *code = self.grids[at].code(*was);
            }
        }
    }

    /// The numbers that they stand for.
    pub fn values(&self) -> Vec<f64> {
        let of = self.sharing();
        self.codes.iter().zip(of).map(|(&c, g)| self.grids[g].value(c)).collect()
    }

    /// Codes, scales, and zero points, as tensors.
    pub fn tensors(&self) -> [TensorProto; 3] {
        let bytes = |codes: &[i32]| match self.form {
            Form::Blocks(..) => pack(codes),
            _ => codes.iter().map(|&c| c as i8 as u8).collect(),
        };
        let data_type = if matches!(self.form, Form::Blocks(..)) { UINT4 } else { INT8 };
        let tensor = |dims: &[usize], data_type: i32, raw_data: Vec<u8>| TensorProto {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type,
            raw_data,
            ..TensorProto::default()
        };
        let zeros: Vec<i32> = self.grids.iter().map(|g| g.zero).collect();
        let mut scales = tensor(&self.scales, self.data_type, vec![]);
        numbers::write(&mut scales, &self.grids.iter().map(|g| g.scale).collect::<Vec<_>>());
        [
            tensor(&self.dims, data_type, bytes(&self.codes)),
            scales,
            tensor(&self.scales, data_type, bytes(&zeros)),
        ]
    }

    /// Axis and block size for `DequantizeLinear`; 0 = not given.
    pub fn axis_and_block(&self) -> (Option<usize>, usize) {
        match self.form {
            Form::Whole => (None, 0),
            Form::Axis(axis) => (Some(axis), 0),
            Form::Blocks(axis, size) => (Some(axis), size),
        }
    }
}

/// Two codes of 4 bits in a byte, the first in the lower half.
fn pack(codes: &[i32]) -> Vec<u8> {
    codes.chunks(2).map(|c| c[0] as u8 & 15 | c.get(1).map_or(0, |&c| (c as u8 & 15) << 4)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_codes_come_back() {
        for n in [0, 1, 2, 7, 16] {
            let codes: Vec<i32> = (0..n).map(|i| (i * 7 + 3) % 16).collect();
            let bytes = pack(&codes);
            assert_eq!(bytes.len(), codes.len().div_ceil(2));
            let back: Vec<i32> =
                (0..codes.len()).map(|i| i32::from(bytes[i / 2] >> (i % 2 * 4) & 15)).collect();
            assert_eq!(back, codes);
        }
    }

    #[test]
    fn integers_come_back_from_a_record() {
        let values: Vec<f32> = (0..60).map(|i| (i * 37 % 61) as f32 - 20.0).collect();
        let mut tensor = TensorProto { dims: vec![4, 5, 3], data_type: FLOAT, ..TensorProto::default() };
        tensor.float_data = values;
        for form in [Form::Whole, Form::Axis(0), Form::Axis(2), Form::Blocks(1, 2), Form::Blocks(0, 16)] {
            let integers = Integers::of(&tensor, form).expect("integers");
            let mut pack = Pack::default();
            integers.pack(&mut pack);
            let bytes = pack.done();
            assert_eq!(Integers::unpack(&mut Unpack::new(&bytes)), Some(integers));
            assert!((0..bytes.len()).all(|n| Integers::unpack(&mut Unpack::new(&bytes[..n])).is_none()));
        }
    }

    #[test]
    fn blocks_run_along_their_axis_and_the_last_may_be_short() {
        let (shape, of) = sharing(&[5, 3], Form::Blocks(0, 2));
        assert_eq!(shape, [3, 3]);
        assert_eq!(of, [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8]);
        let (shape, of) = sharing(&[2, 3, 2], Form::Blocks(1, 2));
        assert_eq!(shape, [2, 2, 2]);
        assert_eq!(of, [0, 1, 0, 1, 2, 3, 4, 5, 4, 5, 6, 7]);
        assert_eq!(sharing(&[2, 3, 2], Form::Axis(1)).1, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    }
}
