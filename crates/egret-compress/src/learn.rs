//! Learning: what samples tell of the values inside a model, written as [stats](crate::stats), and stats of several runs made one.

use crate::constants::Constants;
use crate::data::given::Given;
use crate::data::original::{self, Original, Target};
use crate::layers::{Contraction, contractions};
use crate::moments::Sums;
use crate::quantize::{all_seen, fold};
use crate::request::Watch;
use crate::stats::{Head, Kind, Stats, Writer, dims};
use egret::samples::Samples;
use egret::{Error, Result, files, source};
use onnx_protobuf::ModelProto;
use std::path::{Path, PathBuf};

/// What is to be learnt, and from what.
#[derive(Clone, Debug, Default)]
pub struct Learning {
    /// Files and folders of samples, see [`egret::samples`].
    pub data: Vec<PathBuf>,
    /// Stats that are added.
    pub stats: Vec<PathBuf>,
    /// Ranges of values alone, no moments of layers.
    pub ranges: bool,
}

/// What was learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// From so many samples, those of stats included.
    pub samples: u64,
    /// Values with a range.
    pub ranges: usize,
    /// Layers with moments.
    pub layers: usize,
    /// Batch normalisations that were folded for the moments of `egret compress`.
    pub folded: usize,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Learn from samples, from stats, or from both together, and write it to a file.
///
/// # Errors
/// Neither is given; a model that cannot be read or keeps weights in other files; data and stats that do not fit it; the file cannot be
/// written.
pub fn learn(path: &Path, request: &Learning, output: &Path, watch: &mut Watch<'_>) -> Result<Learnt> {
    let (path, file) = source::single_file(path, "stats")?;
    if request.data.is_empty() && request.stats.is_empty() {
        return Err(Error::user(
            "egret stats needs samples of the inputs (--data FILE.npz), or stats that are merged (--stats FILE)",
        ));
    }
    let mut model = file.proto().clone();
    let mut head = Head::of(&path, &contractions(&model))?;
    let samples = match request.data[..] {
        [] => None,
        _ => Some(Samples::open(&request.data, &file.declared()?.inputs)?.finite()),
    };
    let stats = match request.stats[..] {
        [] => None,
        _ => Some(Stats::open(&request.stats, &head)?),
    };
    head.samples = samples.as_ref().map_or(0, |s| s.len() as u64);
    let given = match &stats {
        None => Given::take(&mut model, &samples.iter().collect::<Vec<_>>())?,
        Some(stats) => {
            head.samples = head.samples.saturating_add(stats.samples());
            Given::with_stats(&mut model, stats, samples.as_ref())?
        }
    };
    head.given = given.names_taken();
    let from = Learner { path: &path, samples: samples.as_ref(), stats: stats.as_ref() };
    files::write_with(output, |out| {
        let mut writer = Writer::new(output, out, &head)?;
        let (folded_model, folded) = folded(&model);
        let ranges = from.ranges(&folded_model, &mut writer, watch)?;
        let mut layers = 0;
        if !request.ranges {
            layers = from.moments(&model, Kind::Moments, &mut writer, watch)?;
            if folded > 0 {
                from.moments(&folded_model, Kind::Folded, &mut writer, watch)?;
            }
        }
        Ok(Learnt { samples: head.samples, ranges, layers, folded, bytes: writer.end()? })
    })
}

/// The model with batch normalisations folded, and how many.
fn folded(model: &ModelProto) -> (ModelProto, usize) {
    let mut out = model.clone();
    let found = contractions(model);
    let folded = fold::fold(out.graph.mut_or_insert_default(), &found, &|_| false);
    (out, folded)
}

/// A model, and what is learnt from.
struct Learner<'a> {
    path: &'a Path,
    samples: Option<&'a Samples>,
    stats: Option<&'a Stats>,
}

impl Learner<'_> {
    /// Write the histograms of all values that `egret quantize --to int8` gives ranges; how many.
    fn ranges(&self, model: &ModelProto, to: &mut Writer<'_>, watch: &mut Watch<'_>) -> Result<usize> {
        let seen = all_seen(model, self.path, self.samples, self.stats, watch)?;
        for (name, seen) in &seen {
            to.record(&(Kind::Range, 0, name.clone()), [0; 3], &seen.write())?;
        }
        Ok(seen.len())
    }

    /// Write the moments of all layers that data can be used for; how many.
    fn moments(
        &self,
        model: &ModelProto,
        kind: Kind,
        to: &mut Writer<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<usize> {
        let found = contractions(model);
        let graph = model.graph.get_or_default();
        let constants = Constants::new(graph);
        let fits = |c: &Contraction| {
            c.layer.as_ref().is_ok_and(|l| original::fits(graph, &constants, l).is_ok()).then_some(())
        };
        let tasks: Vec<Option<()>> = found.iter().map(fits).collect();
        let original = Original::new(model, self.path, &found, &tasks)?;
        let targets: Vec<&Target<()>> = original.targets.iter().collect();
        let mut each = |at: usize, sums: Vec<Sums>| {
            let target = targets[at];
            let mut bytes = vec![];
            sums.into_iter().for_each(|mut s| s.write(&mut bytes));
            to.record(&target.key(kind), dims(&target.layer.layout), &bytes)
        };
        let stats = self.stats.map(|stats| (stats, kind));
        original.each_sums(&targets, self.samples, stats, &|_| false, &mut each, watch)?;
        Ok(targets.len())
    }
}
