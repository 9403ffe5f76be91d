//! Equality saturation: the rules of a pass applied to the regions of a graph.

mod budget;
mod driver;
mod egraph;
mod extract;
mod missed;
mod optimize;
mod parallel;
mod prefilter;
mod record;
mod saturate;
mod solution;

pub(crate) use driver::{Task, run};
pub(crate) use prefilter::any;
