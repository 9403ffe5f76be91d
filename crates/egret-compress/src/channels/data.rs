//! Structured pruning with data: channels go that cost the layers behind least when the other channels make up for them, and these
//! layers are fitted to the outputs of the original, one after the other.

use crate::channels::gates::{self, Gates};
use crate::channels::groups::Group;
use crate::channels::ids::Id;
use crate::channels::reader::{self, MOST, Reader};
use crate::channels::score::{self, Scores};
use crate::channels::walk::Walk;
use crate::constants::Constants;
use crate::damping::{self, Held};
use crate::data::distance::Distance;
use crate::data::original::{self, HELD, Original, Seen, Target};
use crate::data::reconstruct::{Fit, Reconstructed, put_layer, reconstruct};
use crate::ends::ends;
use crate::layers::Contraction;
use crate::mask;
use crate::methods::{DAMPING, Method};
use crate::request::{Request, Watch};
use crate::state::State;
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::ModelProto;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Channels of a model, and samples.
pub struct Data<'a> {
    /// The model with biases, and the layers that are fitted.
    pub original: Original<'a, ()>,
    /// What they are fitted to.
    pub samples: &'a Samples,
    walk: &'a Walk<'a>,
    /// The product of each contraction.
    products: BTreeMap<usize, usize>,
    /// Weights of recurrent layers that read channels of free groups.
    gates: Vec<Gates>,
}

impl<'a> Data<'a> {
    /// The layers that read channels of free groups; groups whose readers cannot be fitted stay.
    ///
    /// # Errors
    /// As of [`Original::new`].
    pub fn new(
        model: &ModelProto,
        path: &'a Path,
        walk: &'a Walk<'a>,
        found: &[Contraction],
        groups: &mut [Group],
        request: &Request,
        samples: &'a Samples,
    ) -> Result<Data<'a>> {
        let constants = Constants::new(walk.graph);
        let of =
            |c: &Contraction| walk.products.iter().position(|p| Some(p.node) == c.node && !p.depthwise);
        let (first, _) = ends(walk.graph);
        let mut products = BTreeMap::new();
        let mut tasks = vec![None; found.len()];
        let unreached = original::unreached(model, path, found, samples)?;
        // A group that no sample reaches has nothing to be fitted to.
        for group in groups.iter_mut().filter(|g| g.stays.is_none()) {
            let at = |c: &Contraction| group.makers.iter().any(|&p| Some(walk.products[p].node) == c.node);
            let makers = found.iter().zip(&unreached).filter(|(c, _)| at(c)).map(|(_, why)| why);
            let whys: Vec<&Option<_>> = makers.collect();
            if let Some(Some(why)) = whys.first().filter(|_| whys.iter().all(|w| w.is_some())) {
                group.stays = Some(why.clone());
            }
        }
        for (index, c) in found.iter().enumerate() {
            let (Some(product), Ok(layer)) = (of(c), &c.layer) else { continue };
            products.insert(index, product);
            let fits =
                unreached[index].clone().map_or_else(|| original::fits(walk.graph, &constants, layer), Err);
            let mut reads = false;
            for group in groups.iter_mut().filter(|g| g.stays.is_none()) {
                if reads_group(walk, product, group) {
                    reads = true;
                    if let Err((reason, text)) = &fits {
                        group.stays = Some((*reason, format!("{} reads its channels: {text}", c.name)));
                    }
                }
            }
            let skipped = request.skip.iter().any(|s| c.is(s));
            // What nothing goes from can make up for what went before it.
            let repairs = request.method.name() == "obc" && !first.contains(&layer.node);
            if fits.is_ok() && !skipped && (reads || repairs) {
                tasks[index] = Some(());
            }
        }
        let gates = gates::gates(model, path, walk, groups, samples)?;
        let original = Original::new(model, path, found, &tasks)?;
        Ok(Data { original, samples, walk, products, gates })
    }

    /// The scores of a group, its `most` lowest in order. With `levels`, numbers of channels of which all may go, also what the model loses
    /// without so many; with none, no losses.
    ///
    /// # Errors
    /// Data that do not fit the model, or make no numbers.
    pub fn scores(
        &self,
        found: &[Contraction],
        group: &Group,
        method: Method,
        most: usize,
        levels: Option<(&[usize], &mut Distance<'_>)>,
    ) -> Result<(Scores, Vec<f64>)> {
        if !method.needs_data() || group.stays.is_some() {
            return Ok((score::by_norm(self.walk, found, group)?, vec![]));
        }
        let readers = self.readers(group)?;
        let channels = group.classes.len();
        let unsolved =
            |r: &Read<'_>| Error::user(format!("`{}`: its data make no system that can be solved", r.name));
        let with = |dampings: &[f64]| -> Result<Vec<Reader>> {
            let one = |(r, &damping): (&Read<'_>, &f64)| {
                let all = r.seen.all.first().ok_or_else(|| unsolved(r))?;
                let reader = Reader::new(&r.weights, all, r.of.clone(), method, damping);
                reader.ok_or_else(|| unsolved(r))
            };
            readers.iter().zip(dampings).map(one).collect()
        };
        let mut dampings = vec![DAMPING; readers.len()];
        if method.name() != "obc" {
            return Ok((reader::costs(&with(&dampings)?, channels), vec![]));
        }
        // Which damping is best is asked without a quarter of the channels, whatever is to go.
        let quarter = channels.div_ceil(4).min(channels - 1);
        let first = reader::greedy(&mut with(&dampings)?, channels, quarter.max(most));
        for (r, damping) in readers.iter().zip(&mut dampings) {
            let kept = r.kept(&first, quarter);
            *damping = damping::best(&r.seen, MOST, &reader::solve(&r.weights, &kept));
        }
        let scores = match dampings.iter().all(|&d| d == DAMPING) {
            true => first,
            false => reader::greedy(&mut with(&dampings)?, channels, quarter.max(most)),
        };
        let Some((levels, distance)) = levels else { return Ok((scores, vec![])) };
        let fitted = |gone: usize| -> Result<Vec<Held>> {
            let one = |(r, &damping): (&Read<'_>, &f64)| {
                let kept = r.kept(&scores, gone);
                damping::held(&r.seen, MOST, damping, &reader::solve(&r.weights, &kept))
                    .ok_or_else(|| unsolved(r))
            };
            readers.iter().zip(&dampings).map(one).collect()
        };
        let sum = |list: &[Held]| list.iter().map(|h| h.error).sum::<f64>();
        let mut errors = vec![];
        for &gone in levels {
            errors.push(sum(&fitted(gone)?));
        }
        // The layers' own errors say how the loss of the model grows, and one copy of it how large it is.
        let copied = fitted(quarter)?;
        let mut model = self.original.model.clone();
        for (r, held) in readers.iter().zip(&copied) {
            if let Some(target) = r.target {
                put_layer(&mut model, target, &held.weights, &held.shift);
            }
        }
        let gone = mask::lowest(scores.iter().copied().zip(0..).collect(), quarter);
        let gone: BTreeSet<Id> = gone.map(|k| group.classes[k]).collect();
        for gates in &self.gates {
            gates.put(model.graph.mut_or_insert_default(), &gone, method)?;
        }
        let apart = self.samples.len() >= HELD;
        let loss = distance.of(&model, self.samples, &|number| !apart || original::held(number))?;
        let (loss, error) = (loss.unwrap_or_else(|| sum(&copied)), sum(&copied));
        let scale = if error > 0.0 { loss / error } else { 1.0 };
        Ok((scores, errors.into_iter().map(|e| e * scale).collect()))
    }

    /// The layers that read channels of a group.
    fn readers(&self, group: &Group) -> Result<Vec<Read<'_>>> {
        let reads = |t: &&Target<()>| {
            self.products.get(&t.index).is_some_and(|&p| reads_group(self.walk, p, group))
        };
        let targets: Vec<&Target<()>> = self.original.targets.iter().filter(reads).collect();
        let seen = self.original.seen(&self.original.model, &targets, self.samples)?;
        let index: BTreeMap<Id, usize> = group.classes.iter().copied().zip(0..).collect();
        let mut out = vec![];
        for (target, seen) in targets.into_iter().zip(seen) {
            let Some(&product) = self.products.get(&target.index) else { continue };
            let columns = &self.walk.products[product].columns;
            let positions = target.layer.layout.position_count();
            let mut of = vec![vec![]; index.len()];
            for (c, id) in columns.iter().enumerate() {
                if let Some(&k) = index.get(&self.walk.ids.class(*id)) {
                    of[k].extend((0..positions).map(|p| p * columns.len() + c));
                }
            }
            let weights = self.original.weights(target)?;
            out.push(Read { name: &target.name, target: Some(target), weights, seen, of });
        }
        for gates in &self.gates {
            let mut of = vec![vec![]; index.len()];
            for (c, class) in gates.columns.iter().enumerate() {
                if let Some(&k) = index.get(class) {
                    of[k].push(c);
                }
            }
            if let Some(moments) = gates.moments.as_ref().filter(|_| of.iter().any(|list| !list.is_empty()))
            {
                let seen = Seen { all: vec![moments.clone()], parts: None };
                let (name, weights) = (gates.name.as_str(), gates.weights.clone());
                out.push(Read { name, target: None, weights, seen, of });
            }
        }
        Ok(out)
    }

    /// The model whose layers do not read the channels that go, fitted to the original.
    ///
    /// # Errors
    /// Data that do not fit the model, or make no numbers.
    pub fn fitted(
        &self,
        count: usize,
        gone: &BTreeSet<Id>,
        method: Method,
        state: &State,
        watch: &mut Watch<'_>,
    ) -> Result<Reconstructed> {
        let obc = method.name() == "obc";
        let mut solve = |target: &Target<()>, weights: &[f64], seen: &Seen| {
            let columns = &self.walk.products[*self.products.get(&target.index)?].columns;
            let gone: Vec<bool> = columns.iter().map(|&c| gone.contains(&self.walk.ids.class(c))).collect();
            let n = target.layer.layout.position_count() * columns.len();
            let kept: Vec<usize> = (0..n).filter(|j| !gone[j % gone.len()]).collect();
            if obc {
                let solve = reader::solve(weights, &kept);
                return Some(solve(&seen.all, damping::best(seen, MOST, &solve))?.into());
            }
            let mut out = vec![0.0; weights.len()];
            for (row, old) in out.chunks_exact_mut(n).zip(weights.chunks_exact(n)) {
                kept.iter().for_each(|&j| row[j] = old[j]);
            }
            Some(out.into())
        };
        let mut start = self.original.model.clone();
        for gates in &self.gates {
            gates.put(start.graph.mut_or_insert_default(), gone, method)?;
        }
        let fit = Fit { samples: self.samples, state, pass: Request::PASS, held: obc };
        reconstruct(&self.original, start, count, fit, &|_| MOST, &mut solve, watch)
    }

    /// The classes of another walk, of the same graph with other weights and more biases, that stand where these do.
    pub fn moved(&self, gone: &BTreeSet<Id>, found: &[Contraction], to: &Walk<'_>) -> BTreeSet<Id> {
        let mut out = BTreeSet::new();
        for (index, product) in &self.products {
            let from = &self.walk.products[*product];
            let Some(node) = found.get(*index).and_then(|c| c.node) else { continue };
            let Some(there) = to.products.iter().find(|p| p.node == node) else { continue };
            for (old, new) in from.rows.iter().zip(there.rows.iter()) {
                if gone.contains(&self.walk.ids.class(*old)) {
                    out.insert(to.ids.class(*new));
                }
            }
        }
        let recurrent = |w: &Walk<'_>| -> Vec<std::rc::Rc<Vec<Id>>> {
            w.products.iter().filter(|p| p.recurrent).map(|p| p.rows.clone()).collect()
        };
        // Nodes have moved, and their order is the same.
        for (from, to_rows) in recurrent(self.walk).iter().zip(recurrent(to)) {
            for (old, new) in from.iter().zip(to_rows.iter()) {
                if gone.contains(&self.walk.ids.class(*old)) {
                    out.insert(to.ids.class(*new));
                }
            }
        }
        out
    }
}

/// A layer that reads channels of a group.
struct Read<'a> {
    name: &'a str,
    /// `None` of the gates of a recurrent layer.
    target: Option<&'a Target<()>>,
    weights: Vec<f64>,
    seen: Seen,
    /// The columns of each channel.
    of: Vec<Vec<usize>>,
}

impl Read<'_> {
    /// The columns that it keeps without so many channels, those with the lowest scores.
    fn kept(&self, scores: &[f64], gone: usize) -> Vec<usize> {
        let keys = scores.iter().copied().zip(0..).collect();
        let gone: BTreeSet<usize> =
            mask::lowest(keys, gone).flat_map(|k| self.of[k].iter().copied()).collect();
        let columns = self.seen.all.first().map_or(0, |m| m.x_mean.len());
        (0..columns).filter(|j| !gone.contains(j)).collect()
    }
}

/// Whether a product sums over channels of a group.
fn reads_group(walk: &Walk<'_>, product: usize, group: &Group) -> bool {
    let columns = &walk.products[product].columns;
    columns.iter().any(|&id| group.classes.binary_search(&walk.ids.class(id)).is_ok())
}
