//! Equality saturation: the rules of a pass applied to the regions of a graph.

mod budget;
mod driver;
mod egraph;
mod extract;
mod missed;
mod optimize;
mod optimized_region;
mod prefilter;
mod record;
mod saturate;

pub(crate) use driver::{EqsatOptions, run};
pub(crate) use prefilter::any;
