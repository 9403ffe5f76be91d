//! `egret run`.

use crate::args::{CompileOptions, InputOptions};
use crate::common::{options, progress, read_inputs, request};
use egret::compare;
use egret::ir::{DType, Tensor, Value};
use egret::{Engine, Error, Executable, Native, Result, npz};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `egret run`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret file, or a folder that `compile --emit so` filled
    pub model: PathBuf,
    /// Inputs.
    #[command(flatten)]
    pub inputs: InputOptions,
    /// Write the outputs to a .npz file
    #[arg(long, value_name = "Y.npz")]
    pub output: Option<PathBuf>,
    /// interp, jit, jit-noopt or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print how long every kernel took
    #[arg(long)]
    pub profile: bool,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret run`
pub fn run(args: &Args) -> Result<()> {
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
