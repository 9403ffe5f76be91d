//! What is explained: an element of a value, or the difference of two: its score.

use crate::numbers::spelt;
use crate::program::score;
use egret::compare::unravel;
use egret::ir::{DType, Graph, Type, ValueId};
use egret::{Error, Result, grad};

/// The explained score.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The value's name.
    pub value: String,
    /// Where in the value's last axes; the score is the sum over the other axes.
    pub index: Vec<usize>,
    /// Where in the value's last axes what is subtracted stands, if the score is a difference.
    pub less: Option<Vec<usize>>,
    /// The score.
    pub score: f64,
    /// Where it is the largest element because none was named: how many there are, and the second largest as `name[index]`.
    pub largest_of: Option<(usize, Option<(String, f64)>)>,
}

impl Target {
    /// As it is written: `logits[0,3]`, `logits[0,4]-logits[0,9]`.
    pub fn spelt(&self) -> String {
        let one = |index: &[usize]| spelt(&self.value, index);
        let less = self.less.as_ref().map_or_else(String::new, |less| format!("-{}", one(less)));
        one(&self.index) + &less
    }
}

/// A target as it was asked for: an index is held against the value's shape when that is known.
pub(crate) struct Wanted {
    pub value: ValueId,
    pub name: String,
    index: Option<Vec<i64>>,
    /// The index of what is subtracted.
    less: Option<Vec<i64>>,
}

/// The elements whose sum is the score.
pub(crate) struct Elements {
    pub target: Target,
    /// Their flat positions and factors: 1, or -1 of what is subtracted.
    pub at: Vec<(usize, f64)>,
}

/// The two elements of a difference: `4-9`, `logits[0,4]-logits[0,9]`. Names may have a `-` in them.
fn sides(text: &str) -> Option<(&str, &str)> {
    let is_class = |side: &str| side.parse::<u64>().is_ok();
    let classes = text.split_once('-').filter(|(a, b)| is_class(a) && is_class(b));
    let named = || text.find("]-").map(|at| (&text[..=at], &text[at + 2..]));
    classes.or_else(named).map(|(a, b)| (a.trim(), b.trim()))
}

/// The target of a graph: that of `single`, or the difference of two such elements of one value.
pub(crate) fn wanted(graph: &Graph, spelt: Option<&str>) -> Result<Wanted> {
    let difference = spelt.filter(|t| grad::find(graph, t).is_none()).and_then(|t| Some((t, sides(t)?)));
    let Some((text, (a, b))) = difference else { return single(graph, spelt) };
    let (a, b) = (single(graph, Some(a))?, single(graph, Some(b))?);
    match (&a.index, &b.index) {
        (Some(x), Some(y)) if a.value == b.value && x.len() == y.len() => Ok(Wanted { less: b.index, ..a }),
        _ => Err(Error::user(format!(
            "`{text}`: a difference is of two elements of one value, with as many indices; write e.g. 4-9 or logits[0,4]-logits[0,9]"
        ))),
    }
}

/// The target of a graph: `class` of the first float output, `name[index]`, or `name` and nothing: the largest element.
fn single(graph: &Graph, spelt: Option<&str>) -> Result<Wanted> {
    let is_float = |v: ValueId| matches!(graph.ty(v), Type::Tensor(t) if real(t.dtype));
    let first = || {
        let at = graph.outputs().iter().position(|&v| is_float(v));
        at.map(|i| (graph.outputs()[i], graph.output_names()[i].clone())).ok_or_else(|| {
            Error::user(
                "no output of the model is a float tensor; name a value that is a score by --target",
            )
        })
    };
    let Some(text) = spelt else {
        let (value, name) = first()?;
        return Ok(Wanted { value, name, index: None, less: None });
    };
    if let (None, Ok(class)) = (grad::find(graph, text), text.parse::<i64>()) {
        let (value, name) = first()?;
        return Ok(Wanted { value, name, index: Some(vec![class]), less: None });
    }
    let (value, index) = grad::target(graph, text)?;
    if !is_float(value) {
        return Err(Error::user(format!("`{text}` is {}: a score is a float", graph.ty(value))));
    }
    let name = if index.is_empty() { text } else { text.rsplit_once('[').map_or(text, |(name, _)| name) };
    let index = (!index.is_empty()).then_some(index);
    Ok(Wanted { value, name: name.to_owned(), index, less: None })
}

/// Whether gradients exist in an element type.
pub(crate) fn real(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

impl Wanted {
    /// The same target as elements that no input changes.
    pub(crate) fn pinned(&self, target: &Target) -> Wanted {
        let fixed = |index: &Vec<usize>| index.iter().map(|&i| i as i64).collect();
        Wanted {
            value: self.value,
            name: self.name.clone(),
            index: Some(fixed(&target.index)),
            less: target.less.as_ref().map(fixed),
        }
    }

    /// The target in the value that the model computed.
    pub(crate) fn elements(&self, shape: &[usize], data: &[f64]) -> Result<Elements> {
        let name = &self.name;
        let (index, largest_of) = match &self.index {
            Some(index) => (self.held_against(index, shape)?, None),
            None => {
                if let Some(i) = data.iter().position(|v| v.is_nan()) {
                    return Err(Error::user(format!(
                        "{} is NaN, so that no element is the largest; name one by --target",
                        spelt(name, &unravel(i, shape))
                    )));
                }
                let ranked = |but: Option<usize>| {
                    let rest = data.iter().enumerate().filter(|(i, _)| Some(*i) != but);
                    rest.fold(None, |best: Option<(usize, f64)>, (i, &v)| match best {
                        Some((_, b)) if b >= v => best,
                        _ => Some((i, v)),
                    })
                };
                let (i, _) = ranked(None).ok_or_else(|| {
                    Error::user(format!("`{name}` has no elements: nothing is to explain"))
                })?;
                let next = ranked(Some(i)).map(|(j, v)| (spelt(name, &unravel(j, shape)), v));
                (unravel(i, shape), Some((data.len(), next)))
            }
        };
        let less = self.less.as_ref().map(|less| self.held_against(less, shape)).transpose()?;
        if less.as_ref() == Some(&index) {
            return Err(Error::user(format!(
                "the target's two elements are the same, {}",
                spelt(name, &index)
            )));
        }
        let free = shape.len() - index.len();
        let with = |index: &[usize], factor: f64| -> Vec<(usize, f64)> {
            let at = (0..data.len()).filter(|&i| unravel(i, shape)[free..] == *index);
            at.map(|i| (i, factor)).collect()
        };
        let mut at = with(&index, 1.0);
        at.extend(less.iter().flat_map(|less| with(less, -1.0)));
        let score = score(data, &at);
        let target = Target { value: name.clone(), index, less, score, largest_of };
        if !score.is_finite() {
            return Err(Error::user(format!("{} is {score}: no such score is explained", target.spelt())));
        }
        Ok(Elements { target, at })
    }

    fn held_against(&self, index: &[i64], shape: &[usize]) -> Result<Vec<usize>> {
        let name = &self.name;
        let Some(free) = shape.len().checked_sub(index.len()) else {
            return Err(Error::user(format!(
                "the target's index {index:?} has more axes than `{name}`, {shape:?}"
            )));
        };
        let one = |(i, &at): (usize, &i64)| {
            let dim = shape[free + i] as i64;
            let from_start = if at < 0 { at + dim } else { at };
            if (0..dim).contains(&from_start) {
                return Ok(from_start as usize);
            }
            Err(Error::user(format!(
                "no class {at}: axis {} of `{name}`, {shape:?}, has {dim}, counted from 0",
                free + i
            )))
        };
        index.iter().enumerate().map(one).collect()
    }
}
