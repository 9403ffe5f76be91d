//! Loop skeletons that kernels of several families are written with.

pub mod across;
pub mod heights;
pub mod indices;
pub mod map;
pub mod merge_sort;
pub mod nest;
pub mod operands;
pub mod order;
pub mod row_reduction;
pub mod writer;
