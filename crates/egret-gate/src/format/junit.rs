//! JUnit's XML: a suite a model, a test case a gate. No times: two runs of the same have the same report.

use super::{COMPILES, TOOL};
use crate::plain::plain;
use crate::report::Report;
use std::fmt::Write as _;

pub fn write(report: &Report) -> String {
    let counts = |m: &crate::report::ModelReport| match &m.outcome {
        Ok(verdicts) => (verdicts.len() + 1, m.failed().count(), 0),
        Err(_) => (1, 0, 1),
    };
    let (tests, failures, errors) =
        report.models.iter().map(counts).fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"{TOOL}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
    );
    for m in &report.models {
        let (tests, failures, errors) = counts(m);
        let name = escaped(&m.model);
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
        );
        let case = |id: &str| format!("    <testcase classname=\"{name}\" name=\"{}\"", escaped(id));
        match &m.outcome {
            Err(e) => {
                let (first, all) = (e.message.lines().next().unwrap_or_default(), lines(&e.message));
                let _ = writeln!(
                    out,
                    "{}>\n      <error type=\"exit code {}\" message=\"{}\">{all}</error>\n    </testcase>",
                    case(COMPILES),
                    e.kind.exit_code(),
                    escaped(first)
                );
            }
            Ok(verdicts) => {
                let _ = writeln!(out, "{}/>", case(COMPILES));
                for v in verdicts {
                    let case = case(&v.gate.check.id());
                    let _ = match v.passed {
                        true => writeln!(out, "{case}/>"),
                        false => writeln!(
                            out,
                            "{case}>\n      <failure type=\"gate\" message=\"{}\">{}</failure>\n    </testcase>",
                            escaped(&v.message),
                            lines(&v.sentence())
                        ),
                    };
                }
            }
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Text between tags; lines stay lines.
fn lines(text: &str) -> String {
    text.lines().map(escaped).collect::<Vec<_>>().join("\n")
}

/// A text without characters that XML has no form of, and with those that it reads otherwise as entities (`>` too, for `]]>`).
fn escaped(text: &str) -> String {
    let text = plain(text);
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&apos;")
}
