//! Law: the kernels of whole models are read back from their text as they were.

use egret::source::{Prepared, Request};
use egret::{Options, pipeline};
use egret_loop::text;
use std::path::Path;

#[test]
fn programs_of_all_fixtures_are_read_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the fixtures") {
        let model = entry.expect("a file").path();
        if model.extension().is_none_or(|e| e != "onnx") {
            continue;
        }
        seen += 1;
        for target in ["x86-64-v2", "x86-64-v4"] {
            let request = Request {
                model: model.clone(),
                default_dim: Some(2),
                random: Some(1),
                ..Request::default()
            };
            let Prepared { graph, bound, .. } = request.prepare().expect("a fixture");
            let options = Options { target: target.into(), ..Options::default() };
            let program = pipeline::lower(graph, &options, &bound).expect("a fixture").program;
            let weights =
                |hash: &str| (text::hash(&program.weights) == hash).then(|| program.weights.to_vec());
            let printed = text::print(&program);
            let read = text::parse(&printed, &weights).unwrap_or_else(|e| panic!("{model:?}: {e}"));
            assert!(read == program, "{model:?} for {target}");
            assert_eq!(text::print(&read), printed);
        }
    }
    assert!(seen > 0, "no fixtures");
}
