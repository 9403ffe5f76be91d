//! Symbols of a graph under other names, or as numbers and sums: a graph that is put into another one, or is given its sizes.

use crate::attr::DECLARED;
use crate::{Attr, Dim, DimEnv, Graph};
use std::collections::{BTreeMap, BTreeSet};

impl Graph {
    /// Replace the free symbols of this graph ([`Graph::free_symbols`]) by dims of the graph that it is put into.
    pub fn map_free_symbols(&mut self, map: &dyn Fn(&str) -> Option<Dim>) {
        let free = self.free_symbols();
        if free.is_empty() {
            return;
        }
        let outer = |name: &str| {
            let new = free.iter().any(|f| f == name).then(|| map(name)).flatten();
            Some(new.unwrap_or_else(|| Dim::symbol(name)))
        };
        // What nodes declare is none of the dims that are put in.
        let mut put_in = vec![];
        free.iter().filter_map(|name| map(name)).for_each(|d| d.collect_symbols(&mut put_in));
        self.rename_declared(&put_in.into_iter().collect());
        let dim = |d: &Dim| d.map_symbols(&outer).unwrap_or_else(|| d.clone());
        self.map_conditions(&dim);
        for value in &mut self.values {
            value.ty = value.ty.map_dims(&dim);
        }
        for id in self.node_ids() {
            let node = self.node_mut(id);
            node.attrs = node.attrs.map_dims(&dim);
            node.regions.iter_mut().for_each(|r| r.map_free_symbols(&outer));
        }
    }

    /// Give free dims ([`Graph::free_dims`]) their values.
    pub fn bind_dims(&mut self, env: &DimEnv) {
        self.map_conditions(&|d| d.substitute(env));
        for value in &mut self.values {
            value.ty = value.ty.substitute(env);
        }
        let inner = |name: &str| env.get(name).map(|&v| Dim::constant(v));
        for id in self.node_ids() {
            let node = self.node_mut(id);
            node.attrs = node.attrs.substitute(env);
            node.regions.iter_mut().for_each(|r| r.map_free_symbols(&inner));
        }
    }

    /// Gives symbols that nodes declare other names where these are taken.
    pub fn rename_declared(&mut self, taken: &BTreeSet<String>) {
        let declared: Vec<String> = self.declarations().into_keys().map(str::to_owned).collect();
        let mut all: BTreeSet<String> = taken.union(&self.all_symbols()).cloned().collect();
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for name in declared.into_iter().filter(|name| taken.contains(name)) {
            let other = untaken(&name, &mut all);
            names.insert(name, other);
        }
        if names.is_empty() {
            return;
        }
        for id in self.node_ids() {
            let attrs = &mut self.node_mut(id).attrs;
            let mut declared = attrs.declared().to_vec();
            for name in declared.iter_mut().flatten() {
                if let Some(other) = names.get(name) {
                    name.clone_from(other);
                }
            }
            if !declared.is_empty() {
                attrs.0.insert(DECLARED, Attr::Symbols(declared));
            }
        }
        self.substitute_symbols(
            &names.into_iter().map(|(name, other)| (name, Dim::symbol(&other))).collect(),
        );
    }

    /// Replaces every dim by what `map` gives for it. Regions keep theirs.
    pub fn map_dims(&mut self, map: &dyn Fn(&Dim) -> Dim) {
        self.map_conditions(map);
        for value in &mut self.values {
            value.ty = value.ty.map_dims(map);
        }
        for id in self.node_ids() {
            let node = self.node_mut(id);
            node.attrs = node.attrs.map_dims(map);
        }
    }

    /// Replaces symbols, all at once, by dims of a graph that this one is put into. A region whose inputs bind a symbol, or whose nodes declare one,
    /// that is called like one of those dims' binds another one from then on.
    pub fn substitute_symbols(&mut self, map: &BTreeMap<String, Dim>) {
        let dim = |d: &Dim| {
            let new = |name: &str| Some(map.get(name).cloned().unwrap_or_else(|| Dim::symbol(name)));
            d.map_symbols(&new).unwrap_or_else(|| d.clone())
        };
        self.map_dims(&dim);
        for id in self.node_ids() {
            for region in &mut self.node_mut(id).regions {
                let free = region.free_symbols().into_iter();
                let mut inner: BTreeMap<String, Dim> =
                    free.filter_map(|name| Some((name.clone(), map.get(&name)?.clone()))).collect();
                let mut named = vec![];
                inner.values().for_each(|d| d.collect_symbols(&mut named));
                let mut taken: BTreeSet<String> = named.iter().cloned().collect();
                region.rename_declared(&taken);
                taken.extend(region.all_symbols());
                let bound: Vec<String> = region.input_symbols().into_iter().map(str::to_owned).collect();
                for name in bound.into_iter().filter(|name| named.contains(name)) {
                    let other = untaken(&name, &mut taken);
                    inner.insert(name, Dim::symbol(&other));
                }
                if !inner.is_empty() {
                    region.substitute_symbols(&inner);
                }
            }
        }
    }
}

/// A name like this one that is not taken, and is from then on.
fn untaken(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut other = format!("{name}_");
    while !taken.insert(other.clone()) {
        other.push('_');
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    /// A region's own `N` is not the `N` that its `m` becomes.
    #[test]
    fn a_region_keeps_its_own_symbols() {
        let source = r#"graph @g(%0 "c": bool[], %1 "x": f32[m, 3], %2 "y": f32[5]) -> (%3 "z") {
  %3 = if(%0, %1, %2) : f32[m, 3]
    then graph @a(%0: f32[k, 3], %1: f32[N]) -> (%2) {
      %2 = broadcast(%0) {shape = [m, 3]} : f32[m, 3]
    }
    else graph @b(%0: f32[k, 3], %1: f32[N]) -> (%0) {}
}"#;
        let mut graph = text::parse(source, &|_| None).expect("a graph");
        graph.substitute_symbols(&BTreeMap::from([("m".into(), Dim::symbol("N") * Dim::constant(2))]));
        let id = graph.topological().expect("an order")[0];
        let region = &graph.node(id).regions[0];
        let shapes: Vec<String> =
            region.inputs().iter().chain(region.outputs()).map(|&v| region.ty(v).to_string()).collect();
        assert_eq!(shapes, ["f32[k, 3]", "f32[N_]", "f32[2*N, 3]"]);
        assert_eq!(graph.ty(graph.outputs()[0]).to_string(), "f32[2*N, 3]");
        assert_eq!(graph.node(id).regions[1].inputs().len(), 2);
    }
}
