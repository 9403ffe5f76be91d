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
    for (args, code, says) in [
        (vec!["generate", &image, "--tokens", "1"], 2, "neither tokens"),
        (vec!["generate", &fixed, "--tokens", "1"], 2, "whose cache may be empty"),
        (vec!["generate", &good, "--tokens", "12"], 1, "index"),
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
