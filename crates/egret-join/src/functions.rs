//! Functions of models: one of a name, or one of each part where they are not the same.

use crate::part::Part;
use crate::rename::{Key, called, key};
use onnx_protobuf::{FunctionProto, ModelProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

/// Every key that nodes call, whether it is a function or an operator.
fn calls(nodes: &[NodeProto], out: &mut BTreeSet<Key>) {
    for node in nodes {
        out.insert(called(node));
        let graphs = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
        graphs.for_each(|g| calls(&g.node, out));
    }
}

/// The key of a function.
pub(crate) fn key_of(f: &FunctionProto) -> Key {
    key(&f.domain, &f.name, &f.overload)
}

fn called_in(model: &ModelProto) -> BTreeSet<Key> {
    let mut out = BTreeSet::new();
    calls(&model.graph.node, &mut out);
    model.functions.iter().for_each(|f| calls(&f.node, &mut out));
    out
}

/// New names of functions, part by part: of those that parts define unlike each other, that call such, or whose name is an
/// operator's in another part.
pub(crate) fn new_names(parts: &[Part]) -> Vec<BTreeMap<Key, String>> {
    let all: Vec<BTreeSet<Key>> = parts.iter().map(|p| called_in(&p.model)).collect();
    let mut defined: BTreeMap<Key, Vec<(usize, &FunctionProto)>> = BTreeMap::new();
    for (part, p) in parts.iter().enumerate() {
        p.model.functions.iter().for_each(|f| defined.entry(key_of(f)).or_default().push((part, f)));
    }
    let mut apart: BTreeSet<Key> = BTreeSet::new();
    for (key, by) in &defined {
        let same = by.iter().all(|(_, f)| *f == by[0].1);
        let foreign = |(part, called): (usize, &BTreeSet<Key>)| {
            called.contains(key) && !by.iter().any(|(p, _)| *p == part)
        };
        if !same || all.iter().enumerate().any(foreign) {
            apart.insert(key.clone());
        }
    }
    // What calls a function that is renamed is not the same in all parts either.
    loop {
        let more: Vec<Key> = defined
            .iter()
            .filter(|(key, by)| {
                let mut inner = BTreeSet::new();
                by.iter().for_each(|(_, f)| calls(&f.node, &mut inner));
                !apart.contains(*key) && inner.iter().any(|k| apart.contains(k))
            })
            .map(|(key, _)| key.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        apart.extend(more);
    }
    let mut taken: BTreeSet<Key> = all.into_iter().flatten().chain(defined.keys().cloned()).collect();
    let mut out = vec![BTreeMap::new(); parts.len()];
    for old in apart {
        for (part, _) in &defined[&old] {
            let mut name = format!("{}_{}", old.1, parts[*part].name);
            while !taken.insert((old.0.clone(), name.clone(), old.2.clone())) {
                name.push('_');
            }
            out[*part].insert(old.clone(), name);
        }
    }
    out
}
