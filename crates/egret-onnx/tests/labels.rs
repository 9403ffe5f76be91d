//! LabelEncoder of numbers: what is emitted for it gives what the operation of its own gives, and needs no host.

mod build;

use build::*;
use egret_ir::{
    Builder, DType, Dim, Graph, Op, Shape, Tensor, TensorType, Type, Value, attrs, interp, verify,
};
use egret_onnx::{ImportOptions, import_bytes};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, Message, TensorProto};

fn list(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), type_: kind.into(), ..AttributeProto::default() }
}

/// A list as an attribute: by name and kind where those have one, else as a tensor.
fn attribute(name: &str, t: &Tensor, code: i32) -> AttributeProto {
    match t.dtype() {
        DType::I64 => AttributeProto {
            ints: t.data::<i64>().to_vec(),
            ..list(&format!("{name}_int64s"), AttributeType::INTS)
        },
        DType::F32 => AttributeProto {
            floats: t.data::<f32>().to_vec(),
            ..list(&format!("{name}_floats"), AttributeType::FLOATS)
        },
        _ => tensor_attr(&format!("{name}_tensor"), tensor_of(t, code)),
    }
}

fn tensor_of(t: &Tensor, code: i32) -> TensorProto {
    tensor("", code, &t.shape().iter().map(|&d| d as i64).collect::<Vec<_>>(), t.bytes())
}

fn code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::F64 => 11,
        other => panic!("{other}"),
    }
}

fn imported(keys: &Tensor, values: &Tensor, default: &Tensor) -> Graph {
    let attributes = vec![
        attribute("keys", keys, code(keys.dtype())),
        attribute("values", values, code(values.dtype())),
        tensor_attr("default_tensor", tensor_of(default, code(default.dtype()))),
    ];
    let mut n = node("LabelEncoder", &["x"], &["y"], attributes);
    n.domain = "ai.onnx.ml".into();
    let x = value("x", code(keys.dtype()), &["n", "2"]);
    let mut m = model(graph(vec![x], vec![value("y", code(values.dtype()), &["n", "2"])], vec![n]));
    m.opset_import.push(opset("ai.onnx.ml", 4));
    let bytes = m.write_to_bytes().expect("serialises");
    let graph = import_bytes(&bytes, None, &ImportOptions::default()).expect("imports");
    verify(&graph).expect("an imported graph verifies");
    graph
}

/// The operation of its own, which says what is meant.
fn meant(keys: &Tensor, values: &Tensor, default: &Tensor) -> Graph {
    let mut b = Builder::new("meant");
    let shape: Shape = [Dim::symbol("n"), Dim::constant(2)].into_iter().collect();
    let x = b.input("x", Type::Tensor(TensorType::new(keys.dtype(), shape)));
    let attrs =
        attrs! { to: values.dtype(), keys: keys.clone(), values: values.clone(), default: default.clone() };
    let y = b.emit(Op::LabelEncode, attrs, &[x]).expect("a type");
    b.output("y", y);
    b.graph
}

fn holds(keys: Tensor, values: &Tensor, default: &Tensor, asked: &Tensor) {
    let (graph, meant) = (imported(&keys, values, default), meant(&keys, values, default));
    assert!(graph.node_ids().iter().all(|&n| !graph.node(n).op.is_host_only()), "{graph}");
    let run = |graph: &Graph| interp::run(graph, &[Value::from(asked.clone())]).expect("runs");
    let (have, want) = (run(&graph), run(&meant));
    let bytes = |v: &[Value]| v[0].as_tensor().expect("a tensor").bytes().to_vec();
    assert_eq!(bytes(&have), bytes(&want), "{keys:?} {values:?}");
}

#[test]
fn numbers_are_looked_up_as_the_operation_looks_them_up() {
    // As many keys as a power of two, and more and fewer; in no order, some of them twice.
    for count in 0..=9usize {
        let places: Vec<i64> = (0..count as i64).map(|i| (i * 5 + 3) % 7 * 10 - 20).collect();
        let asked: Vec<i64> =
            (-5i64..=9).flat_map(|i| [i * 10, i * 10 + 1]).chain([i64::MIN, i64::MAX]).collect();
        let asked = Tensor::new(&[asked.len() / 2, 2], asked);
        let values = Tensor::new(&[count], (0..count).map(|i| i as f32 + 0.5).collect::<Vec<_>>());
        holds(Tensor::new(&[count], places.clone()), &values, &Tensor::scalar(-7f32), &asked);
        let values = Tensor::new(&[count], (0..count).map(|i| i as i16).collect::<Vec<_>>());
        let narrow = Tensor::new(&[count], places.iter().map(|&p| p as i32).collect::<Vec<_>>());
        let few = Tensor::new(&[3, 2], vec![i32::MIN, -20, 0, 10, 40, i32::MAX]);
        holds(narrow, &values, &Tensor::scalar(-1i16), &few);
    }
    // Neighbours that no float tells apart.
    let far = Tensor::new(&[2], vec![i64::MAX - 1, (1 << 53) + 1]);
    let asked = Tensor::new(&[2, 2], vec![i64::MAX, i64::MAX - 1, 1 << 53, (1 << 53) + 1]);
    holds(far, &Tensor::new(&[2], vec![1f64, 2.0]), &Tensor::scalar(0f64), &asked);

    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let asked = vec![nan, -nan, 0.0, -0.0, inf, -inf, 1e-45, 2.5, 3.5, f32::MAX];
    let asked = Tensor::new(&[5, 2], asked);
    for keys in [
        vec![2.5, nan, -0.0, inf],
        vec![0.0, -0.0, 2.5, 2.5, -inf],
        vec![nan, nan, 3.5],
        vec![nan],
        vec![],
        vec![1e-45],
    ] {
        let values = Tensor::new(&[keys.len()], (10..10 + keys.len() as i64).collect::<Vec<_>>());
        let wide: Vec<f64> = keys.iter().map(|&k| f64::from(k)).collect();
        let wider: Vec<f64> = asked.data::<f32>().iter().map(|&k| f64::from(k)).collect();
        holds(Tensor::new(&[keys.len()], keys), &values, &Tensor::scalar(-1i64), &asked);
        holds(
            Tensor::new(&[wide.len()], wide),
            &values,
            &Tensor::scalar(-1i64),
            &Tensor::new(&[5, 2], wider),
        );
    }
}
