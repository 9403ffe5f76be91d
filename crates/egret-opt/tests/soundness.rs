//! Soundness: every shipped rule is right on generated cases; wrong ones, and ones that no case meets, are named.

use egret_opt::rules::{parse, shipped};
use egret_opt::soundness::{self, Effort, Failed};

#[test]
fn shipped_rules_hold() {
    let broken: Vec<String> = shipped()
        .iter()
        .filter_map(|r| match soundness::check(r, Effort::default()) {
            Ok(held) => {
                println!("{}: {} cases, {:?}, ranks {:?}", r.name, held.cases, held.dtypes, held.ranks);
                None
            }
            Err(e) => Some(format!("rule `{}` ({}): {e}", r.name, r.place)),
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

/// Why a rule is broken.
fn broken(text: &str) -> Failed {
    let rules = parse(text, "mine.rules", "fuse", shipped()).unwrap();
    soundness::check(&rules[0], Effort::default()).expect_err(text)
}

#[test]
fn wrong_rules_are_found() {
    for text in [
        "zero: (add ?x ?c) => ?x if value(?c) == 0.0  exact",
        "zero: (add ?x ?c) => ?x if value(?c) == 0.0, keeps(?x, ?c)  exact",
        "plus: (add ?x ?c) => ?x if value(?c) == 0.0, is_float(?x), keeps(?x, ?c)  reassoc",
        "less: (sub ?c ?x) => (neg ?x) if value(?c) == 0.0, is_float(?x), keeps(?x, ?c)  reassoc",
        "times: (mul ?x ?c) => (abs (mul ?x ?c)) if value(?c) == 0.0, is_float(?x), keeps(?x, ?c)  reassoc",
        "order: (transpose perm=?q (transpose perm=?p ?x)) => (transpose perm=compose(?q, ?p) ?x)  exact",
        "last: (rms_norm axis=?a epsilon=?e (mul ?x ?c)) => (rms_norm axis=?a epsilon=?e ?x) if is_number(?c)  reassoc",
        "exactly: (div ?x ?c) => (mul ?x 0.3333333333333333) if is(?c, 3.0), is_float(?x), keeps(?x, ?c)  exact",
        "guard: (matmul (softmax axis=?a ?s:(matmul ?q (transpose perm=?p ?k))) ?v) => (attention scale=1.0 fill=0.0 safe=0 ?q (transpose perm=swapped(?p) ?k) ?v _) if is_float(?q)  reassoc",
    ] {
        let found = broken(text);
        assert!(matches!(found, Failed::Differ(_)), "{text}\n{found}");
    }
}

#[test]
fn a_rule_that_no_case_meets_is_an_error() {
    let found = broken("never: (add ?x ?c) => ?x if rank(?x) == 9, keeps(?x, ?c)  exact");
    assert!(matches!(&found, Failed::NoCase { guard: Some(g), .. } if g == "rank(?x) == 9"), "{found}");
}
