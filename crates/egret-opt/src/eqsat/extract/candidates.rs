//! Candidates of extraction: the nodes and approximations of each class, and the cost of a choice among
//! them.

use crate::analysis::Facts;
use crate::cost;
use crate::eqsat::egraph::{ENode, Egraph, Symbol};
use egg::{Id, Language};
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// The cost of a node, or of several. Time decides; the number of nodes breaks ties.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Estimated nanoseconds.
    pub nanos: u64,
    /// Nodes of the graph.
    pub nodes: u32,
}

impl Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost { nanos: self.nanos + other.nanos, nodes: self.nodes + other.nodes }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        *self = *self + other;
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), Cost::add)
    }
}

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

/// What a candidate stands for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form<'a> {
    /// One of its nodes.
    Node(&'a ENode),
    /// The approximation that this application made.
    Approximation(usize),
}

/// One way to compute a class. Ordered by cost first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate<N> {
    /// Its own cost, without its operands.
    pub cost: Cost,
    /// The classes that it needs, by index.
    pub operands: Vec<usize>,
    /// What it stands for.
    pub form: N,
}

/// The candidates of each class.
pub(crate) type Candidates<N> = [Vec<Candidate<N>>];

fn node_cost(egraph: &Egraph, class: Id, node: &ENode) -> Cost {
    let children: Vec<&Facts> = node.children.iter().map(|&c| &egraph[c].data).collect();
    match egraph.analysis.symbols.get(node.symbol) {
        Symbol::Op { op, attrs } => {
            let nanos = cost::node(egraph.analysis.cost, *op, attrs, &children, &egraph[class].data);
            Cost { nanos, nodes: 1 }
        }
        Symbol::Opaque { .. } => Cost { nanos: 1000, nodes: 1 },
        _ => Cost::default(),
    }
}

/// The candidates of each class: nodes by cost and then by their order as nodes, so that ties do not depend
/// on ids; then approximations in the order given.
pub(super) fn candidates<'a>(
    egraph: &'a Egraph,
    ids: &[Id],
    approximations: &[Approximation],
) -> Vec<Vec<Candidate<Form<'a>>>> {
    let mut place = vec![0; ids.last().map_or(0, |&id| usize::from(id) + 1)];
    ids.iter().enumerate().for_each(|(i, &id)| place[usize::from(id)] = i);
    let place = |id: Id| place[usize::from(egraph.find(id))];
    let nodes = |&id: &Id| {
        let candidate = |node: &'a ENode| Candidate {
            cost: node_cost(egraph, id, node),
            operands: node.children().iter().map(|c| place(*c)).collect(),
            form: Form::Node(node),
        };
        let mut list: Vec<_> = egraph[id].nodes.iter().map(candidate).collect();
        list.sort();
        list
    };
    let mut all: Vec<Vec<_>> = ids.iter().map(nodes).collect();
    for a in approximations {
        let (class, form) = (place(a.class), place(a.form));
        let (cost, operands) = (Cost::default(), vec![form]);
        all[class].push(Candidate { cost, operands, form: Form::Approximation(a.application) });
    }
    all
}

/// The classes that the roots need under a choice, and their total cost; `None` if the choice has a cycle.
pub(crate) fn total<N>(
    candidates: &Candidates<N>,
    roots: &[usize],
    choice: &[usize],
) -> Option<(Vec<usize>, Cost)> {
    let mut walk = Walk::default();
    let cost = walk.cost(candidates, roots, choice, None)?;
    walk.needed.sort_unstable();
    Some((walk.needed, cost))
}

/// Sums up choices, one after another.
#[derive(Default)]
pub(super) struct Walk {
    /// Twice the number of the sum in which a class was met, and one more if all that it needs has been.
    state: Vec<u32>,
    sums: u32,
    stack: Vec<(usize, bool)>,
    /// The classes that the last choice needs.
    needed: Vec<usize>,
}

impl Walk {
    /// The total cost of what the roots need under a choice; `None` if the choice has a cycle, or does not cost less than `below`.
    pub fn cost<N>(
        &mut self,
        candidates: &Candidates<N>,
        roots: &[usize],
        choice: &[usize],
        below: Option<Cost>,
    ) -> Option<Cost> {
        self.state.resize(candidates.len(), 0);
        self.sums += 1;
        self.needed.clear();
        let (open, done) = (2 * self.sums, 2 * self.sums + 1);
        let mut sum = Cost::default();
        for &root in roots {
            self.stack.clear();
            self.stack.push((root, false));
            while let Some((class, left)) = self.stack.pop() {
                if left {
                    self.state[class] = done;
                    continue;
                }
                match self.state[class] {
                    s if s == done => continue,
                    s if s == open => return None,
                    _ => self.state[class] = open,
                }
                let chosen = &candidates[class][choice[class]];
                sum += chosen.cost;
                // Costs only grow.
                if below.is_some_and(|limit| sum >= limit) {
                    return None;
                }
                self.needed.push(class);
                self.stack.push((class, true));
                for &c in &chosen.operands {
                    match self.state[c] {
                        s if s == done => {}
                        s if s == open => return None,
                        _ => self.stack.push((c, false)),
                    }
                }
            }
        }
        Some(sum)
    }
}
