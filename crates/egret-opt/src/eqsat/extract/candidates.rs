//! What may be chosen for the classes of an e-graph, and what a choice costs.

use crate::analysis::Facts;
use crate::eqsat::egraph::{ENode, Egraph, Symbol};
use egg::{Id, Language};
use std::collections::BTreeMap;

/// Time, then number of nodes.
pub type Cost = (u64, u32);

/// A class that may be computed in place of another.
#[derive(Clone, Debug)]
pub struct Approximation {
    /// The value.
    pub class: Id,
    /// What is near it.
    pub form: Id,
    /// The application that says so.
    pub application: usize,
    /// How near, by its rule; 0 for a lossy rule that gives no bound: who allows those allows any error.
    pub error: f64,
}

/// What may be chosen for a class.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form<'a> {
    /// One of its nodes.
    Node(&'a ENode),
    /// What the application of this number put near it.
    Approximation(usize),
}

/// A set of classes by their places.
pub(crate) type Set = Vec<u64>;

/// By class the nodes that may be chosen: cost, the places of their operands, node.
pub(crate) type Candidates<N> = [Vec<(Cost, Vec<usize>, N)>];

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

/// Candidates by class: cost, children, form; the cheapest node first, then by spelling, so that no id decides, and at last what is
/// only near the value, in the order given.
pub(super) fn candidates<'a>(
    egraph: &'a Egraph,
    ids: &[Id],
    approximations: &[Approximation],
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
    for a in approximations {
        let (class, form) = (place[&egraph.find(a.class)], place[&egraph.find(a.form)]);
        all[class].push(((0, 0), vec![form], Form::Approximation(a.application)));
    }
    all
}

/// Add one set to another.
pub(crate) fn merge(into: &mut Set, from: &Set) -> bool {
    into.iter_mut().zip(from).for_each(|(a, b)| *a |= b);
    true
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
