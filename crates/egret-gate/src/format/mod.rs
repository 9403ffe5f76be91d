//! Reports as files that people and services read.

mod github;
mod json;
mod junit;
mod sarif;
mod text;

#[cfg(test)]
mod tests;

use crate::report::Report;
use std::str::FromStr;

/// How a report is written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: a line a gate.
    Text,
    /// For programs: everything.
    Json,
    /// Commands to the runner of GitHub's workflows, which shows them beside the lines of the file of gates.
    Github,
    /// SARIF 2.1.0, for code scanning: what fails.
    Sarif,
    /// JUnit's XML, for test reports: a test case a gate.
    Junit,
}

impl Format {
    /// The names of formats.
    pub const NAMES: [&str; 5] = ["text", "json", "github", "sarif", "junit"];

    /// A report in this format; it ends with a newline, or is empty.
    pub fn write(self, report: &Report) -> String {
        match self {
            Format::Text => text::write(report),
            Format::Json => json::write(report),
            Format::Github => github::write(report),
            Format::Sarif => sarif::write(report),
            Format::Junit => junit::write(report),
        }
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(s: &str) -> Result<Format, String> {
        Ok(match s {
            "text" => Format::Text,
            "json" => Format::Json,
            "github" => Format::Github,
            "sarif" => Format::Sarif,
            "junit" => Format::Junit,
            _ => {
                return Err(format!(
                    "no report is written as `{s}`; there are {}",
                    Format::NAMES.join(", ")
                ));
            }
        })
    }
}

/// What the command is called in reports.
const TOOL: &str = "egret gate";

/// The version of Egret.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The gate that every model has without asking: that it can be judged.
const COMPILES: &str = "compiles";
