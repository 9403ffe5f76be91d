//! Names and levels while a model is imported: what a value name means where, and what sub-graphs capture.

use crate::context::Lengths;
use crate::holding::Holding;
use egret_ir::{Builder, Graph, Op, Type, ValueId};
use onnx_protobuf::AttributeProto;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// What a value name stands for.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Slot {
    /// A value.
    Value(ValueId),
    /// An optional input of a function that its caller left out.
    Absent,
    /// The result of a node that could not be imported for want of a value; its users are skipped.
    Unknown,
}

/// A graph under construction: the model's, or that of a sub-graph, which is closed.
pub(crate) struct Level {
    pub(crate) builder: Builder,
    /// Inputs of its own; captures follow them.
    pub(crate) own_inputs: usize,
    /// Captured values, as values of the level outside.
    pub(crate) captures: Vec<ValueId>,
    /// The dims that were made of data in it.
    pub(crate) lengths: Lengths,
    /// What was supposed of sizes in it.
    pub(crate) holding: Vec<Holding>,
    by_outer: HashMap<ValueId, ValueId>,
}

impl Level {
    pub(crate) fn new(builder: Builder) -> Level {
        Level {
            builder,
            own_inputs: 0,
            captures: vec![],
            lengths: Lengths::default(),
            holding: vec![],
            by_outer: HashMap::new(),
        }
    }
}

/// One name space: the model's graph, a sub-graph, or the body of a function.
pub(crate) struct Frame {
    pub(crate) names: HashMap<String, Slot>,
    /// The frame whose names are visible too.
    pub(crate) parent: Option<usize>,
    /// The level that its nodes go to.
    pub(crate) level: usize,
    /// Opset version by domain.
    pub(crate) opsets: Rc<BTreeMap<String, i64>>,
    /// Attributes of the function call that this frame belongs to, for references to them.
    pub(crate) call_attrs: Rc<BTreeMap<String, AttributeProto>>,
    /// Put before node names: the path of function calls.
    pub(crate) prefix: String,
}

/// The stacks of frames and levels.
#[derive(Default)]
pub(crate) struct Scopes {
    pub(crate) frames: Vec<Frame>,
    pub(crate) levels: Vec<Level>,
}

impl Scopes {
    /// The innermost frame. There is always one while nodes are imported.
    pub(crate) fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("a frame is open")
    }

    /// The builder of the innermost frame.
    pub(crate) fn builder(&mut self) -> &mut Builder {
        let level = self.frame().level;
        &mut self.levels[level].builder
    }

    /// The dims that data decides in the innermost graph, and in those around it.
    pub(crate) fn decided(&mut self) -> BTreeSet<String> {
        let level = self.frame().level;
        let Level { builder, lengths, .. } = &self.levels[level];
        let own = builder.graph.declarations().into_keys().map(str::to_owned);
        lengths.around.iter().cloned().chain(own).collect()
    }

    /// The dims that inputs tell of the innermost graph, and of those around it.
    pub(crate) fn told(&mut self) -> BTreeSet<String> {
        let level = self.frame().level;
        let Level { builder, lengths, .. } = &self.levels[level];
        lengths.told.iter().cloned().chain(builder.graph.free_dims()).collect()
    }

    /// The graph of the innermost frame.
    pub(crate) fn graph(&mut self) -> &mut Graph {
        &mut self.builder().graph
    }

    /// The meaning of a name in the innermost frame, as a value of its level.
    pub(crate) fn resolve(&mut self, name: &str) -> Option<Slot> {
        let mut at = self.frames.len() - 1;
        let target = self.frames[at].level;
        loop {
            let frame = &self.frames[at];
            if let Some(&slot) = frame.names.get(name) {
                let mut level = frame.level;
                let Slot::Value(mut value) = slot else { return Some(slot) };
                while level < target {
                    level += 1;
                    value = self.capture(level, value, name);
                }
                return Some(Slot::Value(value));
            }
            at = frame.parent?;
        }
    }

    /// A value of the level outside as a value of `level`.
    fn capture(&mut self, level: usize, outer: ValueId, name: &str) -> ValueId {
        if let Some(made) = self.made_again(level, outer, name) {
            return made;
        }
        let (below, above) = self.levels.split_at_mut(level);
        let (outside, inside) = (&below[level - 1].builder, &mut above[0]);
        if let Some(tensor) = outside.graph.as_const(outer) {
            return inside.builder.constant(tensor.clone());
        }
        if let Some(&known) = inside.by_outer.get(&outer) {
            return known;
        }
        let value = inside.builder.input(name, outside.graph.ty(outer).clone());
        if below[level - 1].lengths.only_at_run_time(outside, outer) {
            inside.lengths.at_run_time.insert(inside.builder.graph.value(value).name.clone());
        }
        if let Some(elements) = outside.known_elements(outer) {
            inside.builder.set_known_elements(value, elements);
        }
        inside.captures.push(outer);
        inside.by_outer.insert(outer, value);
        value
    }

    /// A sequence that is made of tensors of the level outside is made of them again inside, which captures those: what is read off it
    /// there is read off the tensors.
    fn made_again(&mut self, level: usize, outer: ValueId, name: &str) -> Option<ValueId> {
        if let Some(&known) = self.levels[level].by_outer.get(&outer) {
            return Some(known);
        }
        let outside = &self.levels[level - 1].builder.graph;
        let node = outside.node(outside.producer(outer)?);
        let made = match node.op {
            Op::SequenceEmpty | Op::SequenceConstruct => true,
            Op::SequenceSplit => !node.attrs.flag("has_split"),
            _ => false,
        };
        if !made {
            return None;
        }
        let (op, attrs, operands) = (node.op, node.attrs.clone(), node.operands.clone());
        let fed: Vec<_> = operands.into_iter().map(|v| v.map(|v| self.capture(level, v, name))).collect();
        let inside = &mut self.levels[level];
        let value = *inside.builder.emit_node(op, attrs, &fed, vec![]).ok()?.first()?;
        inside.by_outer.insert(outer, value);
        Some(value)
    }

    /// The type of a value of the innermost frame.
    pub(crate) fn ty(&mut self, value: ValueId) -> Type {
        self.graph().ty(value).clone()
    }
}
