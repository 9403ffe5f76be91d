//! What the values of parts are called in the whole: `PART/VALUE`, but for its inputs and outputs.

use crate::part::Part;
use crate::wiring::{End, Source, Wiring};
use egret::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// An input or output of the whole.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    /// Its name in the whole.
    pub(crate) name: String,
    /// What it is in a part; a shared input is the first of its inputs.
    pub(crate) end: End,
}

/// Names of the whole.
pub(crate) struct Names<'a> {
    parts: &'a [Part],
    wiring: &'a Wiring,
    /// Inputs of the whole, shared ones first.
    pub(crate) inputs: Vec<Port>,
    /// Outputs of the whole.
    pub(crate) outputs: Vec<Port>,
    inputs_by_end: BTreeMap<End, String>,
    outputs_by_end: BTreeMap<End, String>,
    /// Initialisers that are stored under another name.
    pub(crate) aliases: BTreeMap<End, String>,
}

impl<'a> Names<'a> {
    /// Name inputs and outputs: as in their part where no other is called so, `PART.NAME` otherwise.
    ///
    /// # Errors
    /// A shared input that is called as the values of a part are.
    pub(crate) fn new(parts: &'a [Part], wiring: &'a Wiring) -> Result<Names<'a>> {
        let mut inputs: Vec<End> = vec![];
        for (part, p) in parts.iter().enumerate() {
            let ends = p.inputs().iter().map(|i| End { part, value: i.name.clone() });
            inputs.extend(ends.filter(|e| !wiring.sources.contains_key(e)));
        }
        let prefixed = |name: &str| parts.iter().any(|p| name.starts_with(&format!("{}/", p.name)));
        if let Some(share) = wiring.shares.iter().find(|s| prefixed(&s.name)) {
            return Err(Error::user(format!(
                "--share {}: names that begin with a model's name and `/` are those of its values; rename it",
                share.name
            )));
        }
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        let ends = inputs.iter().chain(&wiring.outputs).map(|e| e.value.as_str());
        ends.chain(wiring.shares.iter().map(|s| s.name.as_str()))
            .for_each(|n| *count.entry(n).or_default() += 1);
        let is_free = |name: &str| count.get(name) == Some(&1) && !prefixed(name);
        let mut taken: BTreeSet<String> = count.keys().map(|n| (*n).to_owned()).collect();
        let mut port = |end: &End| {
            let mut name = end.value.clone();
            if !is_free(&name) {
                name = format!("{}.{name}", parts[end.part].name);
                while !taken.insert(name.clone()) || prefixed(&name) {
                    name.push('_');
                }
            }
            Port { name, end: end.clone() }
        };
        let shared = wiring.shares.iter().map(|s| Port { name: s.name.clone(), end: s.to[0].clone() });
        let mut named: Vec<Port> = inputs.iter().map(&mut port).collect();
        let outputs: Vec<Port> = wiring.outputs.iter().map(&mut port).collect();
        let by_end = |list: &[Port]| list.iter().map(|p| (p.end.clone(), p.name.clone())).collect();
        let inputs_by_end = by_end(&named);
        named.splice(0..0, shared);
        Ok(Names {
            parts,
            wiring,
            inputs_by_end,
            outputs_by_end: by_end(&outputs),
            inputs: named,
            outputs,
            aliases: BTreeMap::new(),
        })
    }

    /// The name of a value.
    pub(crate) fn of(&self, part: usize, value: &str) -> String {
        let mut end = End { part, value: value.to_owned() };
        // No circle: `Wiring` has seen to it.
        loop {
            match self.wiring.sources.get(&end) {
                Some(Source::Wire(wire)) => end = self.wiring.wires[*wire].from.clone(),
                Some(Source::Share(share)) => return self.wiring.shares[*share].name.clone(),
                None => break,
            }
        }
        for names in [&self.inputs_by_end, &self.outputs_by_end, &self.aliases] {
            if let Some(name) = names.get(&end) {
                return name.clone();
            }
        }
        self.inner(end.part, &end.value)
    }

    /// The name of a value that nothing outside its part reads.
    pub(crate) fn inner(&self, part: usize, value: &str) -> String {
        format!("{}/{value}", self.parts[part].name)
    }

    /// Whether an initialiser has a name that is the whole's or that its part's inputs decide.
    pub(crate) fn is_port(&self, end: &End) -> bool {
        self.outputs_by_end.contains_key(end) || self.parts[end.part].is_input(&end.value)
    }
}
