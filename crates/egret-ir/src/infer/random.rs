//! Random values.

use super::{Call, movement};
use crate::Type;
use crate::families::Random;

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Random, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Random::RandomUniform | Random::RandomNormal => random(call),
    }
}

fn random(call: &Call) -> Result<Vec<Type>, String> {
    movement::made(call, call.sizes("shape")?)
}
