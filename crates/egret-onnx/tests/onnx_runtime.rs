//! Operators where ONNX leaves room, quantised ones above all: values recorded from ONNX Runtime 1.32, optimisations off.

mod build;

use build::*;
use egret_ir::{Tensor, Value, interp};
use egret_onnx::{ImportOptions, import_bytes};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, Message, NodeProto, TensorProto};

/// The outputs of one node of com.microsoft or ONNX; outputs have one type, tensors that are not inputs are constants.
fn run(
    node: NodeProto,
    inputs: &[(&str, Tensor)],
    outputs: &[(&str, i32)],
    constants: Vec<TensorProto>,
) -> Vec<Tensor> {
    let code = |t: &Tensor| if t.dtype() == egret_ir::DType::F32 { 1 } else { 2 };
    let dims = |t: &Tensor| t.shape().iter().map(usize::to_string).collect::<Vec<_>>();
    let declared = inputs
        .iter()
        .map(|(name, t)| value(name, code(t), &dims(t).iter().map(String::as_str).collect::<Vec<_>>()))
        .collect();
    let mut g =
        graph(declared, outputs.iter().map(|(name, elem)| value(name, *elem, &[])).collect(), vec![node]);
    g.output.iter_mut().for_each(|o| o.type_.mut_or_insert_default().mut_tensor_type().shape.clear());
    g.initializer = constants;
    let mut m = model(g);
    m.opset_import = vec![opset("", 19), opset("com.microsoft", 1)];
    let bytes = m.write_to_bytes().expect("serialises");
    let graph = import_bytes(&bytes, None, &ImportOptions::default()).expect("imports");
    let inputs: Vec<Value> = inputs.iter().map(|(_, t)| t.clone().into()).collect();
    let out = interp::run(&graph, &inputs).expect("runs");
    out.iter().map(|v| v.as_tensor().expect("a tensor").clone()).collect()
}

fn microsoft(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let mut n = node(op, inputs, outputs, vec![]);
    n.domain = "com.microsoft".to_owned();
    n
}

/// DynamicQuantizeLinear, opset 11: exporters divide a convolution's bias by the scale.
#[test]
fn zeros_have_the_scale_one() {
    let quantize = |x: Vec<f32>| {
        let n = node("DynamicQuantizeLinear", &["x"], &["y", "s", "z"], vec![]);
        run(n, &[("x", Tensor::new(&[x.len()], x))], &[("y", 2), ("s", 1), ("z", 2)], vec![])
    };
    let out = quantize(vec![0.0, -0.0, 0.0]);
    assert_eq!(
        (out[0].bytes(), out[1].data::<f32>(), out[2].bytes()),
        (&[0, 0, 0][..], &[1.0f32][..], &[0][..])
    );
    let out = quantize(vec![0.7, -0.7, 0.25]);
    assert_eq!(
        (out[0].bytes(), out[1].data::<f32>(), out[2].bytes()),
        (&[255, 0, 174][..], &[1.4f32 / 255.0][..], &[128][..])
    );
}

/// MaxPool, AveragePool and LpPool, opset 19: windows shorter than their strides, which begin behind elements that are left out at the low end.
#[test]
fn windows_with_room_between_them() {
    let image = |shape: &[usize]| {
        let n = shape.iter().product::<usize>();
        Tensor::new(shape, (0..n).map(|i| i as f32).collect::<Vec<_>>())
    };
    let ints = |name: &str, v: &[i64]| AttributeProto {
        ints: v.to_vec(),
        type_: AttributeType::INTS.into(),
        ..int(name, 0)
    };
    let pool = |op: &str,
                auto: &str,
                kernel: &[i64],
                strides: &[i64],
                more: Vec<AttributeProto>,
                shape: &[usize]| {
        let mut attrs =
            vec![ints("kernel_shape", kernel), ints("strides", strides), string("auto_pad", auto)];
        attrs.extend(more);
        let outputs: &[(&str, i32)] = if op == "MaxPool" { &[("y", 1), ("i", 7)] } else { &[("y", 1)] };
        let names: Vec<&str> = outputs.iter().map(|o| o.0).collect();
        run(node(op, &["x"], &names, attrs), &[("x", image(shape))], outputs, vec![])
    };
    let values = |t: &[Tensor]| t[0].data::<f32>().to_vec();
    for (auto, y, by_columns) in [
        ("SAME_UPPER", [11, 16, 38, 43, 65, 70, 92, 97], [13, 43, 16, 46, 67, 97, 70, 100]),
        ("SAME_LOWER", [1, 6, 28, 33, 55, 60, 82, 87], [6, 36, 9, 39, 60, 90, 63, 93]),
    ] {
        for (order, places) in [(0, y), (1, by_columns)] {
            let out =
                pool("MaxPool", auto, &[1, 2], &[3, 5], vec![int("storage_order", order)], &[1, 2, 6, 9]);
            assert_eq!(values(&out), y.map(|v| v as f32), "{auto}");
            assert_eq!(out[1].data::<i64>(), places, "{auto} {order}");
        }
    }
    for (auto, planes, lines, volumes) in [
        ("SAME_UPPER", [10.5, 15.5, 37.5, 42.5], [1.5, 6.5], [14.0, 16.0, 20.0, 22.0]),
        ("SAME_LOWER", [0.5, 5.5, 27.5, 32.5], [1.5, 6.5], [12.0, 14.0, 18.0, 20.0]),
    ] {
        let counted = vec![int("count_include_pad", 1)];
        assert_eq!(
            values(&pool("AveragePool", auto, &[1, 2], &[3, 5], counted, &[1, 1, 6, 9])),
            planes,
            "{auto}"
        );
        let up = vec![int("ceil_mode", 1)];
        assert_eq!(values(&pool("AveragePool", auto, &[2], &[5], up, &[1, 1, 10])), lines, "{auto}");
        let out = pool("AveragePool", auto, &[1, 2, 1], &[4, 2, 2], vec![], &[1, 1, 4, 3, 4]);
        assert_eq!(values(&out), volumes, "{auto}");
        let out = pool("LpPool", auto, &[1], &[4], vec![int("p", 1)], &[1, 1, 16]);
        assert_eq!(values(&out), [1.0, 5.0, 9.0, 13.0], "{auto}");
    }
}

/// QLinearAdd and QLinearMul, com.microsoft 1: these results lie halfway between two integers, or next to that.
#[test]
fn sums_and_products_halfway_between_two_integers() {
    let names = ["a", "sa", "za", "b", "sb", "zb", "s", "z"];
    let run = |op: &str, scales: [f32; 3], zeros: [u8; 3]| {
        let a = Tensor::new(&[6], vec![10u8, 11, 12, 13, 14, 200]);
        let b = Tensor::new(&[6], vec![7u8, 7, 8, 9, 250, 3]);
        let scale = |i: usize| floats(["sa", "sb", "s"][i], &[], &scales[i..i + 1]);
        let zero = |i: usize| tensor(["za", "zb", "z"][i], 2, &[], &zeros[i..i + 1]);
        let constants = (0..3).flat_map(|i| [scale(i), zero(i)]).collect();
        run(microsoft(op, &names, &["y"]), &[("a", a), ("b", b)], &[("y", 2)], constants)[0]
            .bytes()
            .to_vec()
    };
    assert_eq!(run("QLinearAdd", [0.02, 0.03, 0.04], [4, 5, 7]), [12, 12, 13, 14, 196, 104]);
    assert_eq!(run("QLinearAdd", [0.05, 0.02, 0.04], [3, 2, 101]), [112, 114, 115, 117, 239, 255]);
    assert_eq!(run("QLinearAdd", [0.01, 0.03, 0.02], [3, 2, 101]), [112, 112, 114, 116, 255, 201]);
    assert_eq!(run("QLinearMul", [0.05, 0.02, 0.002], [3, 2, 101]), [118, 121, 128, 136, 255, 200]);
}

/// DynamicQuantizeLSTM, com.microsoft 1: x is rounded over the range that it has up to the end of the longest sequence.
#[test]
fn what_lies_behind_all_sequences_does_not_count() {
    let mut n = microsoft(
        "DynamicQuantizeLSTM",
        &["x", "w", "r", "b", "l", "", "", "", "ws", "zero", "rs", "zero"],
        &["y", "h", "c"],
    );
    n.attribute = vec![int("hidden_size", 1)];
    let bytes = |v: &[i8]| v.iter().map(|&v| v as u8).collect::<Vec<_>>();
    let constants = vec![
        tensor("w", 3, &[1, 2, 4], &bytes(&[40, -60, 20, 90, 70, 30, -80, -20])),
        tensor("r", 3, &[1, 1, 4], &bytes(&[50, -30, 60, -70])),
        floats("b", &[1, 8], &[0.1, -0.2, 0.3, 0.05, 0.0, 0.0, 0.0, 0.0]),
        tensor("l", 6, &[1], &2i32.to_le_bytes()),
        floats("ws", &[1], &[0.02]),
        floats("rs", &[1], &[0.03]),
        tensor("zero", 3, &[1], &[0]),
    ];
    let x = Tensor::new(&[3, 1, 2], vec![0.5f32, -0.25, 0.75, 0.125, 80.0, -90.0]);
    let out = run(n, &[("x", x)], &[("y", 1), ("h", 1), ("c", 1)], constants);
    let got: Vec<f32> = out.iter().flat_map(|t| t.data::<f32>().to_vec()).collect();
    let want = [0.110_588_92_f32, 0.171_647_94, 0.0, 0.171_647_94, 0.865_999_2];
    assert!(got.len() == 5 && got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{got:?}");
}

/// DynamicQuantizeLSTM, com.microsoft 1: weights of u8 less a zero point of 128 are i8, less one of 100 they are not.
#[test]
fn weights_of_u8_in_both_directions() {
    let lstm = |zero: u8, per_gate: bool, x: [f32; 6]| {
        let mut n = microsoft(
            "DynamicQuantizeLSTM",
            &["x", "w", "r", "b", "", "", "", "", "ws", "zero", "rs", "zero"],
            &["y", "h", "c"],
        );
        n.attribute = vec![int("hidden_size", 1), string("direction", "bidirectional")];
        let w = [168, 68, 148, 218, 198, 158, 48, 108, 100, 140, 150, 200, 128, 1, 255, 90];
        let gates = [0.02, 0.03, 0.01, 0.025, 0.01, 0.02, 0.03, 0.015];
        let shape: &[i64] = if per_gate { &[2, 4] } else { &[2] };
        let scale = |name: &str, each: [f32; 2]| floats(name, shape, if per_gate { &gates } else { &each });
        let constants = vec![
            tensor("w", 2, &[2, 2, 4], &w),
            tensor("r", 2, &[2, 1, 4], &[178, 98, 188, 58, 128, 200, 7, 140]),
            floats(
                "b",
                &[2, 8],
                &[0.1, -0.2, 0.3, 0.05, 0.0, 0.0, 0.5, 0.0, 0.0, 0.1, -0.1, 0.2, 0.25, 0.0, 0.0, 0.0],
            ),
            scale("ws", [0.02, 0.03]),
            scale("rs", [0.03, 0.01]),
            tensor("zero", 2, shape, &vec![zero; if per_gate { 8 } else { 2 }]),
        ];
        let x = Tensor::new(&[3, 1, 2], x.to_vec());
        let out = run(n, &[("x", x)], &[("y", 1), ("h", 1), ("c", 1)], constants);
        [0, 2].iter().flat_map(|&i| out[i].data::<f32>().to_vec()).collect::<Vec<f32>>()
    };
    for (zero, per_gate, x, want) in [
        (
            128,
            true,
            [0.5, -0.25, 0.75, 0.125, -0.5, 0.25],
            [
                0.090_844_9,
                0.288_044_7,
                0.136_063_05,
                0.074_684_89,
                0.099_705_81,
                -0.089_257_84,
                0.145_408_96,
                0.421_335_07,
            ],
        ),
        (
            128,
            true,
            [0.0; 6],
            [
                0.011_803_84,
                0.101_452_27,
                0.015_041_55,
                0.088_456_42,
                0.015_980_22,
                0.058_013_66,
                0.035_779_79,
                0.184_330_94,
            ],
        ),
        (
            128,
            true,
            [0.5; 6],
            [
                0.174_149_84,
                0.155_140_33,
                0.205_239_64,
                0.110_529_24,
                0.221_586_06,
                0.057_287_8,
                0.933_357_4,
                0.594_666_9,
            ],
        ),
        (
            128,
            false,
            [-0.5; 6],
            [
                -0.080_083_29,
                -0.196_963_82,
                -0.122_606_46,
                -0.192_788_33,
                -0.142_168_76,
                -0.168_929_74,
                -0.263_288_38,
                -0.237_831_18,
            ],
        ),
        (
            100,
            false,
            [0.5, -0.25, 0.75, 0.125, -0.5, 0.25],
            [
                0.136_180_33,
                0.396_778,
                0.305_823_95,
                0.070_497_69,
                0.147_118_32,
                -0.110_318_96,
                0.251_748_44,
                0.528_414_1,
            ],
        ),
        (
            100,
            true,
            [0.5; 6],
            [
                0.360_234_56,
                0.450_081_8,
                0.475_451_53,
                0.311_203_03,
                0.511_305_75,
                0.150_703_86,
                1.795_810_1,
                1.236_125_2,
            ],
        ),
    ] {
        let got = lstm(zero, per_gate, x);
        let near = got.len() == 8 && got.iter().zip(want).all(|(g, w): (&f32, f32)| (g - w).abs() < 1e-6);
        assert!(near, "{zero} {per_gate} {x:?}: {got:?}");
    }
}

/// Pad, opset 19: what a negative pad takes away is not wrapped around to the other end.
#[test]
fn wrapped_pads_do_not_bring_back_what_is_cut_off() {
    let n = node("Pad", &["x", "pads"], &["y"], vec![string("mode", "wrap")]);
    let x = Tensor::new(&[2, 4], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let y = &run(n, &[("x", x)], &[("y", 1)], vec![ints("pads", &[4], &[0, -1, 0, 2])])[0];
    assert_eq!(
        (y.shape(), y.data::<f32>()),
        (&[2, 5][..], &[2.0f32, 3.0, 4.0, 2.0, 3.0, 6.0, 7.0, 8.0, 6.0, 7.0][..])
    );
}
