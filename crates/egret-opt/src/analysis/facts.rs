//! `Facts`: type, constant, range. They are the data of an e-class and what guards may ask for.

use super::elements::{SMALL, bounds, zeros};
use super::summary::Summary;
use egret_ir::{DType, Tensor, TensorType, Type};

/// What is known of one value (or of all results of a node with several), whichever term computes it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The types: one, or one for each result.
    pub types: Vec<Type>,
    /// Whether it depends on no graph input and on nothing random.
    pub constant: bool,
    /// The elements of a small constant (of any constant in deep passes).
    pub value: Option<Tensor>,
    /// Bounds of its elements; NaN is possible beside them.
    pub range: Option<(f64, f64)>,
    /// Whether it is known that no element is -0.
    pub never_negative_zero: bool,
    /// Whether it is known that every element is a whole number.
    pub whole: bool,
    /// For constants of any size.
    pub summary: Summary,
    /// For each axis the indices whose slice of a constant is all +0; known in deep passes only.
    pub zeros: Option<Vec<Vec<usize>>>,
}

/// Two sets of facts contradict each other, so they are not about the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement(pub String);

impl Facts {
    /// Facts of a value of this type of which nothing else is known.
    pub fn of(ty: Type) -> Facts {
        Facts { types: vec![ty], ..Facts::default() }
    }

    /// Facts of a constant. `deep`: keep the elements whatever the size.
    pub fn constant(tensor: &Tensor, deep: bool) -> Facts {
        let mut facts = Facts::weight(tensor.ty(), Summary::of(tensor));
        if deep || tensor.len() <= SMALL {
            facts.range = bounds(tensor).or(facts.range);
            facts.never_negative_zero = super::elements::without_negative_zero(tensor);
            facts.zeros = deep.then(|| zeros(tensor));
            facts.value = Some(tensor.clone());
        }
        facts
    }

    /// Facts of a constant whose elements are not kept.
    pub fn weight(ty: TensorType, summary: Summary) -> Facts {
        let range = summary.bits.map(|b| b.range());
        let whole = summary.whole || ty.dtype.is_int();
        Facts { constant: true, summary, range, whole, ..Facts::of(Type::Tensor(ty)) }
    }

    /// Appends an encoding of all but the types to a key: different facts have different encodings.
    pub(crate) fn encode(&self, key: &mut Vec<u32>) {
        key.push(
            u32::from(self.constant)
                | u32::from(self.never_negative_zero) << 1
                | u32::from(self.whole) << 2
                | u32::from(self.range.is_some()) << 3
                | u32::from(self.value.is_some()) << 4
                | u32::from(self.zeros.is_some()) << 5,
        );
        self.summary.encode(key);
        let mut bits = |b: u64| key.extend([b as u32, (b >> 32) as u32]);
        if let Some((low, high)) = self.range {
            bits(low.to_bits());
            bits(high.to_bits());
        }
        if let Some(value) = &self.value {
            value
                .content_hash()
                .0
                .chunks_exact(8)
                .for_each(|b| bits(u64::from_le_bytes(b.try_into().unwrap_or_default())));
        }
        for axis in self.zeros.iter().flatten() {
            bits(axis.len() as u64);
            axis.iter().for_each(|&i| bits(i as u64));
        }
    }

    /// The type of a value that is one tensor.
    pub fn tensor(&self) -> Option<&TensorType> {
        match self.types.as_slice() {
            [Type::Tensor(t)] => Some(t),
            _ => None,
        }
    }

    /// The element type, if it is a tensor.
    pub fn dtype(&self) -> Option<DType> {
        self.tensor().map(|t| t.dtype)
    }

    /// The value that all elements have, bit for bit, if it is a constant.
    pub fn splat(&self) -> Option<f64> {
        self.summary.uniform
    }

    /// Merges the facts of two equal terms. Returns whether `self` and whether `other` learnt something.
    ///
    /// # Errors
    /// They contradict each other: the terms are not equal.
    pub fn merge(&mut self, other: Facts) -> Result<(bool, bool), Disagreement> {
        if self.types != other.types {
            let list = |t: &[Type]| t.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Disagreement(format!(
                "types differ: {} and {}",
                list(&self.types),
                list(&other.types)
            )));
        }
        let (mut mine, mut theirs) = (false, false);
        if self.constant != other.constant {
            mine |= !self.constant;
            theirs |= self.constant;
            self.constant = true;
        }
        match (&self.value, other.value) {
            (Some(a), Some(b)) if a.content_hash() != b.content_hash() => {
                return Err(Disagreement("constants differ in their elements".to_string()));
            }
            (Some(_), None) => theirs = true,
            (None, Some(b)) => {
                self.value = Some(b);
                mine = true;
            }
            _ => {}
        }
        let range = match (self.range, other.range) {
            (Some(a), Some(b)) => Some((a.0.max(b.0), a.1.min(b.1))),
            (a, b) => a.or(b),
        };
        if range.is_some_and(|(low, high)| low > high) {
            return Err(Disagreement(format!("ranges {:?} and {:?} do not meet", self.range, other.range)));
        }
        mine |= range != self.range;
        theirs |= range != other.range;
        self.range = range;
        mine |= !self.never_negative_zero && other.never_negative_zero;
        theirs |= self.never_negative_zero && !other.never_negative_zero;
        self.never_negative_zero |= other.never_negative_zero;
        mine |= !self.whole && other.whole;
        theirs |= self.whole && !other.whole;
        self.whole |= other.whole;
        let (own, given) = (self.summary, other.summary);
        if let (Some(a), Some(b)) = (own.uniform, given.uniform)
            && a.to_bits() != b.to_bits()
        {
            return Err(Disagreement(format!("constants differ: {a} and {b}")));
        }
        self.summary.uniform = own.uniform.or(given.uniform);
        self.summary.away_from_zero |= given.away_from_zero;
        mine |= (own.uniform.is_none() && given.uniform.is_some())
            || (!own.away_from_zero && given.away_from_zero);
        theirs |= (given.uniform.is_none() && own.uniform.is_some())
            || (!given.away_from_zero && own.away_from_zero);
        let magnitude = match (own.magnitude, given.magnitude) {
            (Some(a), Some(b)) => Some(a.and(b)),
            (a, b) => a.or(b),
        };
        mine |= magnitude != own.magnitude;
        theirs |= magnitude != given.magnitude;
        self.summary.magnitude = magnitude;
        let zeros = match (own.zeros, given.zeros) {
            (Some(a), Some(b)) => Some(a.and(b)),
            (a, b) => a.or(b),
        };
        mine |= zeros != own.zeros;
        theirs |= zeros != given.zeros;
        self.summary.zeros = zeros;
        if self.zeros.is_none() && other.zeros.is_some() {
            self.zeros = other.zeros;
            mine = true;
        }
        Ok((mine, theirs))
    }
}
