//! Windows over the planes of tensors with channels first: a task is a plane of the result, in vectors along its last axis. What is made
//! of a window is a [`Reduce`]: a depthwise convolution, or a pool.
//!
//! Rows of the result are computed a few at a time, so that each vector of the operand is loaded once for all of them; rows above the
//! plane and below it are left out. Vectors at the edges of rows read into the rows before and behind and drop what they find there, of
//! the first and last row into the planes before and behind. Only before the first plane and behind the last, where another's memory
//! may be, edges are computed element by element: the kernel asks which plane it has.

mod plan;
mod walk;

pub use plan::Plan;
pub use walk::{Along, Edges, Planes, Reduce, Spot, Values};
