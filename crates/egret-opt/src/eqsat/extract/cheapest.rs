//! Extraction: one node for every class that the outputs need, so that the whole is cheap. A node that several others use
//! counts once (`greedy`), then single choices are changed while that helps (`local_search`); small regions are then searched for the
//! cheapest choice of all (`branch_and_bound`).

use super::branch_and_bound::exact;
use super::candidates::{Approximation, Candidates, Cost, Form, candidates, total};
use super::greedy::{greedy, refine};
use super::local_search::improve;
use crate::eqsat::egraph::{ENode, Egraph};
use egg::Id;
use std::collections::BTreeMap;

/// Rounds of going through all classes again.
const ROUNDS: usize = 8;

/// What is chosen for each class that is needed.
pub struct Extraction {
    /// Nodes by class.
    pub chosen: BTreeMap<Id, ENode>,
    /// By class where another class is computed in its place.
    pub taken: BTreeMap<Id, Approximation>,
    /// What they cost: nanoseconds, nodes.
    pub cost: Cost,
    /// Whether nothing is cheaper.
    pub proven: bool,
    /// All classes, in order.
    ids: Vec<Id>,
    /// The candidate chosen for each of them, needed or not.
    choice: Vec<usize>,
    roots: Vec<usize>,
    /// The approximations that could be chosen.
    open: Vec<Approximation>,
}

impl Extraction {
    /// What the whole would cost with other forms of some classes, for each set of them; `None`: it would have a cycle, or a class has
    /// no such form. `more`: approximations beside those that could be chosen.
    pub fn costs_with(
        &self,
        egraph: &Egraph,
        sets: &[Vec<(Id, Form)>],
        more: &[Approximation],
    ) -> Vec<Option<Cost>> {
        let is_new = |a: &&Approximation| self.open.iter().all(|o| o.application != a.application);
        let all: Vec<Approximation> = self.open.iter().chain(more.iter().filter(is_new)).cloned().collect();
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

/// Extract what computes `roots`, or by way of approximations is near it. `None`: some class has no node free of cycles, which a
/// graph's own nodes rule out.
pub fn extract(egraph: &Egraph, roots: &[Id], approximations: &[Approximation]) -> Option<Extraction> {
    let mut ids: Vec<Id> = egraph.classes().map(|c| c.id).collect();
    ids.sort();
    let candidates = candidates(egraph, &ids, approximations);
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
            Form::Approximation(application) => {
                let approximation = approximations.iter().find(|a| a.application == application)?;
                taken.insert(ids[class], approximation.clone());
            }
        }
    }
    Some(Extraction { chosen, taken, cost, proven, ids, choice, roots, open: approximations.to_vec() })
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
