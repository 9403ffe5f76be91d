//! Programs of a model that run on an engine: its value alone, and with gradients.

use crate::feature::Feature;
use crate::numbers::to_f64;
use crate::request::Request;
use crate::swap::{Swap, swap};
use egret::grad::{Of, Shares, differentiate, relevance};
use egret::ir::{DType, Graph, Tensor, Value, ValueId, advice};
use egret::source::{self, Prepared};
use egret::{Error, Executable, Result};
use std::collections::BTreeMap;

/// A model with a value for each of its inputs.
#[derive(Clone)]
pub(crate) struct Model<'a> {
    pub source: &'a source::Request,
    pub request: &'a Request,
    pub graph: Graph,
    pub bound: BTreeMap<String, Tensor>,
    pub inputs: Vec<Value>,
    /// Constants that stand in the places of the file's, here and in every further import of it.
    pub swaps: Vec<Swap>,
}

impl<'a> Model<'a> {
    pub(crate) fn new(source: &'a source::Request, request: &'a Request) -> Result<Model<'a>> {
        let Prepared { graph, bound, inputs, .. } = source.prepare()?;
        Ok(Model { source, request, graph, bound, inputs, swaps: vec![] })
    }

    /// The same model with other constants.
    pub(crate) fn with_weights(&self, swaps: &[Swap]) -> Model<'a> {
        let mut out = Model { swaps: swaps.to_vec(), ..self.clone() };
        swap(&mut out.graph, swaps);
        out
    }

    /// Where an input stands.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.graph.inputs().iter().position(|&v| self.graph.value(v).name == name)
    }

    /// The inputs with other features.
    pub(crate) fn inputs_with(&self, features: &[Feature], data: Vec<Vec<f64>>) -> Result<Vec<Value>> {
        let mut out = self.inputs.clone();
        for (f, data) in features.iter().zip(data) {
            out[f.position] = Tensor::from_f64s(f.dtype, &f.shape, data).into();
        }
        Ok(out)
    }

    /// Make a graph ready to run.
    pub(crate) fn ready(&self, graph: Graph, bound: &BTreeMap<String, Tensor>) -> Result<Executable> {
        Executable::new(graph, self.request.engine, &self.request.options, bound)
    }
}

/// The graph of one value.
pub(crate) fn only(graph: &Graph, value: ValueId) -> Graph {
    let mut out = graph.clone();
    out.clear_outputs();
    out.add_output("target", value);
    out.remove_dead();
    out
}

/// A value and its gradients, or relevances, for any weights of its elements.
pub(crate) struct Gradients {
    executable: Executable,
    dtype: DType,
    /// The shape of the value.
    pub shape: Vec<usize>,
    wrt: usize,
}

/// What a gradient program gives at one point.
pub(crate) struct Point {
    /// The value's elements.
    pub output: Vec<f64>,
    /// By what it is differentiated by.
    pub gradients: Vec<Vec<f64>>,
    /// Further values.
    pub further: Vec<Value>,
}

impl Gradients {
    pub(crate) fn new(
        model: &Model,
        of: ValueId,
        wrt: &[ValueId],
        further: &[ValueId],
    ) -> Result<Gradients> {
        let mut graph = differentiate(&model.graph, &Of::Seeded(of), wrt)?;
        // Values keep their ids, and what is differentiated by lies on the way to the target.
        further.iter().enumerate().for_each(|(i, &v)| graph.add_output(&format!("further.{i}"), v));
        Gradients::ready(model, graph, of, wrt.len())
    }

    /// Relevances in the place of gradients.
    pub(crate) fn relevances(
        model: &Model,
        of: ValueId,
        shares: Shares,
        wrt: &[ValueId],
    ) -> Result<Gradients> {
        Gradients::ready(model, relevance(&model.graph, of, shares, wrt)?, of, wrt.len())
    }

    fn ready(model: &Model, graph: Graph, of: ValueId, wrt: usize) -> Result<Gradients> {
        Gradients::of(&model.graph, model.ready(graph, &model.bound)?, of, wrt)
    }

    /// Of a program that was made for `of` of a graph by `wrt` values.
    pub(crate) fn of(graph: &Graph, executable: Executable, of: ValueId, wrt: usize) -> Result<Gradients> {
        let ty = graph.tensor_ty(of);
        let shape = ty.const_dims().ok_or_else(|| {
            Error::user(format!(
                "the target is {ty}: its size must be known: {}",
                advice::to_be_constant(&ty.shape[..], &graph.free_dims())
            ))
        })?;
        Ok(Gradients { executable, dtype: ty.dtype, shape, wrt })
    }

    /// Run it: `at` are the elements whose sum is differentiated, with their factors.
    pub(crate) fn run(&self, mut inputs: Vec<Value>, at: &[(usize, f64)]) -> Result<Point> {
        let mut seed = vec![0.0; self.shape.iter().product()];
        at.iter().for_each(|&(i, factor)| seed[i] += factor);
        inputs.push(Tensor::from_f64s(self.dtype, &self.shape, seed).into());
        let mut values = self.executable.run(&inputs)?.into_iter();
        let mut next =
            || values.next().ok_or_else(|| Error::internal("a gradient program lacks an output"));
        let output = to_f64(&next()?)?;
        let gradients = (0..self.wrt).map(|_| to_f64(&next()?)).collect::<Result<_>>()?;
        Ok(Point { output, gradients, further: values.collect() })
    }
}

/// The sum of some elements with their factors.
pub(crate) fn score(output: &[f64], at: &[(usize, f64)]) -> f64 {
    at.iter().map(|&(i, factor)| factor * output[i]).sum()
}
