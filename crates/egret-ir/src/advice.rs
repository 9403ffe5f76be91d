//! Options of the command line as messages advise them: each works when it is pasted into a shell.

use crate::{Dim, Graph, NodeId, Op};

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
    let counted = |s: &String| (!free.contains(s)).then(|| graph.counted(s)).flatten();
    let all: Vec<_> = symbols.iter().filter_map(|s| Some((s, counted(s)?))).collect();
    let limit = |(id, place): (NodeId, usize)| graph.node(id).attrs.at_most(place);
    let open: Vec<_> = all.iter().filter(|(_, place)| limit(*place).is_none()).collect();
    let Some(&&(s, (node, _))) = open.first() else {
        return match all.first().and_then(|(s, place)| Some((s, limit(*place)?))) {
            None => to_be_constant(of, free),
            Some((s, most)) => format!(
                "`{s}` {TOLD_BY_RUNS}, and that it is at most {most} does not tell how large they may be"
            ),
        };
    };
    let node = graph.node(node);
    let mut options: Vec<String> = vec![];
    for (s, (id, _)) in open {
        let by_node = graph.node(*id).sources.first().filter(|_| within);
        let by_node = by_node.map(|s| s.split_once(':').map_or(s.as_str(), |(_, name)| name));
        let option = format!("--at-most {}", word(&format!("{}=N", by_node.unwrap_or(s))));
        if !options.contains(&option) {
            options.push(option);
        }
    }
    let mut says = format!("`{s}` {TOLD_BY_RUNS}: say how large it may be, {}", options.join(" "));
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
}
