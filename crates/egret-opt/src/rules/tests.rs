//! The rule language: what is read, and what is refused with a place.

use super::{Expr, Pattern, Tier, parse, shipped};

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
    assert_eq!((r.name.as_str(), r.tier, r.place.line, r.guards.len()), ("mul-one", Tier::Exact, 2, 4));
    assert_eq!(r.rhs, Pattern::Value(0));
    assert!(r.guards[2].negated && r.guards[2].text == "not rank(?x) == 7", "{:?}", r.guards[2]);
}

/// The guards of a rule as they are told, and as the table's functions see them.
fn guards(r: &super::Rule) -> Vec<(&str, String)> {
    let shown = |e: &Expr| match e {
        Expr::Value(v) => r.vars.values[*v].clone(),
        Expr::Literal(a) => a.to_string(),
        other => format!("{other:?}"),
    };
    let call = |e: &Expr| match e {
        Expr::Call(f, args) => {
            format!("{} {}", f.name, args.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        other => shown(other),
    };
    r.guards.iter().map(|g| (g.text.as_str(), call(&g.left))).collect()
}

#[test]
fn numbers_in_patterns_are_constants_that_keep_the_operand_beside_them() {
    let r = one("a: (mul (erf ?y:(mul ~0.7 ?x)) 0.5) => (neg ?x) if is_float(?x) reassoc").unwrap();
    let wanted = [
        ("~0.7", "is ~0.7#1 0.7"),
        ("0.5", "is_exactly 0.5#3 0.5"),
        ("is_float(?x)", "is_float x"),
        ("keeps(?x, ~0.7)", "keeps x ~0.7#1"),
        ("keeps(the operand, 0.5)", "keeps operand#4 0.5#3"),
    ];
    assert_eq!(guards(&r), wanted.map(|(text, call)| (text, call.to_owned())));
    // Nothing broadcasts in a padding; two numbers are two constants.
    let r = one("a: (pad low=?l ?x 0.0) => ?x exact").unwrap();
    assert_eq!(guards(&r), [("0.0", "is_exactly 0.0#1 0.0".to_owned())]);
    let r = one("a: (mul (add ?x ~1) ~1) => ?x exact").unwrap();
    assert_eq!((r.guards.len(), r.vars.values.len()), (4, 4), "{:?}", r.vars.values);
}

#[test]
fn alternatives_are_rules() {
    let text =
        "a: ?y:(mul (neg ?x | abs (neg ?x | exp ?x)) ?x | div ?x ?x) => ?y exact\nb: (neg ?x) => ?x exact";
    let rules = parse(text, "test.rules", "canonicalize", &[]).unwrap();
    let found: Vec<(&str, &str)> = rules.iter().map(|r| (r.name.as_str(), r.spelt.lhs.as_str())).collect();
    let wanted = [
        ("a/1", "?y:(mul (neg ?x) ?x)"),
        ("a/2", "?y:(mul (abs (neg ?x)) ?x)"),
        ("a/3", "?y:(mul (abs (exp ?x)) ?x)"),
        ("a/4", "?y:(div ?x ?x)"),
        ("b", "(neg ?x)"),
    ];
    assert_eq!(found, wanted);
    assert!(rules[..4].iter().all(|r| r.line_name() == "a" && r.place.line == 1));
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
        ("a: (mul ?x 1.0..) => ?x exact", "a number is one operand"),
        ("a: (where ?c 1.0 ?x) => ?x exact", "`1.0` stands beside one other operand"),
        ("a: (add _ 1.0) => ?x exact", "`1.0` stands beside `?x` or a node"),
        ("a: (neg ?x) => (mul ?x ~2.0) exact", "not `~`"),
        ("a: (neg ?x) => (neg ?x | abs ?x) exact", "`|` is of left-hand sides"),
        ("a: (neg ?x) | (abs ?x) => ?x exact", "in parentheses"),
        ("a: (neg ?x | add ?x ?y) => (abs ?y) exact", "`y` is not bound"),
        ("a: (neg ?x |) => ?x exact", "an operation is expected"),
        ("a: (softmax axis=\"one\" ?x) => ?x exact", "int is expected"),
    ] {
        let e = one(text).unwrap_err();
        assert!(e.starts_with("test.rules:1: ") && e.contains(wanted), "{text}: {e}");
    }
    let twice =
        parse("a: (neg ?x) => ?x exact\na: (abs ?x) => ?x exact", "t", "canonicalize", &[]).unwrap_err();
    assert_eq!(twice.place.line, 2);
}
