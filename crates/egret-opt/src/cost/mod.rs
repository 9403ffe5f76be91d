//! What nodes cost: models of targets, and estimates of graphs.

mod estimate;
mod model;
mod work;

pub use estimate::estimate;
pub use model::CostModel;
pub(crate) use model::node;
pub use work::multiply_adds;
