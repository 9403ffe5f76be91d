//! Explanations of fixtures and of models in text IR.

use egret::inputs::{Given, Inputs};
use egret::{Engine, Error, Options, source};
use egret_attribute::{Baseline, Checks, Choices, Explanation, Method, Request, explain};
use std::path::{Path, PathBuf};

/// A file of the fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// A digit for the input `image`.
pub fn digit(model: &str, k: usize) -> source::Request {
    let images = fixture("digits/images.npy").display().to_string();
    source::Request {
        model: fixture(&format!("models/{model}.onnx")),
        inputs: Inputs {
            named: vec![Given::named(&format!("image={images}")).expect("a file")],
            sample: Some(k),
            ..Inputs::default()
        },
        ..source::Request::default()
    }
}

/// The interpreter's, of the largest output.
pub fn request(method: &str, choices: &Choices) -> Request {
    Request {
        target: None,
        method: Method::new(method, choices).expect("a method"),
        wrt: vec![],
        baseline: Baseline::default(),
        checks: Checks::default(),
        engine: Engine::Interp,
        options: Options::default(),
    }
}

/// Explain a model in text IR; inputs as on the command line.
pub fn text(model: &str, inputs: &[&str], request: &Request) -> Result<Explanation, Error> {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("model.egret");
    std::fs::write(&file, model).expect("a file");
    let named = inputs.iter().map(|t| Given::named(t).expect("an input")).collect();
    let inputs = Inputs { named, ..Inputs::default() };
    explain(&source::Request { model: file, inputs, ..source::Request::default() }, request)
}
