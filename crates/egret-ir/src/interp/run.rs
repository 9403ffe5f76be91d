//! Running a graph: evaluating nodes in order, dropping values after their last use.

use super::bounds::Around;
use super::scope::{Scope, place};
use super::support::{Res, error};
use crate::{Def, Graph, Value};

/// Run a graph in which the symbols around it are visible.
pub(super) fn run(graph: &Graph, inputs: &[Value], outer: Around<'_>) -> Res<Vec<Value>> {
    let mut scope = Scope::of_inputs(graph, inputs, outer.env)?;
    let order = graph.topological().map_err(|n| place(graph, n, error("the graph has a cycle")))?;
    let mut uses = vec![0usize; graph.value_count()];
    for &n in &order {
        graph.node(n).operands.iter().flatten().for_each(|v| uses[v.0 as usize] += 1);
    }
    graph.outputs().iter().for_each(|v| uses[v.0 as usize] += 1);

    let mut values: Vec<Option<Value>> = vec![None; graph.value_count()];
    for (&id, value) in graph.inputs().iter().zip(inputs) {
        values[id.0 as usize] = Some(value.clone());
    }
    let read = |values: &[Option<Value>], id: crate::ValueId| match &graph.value(id).def {
        Def::Const(t) => Some(Value::Tensor(t.clone())),
        _ => values[id.0 as usize].clone(),
    };
    for (done, &n) in order.iter().enumerate() {
        outer.at_node(done, order.len());
        let node = graph.node(n);
        let mut operands = Vec::with_capacity(node.operands.len());
        for v in &node.operands {
            operands.push(match v {
                Some(v) => Some(
                    read(&values, *v).ok_or_else(|| place(graph, n, error(format!("{v} has no value"))))?,
                ),
                None => None,
            });
        }
        for v in node.operands.iter().flatten() {
            uses[v.0 as usize] -= 1;
            if uses[v.0 as usize] == 0 {
                values[v.0 as usize] = None;
            }
        }
        let results = scope.node(graph, n, &operands, outer)?;
        for (&id, value) in node.results.iter().zip(results) {
            if uses[id.0 as usize] > 0 {
                values[id.0 as usize] = Some(value);
            }
        }
    }
    graph
        .outputs()
        .iter()
        .map(|&v| read(&values, v).ok_or_else(|| error(format!("the output {v} has no value"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::interp::run;
    use crate::{DType, Dim, Graph, Op, Tensor, Type, attrs, text};

    #[test]
    fn broadcasts_of_symbols_are_checked() {
        let graph = text::parse("graph @g(%0: f32[a], %1: f32[b]) -> (%2) { %2 = add(%0, %1) }", &|_| None)
            .unwrap();
        for (a, b, sum) in
            [(1, 0, Some(0)), (0, 1, Some(0)), (3, 1, Some(3)), (2, 2, Some(2)), (2, 3, None)]
        {
            let x = |n: usize| Tensor::new(&[n], vec![1f32; n]).into();
            let out = run(&graph, &[x(a), x(b)]);
            assert_eq!(out.ok().map(|o| o[0].as_tensor().unwrap().len()), sum, "{a} and {b}");
        }
    }

    /// The node that declares a symbol runs before who uses it, though no value leads from one to the other.
    #[test]
    fn declared_symbols_are_bound_before_their_use() {
        let text = "graph @g(%0: f32[n]) -> (%3) { %1 = neg(%0) %2 = nonzero(%1) {dims = [_, k]} \
                    %3 = iota() {axis = 0, shape = [k], to = i64} }";
        let mut graph = text::parse(text, &|_| None).unwrap();
        assert_eq!(graph.remove_dead(), 0);
        let x = Tensor::new(&[4], vec![1f32, 0.0, 2.0, 3.0]);
        assert_eq!(run(&graph, &[x.into()]).unwrap()[0].as_tensor().unwrap().shape(), [3]);
        let mut other = Graph::new("g");
        let x = other.add_input("x", Type::tensor(DType::F32, vec![Dim::symbol("n")]));
        let shape = Type::tensor(DType::I64, vec![Dim::symbol("k")]);
        let iota = attrs! { axis: 0i64, shape: vec![Dim::symbol("k")], to: DType::I64 };
        let user = other.add_node(Op::Iota, iota, vec![], vec![], vec![shape], Default::default());
        let count = Type::tensor(DType::I64, vec![Dim::from(1i64), Dim::symbol("k")]);
        let declared = attrs! { dims: vec![None, Some("k".to_owned())] };
        let counted =
            other.add_node(Op::Nonzero, declared, vec![Some(x)], vec![], vec![count], Default::default());
        other.add_output("y", other.node(user).results[0]);
        assert_eq!(other.topological(), Ok(vec![counted, user]));
        assert_eq!(crate::verify(&other), Ok(()));
    }

    #[test]
    fn binds_dims_and_names_places() {
        let n = Dim::symbol("n");
        let mut g = Graph::new("g");
        let x = g.add_input("x", Type::tensor(DType::F32, vec![n.clone(), Dim::from(2i64)]));
        let y = g.add_input("y", Type::tensor(DType::F32, vec![n.clone() * Dim::from(2i64)]));
        let flat = Type::tensor(DType::F32, vec![n.clone() * Dim::from(2i64)]);
        let r = g.add_node(
            Op::Reshape,
            attrs! { shape: vec![n * Dim::from(2i64)] },
            vec![Some(x)],
            vec![],
            vec![flat.clone()],
            ["Reshape:/a".to_string()].into(),
        );
        let r = g.node(r).results[0];
        let s =
            g.add_node(Op::Add, attrs! {}, vec![Some(r), Some(y)], vec![], vec![flat], Default::default());
        g.add_output("out", g.node(s).results[0]);
        let x = Tensor::new(&[2, 2], vec![1f32, 2.0, 3.0, 4.0]);
        let y = Tensor::new(&[4], vec![10f32, 20.0, 30.0, 40.0]);
        let out = run(&g, &[x.clone().into(), y.clone().into()]).unwrap();
        assert_eq!(out[0].as_tensor().unwrap().data::<f32>(), [11.0, 22.0, 33.0, 44.0]);
        let e = run(&g, &[x.reshaped(&[1, 4]).into(), y.clone().into()]).unwrap_err();
        assert_eq!(e.to_string(), "input `x`: f32[1, 4] where f32[1, 2] is needed");
        let e = run(&g, &[x.clone().into(), Tensor::new(&[1], vec![1f32]).into()]).unwrap_err();
        assert_eq!(e.at, "input `y`");
        assert!(run(&g, &[x.into()]).is_err());
    }
}
