//! What is asked of a quantisation: as it is by default, and what goes together.

use crate::quantize::{Precision, Quantization, Runtime};
use egret::{Error, Result};

impl Quantization {
    /// A precision for all layers.
    pub fn new(to: Precision) -> Quantization {
        let runtime = Runtime::default();
        Quantization {
            to,
            runtime,
            data: vec![],
            stats: vec![],
            scores: vec![],
            skip: vec![],
            smooth: false,
        }
    }

    /// That what is asked goes together.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check(&self) -> Result<()> {
        let to = self.to;
        if to == Precision::Static8 && self.data.is_empty() && self.stats.is_empty() {
            return Err(Error::user(
                "--to int8 needs samples of the inputs, --data FILE.npz, or what they told: --stats FILE",
            ));
        }
        if to != Precision::Static8 && self.runtime != Runtime::default() {
            return Err(Error::user(format!(
                "--for {} is of --to int8: with {to} no value between layers is quantised",
                self.runtime
            )));
        }
        if to != Precision::Static8 && !self.stats.is_empty() {
            return Err(Error::user(format!(
                "--to {to} takes no --stats: layers are fitted to the inputs that they have in the quantised model, which only samples give \
                 (--data FILE.npz)"
            )));
        }
        if self.smooth && (to != Precision::Static8 || self.data.is_empty()) {
            return Err(Error::user(
                "--smooth goes with --to int8 and --data FILE.npz: samples tell the ranges of single channels",
            ));
        }
        if !self.scores.is_empty() && (to == Precision::Static8 || !self.data.is_empty()) {
            let (with, why) = match to {
                Precision::Static8 => ("--to int8", "its layers may be folded first"),
                _ => ("--data", "samples fit layers to the outputs of the original"),
            };
            return Err(Error::user(format!(
                "--scores does not go with {with}: {why}; leave one of them out"
            )));
        }
        Ok(())
    }
}
