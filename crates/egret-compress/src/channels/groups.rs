//! Groups: channels that are made and read by the same layers, of which any may go.

use crate::channels::ids::Id;
use crate::channels::walk::Walk;
use crate::contractions::reads;
use crate::ends::ends;
use crate::layers::{Contraction, named};
use crate::pattern::Pattern;
use crate::report::Reason;
use crate::request::Request;
use egret::{Error, Result};
use onnx_protobuf::GraphProto;
use std::collections::{BTreeMap, BTreeSet};

/// Groups of so many channels keep a multiple of [`STEP`].
const WIDE: usize = 64;
/// Channels of a vector register, or of half of one.
const STEP: usize = 8;

/// Channels that are made and read by the same layers.
pub struct Group {
    /// The layers that make them, as indices of products; those of single channels are not among them.
    pub makers: Vec<usize>,
    /// Every product with such a channel in its weight.
    pub touched: Vec<usize>,
    /// The channels.
    pub classes: Vec<Id>,
    /// Why all of them stay.
    pub stays: Option<(Reason, String)>,
    /// What part of them goes.
    pub part: f64,
    /// Whether that part was asked for by name.
    pub own: bool,
}

impl Group {
    /// Whether it may lose more or fewer channels than its part, for other groups.
    pub fn shares(&self) -> bool {
        self.stays.is_none() && !self.own
    }
}

/// The groups of a graph, in order of the layers that make them.
pub fn groups(walk: &Walk<'_>) -> Vec<Group> {
    // The axes of constants that a class stands on.
    let mut places: BTreeMap<Id, BTreeSet<(usize, usize)>> = BTreeMap::new();
    for (constant, name) in walk.tensors.keys().enumerate() {
        for (axis, ids) in walk.values[*name].iter().enumerate() {
            for &id in ids.iter().flat_map(|ids| ids.iter()) {
                places.entry(walk.ids.class(id)).or_default().insert((constant, axis));
            }
        }
    }
    let classes = |list: &[Id]| -> BTreeSet<Id> { list.iter().map(|&id| walk.ids.class(id)).collect() };
    let mut found: BTreeMap<&BTreeSet<(usize, usize)>, BTreeSet<Id>> = BTreeMap::new();
    for product in walk.products.iter().filter(|p| !p.depthwise) {
        for class in classes(&product.rows).into_iter().filter(|&c| walk.ids.why(c).is_none()) {
            found.entry(&places[&class]).or_default().insert(class);
        }
    }
    let rows: Vec<BTreeSet<Id>> = walk.products.iter().map(|p| classes(&p.rows)).collect();
    let columns: Vec<BTreeSet<Id>> = walk.products.iter().map(|p| classes(&p.columns)).collect();
    let mut out: Vec<Group> = found
        .into_values()
        .map(|classes| {
            let any = |of: &BTreeSet<Id>| classes.first().is_some_and(|c| of.contains(c));
            let all = 0..walk.products.len();
            Group {
                makers: all.clone().filter(|&p| !walk.products[p].depthwise && any(&rows[p])).collect(),
                touched: all.filter(|&p| any(&rows[p]) || any(&columns[p])).collect(),
                classes: classes.into_iter().collect(),
                stays: None,
                part: 0.0,
                own: false,
            }
        })
        .collect();
    out.sort_by_key(|g| (g.makers.clone(), g.classes[0]));
    out
}

/// How many of so many channels are kept.
pub fn kept(count: usize, gone: usize, multiple: Option<usize>) -> usize {
    if gone == 0 {
        return count;
    }
    let step = multiple.unwrap_or(if count < WIDE { 1 } else { STEP }).max(1);
    ((count - gone.min(count) + step / 2) / step * step).clamp(step.min(count), count)
}

/// Decide which groups stay, and what part of the others goes.
///
/// # Errors
/// An option that names no layer, or one that makes no channels that can go.
pub fn plan(walk: &Walk<'_>, found: &[Contraction], groups: &mut [Group], request: &Request) -> Result<()> {
    let Pattern::Channels(part) = request.pattern else {
        return Err(Error::internal("groups of channels for another pattern"));
    };
    let of = |p: usize| found.iter().find(|c| c.node == Some(walk.products[p].node));
    let (first, _) = ends(walk.graph);
    for (name, option) in
        request.layers.iter().map(|l| (&l.0, "--layer")).chain(request.skip.iter().map(|s| (s, "--skip")))
    {
        named(found, name, option)?;
        let makes = |g: &Group| g.makers.iter().any(|&p| of(p).is_some_and(|c| c.is(name)));
        if option == "--layer" && !groups.iter().any(makes) {
            let node = found.iter().find(|c| c.is(name)).and_then(|c| c.node);
            let (_, text) = why(walk, node);
            return Err(Error::user(format!("--layer {name} has no channels that can go: {text}")));
        }
    }
    for group in groups.iter_mut() {
        let named = |p: &usize, name: &String| of(*p).is_some_and(|c| c.is(name));
        let own = request.layers.iter().rev().find(|(name, _)| group.makers.iter().any(|p| named(p, name)));
        (group.part, group.own) = (part, own.is_some());
        match own.map(|l| l.1) {
            None => {}
            Some(Pattern::Channels(part)) => group.part = part,
            Some(other) => {
                let name = own.map_or("", |l| l.0.as_str());
                return Err(Error::user(format!(
                    "--layer {name}={other}: with channels:P, layers have other amounts of channels only"
                )));
            }
        }
        let skipped = request.skip.iter().find(|s| group.touched.iter().any(|p| named(p, s)));
        let unread = group.touched.iter().find_map(|&p| match of(p).map(|c| &c.layer) {
            Some(Err(_)) if walk.products[p].recurrent => None,
            Some(Err((reason, text))) => Some((*reason, text.clone())),
            _ => None,
        });
        group.stays = if let Some(name) = skipped {
            Some((Reason::Skipped, format!("--skip {name} leaves its weights as they are")))
        } else if unread.is_some() {
            unread
        } else if group.classes.len() < 2 {
            Some((Reason::TooSmall, "it makes one channel".to_owned()))
        } else if group.own || request.all {
            None
        } else if group.makers.iter().any(|&p| first.contains(&walk.products[p].node)) {
            Some((Reason::End, "it is the first; --all prunes it".to_owned()))
        } else if in_chain(walk, &group.makers) {
            let count = group.makers.len();
            let text = format!("its channels are those of a sum through {count} layers; --all prunes them");
            Some((Reason::Joined, text))
        } else {
            None
        };
    }
    Ok(())
}

/// Why the outputs of a contraction stay.
pub fn why(walk: &Walk<'_>, node: Option<usize>) -> (Reason, String) {
    let product = walk.products.iter().find(|p| Some(p.node) == node);
    let text = match product {
        Some(p) => p.rows.iter().find_map(|&id| walk.ids.why(id)).map(str::to_owned),
        None => return (Reason::NotDone, "its weight is no constant with channels".to_owned()),
    };
    let end = text.as_ref().is_some_and(|t| t.ends_with("an output of the model"));
    let reason = if end { Reason::End } else { Reason::Fixed };
    (reason, text.unwrap_or_else(|| "too few channels for what was asked".to_owned()))
}

/// Whether one of the layers depends on another: then they add to a sum that goes on.
fn in_chain(walk: &Walk<'_>, makers: &[usize]) -> bool {
    makers.iter().any(|&from| {
        let start = walk.products[from].node;
        let behind = behind(walk.graph, start);
        makers.iter().any(|&p| p != from && behind.contains(&walk.products[p].node))
    })
}

/// The nodes that depend on a node.
fn behind(graph: &GraphProto, start: usize) -> BTreeSet<usize> {
    let mut values: BTreeSet<&str> = graph.node[start].output.iter().map(String::as_str).collect();
    let mut out = BTreeSet::new();
    for (i, node) in graph.node.iter().enumerate().skip(start + 1) {
        let mut names = vec![];
        reads(std::slice::from_ref(node), &mut names);
        if names.iter().any(|n| values.contains(n)) {
            out.insert(i);
            values.extend(node.output.iter().filter(|o| !o.is_empty()).map(String::as_str));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::kept;

    #[test]
    fn wide_groups_keep_multiples_and_none_goes_whole() {
        assert_eq!(kept(10, 2, None), 8);
        assert_eq!(kept(96, 19, None), 80);
        assert_eq!(kept(96, 19, Some(1)), 77);
        assert_eq!(kept(100, 0, None), 100);
        assert_eq!(kept(4, 4, None), 1);
        assert_eq!(kept(64, 63, None), 8);
        assert_eq!(kept(5, 1, Some(8)), 5);
    }
}
