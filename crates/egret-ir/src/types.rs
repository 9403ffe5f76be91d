//! Types of values.

use crate::{DType, Dim, DimEnv};
use std::fmt;

/// Dims of a tensor, outermost first.
pub type Shape = Vec<Dim>;

/// The type of a value. Every tensor has a known rank; what is known only at run time is a symbol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A dense tensor, row-major.
    Tensor(TensorType),
    /// A list of values of one type (`None` if nothing is known of it).
    Sequence(Box<SeqType>),
    /// A value or nothing.
    Optional(Box<Type>),
}

/// Element type and dims.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dims, outermost first; empty for a scalar.
    pub shape: Shape,
}

/// What the elements of a sequence have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeqType {
    /// Element type of the tensors.
    pub dtype: DType,
    /// Their shape where all are known to share one rank; dims that differ are symbols, or have no name.
    pub shape: Option<Shape>,
}

impl TensorType {
    /// Element type and dims.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> TensorType {
        TensorType { dtype, shape: shape.into() }
    }

    /// Element type and constant dims.
    pub fn fixed(dtype: DType, dims: &[usize]) -> TensorType {
        TensorType { dtype, shape: dims.iter().map(|&d| Dim::from(d)).collect() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The dims if all are constant and non-negative.
    pub fn const_dims(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|d| d.as_const().and_then(|c| usize::try_from(c).ok())).collect()
    }

    /// Number of elements if all dims are constant.
    pub fn const_len(&self) -> Option<usize> {
        self.const_dims()?.into_iter().try_fold(1usize, |a, d| a.checked_mul(d))
    }

    /// Replace symbols by their values.
    pub fn substitute(&self, env: &DimEnv) -> TensorType {
        TensorType { dtype: self.dtype, shape: self.shape.iter().map(|d| d.substitute(env)).collect() }
    }
}

impl Type {
    /// A tensor type.
    pub fn tensor(dtype: DType, shape: impl Into<Shape>) -> Type {
        Type::Tensor(TensorType::new(dtype, shape))
    }

    /// The tensor type, if it is one.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// Replace symbols by their values.
    pub fn substitute(&self, env: &DimEnv) -> Type {
        self.map_dims(&|d| d.substitute(env))
    }

    /// The type with its dims replaced.
    pub fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> Type {
        let all = |shape: &Shape| shape.iter().map(map).collect::<Shape>();
        match self {
            Type::Tensor(t) => Type::tensor(t.dtype, all(&t.shape)),
            Type::Sequence(s) => {
                Type::Sequence(Box::new(SeqType { dtype: s.dtype, shape: s.shape.as_ref().map(all) }))
            }
            Type::Optional(t) => Type::Optional(Box::new(t.map_dims(map))),
        }
    }

    /// The dims that are one number each: those of a tensor, also of one that is optional. Dims of a sequence differ
    /// from element to element.
    pub fn fixed_dims(&self) -> &[Dim] {
        match self {
            Type::Tensor(t) => &t.shape,
            Type::Sequence(_) => &[],
            Type::Optional(t) => t.fixed_dims(),
        }
    }

    /// As [`Type::fixed_dims`], to change them.
    pub(crate) fn fixed_dims_mut(&mut self) -> &mut [Dim] {
        match self {
            Type::Tensor(t) => &mut t.shape,
            Type::Sequence(_) => &mut [],
            Type::Optional(t) => t.fixed_dims_mut(),
        }
    }

    /// Add the symbols of its fixed dims to `out`, each once.
    pub fn collect_symbols(&self, out: &mut Vec<String>) {
        self.fixed_dims().iter().for_each(|d| d.collect_symbols(out));
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(t) => write!(f, "{t}"),
            Type::Sequence(s) => match &s.shape {
                Some(shape) => write!(f, "seq<{}>", TensorType::new(s.dtype, shape.clone())),
                None => write!(f, "seq<{}>", s.dtype),
            },
            Type::Optional(t) => write!(f, "opt<{t}>"),
        }
    }
}
