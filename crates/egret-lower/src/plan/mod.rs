//! Decisions before any code: what cannot be compiled, which nodes share a kernel, which values get a halo.

pub mod addends;
pub mod blocks;
pub mod bounds;
pub mod cache;
pub mod constant_indices;
pub mod decompose;
pub mod fusion;
pub mod half_floats;
pub mod halo;
pub mod legalize;
pub mod lengths;
pub mod rows;
pub mod units;
pub mod views;
