//! Candidates of extraction: the nodes and approximations of each class, and the cost of a choice among
//! them.

use crate::analysis::Facts;
use crate::eqsat::egraph::{ENode, Egraph, Symbol};
use egg::{Id, Language};
use std::collections::BTreeMap;

/// Nanoseconds, then number of nodes as a tie-breaker.
pub type Cost = (u64, u32);

/// A class that may be computed in place of another one.
#[derive(Clone, Debug)]
pub struct Approximation {
    /// The class that it replaces.
    pub class: Id,
    /// The class that is computed instead.
    pub form: Id,
    /// The application of the rule.
    pub application: usize,
    /// The error bound of its rule; 0 for a lossy rule without a bound, which the user accepts by allowing
    /// the tier.
    pub error: f64,
}

/// A candidate of a class.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form<'a> {
    /// One of its nodes.
    Node(&'a ENode),
    /// The approximation that this application made.
    Approximation(usize),
}

/// A bit set of classes by index.
pub(crate) type Set = Vec<u64>;

/// By class its candidates: cost, indices of the operands, form.
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

/// The candidates of each class: nodes by cost and then by their order as nodes, so that ties do not depend
/// on ids; then approximations in the order given.
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

/// Adds one set to another; true, so that it can be used in `all`.
pub(crate) fn merge(into: &mut Set, from: &Set) -> bool {
    into.iter_mut().zip(from).for_each(|(a, b)| *a |= b);
    true
}

/// The classes that the roots need under a choice, and their total cost; `None` if the choice has a cycle.
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
