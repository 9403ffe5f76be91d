//! Values that a user names for the inputs of a model: numbers as they are written, `.npy`, `.pb` and `.npz` files, folders of a
//! test case.

use crate::cases::Case;
use crate::error::{Error, Result};
use crate::frontend::{self, DeclaredInput};
use crate::literal::Literal;
use crate::npz;
use egret_ir::{DType, Tensor, Type, Value, advice};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// What is given as the value of one input.
#[derive(Clone, Debug)]
pub enum Given {
    /// Numbers, or lists of them, as they are written: `3`, `[[1, 2], [-inf, nan]]`, `true`, `"text"`.
    Literal(Literal),
    /// A file.
    File(PathBuf),
}

impl Given {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Given::File(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Given {
    /// As [`Given::named`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Given::Literal(literal) => write!(f, "{literal}"),
            Given::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Given {
    /// `NAME=VALUE`: a literal where it reads as one, else a file.
    ///
    /// # Errors
    /// There is no `=`, or a list that does not end.
    pub fn named(text: &str) -> std::result::Result<(String, Given), String> {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, value)| !name.is_empty() && !value.is_empty())
            .ok_or("write NAME=VALUE, e.g. image=x.npy, image=x.pb or rate=16000")?;
        let given = Literal::read(value)?.map_or_else(|| Given::File(value.into()), Given::Literal);
        Ok((name.to_owned(), given))
    }

    /// The value for an input of a model.
    fn read(&self, declared: &DeclaredInput) -> Result<Value> {
        match self {
            Given::Literal(literal) => tensor(literal, declared).map(Value::from),
            Given::File(path) => read_one(path, declared),
        }
    }
}

/// Everything that is given for the inputs of a model.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Values by name; they go before those of `files`.
    pub named: Vec<(String, Given)>,
    /// `.npz` files and folders with values for several inputs; `.npy` and `.pb` files for the only one.
    pub files: Vec<PathBuf>,
    /// Names for which the model itself has no input: they are asked for by [`Inputs::of`].
    pub beside: Vec<String>,
    /// Which sample along the first axis is taken of inputs that hold several; `None` = all.
    pub sample: Option<usize>,
}

impl Inputs {
    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.files.is_empty()
    }

    /// The values, by name.
    ///
    /// # Errors
    /// A name that no input has or that is given twice; a file that cannot be read; a value of another element type.
    pub fn read(&self, declared: &[DeclaredInput]) -> Result<BTreeMap<String, Value>> {
        let mut out = BTreeMap::new();
        for path in &self.files {
            for (name, value) in read_several(path, declared)? {
                if self.beside.contains(&name) {
                    continue;
                }
                let input = find(declared, &name)?;
                out.insert(name, typed(value, input)?);
            }
        }
        let own: Vec<_> = self.named.iter().filter(|(n, _)| !self.beside.contains(n)).cloned().collect();
        out.extend(named(&own, declared)?);
        match self.sample {
            Some(k) => sample(out, k),
            None => Ok(out),
        }
    }

    /// The value that is given for one input, if one is.
    ///
    /// # Errors
    /// As [`Inputs::read`].
    pub fn of(&self, input: &DeclaredInput) -> Result<Option<Value>> {
        let own: Vec<_> = self.named.iter().filter(|(n, _)| *n == input.name).cloned().collect();
        let only = std::slice::from_ref(input);
        if let Some(value) = named(&own, only)?.remove(&input.name) {
            return Ok(Some(value));
        }
        for path in self.files.iter().filter(|p| extension(p) == "npz") {
            if let Some((_, value)) = read_several(path, only)?.into_iter().find(|(n, _)| *n == input.name)
            {
                return typed(value, input).map(Some);
            }
        }
        Ok(None)
    }
}

/// Values of single inputs, by name.
pub fn named(list: &[(String, Given)], declared: &[DeclaredInput]) -> Result<BTreeMap<String, Value>> {
    let mut out = BTreeMap::new();
    for (name, given) in list {
        let input = find(declared, name)?;
        let value = typed(given.read(input)?, input)?;
        if out.insert(name.clone(), value).is_some() {
            return Err(Error::user(format!("the input `{name}` is given twice")));
        }
    }
    Ok(out)
}

/// Sample `k` of inputs that hold several along their first axis; the others serve every sample.
fn sample(all: BTreeMap<String, Value>, k: usize) -> Result<BTreeMap<String, Value>> {
    let samples = |v: &Value| v.as_tensor().and_then(|t| t.shape().first().copied()).unwrap_or(1);
    let most = all.values().map(samples).max().unwrap_or(1);
    if k > 0 && all.is_empty() {
        return Err(Error::user(format!(
            "no sample {k}: --sample takes one of those that given inputs hold, and none is given; values that are made up are not chosen \
             among: leave --sample out, with --dim for as many samples as one"
        )));
    }
    if k >= most {
        return Err(Error::user(format!("no sample {k}: the given inputs hold {most}, counted from 0")));
    }
    let one = |(name, value): (String, Value)| {
        let n = samples(&value);
        match value.as_tensor() {
            Some(t) if n > 1 && k < n => Ok((name, nth(t, k).into())),
            Some(_) if n > 1 => Err(Error::user(format!("no sample {k}: the input `{name}` holds {n}"))),
            _ => Ok((name, value)),
        }
    };
    all.into_iter().map(one).collect()
}

/// Element `k` of the first axis, which stays as an axis of 1.
fn nth(t: &Tensor, k: usize) -> Tensor {
    let mut shape = t.shape().to_vec();
    let samples = std::mem::replace(&mut shape[0], 1);
    if t.dtype() == DType::String {
        let each = t.strings().len() / samples;
        return Tensor::from_strings(&shape, t.strings()[k * each..(k + 1) * each].to_vec());
    }
    let each = t.bytes().len() / samples;
    Tensor::from_bytes(t.dtype(), &shape, &t.bytes()[k * each..(k + 1) * each])
}

pub(crate) fn find<'a>(declared: &'a [DeclaredInput], name: &str) -> Result<&'a DeclaredInput> {
    declared.iter().find(|d| d.name == name).ok_or_else(|| unknown(declared.iter(), name))
}

/// That these inputs are all, and none has this name.
pub(crate) fn unknown<'a>(inputs: impl Iterator<Item = &'a DeclaredInput>, name: &str) -> Error {
    let names: Vec<String> = inputs.map(|d| format!("`{}`", d.name)).collect();
    Error::user(match names.is_empty() {
        true => format!("the model has no input `{name}`, and no other input"),
        false => format!("the model has no input `{name}`; its inputs are {}", names.join(", ")),
    })
}

/// A value with the element type of its input, where NumPy only spells it otherwise.
///
/// # Errors
/// It has another one.
pub fn typed(value: Value, declared: &DeclaredInput) -> Result<Value> {
    let (Value::Tensor(t), Type::Tensor(want)) = (&value, &declared.ty) else { return Ok(value) };
    let t = npz::as_dtype(t, want.dtype);
    if t.dtype() == want.dtype {
        return Ok(t.into());
    }
    Err(Error::user(format!(
        "the input `{}` is {} but the value given for it is {}",
        declared.name,
        want.dtype,
        t.dtype()
    )))
}

pub(crate) fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// One value from a file.
fn read_one(path: &Path, declared: &DeclaredInput) -> Result<Value> {
    match extension(path).as_str() {
        "npy" => Ok(npz::read_npy(path)?.into()),
        "pb" => frontend::read_value_pb(path, &declared.ty),
        "npz" => {
            let mut arrays = npz::read_npz(path)?;
            match (arrays.remove(&declared.name), arrays.len()) {
                (Some(t), _) => Ok(t.into()),
                (None, 1) => {
                    Ok(arrays.into_values().next().map(Value::from).unwrap_or(Value::Optional(None)))
                }
                (None, n) => Err(Error::user(format!(
                    "{}: none of its {n} arrays is called `{}`",
                    path.display(),
                    declared.name
                ))),
            }
        }
        _ if !path.exists() => Err(Error::user(format!(
            "`{}`, given for the input `{}`, is neither a number nor a file that exists",
            path.display(),
            declared.name
        ))),
        _ => Err(Error::user(format!(
            "{}: values are read from .npy, .npz and .pb files, or written as numbers",
            path.display()
        ))),
    }
}

/// Values for several inputs from one file or folder.
fn read_several(path: &Path, declared: &[DeclaredInput]) -> Result<Vec<(String, Value)>> {
    if path.is_dir() {
        return read_folder(path, declared);
    }
    match (extension(path).as_str(), declared) {
        ("npz", _) => Ok(npz::read_npz(path)?.into_iter().map(|(n, t)| (n, t.into())).collect()),
        ("npy" | "pb", [only]) => Ok(vec![(only.name.clone(), read_one(path, only)?)]),
        ("npy" | "pb", _) => Err(Error::user(format!(
            "{} holds one value, but the model has {} inputs; say which: --input NAME={}",
            path.display(),
            declared.len(),
            advice::word(&path.display().to_string())
        ))),
        _ if !path.exists() => Err(Error::user(format!("{} does not exist", path.display()))),
        _ => Err(Error::user(format!(
            "{}: inputs are read from .npz, .npy and .pb files, and from folders of test cases",
            path.display()
        ))),
    }
}

/// The inputs of a test case (its first data set), or of one data set (`input_0.pb`, ...).
fn read_folder(path: &Path, declared: &[DeclaredInput]) -> Result<Vec<(String, Value)>> {
    let set = match Case::open(path) {
        Some(case) => case.first_set(),
        None => path.to_owned(),
    };
    if !set.join("input_0.pb").is_file() && declared.iter().any(|d| !d.has_default) {
        return Err(Error::user(format!("{} holds no inputs: it has no input_0.pb", set.display())));
    }
    Ok(crate::cases::inputs_in(&set, declared)?.into_iter().collect())
}

fn dtype(declared: &DeclaredInput) -> Result<DType> {
    match &declared.ty {
        Type::Tensor(t) => Ok(t.dtype),
        ty => Err(Error::user(format!(
            "the input `{}` is {ty}: its value cannot be written as numbers; give a .pb file",
            declared.name
        ))),
    }
}

fn misfit(declared: &DeclaredInput, what: &str) -> Error {
    let dtype = declared.ty.as_tensor().map_or_else(|| declared.ty.to_string(), |t| t.dtype.to_string());
    Error::user(format!("the input `{}` is {dtype}; `{what}` is none", declared.name))
}

/// A tensor as it is written. A lone number has the rank that the model declares, all dims 1.
fn tensor(literal: &Literal, declared: &DeclaredInput) -> Result<Tensor> {
    let dtype = dtype(declared)?;
    let (mut shape, mut leaves) = (vec![], vec![]);
    flatten(literal, 0, &mut shape, &mut leaves).ok_or_else(|| {
        Error::user(format!("`{literal}` for the input `{}` has ragged rows", declared.name))
    })?;
    if shape.is_empty() {
        shape = declared.ones();
    }
    let bad = || {
        let at = leaves.iter().find(|leaf| element(dtype, leaf).is_none()).map_or(literal, |leaf| *leaf);
        misfit(declared, &at.to_string())
    };
    if dtype == DType::String {
        let texts: Option<Vec<String>> =
            leaves.iter().map(|leaf| Some(leaf.as_json()?.as_str()?.to_owned())).collect();
        return Ok(Tensor::from_strings(&shape, texts.ok_or_else(bad)?));
    }
    if matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
        let values: Option<Vec<f64>> = leaves.iter().map(|leaf| leaf.as_f64()).collect();
        return values.and_then(|v| float_tensor(dtype, &shape, &v)).ok_or_else(bad);
    }
    if integer_range(dtype).is_none() {
        return Err(Error::user(format!(
            "values of {dtype} (input `{}`) cannot be written as numbers; give a .pb or .npy file",
            declared.name
        )));
    }
    let mut bytes = vec![];
    for leaf in &leaves {
        bytes.extend(&element(dtype, leaf).ok_or_else(bad)?.to_le_bytes()[..dtype.size()]);
    }
    Ok(Tensor::from_bytes(dtype, &shape, &bytes))
}

/// Floats of a type that JSON's numbers convert to.
fn float_tensor(dtype: DType, shape: &[usize], values: &[f64]) -> Option<Tensor> {
    let values = values.iter();
    Some(match dtype {
        DType::F64 => Tensor::new(shape, values.copied().collect()),
        DType::F32 => Tensor::new(shape, values.map(|&v| v as f32).collect()),
        DType::F16 => Tensor::new(shape, values.map(|&v| egret_ir::f16_of(v)).collect()),
        DType::BF16 => Tensor::new(shape, values.map(|&v| egret_ir::bf16_of(v)).collect()),
        _ => return None,
    })
}

/// The smallest and the largest integer of a type.
fn integer_range(dtype: DType) -> Option<(i128, i128)> {
    let signed = |bits: u32| (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1);
    let unsigned = |bits: u32| (0, (1i128 << bits) - 1);
    Some(match dtype {
        DType::Bool => unsigned(1),
        DType::I8 => signed(8),
        DType::I16 => signed(16),
        DType::I32 => signed(32),
        DType::I64 => signed(64),
        DType::U8 => unsigned(8),
        DType::U16 => unsigned(16),
        DType::U32 => unsigned(32),
        DType::U64 => unsigned(64),
        _ => return None,
    })
}

/// An element of a type as an integer, or 0 for a float or a text that fits; `None` where it is none of the type.
fn element(dtype: DType, leaf: &Literal) -> Option<i128> {
    if dtype == DType::String {
        return leaf.as_json()?.as_str().map(|_| 0);
    }
    let Some((low, high)) = integer_range(dtype) else { return leaf.as_f64().map(|_| 0) };
    let json = leaf.as_json()?;
    let value = match json {
        Json::Bool(b) if dtype == DType::Bool => i128::from(*b),
        _ => json.as_i64().map(i128::from).or_else(|| json.as_u64().map(i128::from))?,
    };
    (low..=high).contains(&value).then_some(value)
}

/// The leaves of nested lists of equal lengths, and these lengths.
fn flatten<'a>(
    literal: &'a Literal,
    depth: usize,
    shape: &mut Vec<usize>,
    leaves: &mut Vec<&'a Literal>,
) -> Option<()> {
    let Literal::List(list) = literal else {
        leaves.push(literal);
        return (depth == shape.len()).then_some(());
    };
    match shape.get(depth) {
        Some(&len) if len != list.len() => return None,
        Some(_) => {}
        // The first leaf decides the depth.
        None if leaves.is_empty() => shape.push(list.len()),
        None => return None,
    }
    list.iter().try_for_each(|item| flatten(item, depth + 1, shape, leaves))
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_ir::{Shape, TensorType};

    fn input(dtype: DType, rank: Option<usize>) -> DeclaredInput {
        DeclaredInput {
            name: "x".into(),
            has_default: false,
            ty: Type::Tensor(TensorType::new(dtype, Shape::new())),
            rank,
        }
    }

    fn read(text: &str, input: &DeclaredInput) -> Result<Value> {
        let given = Given::named(text).map_err(Error::user)?;
        named(&[given], std::slice::from_ref(input)).map(|mut m| m.remove("x").unwrap())
    }

    #[test]
    fn numbers_take_the_type_and_rank_of_their_input() {
        let ok = |text: &str, dtype, rank, want: Tensor| {
            assert_eq!(read(text, &input(dtype, rank)).unwrap(), Value::from(want), "{text}");
        };
        ok("x=3", DType::I64, Some(0), Tensor::scalar(3i64));
        ok("x=16000", DType::I32, Some(1), Tensor::new(&[1], vec![16000i32]));
        ok("x=3", DType::F32, None, Tensor::scalar(3f32));
        ok("x=[1, 2.5]", DType::F64, Some(1), Tensor::new(&[2], vec![1.0, 2.5]));
        ok("x=[[1],[2],[3]]", DType::U8, None, Tensor::new(&[3, 1], vec![1u8, 2, 3]));
        ok("x=-inf", DType::F32, Some(0), Tensor::scalar(f32::NEG_INFINITY));
        ok(
            "x=[[-Inf],[1]]",
            DType::F16,
            None,
            Tensor::from_f64s(DType::F16, &[2, 1], vec![f64::NEG_INFINITY, 1.0]),
        );
        ok("x=true", DType::Bool, Some(0), Tensor::from_bools(&[], &[true]));
        ok(
            "x=[\"a\",\"b\"]",
            DType::String,
            None,
            Tensor::from_strings(&[2], vec!["a".into(), "b".into()]),
        );
        ok("x=18446744073709551615", DType::U64, Some(0), Tensor::scalar(u64::MAX));
    }

    #[test]
    fn a_sample_is_one_of_the_first_axis() {
        let all = || -> BTreeMap<String, Value> {
            let x = Tensor::new(&[3, 2], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
            let names = Tensor::from_strings(&[3], vec!["a".into(), "b".into(), "c".into()]);
            let rate = Tensor::new(&[1], vec![16000i64]);
            [("x", x), ("names", names), ("rate", rate)].map(|(n, t)| (n.to_owned(), t.into())).into()
        };
        let one = sample(all(), 2).unwrap();
        assert_eq!(one["x"], Tensor::new(&[1, 2], vec![5f32, 6.0]).into());
        assert_eq!(one["names"], Tensor::from_strings(&[1], vec!["c".into()]).into());
        assert_eq!(one["rate"], Tensor::new(&[1], vec![16000i64]).into());
        let e = sample(all(), 3).unwrap_err();
        assert_eq!(e.to_string(), "no sample 3: the given inputs hold 3, counted from 0");
        let mut uneven = all();
        uneven.insert("z".into(), Tensor::new(&[2], vec![0i64, 1]).into());
        assert!(sample(uneven, 2).unwrap_err().to_string().contains("`z` holds 2"));
    }

    #[test]
    fn what_is_no_value_of_the_type_is_refused() {
        let refused = |text: &str, dtype, part: &str| {
            let e = read(text, &input(dtype, None)).unwrap_err().to_string();
            assert!(e.contains(part), "{text}: {e}");
        };
        refused("x=300", DType::U8, "`300` is none");
        refused("x=-1", DType::U64, "`-1` is none");
        refused("x=[1, 2.5]", DType::I64, "`2.5` is none");
        refused("x=true", DType::F32, "`true` is none");
        refused("x=nan", DType::I32, "`nan` is none");
        refused("x=[1, inf]", DType::I64, "`inf` is none");
        refused("x=[[1,2],[3]]", DType::F32, "ragged");
        refused("x=[[1,2],3]", DType::F32, "ragged");
        refused("x=[1,2", DType::F32, "is no list");
        refused("x=nosuch", DType::F32, "neither a number nor a file");
        refused("x=", DType::F32, "NAME=VALUE");
        refused("y=1", DType::F32, "no input `y`");
        refused("x=1", DType::F8E5M2, "give a .pb");
    }
}
