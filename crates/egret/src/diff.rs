//! The difference of two models: which outputs are proven equal, where the others part, and inputs on which they differ.

use crate::compare::{self, Tolerance};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::{pipeline, source};
use egret_ir::text::Spelling;
use egret_ir::{Def, Dim, Graph, Value, ValueId, interp};
use egret_opt::proof::{Compared, compare_outputs};
use egret_opt::rules::Tier;
use std::collections::BTreeMap;
use std::fmt;

/// Made-up inputs that are tried.
const SEEDS: u64 = 3;

/// Float results that are nearer than this part of their scale are told of, but not taken for a difference.
const RTOL: f64 = 1e-4;

/// How one output of two models compares.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// It is the same term in both models as they are.
    Same,
    /// It is the same term after the passes, each of which is proven.
    Proven,
    /// It is not proven equal.
    Open {
        /// Where the models part: a value of each, as text IR with its ONNX nodes.
        at: (String, String),
        /// What running both showed.
        seen: Seen,
    },
}

/// What running two models on the same inputs showed of an output.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The same bits on so many made-up inputs.
    Same(u64),
    /// Differences below the tolerance only, the largest as a part of the scale.
    Near(f64),
    /// A difference on the inputs of this seed, in words.
    Differs(u64, String),
    /// The models were not run, and why.
    NotRun(String),
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Difference {
    /// By output: its name, and how it compares.
    pub outputs: Vec<(String, Output)>,
    /// Which runs one of the models takes and the other one refuses: the dims that A, and that B, needs to be at least 0, and the other one
    /// does not.
    pub conditions: [Vec<Dim>; 2],
}

impl Difference {
    /// Whether inputs were found on which an output differs, or a value that cannot be compared, or one of the models needs what the other one does not.
    pub fn differs(&self) -> bool {
        self.conditions.iter().any(|c| !c.is_empty())
            || self.outputs.iter().any(|(_, o)| matches!(o, Output::Open { seen: Seen::Differs(..), .. }))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (which, only) in ["A", "B"].iter().zip(&self.conditions) {
            for dim in only {
                writeln!(f, "conditions: {which} alone needs `{dim}` to be at least 0")?;
            }
        }
        for (name, output) in &self.outputs {
            match output {
                Output::Same => writeln!(f, "{name}: equal, the same nodes")?,
                Output::Proven => writeln!(f, "{name}: equal, proven by the rules of the passes")?,
                Output::Open { at: (a, b), seen } => {
                    writeln!(f, "{name}: not proven equal; the models part at\n  A {a}\n  B {b}")?;
                    match seen {
                        Seen::Same(n) => writeln!(f, "  the same bits on {n} made-up inputs")?,
                        Seen::Near(e) => writeln!(
                            f,
                            "  nearly the same on made-up inputs: largest difference {e:.1e} of the scale"
                        )?,
                        Seen::Differs(seed, how) => writeln!(
                            f,
                            "  they differ on made-up inputs (--random {seed}), B from A: {how}"
                        )?,
                        Seen::NotRun(why) => writeln!(f, "  they were not run: {why}")?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Compare two graphs; where they are not proven equal they run on the given inputs, others made up.
///
/// # Errors
/// Their inputs or outputs are not the same in number, name or type; a graph that cannot be optimised.
pub fn diff(
    a: &Graph,
    b: &Graph,
    options: &Options,
    given: &BTreeMap<String, Value>,
) -> Result<Difference> {
    // What is near a value proves nothing equal.
    let options = &Options { tier: options.tier.min(Tier::Reassoc), ..options.clone() };
    let ports = |g: &Graph| {
        g.inputs().iter().map(|&v| format!("{}: {}", g.value(v).name, g.ty(v))).collect::<Vec<_>>()
    };
    for (what, of_a, of_b) in
        [("inputs", ports(a), ports(b)), ("outputs", a.output_names().to_vec(), b.output_names().to_vec())]
    {
        if of_a != of_b {
            let (a, b) = (of_a.join(", "), of_b.join(", "));
            return Err(Error::differs(format!("the models have different {what}: {a} against {b}")));
        }
    }
    let compared = compare_outputs(a, b, None).map_err(Error::internal)?;
    let optimised = |g: &Graph| pipeline::reports(g.clone(), options, None).map(|(g, _)| g);
    let proven = match compared.iter().all(|c| *c == Compared::Same) {
        true => compared.clone(),
        false => {
            let rules: Vec<_> = egret_opt::PASSES
                .iter()
                .filter_map(|p| egret_opt::saturated_rules(p.name, &options.rules))
                .flatten()
                .collect();
            let allowed =
                |r: &&&egret_opt::rules::Rule| r.tier <= options.tier && !options.without.contains(&r.name);
            // Passes may share rules.
            let mut seen = std::collections::BTreeSet::new();
            let rules: Vec<_> =
                rules.iter().filter(allowed).copied().filter(|r| seen.insert(&r.name)).collect();
            compare_outputs(a, b, Some((&optimised(a)?, &optimised(b)?, &rules)))
                .map_err(Error::internal)?
        }
    };
    let (in_a, in_b) = (Spelling::new(a), Spelling::new(b));
    let mut runs = None;
    let outputs = compared.iter().zip(&proven).enumerate().map(|(i, pair)| match pair {
        (Compared::Same, _) => Output::Same,
        (_, Compared::Same) => Output::Proven,
        (Compared::Part(x, y), _) => {
            let runs: &Vec<_> = runs
                .get_or_insert_with(|| (1..=SEEDS).map(|seed| (seed, both(a, b, seed, given))).collect());
            Output::Open { at: (spelt(a, &in_a, *x), spelt(b, &in_b, *y)), seen: seen(runs, i) }
        }
    });
    let outputs = a.output_names().iter().cloned().zip(outputs).collect();
    Ok(Difference { outputs, conditions: [a.conditions_beyond(b), b.conditions_beyond(a)] })
}

/// A value as the statement that makes it.
fn spelt(graph: &Graph, spelling: &Spelling, value: ValueId) -> String {
    match &graph.value(value).def {
        Def::Input(_) => format!("input {} {}", graph.value(value).name, graph.ty(value)),
        Def::Const(_) => format!("{} {}", spelling.value(value), graph.ty(value)),
        Def::Node(n, _) => {
            let sources: Vec<&str> = graph.node(*n).sources.iter().map(String::as_str).collect();
            let from =
                if sources.is_empty() { String::new() } else { format!(" from {}", sources.join(", ")) };
            format!("{}{from}", spelling.node(*n))
        }
    }
}

type Run = std::result::Result<(Vec<Value>, Vec<Value>), String>;

fn both(a: &Graph, b: &Graph, seed: u64, given: &BTreeMap<String, Value>) -> Run {
    let inputs = source::made_up_beside(a, given, seed).map_err(|e| e.to_string())?;
    let run =
        |g: &Graph, which: &str| interp::run(g, &inputs).map_err(|e| format!("{which} does not run: {e}"));
    Ok((run(a, "A")?, run(b, "B")?))
}

fn seen(runs: &[(u64, Run)], output: usize) -> Seen {
    let mut near = 0f64;
    for (seed, run) in runs {
        let (x, y) = match run {
            Ok((x, y)) => (&x[output], &y[output]),
            Err(e) => return Seen::NotRun(e.clone()),
        };
        let bits = compare::compare(x, y, Tolerance { rtol: 0.0, atol: 0.0 });
        let (Err(_), Value::Tensor(s), Value::Tensor(t)) = (&bits, x, y) else {
            match bits {
                Ok(()) => continue,
                Err(how) => return Seen::Differs(*seed, how),
            }
        };
        let relative = compare::distance(s, t, Tolerance::default())
            .map_or(f64::INFINITY, |d| d.max_abs / d.scale.max(f64::MIN_POSITIVE));
        let scale = compare::distance(s, t, Tolerance::default()).map_or(0.0, |d| d.scale);
        if let Err(how) = compare::compare(x, y, Tolerance { rtol: RTOL, atol: RTOL * scale }) {
            return Seen::Differs(*seed, how);
        }
        near = near.max(relative);
    }
    if near > 0.0 { Seen::Near(near) } else { Seen::Same(runs.len() as u64) }
}
