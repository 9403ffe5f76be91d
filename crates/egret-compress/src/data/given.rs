//! Defaults: a graph input with an initialiser is a constant, as of all weights before version 4 of the format, unless samples give
//! a value for it. Then it is an input like any other, and what reads it has no constant there.

use crate::stats::Stats;
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, Message, ModelProto, SparseTensorProto, TensorProto};
use std::collections::BTreeSet;

/// The names of a graph's initialisers.
pub fn initialised(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let sparse = graph.sparse_initializer.iter().map(|t| t.values.get_or_default().name.as_str());
    graph.initializer.iter().map(|t| t.name.as_str()).chain(sparse)
}

/// The inputs that have one.
fn defaults(model: &ModelProto) -> BTreeSet<&str> {
    let graph = model.graph.get_or_default();
    let listed: BTreeSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
    initialised(graph).filter(|n| listed.contains(n)).collect()
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
        let names = Given::names(model, samples)?;
        Ok(Given::of(model, &names))
    }

    /// The inputs with a default that some sample gives.
    ///
    /// # Errors
    /// Samples that cannot be read.
    pub fn names(model: &ModelProto, samples: &[&Samples]) -> Result<BTreeSet<String>> {
        let defaults = defaults(model);
        if defaults.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut given = BTreeSet::new();
        for samples in samples {
            given.extend(samples.given()?);
        }
        Ok(given.into_iter().filter(|n| defaults.contains(n.as_str())).collect())
    }

    /// As [`Given::take`], of what the samples of stats gave.
    ///
    /// # Errors
    /// Samples beside them that give others; samples that cannot be read.
    pub fn with_stats(model: &mut ModelProto, stats: &Stats, samples: Option<&Samples>) -> Result<Given> {
        let names = stats.given();
        if let Some(name) = names.iter().find(|n| !defaults(model).contains(n.as_str())) {
            return Err(Error::user(format!(
                "--stats are damaged: the model has no input `{name}` with a default; make them again by `egret stats`"
            )));
        }
        if let Some(samples) = samples {
            let own = Given::names(model, &[samples])?;
            if let Some(name) = own.symmetric_difference(&names).next() {
                return Err(Error::user(format!(
                    "--data and --stats cannot be taken together: only one of them has values for the input `{name}`, which has a default"
                )));
            }
        }
        Ok(Given::of(model, &names))
    }

    /// Take the defaults of these inputs out of a model.
    pub fn of(model: &mut ModelProto, given: &BTreeSet<String>) -> Given {
        let graph = model.graph.mut_or_insert_default();
        let mut out = Given::default();
        out.dense.extend(graph.initializer.extract_if(.., |t| given.contains(&t.name)));
        let sparse =
            graph.sparse_initializer.extract_if(.., |t| given.contains(&t.values.get_or_default().name));
        out.sparse.extend(sparse);
        out
    }

    /// Their names.
    pub fn names_taken(&self) -> BTreeSet<String> {
        let sparse = self.sparse.iter().map(|t| t.values.get_or_default().name.clone());
        self.dense.iter().map(|t| t.name.clone()).chain(sparse).collect()
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
