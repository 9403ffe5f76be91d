//! Constants that derivatives are asked by: values of their own among equal ones.

use crate::error::ImportError;
use crate::importer::Importer;
use crate::scope::Slot;
use egret_ir::{DType, Tensor, Type};

impl Importer<'_> {
    /// A value for a name; a constant that is to be apart is an input until the whole graph is there, which nothing can mistake for another one.
    pub(crate) fn apart(&mut self, name: &str, slot: Slot) -> Result<Slot, ImportError> {
        let (Slot::Value(value), Some(&own)) = (slot, self.apart.get(name)) else { return Ok(slot) };
        if own && self.scopes.frames.len() > 1 || self.scopes.frame().level > 0 {
            return Ok(slot);
        }
        let real = |t: &&Tensor| matches!(t.dtype(), DType::F16 | DType::BF16 | DType::F32 | DType::F64);
        let Some(tensor) = self.scopes.graph().as_const(value).filter(real).cloned() else {
            return Ok(slot);
        };
        if self.held_apart.iter().any(|(v, _)| self.scopes.levels[0].builder.graph.value(*v).name == name) {
            return Err(ImportError::invalid(format!(
                "several constants are called `{name}` within functions or branches, so that there is no one derivative by it"
            )));
        }
        let input = self.scopes.builder().input(name, Type::Tensor(tensor.ty()));
        self.held_apart.push((input, tensor));
        Ok(Slot::Value(input))
    }
}
