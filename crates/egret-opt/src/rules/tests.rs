//! The rule language: what is read, and what is refused with a place.

use super::{Pattern, Tier, parse, shipped};

fn one(text: &str) -> Result<super::Rule, String> {
    parse(text, "test.rules", "canonicalize", &[]).map(|mut r| r.remove(0)).map_err(|e| e.to_string())
}

#[test]
fn shipped_rules_are_rules() {
    assert!(!shipped().is_empty());
    for rule in shipped() {
        assert!(rule.lhs.as_node().is_some(), "{}", rule.place);
    }
}

#[test]
fn a_rule_has_its_parts() {
    let r = one("# a comment\nmul-one: (mul ?x 1.0) => ?x\n  if keeps(?x, ?x), not rank(?x) == 7 exact")
        .unwrap();
    assert_eq!((r.name.as_str(), r.tier, r.place.line, r.guards.len()), ("mul-one", Tier::Exact, 2, 2));
    assert_eq!(r.rhs, Pattern::Value(0));
    assert!(r.guards[1].negated && r.guards[1].text == "not rank(?x) == 7", "{:?}", r.guards[1]);
}

#[test]
fn a_rule_has_its_spelling() {
    let r = one("a: (mul ?x\n  1.0) for ?x in ?xs at ?i  =>  (neg ?x) if keeps(?x, ?x) approx 1e-5 quiet")
        .unwrap();
    assert_eq!(r.spelt.lhs, "(mul ?x 1.0) for ?x in ?xs at ?i");
    assert_eq!(r.spelt.rhs, "(neg ?x)");
    assert_eq!(r.spelt.conditions, "if keeps(?x, ?x) approx 1e-5");
    assert!(r.quiet && r.text.ends_with("approx 1e-5"), "{}", r.text);
    let r = one("a: (neg ?x) => ?x exact").unwrap();
    assert_eq!((r.spelt.conditions.as_str(), r.quiet), ("exact", false));
}

#[test]
fn what_is_no_rule_is_refused_with_its_place() {
    for (text, wanted) in [
        ("a: (add ?x ?y) => ?z exact", "`z` is not bound"),
        ("a: (bad ?x) => ?x exact", "`bad` is no operation"),
        ("a: (neg ?x) => ?x", "a tier"),
        ("a: (neg ?x) => ?x if odd(?x) exact", "no function is called `odd`"),
        ("a: (neg ?x ?y) => ?x exact", "`neg` takes 1"),
        ("a: (softmax ?x) => (softmax ?x) exact", "needs `axis=`"),
        ("a: ?x => ?x exact", "left-hand side"),
        ("a: (softmax axis=\"one\" ?x) => ?x exact", "int is expected"),
    ] {
        let e = one(text).unwrap_err();
        assert!(e.starts_with("test.rules:1: ") && e.contains(wanted), "{text}: {e}");
    }
    let twice =
        parse("a: (neg ?x) => ?x exact\na: (abs ?x) => ?x exact", "t", "canonicalize", &[]).unwrap_err();
    assert_eq!(twice.place.line, 2);
}
