//! `egret stats` from outside.

mod kit;

use kit::{model, path, refused, temp, works};

#[test]
fn stats_are_made_merged_and_taken_instead_of_samples() {
    let dir = temp();
    let own = model("simple_cnn");
    let at = |name: &str| path(&dir, name);
    let save = |name: &str, from: usize| {
        let count = 3 * 784;
        let values = (0..count).map(|i| ((i + from) % 17) as f32 / 17.0).collect();
        let image = egret::ir::Tensor::new(&[3, 1, 28, 28], values);
        egret::npz::write(at(name).as_ref(), &[("image".into(), image)]).expect("a file");
        at(name)
    };
    let (one, two) = (save("one.npy", 0), save("two.npy", 5));
    let (a, b, both) = (at("a.stats"), at("b.stats"), at("both.stats"));
    let said = works(&["stats", &own, "--data", &one, "-o", &a]);
    for part in ["samples       3", "ranges        ", "moments       4 layers", "size          "] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    works(&["stats", &own, "--data", &two, "-o", &b]);
    let json = works(&["stats", &own, "--stats", &a, "--stats", &b, "-o", &both, "--format", "json"]);
    assert!(json.contains("\"samples\": 6"), "{json}");
    let bytes = |name: &str| std::fs::read(at(name)).expect("a file");
    let out = at("q.onnx");
    let int8 = |more: &[&str]| {
        works(&[&["quantize", &own, "--to", "int8", "-o", &out], more].concat());
        bytes("q.onnx")
    };
    let want = int8(&["--stats", &both]);
    assert!(int8(&["--stats", &a, "--stats", &b]) == want);
    assert!(int8(&["--stats", &b, "--data", &one]) == want);
    let said =
        works(&["prune", &own, "--to", "sparse:0.5", "--method", "wanda", "--stats", &both, "-o", &out]);
    assert!(said.contains("with stats of 6 samples") && said.contains("output error"), "{said}");
    let sized = ["compress", &own, "--size", "40%", "-o", &out, "--stats", &both];
    let said = works(&[&sized[..], &["--data", &one, "--eval", &two]].concat());
    assert!(said.contains("levels by stats of 6 samples"), "{said}");
    refused(&sized, 1, &["only samples give", "--data"]);
    refused(&["quantize", &own, "--to", "w8", "--stats", &a, "-o", &out], 1, &["--to w8 takes no --stats"]);
    refused(&["stats", &own, "-o", &both], 1, &["--data", "--stats"]);
    std::fs::write(at("cut.stats"), &bytes("a.stats")[..5000]).expect("a file");
    let cut = at("cut.stats");
    refused(&["quantize", &own, "--to", "int8", "--stats", &cut, "-o", &out], 1, &["cut.stats", "damaged"]);
    refused(
        &["quantize", &own, "--to", "int8", "--stats", &one, "-o", &out],
        1,
        &["one.npy", "egret stats"],
    );
}
