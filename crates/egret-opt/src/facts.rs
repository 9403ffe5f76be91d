//! What is known of a value, whatever term computes it: the data of an e-class, and what guards may ask.

use egret_ir::{DType, Tensor, TensorType, Type};

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
    pub(crate) fn spell(&self, key: &mut Vec<u32>) {
        key.push(u32::from(self.away_from_zero) | u32::from(self.uniform.is_some()) << 1);
        if let Some(bits) = self.uniform.map(f64::to_bits) {
            key.extend([bits as u32, (bits >> 32) as u32]);
        }
    }
}

/// Facts of one value (or of the results of a node with several).
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The types: one, or one for each result.
    pub types: Vec<Type>,
    /// Whether it depends on no graph input (and on nothing random).
    pub constant: bool,
    /// Its elements, where it is a small constant, or the pass looks into weights.
    pub value: Option<Tensor>,
    /// Bounds of its elements; NaN is possible beside them.
    pub range: Option<(f64, f64)>,
    /// What is known of it where it is a constant of any size.
    pub summary: Summary,
    /// For each axis the indices at which a constant holds nothing but +0, in passes that look into weights.
    pub zeros: Option<Vec<Vec<usize>>>,
}

/// Two sets of facts of one value that cannot both be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement(pub String);

impl Facts {
    /// Of a value of this type.
    pub fn of(ty: Type) -> Facts {
        Facts { types: vec![ty], ..Facts::default() }
    }

    /// Of a constant. `deep`: whatever its size.
    pub fn constant(tensor: &Tensor, deep: bool) -> Facts {
        let mut facts = Facts::weight(tensor.ty(), Summary::of(tensor));
        if deep || tensor.len() <= SMALL {
            facts.range = bounds(tensor);
            facts.zeros = deep.then(|| zeros(tensor));
            facts.value = Some(tensor.clone());
        }
        facts
    }

    /// Of a constant that is not looked into.
    pub fn weight(ty: TensorType, summary: Summary) -> Facts {
        Facts { constant: true, summary, ..Facts::of(Type::Tensor(ty)) }
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

    /// Join what two terms of the same value know. Returns whether `self` and `other` learnt something.
    ///
    /// # Errors
    /// They say different things: the terms are not the same value.
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
        if self.zeros.is_none() && other.zeros.is_some() {
            self.zeros = other.zeros;
            mine = true;
        }
        Ok((mine, theirs))
    }
}

/// The first elements as f64, for the element types that rules compute with.
pub fn elements(t: &Tensor, at_most: usize) -> Option<Vec<f64>> {
    let n = at_most.min(t.len());
    Some(match t.dtype() {
        DType::F32 => t.data::<f32>()[..n].iter().map(|&v| f64::from(v)).collect(),
        DType::F64 => t.data::<f64>()[..n].to_vec(),
        DType::F16 | DType::BF16 => {
            let bits = t.bytes().chunks_exact(2).take(n).map(|c| u16::from_le_bytes([c[0], c[1]]));
            match t.dtype() {
                DType::F16 => bits.map(|b| half::f16::from_bits(b).to_f64()).collect(),
                _ => bits.map(|b| half::bf16::from_bits(b).to_f64()).collect(),
            }
        }
        d if d.is_int() || d == DType::Bool => t.to_i64s()?[..n].iter().map(|&v| v as f64).collect(),
        _ => return None,
    })
}

fn bounds(t: &Tensor) -> Option<(f64, f64)> {
    let all = elements(t, t.len())?;
    if all.is_empty() {
        return None;
    }
    let fold = |f: fn(f64, f64) -> f64, start: f64| all.iter().copied().fold(start, f);
    Some((fold(f64::min, f64::INFINITY), fold(f64::max, f64::NEG_INFINITY)))
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

/// For each axis the indices whose slice holds nothing but +0 bits.
fn zeros(t: &Tensor) -> Vec<Vec<usize>> {
    let (shape, size) = (t.shape(), t.dtype().size());
    let mut used: Vec<Vec<bool>> = shape.iter().map(|&d| vec![false; d]).collect();
    if size > 0 {
        for (i, element) in t.bytes().chunks_exact(size).enumerate() {
            if element.iter().any(|&b| b != 0) {
                let mut rest = i;
                for axis in (0..shape.len()).rev() {
                    used[axis][rest % shape[axis]] = true;
                    rest /= shape[axis];
                }
            }
        }
    }
    used.into_iter().map(|u| u.iter().enumerate().filter(|(_, u)| !**u).map(|(i, _)| i).collect()).collect()
}
