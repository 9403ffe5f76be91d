//! What the table of levels says of a layer is what happens to it.

mod kit;

use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::npz;
use egret_compress::{Goal, Level, Metric, Outcome, Reason, Verdict, compress, replay};
use kit::{File, Stored, floats, model, node, tensor};
use onnx_protobuf::{Message, ModelProto, NodeProto, TensorProto};
use std::path::PathBuf;

/// Samples of 4 rows of 64 numbers.
fn data() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("data.npy");
    let mut rng = Rng::new(8);
    let x = Tensor::new(&[200, 4, 64], (0..200 * 4 * 64).map(|_| rng.signed_f64() as f32).collect());
    npz::write(&path, &[("x".into(), x)]).expect("a file");
    (dir, path)
}

fn goal(data: PathBuf, to: &str) -> Goal {
    Goal {
        to: to.parse().expect("levels"),
        data: vec![data],
        stats: vec![],
        eval: vec![],
        metric: Some(Metric::Mse),
        size: None,
        budget: None,
        speed: None,
        zeros: None,
        target: None,
        measure: false,
        skip: vec![],
    }
}

fn compressed(file: &File, to: &str, size: &str) -> Outcome {
    let (_dir, data) = data();
    let goal = Goal { size: Some(size.parse().expect("a size")), ..goal(data, to) };
    compress(&file.path(), &goal, None, &mut |_, _, _| {}).expect("a copy")
}

fn file(nodes: Vec<NodeProto>, weights: Vec<TensorProto>) -> File {
    File::of(&model(nodes, weights, &[4, 64], "y"))
}

/// A product, and the same with a factor inside.
fn single() -> Vec<(&'static str, File)> {
    let mut scaled = node("Gemm", "one", &["x", "w"], "y");
    scaled.attribute.push(onnx_protobuf::AttributeProto {
        name: "alpha".into(),
        f: 0.125,
        type_: onnx_protobuf::attribute_proto::AttributeType::FLOAT.into(),
        ..Default::default()
    });
    let w = || vec![tensor("w", &[64, 48], Stored::Raw)];
    vec![
        ("MatMul", file(vec![node("MatMul", "one", &["x", "w"], "y")], w())),
        ("Gemm", file(vec![scaled], w())),
    ]
}

#[test]
fn the_error_of_a_level_is_the_one_that_a_single_layer_has() {
    for (name, file) in single() {
        for to in ["w8", "w4:32", "int8"] {
            let outcome = compressed(&file, to, "90%");
            let joint = outcome.joint.as_ref().expect("a search");
            let point = &joint.points[joint.chosen];
            let (said, was) = (point.planned.error, point.score.value);
            assert!(
                said > 0.0 && was > 0.5 * said && was < 2.0 * said,
                "{name} {to}: said {said}, was {was}"
            );
            let bytes = point.bytes as f64 / outcome.made.model.len() as f64;
            assert_eq!(bytes, 1.0, "{name} {to}");
        }
    }
}

#[test]
fn int8_makes_bytes_of_the_inputs_of_the_layers_that_have_it() {
    let nodes = vec![node("MatMul", "one", &["x", "w"], "h"), node("MatMul", "two", &["h", "v"], "y")];
    let weights = vec![tensor("w", &[64, 48], Stored::Raw), tensor("v", &[48, 4], Stored::Raw)];
    let file = file(nodes, weights);
    let size = 64 * 48 + 48 * 4 * 4 + 1400;
    let outcome = compressed(&file, "dense,int8", &size.to_string());
    assert_eq!(outcome.unmet, None);
    let verdicts: Vec<&Verdict> = outcome.made.report.entries.iter().map(|e| &e.verdict).collect();
    let Verdict::Quantised { form, .. } = verdicts[0] else { panic!("{verdicts:?}") };
    assert_eq!(form, "int8, a scale per output; input uint8");
    assert!(matches!(verdicts[1], Verdict::Left { reason: Reason::Dense, .. }), "{verdicts:?}");
    let ranges: Vec<&str> = outcome.made.report.ranges.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(ranges, ["x"]);
    let made = ModelProto::parse_from_bytes(&outcome.made.model).expect("a model");
    let count = |op: &str| made.graph.node.iter().filter(|n| n.op_type == op).count();
    assert_eq!((count("QuantizeLinear"), count("DequantizeLinear")), (1, 2));
    // The report says what each layer has, and why it has no more.
    let joint = outcome.joint.as_ref().expect("a search");
    let [one, two] = &joint.tried[..] else { panic!("two layers") };
    assert_eq!(one.levels[one.chosen].0, "int8".parse::<Level>().expect("a level"));
    assert_eq!((one.before, one.why_not_smaller().as_str()), (64 * 48 * 4, "it has its smallest level"));
    assert_eq!(two.levels[two.chosen].0, Level::Dense);
    assert!(two.why_not_smaller().starts_with("int8 takes "), "{}", two.why_not_smaller());
    let bytes: Vec<_> = outcome.made.report.entries.iter().map(|e| e.bytes).collect();
    assert_eq!(bytes, [Some([64 * 48 * 4, 64 * 48 + 48 * 5]), Some([48 * 4 * 4; 2])]);
    let json = outcome.to_json();
    let first = &json["contractions"][0];
    assert_eq!(
        (&first["bytes_before"], &first["bytes"]),
        (&(64 * 48 * 4).into(), &(64 * 48 + 48 * 5).into())
    );
    assert_eq!(
        (&json["levels"][0]["chosen"], &json["levels"][1]["chosen"]),
        (&"int8".into(), &"dense".into())
    );
}

#[test]
fn bytes_and_sqnr_are_those_of_the_file() {
    let file =
        file(vec![node("MatMul", "one", &["x", "w"], "y")], vec![tensor("w", &[64, 48], Stored::Raw)]);
    let outcome = compressed(&file, "sparse:0.97", "90%");
    let made = ModelProto::parse_from_bytes(&outcome.made.model).expect("a model");
    let sparse = &made.graph.sparse_initializer[0];
    let [values, indices] = [&sparse.values, &sparse.indices].map(|t| t.raw_data.len());
    let entry = &outcome.made.report.entries[0];
    assert_eq!(entry.bytes, Some([64 * 48 * 4, values + indices]));
    let Verdict::Pruned { error, output: Some(output), .. } = entry.verdict else { panic!("{entry:?}") };
    let near = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 1e-9);
    assert!(error > 0.5 && near(entry.verdict.sqnr(), -20.0 * error.log10()), "{entry:?}");
    assert!(near(output.sqnr(), -10.0 * output.error.log10()), "{entry:?}");
    let json = &outcome.to_json()["contractions"][0]["pruned"];
    assert!(near(json["weight_sqnr_db"].as_f64(), -20.0 * error.log10()), "{json}");
    assert!(near(json["output_sqnr_db"].as_f64(), -10.0 * output.error.log10()), "{json}");
}

/// Of each four neighbours along the reduction axis of a matrix, how many are no zeros at most.
fn most_of_four(weights: &[f32], width: usize) -> usize {
    let of =
        |column: usize, top: usize| (top..top + 4).filter(|r| weights[r * width + column] != 0.0).count();
    (0..width).flat_map(|c| (0..weights.len() / width).step_by(4).map(move |r| of(c, r))).max().unwrap_or(0)
}

#[test]
fn zeros_in_groups_go_where_the_table_says_until_there_are_enough() {
    let nodes = vec![node("MatMul", "one", &["x", "w"], "h"), node("MatMul", "two", &["h", "v"], "y")];
    let weights = vec![tensor("w", &[64, 48], Stored::Raw), tensor("v", &[48, 64], Stored::Raw)];
    let file = file(nodes, weights);
    let (_dir, data) = data();
    let with = |zeros: &str| Goal {
        zeros: Some(zeros.parse().expect("a part")),
        ..goal(data.clone(), "dense,2:4")
    };
    let made = |goal: &Goal| compress(&file.path(), goal, None, &mut |_, _, _| {});
    let all = 2 * 64 * 48;
    for (zeros, layers) in [("20%", 1), ("25%", 1), ("26%", 2), ("0.5", 2)] {
        let outcome = made(&with(zeros)).expect("a copy");
        assert_eq!(outcome.unmet, None, "{zeros}");
        let model = ModelProto::parse_from_bytes(&outcome.made.model).expect("a model");
        let read = |name: &str| -> Vec<f32> {
            let t = model.graph.initializer.iter().find(|t| t.name == name).expect("stored as it was");
            t.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let (w, v) = (read("w"), read("v"));
        let count = w.iter().chain(&v).filter(|v| **v == 0.0).count();
        assert_eq!(count, layers * all / 4, "{zeros}");
        let joint = outcome.joint.as_ref().expect("a search");
        let errors: Vec<f64> = joint.tried.iter().map(|t| t.levels[1].1.error).collect();
        let chosen: Vec<bool> = joint.tried.iter().map(|t| t.chosen == 1).collect();
        for (name, list, width, is) in [("one", &w, 48, chosen[0]), ("two", &v, 64, chosen[1])] {
            assert_eq!(most_of_four(list, width), if is { 2 } else { 4 }, "{zeros} {name}");
        }
        if layers == 1 {
            assert_eq!(chosen[0], errors[0] < errors[1], "the one that loses least: {errors:?}");
        }
        let [weights, most] = joint.zeros.expect("they were asked for");
        let kept = joint.points[joint.chosen].kept;
        assert!(weights == all && kept == all - count && kept <= most, "{zeros}: {weights} {kept} {most}");
        let again = replay(&file.path(), &outcome.recipe, &[], None, &mut |_, _, _| {}).expect("the same");
        assert!(again.made.model == outcome.made.model, "{zeros}");
    }
    let unmet = made(&with("51%")).expect("a copy").unmet.expect("not met");
    assert!(unmet.contains("3072 of 6144 weights can be zero at most"), "{unmet}");
    let strict = Goal { budget: Some("1e-9".parse().expect("a loss")), ..with("25%") };
    let unmet = made(&strict).expect("a copy").unmet.expect("not met");
    assert!(unmet.contains("the budget"), "{unmet}");
    // What has no goal, or two, is refused.
    let size = Some("90%".parse().expect("a size"));
    for (goal, part) in [
        (Goal { size, ..goal(data.clone(), "dense,2:4") }, "--zeros 40%"),
        (Goal { size, ..with("25%") }, "--zeros, --size or --speed"),
        (Goal { to: "dense,w8".parse().expect("levels"), ..with("25%") }, "--to dense,2:4"),
        (Goal { to: "2:4,channels:0.2".parse().expect("levels"), ..with("25%") }, "channels do not"),
    ] {
        let error = made(&goal).err().expect("refused").message;
        assert!(error.contains(part), "{error}");
    }
}

/// Of two layers, the one goes that the model hardly reads, though its own outputs lose more.
#[test]
fn zeros_go_where_the_model_loses_least_and_not_where_a_layer_does() {
    let mut rng = Rng::new(21);
    let mut sign = |v: f32| if rng.signed_f64() < 0.0 { -v } else { v };
    // Three of four weights of the first are small already.
    let w = (0..64 * 64).map(|i| sign(if i / 64 % 4 == 0 { 1.0 } else { 0.2 })).collect();
    let v = (0..64 * 64).map(|_| sign(1.0)).collect();
    let nodes = vec![
        node("MatMul", "one", &["x", "w"], "h"),
        node("MatMul", "two", &["x", "v"], "g"),
        node("Mul", "less", &["g", "s"], "t"),
        node("Add", "sum", &["h", "t"], "y"),
    ];
    let weights = vec![floats("w", &[64, 64], w), floats("v", &[64, 64], v), floats("s", &[1], vec![0.01])];
    let file = file(nodes, weights);
    let (_dir, data) = data();
    let goal = Goal { zeros: Some("25%".parse().expect("a part")), ..goal(data, "dense,2:4") };
    let outcome = compress(&file.path(), &goal, None, &mut |_, _, _| {}).expect("a copy");
    let joint = outcome.joint.as_ref().expect("a search");
    let chosen: Vec<usize> = joint.tried.iter().map(|t| t.chosen).collect();
    assert_eq!(chosen, [0, 1], "{:?}", joint.tried);
    let point = &joint.points[joint.chosen];
    assert!(point.score.loss < 1e-3, "{:?}", point.score);
}

/// Samples that are all alike would keep any budget.
#[test]
fn samples_that_are_all_the_same_are_refused() {
    let file =
        file(vec![node("MatMul", "one", &["x", "w"], "y")], vec![tensor("w", &[64, 48], Stored::Raw)]);
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("same.npy");
    npz::write(&path, &[("x".into(), Tensor::new(&[8, 4, 64], vec![0.5f32; 8 * 4 * 64]))]).expect("a file");
    let goal = Goal { budget: Some("1%".parse().expect("a loss")), ..goal(path, "dense,w8") };
    let error = compress(&file.path(), &goal, None, &mut |_, _, _| {}).err().expect("refused").message;
    assert!(error.contains("samples are the same"), "{error}");
}
