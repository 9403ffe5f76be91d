//! What a compression did: a verdict for every contraction.

use crate::pattern::Pattern;
use crate::state::State;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Why a contraction was left alone.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Named by `--skip`.
    Skipped,
    /// The first or the last of the model.
    End,
    /// A convolution of each channel by itself.
    Depthwise,
    /// Too few weights, or an axis shorter than a group.
    TooSmall,
    /// Its weight is read more than once.
    Shared,
    /// It has no constant operand.
    NoConstant,
    /// No sample reaches it.
    NoSamples,
    /// It works on integers.
    Integer,
    /// Channels of a sum that goes on through many layers.
    Joined,
    /// Channels that something counts, mixes or shows.
    Fixed,
    /// Every smaller form of it costs more than it saves.
    Dense,
    /// Egret does not do it yet.
    NotDone,
}

impl Reason {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Skipped => "skipped",
            Reason::End => "first or last",
            Reason::Depthwise => "depthwise",
            Reason::TooSmall => "too small",
            Reason::Shared => "shared",
            Reason::NoConstant => "no constant",
            Reason::NoSamples => "no samples",
            Reason::Integer => "integer",
            Reason::Joined => "joined",
            Reason::Fixed => "fixed",
            Reason::Dense => "dense",
            Reason::NotDone => "not done yet",
        }
    }
}

/// How a layer's outputs are to those of the original.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Quality {
    /// Mean square of the difference, relative to the variance of the original.
    pub error: f64,
    /// Standard deviation relative to the original's.
    pub deviation: f64,
}

impl Quality {
    /// Variance of the outputs relative to the mean square of what changed, in dB; `None` if nothing did.
    pub fn sqnr(&self) -> Option<f64> {
        (self.error > 0.0).then(|| -10.0 * self.error.log10())
    }
}

/// The size of a contraction.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Outputs: of a convolution, its channels.
    pub outputs: usize,
    /// What it sums over, without the window.
    pub inputs: usize,
    /// Weights.
    pub weights: usize,
    /// Multiply-adds of one sample; sizes that the model leaves open count as 1.
    pub products: usize,
}

/// What became of a contraction.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Its weight was pruned.
    Pruned {
        /// By which pattern.
        pattern: Pattern,
        /// Nonzero weights before.
        before: usize,
        /// Nonzero weights now.
        after: usize,
        /// Norm of what was taken away, relative to the norm of the weight.
        error: f64,
        /// How good its outputs are, where data say.
        output: Option<Quality>,
    },
    /// It has fewer outputs or inputs.
    Narrowed {
        /// Its size before.
        was: Extent,
        /// Its size now.
        is: Extent,
        /// The layers whose outputs went with its own.
        group: Vec<String>,
        /// Why its outputs stayed, if they did.
        stays: Option<String>,
        /// How good its outputs are, where data say.
        output: Option<Quality>,
    },
    /// Its weights are integers now.
    Quantised {
        /// Which, in words.
        form: String,
        /// Bytes of the weights before.
        before: usize,
        /// Bytes of integers, scales and zero points.
        after: usize,
        /// Energy of the weights relative to that of what they lost, in dB; `None` if they lost nothing.
        sqnr: Option<f64>,
        /// How good its outputs are, where its weights were fitted to data.
        output: Option<Quality>,
    },
    /// It stayed as it was.
    Left {
        /// Why.
        reason: Reason,
        /// In words.
        text: String,
    },
}

impl Verdict {
    /// Energy of the weights relative to that of what they lost, in dB; `None` where they lost nothing, or stayed.
    pub fn sqnr(&self) -> Option<f64> {
        match self {
            Verdict::Quantised { sqnr, .. } => *sqnr,
            Verdict::Pruned { error, .. } => (*error > 0.0).then(|| -20.0 * error.log10()),
            Verdict::Narrowed { .. } | Verdict::Left { .. } => None,
        }
    }

    /// How good the outputs are, where data say.
    pub fn output(&self) -> Option<Quality> {
        match self {
            Verdict::Quantised { output, .. }
            | Verdict::Pruned { output, .. }
            | Verdict::Narrowed { output, .. } => *output,
            Verdict::Left { .. } => None,
        }
    }
}

/// A contraction, or a table whose rows are looked up, and its verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The node's name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// The weight, its elements and those that are zero now, if it has one.
    pub weight: Option<(String, usize, usize)>,
    /// Bytes of its weights in the file before and now, where they are known: not of a weight that cannot be compressed.
    pub bytes: Option<[usize; 2]>,
    /// What became of it.
    pub verdict: Verdict,
}

impl Entry {
    /// Whether it is a table, whose rows are looked up, and no contraction.
    pub fn is_table(&self) -> bool {
        self.op == "Gather"
    }

    /// Say more of how it was quantised.
    pub fn tell(&mut self, words: &str) {
        if let Verdict::Quantised { form, .. } = &mut self.verdict {
            form.push_str("; ");
            form.push_str(words);
        }
    }
}

/// A value that is quantised between layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// Its name.
    pub name: String,
    /// The least number that it can be.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// The method whose range had the least squared error.
    pub method: &'static str,
}

/// A value that could be quantised between layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantiser {
    /// Its name.
    pub value: String,
    /// Whether it is quantised.
    pub placed: bool,
    /// Why, or why not: the node that reads or makes it, and what that means to the runtime.
    pub why: String,
}

/// What a compression did.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What was asked for, in words.
    pub what: String,
    /// Every contraction, and behind them the tables whose rows `Gather` takes.
    pub entries: Vec<Entry>,
    /// Values that are bytes between layers.
    pub ranges: Vec<Range>,
    /// Values that could be, with the reason why they are or are not.
    pub quantisers: Vec<Quantiser>,
    /// Multiply-adds of one sample in layers with weights, before and now, where layers became smaller.
    pub products: Option<[usize; 2]>,
    /// Bytes of the model file now.
    pub bytes: usize,
    /// Bytes before.
    pub bytes_before: usize,
}

/// A compressed model.
pub struct Compressed {
    /// The model file.
    pub model: Vec<u8>,
    /// What was done.
    pub report: Report,
    /// What was kept for a run that is begun again; to be [`State::done`] when the model is written.
    pub state: State,
}

impl Report {
    /// Weights of all contractions that have any to prune.
    pub fn weights(&self) -> usize {
        self.entries.iter().filter_map(|e| e.weight.as_ref()).map(|w| w.1).sum()
    }

    /// Those that are zero.
    pub fn zeros(&self) -> usize {
        self.entries.iter().filter_map(|e| e.weight.as_ref()).map(|w| w.2).sum()
    }

    /// Pruned contractions.
    pub fn pruned(&self) -> usize {
        self.entries.iter().filter(|e| matches!(e.verdict, Verdict::Pruned { .. })).count()
    }

    /// Contractions with fewer outputs or inputs.
    pub fn narrowed(&self) -> usize {
        self.entries.iter().filter(|e| matches!(e.verdict, Verdict::Narrowed { .. })).count()
    }

    /// Quantised contractions.
    pub fn quantised(&self) -> usize {
        self.count_quantised(false)
    }

    /// Quantised tables.
    pub fn tables(&self) -> usize {
        self.count_quantised(true)
    }

    fn count_quantised(&self, tables: bool) -> usize {
        let is = |e: &&Entry| e.is_table() == tables && matches!(e.verdict, Verdict::Quantised { .. });
        self.entries.iter().filter(is).count()
    }

    /// How many contractions were left alone, by reason; of tables.
    pub fn left(&self, tables: bool) -> BTreeMap<Reason, usize> {
        let mut out = BTreeMap::new();
        for entry in self.entries.iter().filter(|e| e.is_table() == tables) {
            if let Verdict::Left { reason, .. } = entry.verdict {
                *out.entry(reason).or_default() += 1;
            }
        }
        out
    }

    /// Everything as JSON.
    pub fn to_json(&self) -> Json {
        let entry = |e: &Entry| {
            let mut out = json!({ "name": e.name, "op": e.op });
            if let Some((name, count, zeros)) = &e.weight {
                out["weight"] = json!({ "name": name, "elements": count, "zeros": zeros });
            }
            if let Some([before, now]) = e.bytes {
                out["bytes_before"] = json!(before);
                out["bytes"] = json!(now);
            }
            match &e.verdict {
                Verdict::Pruned { pattern, before, after, error, output } => {
                    out["pruned"] = json!({
                        "pattern": pattern.to_string(), "nonzeros_before": before, "nonzeros_after": after,
                        "weight_error": error, "weight_sqnr_db": e.verdict.sqnr(),
                    });
                    if let Some(q) = output {
                        out["pruned"]["output_error"] = json!(q.error);
                        out["pruned"]["output_sqnr_db"] = json!(q.sqnr());
                        out["pruned"]["output_deviation"] = json!(q.deviation);
                    }
                }
                Verdict::Narrowed { was, is, group, stays, output } => {
                    let extent = |e: &Extent| {
                        json!({
                            "outputs": e.outputs, "inputs": e.inputs, "weights": e.weights,
                            "multiply_adds": e.products,
                        })
                    };
                    out["narrowed"] = json!({ "before": extent(was), "now": extent(is), "group": group });
                    if let Some(text) = stays {
                        out["narrowed"]["outputs_stay"] = json!(text);
                    }
                    if let Some(q) = output {
                        out["narrowed"]["output_error"] = json!(q.error);
                        out["narrowed"]["output_sqnr_db"] = json!(q.sqnr());
                        out["narrowed"]["output_deviation"] = json!(q.deviation);
                    }
                }
                Verdict::Quantised { form, before, after, sqnr, output } => {
                    out["quantised"] = json!({
                        "form": form, "bytes_before": before, "bytes": after, "weight_sqnr_db": sqnr,
                    });
                    if let Some(q) = output {
                        out["quantised"]["output_error"] = json!(q.error);
                        out["quantised"]["output_sqnr_db"] = json!(q.sqnr());
                    }
                }
                Verdict::Left { reason, text } => {
                    out["left"] = json!({ "reason": reason.name(), "text": text })
                }
            }
            out
        };
        let range =
            |r: &Range| json!({ "value": r.name, "low": r.low, "high": r.high, "method": r.method });
        let quantiser = |q: &Quantiser| json!({ "value": q.value, "placed": q.placed, "why": q.why });
        let mut out = json!({
            "what": self.what,
            "bytes": self.bytes,
            "bytes_before": self.bytes_before,
            "weights": self.weights(),
            "zeros": self.zeros(),
            "contractions": self.entries.iter().map(entry).collect::<Vec<_>>(),
            "ranges": self.ranges.iter().map(range).collect::<Vec<_>>(),
            "quantisers": self.quantisers.iter().map(quantiser).collect::<Vec<_>>(),
        });
        if let Some([before, now]) = self.products {
            out["multiply_adds_before"] = json!(before);
            out["multiply_adds"] = json!(now);
        }
        out
    }
}
