//! The verifier: what every pass and the importer have to leave behind.

use crate::infer::{self, check, control};
use crate::text::Spelling;
use crate::{Def, Dim, Graph, NodeId, Type, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How deep regions may nest: passes recurse into them.
const MAX_DEPTH: usize = 64;

/// A rule that every graph obeys.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Values that are used exist, and their definitions point back at them.
    Definitions,
    /// No value depends on itself.
    Acyclic,
    /// Attributes, operands and regions are those of the op table, and their types fit the operation.
    Typing,
    /// The recorded types can be those that inference finds.
    RecordedTypes,
    /// Sizes fit 64 bits, and are not negative.
    Sizes,
    /// Every symbol is bound, by an input of the graph or by a node before its use, and by one only.
    Symbols,
    /// Conditions are of the outermost graph, made of the dims of its inputs, and some run fulfils them.
    Conditions,
    /// Regions do not nest too deep.
    Depth,
}

impl Rule {
    /// The rule in words.
    pub fn text(self) -> &'static str {
        match self {
            Rule::Definitions => "every value that is used is defined, once",
            Rule::Acyclic => "no value depends on itself",
            Rule::Typing => "a node fits its operation",
            Rule::RecordedTypes => "recorded types are possible ones",
            Rule::Sizes => "sizes fit 64 bits and are not negative",
            Rule::Symbols => "every symbol is bound once, by an input or by the node that declares it",
            Rule::Conditions => "conditions are of the outermost graph, and of dims of its inputs",
            Rule::Depth => "regions do not nest too deep",
        }
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyError {
    /// The node or value, as text IR spells it, after the regions that it is in.
    pub at: String,
    /// The rule broken.
    pub rule: Rule,
    /// How.
    pub message: String,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (the rule: {})", self.at, self.message, self.rule.text())
    }
}
impl std::error::Error for VerifyError {}

/// Hold a graph, regions included, against every rule.
///
/// # Errors
/// All broken rules. Where values are not defined properly, types are not looked at.
pub fn verify(graph: &Graph) -> Result<(), Vec<VerifyError>> {
    let mut errors = vec![];
    verify_at(graph, "", 0, &BTreeSet::new(), &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// `outer`: the symbols that the graphs around this one bind.
fn verify_at(
    graph: &Graph,
    prefix: &str,
    depth: usize,
    outer: &BTreeSet<&str>,
    errors: &mut Vec<VerifyError>,
) {
    let mut checker = Checker { graph, prefix, spelling: None, errors };
    if depth > MAX_DEPTH {
        return checker.report(
            Place::Graph,
            Rule::Depth,
            format!("it is the sub-graph of more than {MAX_DEPTH} others"),
        );
    }
    if !checker.definitions() || !checker.acyclic() {
        return;
    }
    checker.values();
    let bound = checker.symbols(outer);
    checker.conditions(depth);
    for n in graph.node_ids() {
        checker.typing(n);
        let node = graph.node(n);
        for (i, region) in node.regions.iter().enumerate() {
            let name = node.op.info().regions.get(i).unwrap_or(&"region");
            let inner = format!("{} {name}: ", checker.at(Place::Node(n)));
            verify_at(region, &inner, depth + 1, &bound, checker.errors);
        }
    }
}

#[derive(Copy, Clone)]
enum Place {
    Graph,
    Value(ValueId),
    Node(NodeId),
}

struct Checker<'a> {
    graph: &'a Graph,
    prefix: &'a str,
    /// Made when it is first asked for.
    spelling: Option<Spelling<'a>>,
    errors: &'a mut Vec<VerifyError>,
}

impl<'a> Checker<'a> {
    fn at(&mut self, place: Place) -> String {
        let graph = self.graph;
        let spelling = self.spelling.get_or_insert_with(|| Spelling::new(graph));
        let here = match place {
            Place::Graph => format!("graph @{}", self.graph.name),
            Place::Value(v) => spelling.value(v),
            Place::Node(n) => spelling.node(n),
        };
        format!("{}{here}", self.prefix)
    }

    fn report(&mut self, place: Place, rule: Rule, message: String) {
        let at = self.at(place);
        self.errors.push(VerifyError { at, rule, message });
    }

    /// Whether the value exists and its definition names it.
    fn is_defined(&self, id: ValueId) -> bool {
        let graph = self.graph;
        if id.0 as usize >= graph.value_count() {
            return false;
        }
        match &graph.value(id).def {
            Def::Input(i) => graph.inputs().get(*i) == Some(&id),
            Def::Const(_) => true,
            Def::Node(n, i) => graph.contains(*n) && graph.node(*n).results.get(*i) == Some(&id),
        }
    }

    fn definitions(&mut self) -> bool {
        let before = self.errors.len();
        let graph = self.graph;
        for (i, &v) in graph.inputs().iter().enumerate() {
            if !self.is_defined(v) {
                self.report(
                    Place::Graph,
                    Rule::Definitions,
                    format!("its input {i} is not defined as such"),
                );
            }
        }
        for (i, &v) in graph.outputs().iter().enumerate() {
            if !self.is_defined(v) {
                self.report(
                    Place::Graph,
                    Rule::Definitions,
                    format!("its output {i} is a value that nothing defines"),
                );
            }
        }
        for n in graph.node_ids() {
            for (i, v) in graph.node(n).operands.iter().enumerate() {
                if let Some(v) = v
                    && !self.is_defined(*v)
                {
                    self.report(
                        Place::Node(n),
                        Rule::Definitions,
                        format!("operand {i} is a value that nothing defines"),
                    );
                }
            }
            for (i, &v) in graph.node(n).results.iter().enumerate() {
                let sound =
                    self.is_defined(v) && matches!(graph.value(v).def, Def::Node(m, k) if (m, k) == (n, i));
                if !sound {
                    self.report(
                        Place::Node(n),
                        Rule::Definitions,
                        format!("result {i} is not defined by the node"),
                    );
                }
            }
        }
        self.errors.len() == before
    }

    /// Follows operands, not the graph's own edges: those may have gone wrong too.
    fn acyclic(&mut self) -> bool {
        let graph = self.graph;
        let ids = graph.node_ids();
        let producers =
            |n: NodeId| graph.node(n).operands.iter().flatten().filter_map(|&v| graph.producer(v));
        // Mostly operands are older than their users.
        if ids.iter().all(|&n| producers(n).all(|p| p < n)) {
            return true;
        }
        let mut missing: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut users: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        let mut ready = vec![];
        for n in ids {
            match producers(n).count() {
                0 => ready.push(n),
                count => {
                    missing.insert(n, count);
                    producers(n).for_each(|p| users.entry(p).or_default().push(n));
                }
            }
        }
        while let Some(n) = ready.pop() {
            for user in users.remove(&n).unwrap_or_default() {
                if let Some(left) = missing.get_mut(&user) {
                    *left -= 1;
                    if *left == 0 {
                        missing.remove(&user);
                        ready.push(user);
                    }
                }
            }
        }
        match missing.keys().next() {
            None => true,
            Some(&n) => {
                self.report(Place::Node(n), Rule::Acyclic, "it is on a cycle, or fed by one".into());
                false
            }
        }
    }

    /// The types of values, each by itself.
    fn values(&mut self) {
        let graph = self.graph;
        for v in graph.value_ids() {
            // Values of nodes that are gone stay behind unused.
            if !self.is_defined(v) {
                continue;
            }
            let data = graph.value(v);
            if let Err(message) = sizes(&data.ty) {
                self.report(Place::Value(v), Rule::Sizes, message);
            }
            if let Def::Const(t) = &data.def
                && data.ty != Type::Tensor(t.ty())
            {
                self.report(
                    Place::Value(v),
                    Rule::RecordedTypes,
                    format!("the constant is {}, but recorded as {}", t.ty(), data.ty),
                );
            }
        }
    }

    /// What binds symbols, and whether all that are used are bound before; gives those that are bound.
    fn symbols(&mut self, outer: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        let graph = self.graph;
        let given = graph.input_symbols();
        let mut bound: BTreeSet<&str> = outer.union(&given).copied().collect();
        let unbound = |names: Vec<String>, bound: &BTreeSet<&str>| -> Option<String> {
            names.into_iter().find(|s| !bound.contains(s.as_str()))
        };
        for &v in graph.inputs() {
            let mut names = vec![];
            graph.ty(v).collect_symbols(&mut names);
            if let Some(s) = unbound(names, &bound) {
                let message =
                    format!("the symbol {} of its type is a dim by itself of no input", Dim::symbol(&s));
                self.report(Place::Value(v), Rule::Symbols, message);
            }
        }
        let declarations = graph.declarations();
        for n in graph.node_ids() {
            for name in graph.node(n).attrs.declared().iter().flatten() {
                let symbol = Dim::symbol(name);
                if given.contains(name.as_str()) {
                    let message =
                        format!("it declares the symbol {symbol}, which an input of the graph binds");
                    self.report(Place::Node(n), Rule::Symbols, message);
                } else if declarations.get(name.as_str()) != Some(&n) {
                    let first = self.at(Place::Node(declarations[name.as_str()]));
                    let message = format!("it declares the symbol {symbol}, which is declared by {first}");
                    self.report(Place::Node(n), Rule::Symbols, message);
                }
            }
        }
        bound.extend(declarations.keys());
        for n in graph.node_ids() {
            if let Some(s) = unbound(graph.symbols_used(n), &bound) {
                let message = format!(
                    "it uses the symbol {}, which no input of the graph has as a dim by itself and no node declares",
                    Dim::symbol(&s)
                );
                self.report(Place::Node(n), Rule::Symbols, message);
            }
        }
        if let Err(n) = graph.topological() {
            let message =
                "it uses a symbol that a node declares which comes after it, or is fed by such a node";
            self.report(Place::Node(n), Rule::Symbols, message.into());
        }
        bound
    }

    fn conditions(&mut self, depth: usize) {
        let graph = self.graph;
        let given = graph.input_symbols();
        for dim in graph.conditions() {
            let mut symbols = vec![];
            dim.collect_symbols(&mut symbols);
            let unbound = symbols.iter().find(|s| !given.contains(s.as_str()));
            let message = if depth > 0 {
                format!("it requires {dim}, and only the outermost graph has conditions")
            } else if let Some(s) = unbound {
                format!(
                    "it requires {dim}, with the symbol {}, which no input has as a dim by itself",
                    Dim::symbol(s)
                )
            } else if dim.is_saturated() || dim.has_unnamed() {
                format!("it requires {dim}, which has no value")
            } else if dim.as_const().is_some_and(|v| v < 0) {
                format!("no run fulfils its condition: {dim} has to be at least 0")
            } else {
                continue;
            };
            self.report(Place::Graph, Rule::Conditions, message);
        }
    }

    fn typing(&mut self, n: NodeId) {
        let graph = self.graph;
        let node = graph.node(n);
        let operands: Vec<Option<&Type>> = node.operands.iter().map(|v| v.map(|v| graph.ty(v))).collect();
        let inferred = match infer::infer(node.op, &node.attrs, &operands, &node.regions) {
            Ok(types) => types,
            Err(message) => return self.report(Place::Node(n), Rule::Typing, message),
        };
        if inferred.len() != node.results.len() {
            let message =
                format!("it has {} results, but inference finds {}", node.results.len(), inferred.len());
            return self.report(Place::Node(n), Rule::RecordedTypes, message);
        }
        for (i, (found, &v)) in inferred.iter().zip(&node.results).enumerate() {
            let recorded = graph.ty(v);
            if !control::may_feed(found, recorded) {
                let message = format!("result {i} is recorded as {recorded}, but inference finds {found}");
                self.report(Place::Node(n), Rule::RecordedTypes, message);
            }
        }
    }
}

fn sizes(ty: &Type) -> Result<(), String> {
    match ty {
        Type::Tensor(t) => {
            check::size(t)?;
            match t.shape.iter().any(Dim::has_unnamed) {
                true => Err(format!("the type {ty} has a dim without a name")),
                false => Ok(()),
            }
        }
        Type::Sequence(_) => Ok(()),
        Type::Optional(inner) => sizes(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, DType, Op, attrs, text};

    fn parse(body: &str) -> Graph {
        text::parse(&format!("graph @g(%0: f32[n, 4], %1: bool[]) -> (%2) {{ {body} }}"), &|_| None)
            .unwrap()
    }

    fn broken(graph: &Graph) -> Vec<Rule> {
        verify(graph).err().unwrap_or_default().into_iter().map(|e| e.rule).collect()
    }

    #[test]
    fn sound_graphs_pass() {
        assert_eq!(verify(&parse("%2 = add(%0, %0) : f32[n, 4]")), Ok(()));
        // More is known than inference can see.
        assert_eq!(verify(&parse("%2 = add(%0, %0) : f32[7, 4]")), Ok(()));
        assert_eq!(verify(&parse("%2 = nonzero(%0) : i64[2, count]")), Ok(()));
    }

    #[test]
    fn broken_rules_are_named() {
        assert_eq!(broken(&parse("%2 = add(%0, %0) : f32[n, 5]")), [Rule::RecordedTypes]);
        assert_eq!(broken(&parse("%2 = add(%0, %0) : f32[n + 1, 4]")), [Rule::RecordedTypes]);
        assert_eq!(broken(&parse("%2 = add(%0, %1) : f32[n, 4]")), [Rule::Typing]);
        assert_eq!(broken(&parse("%2 = softmax(%0) : f32[n, 4]")), [Rule::Typing]);
        assert_eq!(broken(&parse("%2 = nonzero(%0) : i64[2, _]")), [Rule::Sizes, Rule::Typing]);
        assert_eq!(
            broken(&parse("%3 = add(%0, %0) : f32[n, 4] %2 = reshape(%3) {shape = [n, 3]} : f32[n, 3]")),
            []
        );
        let branch = "graph @b(%0: f32[n, 4]) -> (%1) { %1 = neg(%0) : i8[n, 4] }";
        let error = &verify(&parse(&format!("%2 = if(%1, %0) : i8[n, 4] then {branch} else {branch}")))
            .unwrap_err()[0];
        assert_eq!(error.rule, Rule::RecordedTypes);
        assert!(error.at.contains("if(%1, %0) : i8[n, 4] then: %1 = neg(%0) : i8[n, 4]"), "{error}");
    }

    #[test]
    fn symbols_are_bound_once_and_before_their_use() {
        let why = |body: &str| {
            let errors = verify(&parse(body)).err().unwrap_or_default();
            let of = |e: VerifyError| (e.rule == Rule::Symbols).then(|| e.to_string());
            errors.into_iter().filter_map(of).collect::<Vec<_>>().join("\n")
        };
        let iota = |n: &str| format!("%2 = iota() {{axis = 0, shape = [{n}], to = i64}}");
        assert_eq!(why(&iota("n")), "");
        assert!(
            why(&iota("k"))
                .contains("iota() {axis = 0, shape = [k], to = i64} : i64[k]: it uses the symbol k")
        );
        assert_eq!(why(&format!("%3 = nonzero(%0) {{dims = [_, k]}} {}", iota("2*k + n"))), "");
        assert_eq!(why(&format!("%3 = nonzero(%0) : i64[2, k] {}", iota("k"))), "");
        let twice = "%2 = nonzero(%0) {dims = [_, k]} %3 = neg(%0) %4 = nonzero(%3) {dims = [_, k]}";
        assert!(
            why(twice).contains("%4 = nonzero(%3) {dims = [_, k]} : i64[2, k]: it declares the symbol k")
        );
        assert!(why("%2 = nonzero(%0) {dims = [_, n]}").contains("an input of the graph binds"));
        // Only what comes before binds: here the size of what is counted is the count.
        let early = "%3 = iota() {axis = 0, shape = [k], to = i64} %2 = nonzero(%3) {dims = [_, k]}";
        assert!(why(early).contains("comes after it"), "{}", why(early));
        assert!(why("%2 = neg(%0) : f32[k, 4]").contains("the symbol k"));
        // A region sees the symbols around it, and those of its inputs are its own.
        let branch = |n: &str| {
            format!(
                "graph @b(%0: f32[m, 4]) -> (%1) {{ %1 = iota() {{axis = 0, shape = [{n}], to = i64}} }}"
            )
        };
        let both =
            |n: &str| format!("%2 = if(%1, %0) {{dims = [k]}} then {} else {}", branch(n), branch("m"));
        assert_eq!(why(&both("m + n")), "");
        assert!(why(&both("j")).contains("then: %1 = iota()"), "{}", why(&both("j")));
        assert!(!why(&both("k")).is_empty());
        let input = text::parse("graph @g(%0: f32[2*n]) -> (%0) {}", &|_| None).unwrap();
        assert_eq!(broken(&input), [Rule::Symbols]);
    }

    #[test]
    fn dangling_values_and_cycles() {
        let mut b = Builder::new("g");
        let x = b.input("x", Type::tensor(DType::F32, vec![]));
        let y = b.emit(Op::Neg, attrs! {}, &[x]).unwrap();
        let z = b.emit(Op::Add, attrs! {}, &[x, y]).unwrap();
        b.output("z", z);
        let mut cyclic = b.graph.clone();
        cyclic.set_operand(cyclic.producer(y).unwrap(), 0, z);
        assert_eq!(broken(&cyclic), [Rule::Acyclic]);
        let mut dangling = b.graph.clone();
        dangling.remove_node(dangling.producer(y).unwrap());
        assert_eq!(broken(&dangling), [Rule::Definitions]);
        let mut foreign = b.graph;
        let node = foreign.producer(z).unwrap();
        foreign.node_mut(node).operands[0] = Some(ValueId(99));
        assert_eq!(broken(&foreign), [Rule::Definitions]);
    }
}
