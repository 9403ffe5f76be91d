//! Symbolic dims as values of the running model: read off shapes, and computed with.

use crate::conditions::{DOMAIN, constant, node};
use crate::error::ExportError;
use crate::proto;
use crate::writer::Writer;
use egret_ir::{DType, Dim, DimOp, DimPart};
use onnx_protobuf::FunctionProto;

/// What a broadcast dim is written as.
const BROADCAST: &str = "Broadcast";

impl Writer<'_> {
    /// Dims as a vector of i64: a constant where all are known.
    ///
    /// # Errors
    /// A symbol that no value's shape tells.
    pub(crate) fn shape(&mut self, dims: &[Dim]) -> Result<String, ExportError> {
        if let Some(known) = dims.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>() {
            return Ok(self.ints(&known));
        }
        if let Some(name) = self.computed(|f| f.vectors.get(dims).cloned()) {
            return Ok(name);
        }
        // Neighbours that are known are one constant.
        let mut parts = vec![];
        let mut known = vec![];
        for d in dims {
            match d.as_const() {
                Some(size) => known.push(size),
                None => {
                    if !known.is_empty() {
                        parts.push(self.ints(&known));
                        known.clear();
                    }
                    parts.push(self.dim(d)?);
                }
            }
        }
        if !known.is_empty() {
            parts.push(self.ints(&known));
        }
        let name = match parts.as_slice() {
            [one] => one.clone(),
            _ => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.emit("Concat", &parts, vec![proto::int("axis", 0)])
            }
        };
        self.frame().vectors.insert(dims.to_vec(), name.clone());
        Ok(name)
    }

    /// A dim as a vector of one i64.
    pub(crate) fn dim(&mut self, d: &Dim) -> Result<String, ExportError> {
        if let Some(size) = d.as_const() {
            return Ok(self.ints(&[size]));
        }
        if let Some(name) = self.computed(|f| f.dims.get(d).cloned()) {
            return Ok(name);
        }
        let terms = d.as_sum().filter(|_| !d.has_unnamed()).ok_or_else(|| {
            ExportError::new(format!("the dim {d} cannot be computed by the running model"))
        })?;
        let mut sum: Option<String> = None;
        // The constant term last: `seq + 1`.
        let (constants, others): (Vec<_>, Vec<_>) =
            terms.into_iter().partition(|(_, factors)| factors.is_empty());
        for (coefficient, factors) in others.into_iter().chain(constants) {
            let mut product: Option<String> = None;
            for factor in factors {
                let factor = self.factor(&factor)?;
                product = Some(match product {
                    Some(p) => self.emit("Mul", &[&p, &factor], vec![]),
                    None => factor,
                });
            }
            let (product, subtract) = match product {
                Some(p) if coefficient == -1 && sum.is_some() => (p, true),
                Some(p) if coefficient == 1 => (p, false),
                Some(p) => {
                    let by = self.ints(&[coefficient]);
                    (self.emit("Mul", &[&p, &by], vec![]), false)
                }
                None => (self.ints(&[coefficient]), false),
            };
            sum = Some(match sum {
                Some(s) => self.emit(if subtract { "Sub" } else { "Add" }, &[&s, &product], vec![]),
                None => product,
            });
        }
        let name = sum.ok_or_else(|| ExportError::new("a dim without terms"))?;
        self.frame().dims.insert(d.clone(), name.clone());
        Ok(name)
    }

    fn factor(&mut self, part: &DimPart<'_>) -> Result<String, ExportError> {
        match part {
            DimPart::Symbol(name) => {
                let symbol = Dim::symbol(name);
                if let Some(known) = self.computed(|f| f.dims.get(&symbol).cloned()) {
                    return Ok(known);
                }
                let (value, axis) = self.symbol(name).ok_or_else(|| {
                    ExportError::new(format!(
                        "no value's shape tells the dim `{name}` when the model runs; fix it with --dim {name}=N"
                    ))
                })?;
                let axis = axis as i64;
                let attributes = vec![proto::int("start", axis), proto::int("end", axis + 1)];
                let out = self.emit("Shape", &[&value], attributes);
                self.frame().dims.insert(symbol, out.clone());
                Ok(out)
            }
            DimPart::Op(op, a, b) => {
                let (x, y) = (self.dim(a)?, self.dim(b)?);
                let never_negative = |d: &Dim| d.at_least().is_some_and(|least| least >= 0);
                let plain = never_negative(a) && never_negative(b);
                Ok(match op {
                    // ONNX's quotient is cut off towards 0.
                    DimOp::FloorDiv if plain => self.emit("Div", &[&x, &y], vec![]),
                    DimOp::FloorDiv => self.floor_div(&x, &y),
                    // What importing follows where the divisor may be 0.
                    DimOp::CeilDiv if plain => {
                        let (whole, rest) =
                            (self.emit("Div", &[&x, &y], vec![]), self.emit("Mod", &[&x, &y], vec![]));
                        let one = self.ints(&[1]);
                        let more = self.emit("Min", &[&rest, &one], vec![]);
                        self.emit("Add", &[&whole, &more], vec![])
                    }
                    DimOp::CeilDiv => {
                        let negative = self.emit("Neg", &[&x], vec![]);
                        let quotient = self.floor_div(&negative, &y);
                        self.emit("Neg", &[&quotient], vec![])
                    }
                    DimOp::Mod => self.emit("Mod", &[&x, &y], vec![]),
                    DimOp::Max => self.emit("Max", &[&x, &y], vec![]),
                    DimOp::Min => self.emit("Min", &[&x, &y], vec![]),
                    DimOp::Broadcast => self.broadcast(&x, &y),
                })
            }
        }
    }

    /// The dim that two broadcast to, by a function of the model that fails where they do not fit each other.
    fn broadcast(&mut self, a: &str, b: &str) -> String {
        self.has_function(BROADCAST, broadcast);
        let both = self.temporary();
        self.push(DOMAIN, BROADCAST, &[a, b], vec![both.clone()], vec![]);
        both
    }

    /// The quotient rounded down: (x - x mod y) / y, where the remainder has the sign of y.
    fn floor_div(&mut self, x: &str, y: &str) -> String {
        let remainder = self.emit("Mod", &[x, y], vec![]);
        let multiple = self.emit("Sub", &[x, &remainder], vec![]);
        self.emit("Div", &[&multiple, y], vec![])
    }
}

/// `y` is `b` where `a` is 1, else `a`, and element 0 of a vector of one is added: element 1, which is not there, where they do not fit each
/// other. (The shape of an Expand would be known to who infers shapes, as ONNX Runtime does, and its condition be lost.)
fn broadcast() -> FunctionProto {
    FunctionProto {
        domain: DOMAIN.into(),
        name: BROADCAST.into(),
        input: vec!["a".into(), "b".into()],
        output: vec!["y".into()],
        node: vec![
            constant("zero", 0),
            constant("one", 1),
            node("Equal", &["a", "one"], "a_is_one", vec![]),
            node("Equal", &["b", "one"], "b_is_one", vec![]),
            node("Equal", &["a", "b"], "same", vec![]),
            node("Or", &["a_is_one", "b_is_one"], "one_is_one", vec![]),
            node("Or", &["one_is_one", "same"], "fit", vec![]),
            node("Not", &["fit"], "broken", vec![]),
            node("Cast", &["broken"], "at", vec![proto::int("to", proto::code(DType::I64))]),
            node("Gather", &["zero", "at"], "nothing", vec![]),
            node("Where", &["a_is_one", "b", "a"], "both", vec![]),
            node("Add", &["both", "nothing"], "y", vec![]),
        ],
        doc_string: "The dim that two dims broadcast to. Fails where they do not.".into(),
        ..Default::default()
    }
}
