//! Samples: values for the inputs of a model, read one sample after the other, so that memory does not grow with their number.
//!
//! An array holds its samples along the first axis; the others of its file either hold as many, or one that serves them all. What is
//! read, by [`Samples::open`]:
//!
//! | path | samples |
//! |---|---|
//! | `.npz` | arrays with the names of the inputs |
//! | `.npy` | an array for the only input |
//! | a folder of these | those of each file, in the order of names; files that are called like inputs belong together |
//! | a test case, or one of its data sets | one of each `test_data_set_*` |
//!
//! An array `labels` beside the inputs holds the right class of each sample; the model does not see it.

use crate::cases::inputs_in;
use crate::error::{Error, Result};
use crate::frontend::DeclaredInput;
use crate::inputs::{extension, typed, unknown};
use crate::npz::{self, Archive, Rows};
use egret_ir::{DType, Element, Shape, Tensor, TensorType, Type, Value};
use half::{bf16, f16};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Values for the inputs of a model, by name.
pub type Sample = BTreeMap<String, Value>;

/// The array that holds the right class of each sample.
const LABELS: &str = "labels";

/// Samples on disk.
#[derive(Clone)]
pub struct Samples {
    declared: Vec<DeclaredInput>,
    sets: Vec<Set>,
    turn: Turn,
    /// Whether `labels` is no input of the model.
    labelled: bool,
    /// Whether each number must be finite.
    finite: bool,
}

/// What is done with a sample: its number, its values, and its label.
pub type Labelled<'a> = dyn FnMut(usize, &Sample, Option<i64>) -> Result<()> + 'a;

/// Which samples are given.
#[derive(Copy, Clone)]
enum Turn {
    All,
    /// The last of so many neighbours.
    Last(usize),
    /// The others.
    Others(usize),
}

impl Turn {
    fn has(self, number: usize) -> bool {
        match self {
            Turn::All => true,
            Turn::Last(of) => number % of == of - 1,
            Turn::Others(of) => number % of != of - 1,
        }
    }
}

/// Samples that are read together.
#[derive(Clone)]
enum Set {
    /// Arrays, and how many samples they hold.
    Arrays(Vec<Array>, usize),
    /// A data set of a test case.
    Folder(PathBuf),
}

/// An array for an input.
#[derive(Clone)]
struct Array {
    file: PathBuf,
    /// Its name in a `.npz` file.
    entry: Option<String>,
    input: String,
    /// The shape of a sample.
    shape: Vec<usize>,
    samples: usize,
}

impl Samples {
    /// The samples in files and folders. Only headers are read.
    ///
    /// # Errors
    /// There is none; a file that cannot be read; an array that no input has, or with another number of axes; an input without values.
    pub fn open(paths: &[PathBuf], declared: &[DeclaredInput]) -> Result<Samples> {
        let labelled = !declared.iter().any(|d| d.name == LABELS);
        let mut out =
            Samples { declared: declared.to_vec(), sets: vec![], turn: Turn::All, labelled, finite: false };
        if labelled {
            let ty = Type::Tensor(TensorType::new(DType::I64, Shape::new()));
            out.declared.push(DeclaredInput { name: LABELS.into(), has_default: true, ty, rank: Some(1) });
        }
        for path in paths {
            let before = out.sets.len();
            out.add(path)?;
            if out.sets.len() == before {
                return Err(Error::user(format!(
                    "{}: no samples in it; data are .npz and .npy files, folders of them, and test cases",
                    path.display()
                )));
            }
        }
        if out.is_empty() {
            return Err(Error::user("no sample is given"));
        }
        Ok(out)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let all = self.sets.iter().map(|s| if let Set::Arrays(_, n) = s { *n } else { 1 }).sum();
        match self.turn {
            Turn::All => all,
            Turn::Last(of) => all / of,
            Turn::Others(of) => all - all / of,
        }
    }

    /// The same samples, of which one that holds NaN or an infinity is an error when it is read: what is measured on it, or fitted to it,
    /// would be no number either.
    pub fn finite(self) -> Samples {
        Samples { finite: true, ..self }
    }

    /// Two parts: the last of every `of` samples, at least two, and the others before it.
    pub fn split(&self, of: usize) -> (Samples, Samples) {
        let part = |turn| Samples { turn, ..self.clone() };
        (part(Turn::Others(of.max(2))), part(Turn::Last(of.max(2))))
    }

    /// The inputs that some sample has a value for.
    ///
    /// # Errors
    /// A data set of a test case that cannot be read.
    pub fn given(&self) -> Result<BTreeSet<String>> {
        let mut out = BTreeSet::new();
        for set in &self.sets {
            match set {
                Set::Arrays(list, _) => {
                    out.extend(list.iter().map(|a| &a.input).filter(|n| !self.is_label(n)).cloned());
                }
                Set::Folder(dir) => out.extend(inputs_in(dir, &self.declared)?.into_keys()),
            }
        }
        Ok(out)
    }

    /// Whether every sample has a label.
    pub fn has_labels(&self) -> bool {
        let labels = |a: &Array| self.is_label(&a.input);
        self.sets.iter().all(|s| matches!(s, Set::Arrays(list, _) if list.iter().any(labels)))
    }

    fn is_label(&self, name: &str) -> bool {
        self.labelled && name == LABELS
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return self.add_folder(path);
        }
        if !path.exists() {
            return Err(Error::user(format!("{} does not exist", path.display())));
        }
        let set = match extension(path).as_str() {
            "npz" => {
                let mut archive = npz::archive(path)?;
                npz::names(&mut archive)
                    .into_iter()
                    .map(|entry| self.array(path, Some(entry.clone()), &entry))
                    .collect::<Result<Vec<_>>>()?
            }
            "npy" => vec![self.array(path, None, &self.only(path)?)?],
            _ => {
                return Err(Error::user(format!(
                    "{}: data are .npz and .npy files, folders of them, and test cases",
                    path.display()
                )));
            }
        };
        self.add_arrays(path, set)
    }

    /// The name of the only input that must be given.
    fn only(&self, path: &Path) -> Result<String> {
        let mut needed = self.declared.iter().filter(|d| !d.has_default);
        match (needed.next(), needed.next()) {
            (Some(only), None) => Ok(only.name.clone()),
            (None, _) => Err(Error::user(format!(
                "{} holds one array, and all inputs have values already; give each once",
                path.display()
            ))),
            _ => Err(Error::user(format!(
                "{} holds one array, but the model has {} inputs; save a .npz file with their names",
                path.display(),
                self.declared.iter().filter(|d| !self.is_label(&d.name)).count()
            ))),
        }
    }

    fn add_folder(&mut self, dir: &Path) -> Result<()> {
        let mut entries: Vec<PathBuf> = vec![];
        for entry in std::fs::read_dir(dir).map_err(|e| Error::io("list", dir, &e))? {
            entries.push(entry.map_err(|e| Error::io("list", dir, &e))?.path());
        }
        entries.sort();
        if dir.join("input_0.pb").is_file() {
            self.sets.push(Set::Folder(dir.to_owned()));
            return Ok(());
        }
        let stem =
            |p: &PathBuf| p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let arrays: Vec<&PathBuf> = entries.iter().filter(|p| extension(p) == "npy").collect();
        let named = |p: &PathBuf| self.declared.iter().any(|d| d.name == stem(p));
        if !arrays.is_empty() && arrays.iter().all(|p| named(p)) {
            let set = arrays.iter().map(|p| self.array(p, None, &stem(p))).collect::<Result<_>>()?;
            return self.add_arrays(dir, set);
        }
        let mut sets: Vec<(usize, &PathBuf)> = vec![];
        for path in &entries {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(n) = name.strip_prefix("test_data_set_").and_then(|n| n.parse().ok()) {
                sets.push((n, path));
            } else if path.is_dir() || matches!(extension(path).as_str(), "npy" | "npz") {
                self.add(path)?;
            }
        }
        sets.sort();
        self.sets.extend(sets.into_iter().map(|(_, path)| Set::Folder(path.clone())));
        Ok(())
    }

    fn add_arrays(&mut self, path: &Path, set: Vec<Array>) -> Result<()> {
        let most = set.iter().map(|a| a.samples).max().unwrap_or(0);
        if let Some(uneven) = set.iter().find(|a| a.samples != most && a.samples != 1) {
            return Err(Error::user(format!(
                "{}: `{}` holds {} samples along its first axis, another array {most}",
                path.display(),
                uneven.input,
                uneven.samples
            )));
        }
        if most == 0 {
            return Err(Error::user(format!("{} holds no samples: its first axis is 0", path.display())));
        }
        let missing = |d: &&DeclaredInput| !d.has_default && !set.iter().any(|a| a.input == d.name);
        if let Some(d) = self.declared.iter().find(missing) {
            return Err(Error::user(format!("{}: no array for the input `{}`", path.display(), d.name)));
        }
        self.sets.push(Set::Arrays(set, most));
        Ok(())
    }

    /// The input of a name; a message that there is none does not name labels as one.
    fn find(&self, name: &str) -> Result<&DeclaredInput> {
        let found = self.declared.iter().find(|d| d.name == name);
        found.ok_or_else(|| unknown(self.declared.iter().filter(|d| !self.is_label(&d.name)), name))
    }

    /// An array, its header read.
    fn array(&self, file: &Path, entry: Option<String>, input: &str) -> Result<Array> {
        let declared = self.find(input).map_err(|e| e.at(file.display()))?;
        let whole = with_rows(file, entry.as_deref(), |rows| Ok(rows.shape().to_vec()))?;
        let rank = declared.rank.unwrap_or(whole.len());
        let (samples, shape) = match whole.len() {
            n if n == rank && n > 0 => (whole[0], [&[1], &whole[1..]].concat()),
            n if n == rank => (1, vec![]),
            n if n == rank + 1 => (whole[0], whole[1..].to_vec()),
            n if n + 1 == rank => (1, [&[1], &whole[..]].concat()),
            _ => {
                return Err(Error::user(format!(
                    "{}: the array for the input `{input}` has the shape {whole:?}, but the input has {rank} axes, the first for samples",
                    file.display()
                )));
            }
        };
        Ok(Array { file: file.to_owned(), entry, input: input.to_owned(), shape, samples })
    }

    /// Give every sample to `work`, with its number.
    ///
    /// # Errors
    /// A file that is not as its header says; what `work` says.
    pub fn each(&self, work: &mut dyn FnMut(usize, &Sample) -> Result<()>) -> Result<()> {
        self.each_labelled(&mut |number, sample, _| work(number, sample))
    }

    /// As [`Samples::each`], with the label of each sample that has one.
    ///
    /// # Errors
    /// As of [`Samples::each`].
    pub fn each_labelled(&self, work: &mut Labelled<'_>) -> Result<()> {
        let (mut at, mut number) = (0, 0);
        let mut give = |sample: &Sample, label| {
            at += 1;
            if !self.turn.has(at - 1) {
                return Ok(());
            }
            number += 1;
            work(number - 1, sample, label)
        };
        for set in &self.sets {
            match set {
                Set::Folder(dir) => {
                    let sample = inputs_in(dir, &self.declared)?;
                    self.complete(dir, &sample)?;
                    for (name, value) in sample.iter().filter(|_| self.finite) {
                        finite(value).map_err(|e| bad(dir, name, format!("the sample {e}")))?;
                    }
                    give(&sample, None)?;
                }
                Set::Arrays(arrays, count) => {
                    let mut archives: Vec<Option<Archive>> = vec![];
                    for a in arrays {
                        archives.push(a.entry.as_ref().map(|_| npz::archive(&a.file)).transpose()?);
                    }
                    let mut rows = vec![];
                    for (a, archive) in arrays.iter().zip(&mut archives) {
                        rows.push(match (archive, &a.entry) {
                            (Some(archive), Some(entry)) => npz::rows(archive, &a.file, entry)?,
                            _ => of_file(&a.file)?,
                        });
                    }
                    let (mut sample, mut label) = (Sample::new(), None);
                    for k in 0..*count {
                        for (a, rows) in arrays.iter().zip(&mut rows) {
                            if k > 0 && a.samples == 1 {
                                continue;
                            }
                            let value = rows.take(&a.shape).map_err(|e| bad(&a.file, &a.input, e))?;
                            if self.is_label(&a.input) {
                                label = class(&value).map_err(|e| bad(&a.file, &a.input, e))?;
                                continue;
                            }
                            let value = self.value(a, value)?;
                            if self.finite {
                                finite(&value)
                                    .map_err(|e| bad(&a.file, &a.input, format!("sample {k} {e}")))?;
                            }
                            sample.insert(a.input.clone(), value);
                        }
                        give(&sample, label)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn value(&self, a: &Array, value: Tensor) -> Result<Value> {
        typed(value.into(), self.find(&a.input)?).map_err(|e| e.at(a.file.display()))
    }

    /// A data set must have every input.
    fn complete(&self, dir: &Path, sample: &Sample) -> Result<()> {
        match self.declared.iter().find(|d| !d.has_default && !sample.contains_key(&d.name)) {
            None => Ok(()),
            Some(d) => Err(Error::user(format!("{}: no value for the input `{}`", dir.display(), d.name))),
        }
    }
}

/// The class that a label of any integer type names.
fn class(label: &Tensor) -> std::result::Result<Option<i64>, String> {
    fn first<T: Element + TryInto<i64>>(label: &Tensor) -> Option<Option<i64>> {
        label.data::<T>().first().map(|&v| v.try_into().ok())
    }
    let found = match label.dtype() {
        DType::I8 => first::<i8>(label),
        DType::I16 => first::<i16>(label),
        DType::I32 => first::<i32>(label),
        DType::I64 => first::<i64>(label),
        DType::U8 => first::<u8>(label),
        DType::U16 => first::<u16>(label),
        DType::U32 => first::<u32>(label),
        DType::U64 => first::<u64>(label),
        other => return Err(format!("a label is the number of a class, but these are {other}")),
    };
    match found {
        Some(None) => Err("a label is beyond the number of any class".into()),
        Some(class) => Ok(class),
        None => Ok(None),
    }
}

/// That a value holds finite numbers only; a mask is as good with the least finite number.
fn finite(value: &Value) -> std::result::Result<(), String> {
    let Some(t) = value.as_tensor() else { return Ok(()) };
    let found: Option<f64> = match t.dtype() {
        DType::F32 => t.data::<f32>().iter().find(|v| !v.is_finite()).map(|&v| v.into()),
        DType::F64 => t.data::<f64>().iter().find(|v| !v.is_finite()).copied(),
        DType::F16 => t.data::<f16>().iter().find(|v| !v.is_finite()).map(|&v| v.into()),
        DType::BF16 => t.data::<bf16>().iter().find(|v| !v.is_finite()).map(|&v| v.into()),
        _ => None,
    };
    match found {
        None => Ok(()),
        Some(v) if v.is_nan() => Err("holds NaN: samples are finite numbers".into()),
        Some(v) => {
            Err(format!("holds {v}: samples are finite numbers; for a mask, write -3e38 or the like"))
        }
    }
}

fn bad(file: &Path, input: &str, e: String) -> Error {
    Error::user(format!("{}: `{input}`: {e}", file.display()))
}

fn of_file(file: &Path) -> Result<Rows<Box<dyn Read + 'static>>> {
    let open = File::open(file).map_err(|e| Error::io("read", file, &e))?;
    Rows::new(Box::new(BufReader::new(open)) as Box<dyn Read>)
        .map_err(|e| Error::user(format!("{}: {e}", file.display())))
}

fn with_rows<T>(
    file: &Path,
    entry: Option<&str>,
    work: impl FnOnce(&Rows<Box<dyn Read + '_>>) -> Result<T>,
) -> Result<T> {
    match entry {
        None => work(&of_file(file)?),
        Some(name) => {
            let mut archive = npz::archive(file)?;
            let rows = npz::rows(&mut archive, file, name)?;
            work(&rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, rank: usize) -> DeclaredInput {
        let ty = Type::Tensor(TensorType::new(DType::F32, Shape::new()));
        DeclaredInput { name: name.into(), has_default: false, ty, rank: Some(rank) }
    }

    fn array(shape: &[usize], from: f32) -> Tensor {
        let count: usize = shape.iter().product();
        Tensor::new(shape, (0..count).map(|i| from + i as f32).collect())
    }

    fn save(path: &Path, arrays: &[(&str, Tensor)]) -> PathBuf {
        let arrays: Vec<(String, Tensor)> = arrays.iter().map(|(n, t)| ((*n).into(), t.clone())).collect();
        npz::write(path, &arrays).unwrap();
        path.to_owned()
    }

    fn all(paths: &[PathBuf], declared: &[DeclaredInput]) -> Vec<Sample> {
        let samples = Samples::open(paths, declared).unwrap();
        let mut out = vec![];
        samples
            .each(&mut |k, sample| {
                assert_eq!(k, out.len());
                out.push(sample.clone());
                Ok(())
            })
            .unwrap();
        assert_eq!(out.len(), samples.len());
        out
    }

    #[test]
    fn samples_stand_along_the_first_axis() {
        let dir = tempfile::tempdir().unwrap();
        let one = |k: f32| Value::from(Tensor::new(&[1, 2], vec![2.0 * k, 2.0 * k + 1.0]));
        let x = [input("x", 2)];
        let file = save(&dir.path().join("a.npy"), &[("x", array(&[3, 2], 0.0))]);
        let got = all(std::slice::from_ref(&file), &x);
        assert_eq!(got.iter().map(|s| s["x"].clone()).collect::<Vec<_>>(), [one(0.0), one(1.0), one(2.0)]);
        // A folder: all its files, and one sample without the axis.
        save(&dir.path().join("b.npy"), &[("x", array(&[2], 6.0))]);
        let got = all(&[dir.path().to_owned()], &x);
        assert_eq!((got.len(), got[3]["x"].clone()), (4, one(3.0)));
        // Where the input has no axis for samples, they lose it.
        let got = all(&[file], &[input("x", 1)]);
        assert_eq!(got[2]["x"], Tensor::new(&[2], vec![4f32, 5.0]).into());
    }

    #[test]
    fn inputs_of_one_sample_serve_all() {
        let dir = tempfile::tempdir().unwrap();
        let arrays = [("rate", array(&[1], 9.0)), ("x", array(&[2, 1], 0.0))];
        let declared = [input("x", 2), input("rate", 1)];
        let npz = save(&dir.path().join("a.npz"), &arrays);
        let got = all(&[npz], &declared);
        assert_eq!((got.len(), &got[1]["rate"]), (2, &Tensor::new(&[1], vec![9f32]).into()));
        assert_eq!(got[1]["x"], Tensor::new(&[1, 1], vec![1f32]).into());
        // Files with the names of inputs belong together.
        let folder = dir.path().join("f");
        std::fs::create_dir(&folder).unwrap();
        for (name, tensor) in &arrays {
            save(&folder.join(format!("{name}.npy")), &[(name, tensor.clone())]);
        }
        assert_eq!(all(&[folder], &declared), got);
    }

    #[test]
    fn labels_are_of_any_integer_type() {
        let dir = tempfile::tempdir().unwrap();
        let labels = |tensor: Tensor| {
            let file = save(&dir.path().join("a.npz"), &[("x", array(&[2, 1], 0.0)), ("labels", tensor)]);
            let samples = Samples::open(&[file], &[input("x", 2)]).unwrap();
            assert!(samples.has_labels());
            let mut out = vec![];
            let read = samples.each_labelled(&mut |_, _, label| {
                out.push(label);
                Ok(())
            });
            read.map(|()| out).map_err(|e| e.to_string())
        };
        let both = Ok(vec![Some(3), Some(7)]);
        assert_eq!(labels(Tensor::new(&[2], vec![3i8, 7])), both);
        assert_eq!(labels(Tensor::new(&[2], vec![3i16, 7])), both);
        assert_eq!(labels(Tensor::new(&[2], vec![3i32, 7])), both);
        assert_eq!(labels(Tensor::new(&[2, 1], vec![3i64, 7])), both);
        assert_eq!(labels(Tensor::new(&[2], vec![3u8, 7])), both);
        assert_eq!(labels(Tensor::new(&[2], vec![3u16, 7])), both);
        assert_eq!(labels(Tensor::new(&[2], vec![3u32, 7])), both);
        assert_eq!(labels(Tensor::new(&[2], vec![3u64, 7])), both);
        let floats = labels(Tensor::new(&[2], vec![3f32, 7.0])).unwrap_err();
        assert!(
            floats.contains("`labels`: a label is the number of a class, but these are f32"),
            "{floats}"
        );
        let beyond = labels(Tensor::new(&[2], vec![3u64, u64::MAX])).unwrap_err();
        assert!(beyond.contains("beyond the number of any class"), "{beyond}");
    }

    #[test]
    fn samples_that_must_be_finite_are() {
        let dir = tempfile::tempdir().unwrap();
        for (number, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            let x = Tensor::new(&[3, 2], vec![0.0, 1.0, 2.0, 3.0, number, 5.0]);
            let file = save(&dir.path().join("a.npz"), &[("x", x)]);
            let samples = Samples::open(std::slice::from_ref(&file), &[input("x", 2)]).unwrap();
            samples.each(&mut |_, _| Ok(())).expect("what runs a model may take any number");
            let mut seen = 0;
            let told = samples.finite().each(&mut |_, _| {
                seen += 1;
                Ok(())
            });
            let told = told.unwrap_err().to_string();
            assert!(told.starts_with(&format!("{}: `x`: sample 2 holds {word}", file.display())), "{told}");
            assert_eq!(seen, 2);
        }
    }

    #[test]
    fn what_is_no_data_of_the_model_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path, declared: &[DeclaredInput], parts: &[&str]| {
            let e = Samples::open(&[path.to_owned()], declared).map(|_| ()).unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        };
        let at = |name: &str| dir.path().join(name);
        let x = [input("x", 2)];
        let two = [input("x", 2), input("y", 2)];
        refused(&at("none.npz"), &x, &["does not exist"]);
        refused(&save(&at("a.npz"), &[("z", array(&[3, 2], 0.0))]), &x, &["no input `z`", "`x`"]);
        refused(&save(&at("b.npz"), &[("x", array(&[0, 2], 0.0))]), &x, &["no samples"]);
        refused(&save(&at("c.npz"), &[("x", array(&[2, 2, 2, 2], 0.0))]), &x, &["[2, 2, 2, 2]", "2 axes"]);
        refused(&save(&at("d.npz"), &[("x", array(&[3, 2], 0.0))]), &two, &["no array for the input `y`"]);
        let uneven = [("x", array(&[3, 2], 0.0)), ("y", array(&[2, 2], 0.0))];
        refused(&save(&at("e.npz"), &uneven), &two, &["2 samples", "3"]);
        refused(&save(&at("f.npy"), &[("x", array(&[3, 2], 0.0))]), &two, &["2 inputs"]);
        std::fs::create_dir(at("empty")).unwrap();
        refused(&at("empty"), &x, &["no samples in it"]);
        std::fs::write(at("g.txt"), "x").unwrap();
        refused(&at("g.txt"), &x, &["data are .npz"]);
        assert!(Samples::open(&[], &x).is_err());
    }
}
