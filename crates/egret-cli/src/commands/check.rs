//! `egret check`.

use crate::args::{CompileOptions, ModelArgs, count, seed};
use crate::common::{interpret, options, prepare, progress};
use crate::say;
use egret::compare::{self, Tolerance};
use egret::ir::{DType, Denormals, Value};
use egret::source::{Prepared, Request};
use egret::{Engine, Error, Executable, Result, Tier, npz, stability};
use std::path::PathBuf;

/// `egret check`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Make up the inputs that are not given from another seed
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true, default_value_t = 0)]
    pub random: u64,
    /// Expected outputs, by name, instead of the interpreter's
    #[arg(long, value_name = "Y.npz")]
    pub expected: Option<PathBuf>,
    /// Short for --tier exact
    #[arg(long, conflicts_with = "tier")]
    pub strict: bool,
    /// interp, jit, jit-noopt (jit without passes) or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// How many iterations the reference runs of all loops together, before it gives up
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub max_trips: u64,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// Allowed error of compiled f32 code, relative to the output's scale.
const CHECK_RTOL: f64 = 1e-4;

/// `egret check`
pub fn run(args: &Args) -> Result<()> {
    let mut options = options(&args.options, args.threads)?;
    if args.strict {
        options.tier = Tier::Exact;
    }
    let request = Request { random: Some(args.random), default_dim: Some(1), ..args.model.request()? };
    // Inputs of a test case and those given are the user's.
    let made_up = !request.gives_inputs();
    let prepared = prepare(&request)?;
    let names = prepared.graph.output_names().to_vec();
    let random = egret::cases::random_outputs(&prepared.graph);
    // First: what cannot be compiled is known long before the reference has run.
    let compile = || Executable::new(prepared.graph.clone(), args.engine, &options, &prepared.bound);
    let executable = progress("compiling", compile)?;
    let expected = expected(args, &prepared, options.denormals(), &names)?;
    let got = progress("running", || executable.run(&prepared.inputs))?;
    let mut differing = vec![];
    let mut moved = None;
    for (i, name) in names.iter().enumerate() {
        let Some(want) = &expected[i] else { continue };
        match verdict(want, &got[i], random[i]) {
            Ok(line) => say!("ok   {name}: {line}"),
            Err(line) => {
                let stable = || {
                    args.expected
                        .is_none()
                        .then(|| movements(args, &prepared, options.denormals(), &expected))
                        .flatten()
                };
                let moves = moved.get_or_insert_with(stable).as_ref().map(|m| m[i]);
                let unstable = moves.zip(difference(want, &got[i])).filter(|(m, d)| *d <= UNSTABLE * m);
                match unstable {
                    Some((moves, _)) if made_up => say!(
                        "ok   {name}: unstable at these made-up inputs: the reference itself moves by {moves:.3e} with the last digits of weights and sums, so that a difference says nothing ({line}); give real inputs by --inputs"
                    ),
                    _ => {
                        say!("DIFF {name}: {line}");
                        if let Some((moves, _)) = unstable {
                            say!(
                                "     the reference itself moves by {moves:.3e} with the last digits of weights and sums: the model is unstable at these inputs"
                            );
                        }
                        differing.push(name.clone());
                    }
                }
            }
        }
    }
    if differing.is_empty() {
        Ok(())
    } else {
        Err(Error::differs(format!("{} differ from the reference", differing.join(", "))))
    }
}

/// What every output should be; `None` where `--expected` does not say.
fn expected(
    args: &Args,
    prepared: &Prepared,
    denormals: Denormals,
    names: &[String],
) -> Result<Vec<Option<Value>>> {
    let Some(path) = &args.expected else {
        let (graph, inputs) = (&prepared.graph, &prepared.inputs);
        let reference = interpret("running the reference", graph, inputs, denormals, args.max_trips)?;
        return Ok(reference.into_iter().map(Some).collect());
    };
    let given = npz::read_npz(path)?;
    if given.is_empty() {
        return Err(Error::user(format!(
            "{} holds no output: there is nothing to compare with",
            path.display()
        )));
    }
    if let Some(unknown) = given.keys().find(|n| !names.contains(n)) {
        return Err(Error::user(format!("{}: the model has no output `{unknown}`", path.display())));
    }
    Ok(names.iter().map(|n| given.get(n).cloned().map(Value::from)).collect())
}

/// Outputs may differ by as many times the movement of the reference where last digits change.
const UNSTABLE: f64 = 4.0;

/// How far the reference's outputs move where the last digits of the model's numbers change; `None` where that cannot be told.
fn movements(
    args: &Args,
    prepared: &Prepared,
    denormals: Denormals,
    expected: &[Option<Value>],
) -> Option<Vec<f64>> {
    let mut out = vec![0.0; expected.len()];
    for seed in 1..=2 {
        let (graph, inputs) = stability::nearby(&prepared.graph, &prepared.inputs, seed);
        let near =
            interpret("running the reference nearby", &graph, &inputs, denormals, args.max_trips).ok()?;
        for (i, near) in near.iter().enumerate() {
            let Some(Value::Tensor(at)) = &expected[i] else { continue };
            let far = compare::distance(at, near.as_tensor()?, Tolerance::default()).ok()?.max_abs;
            out[i] = f64::max(out[i], far);
        }
    }
    Some(out)
}

/// The largest difference of two float tensors.
fn difference(want: &Value, got: &Value) -> Option<f64> {
    let (Value::Tensor(e), Value::Tensor(g)) = (want, got) else { return None };
    let floats = e.dtype().is_float() && g.dtype().is_float();
    compare::distance(e, g, Tolerance::default()).ok().map(|d| d.max_abs).filter(|_| floats)
}

fn verdict(want: &Value, got: &Value, random: bool) -> std::result::Result<String, String> {
    if random {
        return compare::compare_types(want, got)
            .map(|()| "random by definition: only its type was compared".into());
    }
    let (Value::Tensor(e), Value::Tensor(g)) = (want, got) else {
        return compare::compare(want, got, Tolerance::default()).map(|()| "equal".into());
    };
    if e.dtype() == DType::String {
        return compare::compare(want, got, Tolerance { rtol: 0.0, atol: 0.0 }).map(|()| "equal".into());
    }
    // The scale first, then the tolerance that it sets.
    let scale = compare::distance(e, g, Tolerance::default())?.scale;
    let tolerance =
        Tolerance { rtol: CHECK_RTOL, atol: if e.dtype().is_float() { CHECK_RTOL * scale } else { 0.0 } };
    let d = compare::distance(e, g, tolerance)?;
    let relative = if d.scale > 0.0 { d.max_abs / d.scale } else { d.max_abs };
    compare::compare(want, got, tolerance)?;
    Ok(format!("largest error {:.3e}, {relative:.3e} of the scale {:.3e}", d.max_abs, d.scale))
}
