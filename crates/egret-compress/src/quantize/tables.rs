//! Tables: constant matrices whose rows are looked up, such as embeddings. They contract nothing, and are most of some files. A row becomes
//! `int8` codes with a scale of its own; codes and scales are looked up alike, and multiplied: `Gather`, `Gather`, `Cast` and `Mul`, which
//! every runtime has, and which touch the rows that are asked for only.

use crate::constants::{Constants, Place};
use crate::contractions::{name, ours};
use crate::flat;
use crate::integers::{Form, Integers, bytes};
use crate::layout::{int, integer};
use crate::names::fresh;
use crate::numbers;
use crate::report::{Entry, Reason, Verdict};
use onnx_protobuf::{GraphProto, ModelProto, NodeProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};

/// `TensorProto.DataType`.
const FLOAT: usize = 1;
/// Fewer numbers than this are not worth three nodes.
const SMALL: i64 = 1 << 12;
/// Rows of fewer numbers than this are not, either.
const SHORT: i64 = 32;
const UNREAD: &str = "cannot be read";
/// The version of the format from which initialisers need not be inputs.
const APART: i64 = 4;

/// A matrix that some `Gather` reads.
pub struct Table {
    /// Its name in the file.
    name: String,
    place: Place,
    /// The nodes that look its rows up, or why it stays.
    verdict: Result<Vec<usize>, (Reason, String)>,
    /// The first node that reads it.
    node: String,
}

impl Table {
    /// Whether it or the first node that reads it is called so.
    pub fn is(&self, name: &str) -> bool {
        self.name == name || self.node == name
    }

    /// Its name, and that of the first node that reads it.
    pub fn names(&self) -> [&str; 2] {
        [&self.name, &self.node]
    }

    /// Whether it becomes integers.
    pub fn fits(&self) -> bool {
        self.verdict.is_ok()
    }
}

/// The tables of a model: constants of two axes that some `Gather` reads; `skip` are names of those that stay.
pub fn find(model: &ModelProto, skip: &[String]) -> Vec<Table> {
    let graph = model.graph.get_or_default();
    let constants = Constants::new(graph);
    let homes = flat::homes(graph);
    let (mut out, mut once) = (vec![], BTreeSet::new());
    for (at, node) in graph.node.iter().enumerate().filter(|(_, n)| n.op_type == "Gather" && ours(n)) {
        let Some(data) = node.input.first().filter(|i| once.insert((*i).clone())) else { continue };
        let Ok(found) = constants.find_shared(data) else { continue };
        if found.name != *data || found.dims.len() != 2 {
            continue;
        }
        let Some(tensor) = found.place.of(graph) else { continue };
        let readers: Vec<usize> =
            (0..graph.node.len()).filter(|&i| graph.node[i].input.first() == Some(data)).collect();
        let looks = |&i: &usize| {
            let n = &graph.node[i];
            // From the last: a table has two axes.
            n.op_type == "Gather" && ours(n) && [0, -2].contains(&integer(n, "axis", 0)) && homes[i] == 0
        };
        let table = |verdict| Table { name: data.clone(), place: found.place, verdict, node: name(node) };
        let mut out_with = |verdict| out.push(table(verdict));
        let count: i64 = tensor.dims.iter().product();
        let rows = Form::Axis(0);
        if skip.iter().any(|s| s == data || *s == name(node)) {
            out_with(Err((Reason::Skipped, "--skip names it".to_owned())));
        } else if homes[at] != 0 {
            out_with(Err((Reason::NotDone, "tables inside If, Loop or Scan stay".to_owned())));
        } else if readers.len() != constants.read_count(data) || !readers.iter().all(looks) {
            let text = format!("`{data}` is read otherwise than by the rows that Gather takes");
            out_with(Err((Reason::Shared, text)));
        } else if tensor.data_type != FLOAT as i32 {
            out_with(Err((Reason::NotDone, format!("`{data}` is not of 32 bits"))));
        } else if count < SMALL || bytes(tensor, rows) >= count as usize * numbers::width(tensor) {
            out_with(Err((Reason::TooSmall, format!("{count} numbers are not worth three nodes"))));
        } else if tensor.dims[1] < SHORT {
            let text = format!("rows of {} numbers are not worth three nodes", tensor.dims[1]);
            out_with(Err((Reason::TooSmall, text)));
        } else if graph.input.iter().any(|i| i.name == *data) && model.ir_version >= APART {
            let text = format!("`{data}` is an input with a default, which callers may override");
            out_with(Err((Reason::Shared, text)));
        } else if model.ir_version < APART {
            let text = format!("version {} of the format lists constants as inputs", model.ir_version);
            out_with(Err((Reason::NotDone, text)));
        } else if let Some(why) = numbers::read(tensor).map_or(Some(UNREAD), |v| unfit(&v, tensor.dims[1]))
        {
            out_with(Err((Reason::NotDone, format!("`{data}` {why}"))));
        } else {
            out_with(Ok(readers));
        }
    }
    out
}

/// Why numbers in rows of this width do not become codes of 8 bits with a scale per row.
fn unfit(values: &[f64], width: i64) -> Option<&'static str> {
    let width = usize::try_from(width).unwrap_or(0).max(1);
    if !values.iter().all(|v| v.is_finite()) {
        return Some("holds what is no finite number");
    }
    if values.iter().all(|v| v.fract() == 0.0) {
        return Some("holds whole numbers alone, which may be indices or counts");
    }
    let rows = values.len() as f64 / width as f64;
    let (mut sums, mut squares, mut lost) = (vec![0.0; width], vec![0.0; width], vec![0.0; width]);
    for row in values.chunks(width) {
        let step = row.iter().fold(0f64, |m, v| m.max(v.abs())) / 127.0;
        for (j, v) in row.iter().enumerate() {
            let is = if step > 0.0 { (v / step).round() * step } else { 0.0 };
            sums[j] += v;
            squares[j] += v * v;
            lost[j] += (v - is) * (v - is);
        }
    }
    let loses = |j: usize| {
        let variance = squares[j] - sums[j] * sums[j] / rows;
        // What rounding of sums leaves of the variance of a constant is none.
        variance > 1e-12 * squares[j] && lost[j] > 0.5 * variance
    };
    (0..width).any(loses).then_some(
        "has a column that would lose more than half of its variance, beside columns of far larger numbers",
    )
}

/// Make integers of the rows of all tables that fit; a verdict for each.
pub fn put(graph: &mut GraphProto, tables: Vec<Table>) -> Vec<Entry> {
    let (mut entries, mut looks) = (vec![], BTreeMap::new());
    for table in tables {
        let place = table.place;
        let tensor = place.of(graph).cloned().unwrap_or_default();
        let before = tensor.dims.iter().product::<i64>() as usize * numbers::width(&tensor);
        let made = match &table.verdict {
            Ok(_) => Integers::of(&tensor, Form::Axis(0)).zip(numbers::read(&tensor)),
            Err(_) => None,
        };
        let mut entry = Entry {
            name: table.node.clone(),
            op: "Gather".to_owned(),
            weight: None,
            bytes: Some([before; 2]),
            verdict: Verdict::Left {
                reason: Reason::NotDone,
                text: "its numbers cannot be read".to_owned(),
            },
        };
        match (table.verdict, made) {
            (Err((reason, text)), _) => entry.verdict = Verdict::Left { reason, text },
            (Ok(readers), Some((integers, was))) => {
                let is = integers.values();
                let energy: f64 = was.iter().map(|v| v * v).sum();
                let lost: f64 = was.iter().zip(&is).map(|(a, b)| (a - b) * (a - b)).sum();
                let after = bytes(&tensor, Form::Axis(0)) - tensor.dims[0] as usize;
                entry.weight =
                    Some((table.name.clone(), is.len(), is.iter().filter(|v| **v == 0.0).count()));
                entry.bytes = Some([before, after]);
                entry.verdict = Verdict::Quantised {
                    form: "int8, a scale per row".to_owned(),
                    before,
                    after,
                    sqnr: (lost > 0.0).then(|| 10.0 * (energy / lost).log10()),
                    output: None,
                };
                looks.extend(replace(graph, &table.name, place, &readers, &integers));
            }
            (Ok(_), None) => {}
        }
        entries.push(entry);
    }
    let nodes = std::mem::take(&mut graph.node).into_iter().enumerate();
    graph.node = nodes.flat_map(|(at, node)| looks.remove(&at).unwrap_or_else(|| vec![node])).collect();
    entries
}

/// Put the codes where the table was; the nodes that look up codes and scales, by the index of the reader that they stand for.
fn replace(
    graph: &mut GraphProto,
    table: &str,
    place: Place,
    readers: &[usize],
    integers: &Integers,
) -> Vec<(usize, Vec<NodeProto>)> {
    let [mut codes, mut scales, _] = integers.tensors();
    codes.name = fresh(graph, &format!("{table}_quantized"));
    scales.name = fresh(graph, &format!("{table}_scale"));
    // A column: it is looked up as the codes are, and multiplies all of a row.
    scales.dims.push(1);
    let names = [codes.name.clone(), scales.name.clone()];
    graph.initializer.push(scales);
    set(graph, table, place, codes);
    let lookup = |&at: &usize| {
        let was = &graph.node[at];
        let y = &was.output[0];
        let [picked, scale, number] =
            ["codes", "scales", "numbers"].map(|n| fresh(graph, &format!("{y}_{n}")));
        let look = |data: &str, out: &str| {
            let mut node = was.clone();
            node.input[0] = data.to_owned();
            node.output[0] = out.to_owned();
            node.name = out.to_owned();
            node
        };
        let node = |op: &str, input: &[&str], out: &str| NodeProto {
            op_type: op.into(),
            name: out.to_owned(),
            input: input.iter().map(|&i| i.to_owned()).collect(),
            output: vec![out.to_owned()],
            metadata_props: was.metadata_props.clone(),
            ..NodeProto::default()
        };
        let mut cast = node("Cast", &[&picked], &number);
        cast.attribute.push(int("to", FLOAT));
        let nodes = vec![
            look(&names[0], &picked),
            look(&names[1], &scale),
            cast,
            NodeProto { name: was.name.clone(), ..node("Mul", &[&number, &scale], y) },
        ];
        (at, nodes)
    };
    readers.iter().map(lookup).collect()
}

/// Put the codes in the place of the table.
fn set(graph: &mut GraphProto, table: &str, place: Place, codes: TensorProto) {
    match place {
        Place::Initializer(at) => {
            graph.initializer[at] = codes;
            // A constant is no input that could be given.
            graph.input.retain(|i| i.name != table);
        }
        Place::Attribute(node, _) => {
            graph.node[node].output[0].clone_from(&codes.name);
            if let Some(tensor) = place.of_mut(graph) {
                *tensor = codes;
            }
        }
    }
    graph.value_info.retain(|v| v.name != table);
}
