//! The background's rows, as they are given and as trees see them.

use crate::feature::Feature;
use crate::numbers::to_f64;
use crate::program::{Model, only};
use egret::frontend::DeclaredInput;
use egret::inputs::Inputs;
use egret::ir::{Tensor, Value, ValueId};
use egret::{Error, Executable, Result};
use std::collections::BTreeMap;

/// Rows of a background: more cost time and change little.
const MOST: usize = 100_000;

/// The background: how many rows, and for each feature's input all of them.
pub(super) fn read(model: &Model, features: &[Feature], given: &Inputs) -> Result<(usize, Vec<Tensor>)> {
    if given.is_empty() {
        return Err(Error::user(
            "tree-shap compares with other rows, and an ONNX file has none; give some of the data by --background rows.npy",
        ));
    }
    let graph = &model.graph;
    let declared: Vec<DeclaredInput> = graph
        .inputs()
        .iter()
        .filter_map(|&v| {
            let ty = graph.ty(v);
            let rank = ty.as_tensor()?.rank();
            let name = graph.value(v).name.clone();
            Some(DeclaredInput { name, has_default: false, rank: Some(rank), ty: ty.clone() })
        })
        .collect();
    let mut found: BTreeMap<String, Value> = given.read(&declared).map_err(|e| e.at("--background"))?;
    let mut count: Option<usize> = None;
    let mut out = vec![];
    for f in features {
        let value = found.remove(&f.name).ok_or_else(|| {
            Error::user(format!(
                "--background: no rows for the input `{}`; give them too, or name the inputs that count by --wrt",
                f.name
            ))
        })?;
        let tensor = value.as_tensor().cloned();
        let tensor =
            tensor.ok_or_else(|| Error::user(format!("--background: `{}` is no tensor", f.name)))?;
        let rows = match tensor.shape().split_first() {
            Some((&rows, rest)) if f.shape.get(1..) == Some(rest) => rows,
            _ => {
                return Err(Error::user(format!(
                    "--background: `{}` is {}, but it needs rows as those of the input, {:?}",
                    f.name,
                    tensor.ty(),
                    f.shape
                )));
            }
        };
        if rows == 0 || rows > MOST {
            return Err(Error::user(format!(
                "--background: `{}` holds {rows} rows; give 1 to {MOST}",
                f.name
            )));
        }
        if count.is_some_and(|c| c != rows) {
            return Err(Error::user(format!(
                "--background: `{}` holds {rows} rows, another input {}; they must be as many",
                f.name,
                count.unwrap_or(0)
            )));
        }
        count = Some(rows);
        out.push(tensor);
    }
    Ok((count.unwrap_or(0), out))
}

/// The rows that trees see, as a program of the inputs.
pub(super) enum Rows {
    /// They are an input.
    Input(usize),
    Program(Box<Executable>),
}

impl Rows {
    pub(super) fn new(model: &Model, x: ValueId) -> Result<Rows> {
        match model.graph.inputs().iter().position(|&v| v == x) {
            Some(i) => Ok(Rows::Input(i)),
            None => Ok(Rows::Program(Box::new(model.ready(only(&model.graph, x), &model.bound)?))),
        }
    }

    pub(super) fn of(&self, inputs: &[Value]) -> Result<Vec<f64>> {
        match self {
            Rows::Input(i) => to_f64(&inputs[*i]),
            Rows::Program(program) => {
                let out = program.run(inputs)?;
                to_f64(out.first().ok_or_else(|| Error::internal("a program without an output"))?)
            }
        }
    }

    /// What becomes of the background's rows, as many at a time as the program takes.
    pub(super) fn others(
        &self,
        model: &Model,
        features: &[Feature],
        background: &[Tensor],
        count: usize,
        at_once: usize,
    ) -> Result<Vec<f64>> {
        let mut out = vec![];
        for start in (0..count).step_by(at_once.max(1)) {
            let mut inputs = model.inputs.clone();
            let taken = at_once.min(count - start);
            for (f, tensor) in features.iter().zip(background) {
                let each = tensor.bytes().len() / count;
                let mut bytes = tensor.bytes()[start * each..(start + taken) * each].to_vec();
                // What is over of the last block is its last row again.
                let last = bytes[bytes.len() - each..].to_vec();
                (taken..at_once).for_each(|_| bytes.extend(&last));
                inputs[f.position] = Tensor::from_bytes(tensor.dtype(), &f.shape, &bytes).into();
            }
            let rows = self.of(&inputs)?;
            out.extend(&rows[..rows.len() / at_once.max(1) * taken]);
        }
        Ok(out)
    }
}
