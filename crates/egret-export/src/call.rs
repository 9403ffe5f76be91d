//! What the function of an operation sees of its node: operands, types, attributes, and ways to append ONNX nodes.

use crate::error::ExportError;
use crate::proto;
use crate::writer::Writer;
use egret_ir::{Attrs, DType, Dim, Graph, Node, Tensor, TensorType, Type, ValueId};
use onnx_protobuf::AttributeProto;

/// The names of a node's results.
pub(crate) type Written = Result<Vec<String>, ExportError>;

/// A node while it is written.
pub(crate) struct Call<'a, 'o> {
    pub(crate) writer: &'a mut Writer<'o>,
    pub(crate) graph: &'a Graph,
    pub(crate) node: &'a Node,
}

impl Call<'_, '_> {
    pub(crate) fn attrs(&self) -> &Attrs {
        &self.node.attrs
    }

    /// The name of an operand; empty where it is left out.
    pub(crate) fn opt(&mut self, i: usize) -> String {
        match self.node.operands.get(i).copied().flatten() {
            Some(v) => self.writer.name(self.graph, v),
            None => String::new(),
        }
    }

    /// Whether an operand is there.
    pub(crate) fn has(&self, i: usize) -> bool {
        self.value(i).is_some()
    }

    /// The value of an operand.
    pub(crate) fn value(&self, i: usize) -> Option<ValueId> {
        self.node.operands.get(i).copied().flatten()
    }

    /// The names of all operands.
    pub(crate) fn operands(&mut self) -> Vec<String> {
        (0..self.node.operands.len()).map(|i| self.opt(i)).collect()
    }

    /// The tensor type of an operand.
    pub(crate) fn ty(&self, i: usize) -> Result<TensorType, ExportError> {
        let v = self.value(i).ok_or_else(|| ExportError::new(format!("operand {i} is left out")))?;
        self.tensor_type(self.graph.ty(v))
    }

    /// The tensor type of a result.
    pub(crate) fn result(&self, i: usize) -> Result<TensorType, ExportError> {
        self.tensor_type(self.graph.ty(self.node.results[i]))
    }

    fn tensor_type(&self, ty: &Type) -> Result<TensorType, ExportError> {
        ty.as_tensor().cloned().ok_or_else(|| ExportError::new(format!("takes tensors, not {ty}")))
    }

    /// An operator that takes bf16 from an opset on only.
    pub(crate) fn takes_bf16_since(&mut self, opset: i64) -> Result<(), ExportError> {
        if self.ty(0)?.dtype == DType::BF16 {
            self.writer.require("", opset);
        }
        Ok(())
    }

    /// Append a node with one output.
    pub(crate) fn emit(&mut self, op: &str, inputs: &[String], attributes: Vec<AttributeProto>) -> String {
        self.emit_many("", op, inputs, 1, attributes).swap_remove(0)
    }

    /// As [`Call::emit`], for inputs that are borrowed.
    pub(crate) fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.writer.emit(op, inputs, attributes)
    }

    /// Append a node of a domain, with so many outputs.
    pub(crate) fn emit_many(
        &mut self,
        domain: &'static str,
        op: &str,
        inputs: &[String],
        outputs: usize,
        attributes: Vec<AttributeProto>,
    ) -> Vec<String> {
        let names: Vec<String> = (0..outputs).map(|_| self.writer.temporary()).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.writer.push(domain, op, &inputs, names.clone(), attributes);
        names
    }

    /// A constant vector of integers.
    pub(crate) fn ints(&mut self, values: &[i64]) -> String {
        self.writer.ints(values)
    }

    /// A number as a constant scalar.
    pub(crate) fn number(&mut self, dtype: DType, value: f64) -> Result<String, ExportError> {
        let t = number(dtype, value)
            .ok_or_else(|| ExportError::new(format!("there is no number of the type {dtype}")))?;
        Ok(self.writer.constant(&t))
    }

    /// Convert a value.
    pub(crate) fn cast(&mut self, x: &str, to: DType) -> String {
        self.op("Cast", &[x], vec![proto::int("to", proto::code(to))])
    }

    /// A value with other dims, of the same elements.
    pub(crate) fn reshape(&mut self, x: &str, to: &[Dim]) -> Result<String, ExportError> {
        let shape = self.writer.shape(to)?;
        // A dim of 0 is meant, and not that of x.
        let zero = to.iter().any(|d| !d.is_positive());
        Ok(self.op("Reshape", &[x, &shape], zero.then(|| proto::int("allowzero", 1)).into_iter().collect()))
    }

    /// A value with its axes in another order.
    pub(crate) fn transpose(&mut self, x: &str, perm: &[i64]) -> String {
        self.op("Transpose", &[x], vec![proto::ints("perm", perm)])
    }

    /// An operand as an index type that ONNX takes: i32 or i64.
    pub(crate) fn index(&mut self, i: usize) -> Result<String, ExportError> {
        let name = self.opt(i);
        Ok(match self.ty(i)?.dtype {
            DType::I32 | DType::I64 => name,
            _ => self.cast(&name, DType::I64),
        })
    }
}

/// A scalar; `None` for strings and types that numbers are not converted to here.
pub(crate) fn number(dtype: DType, v: f64) -> Option<Tensor> {
    Some(match dtype {
        DType::F32 => Tensor::scalar(v as f32),
        DType::F64 => Tensor::scalar(v),
        DType::F16 => Tensor::scalar(half::f16::from_f64(v)),
        DType::BF16 => Tensor::scalar(half::bf16::from_f64(v)),
        DType::I8 => Tensor::scalar(v as i8),
        DType::I16 => Tensor::scalar(v as i16),
        DType::I32 => Tensor::scalar(v as i32),
        DType::I64 => Tensor::scalar(v as i64),
        DType::U8 => Tensor::scalar(v as u8),
        DType::U16 => Tensor::scalar(v as u16),
        DType::U32 => Tensor::scalar(v as u32),
        DType::U64 => Tensor::scalar(v as u64),
        DType::Bool => Tensor::from_bools(&[], &[v != 0.0]),
        _ => return None,
    })
}
