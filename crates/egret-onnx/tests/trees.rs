//! Ensembles of trees whose leaves do not vote for every target.

mod build;

use build::*;
use egret_ir::{Graph, Tensor, Value, interp, verify};
use egret_onnx::{ImportError, ImportOptions, import_bytes};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, Message};

fn listed(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), type_: kind.into(), ..AttributeProto::default() }
}

fn all(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto { ints: v.to_vec(), ..listed(name, AttributeType::INTS) }
}

fn numbers(name: &str, v: &[f32]) -> AttributeProto {
    AttributeProto { floats: v.to_vec(), ..listed(name, AttributeType::FLOATS) }
}

/// Trees of one test each, whether the feature is at most 0: what the leaves say of targets, if it is and if not.
type Stump = [&'static [(i64, f32)]; 2];

fn ensemble(trees: &[Stump], targets: i64, aggregate: &str, base: &[f32]) -> Result<Graph, ImportError> {
    let n = trees.len();
    let each = |v: [i64; 3]| v.repeat(n);
    let ids: Vec<i64> = (0..n as i64).flat_map(|t| [t; 3]).collect();
    let mut modes = listed("nodes_modes", AttributeType::STRINGS);
    modes.strings =
        ["BRANCH_LEQ", "LEAF", "LEAF"].repeat(n).iter().map(|m| m.as_bytes().to_vec()).collect();
    let votes: Vec<(i64, i64, i64, f32)> = (0i64..)
        .zip(trees)
        .flat_map(|(t, leaves)| {
            (1i64..).zip(leaves).flat_map(move |(l, v)| v.iter().map(move |&(k, w)| (t, l, k, w)))
        })
        .collect();
    let mut attributes = vec![
        int("n_targets", targets),
        string("aggregate_function", aggregate),
        all("nodes_treeids", &ids),
        all("nodes_nodeids", &each([0, 1, 2])),
        all("nodes_featureids", &each([0, 0, 0])),
        all("nodes_truenodeids", &each([1, 0, 0])),
        all("nodes_falsenodeids", &each([2, 0, 0])),
        numbers("nodes_values", &vec![0.0; 3 * n]),
        modes,
        all("target_treeids", &votes.iter().map(|v| v.0).collect::<Vec<_>>()),
        all("target_nodeids", &votes.iter().map(|v| v.1).collect::<Vec<_>>()),
        all("target_ids", &votes.iter().map(|v| v.2).collect::<Vec<_>>()),
        numbers("target_weights", &votes.iter().map(|v| v.3).collect::<Vec<_>>()),
    ];
    attributes.extend((!base.is_empty()).then(|| numbers("base_values", base)));
    imported("TreeEnsembleRegressor", 3, attributes)
}

fn imported(op: &str, version: i64, attributes: Vec<AttributeProto>) -> Result<Graph, ImportError> {
    let mut n = node(op, &["x"], &["y"], attributes);
    n.domain = "ai.onnx.ml".into();
    let mut m = model(graph(vec![value("x", 1, &["2", "1"])], vec![value("y", 1, &["2", "k"])], vec![n]));
    m.opset_import.push(opset("ai.onnx.ml", version));
    let graph = import_bytes(&m.write_to_bytes().expect("serialises"), None, &ImportOptions::default())?;
    verify(&graph).expect("an imported graph verifies");
    Ok(graph)
}

/// What is said of a row that the tests hold for, and of one that they do not hold for.
fn said(graph: &Graph) -> Vec<f32> {
    let x = Tensor::new(&[2, 1], vec![-1f32, 1.0]);
    let y = interp::run(graph, &[Value::from(x)]).expect("runs");
    y[0].as_tensor().expect("a tensor").data::<f32>().to_vec()
}

#[test]
fn a_target_without_votes_is_open_where_extremes_are_taken() {
    // Target 0 has votes of the first tree on all rows, target 1 has some of the second and third.
    const PARTLY: [Stump; 3] =
        [[&[(0, 1.0), (1, 5.0)], &[(0, -2.0)]], [&[(1, -3.0)], &[(1, 4.0)]], [&[(0, 7.0)], &[]]];
    for (aggregate, want) in [("MIN", [1.5, -3.25, -1.5, 3.75]), ("MAX", [7.5, 4.75, -1.5, 3.75])] {
        let graph = ensemble(&PARTLY, 2, aggregate, &[0.5, -0.25]).expect("all targets have votes");
        assert_eq!(said(&graph), want, "{aggregate}");
        // A third target has none, and the first none on rows that the tests do not hold for.
        for (trees, targets, open) in [(&PARTLY[..], 3, "target 2"), (&PARTLY[1..], 2, "target 0")] {
            let e = ensemble(trees, targets, aggregate, &[]).expect_err("is open").to_string();
            assert!(e.contains("the least or the greatest of votes") && e.contains(open), "{e}");
        }
        // Of one target a leaf without a vote counts for some.
        let one: [Stump; 2] = [[&[(0, 1.0)], &[(0, -2.0)]], [&[(0, 7.0)], &[]]];
        let e = ensemble(&one, 1, aggregate, &[]).expect_err("is open").to_string();
        assert!(e.contains("all leaves of every tree"), "{e}");
    }
    // Sums of no votes are 0, to which base values are added.
    assert_eq!(
        said(&ensemble(&PARTLY, 3, "SUM", &[0.5, 0.0, 9.0]).expect("sums")),
        [8.5, 2.0, 9.0, -1.5, 4.0, 9.0]
    );
}

#[test]
fn so_it_is_of_version_5() {
    let stumps = |targets: [i64; 4], aggregate: i64| {
        imported(
            "TreeEnsemble",
            5,
            vec![
                int("n_targets", 2),
                int("aggregate_function", aggregate),
                all("tree_roots", &[0, 1]),
                tensor_attr("nodes_modes", tensor("nodes_modes", 2, &[2], &[0, 0])),
                all("nodes_featureids", &[0, 0]),
                tensor_attr("nodes_splits", floats("nodes_splits", &[2], &[0.0, 0.0])),
                all("nodes_truenodeids", &[0, 2]),
                all("nodes_trueleafs", &[1, 1]),
                all("nodes_falsenodeids", &[1, 3]),
                all("nodes_falseleafs", &[1, 1]),
                all("leaf_targetids", &targets),
                tensor_attr("leaf_weights", floats("leaf_weights", &[4], &[1.0, -2.0, 3.0, -4.0])),
            ],
        )
    };
    for aggregate in [2, 3] {
        assert_eq!(
            said(&stumps([0, 0, 1, 1], aggregate).expect("both have votes")),
            [1.0, 3.0, -2.0, -4.0]
        );
        for (targets, open) in [([0, 1, 1, 0], "target 0"), ([0, 0, 0, 0], "target 1")] {
            let e = stumps(targets, aggregate).expect_err("is open").to_string();
            assert!(e.contains("the least or the greatest of votes") && e.contains(open), "{e}");
        }
    }
    assert_eq!(said(&stumps([0, 1, 1, 0], 1).expect("sums")), [1.0, 3.0, -4.0, -2.0]);
}
