//! Where to cut a graph into regions, and which regions are the same.

mod affinity;
mod canonical;
mod cut;
mod numbering;
mod repeats;

pub(crate) use affinity::Glue;
pub(crate) use canonical::{Binding, Constant, Key, Local, Problem, ProblemNode, Reader};
pub(crate) use cut::{Region, regions};
pub(crate) use numbering::Kinds;
