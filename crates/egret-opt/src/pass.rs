//! What a pass is: a row of [`crate::PASSES`].

use crate::cost::CostModel;
use crate::proof::Proof;
use crate::report::Rewrite;
use crate::rules::{Rule, Tier, shipped};
use egret_ir::{Graph, TypeError};

/// A pass.
pub struct Pass {
    /// Its name: `--passes`, `--after`, traces and file names use it.
    pub name: &'static str,
    /// What it does, one sentence.
    pub doc: &'static str,
    /// What its code may change; rules have their own tiers.
    pub(crate) tier: Tier,
    /// What its rules choose by.
    pub(crate) costs: Costs,
    /// How it does that.
    pub(crate) kind: PassKind,
}

/// The procedural part of a pass; `None`: there is nothing to do.
pub(crate) type Code = fn(&Graph, &mut PassContext) -> Result<Option<Graph>, TypeError>;

/// Sets of shipped rules: `FOLDER` of `ir-spec/rules`, or of its rules those of one file, `FOLDER/FAMILY`.
pub(crate) type RuleSets = &'static [&'static str];

/// How a pass changes a graph. Rules of a user that name the pass are saturated at its end, whatever its kind.
#[derive(Copy, Clone)]
pub(crate) enum PassKind {
    /// Rules, saturated. Equal values become one even where no rule applies.
    Rules(RuleSets),
    /// Rules, saturated only if the graph has the left-hand side of one of them: building an e-graph takes time. Those of the second list are no
    /// reason by themselves.
    RulesIfMatched(RuleSets, RuleSets),
    /// Code.
    Code(Code),
    /// Code, then rules on what it leaves.
    CodeThenRules(Code, RuleSets),
    /// Code that chooses where these rules are applied, and proves by them what it did. They are not saturated.
    Guided(Code, RuleSets),
}

/// By which costs extraction chooses among equal forms.
#[derive(Copy, Clone)]
pub(crate) enum Costs {
    /// Those of the target.
    OfTarget,
    /// [`CostModel::of_sums`], whatever the target: where forms differ in their rounding, every target has the same one. So have passes before such
    /// a pass, which is to see the same graph.
    OfSums,
}

impl Pass {
    /// What nodes cost in it, for a target with these costs.
    pub(crate) fn cost(&self, target: &'static CostModel) -> &'static CostModel {
        match self.costs {
            Costs::OfTarget => target,
            Costs::OfSums => CostModel::of_sums(),
        }
    }

    /// The procedural part, if it has one.
    pub(crate) fn code(&self) -> Option<Code> {
        match self.kind {
            PassKind::Code(code) | PassKind::CodeThenRules(code, _) | PassKind::Guided(code, _) => {
                Some(code)
            }
            PassKind::Rules(_) | PassKind::RulesIfMatched(..) => None,
        }
    }

    /// The sets of shipped rules that it saturates or applies by code.
    pub(crate) fn sets(&self) -> RuleSets {
        match self.kind {
            PassKind::Rules(sets)
            | PassKind::RulesIfMatched(sets, _)
            | PassKind::CodeThenRules(_, sets)
            | PassKind::Guided(_, sets) => sets,
            PassKind::Code(_) => &[],
        }
    }

    /// The shipped rules that its code applies.
    pub(crate) fn guided_rules(&self) -> Vec<&'static Rule> {
        match self.kind {
            PassKind::Guided(_, sets) => in_sets(sets, shipped()),
            _ => vec![],
        }
    }

    /// The rules that are saturated: shipped ones and those of the user.
    pub(crate) fn saturated_rules<'a>(&self, own: &'a [Rule]) -> Vec<&'a Rule> {
        let sets = if matches!(self.kind, PassKind::Guided(..)) { &[] } else { self.sets() };
        let mut rules = in_sets(sets, shipped());
        rules.extend(own.iter().filter(|r| r.pass == self.name || sets.contains(&r.pass.as_str())));
        rules
    }

    /// Whether nothing is done where no left-hand side of a rule that is a reason is in the graph.
    pub(crate) fn skips_unless_matched(&self) -> bool {
        matches!(self.kind, PassKind::RulesIfMatched(..))
    }

    /// Whether a rule is a reason to saturate the rules of such a pass.
    pub(crate) fn is_reason(&self, rule: &Rule) -> bool {
        !matches!(self.kind, PassKind::RulesIfMatched(_, along) if along.iter().any(|set| rule.is_in(set)))
    }
}

/// The rules of these sets, set by set.
fn in_sets(sets: RuleSets, rules: &[Rule]) -> Vec<&Rule> {
    sets.iter().flat_map(|set| rules.iter().filter(move |r| r.is_in(set))).collect()
}

/// How a branch is optimised.
pub(crate) type Branch<'a> = dyn Fn(&Graph) -> Result<(Graph, Vec<Rewrite>), TypeError> + 'a;

/// What the code of a pass may do, and what it did.
pub(crate) struct PassContext<'a> {
    /// Runs all passes on a branch: it, and what was rewritten.
    pub branch: &'a Branch<'a>,
    /// The pass.
    pub pass: &'static str,
    /// What nodes cost on the target.
    pub cost: &'static CostModel,
    /// The guided rules that are neither left out nor above the tier.
    pub rules: Vec<&'a Rule>,
    /// Whether a proof is wanted.
    pub explain: bool,
    /// What it rewrote.
    pub rewrites: Vec<Rewrite>,
    /// Why the graph after it equals the one before it, if a proof is wanted and guided rules can say so.
    pub proof: Option<Result<Proof, String>>,
}
