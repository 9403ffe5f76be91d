//! Strings, sequences, optionals and the models of `ai.onnx.ml`.

use super::{Call, check, one, unknown};
use crate::{DType, Dim, SeqType, Shape, Tensor, Type};

pub(super) fn string_split(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    let mut parts = x.shape.clone();
    parts.push(unknown());
    Ok(vec![Type::tensor(DType::String, parts), Type::tensor(DType::I64, x.shape.clone())])
}

pub(super) fn string_normalize(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    call.one_of("case", &["lower", "upper", "none"])?;
    let mut shape = x.shape.clone();
    match shape.last_mut() {
        Some(last) if x.rank() <= 2 => *last = unknown(),
        _ => return Err(format!("operand `x` is {x}, but its rank must be 1 or 2")),
    }
    one(DType::String, shape)
}

pub(super) fn regex_full_match(call: &Call) -> Result<Vec<Type>, String> {
    one(DType::Bool, call.bounded(0)?.shape.clone())
}

pub(super) fn tfidf(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    call.one_of("mode", &["TF", "IDF", "TFIDF"])?;
    if x.rank() > 2 || !(x.dtype == DType::String || x.dtype.is_int()) {
        return Err(format!("operand `x` is {x}, but must be integers or strings of rank 2 at most"));
    }
    let (min, max) = (call.count("min_gram")?, call.count("max_gram")?);
    call.count("max_skip")?;
    let attrs = call.attrs;
    if min == 0 || min > max {
        return Err(format!("grams from {min} to {max} are no range"));
    }
    let (ints, strings) = (attrs.ints("pool_ints"), attrs.strings("pool_strings"));
    let pool = if x.dtype == DType::String { strings.len() } else { ints.len() };
    let counts = attrs.ints("counts");
    let in_pool = |c: &i64| usize::try_from(*c).is_ok_and(|c| c <= pool);
    if !counts.iter().all(in_pool) || !counts.windows(2).all(|w| w[0] <= w[1]) {
        return Err(format!("`counts` {counts:?} do not divide the pool of {pool}"));
    }
    // `counts[i]` is where the grams of i + 1 items start; each part has to hold whole grams.
    let ends = counts.iter().copied().skip(1).chain([pool as i64]);
    let mut grams = 0;
    for (items, (start, end)) in (1i64..).zip(counts.iter().zip(ends)) {
        if (end - start) % items != 0 {
            return Err(format!("`counts` {counts:?} do not divide the pool of {pool} into grams"));
        }
        grams += (end - start) / items;
    }
    let indexes = attrs.ints("indexes");
    let weights = attrs.floats("weights").len();
    if indexes.len() as i64 != grams || (weights != 0 && weights != indexes.len()) {
        return Err(format!(
            "{grams} grams, {} indexes and {weights} weights do not fit together",
            indexes.len()
        ));
    }
    if indexes.iter().any(|i| !(0..check::MAX_EXTENT).contains(i)) {
        return Err("`indexes` has an entry out of range".into());
    }
    let width = Dim::constant(indexes.iter().max().map_or(0, |m| m + 1));
    let mut shape: Shape = if x.rank() == 2 { vec![x.shape[0].clone()] } else { vec![] };
    shape.push(width);
    one(DType::F32, shape)
}

pub(super) fn label_encode(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let (to, keys, values, default) = (
        call.attrs.dtype("to"),
        call.attrs.tensor("keys"),
        call.attrs.tensor("values"),
        call.attrs.tensor("default"),
    );
    if keys.dtype() != x.dtype || keys.len() != values.len() {
        return Err(format!(
            "{} keys of type {} and {} values do not fit {x}",
            keys.len(),
            keys.dtype(),
            values.len()
        ));
    }
    if values.dtype() != to || default.dtype() != to || default.len() != 1 {
        return Err(format!("the values and the single default must be of type {to}"));
    }
    one(to, x.shape.clone())
}

pub(super) fn tree_ensemble(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    call.expect_rank(0, x, 2)?;
    let attrs = call.attrs;
    let targets = call.count("n_targets")?;
    if !(0..=3).contains(&attrs.int("aggregate")) || !(0..=4).contains(&attrs.int("post_transform")) {
        return Err("`aggregate` or `post_transform` is out of range".into());
    }
    let nodes = attrs.ints("nodes_featureids").len();
    let leaves = attrs.ints("leaf_targetids").len();
    for name in ["nodes_truenodeids", "nodes_trueleafs", "nodes_falsenodeids", "nodes_falseleafs"] {
        call.extents(name, nodes, 0)?;
    }
    if !attrs.ints("nodes_missing").is_empty() {
        call.extents("nodes_missing", nodes, 0)?;
    }
    let lengths = [("nodes_splits", nodes), ("nodes_modes", nodes), ("leaf_weights", leaves)];
    for (name, len) in lengths {
        let t: &Tensor = attrs.tensor(name);
        if t.len() != len {
            return Err(format!("`{name}` has {} elements instead of {len}", t.len()));
        }
    }
    let features = x.shape[1].as_const().unwrap_or(i64::MAX);
    let below = |name: &str, limit: i64| match attrs.ints(name).iter().find(|i| !(0..limit).contains(*i)) {
        Some(bad) => Err(format!("`{name}` has the entry {bad}, which is not below {limit}")),
        None => Ok(()),
    };
    below("nodes_featureids", features)?;
    below("leaf_targetids", targets as i64)?;
    check_trees(call, nodes, leaves)?;
    one(x.dtype, vec![x.shape[0].clone(), Dim::from(targets)])
}

/// Children and roots exist, and no node is reached twice: a walk down a tree ends.
fn check_trees(call: &Call, nodes: usize, leaves: usize) -> Result<(), String> {
    let ints = |name| call.attrs.ints(name);
    let mut seen = vec![false; nodes];
    let mut work: Vec<i64> = vec![];
    for &root in ints("tree_roots") {
        // A tree whose root is a leaf is written as a node both of whose children are that leaf.
        work.push(root);
    }
    while let Some(n) = work.pop() {
        let n = usize::try_from(n)
            .ok()
            .filter(|n| *n < nodes)
            .ok_or_else(|| format!("there is no tree node {n}"))?;
        if std::mem::replace(&mut seen[n], true) {
            return Err(format!("the tree node {n} has several parents"));
        }
        for (child, is_leaf) in
            [("nodes_truenodeids", "nodes_trueleafs"), ("nodes_falsenodeids", "nodes_falseleafs")]
        {
            let c = ints(child)[n];
            if ints(is_leaf)[n] == 0 {
                work.push(c);
            } else if !usize::try_from(c).is_ok_and(|c| c < leaves) {
                return Err(format!("there is no tree leaf {c}"));
            }
        }
    }
    Ok(())
}

fn sequence<'a>(call: &Call<'a>, i: usize) -> Result<&'a SeqType, String> {
    match call.any(i)? {
        Type::Sequence(s) => Ok(s),
        other => Err(format!("{} is {other}, not a sequence", call.operand_name(i))),
    }
}

fn sequence_of(dtype: DType, shape: Option<Shape>) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Sequence(Box::new(SeqType { dtype, shape }))])
}

/// What two shapes have in common: dims that differ become unknown, ranks that differ nothing.
fn common(a: &[Dim], b: &[Dim]) -> Option<Shape> {
    let dim = |(a, b): (&Dim, &Dim)| if a == b { a.clone() } else { unknown() };
    (a.len() == b.len()).then(|| a.iter().zip(b).map(dim).collect())
}

/// The shape of one element: a symbol among the elements' dims differs from element to element.
fn element(s: &SeqType) -> Result<Shape, String> {
    let shape = s.shape.as_ref().ok_or_else(|| {
        format!("the rank of the elements of {} is not known", Type::Sequence(Box::new(s.clone())))
    })?;
    Ok(shape.iter().map(|d| if d.as_const().is_some() { d.clone() } else { unknown() }).collect())
}

fn position(call: &Call, i: usize) -> Result<(), String> {
    let at = call.integers(i)?;
    call.expect_single(i, at)
}

pub(super) fn sequence_construct(call: &Call) -> Result<Vec<Type>, String> {
    if call.operands.is_empty() {
        return Err("there is no operand".into());
    }
    let first = call.tensor(0)?;
    let mut shape = Some(first.shape.clone());
    for i in 1..call.operands.len() {
        let other = call.tensor(i)?;
        if other.dtype != first.dtype {
            return Err(format!("the operands {first} and {other} have different element types"));
        }
        shape = shape.and_then(|s| common(&s, &other.shape));
    }
    sequence_of(first.dtype, shape)
}

pub(super) fn sequence_empty(call: &Call) -> Result<Vec<Type>, String> {
    sequence_of(call.attrs.dtype("to"), None)
}

pub(super) fn sequence_insert(call: &Call) -> Result<Vec<Type>, String> {
    let (s, x) = (sequence(call, 0)?, call.tensor(1)?);
    position(call, 2)?;
    call.expect_dtype(1, x, s.dtype)?;
    sequence_of(s.dtype, s.shape.as_ref().and_then(|shape| common(shape, &x.shape)))
}

pub(super) fn sequence_erase(call: &Call) -> Result<Vec<Type>, String> {
    position(call, 1)?;
    let s = sequence(call, 0)?;
    sequence_of(s.dtype, s.shape.clone())
}

pub(super) fn sequence_at(call: &Call) -> Result<Vec<Type>, String> {
    position(call, 1)?;
    let s = sequence(call, 0)?;
    one(s.dtype, element(s)?)
}

pub(super) fn sequence_length(call: &Call) -> Result<Vec<Type>, String> {
    sequence(call, 0)?;
    one(DType::I64, vec![])
}

pub(super) fn sequence_concat(call: &Call) -> Result<Vec<Type>, String> {
    let s = sequence(call, 0)?;
    let mut shape = element(s)?;
    if call.attrs.flag("new_axis") {
        shape.insert(call.axis("axis", shape.len() + 1)?, unknown());
    } else {
        let axis = call.axis("axis", shape.len())?;
        shape[axis] = unknown();
    }
    one(s.dtype, shape)
}

pub(super) fn sequence_split(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let axis = call.axis("axis", x.rank())?;
    let mut shape = x.shape.clone();
    if call.attrs.flag("has_split") {
        if call.integers(1)?.rank() > 1 {
            return Err(format!("operand `split` is {}, but its rank must be 0 or 1", call.integers(1)?));
        }
        shape[axis] = unknown();
    } else if call.attrs.flag("keepdims") {
        shape[axis] = Dim::constant(1);
    } else {
        shape.remove(axis);
    }
    sequence_of(x.dtype, Some(shape))
}

pub(super) fn optional_some(call: &Call) -> Result<Vec<Type>, String> {
    Ok(vec![Type::Optional(Box::new(call.any(0)?.clone()))])
}

pub(super) fn optional_none(call: &Call) -> Result<Vec<Type>, String> {
    match call.attrs.get("of") {
        Some(crate::Attr::Type(of)) => Ok(vec![Type::Optional(Box::new(of.clone()))]),
        _ => Err("attribute `of` is no type".into()),
    }
}

pub(super) fn optional_get(call: &Call) -> Result<Vec<Type>, String> {
    Ok(vec![match call.any(0)? {
        Type::Optional(inner) => inner.as_ref().clone(),
        other => other.clone(),
    }])
}

pub(super) fn optional_has(call: &Call) -> Result<Vec<Type>, String> {
    call.any(0)?;
    one(DType::Bool, vec![])
}
