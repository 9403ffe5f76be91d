//! `egret generate`: a decoder with a cache goes on as one without does, and what is no decoder is refused.

mod kit;

use kit::{path, refused, temp, works};

/// One layer of attention, of which a token's scores are made. `%9` are the keys of all tokens.
const LAYER: &str = r#"
  %20 = softmax(%19) {axis = 2} : f32[1, seq, ALL]
  %21 = matmul(%20, %9) : f32[1, seq, 8]
  %22 = const f32[8, 12] random(2)
  %23 = matmul(%21, %22) : f32[1, seq, 12]
  %24 = const f32[] [40.0]
  %25 = mul(%23, %24) : f32[1, seq, 12]
}
"#;

/// Each token's row of a table, and a wave of where it stands.
const TOKENS: &str = r#"
  %10 = const f32[12, 8] random(1)
  %11 = gather(%10, %0) {axis = 0} : f32[1, seq, 8]
  %12 = cast(POSITIONS) {round = "nearest", saturate = 1, to = f32} : f32[1, seq]
  %13 = reshape(%12) {shape = [1, seq, 1]} : f32[1, seq, 1]
  %14 = sin(%13) : f32[1, seq, 1]
  %15 = add(%11, %14) : f32[1, seq, 8]
"#;

fn decoder(cached: bool) -> String {
    let (head, keys, all) = match cached {
        true => (
            r#"graph @g(%0 "input_ids": i64[1, seq], %1 "attention_mask": i64[1, total], %2 "position_ids": i64[1, seq], %3 "past_key_values.0.key": f32[1, past, 8]) -> (%9 "present.0.key", %25 "logits") {"#,
            "%9 = concat(%3, %15) {axis = 1} : f32[1, past + seq, 8]",
            "past + seq",
        ),
        false => (
            r#"graph @g(%0 "input_ids": i64[1, seq]) -> (%25 "logits") {
  %2 = iota() {axis = 1, shape = [1, seq], to = i64} : i64[1, seq]"#,
            "%8 = const f32[] [0.0]\n  %9 = add(%15, %8) : f32[1, seq, 8]",
            "seq",
        ),
    };
    let scores = "%18 = transpose(%9) {perm = [0, 2, 1]} : f32[1, 8, ALL]\n  %19 = matmul(%15, %18) : f32[1, seq, ALL]";
    format!("{head}{TOKENS}  {keys}\n  {scores}{LAYER}").replace("POSITIONS", "%2").replace("ALL", all)
}

#[test]
fn a_cache_changes_nothing() {
    let dir = temp();
    let [with, without] = [true, false].map(|cached| {
        let file = path(&dir, if cached { "with.egret" } else { "without.egret" });
        std::fs::write(&file, decoder(cached)).expect("a file");
        file
    });
    let mut said = vec![];
    for model in [&with, &without] {
        for engine in ["jit", "interp"] {
            let args = ["generate", model, "--tokens", "3,1,11", "--count", "25", "--engine", engine];
            said.push(works(&args));
        }
    }
    let tokens: Vec<i64> = said[0].split_whitespace().map(|t| t.parse().expect("a token")).collect();
    assert_eq!(tokens.len(), 25);
    assert!(tokens.iter().any(|t| *t != tokens[0]), "{tokens:?}");
    said.iter().for_each(|s| assert_eq!(*s, said[0]));

    // A token that ends the text; the tokens from a file; draws, the same again for the same seed.
    let stop = tokens[3].to_string();
    let short = works(&["generate", &with, "--tokens", "3,1,11", "--stop", &stop]);
    let until = tokens.iter().position(|t| *t == tokens[3]).expect("it is there") + 1;
    assert_eq!(short.split_whitespace().count(), until, "{short}");
    let file = path(&dir, "tokens.txt");
    std::fs::write(&file, "3, 1\n11\n").expect("a file");
    let json = works(&["generate", &with, "--tokens-from", &file, "--count", "3", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["tokens"], serde_json::json!(tokens[..3]));
    assert_eq!(json["prompt"], serde_json::json!([3, 1, 11]));
    let draw = |seed: &str| {
        works(&["generate", &with, "--tokens", "3", "--temperature", "5", "--seed", seed, "--count", "30"])
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

/// Attention of two heads over a cache of its own for keys and values, under a mask whose length has a name of its own.
/// `whole`: what is kept is made in a way that is no concatenation.
fn heads(cached: bool, whole: bool) -> String {
    let head = match cached {
        true => {
            r#"graph @g(%0 "ids": i64[batch, seq], %1 "attention_mask": i64[batch, total], %2 "position_ids": i64[batch, seq], %3 "cache_position": i64[seq], %4 "token_type_ids": i64[batch, seq], %5 "keys_in": f32[batch, 2, past, 4], %6 "values_in": f32[batch, 2, past, 4]) -> (%50 "logits", %20 "keys_out", %21 "values_out") {"#
        }
        false => {
            r#"graph @g(%0 "ids": i64[batch, seq], %1 "attention_mask": i64[batch, seq]) -> (%50 "logits") {
  %7 = iota() {axis = 0, shape = [seq], to = i64} : i64[seq]"#
        }
    };
    let joined = match (cached, whole) {
        (true, true) => {
            r#"%16 = const f32[] [0.0]
  %17 = concat(%5, %13) {axis = 2} : f32[batch, 2, past + seq, 4]
  %20 = add(%17, %16) : f32[batch, 2, past + seq, 4]
  %18 = concat(%6, %14) {axis = 2} : f32[batch, 2, past + seq, 4]
  %21 = add(%18, %16) : f32[batch, 2, past + seq, 4]"#
        }
        (true, false) => {
            r#"%20 = concat(%5, %13) {axis = 2} : f32[batch, 2, past + seq, 4]
  %21 = concat(%6, %14) {axis = 2} : f32[batch, 2, past + seq, 4]"#
        }
        (false, _) => {
            r#"%16 = const f32[] [0.0]
  %20 = add(%13, %16) : f32[batch, 2, seq, 4]
  %21 = add(%14, %16) : f32[batch, 2, seq, 4]"#
        }
    };
    let body = r#"
  %8 = cast(POSITIONS) {round = "nearest", saturate = 1, to = f32} : f32[seq]
  %9 = reshape(%8) {shape = [seq, 1]} : f32[seq, 1]
  %10 = const f32[12, 8] random(1)
  %11 = gather(%10, %0) {axis = 0} : f32[batch, seq, 8]
  %12 = sin(%9) : f32[seq, 1]
  %22 = add(%11, %12) : f32[batch, seq, 8]
  %23 = reshape(%22) {shape = [batch, seq, 2, 4]} : f32[batch, seq, 2, 4]
  %13 = transpose(%23) {perm = [0, 2, 1, 3]} : f32[batch, 2, seq, 4]
  %24 = cos(%23) : f32[batch, seq, 2, 4]
  %14 = transpose(%24) {perm = [0, 2, 1, 3]} : f32[batch, 2, seq, 4]
  JOINED
  %25 = transpose(%20) {perm = [0, 1, 3, 2]} : f32[batch, 2, 4, ALL]
  %26 = matmul(%13, %25) : f32[batch, 2, seq, ALL]
  %27 = cast(%1) {round = "nearest", saturate = 1, to = f32} : f32[batch, TOTAL]
  %28 = const f32[] [1.0]
  %29 = sub(%27, %28) : f32[batch, TOTAL]
  %30 = const f32[] [10000.0]
  %31 = mul(%29, %30) : f32[batch, TOTAL]
  %32 = reshape(%31) {shape = [batch, 1, 1, TOTAL]} : f32[batch, 1, 1, TOTAL]
  %33 = add(%26, %32) : f32[batch, 2, seq, BOTH]
  %34 = softmax(%33) {axis = 3} : f32[batch, 2, seq, BOTH]
  %35 = matmul(%34, %21) : f32[batch, 2, seq, 4]
  %36 = transpose(%35) {perm = [0, 2, 1, 3]} : f32[batch, seq, 2, 4]
  %37 = reshape(%36) {shape = [batch, seq, 8]} : f32[batch, seq, 8]
  %38 = const f32[8, 12] random(2)
  %39 = matmul(%37, %38) : f32[batch, seq, 12]
  %40 = const f32[] [40.0]
  %50 = mul(%39, %40) : f32[batch, seq, 12]
}
"#;
    let [positions, all, total, both] = match cached {
        true => ["%3", "past + seq", "total", "broadcast(past + seq, total)"],
        false => ["%7", "seq", "seq", "seq"],
    };
    let all =
        body.replace("JOINED", joined).replace("ALL", all).replace("TOTAL", total).replace("BOTH", both);
    head.to_owned() + &all.replace("POSITIONS", positions)
}

/// A cache whose tokens are not its first axis, called as no exporter does; and one beyond the room that it has at first.
#[test]
fn caches_are_found_by_what_is_done_with_them() {
    let dir = temp();
    let mut said = vec![];
    for (name, text) in [
        ("rows.egret", heads(true, false)),
        ("whole.egret", heads(true, true).replace("keys_", "k_").replace("values_", "v_")),
        ("none.egret", heads(false, false)),
    ] {
        let text = match name {
            // Not found by what is done with them, but by name.
            "whole.egret" => text
                .replace("k_in", "past.k")
                .replace("v_in", "past.v")
                .replace("k_out", "present.k")
                .replace("v_out", "present.v"),
            _ => text,
        };
        let file = path(&dir, name);
        std::fs::write(&file, text).expect("a file");
        for engine in ["jit", "jit-noopt", "interp"] {
            for tokens in ["3", "3,1,11,7"] {
                let args = ["generate", &file, "--tokens", tokens, "--count", "70", "--engine", engine];
                said.push((tokens, works(&args)));
            }
        }
    }
    for (tokens, text) in &said {
        let of: Vec<&str> = text.split_whitespace().collect();
        assert!(of.len() == 70 && of.iter().any(|t| *t != of[0]), "{text}");
        let first = said.iter().find(|(other, _)| other == tokens).expect("it is there");
        assert_eq!(*text, first.1);
    }
    let long = |name: &str| {
        works(&["generate", &path(&dir, name), "--tokens", "3,1", "--count", "300", "--engine", "jit"])
    };
    assert_eq!(long("rows.egret"), long("none.egret"));
}

/// A decoder with a cache and one without it, as the branches of one model.
fn merged() -> String {
    let body = |cached: bool| {
        let text = decoder(cached);
        // The graph's own name and its end are the branch's.
        let from = text.find("  %10 = const f32[12, 8]").expect("the table of tokens");
        let body = text[from..].trim_end().trim_end_matches('}');
        body.to_owned()
    };
    let branch = |name: &str, cached: bool| {
        format!(
            "{name} graph @{name}(%0: i64[1, seq], %2: i64[1, seq], %3: f32[1, past, 8]) -> (%9 \"k\", %25 \"l\") {{\n{}}}\n",
            body(cached)
        )
    };
    format!(
        r#"graph @g(%0 "input_ids": i64[1, seq], %1 "attention_mask": i64[1, total], %2 "position_ids": i64[1, seq], %3 "past_key_values.0.key": f32[1, past, 8], %4 "use_cache_branch": bool[1]) -> (%6 "present.0.key", %7 "logits") {{
  %5 = reshape(%4) {{shape = []}} : bool[]
  %6, %7 = if(%5, %0, %2, %3) {{dims = [_, kept]}} : f32[1, kept, 8], f32[1, seq, 12]
{}{}}}"#,
        branch("then", true),
        branch("else", false)
    )
}

#[test]
fn a_model_may_have_a_branch_for_the_first_step() {
    let dir = temp();
    let [ir, merged_file, plain] = ["m.egret", "merged.onnx", "plain.egret"].map(|name| path(&dir, name));
    std::fs::write(&ir, merged()).expect("a file");
    std::fs::write(&plain, decoder(true)).expect("a file");
    works(&["print", &ir, "--format", "onnx", "-o", &merged_file]);
    for tokens in ["3", "3,1,11"] {
        let go_on = |file: &str, more: &[&str]| {
            works(&[&["generate", file, "--tokens", tokens, "--count", "25"], more].concat())
        };
        let want = go_on(&plain, &[]);
        assert!(want.split_whitespace().any(|t| !want.starts_with(t)), "{want}");
        for engine in ["jit", "jit-noopt", "interp"] {
            assert_eq!(go_on(&merged_file, &["--engine", engine]), want, "{engine}");
        }
    }
}

/// A value for what each step has its own of would be that of all steps.
#[test]
fn what_generate_gives_itself_is_given_by_nobody_else() {
    let dir = temp();
    let file = path(&dir, "model.egret");
    std::fs::write(&file, heads(true, false)).expect("a file");
    for (input, value) in [
        ("position_ids", "[[0]]"),
        ("cache_position", "[0]"),
        ("token_type_ids", "[[0]]"),
        ("attention_mask", "[[1]]"),
    ] {
        for option in ["--input", "--bind"] {
            let given = format!("{input}={value}");
            let args = ["generate", &file, "--tokens", "3", "--count", "2", option, &given];
            refused(&args, 1, &[&format!("`{input}`")]);
        }
        let given = format!("{input}={value}");
        let args = ["generate", &file, "--tokens", "3", "--count", "2", "--input", &given];
        refused(&args, 1, &[&format!("gives the input `{input}` itself"), "give no value for it"]);
    }
}

#[test]
fn what_is_no_decoder_is_refused() {
    let dir = temp();
    let of = |name: &str, text: &str| {
        let file = path(&dir, name);
        std::fs::write(&file, text).expect("a file");
        file
    };
    let good = of("good.egret", &decoder(true));
    let image = of("image.egret", "graph @g(%0 \"x\": f32[1, 4]) -> (%0 \"x\") {\n}\n");
    // What is kept is of the last step alone.
    let last = "graph @g(%0 \"ids\": i64[1, seq], %1 \"past.0\": f32[1, past, 1]) -> (%3 \"present.0\", %4 \"logits\") {\n  \
                %2 = cast(%0) {round = \"nearest\", saturate = 1, to = f32} : f32[1, seq]\n  \
                %3 = reshape(%2) {shape = [1, seq, 1]} : f32[1, seq, 1]\n  \
                %4 = concat(%3, %3, %3, %3) {axis = 2} : f32[1, seq, 4]\n}\n";
    let short = of("short.egret", last);
    let fixed =
        of("fixed.egret", &decoder(true).replace("past", "4").replace("4_key_values", "past_key_values"));
    let two = of("two.egret", &heads(true, false).replace("token_type_ids", "words"));
    let turned = of(
        "turned.egret",
        &heads(true, false)
            .replace("\"position_ids\": i64[batch, seq]", "\"position_ids\": i64[3, 1, seq]"),
    );
    for (args, code, says) in [
        (vec!["generate", &image, "--tokens", "1"], 1, "it is no language model"),
        (vec!["generate", &fixed, "--tokens", "1"], 2, "whose cache may be empty"),
        (vec!["generate", &two, "--tokens", "1"], 2, "both `ids` and `words` could be the tokens"),
        (vec!["generate", &turned, "--tokens", "1"], 2, "the input `position_ids` (i64[3, 1, seq])"),
        (vec!["generate", &good, "--tokens", "12"], 1, "the token 12: the model knows 12"),
        (vec!["generate", &good, "--tokens", "1", "--stop", "12"], 1, "the token 12, which ends the text"),
        (vec!["generate", &good, "--tokens", "1", "--stop", "end"], 1, "without a tokenizer"),
        (vec!["generate", &good, "--tokens", "1", "--eos", "</s>"], 1, "without a tokenizer"),
        (vec!["generate", &good, "--tokens", "-1"], 1, "0 or more"),
        (vec!["generate", &short, "--tokens", "1,2,3"], 2, "grow by the tokens"),
        (vec!["generate", &good, "--tokens", "one"], 1, "invalid value 'one'"),
        (vec!["generate", &good], 1, "--tokens"),
        (vec!["generate", &good, "--tokens", "1", "--temperature", "0"], 1, "more than 0"),
        (vec!["generate", &good, "--tokens", "1", "--temperature", "1", "--top-p", "2"], 1, "at most 1"),
        (vec!["generate", &good, "--tokens-from", &image], 1, "no token"),
    ] {
        refused(&args, code, &[says]);
    }
}

/// A model whose scores are those of `decoder(true)`, weighed by further inputs: a scale of a free length of its own, a switch, and whether
/// the step goes on from a cache, of which the scores tell.
fn weighed() -> String {
    let head = r#", %4 "scale": f32[1, width], %5 "offset": f32[], %6 "use_cache_branch": bool[1]) -> "#;
    let tail = r#"  %26 = reduce(%4) {axes = [1], keepdims = 0, kind = "sum"} : f32[1]
  %27 = reshape(%26) {shape = [1, 1, 1]} : f32[1, 1, 1]
  %28 = mul(%23, %27) : f32[1, seq, 12]
  %29 = cast(%6) {round = "nearest", saturate = 1, to = f32} : f32[1]
  %30 = reshape(%29) {shape = [1, 1, 1]} : f32[1, 1, 1]
  %31 = mul(%28, %30) : f32[1, seq, 12]
  %25 = add(%31, %5) : f32[1, seq, 12]
}
"#;
    let text = decoder(true).replacen(") -> ", head, 1);
    let cut = text.find("  %24 = const").expect("the scale");
    text[..cut].to_owned() + tail
}

#[test]
fn further_inputs_are_held() {
    let dir = temp();
    let file = |name: &str, text: &str| {
        let file = path(&dir, name);
        std::fs::write(&file, text).expect("a file");
        file
    };
    let (model, plain) = (file("weighed.egret", &weighed()), file("plain.egret", &decoder(true)));
    let args = |more: &[&str]| {
        let mut args = vec![
            "generate".to_owned(),
            model.clone(),
            "--count=12".to_owned(),
            "--tokens=3,1,11".to_owned(),
        ];
        args.extend(more.iter().map(|a| (*a).to_owned()));
        args
    };
    let run = |more: &[&str]| works(&args(more).iter().map(String::as_str).collect::<Vec<_>>());
    let both = ["--input", "scale=[[30, 8, 2]]", "--input", "offset=0"];
    let said: Vec<String> =
        ["jit", "interp"].iter().map(|engine| run(&[&both[..], &["--engine", engine]].concat())).collect();
    assert_eq!(said[0], said[1]);
    // The first step's scores are all 0, as it is told that nothing is kept; those of later steps are the plain model's behind token 0.
    let first = said[0].split_whitespace().next();
    assert_eq!(first, Some("0"), "{}", said[0]);
    let later = works(&["generate", &plain, "--count", "11", "--tokens", "3,1,11,0"]);
    assert_eq!(said[0].trim().strip_prefix("0 "), Some(later.trim()));

    let fails = |more: &[&str], code: i32, parts: &[&str]| {
        refused(&args(more).iter().map(String::as_str).collect::<Vec<_>>(), code, parts);
    };
    fails(
        &[],
        1,
        &["no value for the input `scale` (f32[1, width]), `offset` (f32[])", "--input scale=VALUE"],
    );
    fails(&both[..2], 1, &["no value for the input `offset`", "--input offset=VALUE"]);
    fails(&["--input", "scale=[1]", "--input", "offset=0"], 1, &["`scale`"]);
    fails(
        &[&both[..], &["--input", "past_key_values.0.key=[[[1]]]"]].concat(),
        1,
        &["is a cache", "give no value"],
    );
    fails(&[&both[..], &["--input", "input_ids=[[1]]"]].concat(), 1, &["takes tokens but `input_ids`"]);
    fails(&[&both[..], &["--input", "other=1"]].concat(), 1, &["no input `other`"]);
}
