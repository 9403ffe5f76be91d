//! Extraction chooses one node for every class that the outputs need, so that their total cost is least; a
//! node with several users counts once. Three steps: `greedy` over sets of classes, `local_search` by
//! changing single choices, and an exact search of small regions (`branch_and_bound`).

use super::branch_and_bound::exact;
use super::candidates::{Approximation, Candidates, Cost, Form, candidates, total};
use super::greedy::{greedy, refine};
use super::local_search::improve;
use crate::eqsat::egraph::{ENode, Egraph};
use egg::Id;
use std::collections::BTreeMap;

/// The most rounds of local search and exact search.
const ROUNDS: usize = 8;

/// A chosen form for each class that is needed.
pub struct Extraction {
    /// Nodes by class.
    pub chosen: BTreeMap<Id, ENode>,
    /// Approximations by the class that they replace.
    pub taken: BTreeMap<Id, Approximation>,
    /// Their total cost.
    pub cost: Cost,
    /// Whether it is proven that no choice is cheaper.
    pub proven: bool,
    /// All classes, sorted.
    ids: Vec<Id>,
    /// The chosen candidate of each class, needed or not.
    choice: Vec<usize>,
    roots: Vec<usize>,
    /// The approximations that were candidates.
    open: Vec<Approximation>,
}

impl Extraction {
    /// The total cost if the classes of each set had these other forms; `None` if that has a cycle or is no
    /// candidate. `more`: further approximations that count as candidates.
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
            Some((at, candidates[at].iter().position(|c| c.form == form)?))
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

/// Extracts the cheapest graph for `roots`, using approximations if given. `None` if a class has only
/// cyclic nodes (cannot happen for a graph's own nodes).
pub fn extract(egraph: &Egraph, roots: &[Id], approximations: &[Approximation]) -> Option<Extraction> {
    let mut ids: Vec<Id> = egraph.classes().map(|c| c.id).collect();
    ids.sort();
    let candidates = candidates(egraph, &ids, approximations);
    let roots: Vec<usize> =
        roots.iter().map(|&r| ids.binary_search(&egraph.find(r)).ok()).collect::<Option<_>>()?;
    let (choice, proven) = match candidates.iter().all(|list| list.len() == 1) {
        // No class has a choice.
        true => (vec![0; candidates.len()], true),
        false => cheapest(&candidates, &roots)?,
    };
    let (needed, cost) = total(&candidates, &roots, &choice)?;
    let (mut chosen, mut taken) = (BTreeMap::new(), BTreeMap::new());
    for class in needed {
        match candidates[class][choice[class]].form {
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

/// The cheapest choice found, and whether it is proven to be the cheapest.
fn cheapest<N>(candidates: &Candidates<N>, roots: &[usize]) -> Option<(Vec<usize>, bool)> {
    let mut choice = greedy(candidates)?;
    refine(candidates, &mut choice);
    let mut proven = false;
    for _ in 0..ROUNDS {
        improve(candidates, roots, &mut choice);
        let (_, before) = total(candidates, roots, &choice)?;
        proven = exact(candidates, roots, before, &mut choice);
        // A search that gave up may still have found a better start for another round.
        if proven || total(candidates, roots, &choice)?.1 == before {
            break;
        }
    }
    Some((choice, proven))
}
