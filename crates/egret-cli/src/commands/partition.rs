//! `egret partition`.

mod simulated;

use crate::args::{GivenArgs, RuleOptions, count};
use crate::common::say_report;
use crate::common::{import, note, progress, with_rules};
use crate::say;
use egret::source::Request;
use egret::stages::simulate::{Load, Machines, predict};
use egret::stages::{self, PLAN, Plan, Staged};
use egret::{Denormals, Error, Options, Result};
use simulated::Simulated;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Ends the help of `egret partition`.
pub const EXAMPLE: &str = "Examples:
  egret partition net.onnx --stages 2 -o parts
  egret run --plan parts/plan.toml --random 1
  egret partition net.onnx --split 2 -o parts
  egret partition --plan parts/plan.toml --simulate links.toml --measure

links.toml, for --simulate:
  workers = 4               # worker w has stage w modulo the number of stages; one for each copy of a stage unless given

  [link]                    # between each two workers
  latency = \"2 us\"          # ns, us, ms, s
  bandwidth = \"10 GB/s\"     # B/s, kB/s, MB/s, GB/s, kbit/s, Mbit/s, Gbit/s, Tbit/s, or unlimited

Exit codes: 0 ok, 1 wrong argument, file or model, 2 not supported, or not with free dims, 3 a result differs, 4 a bug of Egret, 5 not enough memory.";

/// What --measure gives the free dims of inputs: what they count as in the plan.
const FREE_DIM: i64 = 64;

/// `egret partition`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret file, or a test-case folder (its first inputs are given then)
    #[arg(required_unless_present = "plan")]
    pub model: Option<PathBuf>,
    /// What is decided.
    #[command(flatten)]
    pub given: GivenArgs,
    /// How many stages. They take about the same time by estimate, and the least crosses from one to the next. They run one behind the other; independent ones run at the same time on a sample where that
    /// pays by estimate
    #[arg(long, value_name = "N", value_parser = count, required_unless_present_any = ["plan", "split"], allow_negative_numbers = true)]
    pub stages: Option<usize>,
    /// Split tensors over N workers, in place of --stages: products by columns and rows of their weights, attention by heads, convolutions by channels, where that is estimated to be faster. A sample is through
    /// sooner then. Each worker has a stage in a step; sums are added in another order than in the whole (--tier exact: none are)
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "stages", allow_negative_numbers = true)]
    pub split: Option<usize>,
    /// How many workers each stage has, which take samples in turn: a number for all stages, or one for each (2,1,3). The plan says it, as `copies` [default: 1]
    #[arg(long, value_name = "N", value_parser = count, value_delimiter = ',', conflicts_with = "plan", allow_negative_numbers = true)]
    pub copies: Vec<usize>,
    /// Where to write the stages (stage0.egret, stage1.egret, .. and their large constants) and plan.toml, which says what crosses between them
    #[arg(long, short, value_name = "DIR", required_unless_present_any = ["plan", "simulate"])]
    pub out_dir: Option<PathBuf>,
    /// With --simulate: a plan that is there, in place of a model
    #[arg(long, value_name = "PLAN.toml", requires = "simulate", conflicts_with_all = [
        "model", "stages", "split", "out_dir", "shapes", "at_most", "bind", "tier", "budget", "without", "rules",
    ])]
    pub plan: Option<PathBuf>,
    /// Predict throughput and latency of the stages on the workers and links of this file, up to 1,000 of them, and what would help
    #[arg(long, value_name = "LINKS.toml", group = "predicts")]
    pub simulate: Option<PathBuf>,
    /// With --simulate: run each stage here, by itself, and take its time in place of the plan's estimate. Inputs that are not given are made up, free dims are 64
    #[arg(long, requires = "predicts")]
    pub measure: bool,
    /// With --measure: threads of a stage [default: 1]
    #[arg(long, value_name = "N", value_parser = count, requires = "measure", allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// With --simulate: print how busy each worker is
    #[arg(long, short, requires = "predicts")]
    pub verbose: bool,
    /// With --simulate: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"], requires = "predicts")]
    pub format: String,
    /// What becomes of subnormal floats: zeros (flush), or what IEEE 754 says (keep), as the plan tells `egret run --plan` [default: keep
    /// with --tier exact, else flush]
    #[arg(long, value_name = "flush|keep")]
    pub denormals: Option<Denormals>,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// `egret partition`
pub fn run(args: &Args) -> Result<()> {
    let options = Options { denormals: args.denormals, ..with_rules(&args.rules)? };
    if let Some(plan) = &args.plan {
        let load = progress("reading", || Load::read(plan))?;
        return simulate(args, load, Some(plan), &options);
    }
    let model = args.model.as_ref().ok_or_else(|| Error::user("give a model, or --plan"))?;
    if args.measure && args.out_dir.is_none() {
        return Err(Error::user("--measure runs stages that are written: give --out-dir, or --plan"));
    }
    let model = import(&args.given.request(model)?)?;
    let (mut plan, graphs, whole) = progress("partitioning", || match (args.split, args.stages) {
        (Some(workers), _) => stages::split_tensors(model, workers, &options),
        (None, Some(count)) => {
            stages::split(model, count, &options).map(|(plan, graphs)| (plan, graphs, None))
        }
        (None, None) => Err(Error::user("give --stages or --split")),
    })?;
    whole.iter().for_each(|why| note(format_args!("note: {why}")));
    let free: BTreeSet<String> = graphs.iter().flat_map(|g| g.free_dims()).collect();
    if !free.is_empty() {
        let names = free.into_iter().collect::<Vec<_>>().join(", ");
        note(format_args!(
            "note: the stages keep dims free ({names}); `egret run MODEL` compiles for the sizes of its inputs, and may round otherwise: --dim and --shape fix them"
        ));
    }
    if !args.copies.is_empty() {
        plan.set_copies(&args.copies).map_err(|e| e.at("--copies"))?;
    }
    // A mistake in the file comes before anything is written.
    if let Some(links) = &args.simulate {
        Machines::read(links, &plan.copies())?;
    }
    let file = args.out_dir.as_ref().map(|dir| dir.join(PLAN));
    if let Some(dir) = &args.out_dir {
        stages::write(&plan, &graphs, dir)?;
    }
    match &args.simulate {
        Some(_) => simulate(args, Load::of(&plan, &graphs)?, file.as_deref(), &options),
        None => args.out_dir.as_ref().map_or(Ok(()), |dir| tell(&plan, dir)),
    }
}

/// What was written, and why it is cut there.
fn tell(plan: &Plan, dir: &Path) -> Result<()> {
    for (k, step) in plan.steps().into_iter().enumerate() {
        for stage in &plan.stages[step] {
            let at = stage.step.map_or_else(String::new, |step| format!(", in step {step}"));
            let copies =
                if stage.copies > 1 { format!(", {} copies", stage.copies) } else { String::new() };
            say!(
                "{}: {} node(s) in {} kernel(s), estimated {} us, {:.1} %{at}{copies}",
                dir.join(&stage.file).display(),
                stage.nodes,
                stage.kernels,
                stage.microseconds,
                stage.share * 100.0
            );
            if let Some(why) = &stage.uneven {
                say!("  {why}");
            }
        }
        let Some(cut) = plan.cuts.get(k) else { continue };
        let values: Vec<String> = cut.values.iter().map(|v| format!("{} {}", v.name, v.ty)).collect();
        say!("  sends {} bytes: {}", cut.bytes, values.join(", "));
        say!("  {}", cut.why);
    }
    say!("{}", dir.join(PLAN).display());
    Ok(())
}

/// `--simulate`. `plan`: the file of stages that can be run.
fn simulate(args: &Args, load: Load, plan: Option<&Path>, options: &Options) -> Result<()> {
    let Some(links) = &args.simulate else { return Err(Error::user("give --simulate")) };
    let machines = Machines::read(links, &load.copies)?;
    let threads = args.threads.unwrap_or(1);
    let load = match plan.filter(|_| args.measure) {
        Some(plan) => {
            let options = Options { threads, ..options.clone() };
            let staged = progress("compiling", || Staged::open(plan, &options))?;
            let request = args.given.request(plan)?;
            let request = Request { random: Some(0), default_dim: Some(FREE_DIM), ..request };
            let (inputs, notes) = staged.prepare(&request)?;
            notes.iter().for_each(|line| note(format_args!("note: {line}")));
            load.with_times(&progress("measuring", || staged.measure(&inputs))?)?
        }
        None => load,
    };
    let predicted = predict(&load, &machines).map_err(|e| e.at(links.display()))?;
    let measured = args.measure.then_some(threads);
    let said = Simulated { load: &load, machines: &machines, predicted: &predicted, measured };
    match args.format.as_str() {
        "json" => say!("{:#}", said.json()),
        _ => say_report(&said.text(args.verbose))?,
    }
    Ok(())
}
