//! Options of the command line as messages advise them: each works when it is pasted into a shell.

use crate::{Dim, Graph, Op};

/// A word as a POSIX shell reads it: quoted where it has a character that a shell would read otherwise, e.g. `'batch size'`.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:,=+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The options that give dims their values, e.g. `--dim batch=N --dim 'past + 1=N'`.
pub fn dims<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let one = |name: S| match name.as_ref() {
        // What begins with a hyphen would be the next option.
        name if name.starts_with('-') => format!("--dim={}", word(&format!("{name}=N"))),
        name => format!("--dim {}", word(&format!("{name}=N"))),
    };
    names.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A shape in advice on `--shape`.
pub const SHAPE: &str = "1,3,H,W";

/// What is said of a size that no input has.
pub const TOLD_BY_RUNS: &str = "is known only while the model runs";

/// What makes dims constant: options for those of their symbols that are `free`, the dims of the model's inputs; the others are
/// known only while the model runs, and there is no option for them.
pub fn to_be_constant<'a>(of: impl IntoIterator<Item = &'a Dim>, free: &[String]) -> String {
    let mut symbols = vec![];
    of.into_iter().for_each(|d| d.collect_symbols(&mut symbols));
    match symbols.iter().find(|s| !free.contains(s)) {
        Some(s) => format!("`{s}` {TOLD_BY_RUNS}, and is no dim of an input"),
        None => format!("give {}", dims(&symbols)),
    }
}

/// As [`to_be_constant`], where there only has to be room: for a dim that a loop of the graph stacks, or a range counts, the most that it may be. In a
/// sub-graph (`within`) it is called by the ONNX node that decides it.
pub fn to_have_room<'a>(
    of: impl IntoIterator<Item = &'a Dim> + Clone,
    graph: &Graph,
    within: bool,
    free: &[String],
) -> String {
    let mut symbols = vec![];
    of.clone().into_iter().for_each(|d| d.collect_symbols(&mut symbols));
    symbols.retain(|s| !free.contains(s));
    if let Some(says) = symbols.iter().find_map(|s| stacked(graph, s)) {
        return says;
    }
    let options = lacking(graph, &symbols, within);
    let Some(s) = symbols.iter().find(|s| !lacking(graph, std::slice::from_ref(s), within).is_empty())
    else {
        let limit =
            |s: &String| graph.counted(s).and_then(|(id, at)| graph.node(id).attrs.at_most(at).cloned());
        return match symbols.iter().find_map(|s| Some((s, limit(s)?))) {
            None => to_be_constant(of, free),
            Some((s, most)) => format!(
                "`{s}` {TOLD_BY_RUNS}, and that it is at most {most} does not tell how large they may be"
            ),
        };
    };
    let mut says = format!("`{s}` {TOLD_BY_RUNS}: say how large it may be, {}", options.join(" "));
    let Some((id, _)) = graph.counted(s) else { return says };
    let node = graph.node(id);
    // A range is as long as a number says; where that is an input's, it may be fixed as well.
    let number = node.operands.first().copied().flatten().filter(|_| node.op == Op::Range && !within);
    let inputs = number.map(|v| graph.inputs_read_for(v)).unwrap_or_default();
    if !inputs.is_empty() {
        let binds: Vec<String> =
            inputs.iter().map(|name| format!("--bind {}", word(&format!("{name}=value.npy")))).collect();
        says += &format!(", or what it is computed from, {}", binds.join(" "));
    }
    says
}

/// Of a dim of what a loop stacks that data decides in its rounds: no room is enough for it.
fn stacked(graph: &Graph, dim: &str) -> Option<String> {
    let node = graph.node(*graph.declarations().get(dim)?);
    if !matches!(node.op, Op::Loop | Op::Scan) || graph.counted(dim).is_some() {
        return None;
    }
    let by = node.sources.first().cloned().unwrap_or_else(|| format!("a {}", node.op));
    Some(format!(
        "`{dim}` {TOLD_BY_RUNS}: data decides it within the rounds of {by}, which stacks what they give, and a stack of what has such a size \
         (of other stacks, for one) cannot be compiled yet"
    ))
}

/// The options that limit those of these dims that loops and ranges decide and nothing limits; of an If's, those of its branches.
fn lacking(graph: &Graph, symbols: &[String], within: bool) -> Vec<String> {
    let mut options: Vec<String> = vec![];
    for s in symbols {
        let found = match graph.counted(s) {
            Some((id, place)) if graph.node(id).attrs.at_most(place).is_none() => {
                let by_node = graph.node(id).sources.first().filter(|_| within);
                let by_node = by_node.map(|s| s.split_once(':').map_or(s.as_str(), |(_, name)| name));
                vec![format!("--at-most {}", word(&format!("{}=N", by_node.unwrap_or(s))))]
            }
            Some(_) => vec![],
            None => {
                let node = graph.declarations().get(s.as_str()).map(|&id| graph.node(id));
                let branches =
                    node.filter(|node| node.op == Op::If).map_or(&[][..], |node| &node.regions[..]);
                let of_branch = |branch: &Graph| {
                    let mut symbols = vec![];
                    let dims = branch.outputs().iter().flat_map(|&v| branch.ty(v).fixed_dims());
                    dims.for_each(|d| d.collect_symbols(&mut symbols));
                    symbols.retain(|s| !branch.input_symbols().contains(s.as_str()));
                    lacking(branch, &symbols, true)
                };
                branches.iter().flat_map(of_branch).collect()
            }
        };
        for option in found {
            if !options.contains(&option) {
                options.push(option);
            }
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them_otherwise() {
        assert_eq!(word("batch_1"), "batch_1");
        assert_eq!(word("batch size"), "'batch size'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word(""), "''");
        assert_eq!(dims(["n", "?", "-n"]), "--dim n=N --dim '?=N' --dim=-n=N");
    }

    #[test]
    fn what_is_no_dim_of_an_input_has_no_option() {
        let free = ["n".to_owned()];
        let dim = Dim::symbol("n") * Dim::constant(2);
        assert_eq!(to_be_constant([&dim], &free), "give --dim n=N");
        let both = dim * Dim::symbol("u0");
        assert!(to_be_constant([&both], &free).contains("`u0` is known only while the model runs"));
    }

    /// Every dim that lacks a limit is named at once, those of an If by what decides them in its branches.
    #[test]
    fn what_needs_room_is_asked_for() {
        let source = |limits: &str| {
            format!(
                r#"graph @g(%0 "x": f32[n, 2], %1 "k": i64[], %2 "p": bool[]) -> (%3 "y", %4 "z") {{
  %3 = loop(%1, _, %0) {{{limits}carried = 1, dims = [rows, columns], has_cond = 0, has_trip_count = 1}} : f32[rows, columns] from "Loop:/grow"
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2 "s": f32[r, c]) -> (%1, %4) {{
      %3 = concat(%2, %2) {{axis = 0}} : f32[2*r, c]
      %4 = concat(%3, %3) {{axis = 1}} : f32[2*r, 2*c]
    }}
  %4 = if(%2, %1) {{dims = [some]}} : i64[some]
    then graph @then(%0 "k": i64[]) -> (%1) {{
      %1 = range(%0) {{dims = [own]}} : i64[own] from "Range:/count"
    }}
    else graph @else(%0 "k": i64[]) -> (%1) {{
      %1 = const i64[2] [1, 2]
    }}
}}"#
            )
        };
        let says = |limits: &str, dims: [&str; 2]| {
            let graph = crate::text::parse(&source(limits), &|_| None).expect("a graph");
            to_have_room(&dims.map(Dim::symbol), &graph, false, &graph.free_dims())
        };
        assert!(says("", ["rows", "columns"]).ends_with("--at-most rows=N --at-most columns=N"));
        assert!(says("at_most = [9, -1], ", ["rows", "columns"]).ends_with("may be, --at-most columns=N"));
        assert!(
            says("at_most = [9, 9], ", ["rows", "columns"]).contains("that it is at most 9 does not tell")
        );
        assert!(says("", ["n", "some"]).ends_with("--at-most /count=N"), "{}", says("", ["n", "some"]));
    }
}
