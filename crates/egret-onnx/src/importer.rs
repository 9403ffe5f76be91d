//! The importer: walks the nodes of graphs and functions and has each operator's function lower them.

use crate::attribute::{self, Decoded};
use crate::clamps::Clamped;
use crate::context::{NodeCtx, OnnxAttr};
use crate::data::{decode_sparse, decode_tensor_external};
use crate::error::{ErrorKind, ImportError};
use crate::external::ExternalData;
use crate::holding;
use crate::inputs::{ImportOptions, input_types};
use crate::names::{initialised, key, node_name, node_place, normal, opsets};
use crate::ops::{self, gradient};
use crate::order::{in_order, needed_names};
use crate::scope::{Frame, Level, Scopes, Slot};
use crate::settle::settle;
use egret_ir::{Builder, Graph, Tensor, ValueId, advice};
use onnx_protobuf::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// Functions and sub-graphs within each other deeper than this are refused.
pub(crate) const MAX_FRAMES: usize = 64;
/// More nodes than this, functions inlined, are refused.
const MAX_NODES: usize = 1 << 20;

/// Bytes of constants that are hashed together; equal ones are held several times until then.
const BATCH: usize = 32 << 20;
/// From this many bytes of constants on their hashes are made on several threads.
const WORTH_A_THREAD: usize = 1 << 20;

fn bytes_of(tensors: &[(&str, Tensor)]) -> usize {
    tensors.iter().map(|(_, t)| t.bytes().len()).sum()
}

/// Model-local functions by domain, name and overload.
pub(crate) type Functions<'m> = BTreeMap<(String, String, String), &'m FunctionProto>;

/// The function that a node calls. One of Egret's own domain stands for an operation that has an importer here: its body is for others.
pub(crate) fn body<'m>(
    functions: &Functions<'m>,
    key: &(String, String, String),
) -> Option<&'m FunctionProto> {
    let own = key.0 == ops::OWN_DOMAIN && ops::find(&key.0, &key.1).is_some();
    functions.get(key).copied().filter(|_| !own)
}

/// The state of an import.
pub(crate) struct Importer<'m> {
    pub(crate) external: ExternalData,
    pub(crate) scopes: Scopes,
    /// Nodes that need the value of a graph input, in order.
    pub(crate) needs: Vec<ImportError>,
    pub(crate) functions: Functions<'m>,
    /// Functions being inlined, outermost first.
    active: Vec<(String, String, String)>,
    nodes: usize,
    /// Slices of the model's own graph that are clamped for some sizes only.
    clamped: Vec<Clamped>,
    /// Whether dims are made of any data ([`ImportOptions::computed_dims`]).
    lengths_anywhere: bool,
    /// Names whose constants are values of their own ([`ImportOptions::apart`]), and whether the model's own graph has them: functions and
    /// branches may, which become part of it.
    pub(crate) apart: BTreeMap<String, bool>,
    /// Those constants: inputs while the model is imported.
    pub(crate) held_apart: Vec<(ValueId, Tensor)>,
    /// What the first If of the model's own graph gives that leaves an axis out where data says so.
    pub(crate) by_data: Rc<OnceCell<String>>,
}

/// What a node's outputs stand for; `None` if it depends on a node that failed for want of a value.
type NodeResult = Result<Option<Vec<Slot>>, ImportError>;

impl<'m> Importer<'m> {
    pub(crate) fn new(external: ExternalData, functions: Functions<'m>) -> Importer<'m> {
        Importer {
            external,
            scopes: Scopes::default(),
            needs: vec![],
            functions,
            active: vec![],
            nodes: 0,
            clamped: vec![],
            lengths_anywhere: false,
            apart: BTreeMap::new(),
            held_apart: vec![],
            by_data: Rc::default(),
        }
    }

    /// Import the model's own graph.
    pub(crate) fn model(
        mut self,
        proto: &'m GraphProto,
        opsets: BTreeMap<String, i64>,
        options: &ImportOptions,
    ) -> Result<Graph, ImportError> {
        self.lengths_anywhere = options.computed_dims;
        // An initialiser of an input is a default: it is left out where the caller gives the input.
        let mut defaults = initialised(proto);
        let given: BTreeSet<&str> = proto
            .input
            .iter()
            .map(|i| i.name.as_str())
            .filter(|n| defaults.contains(n) && options.input_shapes.contains_key(*n))
            .collect();
        defaults.retain(|n| !given.contains(n));
        let inputs: Vec<_> = proto.input.iter().filter(|i| !defaults.contains(i.name.as_str())).collect();
        let types = input_types(&inputs, options)?;
        self.scopes.levels.push(Level::new(Builder::new(&identifier(&proto.name))));
        self.scopes.frames.push(Frame {
            names: HashMap::new(),
            parent: None,
            level: 0,
            opsets: Rc::new(opsets),
            call_attrs: Rc::default(),
            prefix: String::new(),
        });
        for (info, ty) in inputs.into_iter().zip(types) {
            let input = self.scopes.builder().input(&info.name, ty);
            // A bound input stays part of the graph's interface, but what is known is what counts.
            let value = match options.bind.get(&info.name) {
                Some(tensor) => self.scopes.builder().constant(tensor.clone()),
                None => input,
            };
            self.define(&info.name, Slot::Value(value))?;
        }
        let by_nodes = proto.node.iter().flat_map(gradient::named).map(str::to_owned);
        let mut own = initialised(proto);
        own.extend(proto.node.iter().flat_map(|n| &n.output).map(String::as_str));
        let asked = options.apart.iter().cloned().chain(by_nodes);
        self.apart = asked.map(|name| (name.clone(), own.contains(name.as_str()))).collect();
        self.body(proto, &given)?;
        let outputs = self.outputs(proto)?;
        if outputs.contains(&None) {
            return Err(self.all_needs());
        }
        let Level { mut builder, holding, .. } = self.scopes.levels.swap_remove(0);
        for (info, value) in proto.output.iter().zip(outputs.into_iter().flatten()) {
            builder.output(&info.name, value);
        }
        holding::require(&mut builder.graph, &holding)?;
        holding::lengthen(&mut builder, &holding, 0, true)?;
        let mut graph = builder.graph;
        self.held_apart.into_iter().for_each(|(value, tensor)| graph.fix_input(value, tensor));
        graph.remove_dead();
        let settled = settle(&mut graph, self.clamped);
        holding::require(&mut graph, &settled)?;
        Ok(graph)
    }

    /// The values of a graph's outputs in the innermost frame; `None` where one could not be imported.
    pub(crate) fn outputs(&mut self, proto: &GraphProto) -> Result<Vec<Option<ValueId>>, ImportError> {
        let mut values = vec![];
        for info in &proto.output {
            values.push(match self.scopes.resolve(&info.name) {
                Some(Slot::Value(v)) => Some(v),
                Some(Slot::Unknown) => None,
                Some(Slot::Absent) | None => {
                    return Err(ImportError::invalid(format!(
                        "the output `{}` of the graph `{}` is never computed",
                        info.name, proto.name
                    )));
                }
            });
        }
        Ok(values)
    }

    /// One error for all nodes that need values.
    fn all_needs(&self) -> ImportError {
        let inputs: BTreeSet<String> =
            self.needs.iter().flat_map(|e| e.inputs_to_bind.iter().cloned()).collect();
        let mut lines: Vec<String> = self.needs.iter().take(5).map(ToString::to_string).collect();
        if self.needs.len() > 5 {
            lines.push(format!("and {} more", self.needs.len() - 5));
        }
        let names: Vec<String> = inputs.iter().map(|n| format!("`{n}`")).collect();
        if let Some(name) = inputs.iter().find(|n| self.apart.contains_key(*n)) {
            let lines = lines.join("; ");
            return ImportError::new(
                ErrorKind::NeedsValue,
                format!("{lines}; there is no derivative by `{name}`, whose value has to be known"),
            );
        }
        let example = advice::word(inputs.first().map_or("NAME", String::as_str));
        let mut e = ImportError::new(
            ErrorKind::NeedsValue,
            format!(
                "{}; bind the value of {}, e.g. --bind {example}=value.npy",
                lines.join("; "),
                names.join(", ")
            ),
        );
        e.inputs_to_bind = inputs;
        e.is_unsupported = self.needs.iter().any(|e| e.is_unsupported);
        e
    }

    /// Define a name in the innermost frame.
    pub(crate) fn define(&mut self, name: &str, slot: Slot) -> Result<(), ImportError> {
        let slot = self.apart(name, slot)?;
        if self.scopes.frame().names.insert(name.to_owned(), slot).is_some() {
            return Err(ImportError::invalid(format!("the name `{name}` is defined twice")));
        }
        if let Slot::Value(value) = slot {
            let graph = self.scopes.graph();
            if graph.value(value).name.is_empty() {
                graph.set_value_name(value, name);
            }
        }
        Ok(())
    }

    /// Import a graph's initialisers, but for those `given` as inputs, and nodes into the innermost frame.
    pub(crate) fn body(
        &mut self,
        proto: &'m GraphProto,
        given: &BTreeSet<&str>,
    ) -> Result<(), ImportError> {
        let mut decoded: Vec<(&str, Tensor)> = vec![];
        for tensor in proto.initializer.iter().filter(|t| !given.contains(t.name.as_str())) {
            decoded.push((&tensor.name, decode_tensor_external(tensor, &mut self.external)?));
            if bytes_of(&decoded) >= BATCH {
                self.constants(std::mem::take(&mut decoded))?;
            }
        }
        self.constants(decoded)?;
        for sparse in &proto.sparse_initializer {
            let name = &sparse.values.get_or_default().name;
            if given.contains(name.as_str()) {
                continue;
            }
            let tensor = decode_sparse(sparse, &mut self.external)
                .map_err(|e| e.at(format!("sparse tensor `{name}`")))?;
            let value = self.scopes.builder().constant(tensor);
            self.define(name, Slot::Value(value))?;
        }
        self.run(&proto.node, proto.output.iter().map(|o| o.name.as_str()))?;
        self.declared_types(proto)
    }

    /// Define constants in the innermost frame. A graph knows them by their hashes: those of large ones are made on all threads.
    fn constants(&mut self, tensors: Vec<(&str, Tensor)>) -> Result<(), ImportError> {
        if bytes_of(&tensors) >= WORTH_A_THREAD {
            egret_threads::map(&tensors, 0, |(_, t)| t.content_hash());
        }
        for (name, tensor) in tensors {
            let value = self.scopes.builder().constant(tensor);
            self.define(name, Slot::Value(value))?;
        }
        Ok(())
    }

    /// Import nodes, of which these outputs are wanted, into the innermost frame.
    fn run(
        &mut self,
        nodes: &'m [NodeProto],
        outputs: impl Iterator<Item = &'m str>,
    ) -> Result<(), ImportError> {
        let order = in_order(nodes)?;
        let needed = needed_names(&order, outputs);
        for node in order {
            let place = node_place(&self.scopes.frame().prefix, node);
            let level = self.scopes.frame().level;
            let held = self.scopes.levels[level].holding.len();
            let slots = match self.node(node) {
                Ok(slots) => slots,
                Err(e) if e.kind == ErrorKind::NeedsValue => {
                    let e = self.at_model_inputs(e).with_remedy(&self.free_dims()).at(place.clone());
                    if e.kind != ErrorKind::NeedsValue {
                        return Err(e);
                    }
                    self.needs.push(e);
                    None
                }
                Err(e) => return Err(e.with_remedy(&self.free_dims()).at(place)),
            };
            // For which sizes it is right does not matter where no output needs it.
            if !node.output.iter().any(|o| needed.contains(o.as_str())) {
                self.scopes.levels[level].holding.truncate(held);
            }
            for (i, name) in node.output.iter().enumerate().filter(|(_, n)| !n.is_empty()) {
                let slot = slots.as_ref().map_or(Slot::Unknown, |s| s[i]);
                self.define(name, slot).map_err(|e| e.at(place.clone()))?;
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &'m NodeProto) -> NodeResult {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(ImportError::unsupported(format!(
                "more than {MAX_NODES} nodes with all functions inlined"
            )));
        }
        let mut inputs = vec![];
        let mut unknown = false;
        for name in &node.input {
            inputs.push(match name.as_str() {
                "" => None,
                _ => match self.scopes.resolve(name) {
                    Some(Slot::Value(v)) => Some(v),
                    Some(Slot::Absent) => None,
                    Some(Slot::Unknown) => {
                        unknown = true;
                        None
                    }
                    None => {
                        return Err(ImportError::invalid(format!(
                            "the input `{name}` is not defined anywhere"
                        )));
                    }
                },
            });
        }
        if unknown {
            return Ok(None);
        }
        let key = key(&node.domain, &node.op_type, &node.overload);
        let slots = if let Some(function) = body(&self.functions, &key) {
            self.call(node, function, key, inputs)?
        } else if let Some(branch) = self.decided_branch(node, &inputs) {
            self.branch(node, branch)?
        } else if let Some(carried) = self.loop_of_no_round(node, &inputs) {
            carried
        } else if let Some(squeezed) = self.squeezed(node, &inputs)? {
            squeezed
        } else {
            let (frames, levels) = (self.scopes.frames.len(), self.scopes.levels.len());
            let deciding = self.deciding(node, &inputs);
            let values = match self.operator(node, inputs) {
                // A branch that does not fit the given shapes, or whose types are not those of the other one, may be the
                // one that is not taken; a body that does not fit them may run in no round.
                Err(e) if !deciding.is_empty() && e.kind != ErrorKind::NeedsValue => {
                    self.scopes.frames.truncate(frames);
                    self.scopes.levels.truncate(levels);
                    return Err(self.needs_condition(node, &deciding, e));
                }
                other => other?,
            };
            match values {
                None => return Ok(None),
                Some(values) => values.into_iter().map(Slot::Value).collect(),
            }
        };
        let wanted = node.output.iter().rposition(|o| !o.is_empty()).map_or(0, |i| i + 1);
        if slots.len() < wanted {
            return Err(ImportError::invalid(format!(
                "{wanted} outputs are named but there are only {}",
                slots.len()
            )));
        }
        Ok(Some(slots))
    }

    /// Lower a node by the operator's function.
    fn operator(
        &mut self,
        node: &'m NodeProto,
        inputs: Vec<Option<ValueId>>,
    ) -> Result<Option<Vec<ValueId>>, ImportError> {
        let domain = normal(&node.domain);
        let row = ops::find(domain, &node.op_type);
        let opset = self.scopes.frame().opsets.get(domain).copied();
        let Some((row, opset)) = row.zip(opset).filter(|(row, opset)| *opset >= row.since) else {
            return Err(ImportError::operator());
        };
        let mut attrs = BTreeMap::new();
        let call = self.scopes.frame().call_attrs.clone();
        let mut graphs = vec![];
        for attr in &node.attribute {
            let decoded = if attr.ref_attr_name.is_empty() {
                attribute::decode(attr, &mut self.external)?
            } else {
                let Some(given) = attribute::dereference(attr, &call) else { continue };
                Decoded::Plain(attribute::decode_plain(&given, &mut self.external)?)
            };
            match decoded {
                Decoded::Plain(value) => {
                    if attrs.insert(attr.name.clone(), value).is_some() {
                        return Err(ImportError::invalid(format!(
                            "attribute `{}` is given twice",
                            attr.name
                        )));
                    }
                }
                Decoded::Graph(graph) => graphs.push((attr.name.clone(), graph)),
            }
        }
        for (name, proto) in graphs {
            let Some((graph, captures)) = self.region(node, opset, &inputs, &attrs, proto)? else {
                return Ok(None);
            };
            attrs.insert(name, OnnxAttr::Graph(Box::new(graph), captures));
        }
        let named = gradient::named(node).filter_map(|name| match self.scopes.resolve(name) {
            Some(Slot::Value(value)) => Some((name.to_owned(), value)),
            _ => None,
        });
        let named = named.collect();
        let source = format!("{}:{}", node.op_type, node_name(&self.scopes.frame().prefix, node));
        let level = self.scopes.frame().level;
        let Level { builder, lengths, .. } = &mut self.scopes.levels[level];
        builder.set_sources(BTreeSet::from([source]));
        let mut ctx = NodeCtx {
            builder,
            lengths,
            lengths_anywhere: self.lengths_anywhere,
            opset,
            op_type: &node.op_type,
            inputs,
            outputs: node.output.len(),
            wanted: node.output.iter().map(|o| !o.is_empty()).collect(),
            named,
            attrs,
            clamped: vec![],
            holding: vec![],
        };
        let values = (row.import)(&mut ctx)?;
        let (clamped, holding) = (std::mem::take(&mut ctx.clamped), std::mem::take(&mut ctx.holding));
        if !ctx.attrs.is_empty() {
            let names: Vec<String> = ctx.attrs.keys().map(|n| format!("`{n}`")).collect();
            return Err(ImportError::unsupported(format!(
                "the attributes {} are not understood in opset {opset}",
                names.join(", ")
            )));
        }
        self.scopes.levels[level].holding.extend(holding);
        if level == 0 {
            self.clamped.extend(clamped);
        }
        Ok(Some(values))
    }

    /// Inline a call of a model-local function.
    fn call(
        &mut self,
        node: &'m NodeProto,
        function: &'m FunctionProto,
        key: (String, String, String),
        inputs: Vec<Option<ValueId>>,
    ) -> Result<Vec<Slot>, ImportError> {
        if self.active.contains(&key) {
            return Err(ImportError::invalid(format!("the function `{}` calls itself", function.name)));
        }
        if inputs.len() > function.input.len() {
            return Err(ImportError::invalid(format!(
                "the function takes {} inputs, not {}",
                function.input.len(),
                inputs.len()
            )));
        }
        let outer_attrs = self.scopes.frame().call_attrs.clone();
        let mut attrs: BTreeMap<String, AttributeProto> =
            function.attribute_proto.iter().map(|a| (a.name.clone(), a.clone())).collect();
        for attr in &node.attribute {
            if !function.attribute.contains(&attr.name) && !attrs.contains_key(&attr.name) {
                return Err(ImportError::invalid(format!(
                    "the function `{}` has no attribute `{}`",
                    function.name, attr.name
                )));
            }
            let given = if attr.ref_attr_name.is_empty() {
                Some(attr.clone())
            } else {
                attribute::dereference(attr, &outer_attrs)
            };
            attrs.extend(given.map(|g| (attr.name.clone(), g)));
        }
        let level = self.scopes.frame().level;
        let prefix = format!("{}/", node_name(&self.scopes.frame().prefix, node));
        let frame = Frame {
            names: HashMap::new(),
            parent: None,
            level,
            opsets: Rc::new(opsets(&function.opset_import, &format!("the function `{}`", function.name))?),
            call_attrs: Rc::new(attrs),
            prefix,
        };
        self.open(frame)?;
        for (i, name) in function.input.iter().enumerate() {
            let slot = inputs.get(i).copied().flatten().map_or(Slot::Absent, Slot::Value);
            self.define(name, slot)?;
        }
        self.active.push(key);
        self.run(&function.node, function.output.iter().map(String::as_str))?;
        self.active.pop();
        let mut slots = vec![];
        for name in &function.output {
            let slot = self.scopes.resolve(name);
            slots.push(slot.ok_or_else(|| {
                ImportError::invalid(format!(
                    "the output `{name}` of the function `{}` is never computed",
                    function.name
                ))
            })?);
        }
        self.scopes.frames.pop();
        Ok(slots)
    }

    /// The free dims of the model's inputs.
    pub(crate) fn free_dims(&self) -> Vec<String> {
        self.scopes.levels.first().map_or(vec![], |l| l.builder.graph.free_dims())
    }

    /// Inline a branch.
    pub(crate) fn branch(
        &mut self,
        node: &NodeProto,
        proto: &'m GraphProto,
    ) -> Result<Vec<Slot>, ImportError> {
        if let Some(a) = node.attribute.iter().find(|a| a.name != "then_branch" && a.name != "else_branch")
        {
            return Err(ImportError::unsupported(format!("the attribute `{}` is not understood", a.name)));
        }
        let level = self.scopes.frame().level;
        let frame = self.inner_frame(level);
        self.open(frame)?;
        self.body(proto, &BTreeSet::new())?;
        let slots =
            self.outputs(proto)?.into_iter().map(|v| v.map_or(Slot::Unknown, Slot::Value)).collect();
        self.scopes.frames.pop();
        Ok(slots)
    }

    /// A frame that sees the names of the innermost one.
    pub(crate) fn inner_frame(&mut self, level: usize) -> Frame {
        let parent = self.scopes.frames.len() - 1;
        let outer = self.scopes.frame();
        Frame {
            names: HashMap::new(),
            parent: Some(parent),
            level,
            opsets: outer.opsets.clone(),
            call_attrs: outer.call_attrs.clone(),
            prefix: outer.prefix.clone(),
        }
    }

    /// Make a frame the innermost one.
    pub(crate) fn open(&mut self, frame: Frame) -> Result<(), ImportError> {
        if self.scopes.frames.len() >= MAX_FRAMES {
            return Err(ImportError::unsupported(format!(
                "functions and sub-graphs are nested deeper than {MAX_FRAMES}"
            )));
        }
        self.scopes.frames.push(frame);
        Ok(())
    }

    /// A missing value traced back from the inputs of the sub-graph it is needed in to those of the model.
    fn at_model_inputs(&mut self, mut e: ImportError) -> ImportError {
        let mut names = std::mem::take(&mut e.inputs_to_bind);
        for l in (1..=self.scopes.frame().level).rev() {
            let (level, outside) = (&self.scopes.levels[l], &self.scopes.levels[l - 1].builder.graph);
            let inside = &level.builder.graph;
            let captured = inside.inputs()[level.own_inputs..].iter().zip(&level.captures);
            names = captured
                .filter(|(input, _)| names.contains(&inside.value(**input).name))
                .flat_map(|(_, &outer)| outside.inputs_read_for(outer))
                .collect();
        }
        if names.is_empty() {
            e.kind = ErrorKind::Unsupported;
            e.message += ", but depends on ";
            let free = self.free_dims();
            if !free.is_empty() {
                e.message += &format!("free dims (give {}) or on ", advice::dims(&free));
            }
            e.message += "what is only known while the model runs";
        } else {
            let list: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
            e.message += &format!(" but depends on the value of {}", list.join(", "));
        }
        e.inputs_to_bind = names;
        e
    }
}

/// A name as an identifier of text IR and artifacts.
pub(crate) fn identifier(name: &str) -> String {
    let id: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match id.chars().next() {
        None => "main".to_owned(),
        Some(c) if c.is_ascii_digit() => format!("_{id}"),
        Some(_) => id,
    }
}
