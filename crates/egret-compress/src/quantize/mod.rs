//! Quantisation: copies of ONNX models whose weights are integers, with the nodes that make floats of them.

mod grid;
mod integers;
mod opset;
mod precision;
mod weights;

pub use precision::Precision;

use crate::constants::{Constants, Refusal};
use crate::layers::{Contraction, contractions, named};
use crate::prune::open;
use crate::report::{Entry, Reason, Report, Verdict};
use crate::request::Watch;
use crate::{Compressed, numbers};
use egret::{Error, Result};
use integers::Integers;
use onnx_protobuf::{Message, ModelProto};
use std::path::Path;
use weights::Weight;

/// The weights of a contraction, or why they stay.
type Planned = std::result::Result<Vec<Weight>, Refusal>;

/// What is asked of a quantisation.
#[derive(Clone, Debug)]
pub struct Quantization {
    /// What becomes integers.
    pub to: Precision,
    /// Layers that are left alone, by the name of the node or of the weight.
    pub skip: Vec<String>,
}

impl Quantization {
    /// A precision for all layers.
    pub fn new(to: Precision) -> Quantization {
        Quantization { to, skip: vec![] }
    }
}

/// Quantise a model: an `.onnx` file, or the folder of a test case.
///
/// # Errors
/// A model that cannot be read or keeps weights in other files; a request that does not fit it. Where nothing can be quantised, or the
/// file would grow, the error is one of difference (exit code 3).
pub fn quantize(path: &Path, request: &Quantization) -> Result<Compressed> {
    quantize_watched(path, request, &mut |_, _, _| {})
}

/// As [`quantize`], telling how far it is.
///
/// # Errors
/// As of [`quantize`].
pub fn quantize_watched(path: &Path, request: &Quantization, watch: &mut Watch<'_>) -> Result<Compressed> {
    let (path, file) = open(path, "quantize")?;
    let mut model = file.proto().clone();
    let found = contractions(&model);
    request.skip.iter().try_for_each(|s| named(&found, s, "--skip"))?;
    let plan: Vec<Planned> = {
        let graph = model.graph.get_or_default();
        let constants = Constants::new(graph);
        let skipped = |c: &Contraction| request.skip.iter().any(|s| c.is(s));
        let of = |c: &Contraction| match skipped(c) {
            true => Err((Reason::Skipped, "--skip names it".to_owned())),
            false => weights::weights(graph, &constants, c, request.to),
        };
        found.iter().map(of).collect()
    };
    some(&found, &plan)?;
    let before = opset::of(&model);
    let entries = integers(&mut model, &found, plan, watch)?;
    let now = opset::of(&model);
    let mut what = request.to.to_string();
    if now != before {
        what.push_str(&format!(", opset {before} raised to {now}"));
    }
    let bytes_before =
        usize::try_from(std::fs::metadata(&path).map_err(|e| Error::io("read", &path, &e))?.len())
            .unwrap_or(0);
    let model = model
        .write_to_bytes()
        .map_err(|e| Error::unsupported(format!("the quantised model cannot be written: {e}")))?;
    let report = Report { what, entries, bytes: model.len(), bytes_before };
    if report.bytes >= report.bytes_before {
        return Err(Error::differs(format!(
            "nothing is won: the quantised model has {} bytes, the original {bytes_before}",
            report.bytes
        )));
    }
    Ok(Compressed { model, report })
}

/// That something is quantised.
fn some(found: &[Contraction], plan: &[Planned]) -> Result<()> {
    if plan.iter().any(|p| p.is_ok()) {
        return Ok(());
    }
    if found.is_empty() {
        return Err(Error::differs("nothing to quantise: the model contracts nothing"));
    }
    let mut reasons: Vec<String> = vec![];
    for (c, step) in found.iter().zip(plan).take(3) {
        if let Err((reason, text)) = step {
            reasons.push(format!("{} ({}: {text})", c.name, reason.name()));
        }
    }
    let more = if found.len() > 3 { format!(", and {} more", found.len() - 3) } else { String::new() };
    Err(Error::differs(format!("nothing to quantise: {}{more}", reasons.join(", "))))
}

/// Make integers of all planned weights, in an opset that can say it.
fn integers(
    model: &mut ModelProto,
    found: &[Contraction],
    plan: Vec<Planned>,
    watch: &mut Watch<'_>,
) -> Result<Vec<Entry>> {
    let (mut first, mut entries, mut least) = (vec![], vec![], 13);
    let all = plan.iter().filter(|p| p.is_ok()).count();
    let mut done = 0;
    let graph = model.graph.mut_or_insert_default();
    for (c, step) in found.iter().zip(plan) {
        let verdict = |verdict| Entry { name: c.name.clone(), op: c.op.clone(), weight: None, verdict };
        let weights = match step {
            Ok(weights) => weights,
            Err((reason, text)) => {
                entries.push(verdict(Verdict::Left { reason, text }));
                continue;
            }
        };
        watch(done, all, &c.name);
        done += 1;
        let (mut forms, mut names): (Vec<String>, Vec<String>) = (vec![], vec![]);
        let (mut sizes, mut energy, mut lost) = ([0, 0], 0.0, 0.0);
        let (mut count, mut zeros) = (0, 0);
        for weight in &weights {
            let gone = || Error::internal(format!("`{}` is gone", weight.name));
            let tensor = weight.place.of(graph).ok_or_else(gone)?;
            let made = Integers::of(tensor, weight.form).ok_or_else(|| {
                Error::user(format!("`{}` of {} holds what is no finite number", weight.name, c.name))
            })?;
            let was = numbers::read(tensor).ok_or_else(gone)?;
            let is = made.values();
            count += was.len();
            zeros += is.iter().filter(|v| **v == 0.0).count();
            energy += was.iter().map(|v| v * v).sum::<f64>();
            lost += was.iter().zip(&is).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
            let width = numbers::width(tensor);
            sizes[0] += was.len() * width;
            sizes[1] += integers::bytes(tensor, weight.form);
            least = least.max(weight.form.opset(tensor.data_type));
            let words = weight.form.words();
            if !forms.contains(&words) {
                forms.push(words);
            }
            names.push(weight.name.clone());
            first.extend(weights::put(graph, weight, &made));
        }
        let sqnr = (lost > 0.0).then(|| 10.0 * (energy / lost).log10());
        let form = forms.join("; ");
        let mut entry = verdict(Verdict::Quantised { form, before: sizes[0], after: sizes[1], sqnr });
        entry.weight = Some((names.join(", "), count, zeros));
        entries.push(entry);
    }
    graph.node.splice(0..0, first);
    opset::raise(model, least)?;
    Ok(entries)
}
