//! Commands to the runner of GitHub's workflows: `::error file=..,line=..,title=..::message`, at the line that asks.

use super::COMPILES;
use crate::gate::Place;
use crate::plain::plain;
use crate::report::Report;
use std::fmt::Write as _;

pub fn write(report: &Report) -> String {
    let mut out = String::new();
    for m in &report.models {
        if let Err(e) = &m.outcome {
            error(&mut out, &m.model, None, COMPILES, &format!("{}: {}", m.model, e.message));
        }
        for v in m.failed() {
            let message = format!("{}: {}", m.model, v.sentence());
            match &v.gate.place {
                Place::File { file, line } => {
                    error(&mut out, file, Some(*line), &v.gate.check.id(), &message)
                }
                Place::CommandLine => error(&mut out, &m.model, None, &v.gate.check.id(), &message),
            }
        }
    }
    out
}

fn error(out: &mut String, file: &str, line: Option<usize>, id: &str, message: &str) {
    let line = line.map_or(String::new(), |line| format!(",line={line}"));
    let lines: Vec<String> = message.lines().map(plain).collect();
    let _ = writeln!(
        out,
        "::error file={}{line},title={}::{}",
        property(&plain(file)),
        property(&format!("egret gate: {}", plain(id))),
        data(&lines.join("\n"))
    );
}

/// A message: what ends a command is escaped.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property: what ends one too.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
