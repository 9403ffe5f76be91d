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
    /// `[_, count]`: the names of dims that the node decides, by place.
    Symbols(Vec<Option<String>>),
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
            Attr::Symbols(_) => "symbols",
        }
    }
}

macro_rules! attr_from {
    ($($t:ty => $v:ident),*) => { $(impl From<$t> for Attr { fn from(v: $t) -> Attr { Attr::$v(v) } })* };
}
attr_from!(i64 => Int, f64 => Float, String => String, DType => DType, Dim => Dim, Vec<Dim> => Dims, Vec<i64> => Ints, Vec<f64> => Floats, Vec<String> => Strings, Tensor => Tensor, Type => Type, Vec<Option<String>> => Symbols);
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

/// The attribute by which a node declares symbols. Any node may have it; the op table does not list it.
pub const DECLARED: &str = "dims";

/// The attribute that says how many elements the dims may have at most that a node declares, in the order of [`DECLARED`]; -1 where nothing
/// is said. A `loop` and a `range` may have it.
pub const AT_MOST: &str = "at_most";

/// The attributes of a node, sorted by name. The op table says which there are; every one is present. Beside them there
/// may be [`DECLARED`] and [`AT_MOST`].
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

    /// The symbols that the node declares: for each dim of its results in turn (of tensors and of optional tensors)
    /// the name of what only the data decide, if it is that. Names may be left out at the end.
    pub fn declared(&self) -> &[Option<String>] {
        match self.0.get(DECLARED) {
            Some(Attr::Symbols(names)) => names,
            _ => &[],
        }
    }

    /// The most that a dim may be which the node declares, by its place among those declared.
    pub fn at_most(&self, place: usize) -> Option<&Dim> {
        match self.0.get(AT_MOST) {
            Some(Attr::Dims(most)) => most.get(place).filter(|d| d.as_const() != Some(-1)),
            _ => None,
        }
    }

    /// Add the symbols that the attributes use, without those declared, to `out`, each once.
    pub fn collect_symbols(&self, out: &mut Vec<String>) {
        for attr in self.0.values() {
            match attr {
                Attr::Dim(d) => d.collect_symbols(out),
                Attr::Dims(ds) => ds.iter().for_each(|d| d.collect_symbols(out)),
                Attr::Type(t) => t.collect_symbols(out),
                _ => {}
            }
        }
    }

    /// The same attributes with the dims in them replaced.
    pub fn map_dims(&self, map: &dyn Fn(&Dim) -> Dim) -> Attrs {
        let one = |attr: &Attr| match attr {
            Attr::Dim(d) => Attr::Dim(map(d)),
            Attr::Dims(ds) => Attr::Dims(ds.iter().map(map).collect()),
            Attr::Type(t) => Attr::Type(t.map_dims(map)),
            other => other.clone(),
        };
        Attrs(self.0.iter().map(|(name, attr)| (*name, one(attr))).collect())
    }

    /// The same attributes with symbols replaced by their values.
    pub fn substitute(&self, env: &DimEnv) -> Attrs {
        self.map_dims(&|d| d.substitute(env))
    }
}
