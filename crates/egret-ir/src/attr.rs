//! Attributes of nodes.

use crate::{DType, Dim, DimEnv, Tensor, Type};
use std::collections::BTreeMap;

/// The value of an attribute. Each kind has one spelling in text IR.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// `3`
    Int(i64),
    /// `0.5` (f64; NaN and infinities are allowed)
    Float(f64),
    /// `"constant"`
    String(String),
    /// `f32`
    DType(DType),
    /// `2*seq + 1`
    Dim(Dim),
    /// `[batch, 3]`
    Dims(Vec<Dim>),
    /// `[0, 1]`
    Ints(Vec<i64>),
    /// `[0.5, 1.0]`
    Floats(Vec<f64>),
    /// `["a", "b"]`
    Strings(Vec<String>),
    /// A constant by content hash.
    Tensor(Tensor),
    /// `f32[2, seq]`
    Type(Type),
}

impl Attr {
    /// The kind's name in the op table.
    pub fn kind(&self) -> &'static str {
        match self {
            Attr::Int(_) => "int",
            Attr::Float(_) => "float",
            Attr::String(_) => "string",
            Attr::DType(_) => "dtype",
            Attr::Dim(_) => "dim",
            Attr::Dims(_) => "dims",
            Attr::Ints(_) => "ints",
            Attr::Floats(_) => "floats",
            Attr::Strings(_) => "strings",
            Attr::Tensor(_) => "tensor",
            Attr::Type(_) => "type",
        }
    }
}

macro_rules! attr_from {
    ($($t:ty => $v:ident),*) => { $(impl From<$t> for Attr { fn from(v: $t) -> Attr { Attr::$v(v) } })* };
}
attr_from!(i64 => Int, f64 => Float, String => String, DType => DType, Dim => Dim, Vec<Dim> => Dims, Vec<i64> => Ints, Vec<f64> => Floats, Vec<String> => Strings, Tensor => Tensor, Type => Type);
impl From<&str> for Attr {
    fn from(v: &str) -> Attr {
        Attr::String(v.to_owned())
    }
}
impl From<bool> for Attr {
    fn from(v: bool) -> Attr {
        Attr::Int(v as i64)
    }
}

/// The attributes of a node, sorted by name. The op table says which there are; every one is present.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attrs(pub BTreeMap<&'static str, Attr>);

/// `attrs! { axis: 1, kind: "sum" }`; values are anything `Into<Attr>`.
#[macro_export]
macro_rules! attrs {
    () => { $crate::Attrs::default() };
    ($($name:ident : $value:expr),+ $(,)?) => {{
        let mut attrs = $crate::Attrs::default();
        $(attrs.0.insert(stringify!($name), $crate::Attr::from($value));)+
        attrs
    }};
}

// The typed readers panic: the verifier has already held every node against the op table.
impl Attrs {
    /// The attribute `name`, if present.
    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.0.get(name)
    }

    fn expect(&self, name: &str, kind: &str) -> &Attr {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("attribute `{name}` ({kind}) is missing: an unverified node"))
    }

    /// An `int`.
    pub fn int(&self, name: &str) -> i64 {
        match self.expect(name, "int") {
            Attr::Int(v) => *v,
            other => panic!("attribute `{name}` is {}, not int", other.kind()),
        }
    }

    /// An `int` that is 0 or 1.
    pub fn flag(&self, name: &str) -> bool {
        self.int(name) != 0
    }

    /// An `int` that is a non-negative index or count.
    pub fn index(&self, name: &str) -> usize {
        usize::try_from(self.int(name)).unwrap_or_else(|_| panic!("attribute `{name}` is negative"))
    }

    /// A `float`.
    pub fn float(&self, name: &str) -> f64 {
        match self.expect(name, "float") {
            Attr::Float(v) => *v,
            other => panic!("attribute `{name}` is {}, not float", other.kind()),
        }
    }

    /// A `string`.
    pub fn str(&self, name: &str) -> &str {
        match self.expect(name, "string") {
            Attr::String(v) => v,
            other => panic!("attribute `{name}` is {}, not string", other.kind()),
        }
    }

    /// A `dtype`.
    pub fn dtype(&self, name: &str) -> DType {
        match self.expect(name, "dtype") {
            Attr::DType(v) => *v,
            other => panic!("attribute `{name}` is {}, not dtype", other.kind()),
        }
    }

    /// A `dim`.
    pub fn dim(&self, name: &str) -> &Dim {
        match self.expect(name, "dim") {
            Attr::Dim(v) => v,
            other => panic!("attribute `{name}` is {}, not dim", other.kind()),
        }
    }

    /// `dims`.
    pub fn dims(&self, name: &str) -> &[Dim] {
        match self.expect(name, "dims") {
            Attr::Dims(v) => v,
            other => panic!("attribute `{name}` is {}, not dims", other.kind()),
        }
    }

    /// `dims` that are all constant; `None` if a symbol is left.
    pub fn const_dims(&self, name: &str) -> Option<Vec<i64>> {
        self.dims(name).iter().map(Dim::as_const).collect()
    }

    /// `ints`.
    pub fn ints(&self, name: &str) -> &[i64] {
        match self.expect(name, "ints") {
            Attr::Ints(v) => v,
            other => panic!("attribute `{name}` is {}, not ints", other.kind()),
        }
    }

    /// `ints` that are indices or counts.
    pub fn indices(&self, name: &str) -> Vec<usize> {
        self.ints(name)
            .iter()
            .map(|&v| usize::try_from(v).unwrap_or_else(|_| panic!("attribute `{name}` is negative")))
            .collect()
    }

    /// `floats`.
    pub fn floats(&self, name: &str) -> &[f64] {
        match self.expect(name, "floats") {
            Attr::Floats(v) => v,
            other => panic!("attribute `{name}` is {}, not floats", other.kind()),
        }
    }

    /// `strings`.
    pub fn strings(&self, name: &str) -> &[String] {
        match self.expect(name, "strings") {
            Attr::Strings(v) => v,
            other => panic!("attribute `{name}` is {}, not strings", other.kind()),
        }
    }

    /// A `tensor`.
    pub fn tensor(&self, name: &str) -> &Tensor {
        match self.expect(name, "tensor") {
            Attr::Tensor(v) => v,
            other => panic!("attribute `{name}` is {}, not tensor", other.kind()),
        }
    }

    /// The same attributes with symbols replaced by their values.
    pub fn substitute(&self, env: &DimEnv) -> Attrs {
        Attrs(
            self.0
                .iter()
                .map(|(k, v)| {
                    let v = match v {
                        Attr::Dim(d) => Attr::Dim(d.substitute(env)),
                        Attr::Dims(ds) => Attr::Dims(ds.iter().map(|d| d.substitute(env)).collect()),
                        Attr::Type(t) => Attr::Type(t.substitute(env)),
                        other => other.clone(),
                    };
                    (*k, v)
                })
                .collect(),
        )
    }
}
