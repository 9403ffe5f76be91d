//! Scores: how much a loss depends on each weight, in a file that `egret signals` makes and pruning and quantisation read.
//!
//! A score is the diagonal of the empirical Fisher information: the mean over samples of the squared gradient of a sample's loss by the
//! weight. The loss that it costs to move a weight by d is about half of d² times it (Theis et al. 2018, arXiv 1801.05787).
//!
//! The file is a `.npz` file of [`Scores::ENTRIES`] and of an array `fisher.NAME` for every initialiser, with its shape.

use crate::stats::model_hash;
use egret::ir::Tensor;
use egret::{Error, Result, near, npz};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PREFIX: &str = "fisher.";
const MODEL: &str = "model";
const SAMPLES: &str = "samples";

/// Scores of a model's weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The BLAKE3 of the model's file.
    model: [u8; 32],
    /// Samples that were seen.
    samples: u64,
    /// By initialiser: its shape, and the mean squared gradient of each number.
    fisher: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Scores {
    /// What stands in a file beside the scores: the BLAKE3 of the model's file (u8\[32\]), and how many samples were seen (i64\[1\]).
    pub const ENTRIES: [&str; 2] = [MODEL, SAMPLES];

    /// Of the model in this file, without weights yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(model: &Path, samples: u64) -> Result<Scores> {
        Ok(Scores { model: model_hash(model)?, samples, fisher: BTreeMap::new() })
    }

    /// Add an initialiser: its shape, and the mean squared gradient of each number.
    pub fn insert(&mut self, name: &str, shape: &[usize], fisher: Vec<f64>) {
        self.fisher.insert(name.to_owned(), (shape.to_vec(), fisher));
    }

    /// Samples that were seen.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The mean squared gradient of each number of an initialiser; `None` of one without.
    pub fn fisher(&self, name: &str) -> Option<&[f64]> {
        self.fisher.get(name).map(|(_, list)| list.as_slice())
    }

    /// The file, a `.npz` file.
    ///
    /// # Errors
    /// Too many weights for the format.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut arrays = vec![
            (MODEL.to_owned(), Tensor::new(&[32], self.model.to_vec())),
            (SAMPLES.to_owned(), Tensor::new(&[1], vec![i64::try_from(self.samples).unwrap_or(i64::MAX)])),
        ];
        arrays.extend(self.fisher.iter().map(|(name, (shape, list))| {
            let list = list.iter().map(|&v| v as f32).collect::<Vec<_>>();
            (format!("{PREFIX}{name}"), Tensor::new(shape, list))
        }));
        npz::npz_bytes(&arrays)
    }

    /// The scores in these files, all of the model in the file `model`: their means over all samples.
    ///
    /// # Errors
    /// There is no file; one that cannot be read, is none of scores, is of another model, or holds what is no score; files of other weights.
    pub fn open(paths: &[PathBuf], model: &Path) -> Result<Scores> {
        let hash = model_hash(model)?;
        let mut all: Option<(Scores, &PathBuf)> = None;
        for path in paths {
            let one = Scores::read(path)?;
            if one.model != hash {
                return Err(Error::user(format!(
                    "{} holds scores of another model than {}; `egret signals` makes them of this one",
                    path.display(),
                    model.display()
                )));
            }
            match &mut all {
                None => all = Some((one, path)),
                Some((all, first)) => all.merge(one).map_err(|name| {
                    let (first, path) = (first.display(), path.display());
                    Error::user(format!(
                        "{first} and {path} cannot be merged: only one has scores of `{name}`"
                    ))
                })?,
            }
        }
        all.map(|(scores, _)| scores)
            .ok_or_else(|| Error::user("no scores; write --scores FILE, as `egret signals` makes it"))
    }

    fn read(path: &Path) -> Result<Scores> {
        let none =
            |why: &str| Error::user(format!("{}: no scores of `egret signals`: {why}", path.display()));
        let mut arrays = npz::read_npz(path)?;
        let mut take = |name: &str| arrays.remove(name).ok_or_else(|| none(&format!("no array `{name}`")));
        let (model, samples) = (take(MODEL)?, take(SAMPLES)?);
        let model = model.to_i64s().and_then(|list| {
            let bytes: Option<Vec<u8>> = list.iter().map(|&b| u8::try_from(b).ok()).collect();
            <[u8; 32]>::try_from(bytes?).ok()
        });
        let samples = samples.to_i64s().and_then(|list| match list[..] {
            [n] if n > 0 => u64::try_from(n).ok(),
            _ => None,
        });
        let model = model.ok_or_else(|| none("`model` is no hash of a file"))?;
        let samples = samples.ok_or_else(|| none("`samples` is no count"))?;
        let mut fisher = BTreeMap::new();
        for (entry, array) in arrays {
            let name =
                entry.strip_prefix(PREFIX).ok_or_else(|| none(&format!("an array is called `{entry}`")))?;
            let list = array.to_f64s().ok_or_else(|| none(&format!("`{entry}` holds no numbers")))?;
            if let Some(v) = list.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
                return Err(none(&format!("`{entry}` holds {v}, but a mean of squares is 0 or more")));
            }
            fisher.insert(name.to_owned(), (array.shape().to_vec(), list));
        }
        Ok(Scores { model, samples, fisher })
    }

    /// What both have seen.
    ///
    /// # Errors
    /// The name of a weight that only one of them has.
    fn merge(&mut self, other: Scores) -> std::result::Result<(), String> {
        let shapes = |s: &Scores| {
            s.fisher.iter().map(|(n, (shape, _))| (n.clone(), shape.clone())).collect::<Vec<_>>()
        };
        let (own, theirs) = (shapes(self), shapes(&other));
        let lone = own.iter().find(|o| !theirs.contains(o)).or(theirs.iter().find(|o| !own.contains(o)));
        if let Some((name, _)) = lone {
            return Err(name.clone());
        }
        let samples = self.samples + other.samples;
        let part = other.samples as f64 / samples as f64;
        for ((_, list), (_, more)) in self.fisher.values_mut().zip(other.fisher.values()) {
            list.iter_mut().zip(more).for_each(|(a, b)| *a += (b - *a) * part);
        }
        self.samples = samples;
        Ok(())
    }

    /// The mean squared gradients of an initialiser of these dims.
    ///
    /// # Errors
    /// There are none, or they have another shape.
    pub(crate) fn of(&self, name: &str, dims: &[i64]) -> Result<&[f64]> {
        if let Some((shape, _)) = self.fisher.get(name)
            && !shape.iter().map(|&d| d as i64).eq(dims.iter().copied())
        {
            return Err(Error::user(format!(
                "--scores: those of `{name}` have the shape {shape:?}, the weights {dims:?}: the file was changed; write it anew by \
                 `egret signals`"
            )));
        }
        self.fisher(name).ok_or_else(|| {
            let near = near(name, self.fisher.keys().map(String::as_str)).join(", ");
            let hint = if near.is_empty() { String::new() } else { format!(" (it has {near})") };
            Error::user(format!(
                "--scores: there are none of `{name}`{hint}: the loss does not depend on it, or it is no initialiser of the \
                 model; --skip '{name}' leaves it as it is"
            ))
        })
    }
}
