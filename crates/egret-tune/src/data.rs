//! Data: samples of the inputs, and what the model is to give for them. All of it is in memory, as samples are read in another order in
//! each epoch.

use egret::frontend::DeclaredInput;
use egret::ir::{DType, Tensor, Value};
use egret::samples::Sample;
use egret::{Error, Result, inputs, npz};
use std::collections::BTreeMap;
use std::path::Path;

/// Samples.
pub struct Data {
    /// How the messages call them.
    place: String,
    /// The same of the labels, which may have a file of their own.
    labels_place: String,
    /// By input: the array, and whether it is one sample that serves all.
    arrays: BTreeMap<String, (Tensor, bool)>,
    /// The array that is no input, or that of a file of its own.
    pub target: Option<Tensor>,
    /// How many there are.
    pub samples: usize,
}

impl Data {
    /// The arrays of a file, and the target of another.
    ///
    /// # Errors
    /// A file that cannot be read; arrays that are not those of the inputs, that have other types or other numbers of samples.
    pub fn read(path: &Path, labels: Option<&Path>, declared: &[DeclaredInput]) -> Result<Data> {
        let place = path.display().to_string();
        let bad = |text: String| Error::user(format!("{place}: {text}"));
        if !path.exists() {
            return Err(bad("does not exist".into()));
        }
        let needed: Vec<&DeclaredInput> = declared.iter().filter(|d| !d.has_default).collect();
        let mut found = match path.extension().and_then(|e| e.to_str()) {
            Some("npz") => npz::read_npz(path)?,
            Some("npy") => match needed[..] {
                [only] => BTreeMap::from([(only.name.clone(), npz::read_npy(path)?)]),
                _ => {
                    let n = needed.len();
                    return Err(bad(format!(
                        "it holds one array, but the model has {n} inputs; save a .npz file with their names"
                    )));
                }
            },
            _ => {
                return Err(
                    bad("data are a .npz file with the names of the inputs, or a .npy file".into()),
                );
            }
        };
        let mut arrays = BTreeMap::new();
        for input in declared {
            let Some(array) = found.remove(&input.name) else {
                if input.has_default {
                    continue;
                }
                return Err(bad(format!("no array for the input `{}`", input.name)));
            };
            let Value::Tensor(array) = inputs::typed(array.into(), input).map_err(|e| e.at(&place))? else {
                return Err(bad(format!("the input `{}` is no tensor", input.name)));
            };
            let shape = array.shape();
            if input.rank.is_some_and(|r| r != shape.len() && r > 0) || shape.is_empty() {
                return Err(bad(format!(
                    "the array for the input `{}` has the shape {shape:?}, but the input has {} axes, the first for samples",
                    input.name,
                    input.rank.unwrap_or(1)
                )));
            }
            if array.dtype() == DType::String {
                return Err(Error::unsupported(format!("{place}: `{}` holds texts", input.name)));
            }
            arrays.insert(input.name.clone(), array);
        }
        let samples = arrays.values().map(|a| a.shape()[0]).max().unwrap_or(0);
        if samples == 0 || arrays.values().any(|a| a.shape()[0] == 0) {
            return Err(bad("there are no samples in it: its first axis is 0".into()));
        }
        let labels_place = labels.map_or_else(|| place.clone(), |file| file.display().to_string());
        let target = match (labels, found.len()) {
            (Some(file), 0) => Some(npz::read_npy(file)?),
            (None, 0) => None,
            (None, 1) => found.pop_first().map(|(_, t)| t),
            _ => {
                let names: Vec<String> = found.keys().map(|n| format!("`{n}`")).collect();
                return Err(bad(format!(
                    "{} are no inputs of the model; one array may stand beside the inputs, the labels, and none with --labels",
                    names.join(", ")
                )));
            }
        };
        let counts = arrays.iter().map(|(n, a)| (n.as_str(), a.shape()[0], false));
        let target_count =
            target.iter().map(|t| ("the labels", t.shape().first().copied().unwrap_or(0), true));
        for (name, count, exact) in counts.chain(target_count) {
            if count == samples || (!exact && count == 1) {
                continue;
            }
            let (at, name) = match exact {
                true => (&labels_place, name.to_owned()),
                false => (&place, format!("`{name}`")),
            };
            let other = if *at == place { "another array".to_owned() } else { place.clone() };
            return Err(Error::user(format!(
                "{at}: {name}: {count} samples along the first axis, and {other} has {samples}; they must be as many"
            )));
        }
        let arrays = arrays.into_iter().map(|(n, a)| {
            let shared = a.shape()[0] != samples;
            (n, (a, shared))
        });
        Ok(Data { place, labels_place, arrays: arrays.collect(), target, samples })
    }

    /// An error about these data.
    pub fn error(&self, text: impl std::fmt::Display) -> Error {
        Error::user(format!("{}: {text}", self.place))
    }

    /// Whether one sample of an input serves all.
    pub fn is_shared(&self, input: &str) -> bool {
        self.arrays.get(input).is_some_and(|(_, shared)| *shared)
    }

    /// The inputs that each sample has for itself.
    pub fn own(&self) -> impl Iterator<Item = &str> {
        self.arrays.iter().filter(|(_, (_, shared))| !shared).map(|(n, _)| n.as_str())
    }

    /// A batch of `size`: these samples, and the first of them again where there are fewer.
    pub fn batch(&self, rows: &[usize], size: usize) -> Sample {
        let one = |(name, (array, shared)): (&String, &(Tensor, bool))| {
            let tensor = if *shared { array.clone() } else { gather(array, rows, size) };
            (name.clone(), Value::from(tensor))
        };
        self.arrays.iter().map(one).collect()
    }

    /// What the data are, for checkpoints.
    pub fn hash(&self) -> String {
        let tensors = self.arrays.values().map(|(t, _)| t).chain(&self.target);
        tensors.map(|t| t.content_hash().to_string()).collect::<Vec<_>>().join("+")
    }
}

/// Rows of a tensor, filled up with the first of them.
fn gather(array: &Tensor, rows: &[usize], size: usize) -> Tensor {
    let each = array.bytes().len() / array.shape()[0];
    let filled = rows.iter().chain(std::iter::repeat(&rows[0])).take(size);
    let bytes: Vec<u8> = filled.flat_map(|r| &array.bytes()[r * each..(r + 1) * each]).copied().collect();
    Tensor::from_bytes(array.dtype(), &[&[size], &array.shape()[1..]].concat(), &bytes)
}

/// What the model is to give, sample behind sample.
pub enum Target {
    /// Classes, by position.
    Classes(Vec<usize>),
    /// Numbers, or shares of classes.
    Numbers(Vec<f32>),
}

/// The dims that count.
fn wide(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|d| *d != 1).collect()
}

impl Data {
    /// The labels as classes of an output, whose sample has this shape, the classes along its last axis.
    ///
    /// # Errors
    /// There are none, or none that fit.
    pub fn classes(&self, output: &str, shape: &[usize]) -> Result<Vec<usize>> {
        let labels = self.labels()?;
        let (&classes, positions) =
            shape.split_last().ok_or_else(|| self.error(format!("`{output}` has no axis of classes")))?;
        let integers = labels.to_i64s().ok_or_else(|| {
            self.fault(format!(
                "the labels are {}, but classes are whole numbers from 0; save them as int64, or take --loss mse",
                labels.dtype()
            ))
        })?;
        if wide(&labels.shape()[1..]) != wide(positions) {
            return Err(self.misfit(labels, output, shape, positions));
        }
        let one = |(i, &c): (usize, &i64)| {
            usize::try_from(c).ok().filter(|c| *c < classes).ok_or_else(|| {
                let sample = i / positions.iter().product::<usize>().max(1);
                self.fault(format!(
                    "the label of sample {sample} is {c}, but `{output}` has {classes} classes, 0 to {}",
                    classes.saturating_sub(1)
                ))
            })
        };
        integers.iter().enumerate().map(one).collect()
    }

    /// The labels as numbers that an output is to have.
    ///
    /// # Errors
    /// There are none, or none that fit.
    pub fn numbers(&self, output: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let labels = self.labels()?;
        if wide(&labels.shape()[1..]) != wide(shape) {
            return Err(self.misfit(labels, output, shape, shape));
        }
        let numbers = labels.to_f64s().ok_or_else(|| self.fault("the labels are texts"))?;
        let numbers: Vec<f32> = numbers.into_iter().map(|v| v as f32).collect();
        let each = shape.iter().product::<usize>().max(1);
        match numbers.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(self.fault(format!(
                "the target of sample {} is {}; leave it out",
                i / each,
                numbers[i]
            ))),
            None => Ok(numbers),
        }
    }

    /// An error about the labels.
    fn fault(&self, text: impl std::fmt::Display) -> Error {
        Error::user(format!("{}: {text}", self.labels_place))
    }

    fn labels(&self) -> Result<&Tensor> {
        self.target.as_ref().ok_or_else(|| {
            self.error("no labels; a .npz file holds them beside the inputs, --labels FILE.npy names them")
        })
    }

    fn misfit(&self, labels: &Tensor, output: &str, shape: &[usize], want: &[usize]) -> Error {
        self.fault(format!(
            "the labels are {:?} per sample, but `{output}` is {shape:?} per sample, which needs {want:?}; --of names another output",
            &labels.shape()[1..]
        ))
    }
}
