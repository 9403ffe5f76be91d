//! The elements of weights: which are zero, and which are finite.

use egret_ir::{DType, Tensor};

/// The weights between an output channel and an input channel, e.g. a 3x3 filter.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Tap {
    /// Nothing but zeros.
    Zero,
    /// Finite numbers.
    Finite,
    /// Some infinity or NaN, or an element type that is not read.
    Odd,
}

/// Weights of a contraction as a matrix of output and input channels.
pub(super) struct Weights<'a> {
    tensor: &'a Tensor,
    axes: (usize, usize),
    taps: usize,
}

impl<'a> Weights<'a> {
    /// `axes`: of output and input channels; they are the first two.
    pub(super) fn new(tensor: &'a Tensor, axes: (usize, usize)) -> Weights<'a> {
        Weights { tensor, axes, taps: tensor.shape()[2..].iter().product() }
    }

    /// The number of output channels.
    pub(super) fn outputs(&self) -> usize {
        self.tensor.shape()[self.axes.0]
    }

    /// The number of input channels.
    pub(super) fn inputs(&self) -> usize {
        self.tensor.shape()[self.axes.1]
    }

    fn bytes(&self, output: usize, input: usize) -> &[u8] {
        let (first, second) = if self.axes.0 == 0 { (output, input) } else { (input, output) };
        let run = self.taps * self.tensor.dtype().size();
        let from = (first * self.tensor.shape()[1] + second) * run;
        &self.tensor.bytes()[from..from + run]
    }

    /// Whether all weights between two channels are zero.
    pub(super) fn is_zero(&self, output: usize, input: usize) -> bool {
        elements(self.tensor.dtype(), self.bytes(output, input)).is_some_and(|mut e| e.all(is_zero))
    }

    /// Classifies the weights between two channels.
    pub(super) fn tap(&self, output: usize, input: usize) -> Tap {
        match elements(self.tensor.dtype(), self.bytes(output, input)) {
            None => Tap::Odd,
            Some(mut all) => all
                .try_fold(Tap::Zero, |so_far, e| match e {
                    Element { finite: false, .. } => None,
                    e if is_zero(e) => Some(so_far),
                    _ => Some(Tap::Finite),
                })
                .unwrap_or(Tap::Odd),
        }
    }
}

/// An element of a constant.
#[derive(Copy, Clone)]
pub(super) struct Element {
    /// Its bits.
    pub(super) bits: u64,
    /// Its bits without a sign.
    magnitude: u64,
    finite: bool,
}

/// Whether an element is zero, of either sign.
pub(super) fn is_zero(e: Element) -> bool {
    e.magnitude == 0
}

/// The elements of a constant; `None`: an element type that is not read.
pub(super) fn elements(dtype: DType, bytes: &[u8]) -> Option<impl Iterator<Item = Element>> {
    // The bits of infinity.
    let infinity: Option<u64> = match dtype {
        DType::F16 => Some(0x7c00),
        DType::BF16 => Some(0x7f80),
        DType::F32 => Some(0x7f80_0000),
        DType::F64 => Some(0x7ff0_0000_0000_0000),
        d if d.is_int() => None,
        _ => return None,
    };
    let size = dtype.size();
    Some(bytes.chunks_exact(size.max(1)).map(move |chunk| {
        let mut wide = [0u8; 8];
        wide[..size].copy_from_slice(chunk);
        let bits = u64::from_le_bytes(wide);
        match infinity {
            Some(infinity) => {
                let magnitude = bits & !(1 << (size * 8 - 1));
                Element { bits, magnitude, finite: magnitude < infinity }
            }
            None => Element { bits, magnitude: bits, finite: true },
        }
    }))
}
