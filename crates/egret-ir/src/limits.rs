//! The most that dims which data decides may be, as whoever compiles a model says.

use crate::attr::{AT_MOST, Attr};
use crate::{Dim, Graph, NodeId, Op};
use std::collections::BTreeMap;

impl Graph {
    /// Says of dims that loops of the graph stack or carry, and ranges count, how many elements they have at most, each a number or made of the free dims: what has to be
    /// known for compiled code to have room for them. A run in which one has more fails. A dim is called by its symbol, or by the ONNX node that
    /// decides it (`Range:/encoder/Range` or `/encoder/Range`), whose name stays whatever else of the model is fixed, and which means all that
    /// it decides. In sub-graphs a symbol means all that are called so.
    ///
    /// # Errors
    /// A name that is no such dim; a number below 0; what is made of anything but free dims, or in a sub-graph of a dim that is another one there.
    pub fn limit_dims(&mut self, most: &BTreeMap<String, Dim>) -> Result<(), String> {
        for (name, most) in most {
            if most.is_negative() {
                return Err(format!("the dim `{name}` cannot be at most {most}"));
            }
            if most.has_unnamed() {
                return Err(format!("`{name}` at most `{most}`: name the dims"));
            }
            let (mut symbols, free) = (vec![], self.free_dims());
            most.collect_symbols(&mut symbols);
            if let Some(unknown) = symbols.iter().find(|s| !free.contains(s)) {
                let known = match free.is_empty() {
                    true => "all its dims are fixed".to_owned(),
                    false => format!("its free dims are {}", free.join(", ")),
                };
                return Err(format!(
                    "`{name}` at most `{most}`: the model has no free dim `{unknown}`; {known}"
                ));
            }
            let limit = Limit { name, most, symbols: &symbols };
            let limited = match self.counted(name) {
                Some(place) => {
                    self.limit_one(place, &limit);
                    Ok(true)
                }
                None => self.limit_where(&limit, Graph::counted_from).and_then(|any| match any {
                    true => Ok(true),
                    false => self.limit_where(&limit, |g, name| g.counted(name).into_iter().collect()),
                }),
            };
            if !limited? {
                let own = match free.contains(name) {
                    true => format!("it is one of the inputs, which --dim {name}=N fixes; "),
                    false => String::new(),
                };
                let known = self.known();
                return Err(format!(
                    "the model has no dim `{name}` that a loop or a range decides; {own}{known}"
                ));
            }
        }
        Ok(())
    }

    /// The dims that are limited, in sub-graphs too, and how much each is at most.
    pub fn limits(&self) -> BTreeMap<String, Dim> {
        let mut out = BTreeMap::new();
        for node in self.node_ids().into_iter().map(|id| self.node(id)) {
            for (place, name) in node.attrs.declared().iter().enumerate() {
                if let (Some(name), Some(most)) = (name, node.attrs.at_most(place)) {
                    out.insert(name.clone(), most.clone());
                }
            }
            node.regions.iter().for_each(|r| out.extend(r.limits()));
        }
        out
    }

    /// Limits the dims at the places that `places` finds in the graph and its sub-graphs; whether there are any.
    fn limit_where(&mut self, limit: &Limit, places: Places) -> Result<bool, String> {
        let mut any = false;
        for place in places(self, limit.name) {
            self.limit_one(place, limit);
            any = true;
        }
        for id in self.node_ids() {
            let mut regions = std::mem::take(&mut self.node_mut(id).regions);
            for region in &mut regions {
                let within = region.limit_where(limit, places)?;
                let own = |s: &&String| {
                    region.declarations().contains_key(s.as_str())
                        || region.input_symbols().contains(s.as_str()) && !self.gives(id, region, s)
                };
                if let Some(own) = limit.symbols.iter().find(own).filter(|_| within) {
                    return Err(format!(
                        "`{}` at most `{}`: in the sub-graph where it is decided, `{own}` is another dim",
                        limit.name, limit.most
                    ));
                }
                any |= within;
            }
            self.node_mut(id).regions = regions;
        }
        Ok(any)
    }

    /// Whether an input of a region of a node that has this symbol as a dim is given a value of the very same type.
    fn gives(&self, id: NodeId, region: &Graph, symbol: &str) -> bool {
        let node = self.node(id);
        // The condition of an If is no input of its branches.
        let operands = node.operands.iter().skip(usize::from(node.op == Op::If));
        operands.zip(region.inputs()).any(|(given, &input)| {
            let has = region.ty(input).fixed_dims().iter().any(|d| d.as_symbol() == Some(symbol));
            has && given.is_some_and(|v| self.ty(v) == region.ty(input))
        })
    }

    fn limit_one(&mut self, (id, place): (NodeId, usize), limit: &Limit) {
        let attrs = &mut self.node_mut(id).attrs;
        let mut all: Vec<Dim> = (0..attrs.declared().len())
            .map(|i| attrs.at_most(i).cloned().unwrap_or(Dim::constant(-1)))
            .collect();
        all[place] = limit.most.clone();
        attrs.0.insert(AT_MOST, Attr::Dims(all));
    }

    /// The loop that decides a dim by what it stacks or carries, or the range that counts it, and the dim's place among those that the node declares.
    pub fn counted(&self, name: &str) -> Option<(NodeId, usize)> {
        let id = *self.declarations().get(name)?;
        let node = self.node(id);
        if !matches!(node.op, Op::Loop | Op::Range) {
            return None;
        }
        let carried = if node.op == Op::Loop { node.attrs.index("carried") } else { 0 };
        let mut place = 0;
        for (i, &v) in node.results.iter().enumerate() {
            let rank = self.ty(v).fixed_dims().len();
            // Any dim of a carried value may change; of what is stacked, and of a range, the first is counted.
            let decided = if i < carried { rank } else { rank.min(1) };
            let is_it = |place: &usize| {
                node.attrs.declared().get(*place).is_some_and(|d| d.as_deref() == Some(name))
            };
            if let Some(place) = (place..place + decided).find(is_it) {
                return Some((id, place));
            }
            place += rank;
        }
        None
    }

    /// The same of all dims that loops and ranges of an ONNX node decide; of those of a loop that stacks something, not what it carries, which
    /// is of another size.
    fn counted_from(&self, source: &str) -> Vec<(NodeId, usize)> {
        let is_it = |s: &String| s == source || s.split_once(':').is_some_and(|(_, name)| name == source);
        let of = |name| self.counted(name).filter(|(id, _)| self.node(*id).sources.iter().any(is_it));
        let all: Vec<(NodeId, usize)> = self.declarations().into_keys().filter_map(of).collect();
        let stacked: Vec<(NodeId, usize)> =
            all.iter().copied().filter(|place| !self.is_carried(*place)).collect();
        if stacked.is_empty() { all } else { stacked }
    }

    /// Whether the dim at this place is one of a value that a loop carries.
    fn is_carried(&self, (id, place): (NodeId, usize)) -> bool {
        let node = self.node(id);
        let carried = if node.op == Op::Loop { node.attrs.index("carried") } else { 0 };
        place < node.results[..carried].iter().map(|&v| self.ty(v).fixed_dims().len()).sum()
    }

    /// The dims that may be limited, with the ONNX nodes that decide them.
    fn known(&self) -> String {
        let mut all = vec![];
        self.collect_known(&mut all);
        match all.is_empty() {
            true => "it has none".to_owned(),
            false => format!("those are {}", all.join(", ")),
        }
    }

    fn collect_known(&self, out: &mut Vec<String>) {
        for name in self.declarations().into_keys() {
            let Some((id, _)) = self.counted(name) else { continue };
            let sources: Vec<&str> = self.node(id).sources.iter().map(String::as_str).collect();
            out.push(match sources.is_empty() {
                true => format!("`{name}`"),
                false => format!("`{name}` ({})", sources.join(", ")),
            });
        }
        for id in self.node_ids() {
            self.node(id).regions.iter().for_each(|r| r.collect_known(out));
        }
    }
}

/// What a dim is at most.
struct Limit<'a> {
    name: &'a str,
    most: &'a Dim,
    /// What that is made of.
    symbols: &'a [String],
}

/// The dims that a name means: the nodes of a graph that decide them, and their places among those that each declares.
type Places = fn(&Graph, &str) -> Vec<(NodeId, usize)>;

#[cfg(test)]
mod tests {
    use crate::{Dim, text};
    use std::collections::BTreeMap;

    const GRAPH: &str = r#"graph @g(%0 "k": i64[], %1 "x": f32[n]) -> (%2 "y", %4 "z", %3 "w") {
  %2, %3 = loop(%0, _, %1) {carried = 1, dims = [rows, rounds], has_cond = 0, has_trip_count = 1} : f32[rows], i64[rounds] from "Loop:/stack"
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2 "s": f32[m]) -> (%1, %3, %0) {
      %3 = concat(%2, %2) {axis = 0} : f32[2*m]
    }
  %4 = nonzero(%1) {dims = [_, found]} : i64[1, found]
}"#;

    #[test]
    fn only_what_loops_and_ranges_decide_is_limited() {
        let limited = |name: &str, most: &str| {
            let mut graph = text::parse(GRAPH, &|_| None).expect("a graph");
            let most = BTreeMap::from([(name.to_owned(), text::parse_dim(most).expect("a dim"))]);
            graph.limit_dims(&most).map(|()| graph)
        };
        let graph = limited("rounds", "2*n + 1").expect("a limit");
        crate::verify(&graph).expect("sound");
        let printed = text::print(&graph);
        assert!(printed.contains("at_most = [-1, 2*n + 1]"), "{printed}");
        assert_eq!(text::print(&text::parse(&printed, &|_| None).expect("a graph")), printed);
        let (id, place) = graph.counted("rounds").expect("a loop");
        let attrs = &graph.node(id).attrs;
        assert_eq!(
            [attrs.at_most(0), attrs.at_most(place)],
            [None, Some(&(Dim::symbol("n") * Dim::constant(2) + Dim::constant(1)))]
        );
        let carried = limited("rows", "3").expect("a limit");
        assert!(text::print(&carried).contains("at_most = [3, -1]"), "what a round hands on may grow too");
        let by_node = limited("/stack", "3").expect("a limit");
        let (id, place) = by_node.counted("rounds").expect("a loop");
        assert_eq!(by_node.node(id).attrs.at_most(place), Some(&Dim::constant(3)));
        for (name, most, says) in [
            (
                "found",
                "3",
                "no dim `found` that a loop or a range decides; those are `rounds` (Loop:/stack), `rows` (Loop:/stack)",
            ),
            ("n", "3", "those are `rounds`"),
            ("rounds", "-1", "cannot be at most -1"),
            ("rounds", "-n", "cannot be at most"),
            ("rounds", "found", "no free dim `found`; its free dims are n"),
            ("rounds", "_", "name the dims"),
        ] {
            let e = limited(name, most).expect_err("refused");
            assert!(e.contains(says), "{e}");
        }
    }

    #[test]
    fn a_limit_is_an_attribute_of_loops() {
        let wrong = GRAPH.replace("dims = [_, found]", "at_most = [3], dims = [_, found]");
        let graph = text::parse(&wrong, &|_| None).expect("a graph");
        let errors = crate::verify(&graph).expect_err("refused");
        assert!(errors[0].to_string().contains("there is no attribute `at_most`"), "{}", errors[0]);
    }
}
