//! Random values.

use super::{Call, movement};
use crate::Type;

pub(super) fn random(call: &Call) -> Result<Vec<Type>, String> {
    movement::made(call, call.sizes("shape")?)
}
