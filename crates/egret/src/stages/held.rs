//! Where a value on its way through the stages lies.

#[cfg(unix)]
use super::shared::Shared;
use crate::error::Result;
use egret_ir::Value;
use std::collections::BTreeMap;

/// Values on their way, by name.
pub(super) type Values<'s> = BTreeMap<&'s str, Held>;

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
    /// The value in the memory of this process.
    pub(super) fn value(self) -> Result<Value> {
        match self {
            Held::Here(value) => Ok(value),
            #[cfg(unix)]
            Held::There(shared) => shared.value(),
        }
    }
}
