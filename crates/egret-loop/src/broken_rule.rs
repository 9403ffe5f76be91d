//! What breaks a rule of Loop IR.

use std::fmt;

/// A rule of Loop IR that a kernel breaks: a bug of whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenRule(pub String);

impl fmt::Display for BrokenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for BrokenRule {}
