//! `egret run` and `egret check`.

use crate::args::{CheckArgs, RunArgs};
use crate::common::{options, progress, read_inputs};
use egret::compare::{self, Tolerance};
use egret::ir::{DType, Graph, Tensor, Value};
use egret::source::{Prepared, Request, prepare};
use egret::{Engine, Error, Executable, Native, Options, Result, Tier, npz};
use std::collections::BTreeMap;
use std::path::Path;

/// Allowed error of compiled f32 code, relative to the output's scale.
const CHECK_RTOL: f64 = 1e-4;

/// `egret run`
pub fn run(args: &RunArgs) -> Result<()> {
    let options = options(&args.options, args.threads)?;
    let inputs = read_inputs(&args.inputs)?;
    let (executable, names, values);
    if args.model.is_dir() {
        if args.inputs.random.is_some() {
            return Err(Error::user(
                "--random needs the model itself, not its folder; give --input or --inputs",
            ));
        }
        let native = Native::open(&args.model, options.threads)?;
        values = ordered(&native, &inputs)?;
        names = native.model().outputs().iter().map(|p| p.name.clone()).collect();
        executable = Executable::Native(Box::new(native));
    } else {
        let prepared =
            progress("importing", || request(&args.model, &options, inputs, args.inputs.random))?;
        names = prepared.graph.output_names().to_vec();
        executable = progress("compiling", || {
            Executable::new(prepared.graph, args.engine, &options, &prepared.bound)
        })?;
        values = prepared.inputs;
    }
    if let Some(native) = executable.native() {
        eprintln!("{} thread{}", native.threads(), if native.threads() == 1 { "" } else { "s" });
    }
    let outputs = match (args.profile, executable.native()) {
        (true, Some(native)) => {
            let (outputs, spans) = native.profile(&values)?;
            print_profile(&spans);
            outputs
        }
        (true, None) => return Err(Error::user("--profile measures kernels; --engine interp has none")),
        (false, _) => progress("running", || executable.run(&values))?,
    };
    for (name, value) in names.iter().zip(&outputs) {
        println!("{name}: {}", summary(value));
    }
    if let Some(path) = &args.output {
        let bytes = npz::npz_bytes(&npz::tensors(&names, &outputs)?)?;
        std::fs::write(path, bytes).map_err(|e| Error::io("write", path, &e))?;
    }
    Ok(())
}

fn request(
    model: &Path,
    options: &Options,
    inputs: BTreeMap<String, Value>,
    random: Option<u64>,
) -> Result<Prepared> {
    let default_dim = random.map(|_| 1);
    prepare(model, &Request { dims: options.dims.clone(), inputs, random, default_dim })
}

/// Inputs in the order of an artifact's.
fn ordered(native: &Native, inputs: &BTreeMap<String, Value>) -> Result<Vec<Value>> {
    let ports = native.model().inputs();
    if let Some(unknown) = inputs.keys().find(|n| !ports.iter().any(|p| p.name == **n)) {
        let names: Vec<String> = ports.iter().map(|p| format!("`{}`", p.name)).collect();
        return Err(Error::user(format!(
            "the model has no input `{unknown}`; its inputs are {}",
            names.join(", ")
        )));
    }
    let one = |p: &egret::Port| match inputs.get(&p.name) {
        Some(Value::Tensor(t)) => {
            Ok(DType::from_abi_code(p.dtype).map_or_else(|| t.clone(), |d| npz::as_dtype(t, d)).into())
        }
        Some(_) => Err(Error::user(format!("the input `{}` must be a tensor", p.name))),
        None => {
            Err(Error::user(format!("no value for the input `{}`; give --input {}=x.npy", p.name, p.name)))
        }
    };
    ports.iter().map(one).collect()
}

fn print_profile(spans: &[(String, f64)]) {
    let total: f64 = spans.iter().map(|(_, t)| t).sum();
    let mut sorted: Vec<&(String, f64)> = spans.iter().collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (name, t) in sorted {
        println!("{:10.1} us {:5.1} %  {name}", t * 1e6, t / total.max(1e-12) * 100.0);
    }
    println!("{:10.1} us in {} kernels", total * 1e6, spans.len());
}

/// A value in one line.
pub fn summary(value: &Value) -> String {
    match value {
        Value::Sequence(s) => format!("a sequence of {}", s.len()),
        Value::Optional(None) => "nothing".into(),
        Value::Optional(Some(v)) => summary(v),
        Value::Tensor(t) => format!("{}{}", t.ty(), elements(t)),
    }
}

fn elements(t: &Tensor) -> String {
    const SHOWN: usize = 10;
    let dots = if t.len() > SHOWN { " ..." } else { "" };
    if t.dtype() == DType::String {
        let list: Vec<String> = t.strings().iter().take(SHOWN).map(|s| format!("{s:?}")).collect();
        return format!(" = {}{dots}", list.join(" "));
    }
    let Ok(values) = compare::to_f64(t) else { return String::new() };
    let list: Vec<String> = values.iter().take(SHOWN).map(|v| short(*v)).collect();
    let mut out = format!(" = {}{dots}", list.join(" "));
    if t.len() > SHOWN && !values.iter().any(|v| v.is_nan()) {
        let (lo, hi) =
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        out += &format!("; min {} max {} mean {}", short(lo), short(hi), short(mean));
    }
    out
}

fn short(v: f64) -> String {
    if v == v.trunc() && v.abs() < 1e15 { format!("{v}") } else { format!("{v:.6}") }
}

/// `egret check`
pub fn check(args: &CheckArgs) -> Result<()> {
    let mut options = options(&args.options, args.threads)?;
    if args.strict {
        options.tier = Tier::Exact;
    }
    let inputs = read_inputs(&args.inputs)?;
    let random = Some(args.inputs.random.unwrap_or(0));
    let prepared = progress("importing", || request(&args.model, &options, inputs, random))?;
    let names = prepared.graph.output_names().to_vec();
    let expected = expected(args, &prepared, &names)?;
    let random = egret::cases::random_outputs(&prepared.graph);
    let executable =
        progress("compiling", || Executable::new(prepared.graph, args.engine, &options, &prepared.bound))?;
    let got = progress("running", || executable.run(&prepared.inputs))?;
    let mut differing = vec![];
    for (i, name) in names.iter().enumerate() {
        let Some(want) = &expected[i] else { continue };
        match verdict(want, &got[i], random[i]) {
            Ok(line) => println!("ok   {name}: {line}"),
            Err(line) => {
                println!("DIFF {name}: {line}");
                differing.push(name.clone());
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
fn expected(args: &CheckArgs, prepared: &Prepared, names: &[String]) -> Result<Vec<Option<Value>>> {
    let Some(path) = &args.expected else {
        let reference = reference(prepared.graph.clone(), prepared)?;
        return Ok(reference.into_iter().map(Some).collect());
    };
    let given = npz::read_npz(path)?;
    if let Some(unknown) = given.keys().find(|n| !names.contains(n)) {
        return Err(Error::user(format!("{}: the model has no output `{unknown}`", path.display())));
    }
    Ok(names.iter().map(|n| given.get(n).cloned().map(Value::from)).collect())
}

fn reference(graph: Graph, prepared: &Prepared) -> Result<Vec<Value>> {
    let interp = Executable::new(graph, Engine::Interp, &Options::default(), &prepared.bound)?;
    progress("running the reference", || interp.run(&prepared.inputs))
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
