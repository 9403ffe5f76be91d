//! What ran when, as the trace events that `chrome://tracing` and Perfetto read: for a run the kernels, for a stream who had which sample.
//!
//! Each event lies on the row of what ran it. All are of one process, as these programs have it; times are microseconds from the beginning.

use crate::native::{self, Profiled, SPANS};
use crate::stages::{Span, Who};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The process that all events are said to be of.
const PROCESS: u32 = 1;

/// Events, each on one of the rows.
pub struct Events {
    title: String,
    rows: Vec<String>,
    events: Vec<Event>,
}

struct Event {
    /// The place of its row.
    row: usize,
    name: String,
    /// Seconds from the beginning.
    began: f64,
    seconds: f64,
    /// What is told of it beside that.
    more: Map<String, Value>,
}

impl Events {
    /// The kernels of a measured run, on one row: while it is measured, branches run one after the other.
    pub fn of_kernels(title: &str, profiled: &Profiled) -> Events {
        let row = match profiled.threads {
            1 => "kernels, on one thread".to_owned(),
            n => format!("kernels, each shared between {n} threads"),
        };
        let is_whole = profiled.spans.len() < SPANS;
        // What a kernel does in one of its rounds is that of all, in equal parts.
        let mut rounds = vec![0u64; profiled.kernels.len()];
        for span in &profiled.spans {
            if let Some(n) = rounds.get_mut(span.kernel) {
                *n += 1;
            }
        }
        let event = |span: &native::Span| {
            let (work, _) = profiled.kernels.get(span.kernel)?;
            let mut more = Map::new();
            more.insert("call".into(), json!(span.kernel));
            more.insert("ONNX nodes".into(), json!(work.sources));
            if !work.shapes.is_empty() {
                more.insert("computes".into(), json!(work.shapes));
            }
            let rate = |all: u64| {
                let one = all as f64 / rounds[span.kernel].max(1) as f64;
                (is_whole && one > 0.0 && span.seconds > 0.0)
                    .then(|| json!(rounded(one / span.seconds / 1e9, 10.0)))
            };
            let rates = [("GFLOP/s", work.operations.and_then(rate)), ("GB/s", rate(work.bytes))];
            more.extend(rates.into_iter().filter_map(|(name, rate)| Some((name.to_owned(), rate?))));
            Some(Event {
                row: 0,
                name: work.kernel.clone(),
                began: span.began,
                seconds: span.seconds,
                more,
            })
        };
        let events = profiled.spans.iter().filter_map(event).collect();
        Events { title: title.to_owned(), rows: vec![row], events }
    }

    /// Who had which sample of a stream. `files` are those of the stages, in order.
    pub fn of_stream<'a>(title: &str, files: impl Iterator<Item = &'a str>, spans: &[Span]) -> Events {
        let files: Vec<&str> = files.collect();
        let all: BTreeMap<Who, usize> = spans.iter().map(|s| (s.who, 0)).collect();
        let places: BTreeMap<Who, usize> =
            all.into_keys().enumerate().map(|(row, who)| (who, row)).collect();
        let copied = |stage| places.contains_key(&Who::Stage { stage, copy: 1 });
        let name = |who: &Who| match *who {
            Who::Source => "reading samples".to_owned(),
            Who::Stage { stage, copy } => {
                let file = files.get(stage).copied().unwrap_or_default();
                match copied(stage) {
                    true => format!("stage {stage} ({file}), copy {copy}"),
                    false => format!("stage {stage} ({file})"),
                }
            }
            Who::Sink => "writing results".to_owned(),
        };
        let rows = places.keys().map(name).collect();
        let event = |s: &Span| Event {
            row: places[&s.who],
            name: format!("sample {}", s.sample),
            began: s.began.as_secs_f64(),
            seconds: s.took.as_secs_f64(),
            more: Map::new(),
        };
        let mut events: Vec<Event> = spans.iter().map(event).collect();
        events.sort_by(|a, b| a.row.cmp(&b.row).then(a.began.total_cmp(&b.began)));
        Events { title: title.to_owned(), rows, events }
    }

    /// Them as JSON, an event a line.
    pub fn text(&self) -> String {
        let about = |what: &str, row: usize, told: Value| json!({ "ph": "M", "name": what, "pid": PROCESS, "tid": row + 1, "args": told });
        let mut lines = vec![about("process_name", 0, json!({ "name": self.title }))];
        for (row, name) in self.rows.iter().enumerate() {
            lines.push(about("thread_name", row, json!({ "name": name })));
            lines.push(about("thread_sort_index", row, json!({ "sort_index": row })));
        }
        lines.extend(self.events.iter().map(|e| {
            json!({ "ph": "X", "name": e.name, "pid": PROCESS, "tid": e.row + 1, "ts": microseconds(e.began), "dur": microseconds(e.seconds), "args": e.more })
        }));
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        format!("{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{}\n]}}\n", lines.join(",\n"))
    }
}

/// To whole nanoseconds.
fn microseconds(seconds: f64) -> f64 {
    rounded(seconds * 1e6, 1e3)
}

fn rounded(value: f64, to: f64) -> f64 {
    (value * to).round() / to
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Work;
    use std::time::Duration;

    fn read(events: &Events) -> Vec<Value> {
        let all: Value = serde_json::from_str(&events.text()).unwrap();
        all["traceEvents"].as_array().unwrap().clone()
    }

    #[test]
    fn kernels_are_told_with_nodes_and_rates() {
        let work = Work {
            kernel: "conv".into(),
            sources: vec!["Conv:\"a\"".into()],
            shapes: "conv f32[1] f32[1] -> f32[1]".into(),
            operations: Some(4_000),
            bytes: 0,
        };
        let at = |began, seconds| native::Span { kernel: 0, began, seconds };
        let profiled = Profiled {
            outputs: vec![],
            kernels: vec![(work, 3e-6)],
            spans: vec![at(1e-6, 2e-6), at(4e-6, 1e-6)],
            threads: 2,
        };
        let events = read(&Events::of_kernels("m.onnx", &profiled));
        assert_eq!(events[0]["args"]["name"], "m.onnx");
        assert_eq!(events[1]["args"]["name"], "kernels, each shared between 2 threads");
        let [first, second] = &events[3..] else { panic!("{events:?}") };
        assert_eq!((&first["ph"], &first["ts"], &first["dur"]), (&json!("X"), &json!(1.0), &json!(2.0)));
        // Two rounds, half of the operations in each.
        assert_eq!((&first["args"]["GFLOP/s"], &second["args"]["GFLOP/s"]), (&json!(1.0), &json!(2.0)));
        assert_eq!(first["args"]["ONNX nodes"], json!(["Conv:\"a\""]));
        assert!(first["args"]["GB/s"].is_null(), "no bytes are known");
    }

    #[test]
    fn each_copy_of_a_stage_has_a_row() {
        let at = |who, sample, began| Span {
            who,
            sample,
            began: Duration::from_micros(began),
            took: Duration::from_micros(5),
        };
        let spans = [
            at(Who::Sink, 0, 20),
            at(Who::Stage { stage: 1, copy: 1 }, 1, 12),
            at(Who::Stage { stage: 1, copy: 0 }, 0, 10),
            at(Who::Stage { stage: 0, copy: 0 }, 1, 5),
            at(Who::Stage { stage: 0, copy: 0 }, 0, 0),
        ];
        let events = read(&Events::of_stream("plan", ["a", "b"].into_iter(), &spans));
        let rows: Vec<&Value> =
            events.iter().filter(|e| e["name"] == "thread_name").map(|e| &e["args"]["name"]).collect();
        assert_eq!(rows, ["stage 0 (a)", "stage 1 (b), copy 0", "stage 1 (b), copy 1", "writing results"]);
        let spans: Vec<(u64, &str)> = events
            .iter()
            .filter(|e| e["ph"] == "X")
            .map(|e| (e["tid"].as_u64().unwrap(), e["name"].as_str().unwrap()))
            .collect();
        assert_eq!(
            spans,
            [(1, "sample 0"), (1, "sample 1"), (2, "sample 0"), (3, "sample 1"), (4, "sample 0")]
        );
    }
}
