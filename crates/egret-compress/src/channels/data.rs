//! Structured pruning with data: channels go that cost the layers behind least when the other channels make up for them, and these
//! layers are fitted to the outputs of the original, one after the other.

use crate::channels::gates::{self, Gates};
use crate::channels::groups::Group;
use crate::channels::ids::Id;
use crate::channels::score::{self, Scores};
use crate::channels::walk::Walk;
use crate::constants::Constants;
use crate::data::original::{self, Original, Target};
use crate::data::reconstruct::{Fit, Reconstructed, reconstruct};
use crate::ends::ends;
use crate::layers::Contraction;
use crate::linalg::{axpy, inverse_factor, solve_rows};
use crate::mask;
use crate::methods::{Method, Normal};
use crate::moments::Moments;
use crate::request::{Request, Watch};
use crate::scope::Scope;
use crate::state::State;
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::ModelProto;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is left of a row is scaled by no more than this, nor by less than one over it.
const MOST: f64 = 2.0;

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

    /// The scores of a group.
    ///
    /// # Errors
    /// Data that do not fit the model, or make no numbers.
    pub fn scores(
        &self,
        found: &[Contraction],
        group: &Group,
        method: Method,
        scope: Scope,
    ) -> Result<Scores> {
        if !method.needs_data() || group.stays.is_some() {
            return score::by_norm(self.walk, found, group);
        }
        let reads = |t: &&Target<()>| {
            self.products.get(&t.index).is_some_and(|&p| reads_group(self.walk, p, group))
        };
        let targets: Vec<&Target<()>> = self.original.targets.iter().filter(reads).collect();
        let moments = self.original.moments(&self.original.model, &targets, self.samples)?;
        let index: BTreeMap<Id, usize> = group.classes.iter().copied().zip(0..).collect();
        let mut readers = vec![];
        for (target, moments) in targets.iter().zip(&moments) {
            let (Some(&product), Some(moments)) = (self.products.get(&target.index), moments.first())
            else {
                continue;
            };
            let weights = self.original.weights(target)?;
            let columns = &self.walk.products[product].columns;
            let positions = target.layer.layout.position_count();
            let mut of = vec![vec![]; index.len()];
            for (c, id) in columns.iter().enumerate() {
                if let Some(&k) = index.get(&self.walk.ids.class(*id)) {
                    of[k].extend((0..positions).map(|p| p * columns.len() + c));
                }
            }
            let unsolved =
                || Error::user(format!("`{}`: its data make no system that can be solved", target.name));
            readers.push(Reader::new(&weights, moments, of, method).ok_or_else(unsolved)?);
        }
        for gates in &self.gates {
            let mut of = vec![vec![]; index.len()];
            for (c, class) in gates.columns.iter().enumerate() {
                if let Some(&k) = index.get(class) {
                    of[k].push(c);
                }
            }
            if of.iter().any(|list| !list.is_empty()) {
                let unsolved = || Error::user("the data make no system of gates that can be solved");
                readers.push(Reader::new(&gates.weights, &gates.moments, of, method).ok_or_else(unsolved)?);
            }
        }
        if method.name() != "obc" {
            let mut out = vec![0.0; index.len()];
            for reader in &readers {
                (0..out.len()).for_each(|k| out[k] += reader.cost(k));
            }
            return Ok(out);
        }
        let part = if scope == Scope::Global { (1.0 + group.part) / 2.0 } else { group.part };
        // Rounding may take some more than asked.
        let count = (mask::count(part, index.len()) + 8).min(index.len());
        Ok(greedy(&mut readers, index.len(), count))
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
        let mut solve = |target: &Target<()>, weights: &[f64], moments: &[Moments]| {
            let columns = &self.walk.products[*self.products.get(&target.index)?].columns;
            let gone: Vec<bool> = columns.iter().map(|&c| gone.contains(&self.walk.ids.class(c))).collect();
            let n = target.layer.layout.position_count() * columns.len();
            let kept: Vec<usize> = (0..n).filter(|j| !gone[j % gone.len()]).collect();
            let mut out = vec![0.0; weights.len()];
            if method.name() == "obc" {
                let normal = Normal::new(weights, moments.first()?)?;
                let part = |row: &[f64]| -> Vec<f64> { kept.iter().map(|&j| row[j]).collect() };
                let h: Vec<f64> = kept.iter().flat_map(|&i| part(&normal.h[i * n..(i + 1) * n])).collect();
                let b: Vec<f64> = normal.b.chunks_exact(n).flat_map(part).collect();
                let solved = solve_rows(&b, &inverse_factor(&h, kept.len())?, kept.len());
                for (row, solved) in out.chunks_exact_mut(n).zip(solved.chunks_exact(kept.len())) {
                    kept.iter().zip(solved).for_each(|(&j, v)| row[j] = *v);
                }
            } else {
                for (row, old) in out.chunks_exact_mut(n).zip(weights.chunks_exact(n)) {
                    kept.iter().for_each(|&j| row[j] = old[j]);
                }
            }
            Some(out.into())
        };
        let mut start = self.original.model.clone();
        for gates in &self.gates {
            gates.put(start.graph.mut_or_insert_default(), gone, method)?;
        }
        let fit = Fit { samples: self.samples, state, pass: Request::PASS };
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

/// Whether a product sums over channels of a group.
fn reads_group(walk: &Walk<'_>, product: usize, group: &Group) -> bool {
    let columns = &walk.products[product].columns;
    columns.iter().any(|&id| group.classes.binary_search(&walk.ids.class(id)).is_ok())
}

/// A layer that reads channels of a group.
struct Reader {
    /// Its weights, with nothing removed or with what others make up for.
    w: Vec<f64>,
    /// The inverse of the covariance of its inputs; empty where only norms count.
    p: Vec<f64>,
    /// Norms of its inputs.
    norms: Vec<f64>,
    n: usize,
    /// The columns of each channel.
    of: Vec<Vec<usize>>,
    whole: f64,
}

impl Reader {
    fn new(weights: &[f64], moments: &Moments, of: Vec<Vec<usize>>, method: Method) -> Option<Reader> {
        let n = moments.x_mean.len();
        let norms = moments.x_norms();
        let (mut w, mut p) = (weights.to_vec(), vec![]);
        let mut whole: f64 = moments.yy.iter().sum();
        if method.name() == "obc" {
            let normal = Normal::new(weights, moments)?;
            w = solve_rows(&normal.b, &normal.u, n);
            let mut unit = vec![0.0; n * n];
            (0..n).for_each(|i| unit[i * n + i] = 1.0);
            p = solve_rows(&unit, &normal.u, n);
        } else {
            whole = w.iter().enumerate().map(|(i, w)| w.abs() * norms[i % n]).sum();
        }
        Some(Reader { w, p, norms, n, of, whole: if whole > 0.0 { whole } else { 1.0 } })
    }

    /// What a channel costs, relative to all.
    fn cost(&self, channel: usize) -> f64 {
        let n = self.n;
        let column = |j: usize| -> f64 {
            let rows = self.w.iter().skip(j).step_by(n);
            match self.p.is_empty() {
                true => rows.map(|w| w.abs()).sum::<f64>() * self.norms[j],
                false => rows.map(|w| w * w).sum::<f64>() / self.p[j * n + j],
            }
        };
        self.of[channel].iter().map(|&j| column(j)).sum::<f64>() / self.whole
    }

    /// Take a channel away: the others make up for it.
    fn remove(&mut self, channel: usize) {
        let n = self.n;
        for &j in &self.of[channel].clone() {
            let line = self.p[j * n..(j + 1) * n].to_vec();
            let pivot = line[j];
            for row in self.w.chunks_exact_mut(n) {
                let factor = row[j] / pivot;
                axpy(row, -factor, &line);
                row[j] = 0.0;
            }
            for (i, row) in self.p.chunks_exact_mut(n).enumerate() {
                if i != j && row[j] != 0.0 {
                    let factor = row[j] / pivot;
                    axpy(row, -factor, &line);
                    row[j] = 0.0;
                }
            }
            self.p[j * n..(j + 1) * n].fill(0.0);
            self.p[j * n + j] = 1.0;
        }
    }
}

/// Scores that rise in the order in which the cheapest channel goes, one at a time; all behind `count` stay.
fn greedy(readers: &mut [Reader], channels: usize, count: usize) -> Scores {
    let mut out = vec![f64::INFINITY; channels];
    let mut score = 0f64;
    for _ in 0..count {
        let cost = |k: usize| readers.iter().map(|r| r.cost(k)).sum::<f64>();
        let left = (0..channels).filter(|&k| out[k].is_infinite()).map(|k| (cost(k), k));
        let Some((cost, next)) = left.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))) else { break };
        // One that goes later never counts as cheaper, and ties keep their order.
        score = cost.max(score.next_up());
        out[next] = score;
        readers.iter_mut().for_each(|r| r.remove(next));
    }
    out
}
