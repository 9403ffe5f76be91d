//! `egret prune` from outside.

mod kit;

use egret::ir::Tensor;
use egret::npz;
use kit::{model, path, refused, temp, works};
use std::path::Path;

#[test]
fn data_say_how_good_the_outputs_are() {
    let dir = temp();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/digits/images.npy");
    let images = npz::read_npy(&digits).expect("digits");
    let some = Tensor::new(&[20, 1, 28, 28], images.data::<f32>()[..20 * 784].to_vec());
    let (data, out) = (path(&dir, "calibration.npz"), path(&dir, "pruned.onnx"));
    npz::write(data.as_ref(), &[("image".into(), some)]).expect("a file");
    let said = works(&[
        "prune",
        &model("simple_cnn"),
        "--to",
        "sparse:0.6",
        "--method",
        "obc",
        "--data",
        &data,
        "-o",
        &out,
    ]);
    for part in ["sparse:0.6 by obc, over each layer, with 20 samples", "output error", "/conv2/Conv"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    works(&["run", &out, "--random", "1"]);
    let base = ["prune", &model("simple_cnn"), "--to", "sparse:0.6", "-o", &out];
    let with = |more: &[&str], parts: &[&str]| refused(&[&base, more].concat(), 1, parts);
    with(&["--method", "obc"], &["--data"]);
    with(&["--method", "best"], &["no method `best`", "wanda"]);
    with(&["--data", &path(&dir, "none.npz")], &["does not exist"]);
    with(&["--data", &model("simple_cnn")], &["data are .npz"]);
}
