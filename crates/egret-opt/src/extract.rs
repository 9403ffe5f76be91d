//! Extraction: one node for every class that the outputs need, so that the whole is cheap. A node that several others use
//! counts once (greedy over sets of classes, to a fixpoint), then single choices are changed while that helps; small
//! regions are then searched for the cheapest choice of all (`exact`).

use crate::alternatives::Alternative;
use crate::egraph::{ENode, Egraph, Symbol};
use crate::exact::exact;
use crate::facts::Facts;
use egg::{Id, Language};
use std::collections::BTreeMap;

/// Local improvement looks at regions of at most so many classes with a choice.
const IMPROVABLE: usize = 200;

/// Rounds of going through all classes again.
const ROUNDS: usize = 8;

/// Time, then number of nodes.
pub type Cost = (u64, u32);

/// What is chosen for each class that is needed.
pub struct Extraction {
    /// Nodes by class.
    pub chosen: BTreeMap<Id, ENode>,
    /// By class where another class is computed in its place.
    pub taken: BTreeMap<Id, Alternative>,
    /// What they cost: nanoseconds, nodes.
    pub cost: Cost,
    /// Whether nothing is cheaper.
    pub proven: bool,
    /// All classes, in order.
    ids: Vec<Id>,
    /// The candidate chosen for each of them, needed or not.
    choice: Vec<usize>,
    roots: Vec<usize>,
    /// The alternatives that could be chosen.
    open: Vec<Alternative>,
}

/// What may be chosen for a class.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form<'a> {
    /// One of its nodes.
    Node(&'a ENode),
    /// What the application of this number put near it.
    Alternative(usize),
}

impl Extraction {
    /// What the whole would cost with other forms of some classes, for each set of them; `None`: it would have a cycle, or a class has
    /// no such form. `more`: alternatives beside those that could be chosen.
    pub fn costs_with(
        &self,
        egraph: &Egraph,
        sets: &[Vec<(Id, Form)>],
        more: &[Alternative],
    ) -> Vec<Option<Cost>> {
        let is_new = |a: &&Alternative| self.open.iter().all(|o| o.application != a.application);
        let all: Vec<Alternative> = self.open.iter().chain(more.iter().filter(is_new)).cloned().collect();
        let candidates = candidates(egraph, &self.ids, &all);
        let place = |&(class, form): &(Id, Form)| {
            let at = self.ids.binary_search(&class).ok()?;
            Some((at, candidates[at].iter().position(|(_, _, f)| *f == form)?))
        };
        let one = |set: &Vec<(Id, Form)>| {
            let mut choice = self.choice.clone();
            for other in set {
                let (at, k) = place(other)?;
                choice[at] = k;
            }
            total(&candidates, &self.roots, &choice).map(|(_, cost)| cost)
        };
        sets.iter().map(one).collect()
    }
}

fn node_cost(egraph: &Egraph, class: Id, node: &ENode) -> Cost {
    let children: Vec<&Facts> = node.children.iter().map(|&c| &egraph[c].data).collect();
    match egraph.analysis.symbols.get(node.symbol) {
        Symbol::Op { op, attrs } => {
            (egraph.analysis.cost.node(*op, attrs, &children, &egraph[class].data), 1)
        }
        Symbol::Opaque { .. } => (1000, 1),
        _ => (0, 0),
    }
}

/// A set of classes by their places.
pub(crate) type Set = Vec<u64>;

/// By class the nodes that may be chosen: cost, the places of their operands, node.
pub(crate) type Candidates<N> = [Vec<(Cost, Vec<usize>, N)>];

/// Extract what computes `roots`, or by way of alternatives is near it. `None`: some class has no node free of cycles, which a
/// graph's own nodes rule out.
pub fn extract(egraph: &Egraph, roots: &[Id], alternatives: &[Alternative]) -> Option<Extraction> {
    let mut ids: Vec<Id> = egraph.classes().map(|c| c.id).collect();
    ids.sort();
    let candidates = candidates(egraph, &ids, alternatives);
    let roots: Vec<usize> =
        roots.iter().map(|&r| ids.binary_search(&egraph.find(r)).ok()).collect::<Option<_>>()?;
    let (choice, proven) = match candidates.iter().all(|list| list.len() == 1) {
        // Nothing is equal to anything else.
        true => (vec![0; candidates.len()], true),
        false => cheapest(&candidates, &roots)?,
    };
    let (needed, cost) = total(&candidates, &roots, &choice)?;
    let (mut chosen, mut taken) = (BTreeMap::new(), BTreeMap::new());
    for class in needed {
        match candidates[class][choice[class]].2 {
            Form::Node(node) => {
                chosen.insert(ids[class], node.clone());
            }
            Form::Alternative(application) => {
                let alternative = alternatives.iter().find(|a| a.application == application)?;
                taken.insert(ids[class], alternative.clone());
            }
        }
    }
    Some(Extraction { chosen, taken, cost, proven, ids, choice, roots, open: alternatives.to_vec() })
}

/// A choice for each class, as cheap as was found, and whether it is known to be the cheapest.
fn cheapest<N>(candidates: &Candidates<N>, roots: &[usize]) -> Option<(Vec<usize>, bool)> {
    let mut choice = greedy(candidates)?;
    refine(candidates, &mut choice);
    let mut proven = false;
    for _ in 0..ROUNDS {
        improve(candidates, roots, &mut choice);
        let (_, before) = total(candidates, roots, &choice)?;
        proven = exact(candidates, roots, before, &mut choice);
        // A search that was given up may still have left a better place to start from.
        if proven || total(candidates, roots, &choice)?.1 == before {
            break;
        }
    }
    Some((choice, proven))
}

/// Candidates by class: cost, children, form; the cheapest node first, then by spelling, so that no id decides, and at last what is
/// only near the value, in the order given.
fn candidates<'a>(
    egraph: &'a Egraph,
    ids: &[Id],
    alternatives: &[Alternative],
) -> Vec<Vec<(Cost, Vec<usize>, Form<'a>)>> {
    let place: BTreeMap<Id, usize> = ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
    let nodes = |&id: &Id| {
        let children = |n: &ENode| n.children().iter().map(|c| place[&egraph.find(*c)]).collect();
        let nodes = egraph[id].nodes.iter();
        let mut list: Vec<_> =
            nodes.map(|n| (node_cost(egraph, id, n), children(n), Form::Node(n))).collect();
        list.sort();
        list
    };
    let mut all: Vec<Vec<_>> = ids.iter().map(nodes).collect();
    for a in alternatives {
        let (class, form) = (place[&egraph.find(a.class)], place[&egraph.find(a.form)]);
        all[class].push(((0, 0), vec![form], Form::Alternative(a.application)));
    }
    all
}

pub(crate) fn greedy<N>(candidates: &Candidates<N>) -> Option<Vec<usize>> {
    let n = candidates.len();
    let words = n.div_ceil(64);
    let mut best: Vec<Option<(Cost, Set, usize)>> = vec![None; n];
    let mut own: Vec<Cost> = vec![(0, 0); n];
    loop {
        let mut changed = false;
        for class in 0..n {
            for (k, (cost, children, _)) in candidates[class].iter().enumerate() {
                let Some(set) = union(&best, children, words) else { continue };
                if set[class / 64] >> (class % 64) & 1 == 1 {
                    continue;
                }
                let sum = add_up(*cost, &set, &own);
                if best[class].as_ref().is_none_or(|(is, _, _)| sum < *is) {
                    let mut set = set;
                    set[class / 64] |= 1 << (class % 64);
                    best[class] = Some((sum, set, k));
                    own[class] = *cost;
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    best.into_iter().map(|b| b.map(|(_, _, k)| k)).collect()
}

/// The greedy sums can be stale: a class's set is kept while what it holds gets other nodes. Go through the classes again, operands
/// first, each with the sets of this round; candidates that stand on later classes are left out, so that no cycle arises.
fn refine<N>(candidates: &Candidates<N>, choice: &mut [usize]) {
    let words = candidates.len().div_ceil(64);
    for _ in 0..ROUNDS {
        let order = operands_first(candidates, choice);
        let mut sets: Vec<Option<Set>> = vec![None; candidates.len()];
        let mut own: Vec<Cost> = vec![(0, 0); candidates.len()];
        let mut changed = false;
        for class in order {
            let mut best: Option<(Cost, Set, usize)> = None;
            for (k, (cost, children, _)) in candidates[class].iter().enumerate() {
                let mut set = vec![0u64; words];
                if !children.iter().all(|&c| sets[c].as_ref().is_some_and(|s| merge(&mut set, s))) {
                    continue;
                }
                let sum = add_up(*cost, &set, &own);
                // What is chosen stays where another is no cheaper.
                let better = |b: &(Cost, Set, usize)| sum < b.0 || sum == b.0 && k == choice[class];
                if best.as_ref().is_none_or(better) {
                    best = Some((sum, set, k));
                }
            }
            let Some((_, mut set, k)) = best else { return };
            set[class / 64] |= 1 << (class % 64);
            (sets[class], own[class]) = (Some(set), candidates[class][k].0);
            changed |= choice[class] != k;
            choice[class] = k;
        }
        if !changed {
            return;
        }
    }
}

/// Add one set to another.
pub(crate) fn merge(into: &mut Set, from: &Set) -> bool {
    into.iter_mut().zip(from).for_each(|(a, b)| *a |= b);
    true
}

/// The cost of a set's classes and one node more.
fn add_up(cost: Cost, set: &Set, own: &[Cost]) -> Cost {
    let mut sum = cost;
    for (w, bits) in set.iter().enumerate() {
        let mut bits = *bits;
        while bits != 0 {
            let c = own[w * 64 + bits.trailing_zeros() as usize];
            sum = (sum.0 + c.0, sum.1 + c.1);
            bits &= bits - 1;
        }
    }
    sum
}

/// All classes, each after those that its chosen node stands on.
fn operands_first<N>(candidates: &Candidates<N>, choice: &[usize]) -> Vec<usize> {
    let mut seen = vec![false; candidates.len()];
    let mut order = vec![];
    for class in 0..candidates.len() {
        let mut stack = vec![(class, false)];
        while let Some((c, done)) = stack.pop() {
            if done {
                order.push(c);
            } else if !std::mem::replace(&mut seen[c], true) {
                stack.push((c, true));
                stack.extend(
                    candidates[c][choice[c]].1.iter().rev().filter(|&&o| !seen[o]).map(|&o| (o, false)),
                );
            }
        }
    }
    order
}

fn union(best: &[Option<(Cost, Set, usize)>], children: &[usize], words: usize) -> Option<Set> {
    let mut set = vec![0u64; words];
    for &c in children {
        let (_, s, _) = best[c].as_ref()?;
        set.iter_mut().zip(s).for_each(|(a, b)| *a |= b);
    }
    Some(set)
}

/// The classes that the roots need under a choice, and their cost; `None` if the choice has a cycle.
pub(crate) fn total<N>(
    candidates: &Candidates<N>,
    roots: &[usize],
    choice: &[usize],
) -> Option<(Vec<usize>, Cost)> {
    // 0 unseen, 1 open, 2 done
    let mut state = vec![0u8; candidates.len()];
    let (mut needed, mut sum) = (vec![], (0, 0));
    for &root in roots {
        let mut stack = vec![(root, false)];
        while let Some((class, left)) = stack.pop() {
            if left {
                state[class] = 2;
                continue;
            }
            match state[class] {
                2 => continue,
                1 => return None,
                _ => state[class] = 1,
            }
            let (cost, children, _) = &candidates[class][choice[class]];
            sum = (sum.0 + cost.0, sum.1 + cost.1);
            needed.push(class);
            stack.push((class, true));
            for &c in children {
                match state[c] {
                    0 => stack.push((c, false)),
                    1 => return None,
                    _ => {}
                }
            }
        }
    }
    needed.sort_unstable();
    Some((needed, sum))
}

/// Change one choice at a time while the whole gets cheaper.
fn improve<N>(candidates: &Candidates<N>, roots: &[usize], choice: &mut [usize]) {
    let Some((needed, mut best)) = total(candidates, roots, choice) else { return };
    let open: Vec<usize> = needed.into_iter().filter(|&c| candidates[c].len() > 1).collect();
    if open.len() > IMPROVABLE {
        return;
    }
    for class in open {
        let is = choice[class];
        let mut keep = is;
        for k in (0..candidates[class].len()).filter(|&k| k != is) {
            choice[class] = k;
            if let Some((_, cost)) = total(candidates, roots, choice)
                && cost < best
            {
                (best, keep) = (cost, k);
            }
        }
        choice[class] = keep;
    }
}
