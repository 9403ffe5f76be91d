//! `egret attribute` from outside.

mod kit;

use egret::npz;
use kit::{Dim, egret, model, onnx, path, refused, temp, text, works};
use std::path::Path;

fn digits() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/digits/images.npy").display().to_string()
}

/// A file of the fixtures.
fn path_of(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name).display().to_string()
}

/// The command on a nine that is read as a four.
fn on_digit<'a>(model: &'a str, digits: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["attribute", model, "--inputs", digits, "--sample", "292"][..], args].concat()
}

#[test]
fn every_method_shows_one_screen_and_writes_files() {
    let (model, digits, dir) = (model("simple_cnn"), digits(), temp());
    for method in [
        "saliency",
        "input-x-gradient",
        "integrated-gradients",
        "smoothgrad",
        "lrp-epsilon",
        "lrp-gamma",
        "grad-cam",
        "grad-cam++",
        "occlusion",
        "rise",
        "kernel-shap",
        "lime",
    ] {
        let [npy, png] = ["npy", "png"].map(|e| path(&dir, &format!("{method}.{e}")));
        let said = works(&on_digit(&model, &digits, &["--method", method, "-o", &npy, "--output", &png]));
        assert!(said.starts_with("target        logits[0,4] = 6.2"), "{said}");
        assert!(said.contains("the largest of 10; next logits[0,9]"), "{said}");
        assert!(said.lines().count() <= 24 && said.contains("\nimage[0,0,"), "{said}");
        let complete = ["integrated-gradients", "kernel-shap"].contains(&method);
        assert_eq!(said.contains("completeness  error"), complete, "{said}");
        let conserved = said.contains("conserved     ") && said.contains(" %; biases and epsilon have ");
        assert_eq!(conserved, method.starts_with("lrp-"), "{said}");
        assert_eq!(said.contains("  std error"), ["kernel-shap", "lime"].contains(&method), "{said}");
        let map = npz::read_npy(Path::new(&npy)).expect("the map");
        assert_eq!(map.shape(), [1, 1, 28, 28]);
        assert!(map.data::<f32>().iter().any(|v| *v != 0.0), "{method}");
        let picture = std::fs::read(&png).expect("the picture");
        assert!(picture.starts_with(b"\x89PNG"), "{method}");
        // The same again gives the same bytes.
        works(&on_digit(&model, &digits, &["--method", method, "-o", &npy, "--output", &png]));
        assert!(std::fs::read(&png).expect("the picture") == picture, "{method}");
    }
}

#[test]
fn two_inputs_have_a_map_and_a_share_each() {
    let (fusion, dir) = (model("fusion_cnn"), temp());
    let file = path(&dir, "both.npz");
    let args = ["attribute", &fusion, "--random", "3", "--method", "input-x-gradient", "-o", &file];
    let said = works(&args);
    assert!(said.contains("input         text [1, 1, 28, 28]: sum "), "{said}");
    let maps = npz::read_npz(Path::new(&file)).expect("the maps");
    assert_eq!(maps.keys().collect::<Vec<_>>(), ["image", "text"]);
    let said = works(&[&args[..6], &["--wrt", "image"]].concat());
    assert!(said.contains("input         image") && !said.contains("input         text"), "{said}");
}

#[test]
fn curves_are_two_lines_and_points() {
    let (model, digits) = (model("parallel_cnn"), digits());
    let args = on_digit(&model, &digits, &["--method", "saliency", "--baseline", "0.5", "--curves=20"]);
    let said = works(&args);
    assert!(said.lines().count() <= 24 && said.lines().all(|l| l.len() <= 100), "{said}");
    let note = "curves        20 steps over 784 elements, 5 random orders, run in 1 batch\n";
    assert!(said.contains(note), "{said}");
    for curve in ["deletion", "insertion"] {
        let line = said.lines().find(|l| l.starts_with(curve)).expect("a line");
        assert!(line.contains(", in random order ") && line.contains("than chance"), "{line}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&works(&[&args[..], &["--format", "json"]].concat())).expect("JSON");
    let points = |curve: &str| json["curves"][curve]["points"].as_array().expect("points").clone();
    let (deletion, insertion) = (points("deletion"), points("insertion"));
    assert_eq!((deletion.len(), insertion.len()), (21, 21));
    assert_eq!(deletion[0][1], insertion[20][1]);
    assert_eq!(deletion[20], serde_json::json!([1.0, insertion[0][1]]));
    assert_eq!(json["curves"]["deletion"]["random"].as_array().expect("areas").len(), 5);
    // Without a number of steps there are 100.
    let said = works(&on_digit(&model, &digits, &["--method", "saliency", "--curves"]));
    assert!(said.contains("curves        100 steps"), "{said}");
}

#[test]
fn several_methods_stand_side_by_side() {
    let (model, digits, dir) = (model("simple_cnn"), digits(), temp());
    let [npz_file, npy, png, html] = ["m.npz", "m.npy", "m.png", "m.html"].map(|n| path(&dir, n));
    let methods = ["--method", "saliency,occlusion", "--method", "integrated-gradients", "--steps", "8"];
    let run = |more: &[&str]| works(&on_digit(&model, &digits, &[&methods[..], more].concat()));
    let said = run(&["-o", &npz_file, "--report", &html, "--curves=10"]);
    assert_eq!(said.matches("\nmethod        ").count(), 3, "{said}");
    assert_eq!((said.matches("target  ").count(), said.matches("\nimage[0,0,").count()), (1, 9), "{said}");
    assert!(said.contains("integrated gradients, 8 steps"), "{said}");
    let maps = npz::read_npz(Path::new(&npz_file)).expect("the maps");
    let names: Vec<&String> = maps.keys().collect();
    assert_eq!(names, ["integrated-gradients/image", "occlusion/image", "saliency/image"]);
    let page = std::fs::read_to_string(&html).expect("the page");
    assert_eq!((page.matches("data-method>").count(), page.matches("data-input>").count()), (3, 1));
    // The input, and each method's over it; curves with their bands.
    assert_eq!(
        (page.matches("data:image/png;base64,").count(), page.matches("class=\"band\"").count()),
        (7, 6)
    );
    assert!(page.contains("type=\"range\" id=\"over\"") && page.contains("image[0,0,6,13]"));
    run(&["-o", &npz_file, "--report", &html, "--curves=10"]);
    assert!(
        std::fs::read_to_string(&html).expect("the page") == page,
        "the same again gives the same bytes"
    );
    let json: serde_json::Value = serde_json::from_str(&run(&["--format", "json"])).expect("JSON");
    let of: Vec<_> = json["explanations"]
        .as_array()
        .expect("all")
        .iter()
        .map(|e| e["target"]["name"].as_str())
        .collect();
    assert_eq!((of, json["target"]["name"].as_str()), (vec![Some("logits[0,4]"); 3], Some("logits[0,4]")));
    for file in [&npy, &png] {
        let args = on_digit(&model, &digits, &[&methods[..], &["-o", file]].concat());
        refused(
            &args,
            1,
            &["holds the maps of one method, and 3 are given: write a .npz file (METHOD/INPUT)"],
        );
    }
    for (more, part) in [
        (["--ridge", "2"], "--ridge belongs to lime, not to saliency"),
        (["--method", "occlusion"], "--method occlusion is given twice"),
        (["--report", digits.as_str()], "images.npy"),
    ] {
        refused(&on_digit(&model, &digits, &[&methods[..], &more].concat()), 1, &[part]);
    }
}

#[test]
fn permuted_weights_are_a_line_and_a_warning() {
    let (model, trees, digits) = (model("parallel_cnn"), model("digit_trees"), digits());
    let args = on_digit(&model, &digits, &["--method", "input-x-gradient", "--check-randomised"]);
    let said = works(&args);
    assert!(said.lines().count() <= 24 && said.lines().all(|l| l.len() <= 126), "{said}");
    assert!(
        said.contains("randomised    rank correlation with permuted weights: last of 4 layers 0."),
        "{said}"
    );
    assert!(said.contains(" but for zeros of both): it shows the input's edges more than what"), "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&works(&[&args[..], &["--format", "json"]].concat())).expect("JSON");
    let layers = ["Gemm:/fc2/Gemm", "Gemm:/fc1/Gemm", "Conv:/conv2/Conv", "Conv:/conv1/Conv"];
    assert_eq!(json["randomised"]["layers"], serde_json::json!(layers));
    assert_eq!(json["randomised"]["fails"], true);
    let background = path_of("shap/background.npz");
    let args = ["--method", "tree-shap", "--background", &background, "--check-randomised"];
    refused(
        &on_digit(&trees, &digits, &args),
        1,
        &["--check-randomised permutes weights, and the model has no"],
    );
}

#[test]
fn samples_that_are_not_independent_run_one_by_one() {
    let dir = temp();
    let file = path(&dir, "norm.onnx");
    let dims = [Dim::Free("n"), Dim::Is(1), Dim::Is(2), Dim::Is(2)];
    let norm = onnx("MeanVarianceNormalization", &[("axes", &[0, 2, 3])], 1, ("x", &dims), ("y", &dims));
    std::fs::write(&file, norm).expect("the model");
    let said = works(&["attribute", &file, "--method", "occlusion", "--input", "x=[[[[1,2],[3,5]]]]"]);
    assert!(said.contains("run one by one: the samples of a batch are not independent"), "{said}");
    // Nodes are no samples: edges, which are not copied, reach those of the first copy alone.
    let (nodes, joined, dims) =
        (path(&dir, "nodes.onnx"), path(&dir, "graph.onnx"), [Dim::Free("n"), Dim::Is(5)]);
    std::fs::write(&nodes, onnx("Relu", &[], 1, ("x", &dims), ("y", &dims))).expect("the model");
    works(&["join", &nodes, "--head", "message-passing:6", "--wire", "nodes:y=head:nodes", "-o", &joined]);
    let graph = ["--input", "x=[[1,2,3,4,5],[2,1,0,1,2]]", "--input", "edges=[[0,1],[1,0]]"];
    let args = ["attribute", &joined, "--method", "occlusion", "--target", "features[0,2]"];
    let said = works(&[&args[..], &graph].concat());
    assert!(said.contains("run one by one: the samples of a batch are not independent"), "{said}");
}

#[test]
fn trees_have_shap_values() {
    let (trees, digits, dir) = (model("digit_trees"), digits(), temp());
    let background = path_of("shap/background.npz");
    let args = |more: &[&'static str]| -> Vec<String> {
        let own = on_digit(&trees, &digits, &["--method", "tree-shap", "--background", &background]);
        own.iter().chain(more).map(|s| (*s).to_owned()).collect()
    };
    let run = |more: &[&'static str]| {
        let all = args(more);
        works(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let said = run(&[]);
    assert!(said.contains("40 trees against 40 rows of background"), "{said}");
    assert!(said.contains("of margins: what trees add up to, before the logistic function"), "{said}");
    assert!(said.contains("above the background's mean, ") && said.lines().count() <= 24, "{said}");
    let json: serde_json::Value = serde_json::from_str(&run(&["--format", "json"])).expect("JSON");
    let sum: f64 = json["features"]
        .as_array()
        .expect("features")
        .iter()
        .map(|f| f["attribution"].as_f64().expect("a number"))
        .sum();
    let of = |name: &str| json["completeness"][name].as_f64().expect("a number");
    assert!((sum - of("sum")).abs() < 1e-12 && of("error") < 1e-5 && of("difference") < -1.0, "{json}");
    assert_eq!(json["target"]["name"], "nine[0,0]");
    // All digits at once: a value for each row and feature.
    let file = path(&dir, "all.npy");
    let all = [
        "attribute",
        &trees,
        "--inputs",
        &digits,
        "--method",
        "tree-shap",
        "--background",
        &background,
        "--target",
        "0",
        "-o",
        &file,
    ];
    let said = works(&all);
    assert!(said.contains("for each of 1000 rows; the score is their sum"), "{said}");
    assert_eq!(npz::read_npy(Path::new(&file)).expect("values").shape(), [1000, 1, 28, 28]);
}

#[test]
fn shap_of_other_models_is_refused() {
    let (cnn, trees, digits) = (model("simple_cnn"), model("digit_trees"), digits());
    let background = path_of("shap/background.npz");
    let args = |model, more: &[&'static str]| -> Vec<String> {
        let own = on_digit(model, &digits, &["--method", "tree-shap"]);
        own.iter().chain(more).map(|s| (*s).to_owned()).collect()
    };
    let refuse = |args: Vec<String>, part: &str| {
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 1, &[part]);
    };
    refuse(args(&trees, &[]), "an ONNX file has none; give some of the data by --background rows.npy");
    refuse(args(&cnn, &["--background", "image=0"]), "of decision trees, and the model has none");
    refuse(args(&trees, &["--background", "image=[[1,2]]"]), "--background: `image` is f32[1, 2]");
    refuse(args(&trees, &["--background", "picture=0"]), "--background: the model has no input `picture`");
    refuse(args(&trees, &["--background", "nosuch.npz"]), "nosuch.npz");
    refuse(
        args(&trees, &["--window", "2"]),
        "--window belongs to occlusion, rise, kernel-shap and lime, not to tree-shap",
    );
    refuse(
        args(&trees, &["--background", "image=0", "--curves"]),
        "tree-shap has rows of background instead",
    );
    let other = on_digit(&trees, &digits, &["--method", "occlusion", "--background", &background]);
    refused(&other, 1, &["--background belongs to tree-shap, not to occlusion"]);
    let saliency = on_digit(&trees, &digits, &["--method", "saliency"]);
    refused(&saliency, 1, &["tree_ensemble", "--method tree-shap"]);
}

#[test]
fn wrong_requests_have_one_message() {
    let (model, digits) = (model("simple_cnn"), digits());
    for (args, part) in [
        (&["--method", "magic"][..], "no method `magic`; there are saliency, "),
        (
            &["--method", "saliency", "--target", "nosuch"],
            "no value `nosuch`; its inputs and outputs are `image`",
        ),
        (&["--method", "saliency", "--target", "10"], "no class 10: axis 1 of `logits`, [1, 10], has 10"),
        (&["--method", "occlusion", "--target", "logits[0,-11]"], "no class -11"),
        (&["--method", "saliency", "--target", "logits[0,0,1]"], "has more axes than `logits`"),
        (&["--method", "saliency", "--target", "[0,9]"], "no value ``"),
        (&["--method", "saliency", "--wrt", "picture"], "no input `picture`; its inputs are `image`"),
        (&["--method", "saliency", "--wrt", "logits"], "`logits` is no input"),
        (&["--method", "saliency", "--input", "picture=1"], "no input `picture`; its inputs are `image`"),
        (
            &["--method", "occlusion", "--window", "29x4"],
            "the window 29x4 is larger than the input `image`",
        ),
        (&["--method", "occlusion", "--window", "1x1x1x1x1"], "has more axes than the input"),
        (&["--method", "occlusion", "--window", "0x4"], "--window 0: at least 1"),
        (&["--method", "occlusion", "--window", "4by4"], "write sizes as in 4x4"),
        (&["--method", "occlusion", "--window", "4x4", "--stride", "5"], "is larger than the window"),
        (&["--method", "occlusion", "--window", "4x4", "--stride", "1x1x1"], "has other axes"),
        (&["--method", "integrated-gradients", "--steps", "0"], "give a whole number of at least 1"),
        (&["--method", "integrated-gradients", "--steps", "10001"], "at most 10000"),
        (
            &["--method", "integrated-gradients", "--baseline", "image=[1,2]"],
            "the baseline of `image` is f32[2]",
        ),
        (&["--method", "integrated-gradients", "--baseline", "nan"], "the baseline NaN is no value"),
        (&["--method", "integrated-gradients", "--baseline", "gray"], "--baseline gray: write NAME=VALUE"),
        (&["--method", "lime", "--kernel-width", "0"], "--kernel-width 0: a distance of 0.01 or more"),
        (&["--method", "lime", "--ridge", "-1"], "--ridge -1: a penalty of 0 or more"),
        (&["--method", "lime", "--samples", "2000000"], "--samples 2000000: at most 1000000 sets"),
        (&["--method", "kernel-shap", "--samples", "97"], "49 segments need at least 98"),
        (
            &["--method", "kernel-shap", "--stride", "2"],
            "--stride belongs to occlusion, not to kernel-shap",
        ),
        (&["--method", "kernel-shap", "--ridge", "1"], "--ridge belongs to lime, not to kernel-shap"),
        (&["--method", "smoothgrad", "--noise", "-1"], "--noise -1: 0 or more"),
        (&["--method", "lrp-epsilon", "--epsilon", "0"], "--epsilon 0: a number above 0"),
        (&["--method", "lrp-gamma", "--gamma", "-1"], "--gamma -1: a number above 0"),
        (&["--method", "lrp-epsilon", "--gamma", "1"], "--gamma belongs to lrp-gamma, not to lrp-epsilon"),
        (
            &["--method", "saliency", "--epsilon", "1"],
            "--epsilon belongs to lrp-epsilon and lrp-gamma, not",
        ),
        (
            &["--method", "saliency", "--steps", "3"],
            "--steps belongs to integrated-gradients, not to saliency",
        ),
        (
            &["--method", "grad-cam", "--layer", "conv9"],
            "no value or node `conv9`; its convolutions are `Conv:/conv1/Conv`",
        ),
        (
            &["--method", "grad-cam", "--layer", "/Flatten_output_0"],
            "the layer `/Flatten_output_0` is f32[1, 320]",
        ),
        (&["--method", "saliency", "-o", "x.jpg"], "written to .npz, .npy and .png files, not to x.jpg"),
    ] {
        refused(&on_digit(&model, &digits, args), 1, &[part]);
    }
    refused(&["attribute", &model, "--method", "saliency"], 1, &["no value for the input `image`"]);
    let far = ["attribute", &model, "--inputs", &digits, "--sample", "1000", "--method", "saliency"];
    refused(&far, 1, &["no sample 1000: the given inputs hold 1000"]);
}

#[test]
fn what_has_no_derivative_is_named_and_can_be_occluded() {
    let dir = temp();
    let write = |name: &str, model: &str| {
        let file = path(&dir, name);
        std::fs::write(&file, model).expect("a model");
        file
    };
    let det =
        write("det.egret", "graph @g(%0 \"x\": f64[2, 2]) -> (%1 \"y\") { %1 = det(%0) from \"Det:/a\" }");
    let input = ["--input", "x=[[1,2],[3,4]]"];
    let args = |file, method| [&["attribute", file, "--method", method][..], &input].concat();
    refused(&args(&det, "saliency"), 2, &["no derivative through", "det (Det:/a)"]);
    let said = works(&args(&det, "occlusion"));
    // Without its first column or its second the determinant is 0, not -2.
    let row = |name: &str| {
        said.lines().find(|l| l.starts_with(name)).map(|l| l.split_whitespace().skip(1).collect())
    };
    assert!(said.contains("y = -2.0000"), "{said}");
    assert_eq!(row("x[0,0]"), Some(vec!["-2.0000", "1.0000"]), "{said}");
    assert_eq!(row("x[1,1]"), Some(vec!["-2.0000", "4.0000"]), "{said}");
    let probabilities = write(
        "probabilities.egret",
        "graph @g(%0 \"x\": f64[2, 2]) -> (%1 \"y\") { %1 = softmax(%0) {axis = 1} from \"Softmax:/s\" }",
    );
    let said = "no rule for n0 softmax (Softmax:/s): it divides by what depends on the inputs";
    refused(&args(&probabilities, "lrp-epsilon"), 2, &[said]);
    let steps = write(
        "steps.egret",
        "graph @g(%0 \"x\": f64[2, 2]) -> (%2 \"y\") { %1 = round(%0) from \"Round:/r\" %2 = exp(%1) }",
    );
    refused(&args(&steps, "saliency"), 1, &["is zero, as it ends at", "round (Round:/r)"]);
    // A table is no picture.
    let out = egret(&[&args(&steps, "occlusion")[..], &["-o", &path(&dir, "x.png")]].concat());
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("a picture is of images"), "{}", text(&out.stderr));
}
