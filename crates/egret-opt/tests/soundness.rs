//! Soundness: every shipped rule is right on generated cases; wrong ones, and ones that no case meets, are named.

use egret_opt::rules::{Rule, parse, shipped};
use egret_opt::soundness::{self, Effort, Failed};

/// Seeds of cases: one seed alone once missed a zero whose sign a rule changed.
const SEEDS: u64 = 4;

#[test]
fn shipped_rules_hold() {
    let of_seed = |seed| {
        let effort = Effort { cases: 30, seed, ..Effort::default() };
        let check = |r| soundness::check(r, effort).err().map(|e| (r, e));
        let told = |(r, e): (&Rule, Failed)| format!("rule `{}` ({}), seed {seed}: {e}", r.name, r.place);
        shipped().iter().filter_map(check).map(told).collect::<Vec<String>>()
    };
    let broken: Vec<String> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..SEEDS).map(|seed| s.spawn(move || of_seed(seed))).collect();
        threads.into_iter().flat_map(|t| t.join().expect("a thread that does not panic")).collect()
    });
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

/// What goes may hold runs to something: a run that has to fail may not succeed.
#[test]
fn rules_that_forget_what_runs_are_held_to_are_found() {
    for text in [
        "slices: (slice starts=?b sizes=?s steps=?p (slice starts=?a steps=?q ?x)) => (slice starts=added(?a, multiplied(?b, ?q)) sizes=?s steps=multiplied(?p, ?q) ?x)  exact",
        "reshapes: (reshape shape=?s (reshape ?x)) => (reshape shape=?s ?x)  exact",
        "around: (reshape shape=?s (neg (reshape ?x))) => (neg ?x) if shape(?x) == ?s  exact",
        "broadcasts: (broadcast shape=?s (broadcast ?x)) => (broadcast shape=?s ?x)  exact",
        "as-many: (broadcast shape=?s ?x) => (reshape shape=?s ?x) if product(shape(?x)) == product(?s), shape(?x) != ?s  exact",
    ] {
        let found = broken(text);
        assert!(found.to_string().contains("only the left-hand side cannot be run"), "{text}\n{found}");
    }
}

/// The rules that look at dims for it are met by dims that are free, and by runs that fail.
#[test]
fn rules_that_look_at_free_dims_are_tested_on_them() {
    for name in ["reshape-of-reshape", "broadcast-of-broadcast", "slice-of-slice"] {
        let rule = shipped().iter().find(|r| r.name == name).expect(name);
        let passed = soundness::check(rule, Effort::default()).unwrap_or_else(|e| panic!("`{name}`: {e}"));
        assert!(passed.free >= 100 && passed.refused > 0, "`{name}`: {passed:?}");
    }
}
