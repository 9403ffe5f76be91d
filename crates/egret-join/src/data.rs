//! Weights: those in other files, and those that several parts have.

use crate::names::Names;
use crate::part::Part;
use crate::wiring::End;
use egret::{Error, Result};
use onnx_protobuf::tensor_proto::DataLocation;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// A protobuf message is shorter than this, so that weights of more must stay in files of their own.
const MAX_MESSAGE: u64 = (2 << 30) - 1;

/// Have the weights that a part keeps in other files where the whole finds them: as they are if they lie below the whole's
/// folder, in the whole's own file otherwise. `inside` counts bytes that are.
///
/// # Errors
/// Files that cannot be read or lie outside the part's folder, and more bytes than a file can have.
pub(crate) fn place(part: &mut Part, folder: &Path, inside: &mut u64) -> Result<()> {
    let own = Folder::of(&part.path, folder);
    let mut result = Ok(());
    each_tensor(&mut part.model, &mut |tensor| {
        if result.is_ok() && tensor.data_location.enum_value() == Ok(DataLocation::EXTERNAL) {
            result = own.place(tensor, inside);
        }
    });
    result.map_err(|e| e.at(format!("the weights of `{}`", part.name)))
}

fn entry<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str())
}

/// Where the files of a part are.
struct Folder {
    own: PathBuf,
    /// The folders that its files may be in: its own, and the one that it leads to where it is a link.
    roots: Vec<PathBuf>,
    /// The way from the whole's folder to it, if it is below.
    below: Option<String>,
}

impl Folder {
    fn of(model: &Path, whole: &Path) -> Folder {
        let parent = |p: &Path| match p.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        let own = parent(model);
        let real = own.canonicalize().ok();
        let whole = whole.canonicalize().ok();
        let below = real.as_ref().zip(whole).and_then(|(own, whole)| {
            let way = own.strip_prefix(whole).ok()?.components();
            let names: Option<Vec<&str>> = way.map(|c| c.as_os_str().to_str()).collect();
            Some(names?.iter().map(|n| format!("{n}/")).collect())
        });
        let linked = model.canonicalize().ok().map(|m| parent(&m));
        Folder { own, roots: real.into_iter().chain(linked).collect(), below }
    }

    /// Have a tensor where the whole finds it.
    fn place(&self, tensor: &mut TensorProto, inside: &mut u64) -> Result<()> {
        let file = self.find(tensor)?;
        let is_own = self.roots.first().is_some_and(|own| file.starts_with(own));
        match &self.below {
            Some(below) if is_own => {
                let entries = tensor.external_data.iter_mut().filter(|e| e.key == "location");
                entries.for_each(|e| e.value.insert_str(0, below));
                Ok(())
            }
            _ => read_in(tensor, &file, inside),
        }
    }

    /// The file that a tensor is in.
    fn find(&self, tensor: &TensorProto) -> Result<PathBuf> {
        let location = entry(tensor, "location").unwrap_or_default();
        let relative = Path::new(location);
        let refuse = || {
            Error::user(format!(
                "`{}` is in {location:?}, which is not in the model's folder; put the file beside the model",
                tensor.name
            ))
        };
        let inside = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !inside {
            return Err(refuse());
        }
        let path = self.own.join(relative);
        let file = path.canonicalize().map_err(|e| Error::io("read", &path, &e))?;
        match self.roots.iter().any(|r| file.starts_with(r)) {
            true => Ok(file),
            false => Err(refuse()),
        }
    }
}

/// Take a tensor's bytes into the message.
fn read_in(tensor: &mut TensorProto, path: &Path, inside: &mut u64) -> Result<()> {
    let number = |key: &str| match entry(tensor, key) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
            Error::user(format!("`{}`: {key} is {text:?}, not a number of bytes", tensor.name))
        }),
    };
    let io = |e: &std::io::Error| Error::io("read", path, e);
    let mut file = File::open(path).map_err(|e| io(&e))?;
    let whole = file.metadata().map_err(|e| io(&e))?.len();
    let offset = number("offset")?.unwrap_or(0);
    let rest = whole.checked_sub(offset);
    let length = number("length")?.or(rest).unwrap_or(0);
    if rest.is_none_or(|rest| length > rest) {
        return Err(Error::user(format!(
            "`{}` is {length} bytes at {offset} of {}, which has {whole}",
            tensor.name,
            path.display()
        )));
    }
    *inside += length;
    if *inside > MAX_MESSAGE {
        return Err(Error::unsupported(
            "the weights are too many for one file (2 GiB), and do not lie below the folder of the joined model; \
             write it with -o into a folder that all models are below",
        ));
    }
    let mut raw = Vec::new();
    file.seek(SeekFrom::Start(offset)).map_err(|e| io(&e))?;
    file.take(length).read_to_end(&mut raw).map_err(|e| io(&e))?;
    tensor.raw_data = raw;
    tensor.external_data.clear();
    tensor.data_location = DataLocation::DEFAULT.into();
    Ok(())
}

/// Do something with every tensor of a model.
fn each_tensor(model: &mut ModelProto, with: &mut impl FnMut(&mut TensorProto)) {
    if let Some(graph) = model.graph.as_mut() {
        in_graph(graph, with);
    }
    model.functions.iter_mut().for_each(|f| in_nodes(&mut f.node, with));
}

fn in_graph(graph: &mut GraphProto, with: &mut dyn FnMut(&mut TensorProto)) {
    graph.initializer.iter_mut().for_each(&mut *with);
    graph.sparse_initializer.iter_mut().for_each(|s| in_sparse(s, with));
    in_nodes(&mut graph.node, with);
}

fn in_sparse(sparse: &mut SparseTensorProto, with: &mut dyn FnMut(&mut TensorProto)) {
    sparse.values.as_mut().into_iter().chain(sparse.indices.as_mut()).for_each(with);
}

fn in_nodes(nodes: &mut [NodeProto], with: &mut dyn FnMut(&mut TensorProto)) {
    for attribute in nodes.iter_mut().flat_map(|n| &mut n.attribute) {
        let AttributeProto { t, tensors, sparse_tensor, sparse_tensors, g, graphs, .. } = attribute;
        t.as_mut().into_iter().chain(tensors).for_each(&mut *with);
        sparse_tensor.as_mut().into_iter().chain(sparse_tensors).for_each(|s| in_sparse(s, with));
        g.as_mut().into_iter().chain(graphs).for_each(|g| in_graph(g, with));
    }
}

/// Bytes of the elements of a tensor, as they are stored.
fn stored(t: &TensorProto) -> u64 {
    let listed = t.float_data.len() * 4 + t.int32_data.len() * 4 + t.int64_data.len() * 8;
    let listed = listed + t.double_data.len() * 8 + t.uint64_data.len() * 8;
    let strings: usize = t.string_data.iter().map(Vec::len).sum();
    let outside = entry(t, "length").and_then(|l| l.parse().ok()).unwrap_or(0);
    (t.raw_data.len() + listed + strings) as u64 + outside
}

/// What was stored once.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Once {
    /// Tensors that are not there a second time.
    pub(crate) tensors: usize,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// Call initialisers that are the same in all but their names by the name of the first, and take the others out. Those of a ready head are
/// trained, each by itself, and stay.
pub(crate) fn once(parts: &[Part], names: &mut Names<'_>) -> (BTreeSet<End>, Once) {
    /// What tells most tensors apart.
    type Kind = (i32, Vec<i64>, u64);
    let mut kinds: BTreeMap<Kind, Vec<(usize, &TensorProto)>> = BTreeMap::new();
    let (mut gone, mut out) = (BTreeSet::new(), Once::default());
    for (part, p) in parts.iter().enumerate().filter(|(_, p)| !p.path.as_os_str().is_empty()) {
        for tensor in &p.model.graph.initializer {
            let end = End { part, value: tensor.name.clone() };
            if names.is_port(&end) {
                continue;
            }
            let kind = (tensor.data_type, tensor.dims.clone(), stored(tensor));
            let known = kinds.entry(kind).or_default();
            match known.iter().find(|(_, t)| equal(t, tensor)) {
                Some((first, same)) => {
                    let name = names.of(*first, &same.name);
                    names.aliases.insert(end.clone(), name);
                    gone.insert(end);
                    out.tensors += 1;
                    out.bytes += stored(tensor);
                }
                None => known.push((part, tensor)),
            }
        }
    }
    (gone, out)
}

/// Whether two tensors are the same in all but their names.
fn equal(a: &TensorProto, b: &TensorProto) -> bool {
    a.data_type == b.data_type
        && a.dims == b.dims
        && a.raw_data == b.raw_data
        // By their bits: a NaN is itself, and 0 is not -0.
        && a.float_data.iter().map(|v| v.to_bits()).eq(b.float_data.iter().map(|v| v.to_bits()))
        && a.double_data.iter().map(|v| v.to_bits()).eq(b.double_data.iter().map(|v| v.to_bits()))
        && (&a.int32_data, &a.int64_data, &a.uint64_data) == (&b.int32_data, &b.int64_data, &b.uint64_data)
        && (&a.string_data, &a.external_data) == (&b.string_data, &b.external_data)
        && a.data_location == b.data_location
}
