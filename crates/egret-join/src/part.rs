//! A model that becomes part of another: its name, its file, and what it declares.

use crate::types;
use egret::frontend::{ModelFile, bytes_of};
use egret::{Error, ImportOptions, Result, source};
use onnx_protobuf::{ModelProto, NodeProto, TypeProto, ValueInfoProto};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A model under a name.
pub(crate) struct Part {
    /// What wires call it.
    pub(crate) name: String,
    /// Its file; that of a ready head is none.
    pub(crate) path: PathBuf,
    /// The model. Initialisers in its list of inputs are defaults.
    pub(crate) model: ModelProto,
    /// Bytes of its files.
    pub(crate) bytes: u64,
}

impl Part {
    /// Read `NAME=FILE`, or a file, which is called as its stem.
    pub(crate) fn open(text: &str) -> Result<Part> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) if !Path::new(text).exists() => (Some(name.to_owned()), path),
            _ => (None, text),
        };
        let given = Path::new(path);
        let stem = given.file_stem().map_or(String::new(), |s| s.to_string_lossy().into_owned());
        let name = name.unwrap_or(stem);
        check_name(&name).map_err(|e| e.at(text))?;
        let (path, _) = source::locate(given)?;
        if source::is_text(&path) {
            return Err(Error::user(format!("{}: `egret join` works on .onnx files", path.display())));
        }
        let file = ModelFile::open(&path)?;
        let bytes = bytes_of(&file.files())?;
        Part::of(name, path.clone(), file.proto().clone(), bytes).map_err(|e| e.at(path.display()))
    }

    /// A model that was read or made.
    pub(crate) fn of(name: String, path: PathBuf, mut model: ModelProto, bytes: u64) -> Result<Part> {
        if !model.training_info.is_empty() {
            return Err(Error::unsupported(
                "the model has steps of training (`training_info`), which cannot be joined; remove them: \
                 del model.training_info[:]",
            ));
        }
        let graph = model.graph.as_mut().ok_or_else(|| Error::user("the model has no graph"))?;
        if model.ir_version < 4 {
            // Since version 4, an initialiser in the list of inputs is a default and no constant.
            let constants: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
            graph.input.retain(|i| !constants.contains(i.name.as_str()));
        }
        for (what, list) in [("input", &graph.input), ("output", &graph.output)] {
            let mut seen = BTreeSet::new();
            if let Some(twice) = list.iter().find(|v| !seen.insert(&v.name)) {
                return Err(Error::user(format!("the model has two {what}s `{}`; rename one", twice.name)));
            }
        }
        Ok(Part { name, path, model, bytes })
    }

    pub(crate) fn inputs(&self) -> &[ValueInfoProto] {
        &self.model.graph.input
    }

    pub(crate) fn outputs(&self) -> &[ValueInfoProto] {
        &self.model.graph.output
    }

    pub(crate) fn is_input(&self, value: &str) -> bool {
        self.inputs().iter().any(|i| i.name == value)
    }

    pub(crate) fn is_output(&self, value: &str) -> bool {
        self.outputs().iter().any(|o| o.name == value)
    }

    /// Whether the graph itself has a value of this name.
    pub(crate) fn has(&self, value: &str) -> bool {
        let graph = &self.model.graph;
        !value.is_empty()
            && (self.is_input(value)
                || graph.initializer.iter().any(|t| t.name == value)
                || graph.sparse_initializer.iter().any(|t| t.values.get_or_default().name == value)
                || graph.node.iter().any(|n| n.output.iter().any(|o| o == value)))
    }

    /// The type of a value: what is declared, or, where the shape is not, what Egret finds.
    pub(crate) fn type_of(&self, value: &str) -> Option<TypeProto> {
        let graph = &self.model.graph;
        let lists = [&graph.output, &graph.input, &graph.value_info];
        let declared = lists.into_iter().flatten().find(|v| v.name == value);
        let declared = declared.map(|v| v.type_.get_or_default().clone());
        match declared {
            Some(ty) if types::has_shape(&ty) => Some(ty),
            declared => self.found(value).or(declared.filter(types::is_known)),
        }
    }

    /// The type that a value has where Egret imports the model.
    fn found(&self, value: &str) -> Option<TypeProto> {
        let mut model = self.model.clone();
        model.graph.as_mut()?.output =
            vec![ValueInfoProto { name: value.to_owned(), ..ValueInfoProto::default() }];
        let graph = ModelFile::of(&self.path, model).import(&ImportOptions::default()).ok()?;
        types::of_tensor(graph.ty(*graph.outputs().first()?))
    }

    /// Inputs that a value depends on.
    pub(crate) fn behind<'a>(&'a self, value: &'a str) -> BTreeSet<&'a str> {
        let nodes = &self.model.graph.node;
        let (mut seen, mut work) = (BTreeSet::from([value]), vec![value]);
        while let Some(name) = work.pop() {
            let makers = nodes.iter().filter(|n| n.output.iter().any(|o| o == name));
            for node in makers {
                let mut names = vec![];
                reads(node, &mut names);
                work.extend(names.into_iter().filter(|n| seen.insert(*n)));
            }
        }
        seen.retain(|n| self.is_input(n));
        seen
    }
}

/// Names that a node reads, those that its sub-graphs read included.
pub(crate) fn reads<'a>(node: &'a NodeProto, out: &mut Vec<&'a str>) {
    out.extend(node.input.iter().map(String::as_str).filter(|n| !n.is_empty()));
    for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
        graph.node.iter().for_each(|n| reads(n, out));
        out.extend(graph.output.iter().map(|o| o.name.as_str()));
    }
}

fn check_name(name: &str) -> Result<()> {
    let wrong = name.chars().find(|c| ":=,/".contains(*c) || c.is_whitespace());
    match wrong {
        Some(c) => Err(Error::user(format!(
            "a model cannot be called `{name}`: {c:?} stands in names; write NAME=FILE"
        ))),
        None if name.is_empty() => Err(Error::user("the model has no name; write NAME=FILE")),
        None => Ok(()),
    }
}
