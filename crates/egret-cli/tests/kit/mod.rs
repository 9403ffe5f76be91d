//! What the tests of the command share: running it, and small ONNX models made by hand.

#![allow(dead_code, reason = "no test file uses all of it")]

pub mod stages;

use std::path::Path;
use std::process::{Command, Output};

pub fn egret(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_egret")).args(args).output().expect("egret starts")
}

pub fn model(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/models")
        .join(format!("{name}.onnx"))
        .display()
        .to_string()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The command must end with this code and one message that has these parts.
#[track_caller]
pub fn refused(args: &[&str], code: i32, parts: &[&str]) {
    let out = egret(args);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{args:?}: no `{part}` in: {said}");
    }
}

#[track_caller]
pub fn works(args: &[&str]) -> String {
    let out = egret(args);
    assert_eq!(out.status.code(), Some(0), "{args:?}: {}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

pub fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

pub fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut out: Vec<String> = std::fs::read_dir(dir)
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    out.sort();
    out
}

/// A field of bytes in protobuf.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend(bytes);
    out
}

/// A field of an integer in protobuf.
fn number(number: u8, value: u64) -> Vec<u8> {
    [varint(u64::from(number) << 3), varint(value)].concat()
}

fn varint(mut v: u64) -> Vec<u8> {
    let mut out = vec![];
    loop {
        let low = (v & 0x7f) as u8;
        v >>= 7;
        if v == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// A dim: its value, or its name.
#[derive(Copy, Clone)]
pub enum Dim {
    Is(u64),
    Free(&'static str),
}

/// A value of an element type (0: of none), or of which nothing is said.
fn value_info(name: &str, elem: impl Into<Option<u64>>, dims: &[Dim]) -> Vec<u8> {
    let Some(elem) = elem.into() else { return field(1, name.as_bytes()) };
    let dim = |d: &Dim| match d {
        Dim::Is(n) => field(1, &number(1, *n)),
        Dim::Free(name) => field(1, &field(2, name.as_bytes())),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let tensor = [number(1, elem), field(2, &shape)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// A model of one node with attributes that are lists of integers; its input and output have the ONNX element type `elem`.
/// `Add` and `Expand` take their input twice.
pub fn onnx(
    op: &str,
    ints: &[(&str, &[u64])],
    elem: u64,
    from: (&str, &[Dim]),
    to: (&str, &[Dim]),
) -> Vec<u8> {
    onnx_of(op, ints, [Some(elem); 2], from, to)
}

/// The same, with an element type for the input and one for the output, or none.
pub fn onnx_of(
    op: &str,
    ints: &[(&str, &[u64])],
    elem: [Option<u64>; 2],
    from: (&str, &[Dim]),
    to: (&str, &[Dim]),
) -> Vec<u8> {
    let attribute = |(name, values): &(&str, &[u64])| {
        let values: Vec<u8> = values.iter().flat_map(|v| number(8, *v)).collect();
        field(5, &[field(1, name.as_bytes()), values, number(20, 7)].concat())
    };
    let operand = field(1, from.0.as_bytes());
    let node: Vec<u8> = [
        operand.repeat(if matches!(op, "Add" | "Expand") { 2 } else { 1 }),
        field(2, to.0.as_bytes()),
        field(3, b"the_node"),
        field(4, op.as_bytes()),
        ints.iter().flat_map(attribute).collect(),
    ]
    .concat();
    let graph = [
        field(1, &node),
        field(2, b"g"),
        field(11, &value_info(from.0, elem[0], from.1)),
        field(12, &value_info(to.0, elem[1], to.1)),
    ]
    .concat();
    [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
}

/// A TensorProto of floats.
pub fn tensor_pb(dims: &[u64], values: &[f32]) -> Vec<u8> {
    let mut out: Vec<u8> = dims.iter().flat_map(|d| number(1, *d)).collect();
    out.extend(number(2, 1));
    out.extend(field(9, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()));
    out
}

/// A model that adds to its input `x` an input of a default value, to `y`.
pub fn onnx_with_default(name: &str, value: &[f32]) -> Vec<u8> {
    let n = value.len() as u64;
    let raw: Vec<u8> = value.iter().flat_map(|v| v.to_le_bytes()).collect();
    let default = [number(1, n), number(2, 1), field(8, name.as_bytes()), field(9, &raw)].concat();
    let node = [field(1, b"x"), field(1, name.as_bytes()), field(2, b"y"), field(4, b"Add")].concat();
    let graph = [
        field(1, &node),
        field(2, b"g"),
        field(5, &default),
        field(11, &value_info("x", 1, &[Dim::Is(n)])),
        field(11, &value_info(name, 1, &[Dim::Is(n)])),
        field(12, &value_info("y", 1, &[Dim::Is(n)])),
    ]
    .concat();
    [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
}

/// A model that gives `y` of its input `x`, two floats, by nodes (operation, inputs, output) and weights of two floats.
pub fn onnx_of_two(nodes: &[(&str, &[&str], &str)], weights: &[(&str, [f32; 2])]) -> Vec<u8> {
    let node = |(op, inputs, output): &(&str, &[&str], &str)| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|i| field(1, i.as_bytes())).collect();
        field(1, &[inputs, field(2, output.as_bytes()), field(4, op.as_bytes())].concat())
    };
    let weight = |(name, values): &(&str, [f32; 2])| {
        field(5, &[tensor_pb(&[2], values), field(8, name.as_bytes())].concat())
    };
    let graph = [
        nodes.iter().flat_map(node).collect(),
        field(2, b"g"),
        weights.iter().flat_map(weight).collect(),
        field(11, &value_info("x", 1, &[Dim::Is(2)])),
        field(12, &value_info("y", 1, &[Dim::Is(2)])),
    ]
    .concat();
    [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
}

/// A model that adds to its input `x` the `n` floats of an external file, to `y`.
pub fn onnx_beside(file: &str, n: u64) -> Vec<u8> {
    let entry = field(13, &[field(1, b"location"), field(2, file.as_bytes())].concat());
    let weights = [number(1, n), number(2, 1), field(8, b"w"), entry, number(14, 1)].concat();
    let node = [field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, b"Add")].concat();
    let graph = [
        field(1, &node),
        field(2, b"g"),
        field(5, &weights),
        field(11, &value_info("x", 1, &[Dim::Is(n)])),
        field(12, &value_info("y", 1, &[Dim::Is(n)])),
    ]
    .concat();
    [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
}
