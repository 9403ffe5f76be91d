//! Figures of values and operations: strides, aliases, element types, window shapes. Emits nothing.

pub mod aliases;
pub mod dtypes;
