//! Joining: parts, wires, types, names, and the file of the whole.

use crate::data::{self, Once};
use crate::functions::{key_of, new_names};
use crate::heads::{self, Head, Ready};
use crate::names::{Names, Port};
use crate::order;
use crate::part::Part;
use crate::rename::{Renaming, entries};
use crate::report::{self, Report};
use crate::types::{self, Dims, Symbol, each_dim};
use crate::wiring::{self, End, Source, Wire, Wiring};
use egret::frontend::ModelFile;
use egret::{Error, ImportOptions, Result, opset};
use onnx_protobuf::tensor_shape_proto::dimension;
use onnx_protobuf::{
    GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TypeProto,
    ValueInfoProto,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The opset of a ready head where no model has one.
const HEAD_OPSET: i64 = 17;

/// What is asked of a joining.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The models: `FILE.onnx`, called as the stem of its file, or `NAME=FILE.onnx`.
    pub models: Vec<String>,
    /// `MODEL:OUTPUT=MODEL:INPUT`: the value is the input. Any value of a model's graph may be wired.
    pub wires: Vec<String>,
    /// `NAME=MODEL:INPUT,MODEL:INPUT`: one input of the whole is all of them.
    pub shares: Vec<String>,
    /// `MODEL:VALUE`: an output of the whole, even if it is wired.
    pub keep: Vec<String>,
    /// `MODEL:OUTPUT`: no output of the whole.
    pub drop: Vec<String>,
    /// A ready head, wired to as `head`.
    pub head: Option<Head>,
    /// Units of linear layers behind the head, ReLU between them; the last one's are `logits`.
    pub layers: Vec<usize>,
    /// Of the head's weights before training.
    pub seed: u64,
    /// The folder that the joined model is going to be in, for weights in files of their own.
    pub folder: PathBuf,
}

/// A joined model.
pub struct Joined {
    /// The model file.
    pub model: Vec<u8>,
    /// What was joined.
    pub report: Report,
}

/// Join models.
///
/// # Errors
/// Models that cannot be read; wires that lead nowhere, between values of unlike types, or in a circle; opsets that cannot be made one.
pub fn join(request: &Request) -> Result<Joined> {
    let mut parts = open(request)?;
    let wires = wires(request, &mut parts)?;
    let wiring = Wiring::new(&parts, wires, &request.shares, &request.keep, &request.drop)?;
    let opsets: Vec<Option<i64>> = parts.iter().map(|p| opset::version(&p.model.opset_import)).collect();
    let imports = raise(&mut parts)?;
    let (mut dims, types) = unify(&parts, &wiring)?;
    let part_names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
    let called = dims.names(&part_names);
    let unchecked = parts.iter().find_map(refused);
    let mut inside = 0;
    for part in &mut parts {
        data::place(part, &request.folder, &mut inside)?;
    }
    let mut names = Names::new(&parts, &wiring)?;
    let (gone, once) = data::once(&parts, &mut names);
    let whole = Whole { parts: &parts, wiring: &wiring, names: &names, types: &types, dims: &called };
    let mut model = whole.model(&gone, imports)?;
    let graph = model.graph.mut_or_insert_default();
    graph.node = order::sort(std::mem::take(&mut graph.node))?;
    let dropped = if request.drop.is_empty() { 0 } else { order::remove_dead(graph) };
    if unchecked.is_none() {
        let file = ModelFile::of(&request.folder.join("joined.onnx"), model.clone());
        file.import(&ImportOptions::default()).map_err(|e| Error {
            message: format!("the models do not fit each other: {}", e.message),
            ..e
        })?;
    }
    let bytes = model
        .write_to_bytes()
        .map_err(|e| Error::unsupported(format!("the joined model cannot be written: {e}")))?;
    let report = whole.report(&model, &opsets, &mut dims, once, dropped, bytes.len(), unchecked);
    Ok(Joined { model: bytes, report })
}

/// Why Egret does not import a part, if it does not.
fn refused(part: &Part) -> Option<String> {
    let file = ModelFile::of(&part.path, part.model.clone());
    file.import(&ImportOptions::default()).err().map(|e| e.at(&part.name).message)
}

/// The models, each under a name of its own.
fn open(request: &Request) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = vec![];
    for text in &request.models {
        let part = Part::open(text)?;
        let twice = parts.iter().any(|p| p.name == part.name);
        if twice || (request.head.is_some() && part.name == heads::NAME) {
            let whose = if twice { "two models are" } else { "a model and the ready head are" };
            return Err(Error::user(format!(
                "{whose} called `{}`; give one another name: NAME=FILE",
                part.name
            )));
        }
        parts.push(part);
    }
    if parts.is_empty() {
        return Err(Error::user("there is no model to join; give NAME=FILE.onnx"));
    }
    Ok(parts)
}

/// The wires, and among the parts the ready head that some of them lead to.
fn wires(request: &Request, parts: &mut Vec<Part>) -> Result<Vec<(String, Wire)>> {
    let mut names: Vec<String> = parts.iter().map(|p| p.name.clone()).collect();
    names.extend(request.head.iter().map(|_| heads::NAME.to_owned()));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let one = |text: &String| {
        let wire = wiring::wire(text, &names).map_err(|e| e.at(format!("--wire {text}")))?;
        Ok((text.clone(), wire))
    };
    let wires = request.wires.iter().map(one).collect::<Result<Vec<(String, Wire)>>>()?;
    if request.head.is_none() && !request.layers.is_empty() {
        return Err(Error::user("--layers go behind a ready head; name one: --head concat"));
    }
    if let Some(head) = &request.head {
        let index = parts.len();
        let mut wired: Vec<heads::Wired> = vec![];
        for (text, wire) in wires.iter().filter(|(_, w)| w.to.part == index) {
            if wire.from.part == index {
                return Err(Error::user("the head cannot be wired to itself").at(format!("--wire {text}")));
            }
            if wired.iter().any(|w| w.input == wire.to.value) {
                let what =
                    format!("the head has an input `{}` already; call this one otherwise", wire.to.value);
                return Err(Error::user(what).at(format!("--wire {text}")));
            }
            wiring::has_value(parts, &wire.from).map_err(|e| e.at(format!("--wire {text}")))?;
            wired.push(heads::Wired {
                from: wire.from.text(parts),
                input: wire.to.value.clone(),
                ty: parts[wire.from.part].type_of(&wire.from.value),
            });
        }
        let newest = parts.iter().filter_map(|p| opset::version(&p.model.opset_import)).max();
        let ready = Ready { head, layers: &request.layers, seed: request.seed };
        let model = ready.model(&wired, newest.unwrap_or(HEAD_OPSET)).map_err(|e| e.at("--head"))?;
        parts.push(Part::of(heads::NAME.to_owned(), PathBuf::new(), model, 0)?);
    }
    Ok(wires)
}

/// Have all parts use the same opsets; returns these.
fn raise(parts: &mut [Part]) -> Result<Vec<OperatorSetIdProto>> {
    let newest = parts.iter().filter_map(|p| opset::version(&p.model.opset_import)).max();
    for part in parts.iter_mut() {
        // A model without opsets has opset 1.
        let uses = part.model.opset_import.is_empty() || opset::version(&part.model.opset_import).is_some();
        if let Some(newest) = newest.filter(|_| uses) {
            opset::raise(&mut part.model, newest, "the other models").map_err(|e| e.at(&part.name))?;
        }
    }
    let mut out: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
    for part in parts.iter() {
        for import in part.model.opset_import.iter().filter(|o| !opset::is_onnx(&o.domain)) {
            let (version, first) = *out.entry(&import.domain).or_insert((import.version, &part.name));
            if version != import.version {
                return Err(Error::unsupported(format!(
                    "`{first}` uses version {version} of the operators of {} and `{}` version {}, which one file cannot; export \
                     both for the same version",
                    import.domain, part.name, import.version
                )));
            }
        }
    }
    let import = |domain: &str, version| OperatorSetIdProto {
        domain: domain.to_owned(),
        version,
        ..OperatorSetIdProto::default()
    };
    let own = newest.map(|n| import("", n));
    Ok(own.into_iter().chain(out.into_iter().map(|(d, (v, _))| import(d, v))).collect())
}

/// Types of wired values, of what shared inputs feed, and of outputs.
type Types = BTreeMap<End, TypeProto>;

/// Check types along wires and between inputs that are one; dims become one that must be.
fn unify(parts: &[Part], wiring: &Wiring) -> Result<(Dims, Types)> {
    let mut dims = Dims::default();
    for (i, part) in parts.iter().enumerate() {
        let graph = &part.model.graph;
        for info in graph.input.iter().chain(&graph.output).chain(&graph.value_info) {
            each_dim(&mut info.type_.get_or_default().clone(), &mut |d| {
                if let Some(dimension::Value::DimParam(name)) = &d.value {
                    dims.note(i, name);
                }
            });
        }
    }
    let mut types = Types::new();
    let mut of = |end: &End| -> Result<TypeProto> {
        if let Some(ty) = types.get(end) {
            return Ok(ty.clone());
        }
        let ty = parts[end.part].type_of(&end.value).ok_or_else(|| {
            Error::user(format!(
                "the type of `{}` is not known; declare it: onnx.shape_inference.infer_shapes(model)",
                end.text(parts)
            ))
        })?;
        types.insert(end.clone(), ty.clone());
        Ok(ty)
    };
    let mut one = |a: &End, b: &End, place: &str| -> Result<()> {
        let (x, y) = (of(a).map_err(|e| e.at(place))?, of(b).map_err(|e| e.at(place))?);
        dims.unify((a.part, &x), (b.part, &y)).map_err(|why| {
            let (a, b) = (a.text(parts), b.text(parts));
            Error::user(format!(
                "{place}: `{a}` is {} and `{b}` is {}: {why}",
                types::text(&x),
                types::text(&y)
            ))
        })
    };
    for (i, wire) in wiring.wires.iter().enumerate() {
        one(&wire.from, &wire.to, &format!("--wire {}", wiring.wire_text(i, parts)))?;
    }
    for share in &wiring.shares {
        for to in &share.to {
            one(&share.to[0], to, &format!("--share {}", share.name))?;
        }
    }
    for end in wiring.outputs.iter().filter(|e| !parts[e.part].is_output(&e.value)) {
        of(end).map_err(|e| e.at("--keep"))?;
    }
    Ok((dims, types))
}

/// The whole, before it is written.
struct Whole<'a> {
    parts: &'a [Part],
    wiring: &'a Wiring,
    names: &'a Names<'a>,
    types: &'a Types,
    dims: &'a BTreeMap<Symbol, dimension::Value>,
}

impl Whole<'_> {
    /// The model, its nodes part by part.
    fn model(&self, gone: &BTreeSet<End>, opset_import: Vec<OperatorSetIdProto>) -> Result<ModelProto> {
        let mut out = ModelProto { opset_import, ..ModelProto::default() };
        out.ir_version = self.parts.iter().map(|p| p.model.ir_version).max().unwrap_or_default();
        out.producer_name = "egret".to_owned();
        out.producer_version = env!("CARGO_PKG_VERSION").to_owned();
        let files = || self.parts.iter().filter(|p| !p.path.as_os_str().is_empty());
        let docs = files().filter(|p| !p.model.doc_string.is_empty());
        let docs = docs.map(|p| format!("{}: {}", p.name, p.model.doc_string));
        out.doc_string = docs.collect::<Vec<_>>().join("\n");
        let all = |of: fn(&ModelProto) -> &[StringStringEntryProto]| {
            entries(&self.parts.iter().map(|p| (p.name.as_str(), of(&p.model))).collect::<Vec<_>>())
        };
        out.metadata_props = all(|m| &m.metadata_props);
        let mut graph =
            GraphProto { metadata_props: all(|m| &m.graph.metadata_props), ..GraphProto::default() };
        graph.name = self.parts.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join("_");
        let functions = new_names(self.parts);
        for ((part, p), functions) in self.parts.iter().enumerate().zip(functions) {
            let renaming =
                Renaming { part, parts: self.parts, names: self.names, functions, dims: self.dims };
            let mut own = p.model.graph.get_or_default().clone();
            let is_given = |value: &str| {
                let end = End { part, value: value.to_owned() };
                gone.contains(&end) || self.wiring.sources.contains_key(&end)
            };
            own.initializer.retain(|t| !is_given(&t.name));
            own.sparse_initializer.retain(|s| !is_given(&s.values.get_or_default().name));
            own.value_info.retain(|v| !is_given(&v.name));
            renaming.top(&mut own);
            graph.node.append(&mut own.node);
            graph.initializer.append(&mut own.initializer);
            graph.sparse_initializer.append(&mut own.sparse_initializer);
            graph.value_info.append(&mut own.value_info);
            graph.quantization_annotation.append(&mut own.quantization_annotation);
            for f in &p.model.functions {
                let mut f = f.clone();
                let new = renaming.functions.get(&key_of(&f)).cloned();
                renaming.calls(&mut f.node);
                f.name = new.unwrap_or(f.name);
                if !out.functions.iter().any(|o| key_of(o) == key_of(&f)) {
                    out.functions.push(f);
                }
            }
        }
        graph.input = self.names.inputs.iter().map(|p| self.info(p)).collect();
        graph.output = self.names.outputs.iter().map(|p| self.info(p)).collect();
        for port in &self.names.outputs {
            let value = self.names.of(port.end.part, &port.end.value);
            if value != port.name {
                // What is an input or of another part has a name already.
                graph.node.push(NodeProto {
                    op_type: "Identity".into(),
                    name: format!("{}/out", port.name),
                    input: vec![value],
                    output: vec![port.name.clone()],
                    ..NodeProto::default()
                });
            }
        }
        let ports: BTreeSet<&String> = graph.input.iter().chain(&graph.output).map(|v| &v.name).collect();
        let mut seen = BTreeSet::new();
        graph.value_info.retain(|v| !ports.contains(&v.name) && seen.insert(v.name.clone()));
        out.graph = Some(graph).into();
        Ok(out)
    }

    /// The declaration of an input or output, with the dims of the whole.
    fn info(&self, port: &Port) -> ValueInfoProto {
        let p = &self.parts[port.end.part];
        let declared = p.inputs().iter().chain(p.outputs()).find(|v| v.name == port.end.value);
        let mut info = declared.cloned().unwrap_or_default();
        info.name.clone_from(&port.name);
        if let Some(ty) = self.types.get(&port.end) {
            info.type_ = Some(ty.clone()).into();
        }
        if let Some(ty) = info.type_.as_mut() {
            self.named(port.end.part, ty);
        }
        info
    }

    /// Give the dims of a part's type the names of the whole.
    fn named(&self, part: usize, ty: &mut TypeProto) {
        each_dim(ty, &mut |d| {
            if let Some(dimension::Value::DimParam(name)) = &d.value
                && let Some(value) = self.dims.get(&(part, name.clone()))
            {
                d.value = Some(value.clone());
            }
        });
    }

    /// What was joined.
    #[expect(clippy::too_many_arguments, reason = "what the steps of a joining found, each once")]
    fn report(
        &self,
        model: &ModelProto,
        opsets: &[Option<i64>],
        dims: &mut Dims,
        once: Once,
        dropped: usize,
        bytes: usize,
        unchecked: Option<String>,
    ) -> Report {
        let parts = self.parts;
        let models = parts.iter().zip(opsets).map(|(p, opset)| report::Model {
            name: p.name.clone(),
            file: p.path.file_name().map_or_else(String::new, |f| f.to_string_lossy().into_owned()),
            nodes: p.model.graph.node.len(),
            opset: *opset,
            bytes: p.bytes,
        });
        let wires = self.wiring.wires.iter().map(|w| {
            let mut ty = self.types.get(&w.from).cloned().unwrap_or_default();
            self.named(w.from.part, &mut ty);
            report::Wired { from: w.from.text(parts), to: w.to.text(parts), ty: types::text(&ty) }
        });
        let ports = |list: &[Port], infos: &[ValueInfoProto]| {
            let port = |(p, info): (&Port, &ValueInfoProto)| {
                let of = match self.wiring.sources.get(&p.end) {
                    Some(Source::Share(s)) if self.wiring.shares[*s].name == p.name => {
                        self.wiring.shares[*s].to.iter().map(|e| e.text(parts)).collect()
                    }
                    _ => vec![p.end.text(parts)],
                };
                report::Port { name: p.name.clone(), ty: types::text(&info.type_), of }
            };
            list.iter().zip(infos).map(port).collect::<Vec<_>>()
        };
        let unified = dims.unified().into_iter().map(|class| report::Dim {
            name: match self.dims.get(&class[0]) {
                Some(dimension::Value::DimValue(v)) => v.to_string(),
                Some(dimension::Value::DimParam(name)) => name.clone(),
                _ => String::new(),
            },
            // Dims of a ready head are names of ours.
            of: class
                .iter()
                .filter(|(part, _)| !parts[*part].path.as_os_str().is_empty())
                .map(|(part, name)| format!("{}:{name}", parts[*part].name))
                .collect(),
        });
        Report {
            models: models.collect(),
            opset: opset::version(&model.opset_import),
            wires: wires.collect(),
            inputs: ports(&self.names.inputs, &model.graph.input),
            outputs: ports(&self.names.outputs, &model.graph.output),
            dims: unified.filter(|d| !d.of.is_empty()).collect(),
            shared: once.tensors,
            shared_bytes: once.bytes,
            dropped,
            bytes,
            unchecked,
        }
    }
}
