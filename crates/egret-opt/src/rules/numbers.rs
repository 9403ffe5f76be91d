//! Numbers in left-hand sides, expanded when a rule is parsed: `(mul ?x ~0.5)` is `(mul ?x ?c)` with the guards
//! `is(?c, 0.5), keeps(?x, ?c)`, and `(mul ?x 0.5)` is the same with `is_exactly`.

use super::ast::{Expr, Guard, NodePattern, OpPattern, Pattern, Vars};
use super::functions::FUNCTIONS;
use egret_ir::Attr;

/// The numbers of a rule's pattern.
#[derive(Default)]
pub(super) struct Numbers {
    /// Their variables, each with the number as it is spelt.
    spelt: Vec<(usize, String)>,
    /// What the constants are.
    are: Vec<Guard>,
    /// Which operands they do not broadcast up.
    keep: Vec<Guard>,
}

impl Numbers {
    /// The variable of a number. `near`: up to the rounding of exporters.
    pub fn constant(&mut self, vars: &mut Vars, number: f64, near: bool) -> Pattern {
        let (sign, function) = if near { ("~", "is") } else { ("", "is_exactly") };
        let text = format!("{sign}{number:?}");
        let v = unnamed(vars, &text);
        self.spelt.push((v, text.clone()));
        self.are.push(call(function, text, Expr::Value(v), Expr::Literal(Attr::Float(number))));
        Pattern::Value(v)
    }

    /// Guards that the numbers among a node's operands do not broadcast the operand beside them up.
    pub fn keep_shapes(&mut self, vars: &mut Vars, node: &mut NodePattern) -> Result<(), String> {
        for i in 0..node.args.len() {
            let Pattern::Value(number) = node.args[i] else { continue };
            let Some((_, spelt)) = self.spelt.iter().find(|(v, _)| *v == number).cloned() else { continue };
            if !matches!(node.op, OpPattern::Any(..))
                && !node.op.one().is_some_and(|op| op.is_elementwise())
            {
                continue;
            }
            let [first, second] = &mut node.args[..] else {
                return Err(format!(
                    "`{spelt}` stands beside one other operand; name the constant and ask in a guard"
                ));
            };
            let (host, shown) = match if i == 0 { second } else { first } {
                Pattern::Value(v) => (*v, format!("?{}", vars.values[*v])),
                Pattern::Node(n) => {
                    let shown = n.bind.map_or("the operand".to_owned(), |v| format!("?{}", vars.values[v]));
                    (*n.bind.get_or_insert_with(|| unnamed(vars, "operand")), shown)
                }
                _ => return Err(format!("`{spelt}` stands beside `?x` or a node")),
            };
            self.keep.push(call(
                "keeps",
                format!("keeps({shown}, {spelt})"),
                Expr::Value(host),
                Expr::Value(number),
            ));
        }
        Ok(())
    }

    /// Whether a pattern is a number.
    pub fn hold(&self, pattern: &Pattern) -> bool {
        matches!(pattern, Pattern::Value(v) if self.spelt.iter().any(|(number, _)| number == v))
    }

    /// All guards of the rule: first those that tell most.
    pub fn around(self, written: Vec<Guard>) -> Vec<Guard> {
        self.are.into_iter().chain(written).chain(self.keep).collect()
    }
}

/// A new variable, of a name that no rule can spell.
fn unnamed(vars: &mut Vars, what: &str) -> usize {
    vars.values.push(format!("{what}#{}", vars.values.len()));
    vars.values.len() - 1
}

fn call(function: &str, text: String, a: Expr, b: Expr) -> Guard {
    let function = FUNCTIONS.iter().find(|f| f.name == function).expect("a row of the table");
    Guard { text, left: Expr::Call(function, vec![a, b]), right: None, negated: false }
}
