//! Dims of what a loop carries that change from round to round, as a list grows to which each round appends.
//!
//! Such a dim is two [lengths](crate::plan::lengths) with room for the most that it can ever be: that of a round, which a call at the round's begin
//! finds, and that of the result, which one behind the last round finds. Between rounds stands what the next one begins with.

use super::open;
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::Dim;
use egret_loop::Arg;

/// The dims that change, each once.
pub struct Changing(Vec<Change>);

/// A dim that changes.
struct Change {
    /// The dim of the result.
    result: Dim,
    /// What it is in the round that runs.
    round: Dim,
    /// The most that it can be.
    most: Dim,
    /// Where what it is in the next round stands: an i64.
    at: Arg,
    /// What that is, as far as it has been said.
    next: Option<Dim>,
}

impl Changing {
    /// Those of the results of a loop whose dims are these.
    pub fn of(ctx: &mut Ctx, results: &[&[Dim]]) -> Result<Changing, Unsupported> {
        let mut all: Vec<Change> = vec![];
        for dim in results.iter().flat_map(|dims| dims.iter()) {
            let Some(name) = dim.as_symbol().filter(|name| ctx.is_to_be_found(name)) else { continue };
            if all.iter().any(|c| c.result == *dim) {
                continue;
            }
            let most = ctx.units.as_ref().map_or_else(|| dim.clone(), |u| u.most(dim));
            let round = ctx.length_like(name, &most)?;
            all.push(Change { result: dim.clone(), round, most, at: ctx.words(1), next: None });
        }
        Ok(Changing(all))
    }

    /// Finds what they are in the round that begins.
    pub fn begin_round(&self, ctx: &mut Ctx) -> Result<(), Unsupported> {
        self.0.iter().try_for_each(|c| open::count_found(ctx, c.at, &c.round))
    }

    /// The dims of a carried value in the round that runs; `result`: those behind the last.
    pub fn now(&self, result: &[Dim]) -> Vec<Dim> {
        let of = |dim: &Dim| self.0.iter().find(|c| c.result == *dim).map_or(dim, |c| &c.round).clone();
        result.iter().map(of).collect()
    }

    /// The dims of a carried value in the next round, where it comes with these: they may differ from those of the result where they change, and no
    /// run comes to the next round in which they are more than there is room for.
    pub fn next(&mut self, ctx: &mut Ctx, have: &[Dim], result: &[Dim]) -> Result<Vec<Dim>, Unsupported> {
        if have.len() != result.len() {
            return Err(Unsupported::bug("has results of other ranks than those of its sub-graph"));
        }
        let mut out = result.to_vec();
        for (dim, have) in out.iter_mut().zip(have) {
            let Some(c) = self.0.iter_mut().find(|c| c.result == *dim) else { continue };
            match &c.next {
                Some(other) => ctx.hold_equal(have, other)?,
                None => open::hold_room(ctx, have, &c.most)?,
            }
            c.next.get_or_insert_with(|| have.clone());
            dim.clone_from(have);
        }
        Ok(out)
    }

    /// Writes down what they are in the next round.
    pub fn tell(&mut self, ctx: &mut Ctx) -> Result<(), Unsupported> {
        for c in &mut self.0 {
            if let Some(next) = c.next.take() {
                open::tell(ctx, &next, c.at)?;
            }
        }
        Ok(())
    }

    /// Finds what they are behind the last round.
    pub fn end(&self, ctx: &mut Ctx) -> Result<(), Unsupported> {
        self.0.iter().try_for_each(|c| open::count_found(ctx, c.at, &c.result))
    }
}
