//! Operators of com.microsoft: what is not done of one is refused by its name; free dims stay free; what is whole stays one primitive.
//! What they compute is the suite `microsoft` of `tests/conformance.rs`.

mod build;

use build::*;
use egret_ir::{Graph, Op, Type};
use egret_onnx::{ErrorKind, ImportError, ImportOptions, import_bytes};
use onnx_protobuf::{AttributeProto, Message, TensorProto, ValueInfoProto};

const FLOAT: i32 = 1;
const U8: i32 = 2;
const I32: i32 = 6;

/// A model of one node; an operand is its element type and dims, or left out; `constants` come behind the operands.
fn import(
    op: &str,
    operands: &[Option<(i32, &[&str])>],
    constants: Vec<TensorProto>,
    outputs: usize,
    attrs: Vec<AttributeProto>,
) -> Result<Graph, ImportError> {
    let named = |i: usize| format!("x{i}");
    let given = operands.iter().enumerate().filter_map(|(i, o)| o.map(|o| (i, o)));
    let inputs = given.map(|(i, (ty, dims))| value(&named(i), ty, dims)).collect();
    let results: Vec<_> =
        (0..outputs).map(|i| ValueInfoProto { name: format!("y{i}"), ..Default::default() }).collect();
    let mut n = node(op, &[], &[], attrs);
    n.input = operands.iter().enumerate().map(|(i, o)| o.map_or(String::new(), |_| named(i))).collect();
    n.input.extend(constants.iter().map(|c| c.name.clone()));
    n.output = results.iter().map(|v| v.name.clone()).collect();
    (n.domain, n.name) = ("com.microsoft".into(), "here".into());
    let mut g = graph(inputs, results, vec![n]);
    g.initializer = constants;
    let mut m = model(g);
    m.opset_import = vec![opset("", 21), opset("com.microsoft", 1)];
    import_bytes(&m.write_to_bytes().expect("serialises"), None, &ImportOptions::default())
}

fn total(n: i32) -> Vec<TensorProto> {
    vec![tensor("total", I32, &[1], &n.to_le_bytes())]
}

const QUERY: &[&str] = &["b", "s", "64"];
const SHARED: &[&str] = &["b", "s", "32"];

fn grouped(more: Vec<AttributeProto>, outputs: usize) -> Result<Graph, ImportError> {
    let operands = [
        Some((FLOAT, QUERY)),
        Some((FLOAT, SHARED)),
        Some((FLOAT, SHARED)),
        None,
        None,
        Some((I32, &["b"])),
    ];
    let attrs = [vec![int("num_heads", 4), int("kv_num_heads", 2)], more].concat();
    import("GroupQueryAttention", &operands, total(9), outputs, attrs)
}

#[test]
fn what_is_not_done_is_refused_by_name_and_node() {
    let x: &[&str] = &["b", "s", "8"];
    let q = Some((FLOAT, x));
    let heads = || int("num_heads", 2);
    let w: &[&str] = &["8", "24"];
    let two = Some((FLOAT, &["2", "s", "8"][..]));
    for (refused, word) in [
        (grouped(vec![int("sliding_window_cache", 1)], 1), "sliding_window_cache"),
        (grouped(vec![string("k_quant_type", "PER_TENSOR")], 1), "k_quant_type"),
        (grouped(vec![int("kv_cache_bit_width", 4)], 1), "kv_cache_bit_width"),
        (grouped(vec![], 4), "output_qk"),
        (grouped(vec![int("unheard_of", 4)], 1), "unheard_of"),
        (import("MultiHeadAttention", &[q], vec![], 1, vec![heads()]), "three inputs"),
        (import("MultiHeadAttention", &[q, q, q], vec![], 4, vec![heads()]), "`qk`"),
        (
            import("Attention", &[q, Some((FLOAT, w))], vec![], 1, vec![heads(), int("do_rotary", 1)]),
            "do_rotary",
        ),
        (
            import(
                "Attention",
                &[two, Some((FLOAT, w)), None, Some((I32, &["5"]))],
                vec![],
                1,
                vec![heads()],
            ),
            "a mask of type i32[5]",
        ),
        (import("SkipLayerNormalization", &[q, q, Some((FLOAT, &["8"]))], vec![], 2, vec![]), "`mean`"),
        (
            import(
                "FusedMatMulActivation",
                &[q, Some((FLOAT, w))],
                vec![],
                1,
                vec![string("activation", "Sine")],
            ),
            "Sine",
        ),
        (
            import("BiasGelu", &[q, Some((FLOAT, &["8"]))], vec![], 1, vec![int("unheard_of", 1)]),
            "unheard_of",
        ),
        (
            import(
                "QLinearSigmoid",
                &[Some((U8, x)), Some((FLOAT, &[])), None, Some((FLOAT, &[]))],
                vec![],
                1,
                vec![int("unheard_of", 1)],
            ),
            "unheard_of",
        ),
    ] {
        let e = refused.expect_err(word);
        assert_eq!(e.kind, ErrorKind::Unsupported, "{e}");
        assert!(e.to_string().contains(word) && e.to_string().contains("here"), "{e}");
    }
}

/// The total length decides the size of the cache.
#[test]
fn a_cache_of_unknown_size_names_what_to_bind() {
    let operands = [
        Some((FLOAT, QUERY)),
        Some((FLOAT, SHARED)),
        Some((FLOAT, SHARED)),
        None,
        None,
        Some((I32, &["b"][..])),
        Some((I32, &[][..])),
    ];
    let attrs = vec![int("num_heads", 4), int("kv_num_heads", 2)];
    let e = import("GroupQueryAttention", &operands, vec![], 1, attrs).expect_err("no size");
    assert_eq!(e.kind, ErrorKind::NeedsValue);
    assert_eq!(e.inputs_to_bind.into_iter().collect::<Vec<_>>(), ["x6"]);
}

fn shapes(graph: &Graph) -> Vec<String> {
    let ty = |v| match graph.ty(v) {
        Type::Tensor(t) => t.to_string(),
        other => format!("{other:?}"),
    };
    graph.outputs().iter().map(|&o| ty(o)).collect()
}

#[test]
fn free_dims_stay_free() {
    let graph = grouped(vec![int("local_window_size", 4)], 3).expect("imports");
    assert_eq!(shapes(&graph), ["f32[b, s, 64]", "f32[b, 2, 9, 16]", "f32[b, 2, 9, 16]"]);
    let x: &[&str] = &["b", "s", "8"];
    let past: &[&str] = &["b", "2", "p", "4"];
    let mha = import(
        "MultiHeadAttention",
        &[
            Some((FLOAT, x)),
            Some((FLOAT, x)),
            Some((FLOAT, x)),
            None,
            None,
            None,
            Some((FLOAT, past)),
            Some((FLOAT, past)),
        ],
        vec![],
        3,
        vec![int("num_heads", 2), int("unidirectional", 1)],
    )
    .expect("imports");
    assert_eq!(shapes(&mha)[0], "f32[b, s, 8]");
    let once = |op: Op| mha.node_ids().iter().filter(|&&n| mha.node(n).op == op).count();
    assert_eq!((once(Op::Attention), once(Op::Softmax)), (1, 0));
}
