//! Where a graph is cut: all cuts together, as each of them decides what is left to the others.

use super::choose::choose;
use super::places::Places;
use super::units::Units;
use super::{PartitionError, TOLERANCE};
use egret_ir::Graph;

/// Why a cut is where it is.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Reason {
    /// The places that were tried.
    pub tried: usize,
    /// At how many of them this cut may be so that, with fit places for the others, no stage takes longer than `limit`.
    pub fitting: usize,
    /// How long a stage may take in nanoseconds: what is wanted, or the longest stage of the most even choice where that is more.
    pub limit: u64,
    /// How long it is wanted to take at the most in nanoseconds: [`TOLERANCE`] above the mean of these stages or, where these are before or behind branches, of all stages of the plan, whichever is less.
    pub wanted: u64,
    /// The mean time of these stages in nanoseconds.
    pub mean: u64,
}

impl Reason {
    /// Whether no stage takes longer than wanted.
    pub fn is_even(&self) -> bool {
        self.limit <= self.wanted
    }
}

/// What a stage may take at the most to be even with others, of so much time for so many stages: [`TOLERANCE`] more than their mean.
pub(super) fn wanted(time: u64, stages: usize) -> u64 {
    (time as f64 * (1.0 + TOLERANCE) / stages.max(1) as f64) as u64
}

/// The units of each of so many stages of some units, which are ascending, one behind the other, and why each cut is where it is. There are at least as many units. `wanted`: how long a
/// stage may take at the most, where stages of the mean time of these take less.
pub(super) fn assign(
    graph: &Graph,
    units: &Units,
    of: &[usize],
    stages: usize,
    wanted: u64,
) -> Result<(Vec<Vec<usize>>, Vec<Reason>), PartitionError> {
    if stages < 2 {
        return Ok((vec![of.to_vec(); stages], vec![]));
    }
    let time: u64 = of.iter().map(|&u| units.cost[u]).sum();
    let wanted = wanted.min(self::wanted(time, stages));
    let places = Places::new(graph, units, of, stages, wanted);
    let follows = |a, b| places.follows(a, b);
    // An order has a place behind each unit, and there are as many units as stages.
    let none = || PartitionError::Broken(format!("no cuts for {stages} stages"));
    let choice = choose(&places.all(), &follows, stages, wanted).ok_or_else(none)?;
    let mut stage = vec![stages - 1; units.len()];
    for (k, &place) in choice.at.iter().enumerate().rev() {
        places.before(place).into_iter().for_each(|u| stage[u] = k);
    }
    let mut out = vec![vec![]; stages];
    of.iter().for_each(|&u| out[stage[u]].push(u));
    let reason = |fitting| Reason {
        tried: places.tried(),
        fitting,
        limit: choice.limit,
        wanted,
        mean: time / stages as u64,
    };
    Ok((out, choice.fitting.iter().map(|&fitting| reason(fitting)).collect()))
}
