//! Law: what is printed is read back as it was. Errors say where they are.

use super::*;
use crate::*;
use egret_testkit::Rng;

/// A kernel with every statement.
fn everything() -> Kernel {
    let mut k = KernelBuilder::new("every_thing", 3);
    let x = k.param(Elem::F32, 64, Access::Read);
    let y = k.param(Elem::F32, 64, Access::ReadWrite);
    let task = k.task();
    let at = k.affine(&[(task, 4), (task, 1), (task, -2)], -7);
    let v = k.load_vector(x, at);
    let zero = k.number(Ty::vector(Elem::F32), -0.0);
    let below = k.compare(Cmp::Lt, v, zero);
    let v = k.select(below, zero, v);
    let n = k.convert(Elem::I32, v);
    let bits = k.bitcast(Elem::F32, n);
    let root = k.unary(UnOp::Sqrt, bits);
    let sum = k.fma(root, v, bits);
    let lane = k.extract(sum, 3);
    let wide = k.load_lanes(x, at, 16);
    let wide = Shuffle::ALL.into_iter().fold(wide, |wide, op| k.shuffle(op, wide, wide));
    let low = k.fold(BinOp::SelMin, wide);
    let is_low = k.compare(Cmp::Le, wide, wide);
    let some = k.any(is_low);
    let low = k.select(some, low, lane);
    k.store(y, at, low);
    let all = k.splat(lane, 4);
    let local = k.local(all);
    k.for_range(0, 12, 4, |k, i| {
        let now = k.get(local);
        k.store(y, i, now);
        let (one, two) = (k.int(1), k.int(i64::MIN));
        let end = k.max(one, two);
        k.for_values(one, end, 1, |_, _| {});
    });
    k.while_(
        |k| {
            let (a, b) = (k.int(0), k.int(1));
            k.compare(Cmp::Gt, a, b)
        },
        |k| k.set(local, all),
    );
    let cond = k.number(Ty::scalar(Elem::Bool), 1.0);
    k.if_(cond, |k| k.set(local, all), |k| k.store(y, at, lane));
    k.if_(cond, |k| k.set(local, all), |_| {});
    k.check(task, -3, i64::MAX);
    k.check(task, 0, at);
    let mut e = EpilogueBuilder::new(Products::Floats);
    let acc = e.sum();
    let place = |param| Place { param, base: at };
    let bias = EpilogueOperand { place: place(x), rows: vec![0; 5], col_stride: 1 };
    let bias = e.operand(Elem::F32, bias);
    let half = e.num(acc, 0.5);
    let high = e.binary(BinOp::SelMax, acc, bias);
    let low = e.fma(high, half, acc);
    let less = e.compare(Cmp::Ne, low, high);
    let both = e.select(less, low, high);
    let int = e.convert(Elem::I32, both);
    let int = e.unary(UnOp::Not, int);
    let back = e.bitcast(Elem::F32, int);
    k.tile(Tile {
        nonzeros: None,
        cols: 16,
        axes: vec![
            Axis { extent: 3, a_stride: -1, b_stride: 64 },
            Axis { extent: 1, a_stride: 0, b_stride: 0 },
        ],
        block: 128,
        sets: 2,
        a: place(x),
        a_rows: vec![0, 64, 128, 192, 256],
        b: place(x),
        out: place(y),
        out_rows: vec![4, 3, 1, -9, 0],
        epilogue: e.finish(back),
    });
    k.finish()
}

fn program() -> Program {
    let port = |name: &str, bound| Port {
        name: name.into(),
        onnx_dtype: 1,
        dims: vec![8.into(), Extent::Size(SizeId(1))],
        found: (name == "y").then(|| vec![8.into(), Extent::Size(SizeId(2))]),
        elem_size: 4,
        bound,
    };
    let buffer = |storage| Buffer { times: Some(SizeId(2)), ..Buffer::new(Elem::F32, 64, storage) };
    Program {
        name: "m".into(),
        inputs: vec![port("x", None), port("a \"b\"\n\u{7f}ü", Some(vec![7; 256]))],
        outputs: vec![port("y", None)],
        lengths: vec![Length {
            name: "u0".into(),
            most: Extent::Size(SizeId(1)),
            call: 1,
            at: Arg { buffer: BufferId(3), offset: 2 },
        }],
        buffers: [
            Storage::Input(0),
            Storage::Output(0),
            Storage::Arena(64),
            Storage::ArenaAt(SizeId(0)),
            Storage::Weights(128),
            Storage::Sizes,
        ]
        .map(buffer)
        .into(),
        kernels: vec![everything()],
        calls: vec![
            Call {
                kernel: KernelId(0),
                args: vec![Arg { buffer: BufferId(0), offset: 0 }, Arg { buffer: BufferId(1), offset: 8 }],
                repeat: Some(Repeat { first: Extent::Size(SizeId(1)), runs: SizeId(2), step: 32 }),
                tasks: Some(SizeId(0)),
                sources: vec!["Conv:/a".into(), "Relu:/b".into()],
                needs: vec![
                    Need {
                        size: Size::Op(SizeOp::Sub, SizeId(0), SizeId(1)),
                        nodes: vec!["Slice:/b".into()],
                    },
                    Need { size: Size::Op(SizeOp::Broadcast, SizeId(0), SizeId(1)), nodes: vec![] },
                ],
            },
            Call::new(KernelId(0), vec![]),
        ],
        guards: vec![
            Guard {
                cond: Arg { buffer: BufferId(0), offset: 3 },
                holds: false,
                calls: 1..2,
                repeats: false,
            },
            Guard { cond: Arg { buffer: BufferId(1), offset: 0 }, holds: true, calls: 0..2, repeats: true },
        ],
        branches: vec![Branches { calls: vec![0..1, 1..2], threads: [2, 16] }],
        symbols: vec![Symbol { name: "N".into(), input: 0, axis: 1 }],
        sizes: vec![Size::Symbol(0), Size::Const(32), Size::Op(SizeOp::CeilDiv, SizeId(0), SizeId(1))],
        needed: [(SizeId(2), vec!["Slice:/a".into(), "Slice:/b".into()])].into(),
        arena_bytes: 320,
        arena_size: Some(SizeId(2)),
        weights: vec![1, 2, 3].into(),
        earlier: vec![],
    }
}

fn bytes(wanted: &str) -> Option<Vec<u8>> {
    [vec![7; 256], vec![1, 2, 3]].into_iter().find(|b| hash(b) == wanted)
}

#[test]
fn kernels_and_programs_are_read_back() {
    let kernel = everything();
    let text = print(&kernel);
    assert_eq!(parse_kernel(&text).as_ref(), Ok(&kernel), "{text}");
    let program = program();
    let text = print(&program);
    assert_eq!(parse(&text, &bytes).as_ref(), Ok(&program), "{text}");
    assert_eq!(
        parse(&print(&Program { name: "e".into(), ..Program::default() }), &|_| None).unwrap().name,
        "e"
    );
}

#[test]
fn constants_keep_their_bits() {
    use super::names::{parse_const, spell_const};
    let elems = [Elem::Bool, Elem::I8, Elem::I16, Elem::I32, Elem::I64, Elem::U8, Elem::U16, Elem::U32];
    let all = elems.into_iter().chain([Elem::U64, Elem::F32, Elem::F64]);
    for elem in all {
        let mut rng = Rng::new(1);
        for i in 0..2000u64 {
            let bits = rng.bits();
            for b in [bits, bits >> (i % 64), u64::MAX >> (i % 64), 1 << (i % 64), 0] {
                let spelt = spell_const(elem, b);
                assert_eq!(parse_const(elem, &spelt), Some(b), "{elem} {spelt}");
            }
        }
    }
    let spelt = |elem, bits| spell_const(elem, bits);
    assert_eq!(spelt(Elem::F32, (-0.5f32).to_bits().into()), "-0.5");
    assert_eq!(spelt(Elem::F32, f32::NEG_INFINITY.to_bits().into()), "-inf");
    assert_eq!(spelt(Elem::F32, 0x7fc0_0001), "0x7fc00001");
    assert_eq!(spelt(Elem::I8, 0xff), "-1");
    assert_eq!(spelt(Elem::U8, 0xff), "255");
    assert_eq!(spelt(Elem::Bool, 1), "true");
}

#[test]
fn text_that_is_cut_or_changed_is_an_error_or_other_text() {
    let text = print(&program());
    for (at, _) in text.char_indices() {
        // A program without its last calls is one.
        let _ = parse(&text[..at], &bytes);
        for other in ["", "v9999999999", "9223372036854775808", "{", "}", "..", "\"", "é"] {
            let changed =
                format!("{}{other}{}", &text[..at], &text[at..].chars().skip(1).collect::<String>());
            let _ = parse(&changed, &bytes);
        }
    }
}

#[test]
fn errors_say_where_and_what() {
    let in_kernel = |body: &str| format!("kernel k(p0: f32[4] read) tasks v0 in 1 {{\n{body}\n}}\n");
    let deep = "if v0 {".repeat(10_000);
    for (body, message) in [
        ("v1 = load p1[v0] : f32", "2:11: there is no p1"),
        ("v1 = neg v2 : i64", "2:10: v2 is defined nowhere"),
        ("v1 = neg v0 : i64 v1 = neg v0 : i64", "2:19: v1 is defined twice"),
        ("v2 = neg v0 : i64", "3:2: the kernel k has no v1, and has values above it"),
        ("v1 = negate v0 : i64", "2:6: there is no instruction `negate`"),
        ("v1 = const 300 : u8", "2:12: `300` is no u8"),
        ("v1 = const 1 : f32x3", "2:16: expected a type, found `f32x3`"),
        ("v1 = const 1 : f64x16", "2:16: expected a type, found `f64x16`"),
        ("v1 = fold sub v0 : i64", "2:11: expected an operation that folds, found `sub`"),
        ("set l0, v0", "2:5: there is no l0"),
        ("for v1 in v0 .. v0 step 0 {}", "2:25: a step is positive"),
        ("tile { a p0[v0] rows [0, 3, .., 7] }", "2:29: these offsets are not evenly apart"),
        ("tile { a p0[v0] rows [0; 99999999999] }", "2:26: too many rows"),
        (&deep, "2:1401: more than 200 blocks within one another"),
        ("\"", "2:1: a quoted text without end"),
        ("?", "2:1: no word begins with '?'"),
    ] {
        let error = parse_kernel(&in_kernel(body)).expect_err(body).to_string();
        assert_eq!(error, message, "{}", &body[..body.len().min(60)]);
    }
    let weights = print(&program());
    let error = parse(&weights, &|_| None).expect_err("no weights").to_string();
    assert!(error.contains("nobody has the 256 bytes of hash"), "{error}");
    let error = parse(&weights, &|_| Some(vec![0; 256])).expect_err("other weights").to_string();
    assert!(error.contains("the bytes are not the 256 of hash"), "{error}");
}

#[test]
fn the_program_of_the_page_is_a_program() {
    let page = include_str!("../../../../docs/dev/loop-ir.md");
    let given = page.split("```text\n").nth(1).and_then(|p| p.split("```").next()).expect("a block");
    let weights = vec![0; 576];
    let given = given.replace("4d4ba7ae62eb2f58", &hash(&weights));
    let program = parse(&given, &|_| Some(weights.clone())).unwrap_or_else(|e| panic!("{e}"));
    let bare = |l: &str| format!("{}\n", l.split(" //").next().unwrap_or(l).trim_end());
    assert_eq!(print(&program), given.lines().map(bare).collect::<String>());
}

/// What an epilogue cannot have is refused where it stands.
#[test]
fn wrong_epilogues_are_refused() {
    let kernel = |epilogue: &str| {
        format!(
            "kernel k(p0: f32[4] read, p1: f32[4] read, p2: f32[4] write) tasks v0 in 1 {{
               v1 = const 0 : i64
               tile {{ a p0[v1] rows [0] b p1[v1] cols 4 axis 1 a 1 b 4 block 1 sets 1 out p2[v1] rows [0]
                 {epilogue}
               }}
             }}"
        )
    };
    assert!(
        parse_kernel(&kernel("sum e0 e1 = p1[v1] rows [0] cols 1 e2 = add e0, e1 : f32 store e2")).is_ok()
    );
    for (epilogue, message) in [
        ("sum e0 store e1", "there is no e1"),
        ("sum e0 e1 = neg e1 : f32 store e1", "there is no e1"),
        ("sum e0 e2 = neg e0 : f32 store e2", "expected `e1`"),
        ("sum e0 e1 = load p1[v1] : f32 store e1", "expected"),
        ("sum e0 e1 = splat e0 : f32x4 store e1", "elements by themselves"),
        ("sum e0 e1 = neg e0 : f32", "expected `e2`"),
        ("e0 = neg e0 : f32 store e0", "expected `sum`"),
    ] {
        let error = parse_kernel(&kernel(epilogue)).unwrap_err().to_string();
        assert!(error.contains(message), "{epilogue}: {error}");
    }
}
