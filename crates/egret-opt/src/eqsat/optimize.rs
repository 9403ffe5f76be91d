//! Optimises one region: loads it into an e-graph, saturates it, extracts the cheapest form. A pure
//! function, so that regions can be optimised on any thread in any order.

use super::egraph::{ENode, Egraph, Knowledge, Symbol, Symbols};
use super::extract::{self, Extraction, extract};
use super::missed::missed;
use super::optimized_region::{Applied, Make, OptimizedRegion, Step};
use super::record;
use super::saturate::{Application, Limits, Saturation, Sources, saturate};
use crate::analysis::foldable;
use crate::cost::CostModel;
use crate::regions::{CanonicalRegion, Constant, Local, RegionNode};
use crate::rules::{Rule, Tier};
use egg::Id;
use egret_ir::{Tensor, Type, infer};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// What to optimise regions with.
pub(crate) struct RegionOptions<'a> {
    /// Rules to apply.
    pub rules: &'a [&'a Rule],
    /// Rules above the tier.
    pub above: &'a [&'a Rule],
    /// The highest tier of `rules`.
    pub tier: Tier,
    /// What nodes cost.
    pub cost: &'static CostModel,
    /// Whether to time rules.
    pub clock: bool,
    /// Whether to keep proofs and look for rules that nearly applied.
    pub explain: bool,
}

/// Optimises a region. `budget`: the most that the errors of its approximate form may add up to.
///
/// # Errors
/// A wrong rule: it changes a type or makes different constants equal.
pub(crate) fn optimize_region(
    region: &CanonicalRegion,
    options: &RegionOptions,
    budget: f64,
) -> Result<OptimizedRegion, String> {
    let symbols = Symbols::with(&region.inputs, &region.constants);
    let knowledge = Knowledge { symbols, deep: region.deep, cost: options.cost, errors: vec![] };
    let mut load = Load { egraph: Egraph::new(knowledge), values: FxHashMap::default() };
    let mut sources = Sources::default();
    let mut ranks: Vec<Id> = vec![];
    for (i, node) in region.nodes.iter().enumerate() {
        let (class, node) = load.node(i, node);
        sources.entry(node).or_insert_with(BTreeSet::new).insert(i);
        ranks.push(class);
    }
    let roots: Vec<Id> = region.outputs.iter().map(|&v| load.value(v)).collect();
    let Load { mut egraph, values, .. } = load;
    let done = saturate(
        &mut egraph,
        options.rules,
        &Limits { evidence: options.explain, clock: options.clock, ..Limits::default() },
        sources,
    )?;
    let mut is: BTreeMap<Id, Vec<Local>> = BTreeMap::new();
    for (local, id) in values {
        is.entry(egraph.find(id)).or_default().push(local);
    }
    is.values_mut().for_each(|v| v.sort_unstable());
    let saturated = Saturated { egraph, done, ranks, roots, is, given: region.constants.len() };
    let exact = extract(&saturated.egraph, &saturated.roots, &[])
        .ok_or("a value has no form that is free of cycles")?;
    let approximate = extract::cheaper(
        &saturated.egraph,
        &saturated.roots,
        &saturated.done.approximations,
        budget,
        &exact,
    );
    let approximate = approximate.map(|near| saturated.write(&near, options).map(Box::new)).transpose()?;
    Ok(OptimizedRegion { approximate, ..saturated.write(&exact, options)? })
}

/// A region after saturation.
struct Saturated {
    egraph: Egraph,
    done: Saturation,
    /// The classes of the region's nodes, in their order.
    ranks: Vec<Id>,
    roots: Vec<Id>,
    /// The values of the region in each class.
    is: BTreeMap<Id, Vec<Local>>,
    /// How many constants the region has.
    given: usize,
}

impl Saturated {
    /// Writes down an extraction in the region's numbers.
    fn write(&self, extraction: &Extraction, options: &RegionOptions) -> Result<OptimizedRegion, String> {
        let Saturated { egraph, done, ranks, roots, is, given } = self;
        let mut write = Write {
            egraph,
            done,
            extraction,
            given: *given,
            is: is.clone(),
            built: BTreeMap::new(),
            steps: vec![],
        };
        // Nodes keep their order, and with it the lifetimes of values.
        for class in ranks.iter().map(|&c| egraph.find(c)) {
            if extraction.chosen.contains_key(&class) || extraction.taken.contains_key(&class) {
                write.emit(class)?;
            }
        }
        let outputs = roots
            .iter()
            .map(|&root| write.emit(egraph.find(root))?.ok_or_else(|| "a value is left out".to_owned()));
        let outputs = outputs.collect::<Result<_, String>>()?;
        let applied = applied(egraph, done, extraction);
        let proof = || {
            // Approximations that are not taken are not part of the proof.
            let says = |i: usize| !done.applications[i].approximate || applied[i].rests;
            record::local(egraph, options.rules, &done.applications, says)
        };
        Ok(OptimizedRegion {
            outputs,
            constants: egraph.analysis.symbols.constants[*given..]
                .iter()
                .filter_map(known)
                .cloned()
                .collect(),
            proof: options.explain.then(proof).transpose()?,
            missed: if options.explain {
                missed(egraph, options.rules, options.above, options.tier, done, extraction)
            } else {
                BTreeSet::new()
            },
            applied,
            steps: write.steps,
            cheapest: extraction.proven,
            cost: extraction.cost.nanos,
            error: extract::error(extraction),
            approximate: None,
            limits: done.limits.clone(),
            counts: done.counts.clone(),
        })
    }
}

fn known(constant: &Constant) -> Option<&Tensor> {
    match constant {
        Constant::Known(t) => Some(t),
        Constant::Weight(..) => None,
    }
}

/// Whether each application contributed: its form was chosen, or it removed a node.
fn applied(egraph: &Egraph, done: &Saturation, extraction: &Extraction) -> Vec<Applied> {
    let rests = |(i, a): (usize, &Application)| {
        if a.approximate {
            return extraction.taken.get(&egraph.find(a.class)).is_some_and(|taken| taken.application == i);
        }
        let Some(chosen) = extraction.chosen.get(&egraph.find(a.class)) else { return false };
        a.node.as_ref().is_none_or(|n| {
            let mut n = n.clone();
            n.children.iter_mut().for_each(|c| *c = egraph.find(*c));
            n == *chosen
        })
    };
    let all = done.applications.iter().enumerate();
    all.map(|(i, a)| Applied { rule: a.rule, nodes: a.sources.clone(), rests: rests((i, a)) }).collect()
}

/// Loads a region into an e-graph.
struct Load {
    egraph: Egraph,
    values: FxHashMap<Local, Id>,
}

impl Load {
    fn value(&mut self, value: Local) -> Id {
        if let Some(&id) = self.values.get(&value) {
            return id;
        }
        let symbols = &mut self.egraph.analysis.symbols;
        let symbol = match value {
            Local::Constant(i) => symbols.given(i),
            Local::Input(i) => symbols.intern(Symbol::Input(i)),
            Local::Result(node, _) => unreachable!("node {node} stands after its user"),
        };
        let id = self.egraph.add(ENode { symbol, children: Box::default() });
        self.values.insert(value, id);
        id
    }

    fn node(&mut self, i: usize, node: &RegionNode) -> (Id, ENode) {
        let children: Box<[Id]> = node
            .operands
            .iter()
            .map(|v| match v {
                Some(v) => self.value(*v),
                None => {
                    let symbol = self.egraph.analysis.symbols.intern(Symbol::Absent);
                    self.egraph.add(ENode { symbol, children: Box::default() })
                }
            })
            .collect();
        let symbol = if self.is_open(node, &children) {
            Symbol::Op { op: node.op, attrs: node.attrs.clone() }
        } else {
            Symbol::Opaque { node: i, types: node.types.clone() }
        };
        let symbol = self.egraph.analysis.symbols.intern(symbol);
        let enode = ENode { symbol, children };
        let all = self.egraph.add(enode.clone());
        if node.types.len() == 1 {
            self.values.insert(Local::Result(i, 0), all);
            return (all, enode);
        }
        for k in 0..node.types.len() {
            let symbol = self.egraph.analysis.symbols.intern(Symbol::Project(k));
            let id = self.egraph.add(ENode { symbol, children: Box::new([all]) });
            self.values.insert(Local::Result(i, k), id);
        }
        (all, enode)
    }

    /// Whether rules may match a node: inference must find its type from the facts of its operands.
    fn is_open(&self, node: &RegionNode, children: &[Id]) -> bool {
        // A node that declares symbols has an identity: it is neither united with an equal one nor rebuilt.
        if !foldable(node.op) || node.types.len() != 1 || !node.attrs.declared().is_empty() {
            return false;
        }
        let types: Vec<Option<&Type>> =
            children.iter().map(|&c| self.egraph[c].data.types.first()).collect();
        infer::infer(node.op, &node.attrs, &types, &[]).is_ok_and(|t| t == node.types)
    }
}

/// Writes down what was extracted.
struct Write<'a> {
    egraph: &'a Egraph,
    done: &'a Saturation,
    extraction: &'a Extraction,
    /// How many constants the problem has.
    given: usize,
    is: BTreeMap<Id, Vec<Local>>,
    /// The step of each class; `None` for an omitted operand.
    built: BTreeMap<Id, Option<usize>>,
    steps: Vec<Step>,
}

impl Write<'_> {
    /// Emits the step of a class's chosen node after those of its operands. Without recursion, as graphs
    /// are deep.
    fn emit(&mut self, class: Id) -> Result<Option<usize>, String> {
        let mut stack = vec![class];
        while let Some(&top) = stack.last() {
            if self.built.contains_key(&top) {
                stack.pop();
                continue;
            }
            if let Some(approximation) = self.extraction.taken.get(&top) {
                let form = self.egraph.find(approximation.form);
                match self.built.get(&form) {
                    None => stack.push(form),
                    Some(&step) => {
                        // It takes over the names of the value that it replaces.
                        let names = self.is.remove(&top).unwrap_or_default();
                        step.into_iter().for_each(|s| self.steps[s].is.extend(&names));
                        self.built.insert(top, step);
                        stack.pop();
                    }
                }
                continue;
            }
            let node = self.extraction.chosen.get(&top).ok_or("a value was not extracted")?;
            let open: Vec<Id> = node
                .children
                .iter()
                .map(|&c| self.egraph.find(c))
                .filter(|c| !self.built.contains_key(c))
                .collect();
            if open.is_empty() {
                let step = self.step(top, node);
                self.built.insert(top, step);
                stack.pop();
            } else {
                stack.extend(open.into_iter().rev());
            }
        }
        Ok(self.built[&class])
    }

    fn step(&mut self, class: Id, node: &ENode) -> Option<usize> {
        let make = match self.egraph.analysis.symbols.get(node.symbol) {
            Symbol::Absent => return None,
            Symbol::Input(i) => Make::Given(Local::Input(*i)),
            Symbol::Const(i) => match i.checked_sub(self.given) {
                Some(made) => Make::Constant(made),
                None => Make::Given(Local::Constant(*i)),
            },
            Symbol::Project(k) => Make::Project(*k),
            Symbol::Opaque { node, .. } => Make::Copy(*node),
            Symbol::Op { op, attrs } => Make::Node { op: *op, attrs: attrs.clone() },
        };
        let operands = node.children.iter().map(|&c| self.built[&self.egraph.find(c)]).collect();
        let sources = self.done.sources.get(node).cloned().unwrap_or_default();
        self.steps.push(Step { make, operands, sources, is: self.is.remove(&class).unwrap_or_default() });
        Some(self.steps.len() - 1)
    }
}
