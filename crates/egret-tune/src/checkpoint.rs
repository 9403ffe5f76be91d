//! Checkpoints: all that the next epoch depends on, as a `.npz` file. Numbers are kept to the bit.

use crate::optimizer::State;
use egret::ir::Tensor;
use egret::{Error, Result, files, npz};
use std::collections::BTreeMap;
use std::path::Path;

/// The state between two epochs.
pub struct Checkpoint {
    /// Epochs done.
    pub epochs: usize,
    /// The numbers of the weights.
    pub weights: Vec<Vec<f32>>,
    /// What is kept of the steps.
    pub state: State,
}

/// The array of texts `NAME=VALUE` that say what the state belongs to.
const ABOUT: &str = "about";

impl Checkpoint {
    /// Write it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path, about: &[String]) -> Result<()> {
        let integer = |v: u64| Tensor::scalar(i64::try_from(v).unwrap_or(i64::MAX));
        let mut arrays = vec![
            (ABOUT.to_owned(), Tensor::from_strings(&[about.len()], about.to_vec())),
            ("epochs".to_owned(), integer(self.epochs as u64)),
            ("steps".to_owned(), integer(self.state.steps)),
        ];
        let lists =
            [("weight", &self.weights), ("first", &self.state.first), ("second", &self.state.second)];
        for (kind, lists) in lists {
            for (i, list) in lists.iter().enumerate() {
                arrays.push((format!("{kind}.{i}"), Tensor::new(&[list.len()], list.clone())));
            }
        }
        files::write(path, &npz::npz_bytes(&arrays)?)
    }

    /// Read it back for a tuning that is `about` the same, with weights of these lengths.
    ///
    /// # Errors
    /// It is no checkpoint, or of another tuning.
    pub fn read(path: &Path, about: &[String], lengths: &[usize]) -> Result<Checkpoint> {
        let bad = |text: String| Error::user(format!("{}: {text}", path.display()));
        if !path.exists() {
            return Err(bad("there is no checkpoint to resume from; leave --resume out".into()));
        }
        let arrays = npz::read_npz(path)?;
        let no = |what: &str| bad(format!("it is no checkpoint of `egret tune`: no `{what}` that fits"));
        let theirs = arrays.get(ABOUT).filter(|t| t.dtype() == egret::ir::DType::String);
        let theirs = theirs.ok_or_else(|| no(ABOUT))?.strings();
        for (ours, theirs) in about.iter().zip(theirs) {
            if ours != theirs {
                return Err(bad(format!(
                    "it was made with {theirs}, but now it is {ours}; give the same, or start anew without --resume"
                )));
            }
        }
        if about.len() != theirs.len() {
            return Err(no(ABOUT));
        }
        let count = |name: &str| {
            let list = arrays.get(name).and_then(Tensor::to_i64s);
            let one = list.and_then(|l| l.first().copied()).and_then(|v| u64::try_from(v).ok());
            one.ok_or_else(|| no(name))
        };
        let lists = |kind: &str| -> Result<Vec<Vec<f32>>> {
            let one = |(i, &length): (usize, &usize)| {
                let name = format!("{kind}.{i}");
                let fits = |t: &&Tensor| t.dtype() == egret::ir::DType::F32 && t.len() == length;
                let tensor = arrays.get(&name).filter(fits).ok_or_else(|| no(&name))?;
                Ok(tensor.data::<f32>().to_vec())
            };
            lengths.iter().enumerate().map(one).collect()
        };
        Ok(Checkpoint {
            epochs: usize::try_from(count("epochs")?).map_err(|_| no("epochs"))?,
            weights: lists("weight")?,
            state: State { steps: count("steps")?, first: lists("first")?, second: lists("second")? },
        })
    }
}

/// `NAME=VALUE` of everything that a checkpoint belongs to.
pub fn about(settings: Vec<String>, parts: BTreeMap<&str, String>) -> Vec<String> {
    settings.into_iter().chain(parts.into_iter().map(|(name, value)| format!("{name}={value}"))).collect()
}
