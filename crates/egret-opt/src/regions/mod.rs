//! Where to cut a graph into regions, and which regions are the same.

mod affinity;
mod canonical;
mod cut;
mod numbering;
mod order;
mod repeats;

pub(crate) use affinity::Affinity;
pub(crate) use canonical::{Binding, CanonicalRegion, Canonicalizer, Constant, Key, Local, RegionNode};
pub(crate) use cut::{Region, regions};
pub(crate) use numbering::Numbering;
pub(crate) use order::order;
