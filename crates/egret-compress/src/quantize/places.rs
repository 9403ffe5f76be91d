//! Places: which edges of a graph read bytes so that a runtime finds its integer kernels, with the reason of each value that became
//! bytes and of each that did not. What the operators want is the table of [`super::placement`].

use crate::constants::Constants;
use crate::contractions::{kind, name};
use crate::flat;
use crate::layout::integer;
use crate::numbers;
use crate::quantize::placement::{Clamps, Does, Readers, Row, Rules, Runtime, Scales};
use onnx_protobuf::{GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

/// Where a node reads a value: node and slot.
pub type Edge = (usize, usize);

/// A `Relu` or `Clip` that goes if the bytes of its result cannot be others without it.
#[derive(Clone, Debug)]
pub struct Clamp {
    /// Its node.
    pub node: usize,
    /// The node whose result it clamps.
    pub behind: usize,
    /// The least number and the greatest that it lets through.
    pub bounds: (f64, f64),
}

/// Which edges read integers.
#[derive(Default)]
pub struct Places {
    /// By the value that is read.
    pub edges: BTreeMap<String, BTreeSet<Edge>>,
    /// By the value that they make.
    pub clamps: BTreeMap<String, Clamp>,
    /// Values that have one scale and one zero point: the result and the operands of an operator.
    pub shared: Vec<Vec<String>>,
    /// How many channels values have that may have a scale for each.
    pub channels: BTreeMap<String, usize>,
    /// Why values are bytes.
    pub why: BTreeMap<String, String>,
    /// Why values are not, of those that operators with rows read or make.
    pub why_not: BTreeMap<String, String>,
    /// What runs them.
    pub runtime: Runtime,
    /// Values that have the integers of another.
    same: BTreeMap<String, String>,
}

impl Places {
    /// Where integers stand so that these edges, inputs of contractions, read them.
    pub fn new(
        graph: &GraphProto,
        constants: &Constants<'_>,
        wanted: &[Edge],
        runtime: &Runtime,
    ) -> Places {
        let mut walk = Walk::new(graph, constants, wanted, runtime);
        walk.ending();
        walk.contractions(wanted);
        for at in (0..graph.node.len()).rev() {
            walk.behind(at);
        }
        walk.clamps();
        walk.readers();
        walk.channels();
        walk.reasons();
        walk.out
    }

    /// The value whose range a value has.
    pub fn source<'a>(&'a self, name: &'a str) -> &'a str {
        let mut at = name;
        while let Some(next) = self.same.get(at) {
            at = next;
        }
        at
    }

    /// The values that ranges are made of.
    pub fn sources(&self) -> BTreeSet<String> {
        self.edges.keys().map(|n| self.source(n).to_owned()).collect()
    }
}

/// Whether a runtime multiplies bytes in a contraction of this operator.
pub fn multiplies(op: &str, runtime: &Runtime) -> bool {
    matches!(runtime.rules().does(op), Some(Does::Multiplies | Does::MultipliesToBytes))
}

/// A graph as it is walked from its end.
struct Walk<'a> {
    graph: &'a GraphProto,
    constants: &'a Constants<'a>,
    rules: &'a Rules,
    producers: BTreeMap<&'a str, usize>,
    consumers: BTreeMap<&'a str, Vec<Edge>>,
    outputs: BTreeSet<&'a str>,
    /// Values that lead nowhere but to the end of the model.
    ends: BTreeSet<&'a str>,
    /// Contractions that read bytes.
    layers: BTreeSet<usize>,
    homes: Vec<flat::Home>,
    /// In a branch where no contraction reads integers, samples may not have been.
    seen: BTreeSet<flat::Home>,
    out: Places,
}

impl<'a> Walk<'a> {
    fn new(
        graph: &'a GraphProto,
        constants: &'a Constants<'a>,
        wanted: &[Edge],
        runtime: &'a Runtime,
    ) -> Walk<'a> {
        let mut consumers = BTreeMap::<&str, Vec<Edge>>::new();
        for (i, node) in graph.node.iter().enumerate() {
            node.input.iter().enumerate().for_each(|(k, n)| consumers.entry(n).or_default().push((i, k)));
        }
        let results = |(i, n): (usize, &'a NodeProto)| n.output.iter().map(move |o| (o.as_str(), i));
        let homes = flat::homes(graph);
        Walk {
            graph,
            constants,
            rules: runtime.rules(),
            producers: graph.node.iter().enumerate().flat_map(results).collect(),
            consumers,
            ends: BTreeSet::new(),
            outputs: graph.output.iter().map(|o| o.name.as_str()).collect(),
            layers: wanted.iter().map(|edge| edge.0).collect(),
            seen: wanted.iter().map(|edge| homes[edge.0]).chain([0]).collect(),
            homes,
            out: Places { runtime: runtime.clone(), ..Places::default() },
        }
    }

    fn row(&self, at: usize) -> Option<&'a Row> {
        self.rules.row(&self.graph.node[at].op_type)
    }

    fn does(&self, at: usize) -> Option<Does> {
        self.row(at).map(|row| row.does)
    }

    fn result(&self, at: usize) -> &'a str {
        self.graph.node[at].output.first().map_or("", String::as_str)
    }

    fn words(&self, at: usize) -> String {
        let node = &self.graph.node[at];
        format!("{} {}", node.op_type, name(node))
    }

    fn is_bytes(&self, name: &str) -> bool {
        self.out.edges.contains_key(name)
    }

    /// A value becomes bytes, and this edge reads them.
    fn read(&mut self, (at, slot): Edge) {
        let name = &self.graph.node[at].input[slot];
        self.out.edges.entry(name.clone()).or_default().insert((at, slot));
        if !self.out.why.contains_key(name) {
            let why = self.row(at).map_or("", |row| &row.why);
            let why = format!("read by {}: {why}", self.words(at));
            self.out.why.insert(name.clone(), why);
        }
    }

    /// The clamp that alone reads a value, and its result.
    fn clamp(&self, value: &str) -> Option<(Clamp, &'a str)> {
        let [(node, 0)] = self.consumers.get(value)?[..] else { return None };
        let bounds = self.bounds(node).filter(|_| self.constants.is_read_once(value))?;
        let behind = *self.producers.get(value)?;
        Some((Clamp { node, behind, bounds }, self.result(node)))
    }

    /// What a `Relu` or `Clip` with constant bounds lets through.
    fn bounds(&self, at: usize) -> Option<(f64, f64)> {
        let node = &self.graph.node[at];
        match node.op_type.as_str() {
            "Relu" => Some((0.0, f64::INFINITY)),
            "Clip" => {
                let of = |slot: usize, attribute: &str, none: f64| match node
                    .input
                    .get(slot)
                    .map_or("", String::as_str)
                {
                    "" => {
                        let given = node.attribute.iter().find(|a| a.name == attribute);
                        Some(given.map_or(none, |a| f64::from(a.f)))
                    }
                    name => {
                        let place = self.constants.find_shared(name).ok()?.place;
                        numbers::read(place.of(self.graph)?)?.first().copied()
                    }
                };
                Some((of(1, "min", f64::NEG_INFINITY)?, of(2, "max", f64::INFINITY)?))
            }
            _ => None,
        }
    }

    /// What becomes of the result of an operator: itself, or what a clamp makes of it.
    fn clamped(&self, at: usize) -> (&'a str, Option<Clamp>) {
        let value = self.result(at);
        match self.clamp(value) {
            Some((clamp, result)) => (result, Some(clamp)),
            None => (value, None),
        }
    }

    /// The values that lead nowhere but to the end of the model, from the last node to the first.
    fn ending(&mut self) {
        for node in self.graph.node.iter().rev() {
            for value in node.output.iter().filter(|v| !v.is_empty()) {
                let moves = |&(at, slot): &Edge| {
                    let mut results = self.graph.node[at].output.iter().filter(|v| !v.is_empty());
                    slot == 0
                        && self.does(at) == Some(Does::Moves)
                        && results.all(|y| self.ends.contains(y.as_str()))
                };
                let readers = self.consumers.get(value.as_str());
                if self.outputs.contains(value.as_str()) || readers.is_none_or(|all| all.iter().all(moves))
                {
                    self.ends.insert(value);
                }
            }
        }
    }

    /// The inputs of contractions, and their results where the runtime wants them.
    fn contractions(&mut self, wanted: &[Edge]) {
        for &(at, slot) in wanted {
            self.read((at, slot));
        }
        for at in self.layers.clone() {
            let value = self.clamped(at).0;
            if self.does(at) == Some(Does::MultipliesToBytes) && !self.ends.contains(value) {
                self.out.edges.entry(value.to_owned()).or_default();
                let why = self.row(at).map_or("", |row| &row.why);
                let why = format!("result of {}: {why}", self.words(at));
                self.out.why.entry(value.to_owned()).or_insert(why);
            }
        }
    }

    /// What a node reads, when all behind it is known.
    fn behind(&mut self, at: usize) {
        let node = &self.graph.node[at];
        let operands: Vec<Edge> = (0..node.input.len()).map(|slot| (at, slot)).collect();
        match self.does(at) {
            Some(Does::Moves) if node.output.len() == 1 => {
                let y = self.result(at);
                if self.is_bytes(y) && !self.constants.is_constant(&node.input[0]) {
                    self.out.same.insert(y.to_owned(), node.input[0].clone());
                    self.read((at, 0));
                }
            }
            Some(Does::Joins) if self.joins(at).is_ok() => {
                operands.into_iter().for_each(|edge| self.read(edge));
            }
            Some(Does::Shares) if self.joins(at).is_ok() => {
                let mut shared = node.input.clone();
                shared.push(self.clamped(at).0.to_owned());
                self.out.shared.push(shared);
                operands.into_iter().for_each(|edge| self.read(edge));
            }
            Some(Does::Sums) if self.joins(at).is_ok() => {
                let stays = self.summed(at);
                operands.into_iter().filter(|e| Some(e.1) != stays).for_each(|edge| self.read(edge));
            }
            _ => {}
        }
    }

    /// Whether the operands of a node become bytes because its result is.
    ///
    /// # Errors
    /// Why they do not.
    fn joins(&self, at: usize) -> Result<(), String> {
        let node = &self.graph.node[at];
        if !self.seen.contains(&self.homes[at]) {
            return Err("it is in a branch without layers of bytes".into());
        }
        if !self.is_bytes(self.clamped(at).0) {
            return Err("its result is read as floats".into());
        }
        if let Some(name) = node.input.iter().find(|n| self.constants.is_constant(n)) {
            return Err(format!("`{name}` is a constant"));
        }
        // x * f(x): an activation function, whose steps would all be rounded.
        let inner = |n: &String| {
            let f = self.producers.get(n.as_str()).map(|&p| &self.graph.node[p])?;
            node.input.iter().find(|x| f.input.contains(x) && kind(f).is_none())
        };
        match node.input.iter().find_map(inner) {
            Some(x) if node.op_type == "Mul" => Err(format!("it is an activation function of `{x}`")),
            _ => Ok(()),
        }
    }

    /// The slot of a sum whose operand a layer has just made: the last of these layers.
    fn summed(&self, at: usize) -> Option<usize> {
        let node = &self.graph.node[at];
        let layer = |slot: usize| {
            let value = &node.input[slot];
            let by = *self.producers.get(value.as_str())?;
            (self.layers.contains(&by) && self.constants.is_read_once(value)).then_some((by, slot))
        };
        (0..node.input.len()).filter_map(layer).max().map(|(_, slot)| slot)
    }

    /// Whether an operator has a kernel of bytes here, once its result is bytes.
    fn is_integer(&self, at: usize) -> bool {
        match self.does(at) {
            Some(Does::Joins) => self.joins(at).is_ok(),
            Some(Does::Multiplies | Does::MultipliesToBytes) => self.layers.contains(&at),
            _ => false,
        }
    }

    /// Clamps between such an operator and bytes.
    fn clamps(&mut self) {
        if self.rules.clamps == Clamps::Stay {
            return;
        }
        for at in (0..self.graph.node.len()).filter(|&at| self.is_integer(at)).collect::<Vec<_>>() {
            if let (value, Some(clamp)) = self.clamped(at)
                && self.is_bytes(value)
            {
                self.out.clamps.insert(value.to_owned(), clamp);
            }
        }
    }

    /// Edges that read what is bytes for others.
    fn readers(&mut self) {
        for (at, node) in self.graph.node.iter().enumerate() {
            if matches!(self.does(at), Some(Does::Reads | Does::Sums))
                && self.seen.contains(&self.homes[at])
            {
                // One side of an addition stays in the accumulator of its contraction.
                for (slot, name) in node.input.iter().enumerate() {
                    if self.is_bytes(name) {
                        self.read((at, slot));
                    }
                }
            }
        }
        if self.rules.readers == Readers::All {
            let names: Vec<String> =
                self.out.edges.keys().filter(|n| self.of_integers(n)).cloned().collect();
            for name in names {
                let all = self.consumers.get(name.as_str()).into_iter().flatten();
                self.out.edges.entry(name.clone()).or_default().extend(all);
            }
        }
    }

    /// Whether an operator of integers makes a value.
    fn of_integers(&self, value: &str) -> bool {
        let by = match self.out.clamps.get(value) {
            Some(clamp) => Some(clamp.behind),
            None => self.producers.get(value).copied(),
        };
        by.is_some_and(|at| self.out.same.contains_key(value) || self.is_integer(at))
    }

    /// Values whose bytes nothing but depthwise convolutions reads.
    fn channels(&mut self) {
        if self.rules.scales == Scales::One {
            return;
        }
        let places = &self.out;
        let shares = |name: &String| places.shared.iter().any(|names| names.contains(name));
        let alone = places.edges.iter().filter(|(n, _)| !places.same.contains_key(*n) && !shares(n));
        let channels: Vec<(String, usize)> =
            alone.filter_map(|(name, edges)| Some((name.clone(), self.depthwise(edges)?))).collect();
        self.out.channels.extend(channels);
    }

    /// The number of channels of what depthwise convolutions of one filter a channel read, if all of these edges are inputs of such.
    fn depthwise(&self, edges: &BTreeSet<Edge>) -> Option<usize> {
        let channels = |&(at, slot): &Edge| {
            let node = &self.graph.node[at];
            let groups = integer(node, "group", 1);
            let weight = self.constants.find_shared(node.input.get(1)?).ok()?.place.of(self.graph)?;
            let fits = weight.dims.first() == Some(&groups) && weight.dims.get(1) == Some(&1);
            (slot == 0 && node.op_type == "Conv" && groups > 1 && fits).then_some(groups as usize)
        };
        let first = channels(edges.first()?)?;
        edges.iter().all(|edge| channels(edge) == Some(first)).then_some(first)
    }

    /// Why values that operators with rows read or make are not bytes.
    fn reasons(&mut self) {
        for (at, node) in self.graph.node.iter().enumerate() {
            let Some(does) = self.does(at) else { continue };
            let is_layer = matches!(does, Does::Multiplies | Does::MultipliesToBytes | Does::KeepsInputs);
            for (slot, name) in node.input.iter().enumerate() {
                let is_known = name.is_empty() || self.constants.is_constant(name);
                if does == Does::Moves || is_known || self.is_bytes(name) {
                    continue;
                }
                let text = match does {
                    Does::KeepsInputs => self.row(at).map_or("", |row| &row.why).to_owned(),
                    _ if is_layer => "the layer is not quantised".into(),
                    Does::Reads => "no layer reads it as bytes".into(),
                    Does::Sums if self.joins(at).is_ok() && self.summed(at) == Some(slot) => {
                        "a layer has just summed it up, and the sum is joined to that layer".into()
                    }
                    _ => self.joins(at).err().unwrap_or_default(),
                };
                let text = format!("read by {}: {text}", self.words(at));
                self.out.why_not.entry(name.clone()).or_insert(text);
            }
        }
        for at in 0..self.graph.node.len() {
            let Some(does) = self.does(at) else { continue };
            let value = self.clamped(at).0;
            if does == Does::Moves || self.is_bytes(value) || self.constants.is_constant(value) {
                continue;
            }
            let text = match self.outputs.contains(value) {
                true => "an output of the model",
                false if self.ends.contains(value) => "it leads to an output of the model alone",
                false => "no operator of bytes reads it",
            };
            let text = format!("result of {}: {text}", self.words(at));
            self.out.why_not.entry(value.to_owned()).or_insert(text);
        }
    }
}
