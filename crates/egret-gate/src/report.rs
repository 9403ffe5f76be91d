//! What became of all gates of all models.

use crate::judge::Verdict;
use egret::Error;

/// What became of the gates of one model.
#[derive(Clone, Debug)]
pub struct ModelReport {
    /// The model, as it was named.
    pub model: String,
    /// The target that its figures are for.
    pub target: String,
    /// The verdicts, or why there are none.
    pub outcome: Result<Vec<Verdict>, Error>,
}

/// What became of all models, in the order they were given.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The models.
    pub models: Vec<ModelReport>,
}

impl ModelReport {
    /// The gates that do not let it through.
    pub fn failed(&self) -> impl Iterator<Item = &Verdict> {
        self.outcome.iter().flatten().filter(|v| !v.passed)
    }
}

impl Verdict {
    /// What it says on its own: with its place and the command that explains it where it fails.
    pub fn sentence(&self) -> String {
        match self.passed {
            true => self.message.clone(),
            false => format!("{} ({}); `{}` tells why", self.message, self.gate.place, self.explain),
        }
    }
}

impl Report {
    /// The error that the command ends with: that of the first model that cannot be judged, else that gates fail.
    ///
    /// # Errors
    /// As said.
    pub fn verdict(&self) -> Result<(), Error> {
        let mut lines = vec![];
        let mut kind = None;
        for m in &self.models {
            match &m.outcome {
                Err(e) => {
                    kind.get_or_insert(e.kind);
                    // The message of a file names it already.
                    lines.push(match e.message.starts_with(&m.model) {
                        true => e.message.clone(),
                        false => format!("{}: {}", m.model, e.message),
                    });
                }
                Ok(_) => lines.extend(m.failed().map(|v| format!("{}: {}", m.model, v.sentence()))),
            }
        }
        match (lines.is_empty(), kind) {
            (true, _) => Ok(()),
            (false, Some(kind)) => Err(Error { kind, message: lines.join("\n") }),
            (false, None) => Err(Error::differs(lines.join("\n"))),
        }
    }

    /// Whether every model was judged and let through.
    pub fn passed(&self) -> bool {
        self.models.iter().all(|m| m.outcome.is_ok() && m.failed().next().is_none())
    }
}
