//! Where a value on its way through the stages lies.

#[cfg(unix)]
use super::shared::Shared;
use crate::error::Result;
use egret_ir::Value;

/// A value on its way.
#[derive(Clone)]
pub(super) enum Held {
    /// In the memory of this process.
    Here(Value),
    /// In memory that processes share.
    #[cfg(unix)]
    There(Shared),
}

impl Held {
    /// Whether another one is the same value, in the same place.
    pub(super) fn is(&self, other: Option<&Held>) -> bool {
        match (self, other) {
            (Held::Here(a), Some(Held::Here(b))) => {
                let place = |v: &Value| v.as_tensor().map(|t| (t.bytes().as_ptr(), t.ty()));
                place(a).is_some() && place(a) == place(b)
            }
            _ => false,
        }
    }

    /// The value in the memory of this process.
    pub(super) fn value(self) -> Result<Value> {
        match self {
            Held::Here(value) => Ok(value),
            #[cfg(unix)]
            Held::There(shared) => shared.value(),
        }
    }
}
