//! ONNX test cases: folders with `model.onnx`, `tolerance.json` and `test_data_set_<n>/{input,output}_<i>.pb`.

use crate::compare::{Tolerance, compare, compare_types};
use crate::engine::{Engine, Executable};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::frontend::{self, DeclaredInput, Free, ModelFile};
use crate::limits;
use crate::options::Options;
use egret_ir::{Graph, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A test case on disk.
#[derive(Clone, Debug)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
}

/// The data of one `test_data_set_<n>`.
pub struct DataSet {
    /// Inputs by name.
    pub inputs: BTreeMap<String, Value>,
    /// Expected outputs, in order.
    pub expected: Vec<Value>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Every output of every data set is as expected.
    Passed,
    /// Not so, or it cannot be told.
    Failed(ErrorKind, String),
}

impl Case {
    /// The case in a folder, if it is one.
    pub fn open(dir: &Path) -> Option<Case> {
        let name = files::folder_name(dir)?;
        dir.join("model.onnx").is_file().then(|| Case { name, dir: dir.to_owned() })
    }

    /// Every case in or below a folder, sorted by path.
    pub fn find(root: &Path) -> Result<Vec<Case>> {
        let mut out = vec![];
        let mut work = vec![root.to_owned()];
        while let Some(dir) = work.pop() {
            if let Some(case) = Case::open(&dir) {
                out.push(case);
                continue;
            }
            for entry in std::fs::read_dir(&dir).map_err(|e| Error::io("list", &dir, &e))? {
                let entry = entry.map_err(|e| Error::io("list", &dir, &e))?;
                // Links are not followed: they may lead in a circle.
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    work.push(entry.path());
                }
            }
        }
        if out.is_empty() {
            return Err(Error::user(format!(
                "no test case (a folder with model.onnx) in {}",
                root.display()
            )));
        }
        out.sort_by(|a, b| a.dir.cmp(&b.dir));
        Ok(out)
    }

    /// The model file.
    pub fn model(&self) -> PathBuf {
        self.dir.join("model.onnx")
    }

    /// The tolerance in `tolerance.json`, or the default.
    pub fn tolerance(&self) -> Result<Tolerance> {
        let path = self.dir.join("tolerance.json");
        let mut out = Tolerance::default();
        if !path.is_file() {
            return Ok(out);
        }
        let text = files::read_text(&path, "JSON, e.g. {\"rtol\": 1e-3}")?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| Error::user(format!("{}: {e}", path.display())))?;
        for (key, slot) in [("rtol", &mut out.rtol), ("atol", &mut out.atol)] {
            if let Some(v) = json.get(key) {
                *slot = v
                    .as_f64()
                    .ok_or_else(|| Error::user(format!("{}: `{key}` is no number", path.display())))?;
            }
        }
        Ok(out)
    }

    /// Every data set, in order.
    pub fn data_sets(&self) -> Result<Vec<DataSet>> {
        self.sets_of(&ModelFile::open_lean(&self.model())?)
    }

    fn sets_of(&self, model: &ModelFile) -> Result<Vec<DataSet>> {
        let declared = model.declared()?;
        let outputs: Vec<DeclaredInput> = declared.outputs.into_iter().collect::<Result<_>>()?;
        let mut out = vec![];
        for n in 0.. {
            let dir = self.dir.join(format!("test_data_set_{n}"));
            if !dir.is_dir() {
                break;
            }
            let expected = read_all(&dir, "output", &outputs)?;
            if expected.is_empty() {
                return Err(Error::user(format!(
                    "{} has no output_0.pb: there is nothing to compare with",
                    dir.display()
                )));
            }
            out.push(DataSet { inputs: inputs_in(&dir, &declared.inputs)?, expected });
        }
        if out.is_empty() {
            return Err(Error::user(format!("{} has no test_data_set_0", self.dir.display())));
        }
        Ok(out)
    }

    /// The folder of the first data set, whether it is there or not.
    pub fn first_set(&self) -> PathBuf {
        self.dir.join("test_data_set_0")
    }

    /// Files of its first inputs.
    pub fn input_files(&self) -> Vec<PathBuf> {
        let file = |i| self.first_set().join(format!("input_{i}.pb"));
        (0usize..).map(file).take_while(|f| f.is_file()).collect()
    }

    /// Run the case on an engine.
    pub fn run(&self, engine: Engine, options: &Options) -> Result<()> {
        let tolerance = self.tolerance()?;
        let model = ModelFile::open_lean(&self.model())?;
        let sets = self.sets_of(&model)?;
        for (n, set) in sets.iter().enumerate() {
            let place = |e: Error| if sets.len() > 1 { e.at(format!("data set {n}")) } else { e };
            run_set(&model, engine, options, set, tolerance).map_err(place)?;
        }
        Ok(())
    }
}

/// The inputs of a data set, by name; those whose file is missing are left out.
pub(crate) fn inputs_in(dir: &Path, declared: &[DeclaredInput]) -> Result<BTreeMap<String, Value>> {
    // Files stand for the inputs without a default, in order; where there are more files, for all inputs.
    let needed: Vec<DeclaredInput> = declared.iter().filter(|d| !d.has_default).cloned().collect();
    let more = dir.join(format!("input_{}.pb", needed.len())).is_file();
    let declared = if more { declared.to_vec() } else { needed };
    let inputs = read_all(dir, "input", &declared)?;
    Ok(declared.into_iter().map(|d| d.name).zip(inputs).collect())
}

fn read_all(dir: &Path, what: &str, declared: &[DeclaredInput]) -> Result<Vec<Value>> {
    let mut out = vec![];
    for (i, d) in declared.iter().enumerate() {
        let path = dir.join(format!("{what}_{i}.pb"));
        if !path.is_file() {
            break;
        }
        out.push(frontend::read_value_pb(&path, &d.ty)?);
    }
    Ok(out)
}

fn run_set(
    model: &ModelFile,
    engine: Engine,
    options: &Options,
    set: &DataSet,
    tolerance: Tolerance,
) -> Result<()> {
    let (mut graph, imported) = match engine {
        Engine::JitFree => model.import_with_free(Free::First, &options.dims, &set.inputs)?,
        Engine::JitSymbolic => model.import_with_free(Free::All, &options.dims, &set.inputs)?,
        _ => model.import_for_inputs(&options.dims, &set.inputs, BTreeMap::new())?,
    };
    limits::set(&mut graph, &options.at_most, &model.known_dims(&imported))?;
    let random = random_outputs(&graph);
    let inputs = ordered_inputs(&graph, &set.inputs)?;
    let names = graph.output_names().to_vec();
    let results = Executable::new(graph, engine, options, &imported.bind)?.run(&inputs)?;
    if results.len() < set.expected.len() {
        return Err(Error::differs(format!("{} outputs instead of {}", results.len(), set.expected.len())));
    }
    for (i, (expected, got)) in set.expected.iter().zip(&results).enumerate() {
        let same = if random[i] { compare_types(expected, got) } else { compare(expected, got, tolerance) };
        same.map_err(|m| Error::differs(format!("output `{}`: {m}", names[i])))?;
    }
    Ok(())
}

/// The values of a graph's inputs, by name, in its order.
pub fn ordered_inputs(graph: &Graph, inputs: &BTreeMap<String, Value>) -> Result<Vec<Value>> {
    graph
        .inputs()
        .iter()
        .map(|&v| {
            let name = &graph.value(v).name;
            inputs.get(name).cloned().ok_or_else(|| Error::user(format!("no value for the input `{name}`")))
        })
        .collect()
}

/// Which outputs depend on a random generator: only their types can be compared.
pub fn random_outputs(graph: &Graph) -> Vec<bool> {
    fn random(graph: &Graph) -> BTreeSet<egret_ir::ValueId> {
        let mut out = BTreeSet::new();
        for n in graph.topological().unwrap_or_default() {
            let node = graph.node(n);
            if node.op.is_random()
                || node.operands.iter().flatten().any(|v| out.contains(v))
                || node.regions.iter().any(|r| !random(r).is_empty())
            {
                out.extend(node.results.iter().copied());
            }
        }
        out
    }
    let random = random(graph);
    graph.outputs().iter().map(|v| random.contains(v)).collect()
}
