//! External data: weights in files beside the model, memory-mapped, never outside the model's folder.

use crate::error::{ImportError, io};
use crate::raw::from_raw;
use egret_ir::{DType, Tensor};
use onnx_protobuf::{GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The files that tensors of a model say their bytes are in, in the order of the model: initialisers, and tensors in attributes of
/// nodes, in sub-graphs and functions too.
pub fn locations(model: &ModelProto) -> Vec<&str> {
    let mut out = vec![];
    in_graph(&model.graph, &mut out);
    model.functions.iter().for_each(|f| in_nodes(&f.node, &mut out));
    out
}

fn in_graph<'m>(graph: &'m GraphProto, out: &mut Vec<&'m str>) {
    graph.initializer.iter().for_each(|t| in_tensor(t, out));
    graph.sparse_initializer.iter().for_each(|t| in_sparse(t, out));
    in_nodes(&graph.node, out);
}

fn in_nodes<'m>(nodes: &'m [NodeProto], out: &mut Vec<&'m str>) {
    for attr in nodes.iter().flat_map(|n| &n.attribute) {
        attr.t.iter().chain(&attr.tensors).for_each(|t| in_tensor(t, out));
        attr.sparse_tensor.iter().chain(&attr.sparse_tensors).for_each(|t| in_sparse(t, out));
        attr.g.iter().chain(&attr.graphs).for_each(|g| in_graph(g, out));
    }
}

fn in_sparse<'m>(tensor: &'m SparseTensorProto, out: &mut Vec<&'m str>) {
    tensor.values.iter().chain(&tensor.indices).for_each(|t| in_tensor(t, out));
}

fn in_tensor<'m>(tensor: &'m TensorProto, out: &mut Vec<&'m str>) {
    let entries = tensor.external_data.iter().filter(|e| e.key == "location");
    out.extend(entries.map(|e| e.value.as_str()));
}

/// A file in memory.
pub(crate) fn mapped(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the mapping is private and read-only; weights are not expected to change while a model is compiled.
    unsafe { memmap2::MmapOptions::new().map_copy_read_only(file) }
}

/// Whether elements in a file are as they are in memory.
fn is_whole(dtype: DType) -> bool {
    !matches!(dtype, DType::Bool | DType::I2 | DType::U2 | DType::I4 | DType::U4 | DType::F4E2M1)
}

/// The files beside a model, mapped once each.
#[derive(Default)]
pub(crate) struct ExternalData {
    folder: Option<PathBuf>,
    /// The model file, if there is one: where it is a link, the folder it leads to counts as the model's too.
    model: Option<PathBuf>,
    files: BTreeMap<PathBuf, Arc<memmap2::Mmap>>,
    /// The model file, once it has been opened for the bytes that [`crate::lean`] left in it.
    opened: Option<File>,
}

impl ExternalData {
    /// Files in a folder (with `None` external data is refused), for a model in a file.
    pub(crate) fn new(folder: Option<&Path>, model: Option<&Path>) -> ExternalData {
        let folder =
            folder.map(|f| if f.as_os_str().is_empty() { PathBuf::from(".") } else { f.to_owned() });
        ExternalData { folder, model: model.map(Path::to_owned), ..ExternalData::default() }
    }

    /// The tensor that a message says is in a file.
    pub(crate) fn tensor(
        &mut self,
        proto: &TensorProto,
        dtype: DType,
        shape: &[usize],
        count: usize,
    ) -> Result<Tensor, ImportError> {
        let entry = |key: &str| proto.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text.parse::<usize>().map(Some).map_err(|_| {
                ImportError::invalid(format!("external data: `{key}` is {text:?}, not a number of bytes"))
            }),
        };
        let location =
            entry("location").ok_or_else(|| ImportError::invalid("external data without `location`"))?;
        if dtype == DType::String {
            return Err(ImportError::invalid("strings cannot be external data"));
        }
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        let map = self.map(location)?;
        let in_file = map.len().checked_sub(offset);
        let length = length.or(in_file).unwrap_or(0);
        if in_file.is_none_or(|n| length > n) {
            return Err(ImportError::invalid(format!(
                "external data: bytes {offset}..{} lie outside `{location}`, which has {}",
                offset.saturating_add(length),
                map.len()
            )));
        }
        if is_whole(dtype) && count.checked_mul(dtype.size()) == Some(length) {
            return Ok(Tensor::from_mapped(dtype, shape, map, offset));
        }
        from_raw(dtype, shape, count, &map[offset..offset + length])
    }

    /// The tensor whose bytes are in the model file itself. They are read, not mapped: fields of a message are not aligned.
    pub(crate) fn in_model(
        &mut self,
        place: Range<usize>,
        dtype: DType,
        shape: &[usize],
        count: usize,
    ) -> Result<Tensor, ImportError> {
        let Some(path) = &self.model else {
            return Err(ImportError::invalid("a tensor's bytes are in a file that is not there"));
        };
        let file = match &mut self.opened {
            Some(file) => file,
            none => none.insert(File::open(path).map_err(|e| io(path, &e))?),
        };
        // The place is in the model's own words, and room is made for it before it is read.
        let length = file.metadata().map_err(|e| io(path, &e))?.len();
        if place.end as u64 > length {
            return Err(ImportError::invalid(format!(
                "a tensor's bytes {}..{} lie outside the model's file, which has {length}",
                place.start, place.end
            )));
        }
        let mut read = |to: &mut [u8]| {
            file.seek(SeekFrom::Start(place.start as u64))?;
            file.read_exact(to)
        };
        let mut result = Ok(());
        let tensor = if is_whole(dtype) {
            Ok(Tensor::filled(dtype, shape, |to| result = read(to)))
        } else {
            let mut raw = vec![0; place.len()];
            result = read(&mut raw);
            from_raw(dtype, shape, count, &raw)
        };
        result.map_err(|e| io(path, &e))?;
        tensor
    }

    fn map(&mut self, location: &str) -> Result<Arc<memmap2::Mmap>, ImportError> {
        let relative = Path::new(location);
        let inside = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let refuse = || {
            ImportError::invalid(format!(
                "external data: the path {location:?} leads out of the model's folder; put the file beside the model"
            ))
        };
        if location.is_empty() || !inside {
            return Err(refuse());
        }
        let Some(folder) = &self.folder else {
            return Err(ImportError::invalid(
                "external data is only possible in a model that is read from a file",
            ));
        };
        let path = folder.join(relative);
        let real = path.canonicalize().map_err(|e| io(&path, &e))?;
        let root = folder.canonicalize().map_err(|e| io(folder, &e))?;
        let linked = self.model.as_ref().and_then(|m| Some(m.canonicalize().ok()?.parent()?.to_owned()));
        if !real.starts_with(&root) && !linked.is_some_and(|l| real.starts_with(l)) {
            return Err(refuse());
        }
        if let Some(map) = self.files.get(&real) {
            return Ok(map.clone());
        }
        // Opening a pipe would wait for somebody to write into it.
        if !real.metadata().map_err(|e| io(&path, &e))?.is_file() {
            return Err(ImportError::invalid(format!("external data: {location:?} is not a file")));
        }
        let file = File::open(&real).map_err(|e| io(&path, &e))?;
        let map = Arc::new(mapped(&file).map_err(|e| io(&path, &e))?);
        self.files.insert(real, map.clone());
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use onnx_protobuf::{
        AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto,
        StringStringEntryProto, TensorProto,
    };

    fn tensor(file: &str) -> TensorProto {
        let [location, offset] = [("location", file), ("offset", "0")].map(|(key, value)| {
            StringStringEntryProto { key: key.into(), value: value.into(), ..Default::default() }
        });
        TensorProto { external_data: vec![offset, location], ..Default::default() }
    }

    fn node(attribute: AttributeProto) -> NodeProto {
        NodeProto { attribute: vec![attribute], ..Default::default() }
    }

    #[test]
    fn every_tensor_that_is_in_a_file_is_found() {
        let sparse = SparseTensorProto {
            values: Some(tensor("values")).into(),
            indices: Some(tensor("indices")).into(),
            ..Default::default()
        };
        let inner = GraphProto { initializer: vec![tensor("branch")], ..Default::default() };
        let constant = AttributeProto { t: Some(tensor("constant")).into(), ..Default::default() };
        let lists = AttributeProto {
            tensors: vec![tensor("one of many")],
            g: Some(inner).into(),
            ..Default::default()
        };
        let graph = GraphProto {
            initializer: vec![tensor("weights"), TensorProto::default()],
            sparse_initializer: vec![sparse],
            node: vec![node(constant), node(lists)],
            ..Default::default()
        };
        let body = AttributeProto { t: Some(tensor("function")).into(), ..Default::default() };
        let model = ModelProto {
            graph: Some(graph).into(),
            functions: vec![FunctionProto { node: vec![node(body)], ..Default::default() }],
            ..Default::default()
        };
        assert_eq!(
            super::locations(&model),
            ["weights", "values", "indices", "constant", "one of many", "branch", "function"]
        );
    }
}
