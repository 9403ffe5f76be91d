//! Figures of values and operations: strides, aliases, element types, window shapes. Emits nothing.

pub mod access;
pub mod aliases;
pub mod conv;
pub mod dtypes;
pub mod halo;
pub mod shape;
pub mod size;
pub mod zeros;
