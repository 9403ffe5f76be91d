//! What the tests of all crates share: a generator of random numbers ([`Rng`]), random tensors
//! ([`tensors`]) and decision trees ([`trees`]), comparisons that name the first element that differs ([`compare`]), and loops on all
//! cores ([`parallel`]). Only ever a dev-dependency.
//!
//! ```
//! use egret_ir::DType;
//! use egret_testkit::{Rng, compare, tensors};
//!
//! let x = tensors::grid(&mut Rng::new(1), DType::F32, &[2, 3], 8, 0.125);
//! compare::assert_same(&x, &x.clone(), "a copy");
//! ```
#![forbid(unsafe_code)]

pub mod compare;
pub mod parallel;
pub mod tensors;
pub mod trees;

pub use egret_ir::rng::Rng;
