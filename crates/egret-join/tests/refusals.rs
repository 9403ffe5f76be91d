//! What cannot be joined: one message that names the place and the remedy.

mod kit;

use egret::ErrorKind;
use egret_join::{Head, Request, join};
use kit::{Files, difference, model, node, opset, typed, unary, value};

#[track_caller]
fn refused(request: &Request, kind: ErrorKind, parts: &[&str]) {
    let Err(e) = join(request) else { panic!("{request:?} is joined") };
    assert_eq!(e.kind, kind, "{e}");
    for part in parts {
        assert!(e.message.contains(part), "no `{part}` in {e}");
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&s| s.into()).collect()
}

#[test]
fn wires_that_lead_nowhere_are_refused() {
    let files = Files::new(&[("a", &unary("Exp")), ("b", &unary("Tanh")), ("d", &difference())]);
    let with = |wires: &[&str], parts: &[&str]| {
        refused(&files.request(&["a", "b", "d"], wires), ErrorKind::User, parts);
    };
    with(&["a:y"], &["--wire a:y", "MODEL:OUTPUT=MODEL:INPUT"]);
    with(&["a=b:x"], &["`a` is no end of a wire"]);
    with(&["z:y=b:x"], &["no model `z`", "`a`, `b`, `d`"]);
    with(&["a:y=z:x"], &["no model `z`"]);
    with(&["a:emb=b:x"], &["`a` has no output `emb`", "`y`"]);
    with(&["a:y=d:x3"], &["`d` has no input `x3`", "`x1`, `x2`"]);
    with(&["a:y=b:y"], &["`b` has no input `y`", "computed there"]);
    with(&["a:y=d:x1", "b:y=d:x1"], &["`d:x1` is given twice"]);
}

#[test]
fn circles_are_refused_with_their_wires() {
    let files = Files::new(&[("a", &unary("Exp")), ("b", &unary("Tanh")), ("d", &difference())]);
    let circle = ["a:y=b:x", "b:y=d:x1", "d:y=a:x"];
    refused(
        &files.request(&["a", "b", "d"], &circle),
        ErrorKind::User,
        &["in a circle", "a:y=b:x, b:y=d:x1"],
    );
    refused(&files.request(&["a"], &["a:y=a:x"]), ErrorKind::User, &["in a circle", "a:y=a:x"]);
}

#[test]
fn types_that_do_not_fit_are_refused_with_both() {
    let through = |elem: i32, shape: &[&str]| {
        model(
            vec![node("Identity", &["x"], "y")],
            vec![],
            vec![typed("x", elem, shape)],
            vec![typed("y", elem, shape)],
        )
    };
    let f64s = through(11, &["2", "3"]);
    let files = Files::new(&[
        ("a", &unary("Exp")),
        ("wide", &f64s),
        ("flat", &through(1, &["6"])),
        ("other", &through(1, &["2", "4"])),
        ("square", &through(1, &["n", "n"])),
    ]);
    let with = |to: &str, parts: &[&str]| {
        refused(&files.request(&["a", to], &[&format!("a:y={to}:x")]), ErrorKind::User, parts);
    };
    with("wide", &["`a:y` is f32[2, 3]", "`wide:x` is f64[2, 3]", "Cast"]);
    with("flat", &["f32[6]", "2 and 1 axes"]);
    with("other", &["f32[2, 4]", "axis 1 is 3 and 4"]);
    with("square", &["f32[n, n]", "axis 1 is 3 and n = 2"]);
    let request = Request { shares: strings(&["x=a:x,wide:x"]), ..files.request(&["a", "wide"], &[]) };
    refused(&request, ErrorKind::User, &["--share x", "element types differ"]);
}

#[test]
fn what_the_declared_types_hide_is_found_in_the_whole() {
    // Its output is declared without a shape that would say that 3 and 4 do not add up.
    let mut hidden = unary("Exp");
    hidden.graph.mut_or_insert_default().output[0] = value("y", &["a", "b"]);
    let four = model(
        vec![node("Add", &["x", "w"], "y")],
        vec![kit::floats("w", &[4], &[1.0; 4])],
        vec![value("x", &["m", "n"])],
        vec![value("y", &["m", "4"])],
    );
    let files = Files::new(&[("hidden", &hidden), ("four", &four)]);
    let request = files.request(&["hidden", "four"], &["hidden:y=four:x"]);
    refused(&request, ErrorKind::User, &["do not fit each other", "four/Add_y"]);
}

#[test]
fn names_that_clash_are_refused() {
    let files = Files::new(&[("a", &unary("Exp")), ("b", &unary("Tanh")), ("head", &unary("Abs"))]);
    refused(&files.request(&["a", "a"], &[]), ErrorKind::User, &["two models are called `a`", "NAME=FILE"]);
    let head = Request { head: Some(Head::Concat), ..files.request(&["a", "head"], &["a:y=head:x"]) };
    refused(&head, ErrorKind::User, &["a model and the ready head", "NAME=FILE"]);
    let base = files.request(&["a", "b"], &[]);
    let with = |shares: &[&str], parts: &[&str]| {
        refused(&Request { shares: strings(shares), ..base.clone() }, ErrorKind::User, parts);
    };
    with(&["x=a:x", "x=b:x"], &["two shared inputs are called `x`"]);
    with(&["a/h=a:x,b:x"], &["--share a/h", "rename"]);
    with(&["x=a:x,a:x"], &["given twice"]);
    with(&["x"], &["NAME=MODEL:INPUT"]);
    let named = Request { models: vec![format!("p:q={}", files.path("a").display())], ..base.clone() };
    refused(&named, ErrorKind::User, &["cannot be called `p:q`"]);
    let none = Request { models: vec!["none.onnx".into()], ..base };
    refused(&none, ErrorKind::User, &["none.onnx"]);
}

#[test]
fn outputs_must_be_left_and_be_there() {
    let files = Files::new(&[("a", &unary("Exp")), ("b", &unary("Tanh"))]);
    let base = files.request(&["a"], &[]);
    let with = |keep: &[&str], drop: &[&str], parts: &[&str]| {
        let request = Request { keep: strings(keep), drop: strings(drop), ..base.clone() };
        refused(&request, ErrorKind::User, parts);
    };
    with(&[], &["a:y"], &["nothing is left", "--keep"]);
    with(&[], &["a:x"], &["--drop a:x", "no output"]);
    with(&["a:y"], &["a:y"], &["--drop a:y", "--keep"]);
    with(&["a:z"], &[], &["--keep a:z", "no output `z`"]);
}

#[test]
fn heads_take_values_of_one_kind() {
    let scalar =
        model(vec![node("Neg", &["x"], "y")], vec![], vec![value("x", &[])], vec![value("y", &[])]);
    let half = model(
        vec![node("Neg", &["x"], "y")],
        vec![],
        vec![typed("x", 10, &["3"])],
        vec![typed("y", 10, &["3"])],
    );
    let files = Files::new(&[("a", &unary("Exp")), ("b", &unary("Tanh")), ("s", &scalar), ("h", &half)]);
    let with = |head: &str, wires: &[&str], kind: ErrorKind, parts: &[&str]| {
        let head = Some(head.parse().expect("a head"));
        refused(&Request { head, ..files.request(&["a", "b", "s", "h"], wires) }, kind, parts);
    };
    with("concat", &[], ErrorKind::User, &["nothing is wired to the head"]);
    with(
        "concat",
        &["a:y=head:p", "s:y=head:q"],
        ErrorKind::User,
        &["`a:y` is f32[2, 3]", "`s:y` is f32[]"],
    );
    with("concat", &["s:y=head:p"], ErrorKind::User, &["`s:y` has no axes"]);
    with("concat", &["a:y=head:p", "b:y=head:p"], ErrorKind::User, &["an input `p` already"]);
    with("late:1", &["a:y=head:p", "b:y=head:q"], ErrorKind::User, &["1 weights for 2 wires"]);
    with("late:1", &["h:y=head:p"], ErrorKind::Unsupported, &["f32 and f64", "`h:y` is f16[3]"]);
    with("gated:8", &["h:y=head:p"], ErrorKind::Unsupported, &["f32 and f64"]);
    with("attention:8", &["s:y=head:p"], ErrorKind::User, &["`s:y` has no axes"]);
    with("attention:8", &["a:y=head:query"], ErrorKind::User, &["a value `query` of its own"]);
    with("message-passing:8", &["a:y=head:p", "b:y=head:q"], ErrorKind::User, &["one wire, not from 2"]);
    with("message-passing:8", &["h:y=head:p"], ErrorKind::Unsupported, &["f32 and f64"]);
    with(
        "message-passing:8",
        &["a:y=head:p", "b:y=head:edges"],
        ErrorKind::User,
        &["`head:edges`", "i64[2, edges]"],
    );
}

#[test]
fn heads_with_weights_need_known_sizes_and_few_of_them() {
    let mut open = unary("Exp");
    let graph = open.graph.mut_or_insert_default();
    graph.input = vec![value("x", &["n", "d"])];
    graph.output = vec![value("y", &["n", "d"])];
    let mut old = unary("Exp");
    old.opset_import = vec![opset("", 6)];
    let files = Files::new(&[("a", &unary("Exp")), ("open", &open), ("old", &old)]);
    let with = |model: &str, head: &str, layers: &[usize], kind: ErrorKind, parts: &[&str]| {
        let base = files.request(&[model], &[&format!("{model}:y=head:p")]);
        let head = Some(head.parse().expect("a head"));
        refused(&Request { head, layers: layers.to_vec(), ..base }, kind, parts);
    };
    with("open", "gated:8", &[], ErrorKind::User, &["`open:y` is f32[n, d]", "last axis"]);
    with("open", "concat", &[4], ErrorKind::User, &["`open:y` is f32[n, d]", "last axis"]);
    with("a", "late:1", &[4], ErrorKind::User, &["late fusion sums logits"]);
    with("a", "concat", &[0], ErrorKind::User, &["--layers: 0 units"]);
    with("a", "concat", &[65536, 65536], ErrorKind::Unsupported, &["layers.1.weight", "more than"]);
    with("old", "concat", &[4], ErrorKind::Unsupported, &["opset 7", "convert_version"]);
    let alone = Request { layers: vec![4], ..files.request(&["a"], &[]) };
    refused(&alone, ErrorKind::User, &["--layers", "--head concat"]);
    for (text, why) in
        [("gated", "no head `gated`"), ("gated:0", "no width"), ("mean:3", "no head `mean:3`")]
    {
        let e = text.parse::<Head>().expect_err(text).to_string();
        assert!(e.contains(why) && e.contains("`message-passing:64`"), "{e}");
    }
}

#[test]
fn opsets_that_cannot_be_one_are_refused() {
    let mut old = unary("Exp");
    old.opset_import = vec![opset("", 9)];
    let (mut one, mut two) = (unary("Exp"), unary("Tanh"));
    one.opset_import.push(opset("own", 1));
    two.opset_import.push(opset("own", 2));
    let files = Files::new(&[("old", &old), ("new", &unary("Tanh")), ("one", &one), ("two", &two)]);
    let both = files.request(&["old", "new"], &[]);
    refused(&both, ErrorKind::Unsupported, &["old:", "need opset 17", "convert_version"]);
    let both = files.request(&["one", "two"], &[]);
    refused(&both, ErrorKind::Unsupported, &["`one` uses version 1", "own", "`two` version 2"]);
}

#[test]
fn damaged_models_are_refused() {
    let mut circle = unary("Exp");
    circle.graph.mut_or_insert_default().node = vec![node("Exp", &["b"], "y"), node("Exp", &["y"], "b")];
    let mut twice = unary("Exp");
    twice.graph.mut_or_insert_default().output.push(value("y", &["2", "3"]));
    let files = Files::new(&[("circle", &circle), ("twice", &twice)]);
    refused(&files.request(&["circle"], &[]), ErrorKind::User, &["circle"]);
    refused(&files.request(&["twice"], &[]), ErrorKind::User, &["twice.onnx", "two outputs `y`"]);
    std::fs::write(files.path("text"), "no model").expect("a file");
    refused(&files.request(&["text"], &[]), ErrorKind::User, &["text.onnx"]);
}
