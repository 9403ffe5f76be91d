//! `egret generate` with a tokenizer: text in and out, what ends it, and files that are no tokenizers.
#![cfg(feature = "tokenizer")]

mod kit;

use kit::{egret, path, refused, temp, text, works};
use std::fmt::Write as _;
use std::path::Path;

/// A byte-level tokenizer: a byte is its number, and behind them are seven merges and the special tokens 263 and 264.
fn bytes() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokenizers/bytes.json").display().to_string()
}

/// What `chain` says by itself: a text whose characters are of up to four bytes, one of them of two tokens that are no characters.
const SAID: &str = " the caf\u{e9} \u{1f600}.";

/// Its tokens.
const TOKENS: [i64; 13] = [258, 32, 99, 97, 102, 195, 169, 32, 240, 159, 152, 128, 46];

/// A model of `size` tokens that knows one text by heart: the token 33 (`!`) begins it, and behind each of its tokens the next has the
/// highest score; behind the full stop it is `<|endoftext|>`, behind all else a full stop. Which of its two spaces one is, its place tells.
fn chain(size: usize) -> String {
    let mut next = vec![46; size];
    next[33] = 258;
    next[46] = 263;
    for pair in TOKENS.windows(2).filter(|pair| pair[0] != 32) {
        next[pair[0] as usize] = pair[1];
    }
    let list = next.iter().fold(String::new(), |mut out, n| {
        let _ = write!(out, "{}{n}", if out.is_empty() { "" } else { ", " });
        out
    });
    format!(
        r#"graph @g(%0 "input_ids": i64[1, seq]) -> (%12 "logits") {{
  %1 = const i64[{size}] [{list}]
  %2 = gather(%1, %0) {{axis = 0}} : i64[1, seq]
  %3 = iota() {{axis = 1, shape = [1, seq], to = i64}} : i64[1, seq]
  %4 = const i64[] [2]
  %5 = equal(%3, %4) : bool[1, seq]
  %6 = const i64[] [32]
  %7 = equal(%0, %6) : bool[1, seq]
  %8 = const i64[] [99]
  %9 = const i64[] [240]
  %10 = where(%5, %8, %9) : i64[1, seq]
  %11 = where(%7, %10, %2) : i64[1, seq]
  %13 = reshape(%11) {{shape = [1, seq, 1]}} : i64[1, seq, 1]
  %14 = iota() {{axis = 2, shape = [1, 1, {size}], to = i64}} : i64[1, 1, {size}]
  %15 = equal(%13, %14) : bool[1, seq, {size}]
  %12 = cast(%15) {{round = "nearest", saturate = 1, to = f32}} : f32[1, seq, {size}]
}}
"#
    )
}

fn model(dir: &tempfile::TempDir, size: usize) -> String {
    let file = path(dir, &format!("chain{size}.egret"));
    std::fs::write(&file, chain(size)).expect("a file");
    file
}

#[test]
fn a_prompt_is_gone_on_with() {
    let dir = temp();
    let model = model(&dir, 280);
    let bytes = bytes();
    let given = ["generate", &model, "--engine", "interp", "--tokenizer", &bytes];
    // Literals live as long as the program.
    let with = |more: &[&'static str]| -> Vec<&str> { [&given[..], more].concat() };
    assert_eq!(works(&with(&["--prompt", "!"])), format!("{SAID}\n"));
    // The same by tokens, of which JSON tells; the token that ends the text is the last, and has no text.
    let json = works(&with(&["--tokens", "33", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["prompt"], serde_json::json!([33]));
    assert_eq!(json["tokens"], serde_json::json!([&TOKENS[..], &[263]].concat()));
    assert_eq!(json["text"], SAID);
    // Without a tokenizer tokens stay numbers.
    let plain = works(&["generate", &model, "--engine", "interp", "--tokens", "33", "--count", "3"]);
    assert_eq!(plain, "258 32 99\n");

    // What ends it: text, which is left out, also where tokens part it; a token; a special token by its name.
    assert_eq!(works(&with(&["--prompt", "!", "--stop", "he c"])), " t\n");
    assert_eq!(works(&with(&["--prompt", "!", "--stop", "zz", "--stop", "\u{e9} "])), " the caf\n");
    assert_eq!(works(&with(&["--prompt", "!", "--stop", "102"])), " the caf\n");
    // Half a character at the end.
    assert_eq!(works(&with(&["--prompt", "!", "--count", "6"])), " the caf\u{fffd}\n");
    assert_eq!(works(&with(&["--prompt", "!", "--eos", "99"])), " the c\n");
    assert_eq!(
        works(&with(&["--prompt", "!", "--eos", "<|turn|>", "--stop", "<|endoftext|>"])),
        format!("{SAID}\n")
    );
    let on = works(&with(&["--prompt", "!", "--eos", "none", "--count", "16", "--format", "json"]));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&on).expect("JSON")["tokens"].as_array().map(Vec::len),
        Some(16)
    );
    // A special token in a prompt is one token; a long prompt is neither cut off nor a short one filled up.
    let json = works(&with(&["--prompt", "<|turn|> the and", "--format", "json", "--count", "1"]));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["prompt"],
        serde_json::json!([264, 258, 261])
    );
    let json = works(&with(&["--prompt", "abcdefg", "--format", "json", "--count", "1"]));
    let prompt = serde_json::json!([97, 98, 99, 100, 101, 102, 103]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).expect("JSON")["prompt"], prompt);
}

#[test]
fn the_tokenizer_beside_the_model_is_found() {
    let dir = temp();
    let model = model(&dir, 280);
    let args = ["generate", &model, "--engine", "interp", "--prompt", "!"];
    refused(&args, 1, &["no tokenizer for --prompt", "tokenizer.json", "--tokenizer FILE"]);
    std::fs::copy(bytes(), path(&dir, "tokenizer.json")).expect("a file");
    let out = egret(&args);
    assert_eq!(text(&out.stdout), format!("{SAID}\n"));
    let said = text(&out.stderr);
    assert!(said.contains("note: the tokenizer is") && said.contains("<|endoftext|> (263)"), "{said}");
}

#[test]
fn what_is_no_tokenizer_is_refused() {
    let dir = temp();
    let model = model(&dir, 280);
    let sound = std::fs::read_to_string(bytes()).expect("the fixture");
    let of = |name: &str, text: &str| {
        let file = path(&dir, name);
        std::fs::write(&file, text).expect("a file");
        file
    };
    let changed = |name: &str, from: &str, to: &str| {
        assert!(sound.contains(from), "no {from}");
        of(name, &sound.replace(from, to))
    };
    let none = of("none.json", "{}");
    let cut = of("cut.json", &sound[..sound.len() / 2]);
    let random = changed("random.json", "\"dropout\":null", "\"dropout\":0.5");
    let merge = changed("merge.json", "\"t h\"", "\"t zz\"");
    let empty = of("empty.json", r#"{"model": {"type": "BPE", "vocab": {}, "merges": []}}"#);
    for (file, code, part) in [
        (path(&dir, "missing.json"), 1, "cannot read"),
        (none, 1, "no tokenizer.json"),
        (cut, 1, "no tokenizer.json"),
        (merge, 1, "no tokenizer.json"),
        (random, 2, "at random"),
        (empty, 1, "it has no tokens"),
        (model.clone(), 1, "no tokenizer.json"),
    ] {
        refused(&["generate", &model, "--tokenizer", &file, "--prompt", "!"], code, &[&file, part]);
    }
    let bytes = bytes();
    let args = |more: &[&'static str]| [&["generate", &model, "--tokenizer", &bytes], more].concat();
    refused(&args(&["--prompt", ""]), 1, &["the prompt gives no tokens"]);
    refused(&args(&["--prompt", "!", "--stop", ""]), 1, &["--stop ''"]);
    refused(&args(&["--prompt", "!", "--eos", "<|no|>"]), 1, &["no such special token"]);
    refused(&args(&["--prompt", "!", "--tokens", "1"]), 1, &["cannot be used with"]);
}

#[test]
fn a_tokenizer_may_have_tokens_that_the_model_does_not_score() {
    let dir = temp();
    let (model, less, bytes) = (model(&dir, 264), model(&dir, 263), bytes());
    let given = |model, more: &[&'static str]| {
        [&["generate", model, "--engine", "interp", "--tokenizer", &*bytes], more].concat()
    };
    let out = egret(&given(&model, &["--prompt", "!"]));
    assert_eq!(text(&out.stdout), format!("{SAID}\n"));
    let said = text(&out.stderr);
    assert!(said.contains("note: the tokenizer has tokens up to 264, and the model knows 264"), "{said}");
    // Where none was asked for, the text does not end by what has no score.
    let out = egret(&given(&less, &["--prompt", "!", "--count", "13"]));
    assert_eq!(text(&out.stdout), format!("{SAID}\n"));
    for more in [
        &["--prompt", "<|turn|>"][..],
        &["--tokens", "33,264"],
        &["--prompt", "!", "--stop", "264"],
        &["--prompt", "!", "--stop", "<|turn|>"],
        &["--prompt", "!", "--eos", "<|turn|>"],
    ] {
        refused(&given(&model, more), 1, &["the token 264", "knows 264"]);
    }
}
