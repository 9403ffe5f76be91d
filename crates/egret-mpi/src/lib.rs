//! What Egret uses of MPI, which comes with the feature `mpi`: processes, called ranks, that send each other bytes and never wait while they do.
//!
//! MPI itself is called by `shim.c`, ten functions of plain types: the handles of MPI differ between implementations, and MPI's own compiler knows them.
#![cfg_attr(not(feature = "mpi"), forbid(unsafe_code))]

#[cfg(feature = "mpi")]
mod world;

#[cfg(feature = "mpi")]
pub use world::{Failed, World};
