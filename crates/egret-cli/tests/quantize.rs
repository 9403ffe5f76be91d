//! `egret quantize` from outside.

mod kit;

use kit::{model, path, refused, temp, works};

#[test]
fn weights_become_integers_and_the_model_runs() {
    let dir = temp();
    let out = path(&dir, "quantised.onnx");
    for (to, form) in [("w8", "int8, a scale per output"), ("w4:32", "uint4 in blocks of 32")] {
        let said = works(&["quantize", &model("simple_cnn"), "--to", to, "-o", &out]);
        for part in ["% of 88760", "contractions  4 quantised; left: none", "/conv2/Conv", form] {
            assert!(said.contains(part), "no `{part}` in {said}");
        }
        works(&["run", &out, "--random", "1"]);
    }
    let json = works(&["quantize", &model("simple_cnn"), "--to", "w8", "-o", &out, "--format", "json"]);
    assert!(json.contains("weight_sqnr_db"), "{json}");
    let base = ["quantize", &model("simple_cnn"), "-o", &out];
    let with = |more: &[&str], code, parts: &[&str]| refused(&[&base, more].concat(), code, parts);
    with(&["--to", "w3"], 1, &["no precision `w3`", "w4:32"]);
    with(&["--to", "w8", "--skip", "fc9"], 1, &["--skip fc9", "no contraction"]);
    let all = ["/conv1/Conv", "/conv2/Conv", "/fc1/Gemm", "/fc2/Gemm"].map(|n| ["--skip", n]).concat();
    with(&[&["--to", "w8"], &all[..]].concat(), 3, &["nothing to quantise", "skipped"]);
}

#[test]
fn samples_give_the_ranges_of_bytes() {
    let dir = temp();
    let out = path(&dir, "quantised.onnx");
    let base = ["quantize", &model("simple_cnn"), "-o", &out, "--to"];
    let data = path(&dir, "digits.npy");
    let image =
        egret::ir::Tensor::new(&[2, 1, 28, 28], (0..2 * 784).map(|i| (i % 17) as f32 / 17.0).collect());
    egret::npz::write(data.as_ref(), &[("image".into(), image)]).expect("a file");
    let said = works(&[&base[..], &["int8", "--data", &data]].concat());
    for part in ["int8, with 2 samples", "contractions  4 quantised", "input uint8", "ranges        "] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    works(&["run", &out, "--random", "1"]);
    let json = works(&[&base[..], &["int8", "--data", &data, "--format", "json"]].concat());
    assert!(json.contains("\"ranges\"") && json.contains("minmax"), "{json}");
    refused(&[&base[..], &["int8"]].concat(), 1, &["needs samples", "--data"]);
    let said = works(&[&base[..], &["w4:32", "--data", &data]].concat());
    assert!(said.contains("w4:32, with 2 samples") && said.contains("output error"), "{said}");
}
