//! Types of values as ONNX files declare them, and dims that are one where values are.

use egret::frontend::element_type;
use egret::ir::Type;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::type_proto::{self, Value};
use onnx_protobuf::{TensorShapeProto, TypeProto};
use std::collections::BTreeMap;

/// Codes of element types end before this.
const ELEMENT_TYPES: i32 = 64;

/// A dim of a part: its index and the dim's name.
pub(crate) type Symbol = (usize, String);

/// Whether a type says anything.
pub(crate) fn is_known(ty: &TypeProto) -> bool {
    match &ty.value {
        Some(Value::TensorType(t)) => t.elem_type != 0,
        other => other.is_some(),
    }
}

/// Whether the type of a tensor has a shape; that of no tensor has all that it can have.
pub(crate) fn has_shape(ty: &TypeProto) -> bool {
    match &ty.value {
        Some(Value::TensorType(t)) => t.elem_type != 0 && t.shape.is_some(),
        other => other.is_some(),
    }
}

/// A dim: its size, its name, or nothing.
pub(crate) fn dim(value: Option<dimension::Value>) -> Dimension {
    Dimension { value, ..Dimension::default() }
}

/// The type of a tensor.
pub(crate) fn tensor(elem_type: i32, dims: Vec<Dimension>) -> TypeProto {
    let shape = TensorShapeProto { dim: dims, ..TensorShapeProto::default() };
    let tensor = type_proto::Tensor { elem_type, shape: Some(shape).into(), ..Default::default() };
    TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() }
}

/// Element type and dims of a tensor whose type declares both.
pub(crate) fn as_tensor(ty: &TypeProto) -> Option<(i32, &[Dimension])> {
    match &ty.value {
        Some(Value::TensorType(t)) if t.elem_type != 0 => Some((t.elem_type, &t.shape.as_ref()?.dim)),
        _ => None,
    }
}

/// The declaration of a tensor's type; dims that are computed from others stay open.
pub(crate) fn of_tensor(ty: &Type) -> Option<TypeProto> {
    let ty = ty.as_tensor()?;
    let code = (1..ELEMENT_TYPES).find(|c| element_type(*c).ok() == Some(ty.dtype))?;
    let dims = ty.shape.iter().map(|d| {
        let named =
            || d.as_symbol().filter(|_| !d.is_unnamed()).map(|s| dimension::Value::DimParam(s.into()));
        dim(d.as_const().map(dimension::Value::DimValue).or_else(named))
    });
    Some(tensor(code, dims.collect()))
}

fn element_text(code: i32) -> String {
    element_type(code).map_or_else(|_| "?".to_owned(), |d| d.to_string())
}

/// A type in words: `f32[batch, 64]`.
pub(crate) fn text(ty: &TypeProto) -> String {
    match &ty.value {
        Some(Value::TensorType(t)) => tensor_text(t.elem_type, t.shape.as_ref()),
        Some(Value::SparseTensorType(t)) => {
            format!("sparse {}", tensor_text(t.elem_type, t.shape.as_ref()))
        }
        Some(Value::SequenceType(s)) => format!("seq({})", text(s.elem_type.get_or_default())),
        Some(Value::OptionalType(o)) => format!("optional({})", text(o.elem_type.get_or_default())),
        Some(Value::MapType(m)) => {
            format!("map({}, {})", element_text(m.key_type), text(m.value_type.get_or_default()))
        }
        Some(_) | None => "?".to_owned(),
    }
}

fn tensor_text(elem: i32, shape: Option<&TensorShapeProto>) -> String {
    let dims = match shape {
        None => "...".to_owned(),
        Some(shape) => shape.dim.iter().map(dim_text).collect::<Vec<_>>().join(", "),
    };
    format!("{}[{dims}]", element_text(elem))
}

fn dim_text(d: &Dimension) -> String {
    match known(d) {
        Some(dimension::Value::DimValue(v)) => v.to_string(),
        Some(dimension::Value::DimParam(name)) => name.clone(),
        _ => "?".to_owned(),
    }
}

/// What a dim says; exporters write 0 and less for what they do not know.
fn known(d: &Dimension) -> Option<&dimension::Value> {
    d.value.as_ref().filter(|v| match v {
        dimension::Value::DimValue(v) => *v > 0,
        dimension::Value::DimParam(name) => !name.is_empty(),
        _ => false,
    })
}

/// Do something with every dim of a type.
pub(crate) fn each_dim(ty: &mut TypeProto, with: &mut impl FnMut(&mut Dimension)) {
    match &mut ty.value {
        Some(Value::TensorType(t)) => {
            t.shape.as_mut().into_iter().flat_map(|s| &mut s.dim).for_each(with);
        }
        Some(Value::SparseTensorType(t)) => {
            t.shape.as_mut().into_iter().flat_map(|s| &mut s.dim).for_each(with);
        }
        Some(Value::SequenceType(s)) => s.elem_type.as_mut().into_iter().for_each(|t| each_dim(t, with)),
        Some(Value::OptionalType(o)) => o.elem_type.as_mut().into_iter().for_each(|t| each_dim(t, with)),
        Some(Value::MapType(m)) => m.value_type.as_mut().into_iter().for_each(|t| each_dim(t, with)),
        Some(_) | None => {}
    }
}

/// What a class of dims is.
#[derive(Clone, Debug, Default)]
struct Class {
    /// The class that it went into.
    into: Option<usize>,
    /// Its size, where one is known.
    size: Option<i64>,
}

/// Dims of parts, in classes of those that are one: a union-find.
#[derive(Default)]
pub(crate) struct Dims {
    of: BTreeMap<Symbol, usize>,
    classes: Vec<Class>,
}

impl Dims {
    /// The class of a dim.
    fn class(&mut self, symbol: Symbol) -> usize {
        let next = self.classes.len();
        let mut at = *self.of.entry(symbol).or_insert(next);
        if at == next {
            self.classes.push(Class::default());
        }
        while let Some(into) = self.classes[at].into {
            at = into;
        }
        at
    }

    /// Know that there is a dim.
    pub(crate) fn note(&mut self, part: usize, name: &str) {
        self.class((part, name.to_owned()));
    }

    /// The types of two values that are to be one. The error says where they part.
    pub(crate) fn unify(
        &mut self,
        (a, one): (usize, &TypeProto),
        (b, other): (usize, &TypeProto),
    ) -> Result<(), String> {
        match (&one.value, &other.value) {
            (Some(Value::TensorType(x)), Some(Value::TensorType(y))) => {
                self.tensors((a, x.elem_type, x.shape.as_ref()), (b, y.elem_type, y.shape.as_ref()))
            }
            (Some(Value::SparseTensorType(x)), Some(Value::SparseTensorType(y))) => {
                self.tensors((a, x.elem_type, x.shape.as_ref()), (b, y.elem_type, y.shape.as_ref()))
            }
            (Some(Value::SequenceType(x)), Some(Value::SequenceType(y))) => {
                self.unify((a, x.elem_type.get_or_default()), (b, y.elem_type.get_or_default()))
            }
            (Some(Value::OptionalType(x)), Some(Value::OptionalType(y))) => {
                self.unify((a, x.elem_type.get_or_default()), (b, y.elem_type.get_or_default()))
            }
            (Some(Value::MapType(x)), Some(Value::MapType(y))) if x.key_type == y.key_type => {
                self.unify((a, x.value_type.get_or_default()), (b, y.value_type.get_or_default()))
            }
            _ => Err("the kinds of value differ".into()),
        }
    }

    fn tensors(
        &mut self,
        (a, x, one): (usize, i32, Option<&TensorShapeProto>),
        (b, y, other): (usize, i32, Option<&TensorShapeProto>),
    ) -> Result<(), String> {
        if x != y {
            return Err("the element types differ; a Cast between them makes them one".into());
        }
        let (Some(one), Some(other)) = (one, other) else { return Ok(()) };
        if one.dim.len() != other.dim.len() {
            return Err(format!("{} and {} axes", one.dim.len(), other.dim.len()));
        }
        for (axis, (d, e)) in one.dim.iter().zip(&other.dim).enumerate() {
            let (Some(d), Some(e)) = (known(d), known(e)) else { continue };
            self.dims((a, d), (b, e)).map_err(|(d, e)| format!("axis {axis} is {d} and {e}"))?;
        }
        Ok(())
    }

    fn dims(
        &mut self,
        (a, d): (usize, &dimension::Value),
        (b, e): (usize, &dimension::Value),
    ) -> Result<(), (String, String)> {
        use dimension::Value::{DimParam, DimValue};
        match (d, e) {
            (DimValue(d), DimValue(e)) if d == e => Ok(()),
            (DimValue(d), DimValue(e)) => Err((d.to_string(), e.to_string())),
            (DimParam(s), DimValue(v)) => {
                self.fix((a, s.clone()), *v).map_err(|is| (format!("{s} = {is}"), v.to_string()))
            }
            (DimValue(v), DimParam(s)) => {
                self.fix((b, s.clone()), *v).map_err(|is| (v.to_string(), format!("{s} = {is}")))
            }
            (DimParam(s), DimParam(t)) => {
                let (x, y) = (self.class((a, s.clone())), self.class((b, t.clone())));
                if x == y {
                    return Ok(());
                }
                match (self.classes[x].size, self.classes[y].size) {
                    (Some(d), Some(e)) if d != e => Err((format!("{s} = {d}"), format!("{t} = {e}"))),
                    (d, e) => {
                        self.classes[x].size = d.or(e);
                        self.classes[y].into = Some(x);
                        Ok(())
                    }
                }
            }
            _ => Ok(()),
        }
    }

    fn fix(&mut self, symbol: Symbol, size: i64) -> Result<(), i64> {
        let class = self.class(symbol);
        match self.classes[class].size {
            Some(is) if is != size => Err(is),
            _ => {
                self.classes[class].size = Some(size);
                Ok(())
            }
        }
    }

    /// What every dim is called in the whole: a size, its name where no other class has that, or `PART_NAME`.
    pub(crate) fn names(&mut self, parts: &[&str]) -> BTreeMap<Symbol, dimension::Value> {
        let symbols: Vec<Symbol> = self.of.keys().cloned().collect();
        let mut first: BTreeMap<usize, Symbol> = BTreeMap::new();
        for symbol in &symbols {
            let class = self.class(symbol.clone());
            first.entry(class).or_insert_with(|| symbol.clone());
        }
        let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
        first.values().for_each(|(_, name)| *wanted.entry(name).or_default() += 1);
        let mut taken: std::collections::BTreeSet<String> =
            wanted.iter().filter(|(_, n)| **n == 1).map(|(name, _)| (*name).to_owned()).collect();
        let mut called = BTreeMap::new();
        for (class, (part, name)) in &first {
            let mut own = name.clone();
            if wanted.get(name.as_str()) != Some(&1) {
                own = format!("{}_{name}", parts[*part]);
                while !taken.insert(own.clone()) {
                    own.push('_');
                }
            }
            called.insert(*class, own);
        }
        let mut out = BTreeMap::new();
        for symbol in symbols {
            let class = self.class(symbol.clone());
            let value = match self.classes[class].size {
                Some(size) => dimension::Value::DimValue(size),
                None => dimension::Value::DimParam(called[&class].clone()),
            };
            out.insert(symbol, value);
        }
        out
    }

    /// Dims of several parts that are one, each class in order.
    pub(crate) fn unified(&mut self) -> Vec<Vec<Symbol>> {
        let mut out: BTreeMap<usize, Vec<Symbol>> = BTreeMap::new();
        for symbol in self.of.keys().cloned().collect::<Vec<_>>() {
            out.entry(self.class(symbol.clone())).or_default().push(symbol);
        }
        out.into_values().filter(|c| c.len() > 1 || self.is_fixed(&c[0])).collect()
    }

    fn is_fixed(&mut self, symbol: &Symbol) -> bool {
        let class = self.class(symbol.clone());
        self.classes[class].size.is_some()
    }
}
