//! `egret attention` from outside.

mod kit;

use egret::npz;
use kit::{model, names, path, refused, temp, works};
use std::path::Path;

const TOKENS: &str = "tokens=[[3,1,2,3,1,2,3]]";

fn on_tokens(args: &[&str]) -> String {
    let induction = model("induction");
    works(&[&["attention", &induction, "--input", TOKENS][..], args].concat())
}

#[test]
fn one_screen_says_what_each_head_does() {
    let said = on_tokens(&[]);
    for part in [
        "attention     layers: 2, heads: 2, each [1, 2, 7, 7]\n",
        "layer  mean   h0  h1  strongest pair, query <- key\n",
        "    0   0.23   0  24  h0 1 <- 0: 1.000\n",
        "    0  Softmax:/layer.0/Softmax\n    1  Softmax:/layer.1/Softmax\n",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let said = on_tokens(&["--layer", "/layer.1/Softmax", "--head", "0"]);
    assert!(said.starts_with("layer         1 Softmax:/layer.1/Softmax [1, 2, 7, 7], head 0\n"), "{said}");
    assert!(said.contains("\n    4 0.000 0.000 0.999 0.000 0.000 0.000 0.000\n"), "{said}");
    let said = on_tokens(&["--layer", "0"]);
    assert!(said.contains("mean of 2 heads") && said.contains("\n    2 0.000 0.500 0.500 0.000"), "{said}");
    let said = on_tokens(&["--rollout", "--token", "0"]);
    assert!(said.ends_with("share 1.000 0.000 0.000 0.000 0.000 0.000 0.000\n"), "{said}");
}

#[test]
fn files_hold_every_map() {
    let dir = temp();
    let [npz_file, pictures, png, rolled] =
        ["maps.npz", "pictures", "one.png", "rolled.npz"].map(|n| path(&dir, n));
    on_tokens(&["-o", &npz_file, "-o", &pictures]);
    let maps = npz::read_npz(Path::new(&npz_file)).expect("the maps");
    let list: Vec<&str> = maps.keys().map(String::as_str).collect();
    assert_eq!(
        list,
        [
            "Softmax:/layer.0/Softmax/0",
            "Softmax:/layer.0/Softmax/1",
            "Softmax:/layer.1/Softmax/0",
            "Softmax:/layer.1/Softmax/1"
        ]
    );
    let map = &maps["Softmax:/layer.0/Softmax/0"];
    assert_eq!((map.shape(), map.data::<f32>()[1]), (&[7, 7][..], 0.0));
    assert!(map.data::<f32>()[7] > 0.99);
    assert_eq!(names(Path::new(&pictures)), ["00_layer.0_Softmax.png", "01_layer.1_Softmax.png"]);
    on_tokens(&["--layer", "1", "--head", "0", "-o", &png]);
    assert!(std::fs::read(&png).expect("a picture").starts_with(b"\x89PNG"));
    on_tokens(&["--rollout", "-o", &rolled]);
    let rolled = &npz::read_npz(Path::new(&rolled)).expect("the rollout")["rollout"];
    assert_eq!((rolled.shape(), rolled.data::<f64>()[0]), (&[7, 7][..], 1.0));
}

#[test]
fn a_rollout_is_drawn_over_the_image_whose_patches_are_tokens() {
    let dir = temp();
    let (file, png) = (path(&dir, "patches.egret"), path(&dir, "rollout.png"));
    // Four patches of 8 x 8 that attend to themselves alike.
    let patches = r#"graph @g(%0 "image": f32[1, 1, 16, 16]) -> (%3 "y") {
  %1 = reshape(%0) {shape = [1, 2, 8, 2, 8]}
  %2 = transpose(%1) {perm = [0, 1, 3, 2, 4]}
  %4 = reshape(%2) {shape = [1, 4, 64]}
  %3 = attention(%4, %4, %4, _) {fill = 0.0, safe = 0, scale = 1.0} from "Attention:/a"
}"#;
    std::fs::write(&file, patches).expect("the model");
    works(&["attention", &file, "--random", "1", "--rollout", "-o", &png]);
    assert!(std::fs::read(&png).expect("a picture").starts_with(b"\x89PNG"));
    let induction = model("induction");
    refused(
        &["attention", &induction, "--input", TOKENS, "--rollout", "-o", &png],
        1,
        &["no input of the model is an image that 7 tokens cover", ".npz"],
    );
}

#[test]
fn json_has_everything() {
    let out: serde_json::Value = serde_json::from_str(&on_tokens(&["--format", "json"])).expect("JSON");
    assert_eq!(out["layers"][1]["heads"].as_array().map(Vec::len), Some(2));
    let pair = &out["layers"][0]["heads"][0]["strongest"][0];
    assert_eq!([&pair["query"], &pair["key"]], [1, 0]);
    let one = on_tokens(&["--format", "json", "--layer", "0", "--head", "0"]);
    let one: serde_json::Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!((one["map"][0][0].as_f64(), one["map"].as_array().map(Vec::len)), (Some(1.0), Some(7)));
    let rolled = on_tokens(&["--format", "json", "--rollout"]);
    let rolled: serde_json::Value = serde_json::from_str(&rolled).expect("JSON");
    assert_eq!(rolled["shares"].as_array().map(Vec::len), Some(7));
}

#[test]
fn a_score_weights_maps_by_its_gradient() {
    let target = ["--target", "next[0,4,2]"];
    let said = on_tokens(&target);
    assert!(said.starts_with("target        next[0,4,2] = "), "{said}");
    assert!(
        said.contains("\nattention     layers: 2, by gradient: max(0, share * gradient)\nweight        "),
        "{said}"
    );
    // What decides is the head that looks for what came after a token like its own.
    let line = said.lines().find(|l| l.starts_with("    1 ")).expect("the layer");
    assert!(line.contains("h0 4 <- 2: "), "{said}");
    let said = on_tokens(&[&target[..], &["--rollout", "--token", "4"]].concat());
    assert!(said.contains("\nrelevance     2 layers, 7 tokens: what token 4 takes from each\n"), "{said}");
    let json = |more: &[&str]| -> serde_json::Value {
        let args = [&target[..], &["--format", "json"], more].concat();
        serde_json::from_str(&on_tokens(&args)).expect("JSON")
    };
    let all = json(&[]);
    assert_eq!(
        (all["target"]["name"].as_str(), all["layers"].as_array().map(Vec::len)),
        (Some("next[0,4,2]"), Some(2))
    );
    let map = json(&["--layer", "1", "--head", "0"]);
    assert!(map["map"][4][2].as_f64() > Some(0.0) && map["map"][3][2].as_f64() == Some(0.0), "{map}");
    assert!(json(&["--rollout"])["target"]["score"].is_f64());
    let induction = model("induction");
    refused(
        &["attention", &induction, "--input", TOKENS, "--target", "next[0,4,99]"],
        1,
        &["no class 99: axis 2 of `next`"],
    );
}

#[test]
fn one_page_has_every_map() {
    let dir = temp();
    let file = path(&dir, "page.html");
    let args = ["--target", "next[0,4,2]", "--report", &file];
    on_tokens(&args);
    let page = std::fs::read_to_string(&file).expect("the page");
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    let data = page.split("id=\"data\">").nth(1).and_then(|s| s.split("</script>").next()).expect("data");
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    let kinds: Vec<_> =
        data["groups"].as_array().expect("groups").iter().map(|g| g["kind"].as_str()).collect();
    assert_eq!(kinds, ["rollout", "relevance", "attention", "attention", "weighted", "weighted"].map(Some));
    assert_eq!(data["labels"], serde_json::json!(["3", "1", "2", "3", "1", "2", "3"]));
    on_tokens(&args);
    assert!(
        std::fs::read_to_string(&file).expect("the page") == page,
        "the same again gives the same bytes"
    );
    let induction = model("induction");
    let npz_file = path(&dir, "a.npz");
    refused(
        &["attention", &induction, "--input", TOKENS, "-o", &npz_file, "--report", &npz_file],
        1,
        &["is what is written to", "too; name another file"],
    );
}

#[test]
fn wrong_requests_have_one_message() {
    let induction = model("induction");
    for (args, part) in [
        (
            &["--layer", "2"][..],
            "no layer `2`; the model's attentions are 0 `Softmax:/layer.0/Softmax`, 1 ",
        ),
        (
            &["--layer", "1", "--head", "2"],
            "no head 2: `Softmax:/layer.1/Softmax`, [1, 2, 7, 7], has 2, counted from 0 to 1",
        ),
        (&["--rollout", "--token", "7"], "no token 7: there are 7, counted from 0"),
        (&["--layer", "1", "--rollout"], "cannot be used with"),
        (&["--head", "1"], "--layer"),
        (&["-o", "maps.png"], "a .png file holds one layer: name it by --layer"),
        (&["-o", "maps.txt"], "attention is written to a .npz file or a folder, not to maps.txt"),
        (&["--rollout", "-o", "maps"], "attention is written to a .npz or .png file, not to maps"),
    ] {
        refused(&[&["attention", &induction, "--input", TOKENS][..], args].concat(), 1, &[part]);
    }
    // Nothing decides how many tokens there are.
    refused(&["attention", &induction], 1, &["no value for the input `tokens` (i64[1, n]); give --input"]);
    refused(
        &["attention", &induction, "--input", "tokens=[[]]"],
        1,
        &["the input `tokens` holds nothing (its shape is [1, 0])", "give at least one"],
    );
    let drawn = ["attention", &induction, "--random", "1", "--dim", "n=2", "--sample", "1"];
    refused(
        &drawn,
        1,
        &["no sample 1: --sample takes one of those that given inputs hold, and none is given"],
    );
    let cnn = model("simple_cnn");
    refused(
        &["attention", &cnn, "--random", "1"],
        2,
        &["the model has no attention: looked for `attention` after the passes"],
    );
}
