//! What a pass is.

use crate::proof;
use crate::report::Rewrite;
use crate::rules::{Rule, Tier};
use egret_ir::{Graph, TypeError};

/// A pass.
pub struct Pass {
    /// Its name: `--passes`, `--after`, traces and file names use it.
    pub name: &'static str,
    /// What it does, one sentence.
    pub doc: &'static str,
    /// The step in code; `None` where there is nothing to do.
    pub(crate) run: fn(&Graph, &mut PassContext) -> Result<Option<Graph>, TypeError>,
    /// Folders of `ir-spec/rules` whose rules the step in code applies, and proves by them what it does. They are not saturated.
    pub(crate) by_code: &'static [&'static str],
    /// What that step may change.
    pub(crate) tier: Tier,
    /// The folder of `ir-spec/rules` whose rules follow it.
    pub(crate) rules: &'static str,
    /// Whether the graph is left alone where no rule's left-hand side is in it: nothing else is wanted of the e-graph, such as
    /// that equal values become one.
    pub(crate) lazy: bool,
}

/// What a step in code may do, and what it did.
pub(crate) struct PassContext<'a> {
    /// The pass.
    pub pass: &'static str,
    /// The rules that it may apply: those of [`Pass::by_code`] that are neither left out nor above the tier.
    pub rules: Vec<&'a Rule>,
    /// Whether a proof is wanted.
    pub explain: bool,
    /// What it rewrote.
    pub rewrites: Vec<Rewrite>,
    /// Why the graph after it equals the one before it, where rules say so and that is asked for.
    pub proof: Option<Result<proof::Proof, String>>,
}
