//! States that come from outside and go back there: an initial state of a recurrent layer that is an input of the model, and its last state that
//! is an output. They keep their shapes. Where hidden units go, a `Gather` takes the others out of the input, and the output has zeros in
//! the places of those that went.
//!
//! Each graph that uses a state has its own nodes for that, so that each branch loses units of its own.

use crate::channels::ids::Id;
use crate::channels::walk::Walk;
use crate::contractions::is_recurrent;
use crate::flat;
use crate::layout::int;
use crate::movers::moved;
use crate::names::fresh;
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, GraphProto, NodeProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes `Identity` where states come in and go out, by their outputs.
#[derive(Clone, Default)]
pub struct Borders {
    /// Where they come in, and the inputs of the model that they are.
    pub entries: BTreeMap<String, String>,
    /// Where they go out.
    pub exits: BTreeSet<String>,
}

/// Put a node where each state comes in, in each graph that uses it, and where what may be a state goes out.
pub fn open(graph: &mut GraphProto) -> Borders {
    let mut out = Borders::default();
    let homes = flat::homes(graph);
    let mut uses: BTreeMap<(String, flat::Home), Vec<(usize, usize)>> = BTreeMap::new();
    for (name, node, slot) in initial(graph) {
        uses.entry((name, homes[node])).or_default().push((node, slot));
    }
    if uses.is_empty() {
        return out;
    }
    let (mut before, mut behind) = (BTreeMap::<usize, Vec<NodeProto>>::new(), BTreeMap::new());
    for ((input, home), reads) in uses {
        let name = unique(graph, &out, &format!("{input}_units_{home}"));
        for &(node, slot) in &reads {
            graph.node[node].input[slot].clone_from(&name);
        }
        let first = reads.iter().map(|r| r.0).min().unwrap_or(0);
        before.entry(first).or_default().push(identity(&input, &name));
        out.entries.insert(name, input);
    }
    let producers: BTreeMap<String, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(i, n)| n.output.iter().map(move |o| (o.clone(), i)))
        .collect();
    let mut ends: Vec<(String, End)> = graph.output.iter().map(|o| (o.name.clone(), End::Model)).collect();
    while let Some((name, end)) = ends.pop() {
        let Some(&at) = producers.get(&name) else { continue };
        let node = &graph.node[at];
        if read_count(graph, &name) == usize::from(end != End::Model) {
            if flat::is_if(node) {
                // Each branch has an end of its own.
                let k = node.output.iter().position(|o| *o == name).unwrap_or(0);
                for (home, outputs) in flat::branches(node) {
                    ends.extend(outputs.get(k).map(|o| ((*o).to_owned(), End::Branch(at, home, k))));
                }
                continue;
            }
            if node.op_type == "Identity" {
                ends.push((node.input[0].clone(), End::Copy(at)));
                continue;
            }
        }
        let new = unique(graph, &out, &format!("{name}_units"));
        let reader = match end {
            End::Model => {
                flat::rename(graph, &name, &new);
                behind.entry(at).or_insert_with(Vec::new).push(identity(&new, &name));
                out.exits.insert(name);
                continue;
            }
            End::Branch(node, home, k) => {
                flat::rename_output(&mut graph.node[node], home, k, &new);
                node
            }
            End::Copy(node) => {
                graph.node[node].input[0].clone_from(&new);
                node
            }
        };
        before.entry(reader).or_default().push(identity(&name, &new));
        out.exits.insert(new);
    }
    let mut nodes = vec![];
    for (i, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        nodes.extend(before.remove(&i).unwrap_or_default());
        nodes.push(node);
        nodes.extend(behind.remove(&i).unwrap_or_default());
    }
    graph.node = nodes;
    out
}

/// What reads a value on its way out.
#[derive(Copy, Clone, PartialEq)]
enum End {
    /// It is an output of the model.
    Model,
    /// It is an output of a branch: the node, the branch, and which of its outputs.
    Branch(usize, flat::Home, usize),
    /// The node `Identity` reads it.
    Copy(usize),
}

/// A name that nothing has yet, in the graph or at its borders.
fn unique(graph: &GraphProto, borders: &Borders, wanted: &str) -> String {
    let mut name = fresh(graph, wanted);
    while borders.entries.contains_key(&name) || borders.exits.contains(&name) {
        name = fresh(graph, &format!("{name}_"));
    }
    name
}

fn identity(from: &str, to: &str) -> NodeProto {
    NodeProto {
        op_type: "Identity".into(),
        name: to.into(),
        input: vec![from.into()],
        output: vec![to.into()],
        ..NodeProto::default()
    }
}

/// How often nodes read a value; what a graph inside gives is read once.
fn read_count(graph: &GraphProto, name: &str) -> usize {
    let mut names = vec![];
    crate::contractions::reads(&graph.node, &mut names);
    names.into_iter().filter(|n| *n == name).count()
}

/// The inputs of the model that are initial states: where each is read.
fn initial(graph: &GraphProto) -> BTreeSet<(String, usize, usize)> {
    let constants: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs: BTreeSet<&str> =
        graph.input.iter().map(|i| i.name.as_str()).filter(|n| !constants.contains(n)).collect();
    let producers: BTreeMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|n| n.output.iter().map(move |o| (o.as_str(), n))).collect();
    let index: BTreeMap<*const NodeProto, usize> =
        graph.node.iter().enumerate().map(|(i, n)| (std::ptr::from_ref(n), i)).collect();
    let mut out = BTreeSet::new();
    let mut open: Vec<(usize, usize, &str)> = vec![];
    for (i, node) in graph.node.iter().enumerate().filter(|(_, n)| is_recurrent(n)) {
        open.extend([5, 6].iter().filter_map(|&slot| Some((i, slot, node.input.get(slot)?.as_str()))));
    }
    let mut seen = BTreeSet::new();
    while let Some((reader, slot, name)) = open.pop() {
        if inputs.contains(name) {
            out.insert((name.to_owned(), reader, slot));
            continue;
        }
        let Some(node) = producers.get(name).filter(|_| seen.insert(name)) else { continue };
        let at = index[&std::ptr::from_ref(*node)];
        if flat::is_if(node) {
            let k = node.output.iter().position(|o| o == name).unwrap_or(0);
            for (_, outputs) in flat::branches(node) {
                // What a branch hands through as it is has no reader in it.
                let inner = outputs.get(k).copied().filter(|o| producers.contains_key(o));
                open.extend(inner.map(|o| (at, 0, o)));
            }
        } else {
            let all = moved(node).unwrap_or_default().iter().enumerate();
            open.extend(all.map(|(slot, name)| (at, slot, name.as_str())));
        }
    }
    out
}

/// Fix what is at a border and is no hidden unit whose state comes in and goes out.
pub fn check(walk: &mut Walk<'_>, borders: &Borders) {
    let classes =
        |walk: &Walk<'_>, ids: &[Id]| -> BTreeSet<Id> { ids.iter().map(|&i| walk.ids.class(i)).collect() };
    let units = classes(walk, &walk.units.clone());
    let last =
        |walk: &Walk<'_>, name: &str| walk.values.get(name).and_then(|a| a.last().cloned()).flatten();
    let mut carried = BTreeSet::new();
    for (name, input) in &borders.entries {
        let Some(ids) = last(walk, name) else { continue };
        let other: Vec<Id> = ids.iter().copied().filter(|&i| !units.contains(&walk.ids.class(i))).collect();
        walk.ids.fix(&other, &format!("they reach `{input}`, an input of the model"));
        // What else reads the state would read zeros where a caller feeds it back; its shape stays.
        let reads = |n: &&NodeProto| {
            n.input.contains(input)
                && !matches!(n.op_type.as_str(), "Shape" | "Size")
                && n.output.first().is_none_or(|o| !borders.entries.contains_key(o))
        };
        if let Some(reader) = walk.graph.node.iter().find(reads) {
            let reader = crate::contractions::name(reader);
            walk.ids.fix(&ids, &format!("`{reader}` reads `{input}` too, a state that comes from outside"));
        }
        carried.extend(classes(walk, &ids));
    }
    for node in
        walk.graph.node.iter().filter(|n| n.output.first().is_some_and(|o| borders.exits.contains(o)))
    {
        let (from, to) = (&node.input[0], &node.output[0]);
        let why = format!("they reach `{to}`, an output of the model");
        let axes = walk.values.get(from).cloned().unwrap_or_default();
        let count = axes.len();
        for (a, ids) in axes.into_iter().enumerate() {
            let Some(ids) = ids else { continue };
            let stays = a + 1 < count || !walk.states.contains(from);
            let bound = |i: &Id| stays || !carried.contains(&walk.ids.class(*i));
            let bound: Vec<Id> = ids.iter().copied().filter(bound).collect();
            walk.ids.fix(&bound, &why);
        }
    }
}

/// The inputs and outputs of the model that are states of units of which some go.
pub fn narrowed(borders: &Borders, walk: &Walk<'_>, gone: &BTreeSet<Id>) -> BTreeSet<String> {
    let goes = |name: &str| {
        let ids = walk.values.get(name).and_then(|a| a.last()?.as_ref());
        ids.is_some_and(|ids| ids.iter().any(|i| gone.contains(&walk.ids.class(*i))))
    };
    let inputs = borders.entries.iter().filter(|(entry, _)| goes(entry)).map(|(_, input)| input.clone());
    let exits =
        walk.graph.node.iter().filter(|n| n.output.first().is_some_and(|o| borders.exits.contains(o)));
    let mut names: BTreeSet<&str> =
        exits.filter(|n| goes(&n.input[0])).filter_map(|n| n.output.first().map(String::as_str)).collect();
    // Behind the ends of branches, the outputs of their nodes, and copies of these.
    for node in &walk.graph.node {
        let behind: Vec<&str> = match node.op_type.as_str() {
            "Identity" if names.contains(node.input[0].as_str()) => vec![node.output[0].as_str()],
            _ if flat::is_if(node) => {
                let inner = flat::branches(node).into_iter().map(|b| b.1);
                let ends = inner.flat_map(|b| b.into_iter().zip(&node.output).collect::<Vec<_>>());
                ends.filter(|(o, _)| names.contains(*o)).map(|(_, o)| o.as_str()).collect()
            }
            _ => vec![],
        };
        names.extend(behind);
    }
    let outputs = walk.graph.output.iter().map(|o| &o.name).filter(|n| names.contains(n.as_str())).cloned();
    inputs.chain(outputs).collect()
}

/// Make of the nodes at the borders what they must be without these classes; those that nothing goes from are taken out.
pub fn close(graph: &mut GraphProto, borders: &Borders, walk: &Walk<'_>, gone: &BTreeSet<Id>) {
    let kept = |name: &str| -> Option<(usize, Vec<i64>, usize)> {
        let axes = walk.values.get(name)?;
        let ids = axes.last()?.as_ref()?;
        let stays = (0..).zip(ids.iter()).filter(|(_, id)| !gone.contains(&walk.ids.class(**id)));
        Some((axes.len() - 1, stays.map(|(i, _)| i).collect(), ids.len()))
    };
    let mut nodes = vec![];
    for mut node in graph.node.clone() {
        let to = node.output.first().cloned().unwrap_or_default();
        if borders.entries.contains_key(&to)
            && let Some((axis, kept, count)) = kept(&to)
            && kept.len() < count
        {
            let indices = constant(graph, &format!("{to}_kept"), &kept);
            node.op_type = "Gather".into();
            node.input.push(indices);
            node.attribute.push(int("axis", axis));
        } else if borders.exits.contains(&to)
            && let Some((axis, kept, count)) = kept(&node.input[0])
            && kept.len() < count
        {
            let longer = fresh(graph, &format!("{to}_padded"));
            let mut pads = vec![0; 2 * (axis + 1)];
            pads[2 * axis + 1] = 1;
            let mut pad = NodeProto {
                op_type: "Pad".into(),
                name: longer.clone(),
                input: node.input.clone(),
                output: vec![longer.clone()],
                ..NodeProto::default()
            };
            if walk.opset < 11 {
                pad.attribute.push(AttributeProto {
                    name: "pads".into(),
                    ints: pads,
                    type_: AttributeType::INTS.into(),
                    ..AttributeProto::default()
                });
            } else {
                pad.input.push(constant(graph, &format!("{to}_pads"), &pads));
            }
            nodes.push(pad);
            // The zero behind the units that stay.
            let zero = kept.len() as i64;
            let place = |i: i64| kept.binary_search(&i).map_or(zero, |k| k as i64);
            let places: Vec<i64> = (0..count as i64).map(place).collect();
            let indices = constant(graph, &format!("{to}_places"), &places);
            node.op_type = "Gather".into();
            node.input = vec![longer, indices];
            node.attribute.push(int("axis", axis));
        }
        nodes.push(node);
    }
    graph.node = nodes;
    dissolve(graph, borders);
}

/// Take out the borders that move nothing.
fn dissolve(graph: &mut GraphProto, borders: &Borders) {
    let outputs: BTreeSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let is_border = |n: &NodeProto| {
        let to = n.output.first().map_or("", String::as_str);
        n.op_type == "Identity" && (borders.entries.contains_key(to) || borders.exits.contains(to))
    };
    let ends: Vec<(String, String)> = graph
        .node
        .iter()
        .filter(|n| is_border(n))
        .map(|n| (n.input[0].clone(), n.output[0].clone()))
        .collect();
    graph.node.retain(|n| !is_border(n));
    for (from, to) in ends {
        match outputs.contains(&to) {
            true => flat::rename(graph, &from, &to),
            false => flat::rename(graph, &to, &from),
        }
    }
}

/// Put a list of integers among the constants.
fn constant(graph: &mut GraphProto, wanted: &str, values: &[i64]) -> String {
    const INT64: i32 = 7;
    let name = fresh(graph, wanted);
    graph.initializer.push(TensorProto {
        name: name.clone(),
        dims: vec![values.len() as i64],
        data_type: INT64,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    });
    name
}
