//! Data with what a loss asks of them: targets, labels, and the loss of a perfect model.

use crate::data::{Data, Target};
use crate::program::Model;
use crate::request::{Loss, Request};
use egret::frontend::ModelFile;
use egret::{Error, Result, source};
use std::path::Path;

/// Data with what the model is to give for them.
pub struct Set {
    /// The samples.
    pub data: Data,
    target: Target,
    /// For the accuracy.
    pub labels: Option<Vec<usize>>,
    /// By sample: the loss of a perfect model. The entropy of a teacher.
    pub least: Vec<f64>,
    /// Positions or elements of a sample.
    pub positions: usize,
    /// Elements of the output, of a sample.
    pub width: usize,
}

impl Set {
    /// What the request's loss asks of these data.
    ///
    /// # Errors
    /// An output without classes, labels that do not fit it, a teacher that does not.
    pub fn new(request: &Request, model: &Model, data: Data) -> Result<Set> {
        let (output, shape) = (&model.output, &model.shape);
        if request.loss != Loss::Mse && shape.is_empty() {
            return Err(Error::user(format!(
                "--loss {}: the output `{output}` has no axis of classes; --loss mse takes any output",
                request.loss.name()
            )));
        }
        let width: usize = shape.iter().product();
        let classes = shape.last().copied().unwrap_or(1);
        let mut least = vec![0.0; data.samples];
        let (target, labels, positions) = match &request.loss {
            Loss::CrossEntropy => {
                let classes = data.classes(output, shape)?;
                (
                    Target::Classes(classes.clone()),
                    Some(classes),
                    width / shape.last().copied().unwrap_or(1).max(1),
                )
            }
            Loss::Mse => (Target::Numbers(data.numbers(output, shape)?), None, width),
            Loss::Kl(teacher) => {
                let shares = taught(teacher, request, model, &data)?;
                for (least, shares) in least.iter_mut().zip(shares.chunks(width.max(1))) {
                    let part = |&p: &f32| if p > 0.0 { f64::from(p) * f64::from(p).ln() } else { 0.0 };
                    *least = -shares.iter().map(part).sum::<f64>();
                }
                let labels = data.target.is_some().then(|| data.classes(output, shape)).transpose()?;
                (Target::Numbers(shares), labels, width / classes.max(1))
            }
        };
        if width == 0 {
            return Err(data.error(format!("the output `{output}` has no elements")));
        }
        Ok(Set { data, target, labels, least, positions, width })
    }

    /// What the model is to give for these samples.
    pub fn target(&self, rows: &[usize]) -> Vec<f32> {
        let mut out = Vec::with_capacity(rows.len() * self.width);
        for &row in rows {
            match &self.target {
                Target::Numbers(list) => out.extend(&list[row * self.width..(row + 1) * self.width]),
                Target::Classes(list) => {
                    let classes = self.width / self.positions;
                    for &class in &list[row * self.positions..(row + 1) * self.positions] {
                        out.extend((0..classes).map(|c| if c == class { 1.0 } else { 0.0 }));
                    }
                }
            }
        }
        out
    }
}

/// The softmax of a teacher's output for every sample.
fn taught(teacher: &Path, request: &Request, student: &Model, data: &Data) -> Result<Vec<f32>> {
    let (path, _) = source::locate(teacher)?;
    let file = ModelFile::open(&path)?;
    let model = Model::new(&path, &file, &[], request.of.as_deref(), data, request.batch)
        .map_err(|e| e.at(format!("the teacher {}", teacher.display())))?;
    if model.shape != student.shape {
        return Err(Error::user(format!(
            "the teacher {} gives `{}`, {:?} per sample, but the model `{}`, {:?}; --of names the output of both",
            teacher.display(),
            model.output,
            model.shape,
            student.output,
            student.shape
        )));
    }
    let program = model.forward(&request.options)?;
    let width: usize = model.shape.iter().product();
    let classes = model.shape.last().copied().unwrap_or(1);
    let all: Vec<usize> = (0..data.samples).collect();
    let mut out = Vec::with_capacity(width * data.samples);
    for rows in all.chunks(model.size) {
        let outputs = program.run(data, rows, &[], vec![], 0.0)?;
        for scores in outputs[0][..rows.len() * width].chunks(classes.max(1)) {
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
            let sum: f64 = powers.iter().sum();
            if !sum.is_finite() {
                return Err(data.error(format!(
                    "the teacher {} gives no finite scores for sample {}; leave it out",
                    teacher.display(),
                    out.len() / width
                )));
            }
            out.extend(powers.iter().map(|p| (p / sum) as f32));
        }
    }
    Ok(out)
}
