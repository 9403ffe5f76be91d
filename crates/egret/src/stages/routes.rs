//! Who gives what to whom: the ways of values between groups of stages.
//!
//! A value goes straight from the stage that makes it to each group that has a stage which uses it, once. What a stage makes for one group is a part of the sample; the source gives
//! parts too, of inputs of the model. A stage begins when all that it takes is there, so that stages of one step begin together.

use super::run::Staged;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The ways of a plan's values between groups of its stages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Routes<'s> {
    /// One for each group.
    pub(super) groups: Vec<Way<'s>>,
    /// What each stage gives to other groups: these and the values, in the order of groups.
    pub(super) gives: Vec<Vec<(usize, Vec<&'s str>)>>,
}

/// What comes to a group.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Way<'s> {
    /// Its stages, which a worker runs in order.
    pub(super) stages: Range<usize>,
    /// Inputs of the model that the source gives it; nothing where it gives none. A group that gets nothing of others is told of each sample in this way, with no inputs if it has none.
    pub(super) source: Option<Vec<&'s str>>,
    /// The groups with stages that give to it.
    pub(super) behind: BTreeSet<usize>,
    /// The parts that a sample comes in.
    pub(super) parts: usize,
}

impl<'s> Routes<'s> {
    /// Those of stages in groups: all stages in order.
    pub(super) fn of(staged: &'s Staged, groups: impl IntoIterator<Item = Range<usize>>) -> Routes<'s> {
        let ports: Vec<_> = (0..staged.count()).map(|k| staged.ports(k)).collect();
        Routes::between(&ports, &staged.input_names().collect(), groups)
    }

    /// Those of stages with these inputs and outputs.
    fn between(
        ports: &[(&'s [String], &'s [String])],
        inputs: &BTreeSet<&'s str>,
        groups: impl IntoIterator<Item = Range<usize>>,
    ) -> Routes<'s> {
        let mut maker: BTreeMap<&str, usize> = BTreeMap::new();
        for (k, (_, outputs)) in ports.iter().enumerate() {
            maker.extend(outputs.iter().map(|name| (name.as_str(), k)));
        }
        let mut gives = vec![vec![]; ports.len()];
        let mut ways = vec![];
        for (g, stages) in groups.into_iter().enumerate() {
            let uses: BTreeSet<&'s str> = ports[stages.clone()]
                .iter()
                .flat_map(|(uses, _)| uses.iter().map(String::as_str))
                .collect();
            let mut parts: BTreeMap<usize, Vec<&'s str>> = BTreeMap::new();
            let mut source = vec![];
            for name in uses {
                // An input of the model stays what it is, where an output has its name.
                match maker.get(name).filter(|_| !inputs.contains(name)) {
                    None => source.push(name),
                    Some(made) if stages.contains(made) => {}
                    Some(made) => parts.entry(*made).or_default().push(name),
                }
            }
            let source = (!source.is_empty() || parts.is_empty()).then_some(source);
            let count = parts.len() + usize::from(source.is_some());
            ways.push((stages, source, parts.keys().copied().collect::<Vec<_>>(), count));
            parts.into_iter().for_each(|(made, values)| gives[made].push((g, values)));
        }
        let at = |k: usize| ways.iter().position(|w| w.0.contains(&k)).unwrap_or(0);
        let behind: Vec<BTreeSet<usize>> =
            ways.iter().map(|w| w.2.iter().map(|&k| at(k)).collect()).collect();
        let way = |((stages, source, _, parts), behind)| Way { stages, source, behind, parts };
        Routes { groups: ways.into_iter().zip(behind).map(way).collect(), gives }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two towers, of which the second makes an output too, and a head that reads an input again.
    #[test]
    fn values_go_straight_to_who_uses_them() {
        let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let stages = [
            (&["x"][..], &["a"][..]),
            (&["y"], &["b", "out"]),
            (&["a"], &["c"]),
            (&["c", "b", "x"], &["z"]),
        ];
        let owned: Vec<_> = stages.iter().map(|(i, o)| (names(i), names(o))).collect();
        let ports: Vec<_> = owned.iter().map(|(i, o)| (i.as_slice(), o.as_slice())).collect();
        let inputs = BTreeSet::from(["x", "y"]);
        let each = Routes::between(&ports, &inputs, (0..4).map(|k| k..k + 1));
        assert_eq!(each.gives, [vec![(2, vec!["a"])], vec![(3, vec!["b"])], vec![(3, vec!["c"])], vec![]]);
        let parts: Vec<_> = each.groups.iter().map(|w| w.parts).collect();
        assert_eq!(parts, [1, 1, 1, 3]);
        assert_eq!(each.groups[2].source, None);
        assert_eq!(
            (each.groups[3].source.clone(), each.groups[3].behind.clone()),
            (Some(vec!["x"]), BTreeSet::from([1, 2]))
        );
        // What stays in a group is no part.
        let two = Routes::between(&ports, &inputs, [0..1, 1..4]);
        assert_eq!(two.gives, [vec![(1, vec!["a"])], vec![], vec![], vec![]]);
        assert_eq!((two.groups[1].source.clone(), two.groups[1].parts), (Some(vec!["x", "y"]), 2));
        // A stage without inputs is told of samples.
        let none = [(&[][..], ports[0].1), (ports[2].0, ports[2].1)];
        let told = Routes::between(&none, &inputs, [0..1, 1..2]);
        assert_eq!((told.groups[0].source.clone(), told.groups[0].parts), (Some(vec![]), 1));
    }
}
