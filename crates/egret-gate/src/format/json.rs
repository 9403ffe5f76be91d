//! Everything, for programs.

use super::VERSION;
use crate::gate::{Check, Place};
use crate::judge::Verdict;
use crate::report::{ModelReport, Report};
use serde_json::{Value, json};

pub fn write(report: &Report) -> String {
    let models: Vec<Value> = report.models.iter().map(model).collect();
    let all = json!({
        "version": 1,
        "producer": format!("egret {VERSION}"),
        "passed": report.passed(),
        "models": models,
    });
    format!("{all:#}\n")
}

fn model(m: &ModelReport) -> Value {
    let error = m.outcome.as_ref().err();
    let gates: Vec<Value> = m.outcome.iter().flatten().map(gate).collect();
    json!({
        "model": m.model,
        "target": m.target,
        "passed": error.is_none() && m.failed().next().is_none(),
        "error": error.map(|e| json!({ "message": e.message, "exit_code": e.kind.exit_code() })),
        "gates": gates,
    })
}

fn gate(v: &Verdict) -> Value {
    let (limit, unit) = match &v.gate.check {
        Check::Budget { figure, limit } => (*limit, figure.unit().name()),
        Check::Expect { count, .. } => (*count, "count"),
        Check::Deny(_) => (0, "count"),
    };
    let place = match &v.gate.place {
        Place::File { file, line } => json!({ "file": file, "line": line }),
        Place::CommandLine => Value::Null,
    };
    json!({
        "id": v.gate.check.id(),
        "passed": v.passed,
        "found": v.found,
        "asked": limit,
        "unit": unit,
        "place": place,
        "message": v.message,
        "explain": v.explain,
    })
}
