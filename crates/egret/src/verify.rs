//! Verifying what the optimiser did to one model: the proof of each pass is checked and its steps are run on random tensors;
//! a pass's step in code that has no proof is run before and after on inputs of the model.

use crate::compare::{self, Tolerance};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::pipeline;
use egret_ir::{Graph, Value, interp, text};
use egret_opt::PassReport;
use egret_opt::proof::{self, Proof};
use egret_trace::{Kind, Trace};
use std::collections::BTreeSet;
use std::fmt;

/// How far steps in code may move a result, relative to the output's scale: they and the rules before them are at most of the
/// tier `reassoc`.
const STEP_TOLERANCE: Tolerance = Tolerance { rtol: 1e-3, atol: 1e-5 };

/// What was found to be right about one pass.
#[derive(Clone, Debug, Default)]
pub struct VerifiedPass {
    /// Its name.
    pub name: String,
    /// Steps of its proof.
    pub steps: usize,
    /// Steps that were run on random tensors; equal ones are run once.
    pub run: usize,
    /// The bounds of the errors of those steps that are approximations, added up.
    pub error: f64,
    /// Steps that were not run, and why.
    pub left_out: Vec<(String, usize)>,
    /// What its step in code did: nothing, something that was run, something that was not, and why.
    pub code: CodeStep,
}

/// What is known of a pass's step in code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CodeStep {
    /// It changed nothing, or only evaluated constants.
    #[default]
    Nothing,
    /// Rules prove what it did: their steps are among those of the pass.
    Proven,
    /// Outputs before and after are the same on inputs of the model.
    Run,
    /// It was not run.
    NotRun(String),
}

impl fmt::Display for VerifiedPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "pass {}: {} proof steps hold, {} of them run on random tensors",
            self.name, self.steps, self.run
        )?;
        if self.error > 0.0 {
            write!(f, "; approximations of at most {:e}", self.error)?;
        }
        for (why, n) in &self.left_out {
            write!(f, ", {n} not run ({why})")?;
        }
        match &self.code {
            CodeStep::Nothing => Ok(()),
            CodeStep::Proven => write!(f, "; its step in code is proven by them"),
            CodeStep::Run => write!(f, "; its step in code: same outputs"),
            CodeStep::NotRun(why) => write!(f, "; its step in code was not run ({why})"),
        }
    }
}

/// Optimise a graph and verify each pass. `inputs`: of the graph, where there are some. `trace`: what a `.trace` file holds;
/// its proofs are checked in place of fresh ones.
///
/// # Errors
/// The first step or pass that is wrong, or a trace that is not of this model and these options.
pub fn verify(
    graph: Graph,
    inputs: Option<&[Value]>,
    options: &Options,
    trace: Option<&Trace>,
) -> Result<Vec<VerifiedPass>> {
    let options = Options { explain: true, ..options.clone() };
    let expected = inputs.map(|i| interp::run(&graph, i).map_err(|e| e.to_string()));
    let (_, reports) = pipeline::reports(graph, &options, None)?;
    let mut stated = trace.map(stated_proofs).transpose()?.map(Vec::into_iter);
    let mut out = vec![];
    for r in &reports {
        let (Some(stages), name) = (&r.snapshots, r.name.to_owned()) else { continue };
        let code = match (&expected, inputs) {
            _ if r.step_proof.is_some() => CodeStep::Proven,
            _ if proof::same_terms(&stages.before, &stages.stepped) => CodeStep::Nothing,
            (Some(Ok(expected)), Some(inputs)) => held(&stages.stepped, inputs, expected, &name)?,
            (Some(Err(e)), _) => CodeStep::NotRun(e.clone()),
            _ => CodeStep::NotRun("the model has free dims and no inputs are given".into()),
        };
        let mut verified = VerifiedPass { name, code, ..VerifiedPass::default() };
        let proofs = [
            (&r.step_proof, &stages.before, &stages.stepped),
            (&r.findings.proof, &stages.stepped, &stages.after),
        ];
        for (own, before, after) in
            proofs.into_iter().filter_map(|(p, before, after)| Some((p.as_ref()?, before, after)))
        {
            let read = stated.as_mut().map(|s| read(s.next(), own, r)).transpose()?;
            hold(read.as_ref().unwrap_or(own), (before, after), &options, &mut verified)?;
        }
        out.push(verified);
    }
    let error: f64 = out.iter().map(|v| v.error).sum();
    if error > options.budget {
        return Err(Error::differs(format!(
            "approximations of {error:e} in all, where --budget allows {:e}",
            options.budget
        )));
    }
    match stated.and_then(|mut s| s.next()) {
        Some(extra) => Err(Error::differs(format!(
            "the trace has a proof of pass `{}` more than there are passes",
            extra.pass
        ))),
        None => Ok(out),
    }
}

fn held(graph: &Graph, inputs: &[Value], expected: &[Value], pass: &str) -> Result<CodeStep> {
    let got = match interp::run(graph, inputs) {
        Ok(got) => got,
        Err(e) => {
            return Err(Error::differs(format!(
                "pass `{pass}`: after its step in code the model does not run: {e}"
            )));
        }
    };
    for ((want, got), name) in expected.iter().zip(&got).zip(graph.output_names()) {
        compare::compare(want, got, STEP_TOLERANCE).map_err(|e| {
            Error::differs(format!(
                "pass `{pass}`: after its step in code the output `{name}` differs: {e}"
            ))
        })?;
    }
    Ok(CodeStep::Run)
}

/// Hold one proof; `ends`: the graphs that it is about.
fn hold(
    proof: &Proof,
    ends: (&Graph, &Graph),
    options: &Options,
    verified: &mut VerifiedPass,
) -> Result<()> {
    let rules = egret_opt::rules_of(&proof.pass, &options.rules).ok_or_else(|| {
        Error::differs(format!("the trace has a proof of `{}`, which is no pass", proof.pass))
    })?;
    let fault = |f: proof::Fault| Error::differs(f.to_string());
    proof::check(proof, &rules, options.tier, Some(ends)).map_err(fault)?;
    let replay = proof::replay(proof, &rules, options.tier, 1).map_err(fault)?;
    verified.steps += replay.steps;
    verified.run += replay.run;
    verified.error += replay.error;
    verified.left_out.extend(replay.left_out);
    Ok(())
}

/// The proofs of a trace, in order.
fn stated_proofs(trace: &Trace) -> Result<Vec<egret_trace::Proof>> {
    let proofs = trace.events.iter().filter_map(|e| match &e.kind {
        Some(Kind::Proof(p)) => Some(p.clone()),
        _ => None,
    });
    let proofs: Vec<egret_trace::Proof> = proofs.collect();
    if proofs.is_empty() {
        return Err(Error::user(
            "the trace holds no proofs; write one with `egret explain MODEL --format trace --output FILE`",
        ));
    }
    Ok(proofs)
}

/// A proof as a trace states it. `own`: the same pass's fresh proof, whose constants it shares.
fn read(stated: Option<egret_trace::Proof>, own: &Proof, report: &PassReport) -> Result<Proof> {
    let lacks = || Error::differs(format!("the trace has no proof of pass `{}`", report.name));
    let stated = stated.filter(|s| s.pass == report.name).ok_or_else(lacks)?;
    let steps = stated
        .steps
        .into_iter()
        .map(|s| (s.rule, s.place, s.sources.into_iter().collect::<BTreeSet<_>>()))
        .collect();
    Proof::from_text(&stated.pass, stated.deep, &stated.terms, steps, &text::constants(&own.terms))
        .map_err(Error::differs)
}
