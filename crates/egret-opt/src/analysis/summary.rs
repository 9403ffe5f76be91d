//! What is known of constants that are not looked into.

use super::elements::elements;
use egret_ir::Tensor;

/// Constants of at most this many elements are looked into by guards; larger ones are weights, whose values no rule sees, so
/// that blocks which differ in their weights only are one. Of those they know the [`Summary`].
pub const SMALL: usize = 16;

/// What rules know of a constant whatever its size, as far as few constants differ in it.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The value that all elements have, bit for bit. Weights that were trained have none, so that it tells few blocks apart.
    pub uniform: Option<f64>,
    /// Whether it is a constant none of whose elements is near zero, see [`away_from_zero`].
    pub away_from_zero: bool,
}

impl Summary {
    /// Of a constant.
    pub fn of(tensor: &Tensor) -> Summary {
        Summary { uniform: uniform(tensor), away_from_zero: away_from_zero(tensor) }
    }

    /// Spell it, for keys: different summaries differ, and none begins as another does.
    pub(crate) fn encode(&self, key: &mut Vec<u32>) {
        key.push(u32::from(self.away_from_zero) | u32::from(self.uniform.is_some()) << 1);
        if let Some(bits) = self.uniform.map(f64::to_bits) {
            key.extend([bits as u32, (bits >> 32) as u32]);
        }
    }
}

/// The value that all elements have, bit for bit, in an element type that rules compute with.
fn uniform(t: &Tensor) -> Option<f64> {
    let (size, bytes) = (t.dtype().size(), t.bytes());
    let first = bytes.get(..size).filter(|f| !f.is_empty())?;
    let same = bytes.chunks_exact(size).all(|c| c == first);
    same.then(|| elements(t, 1)?.first().copied()).flatten()
}

/// Whether a vector of floats (of any rank) may be divided by: it is of at most 4096 elements, each between 2⁻¹⁰ and 2¹⁰ in size. Said
/// of weights too: scales of norms have it nearly always, so that blocks which differ in their weights stay one.
pub fn away_from_zero(t: &Tensor) -> bool {
    let vector = t.shape().iter().filter(|d| **d != 1).count() <= 1
        && (1..=4096).contains(&t.len())
        && t.dtype().is_float();
    vector
        && elements(t, t.len())
            .is_some_and(|all| all.iter().all(|v| (1.0 / 1024.0..=1024.0).contains(&v.abs())))
}
