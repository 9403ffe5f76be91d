//! What nodes cost: models of targets, and estimates of graphs.

mod estimate;
mod model;

pub use estimate::estimate;
pub use model::CostModel;
