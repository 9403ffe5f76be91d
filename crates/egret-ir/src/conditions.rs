//! What every run of a graph has to fulfil, whatever is computed of it.

use crate::{Dim, DimEnv, DimOp, DimPart, Graph};

impl Graph {
    /// The conditions of runs, in order: dims that have a value and are at least 0 in each.
    pub fn conditions(&self) -> &[Dim] {
        &self.conditions
    }

    /// Hold every run to a dim having a value that is at least 0. What always has one is no condition, and the same one is not put twice.
    pub fn require(&mut self, dim: Dim) {
        let mut parts = vec![dim];
        while let Some(dim) = parts.pop() {
            match apart(&dim) {
                Some(both) => parts.extend(both),
                None if always_holds(&dim) || self.conditions.contains(&dim) => {}
                None => self.conditions.push(dim),
            }
        }
    }

    /// Replaces the dims of the conditions.
    pub(crate) fn map_conditions(&mut self, map: &dyn Fn(&Dim) -> Dim) {
        let old = std::mem::take(&mut self.conditions);
        old.iter().for_each(|dim| self.require(map(dim)));
    }

    /// The conditions that may be broken in a run that fulfils those of another graph of the same inputs, as far as one of those tells.
    pub fn conditions_beyond(&self, other: &Graph) -> Vec<Dim> {
        let told = |dim: &Dim| {
            other.conditions.iter().any(|o| o == dim || always_holds(&(dim.clone() - o.clone())))
        };
        self.conditions.iter().filter(|dim| !told(dim)).cloned().collect()
    }

    /// Forget the conditions: those of a graph that is run as part of another one, which has them.
    pub fn clear_conditions(&mut self) {
        self.conditions.clear();
    }

    /// The first condition that does not hold of these values of free dims, in words. Those of which they do not tell all symbols are left out if
    /// `open`.
    pub fn broken_condition(&self, env: &DimEnv, open: bool) -> Option<String> {
        let told = |dim: &Dim| {
            let mut symbols = vec![];
            dim.collect_symbols(&mut symbols);
            symbols.iter().all(|s| env.contains_key(s))
        };
        self.conditions.iter().filter(|dim| !open || told(dim)).find_map(|dim| match dim.eval(env) {
            Some(0..) => None,
            Some(below) => Some(format!("the graph needs `{dim}` to be at least 0, and it is {below}")),
            None => Some(format!("the graph needs `{dim}` to be at least 0, and it has no value")),
        })
    }
}

impl Dim {
    /// What it is with 1 in place of each quotient of a dim by itself, and what has to be at least 0 for these to have a value.
    pub fn without_own_quotients(&self) -> (Dim, Vec<Dim>) {
        let (mut plain, mut held) = (self.clone(), vec![]);
        while let Some([less, some]) = apart(&plain) {
            plain = less;
            held.push(some);
        }
        (plain, held)
    }
}

/// Two conditions that hold together where a dim is a sum with `floordiv(max(x, 0), max(x, 0))` in it: `x` is at least 1, and what is left with 1 in
/// its place.
fn apart(dim: &Dim) -> Option<[Dim; 2]> {
    let terms = dim.as_sum()?;
    let parts = terms.iter().flat_map(|(_, parts)| parts);
    let (quotient, some) = parts.into_iter().find_map(|part| match *part {
        DimPart::Op(DimOp::FloorDiv, a, b) if a == b => Some((a.op(DimOp::FloorDiv, b), at_least_none(a)?)),
        _ => None,
    })?;
    Some([dim.replace_op(&quotient, &Dim::constant(1)), some - Dim::constant(1)])
}

/// What a dim is the larger of beside 0: it itself where it is never less.
fn at_least_none(dim: &Dim) -> Option<Dim> {
    let own = || dim.at_least().is_some_and(|least| least >= 0).then(|| dim.clone());
    match dim.as_sum()?[..] {
        [(1, ref parts)] => match parts[..] {
            [DimPart::Op(DimOp::Max, a, b)] if b.as_const() == Some(0) => Some(a.clone()),
            [DimPart::Op(DimOp::Max, a, b)] if a.as_const() == Some(0) => Some(b.clone()),
            _ => own(),
        },
        _ => own(),
    }
}

fn always_holds(dim: &Dim) -> bool {
    dim.at_least().is_some_and(|least| least >= 0) && dim.has_value_where(&[])
}

#[cfg(test)]
mod tests {
    use crate::interp::run;
    use crate::{Dim, DimEnv, Graph, Tensor, text, verify};

    fn parse(inputs: &str, body: &str) -> Graph {
        text::parse(&format!("graph @g({inputs}) -> (%0) {{\n{body}}}\n"), &|_| None).expect("a graph")
    }

    #[test]
    fn conditions_are_put_once_and_only_where_something_may_break_them() {
        let body = "  require N - 1\n  require 4*M - 1\n  require N - 1\n  require N + M\n  require floordiv(N, 2)\n  require 3\n";
        let graph = parse("%0: f32[N, M]", body);
        assert_eq!(verify(&graph), Ok(()));
        let printed = text::print(&graph);
        assert_eq!(printed, "graph @g(%0: f32[N, M]) -> (%0) {\n  require N - 1\n  require 4*M - 1\n}\n");
        assert_eq!(text::print(&text::parse(&printed, &|_| None).expect("a graph")), printed);
    }

    /// A quotient that has no value unless a dim is at least 1 says so.
    #[test]
    fn what_has_no_value_is_said_plainly() {
        let graph = parse("%0: f32[N, M]", "  require M - 3 + floordiv(max(N - 2, 0), max(0, N - 2))\n");
        assert_eq!(graph.conditions().iter().map(Dim::to_string).collect::<Vec<_>>(), ["N - 3", "M - 2"]);
        let graph =
            parse("%0: f32[N, M]", "  require floordiv(N, N) - 1\n  require M - floordiv(M + 2, M + 2)\n");
        assert_eq!(graph.conditions().iter().map(Dim::to_string).collect::<Vec<_>>(), ["N - 1", "M - 1"]);
        let kept = parse("%0: f32[N, M]", "  require floordiv(N, M)\n  require broadcast(N, M)\n");
        assert_eq!(kept.conditions().len(), 2);
    }

    #[test]
    fn runs_are_held_to_them() {
        let graph = parse("%0: f32[N, M]", "  require N - 2\n  require broadcast(N, M)\n");
        let x = |n: usize, m: usize| Tensor::new(&[n, m], vec![0f32; n * m]).into();
        assert!(run(&graph, &[x(2, 2)]).is_ok());
        let why = |n, m| run(&graph, &[x(n, m)]).expect_err("refused").to_string();
        assert_eq!(why(1, 1), "the graph needs `N - 2` to be at least 0, and it is -1");
        assert_eq!(why(2, 3), "the graph needs `broadcast(M, N)` to be at least 0, and it has no value");
    }

    #[test]
    fn given_dims_decide_them() {
        let graph = parse("%0: f32[N, M]", "  require N + M - 3\n");
        let bound = |n: i64| {
            let mut graph = graph.clone();
            graph.bind_dims(&DimEnv::from([("N".to_owned(), n)]));
            graph
        };
        assert_eq!(bound(1).conditions(), [Dim::symbol("M") - Dim::constant(2)]);
        assert!(bound(3).conditions().is_empty());
        let mut none = bound(1);
        none.bind_dims(&DimEnv::from([("M".to_owned(), 0)]));
        let errors = verify(&none).expect_err("no run fulfils it");
        assert!(errors[0].to_string().contains("-2 has to be at least 0"), "{}", errors[0]);
        let named = |env: &[(&str, i64)], open| {
            let env = env.iter().map(|(name, v)| ((*name).to_owned(), *v)).collect();
            graph.broken_condition(&env, open)
        };
        assert_eq!(named(&[("N", 0)], true), None);
        assert!(named(&[("N", 0)], false).is_some() && named(&[("N", 0), ("M", 2)], true).is_some());
    }

    #[test]
    fn conditions_are_of_the_graphs_own_inputs() {
        let wrong = |graph: &Graph| verify(graph).expect_err("wrong")[0].to_string();
        let unbound = parse("%0: f32[N]", "  require K - 1\n");
        assert!(wrong(&unbound).contains("the symbol K, which no input"), "{}", wrong(&unbound));
        let found = "graph @g(%0: f32[N]) -> (%1) {\n  require K - 1\n  %1 = nonzero(%0) {dims = [_, K]} : i64[1, K]\n}";
        assert!(wrong(&text::parse(found, &|_| None).expect("a graph")).contains("the symbol K"));
        let branch = "graph @b(%0: f32[m]) -> (%0) { require m - 1 }";
        let inner = format!(
            "graph @g(%0: bool[], %1: f32[N]) -> (%2) {{ %2 = if(%0, %1) then {branch} else {branch} }}"
        );
        assert!(
            wrong(&text::parse(&inner, &|_| None).expect("a graph")).contains("only the outermost graph")
        );
    }
}
