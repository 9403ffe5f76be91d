//! A graph as an ONNX file.

use crate::error::{Error, Result};
use crate::{Options, Trace, files, pipeline};
use egret_export::ExportError;
use egret_ir::Graph;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// The passes that leave what any machine computes well: what an exported model has been through unless asked otherwise. `quantize` is
/// among them, as `fold` would turn the weights of quantised models into floats before another compiler sees that they are bytes.
pub const PORTABLE_PASSES: [&str; 7] =
    ["canonicalize", "quantize", "bytes", "fold", "dead-channels", "fuse", "cleanup"];

impl From<ExportError> for Error {
    fn from(e: ExportError) -> Error {
        Error::unsupported(format!("cannot be written as ONNX: {e}"))
    }
}

/// Optimise a graph for other tools: up to a pass, or by [`PORTABLE_PASSES`].
///
/// # Errors
/// As [`pipeline::optimize`].
pub fn optimized(graph: Graph, options: &Options, after: Option<&str>) -> Result<Graph> {
    let mut options = options.clone();
    if after.is_none() && options.passes.is_none() {
        options.passes = Some(PORTABLE_PASSES.map(str::to_owned).to_vec());
    }
    pipeline::optimize(graph, &options, after, &mut Trace::new())
}

/// What was written.
pub struct Report {
    /// Bytes of the model, and of the file with its large constants (0 where there is none).
    pub bytes: [u64; 2],
    /// The opset of ONNX's own operators.
    pub opset: i64,
    /// How many nodes there are of each operator, sub-graphs included.
    pub nodes: BTreeMap<String, usize>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [model, data] = self.bytes;
        write!(f, "size   {model} bytes")?;
        if data > 0 {
            write!(f, ", {data} of constants beside it")?;
        }
        writeln!(f, ", opset {}", self.opset)?;
        let mut counts: Vec<(&String, &usize)> = self.nodes.iter().collect();
        // The most frequent first; of equal ones the order of names stays.
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        let list: Vec<String> = counts.iter().map(|(operator, n)| format!("{operator} {n}")).collect();
        writeln!(f, "nodes  {}: {}", self.nodes.values().sum::<usize>(), list.join(", "))
    }
}

/// Write a graph as an ONNX model into a file; more than 1 GiB of constants into `FILE.data` beside it.
///
/// # Errors
/// What ONNX cannot say, by node; the files cannot be written.
pub fn write(graph: &Graph, path: &Path) -> Result<Report> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let data_file = format!("{}.data", name.unwrap_or_else(|| "model.onnx".into()));
    let options = egret_export::Options { data_file, ..egret_export::Options::default() };
    let exported = egret_export::export(graph, &options)?;
    let data = exported.data.pieces().map(|p| p.len() as u64).sum();
    // The model last: it names the other file.
    if !exported.data.is_empty() {
        files::write_pieces(&path.with_file_name(&options.data_file), exported.data.pieces())?;
    }
    files::write(path, &exported.model)?;
    let bytes = [exported.model.len() as u64, data];
    Ok(Report { bytes, opset: exported.opset, nodes: exported.nodes })
}
