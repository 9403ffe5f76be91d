//! Reports about names that were made to break them.

use super::Format;
use crate::deny::Deny;
use crate::gate::{Check, Figure, Gate, Place};
use crate::judge::Verdict;
use crate::report::{ModelReport, Report};
use egret::Error;
use serde_json::Value;

/// What ends an XML element, a CDATA section, a command of GitHub, a line, a text in JSON; colours of terminals; a right-to-left override.
const HOSTILE: &str = "a]]><b attr=\"x\">&amp;'\n::error::\r\u{0}\u{1b}[31m\u{202e}\u{fffe}%0A, ü\u{fffd}";

fn report() -> Report {
    let verdict = |check, passed, place| Verdict {
        gate: Gate { check, place },
        found: 5,
        passed,
        message: "size: 5 bytes is over the budget of 4 bytes by 1 bytes (25.0 %)".into(),
        explain: format!("egret inspect {}", crate::plain::plain(HOSTILE)),
    };
    let file = || Place::File { file: "mo dels/e:1,.toml".into(), line: 7 };
    let size = Check::Budget { figure: Figure::Size, limit: 4 };
    let deny = Check::Deny(Deny::parse("missed=attention").expect("a denial"));
    Report {
        models: vec![
            ModelReport {
                model: HOSTILE.into(),
                target: "x86-64-v3".into(),
                outcome: Ok(vec![
                    verdict(size, false, file()),
                    verdict(deny.clone(), true, file()),
                    verdict(deny, false, Place::CommandLine),
                ]),
            },
            ModelReport {
                model: "b.onnx".into(),
                target: "x86-64-v3".into(),
                outcome: Err(Error::unsupported(format!("node {HOSTILE}\nsecond line"))),
            },
        ],
    }
}

#[test]
fn a_line_of_text_is_a_gate() {
    let text = Format::Text.write(&report());
    assert!(!text.contains(['\u{1b}', '\u{0}', '\r', '\u{202e}']), "{text:?}");
    assert_eq!(
        text.lines().filter(|l| l.starts_with("  FAILED  ") || l.starts_with("  ok      ")).count(),
        4
    );
}

#[test]
fn a_command_of_github_is_a_line() {
    let text = Format::Github.write(&report());
    let lines: Vec<&str> = text.split('\n').filter(|l| !l.is_empty()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines.iter().all(|l| l.starts_with("::error file=")), "{text}");
    assert!(
        lines[0]
            .starts_with("::error file=mo dels/e%3A1%2C.toml,line=7,title=egret gate%3A budget/size::a]]>"),
        "{text}"
    );
    assert!(lines[0].contains("%250A"), "a percent sign of a name is not an escape: {text}");
    assert!(lines[2].contains("%0Asecond line"), "{text}");
    assert!(!text.contains(['\r', '\u{1b}', '\u{0}']));
}

/// The text of every element and attribute of an XML document that is well formed; a reader of no more than what is written here.
fn texts_of_xml(xml: &str) -> Result<Vec<String>, String> {
    let entities = |text: &str| -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('&') {
            out.push_str(&rest[..at]);
            let end = rest[at..].find(';').ok_or("an entity without end")?;
            out.push(match &rest[at..=at + end] {
                "&amp;" => '&',
                "&lt;" => '<',
                "&gt;" => '>',
                "&quot;" => '"',
                "&apos;" => '\'',
                other => return Err(format!("the entity {other}")),
            });
            rest = &rest[at + end + 1..];
        }
        Ok(out + rest)
    };
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    if let Some(c) = xml.chars().find(|c| !legal(*c)) {
        return Err(format!("the character {c:?}"));
    }
    let mut rest =
        xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").ok_or("no declaration")?;
    let (mut open, mut out) = (vec![], vec![]);
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        if text.contains("]]>") {
            return Err("]]> in a text".into());
        }
        out.push(entities(text)?);
        let end = rest[at..].find('>').ok_or("a tag without end")?;
        let tag = &rest[at + 1..at + end];
        rest = &rest[at + end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}>"));
            }
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |t| (t, true));
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        while !attributes.trim().is_empty() {
            let (_, value) = attributes.split_once("=\"").ok_or("an attribute without value")?;
            let (value, more) = value.split_once('"').ok_or("a value without end")?;
            out.push(entities(value)?);
            attributes = more;
        }
        if !closed {
            open.push(name);
        }
    }
    match open.is_empty() {
        true => Ok(out),
        false => Err(format!("{open:?} are open")),
    }
}

#[test]
fn junit_is_well_formed_and_a_case_is_a_gate() {
    let xml = Format::Junit.write(&report());
    let texts = texts_of_xml(&xml).unwrap_or_else(|e| panic!("{e}:\n{xml}"));
    assert!(texts.contains(&crate::plain::plain(HOSTILE)), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), 5, "{xml}");
    assert!(
        xml.contains("<testsuites name=\"egret gate\" tests=\"5\" failures=\"2\" errors=\"1\">"),
        "{xml}"
    );
    // The reader refuses what would not be well formed.
    for wrong in ["<a>", "<a b=\"&x;\"/>", "</a>", "<a>\u{1}</a>", "<a>]]></a>"] {
        let xml = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{wrong}");
        assert!(texts_of_xml(&xml).is_err(), "{wrong}");
    }
}

/// What sarif-schema-2.1.0.json says of the properties that are written: it closes every object (`additionalProperties: false`),
/// requires `version` and `runs` of a log, `tool` of a run, `driver` of a tool, `name` of a driver, `id` of a rule, `message` of a result.
fn check_sarif(log: &Value) -> Result<(), String> {
    fn object(value: &Value, needed: &[&str], allowed: &[&str]) -> Result<(), String> {
        let map = value.as_object().ok_or_else(|| format!("{value} is no object"))?;
        if let Some(key) =
            map.keys().find(|k| !needed.contains(&k.as_str()) && !allowed.contains(&k.as_str()))
        {
            return Err(format!("`{key}` is not in the schema"));
        }
        match needed.iter().find(|k| !map.contains_key(**k)) {
            Some(key) => Err(format!("`{key}` is missing")),
            None => Ok(()),
        }
    }
    let message = |m: &Value| -> Result<(), String> {
        object(m, &["text"], &["markdown", "id", "arguments"])?;
        m["text"].as_str().map(drop).ok_or_else(|| "`text` is no text".into())
    };
    let list = |v: &Value| v.as_array().cloned().ok_or_else(|| format!("{v} is no list"));
    object(log, &["version", "runs"], &["$schema"])?;
    if log["version"] != "2.1.0" {
        return Err("the version".into());
    }
    for run in list(&log["runs"])? {
        object(&run, &["tool"], &["results", "columnKind"])?;
        if run["columnKind"] != "unicodeCodePoints" {
            return Err("columnKind is utf16CodeUnits or unicodeCodePoints".into());
        }
        object(&run["tool"], &["driver"], &[])?;
        let driver = &run["tool"]["driver"];
        object(driver, &["name"], &["version", "semanticVersion", "informationUri", "rules"])?;
        let rules = list(&driver["rules"])?;
        let mut ids: Vec<&str> = vec![];
        for rule in &rules {
            object(rule, &["id"], &["shortDescription", "defaultConfiguration"])?;
            message(&rule["shortDescription"])?;
            ids.push(rule["id"].as_str().ok_or("an id is a text")?);
        }
        if ids.windows(2).any(|w| w[0] >= w[1]) {
            return Err("rules are unique".into());
        }
        for result in list(&run["results"])? {
            object(&result, &["message"], &["ruleId", "ruleIndex", "level", "locations"])?;
            message(&result["message"])?;
            if !["none", "note", "warning", "error"].map(Value::from).contains(&result["level"]) {
                return Err("the level".into());
            }
            let index =
                result["ruleIndex"].as_u64().and_then(|i| usize::try_from(i).ok()).ok_or("ruleIndex")?;
            if ids.get(index).copied() != result["ruleId"].as_str() {
                return Err("ruleId is that of ruleIndex".into());
            }
            for location in list(&result["locations"])? {
                object(&location, &[], &["physicalLocation", "logicalLocations"])?;
                let at = &location["physicalLocation"];
                object(at, &["artifactLocation"], &["region"])?;
                object(&at["artifactLocation"], &["uri"], &[])?;
                let uri = at["artifactLocation"]["uri"].as_str().ok_or("a uri is a text")?;
                let reserved = |c: char| c.is_ascii_alphanumeric() || "-._~/%:".contains(c);
                if !uri.chars().all(reserved) || (uri.contains(':') && !uri.starts_with("file:///")) {
                    return Err(format!("{uri} is no reference"));
                }
                if let Some(region) = at.get("region") {
                    object(region, &[], &["startLine"])?;
                    if region["startLine"].as_u64().is_none_or(|n| n == 0) {
                        return Err("startLine is at least 1".into());
                    }
                }
                for logical in list(&location["logicalLocations"])? {
                    object(&logical, &[], &["name", "kind"])?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn sarif_has_the_structure_of_its_schema() {
    let text = Format::Sarif.write(&report());
    let log: Value = serde_json::from_str(&text).expect("JSON");
    check_sarif(&log).unwrap_or_else(|e| panic!("{e}:\n{text}"));
    let results = log["runs"][0]["results"].as_array().expect("results");
    assert_eq!(results.len(), 3);
    let at = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(at["artifactLocation"]["uri"], "mo%20dels/e%3A1%2C.toml");
    assert_eq!(at["region"]["startLine"], 7);
    assert_eq!(results[2]["ruleId"], "compiles");
    let nothing: Value = serde_json::from_str(&Format::Sarif.write(&Report::default())).expect("JSON");
    check_sarif(&nothing).expect("a log without results");
    for (key, wrong) in [("version", Value::from("2.0.0")), ("extra", Value::Null), ("runs", Value::Null)] {
        let mut log = log.clone();
        log[key] = wrong;
        assert!(check_sarif(&log).is_err(), "{key}");
    }
}

#[test]
fn json_has_every_gate() {
    let log: Value = serde_json::from_str(&Format::Json.write(&report())).expect("JSON");
    assert_eq!(log["passed"], false);
    assert_eq!(log["models"][0]["model"], HOSTILE);
    assert_eq!(log["models"][0]["gates"].as_array().map(Vec::len), Some(3));
    assert_eq!(log["models"][0]["gates"][0]["asked"], 4);
    assert_eq!(log["models"][1]["error"]["exit_code"], 2);
}

#[test]
fn an_error_goes_before_a_failed_gate() {
    let error = report().verdict().unwrap_err();
    assert_eq!(error.kind.exit_code(), 2);
    let mut failed = report();
    failed.models.truncate(1);
    assert_eq!(failed.verdict().unwrap_err().kind.exit_code(), 3);
    failed.models.clear();
    assert!(failed.verdict().is_ok() && failed.passed());
}
