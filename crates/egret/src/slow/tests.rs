//! Slow kernels are named, others are not.

use super::*;
use crate::{Options, pipeline};
use egret_ir::text;
use egret_loop::*;
use std::collections::BTreeMap;

fn found(body: &str) -> Found {
    let graph = text::parse(body, &|_| None).expect("a graph");
    let options = Options { target: "x86-64-v4".into(), ..Options::default() };
    pipeline::lower(graph, &options, &BTreeMap::new()).expect("a program").slow
}

/// A contraction that no tile multiplies, in one line that names it, and what is fast beside it.
#[test]
fn scalar_contractions_are_named() {
    let found = found(
        "graph @g(%0 \"x\": i64[64, 128], %1 \"y\": f32[64, 128]) -> (%4 \"a\", %5 \"b\") {
  %2 = const i64[128, 128] random(1)
  %3 = const f32[128, 128] random(2)
  %4 = matmul(%0, %2) : i64[64, 128] from \"MatMul:/layer.1/fc\"
  %5 = matmul(%1, %3) : f32[64, 128] from \"MatMul:/layer.2/fc\"
}",
    );
    let [slow] = found.all.as_slice() else { panic!("{found:?}") };
    assert_eq!((slow.lack, slow.place.as_str()), (Lack::Vectors, "matmul /layer.1/fc"));
    assert!(slow.reason.contains("one i64 at a time (multiply-adds)"), "{slow:?}");
    let notes = found.notes();
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(note.starts_with("1 kernel runs as scalar code, ") && note.contains("/layer.1/fc"), "{note}");
}

/// What takes no time to speak of is not spoken of.
#[test]
fn short_kernels_are_not_named() {
    let found = found(
        "graph @g(%0 \"x\": i64[4, 8]) -> (%2 \"a\") {
  %1 = const i64[8, 8] random(1)
  %2 = matmul(%0, %1) : i64[4, 8] from \"MatMul:a\"
}",
    );
    assert!(found.all.is_empty() && found.notes().is_empty(), "{found:?}");
}

/// The same of a part of a model that takes far less than the rest.
#[test]
fn a_small_share_is_no_note() {
    let slow = |ns: u64| Slow {
        call: 0,
        lack: Lack::Vectors,
        place: "n".into(),
        sources: vec!["MatMul:n".into()],
        ns,
        best: 1,
        reason: "it is so".into(),
        advice: NOTHING,
    };
    let of = |ns: u64| Found { all: vec![slow(ns)], total: 1_000_000 };
    assert!(of(9_000).notes().is_empty());
    assert_eq!(of(20_000).notes().len(), 1);
    assert!(of(20_000).notes()[0].contains(", 2 % of the estimated time; it is for n: it is so"));
}

/// Kernels that vectors compute, beside what tiles do.
#[test]
fn kernels_in_vectors_are_not_named() {
    let found = found(
        "graph @g(%0 \"x\": f32[512, 1024]) -> (%1 \"a\", %2 \"b\", %3 \"c\", %4 \"d\", %5 \"e\") {
  %1 = softmax(%0) {axis = 1}
  %2 = tanh(%0)
  %3 = reduce(%0) {axes = [0], keepdims = 0, kind = \"sum\"}
  %4 = transpose(%0) {perm = [1, 0]}
  %5 = reduce(%0) {axes = [1], keepdims = 0, kind = \"max\"}
}",
    );
    assert!(found.all.is_empty(), "{found:?}");
    assert!(found.total > 0);
}

/// A tile that the encoder refuses is slow code, and nothing else would say so.
#[test]
fn refused_tiles_are_named() {
    let mut k = KernelBuilder::new("k", 1);
    let [a, b, out] = [1, 8, 8].map(|n| k.param(Elem::F32, n, Access::Write));
    let zero = k.int(0);
    let mut e = EpilogueBuilder::new(Products::Floats);
    let acc = e.sum();
    let n = e.convert(Elem::U32, acc);
    let result = e.convert(Elem::F32, n);
    let place = |param| Place { param, base: zero };
    k.tile(Tile {
        nonzeros: None,
        cols: 8,
        axes: vec![Axis { extent: 1, a_stride: 1, b_stride: 8 }],
        block: 1,
        sets: 1,
        a: place(a),
        a_rows: vec![0],
        b: place(b),
        out: place(out),
        out_rows: vec![0],
        epilogue: e.finish(result),
    });
    let call = Call { sources: vec!["Gemm:/fc".into()], ..Call::new(KernelId(0), vec![]) };
    let program = Program { kernels: vec![k.finish()], calls: vec![call], ..Program::default() };
    let graph = text::parse("graph @g(%0 \"x\": f32[2]) -> (%1 \"y\") { %1 = neg(%0) }", &|_| None)
        .expect("a graph");
    let options = Options { target: "x86-64-v3".into(), ..Options::default() };
    let lowered = egret_lower::Lowered { program, nodes: vec![vec![]] };
    let found = pipeline::slow(&graph, &lowered, &options).expect("no bug");
    let [slow] = found.all.as_slice() else { panic!("{found:?}") };
    assert_eq!(slow.lack, Lack::WideVectors);
    let mut trace = Trace::new();
    found.tell(&mut trace);
    let [event] = trace.events.as_slice() else { panic!("{trace:?}") };
    let text = event.to_string();
    assert!(text.contains("Gemm:/fc") && text.contains("its epilogue computes with u32"), "{text}");
}
