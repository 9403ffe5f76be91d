//! Defaults: a graph input with an initialiser is a constant, as of all weights before version 4 of the format, unless samples give
//! a value for it. Then it is an input like any other, and what reads it has no constant there.

use egret::Result;
use egret::samples::Samples;
use onnx_protobuf::{GraphProto, Message, ModelProto, SparseTensorProto, TensorProto};
use std::collections::BTreeSet;

/// The names of a graph's initialisers.
pub fn initialised(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let sparse = graph.sparse_initializer.iter().map(|t| t.values.get_or_default().name.as_str());
    graph.initializer.iter().map(|t| t.name.as_str()).chain(sparse)
}

/// Initialisers that samples give other values for, kept aside while a model is compressed.
#[derive(Clone, Default)]
pub struct Given {
    dense: Vec<TensorProto>,
    sparse: Vec<SparseTensorProto>,
}

impl Given {
    /// Take the defaults of inputs that some sample gives out of a model: it must be given them then.
    ///
    /// # Errors
    /// Samples that cannot be read.
    pub fn take(model: &mut ModelProto, samples: &[&Samples]) -> Result<Given> {
        let graph = model.graph.mut_or_insert_default();
        let mut out = Given::default();
        let listed: BTreeSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
        if !initialised(graph).any(|n| listed.contains(n)) {
            return Ok(out);
        }
        let mut given = BTreeSet::new();
        for samples in samples {
            given.extend(samples.given()?);
        }
        out.dense.extend(graph.initializer.extract_if(.., |t| given.contains(&t.name)));
        let sparse =
            graph.sparse_initializer.extract_if(.., |t| given.contains(&t.values.get_or_default().name));
        out.sparse.extend(sparse);
        Ok(out)
    }

    /// Put them back.
    pub fn put_back(&self, model: &mut ModelProto) {
        let graph = model.graph.mut_or_insert_default();
        graph.initializer.extend(self.dense.iter().cloned());
        graph.sparse_initializer.extend(self.sparse.iter().cloned());
    }

    /// Bytes that they take in a file, nearly.
    pub fn bytes(&self) -> u64 {
        let dense = self.dense.iter().map(Message::compute_size).sum::<u64>();
        dense + self.sparse.iter().map(Message::compute_size).sum::<u64>()
    }
}
