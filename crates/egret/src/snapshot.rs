//! Snapshot tests of passes on one's own models: what a pass left of a model, which rewrites it rests on and what it counts, as text
//! that is the same on every run and machine. It holds no paths, and weights by type and hash only.
//!
//! ```no_run
//! # fn assert_snapshot(_: String) {}
//! # fn main() -> egret::Result<()> {
//! let model = egret::snapshot::Model::open("model.onnx")?.dim("batch", 1)?;
//! assert_snapshot(model.after("fuse")?); // insta::assert_snapshot!
//! assert_snapshot(model.counts()?);
//! # Ok(())
//! # }
//! ```

use crate::error::{Error, Result};
use crate::options::Options;
use crate::pipeline;
use crate::source;
use egret_ir::{Graph, text};
use egret_onnx::ImportOptions;
use egret_opt::partition::tensor::Links;
use egret_trace::{Kind, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A model and how its passes are run.
#[derive(Clone, Debug)]
pub struct Model {
    from: From,
    import: ImportOptions,
    options: Options,
    workers: usize,
}

/// Where the graph comes from.
#[derive(Clone, Debug)]
enum From {
    File(PathBuf),
    Graph(Box<Graph>),
}

/// The same cost model on every machine.
fn options() -> Options {
    Options { target: "x86-64-v4".into(), ..Options::default() }
}

impl Model {
    /// A model file: `.onnx`, or `.egret`.
    ///
    /// # Errors
    /// There is no such file.
    pub fn open(path: impl AsRef<Path>) -> Result<Model> {
        let path = path.as_ref().to_owned();
        std::fs::metadata(&path).map_err(|e| Error::io("read", &path, &e))?;
        Ok(Model {
            from: From::File(path),
            import: ImportOptions::default(),
            options: options(),
            workers: 1,
        })
    }

    /// A graph as text IR; constants are spelt out, `splat(..)` or `random(..)`.
    ///
    /// # Errors
    /// The place where the text is no graph.
    pub fn parse(ir: &str) -> Result<Model> {
        let graph = text::parse(ir, &|_| None).map_err(|e| Error::user(e.to_string()))?;
        Ok(Model {
            from: From::Graph(Box::new(graph)),
            import: ImportOptions::default(),
            options: options(),
            workers: 1,
        })
    }

    /// Give a free dim a value.
    ///
    /// # Errors
    /// A negative value.
    pub fn dim(mut self, name: &str, value: i64) -> Result<Model> {
        if value < 0 {
            return Err(Error::user(format!("{name}={value} is no size")));
        }
        self.import.dims.insert(name.to_owned(), value);
        Ok(self)
    }

    /// Run only these passes, in this order.
    pub fn passes(mut self, names: &[&str]) -> Model {
        self.options.passes = Some(names.iter().map(|n| (*n).to_owned()).collect());
        self
    }

    /// What rules may change at most: `exact`, `reassoc`, `approx` or `lossy`.
    ///
    /// # Errors
    /// There is no such tier.
    pub fn tier(mut self, name: &str) -> Result<Model> {
        self.options.tier = name.parse().map_err(Error::user)?;
        Ok(self)
    }

    /// Split the tensors of the optimised graph over so many workers, whatever that gains.
    pub fn workers(mut self, workers: usize) -> Model {
        self.workers = workers;
        self
    }

    /// Choose by what nodes cost on this target, as `egret doctor` names them, instead of x86-64-v4.
    pub fn target(mut self, name: &str) -> Model {
        self.options.target = name.to_owned();
        self
    }

    /// Add rewrite rules, as in a rule file; `file` is what they are said to stand in.
    ///
    /// # Errors
    /// The first line that is no rule.
    pub fn rules(mut self, rules: &str, file: &str) -> Result<Model> {
        self.options.add_rules(rules, file)?;
        Ok(self)
    }

    /// The graph after a pass, as text IR.
    ///
    /// # Errors
    /// The model cannot be imported, or there is no such pass.
    pub fn after(&self, pass: &str) -> Result<String> {
        Ok(text::print(&self.run(Some(pass), false)?.0))
    }

    /// The graph after all passes, as text IR.
    ///
    /// # Errors
    /// As [`Model::after`].
    pub fn optimized(&self) -> Result<String> {
        Ok(text::print(&self.run(None, false)?.0))
    }

    /// The kernels of the optimised graph and their calls, as Loop IR text.
    ///
    /// # Errors
    /// As [`Model::after`]; a free dim, or an operator that cannot be compiled.
    pub fn lowered(&self) -> Result<String> {
        Ok(pipeline::lower(self.graph()?, &self.options, &BTreeMap::new())?.text())
    }

    /// The rewrites that the optimised graph rests on: pass, rule and ONNX nodes, one a line.
    ///
    /// # Errors
    /// As [`Model::after`].
    pub fn rewrites(&self) -> Result<String> {
        let lines = self.run(None, false)?.1.events.into_iter().filter_map(|e| match e.kind {
            Some(Kind::Rewrite(r)) => Some(line(&r.pass, &r.rule, &r.sources)),
            _ => None,
        });
        Ok(lines.collect())
    }

    /// The names of the rules that the proof of the optimised graph has steps of, in order: also of those whose results other
    /// rules took on.
    ///
    /// # Errors
    /// As [`Model::after`].
    pub fn applied(&self) -> Result<Vec<String>> {
        let events = self.run(None, true)?.1.events.into_iter();
        let mut names: Vec<String> = events
            .flat_map(|e| match e.kind {
                Some(Kind::Proof(p)) => p.steps.into_iter().map(|s| s.rule).collect(),
                Some(Kind::Rewrite(r)) => vec![r.rule],
                _ => vec![],
            })
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The rules that nearly applied and what stopped them: pass, rule, ONNX nodes and reason, one a line. Rules of which missing
    /// them is no news (`quiet`) are left out.
    ///
    /// # Errors
    /// As [`Model::after`].
    pub fn missed(&self) -> Result<String> {
        let quiet: BTreeSet<&str> = egret_opt::rules::shipped()
            .iter()
            .chain(&self.options.rules)
            .filter(|r| r.quiet)
            .map(|r| r.name.as_str())
            .collect();
        let lines = self.run(None, true)?.1.events.into_iter().filter_map(|e| match e.kind {
            Some(Kind::Missed(m)) if !quiet.contains(m.rule.as_str()) => {
                Some(format!("{}: {}\n", line(&m.pass, &m.rule, &m.sources).trim_end(), m.reason))
            }
            _ => None,
        });
        Ok(lines.collect())
    }

    /// How many nodes of each operation the optimised graph has, one operation a line, in the order of their names.
    ///
    /// # Errors
    /// As [`Model::after`].
    pub fn counts(&self) -> Result<String> {
        let graph = self.run(None, false)?.0;
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for n in graph.node_ids() {
            *counts.entry(graph.node(n).op.name()).or_default() += 1;
        }
        Ok(counts.iter().fold(String::new(), |mut out, (op, n)| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{op} {n}");
            out
        }))
    }

    fn graph(&self) -> Result<Graph> {
        match &self.from {
            From::File(path) => source::graph(path, &self.import),
            From::Graph(graph) => Ok((**graph).clone()),
        }
    }

    fn run(&self, after: Option<&str>, explain: bool) -> Result<(Graph, Trace)> {
        let mut trace = Trace::new();
        let options = Options { explain, ..self.options.clone() };
        let mut graph = pipeline::optimize(self.graph()?, &options, after, &mut trace)?;
        if self.workers > 1 {
            graph =
                pipeline::split_tensors(&graph, self.workers, &Links::FREE, &options, &mut trace)?.graph;
        }
        Ok((graph, trace))
    }
}

fn line(pass: &str, rule: &str, sources: &[String]) -> String {
    let at = if sources.is_empty() { String::new() } else { format!(" at {}", sources.join(", ")) };
    format!("{pass}: {rule}{at}\n")
}
