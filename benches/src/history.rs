//! How fast Egret was beside other engines, commit by commit: `benches/history/ratios.csv`, and the table made of it.
//!
//! A ratio is the other engine's time / Egret's, both from one interleaved run: above 1 Egret is faster. There are no times and no
//! dates in it, as those of two machines cannot be compared.

use std::fmt::Write as _;

/// First line of the file.
const HEAD: &str = "commit,cpu,threads,peer,model,ratio";

/// At most so many commits have a column in the table: the last ones.
const COLUMNS: usize = 8;

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The commit of Egret, abbreviated.
    pub commit: String,
    /// The machine's CPU.
    pub cpu: String,
    /// Threads of either engine.
    pub threads: u64,
    /// The other engine.
    pub peer: String,
    /// The model, by the name of its case.
    pub model: String,
    /// The other engine's time / Egret's.
    pub ratio: f64,
}

impl Row {
    /// What is measured once for each commit.
    fn key(&self) -> (&str, &str, u64, &str, &str) {
        (&self.commit, &self.cpu, self.threads, &self.peer, &self.model)
    }
}

/// Read the file.
///
/// # Errors
/// The first line that is no row.
pub fn parse(text: &str) -> Result<Vec<Row>, String> {
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, l)| l) != Some(HEAD) {
        return Err(format!("line 1: not `{HEAD}`"));
    }
    let row = |(at, line): (usize, &str)| {
        let fields: Vec<&str> = line.split(',').collect();
        let [commit, cpu, threads, peer, model, ratio] = fields[..] else {
            return Err(format!("line {}: {} fields instead of 6", at + 1, fields.len()));
        };
        let number = |what: &str| format!("line {}: `{what}` is no number", at + 1);
        Ok(Row {
            commit: commit.into(),
            cpu: cpu.into(),
            threads: threads.parse().map_err(|_| number(threads))?,
            peer: peer.into(),
            model: model.into(),
            ratio: ratio.parse().ok().filter(|r: &f64| r.is_finite()).ok_or_else(|| number(ratio))?,
        })
    };
    lines.map(row).collect()
}

/// Write the file.
pub fn print(rows: &[Row]) -> String {
    let mut out = format!("{HEAD}\n");
    for r in rows {
        let _ = writeln!(out, "{},{},{},{},{},{:.2}", r.commit, r.cpu, r.threads, r.peer, r.model, r.ratio);
    }
    out
}

/// The rows of a measurement: `{case: {"ms": {"egret": 1.2, "ort": 1.3, ..}, "egret": {"threads": 1, ..}}, ..}`, medians of interleaved runs,
/// with what `egret bench --json` says.
///
/// # Errors
/// A value of another form; no case with times of Egret and of another engine.
pub fn measured(json: &serde_json::Value, commit: &str, cpu: &str) -> Result<Vec<Row>, String> {
    let field = |text: &str| text.replace([',', '\n'], " ");
    let mut rows = vec![];
    for (case, what) in json.as_object().ok_or("not an object of cases")? {
        let Some(ms) = what["ms"].as_object() else { return Err(format!("{case}: no times `ms`")) };
        // A case that an engine refused has no time of it.
        let Some(own) = ms.get("egret").and_then(|v| v.as_f64()).filter(|v| *v > 0.0) else { continue };
        let threads = what["egret"]["threads"].as_u64().ok_or_else(|| format!("{case}: no `threads`"))?;
        for (peer, time) in ms.iter().filter(|(peer, _)| *peer != "egret") {
            let time = time.as_f64().ok_or_else(|| format!("{case}: the time of {peer} is no number"))?;
            let (commit, cpu) = (commit.to_owned(), field(cpu));
            rows.push(Row {
                commit,
                cpu,
                threads,
                peer: field(peer),
                model: field(case),
                ratio: time / own,
            });
        }
    }
    if rows.is_empty() {
        return Err("no case has a time of Egret and one of another engine".into());
    }
    rows.sort_by(|a, b| a.key().cmp(&b.key()));
    Ok(rows)
}

/// Append rows; those that measure the same again replace what is there.
pub fn add(rows: &mut Vec<Row>, new: Vec<Row>) {
    rows.retain(|old| new.iter().all(|n| n.key() != old.key()));
    rows.extend(new);
}

/// The table: for each CPU, thread count and engine the models, and their ratios at the last commits, oldest first.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "# Egret beside other engines\n\n\
         The other engine's time / Egret's in one interleaved run: above 1 Egret is faster. A column is a commit. Generated from `ratios.csv` by\n\
         `cargo bench-history`; `benches/README.md` says how to measure.\n",
    );
    let mut groups: Vec<(&str, u64, &str)> = vec![];
    for r in rows {
        let group = (r.cpu.as_str(), r.threads, r.peer.as_str());
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for (cpu, threads, peer) in groups {
        let of: Vec<&Row> = rows
            .iter()
            .filter(|r| (r.cpu.as_str(), r.threads, r.peer.as_str()) == (cpu, threads, peer))
            .collect();
        let (mut commits, mut models): (Vec<&str>, Vec<&str>) = (vec![], vec![]);
        for r in &of {
            if !commits.contains(&r.commit.as_str()) {
                commits.push(&r.commit);
            }
            models.push(&r.model);
        }
        models.sort_unstable();
        models.dedup();
        let commits = &commits[commits.len().saturating_sub(COLUMNS)..];
        let plural = if threads == 1 { "" } else { "s" };
        let _ = write!(
            out,
            "\n## {peer}, {threads} thread{plural}, {cpu}\n\n| model | {} |\n",
            commits.join(" | ")
        );
        let _ = writeln!(out, "|---|{}", "---|".repeat(commits.len()));
        for model in models {
            let cell = |commit: &&str| {
                let row = of.iter().find(|r| r.commit == **commit && r.model == model);
                row.map_or("-".to_owned(), |r| format!("{:.2}", r.ratio))
            };
            let cells: Vec<String> = commits.iter().map(cell).collect();
            let _ = writeln!(out, "| {model} | {} |", cells.join(" | "));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_rows() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("history");
        let rows = parse(&std::fs::read_to_string(folder.join("ratios.csv")).unwrap()).unwrap();
        assert_eq!(parse(&print(&rows)), Ok(rows.clone()));
        let page = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        assert!(
            page == table(&rows),
            "benches/history/README.md is behind ratios.csv: cargo bench-history writes it anew"
        );
    }

    #[test]
    fn a_measurement_replaces_an_earlier_one_of_the_same() {
        let json = |ms: f64| serde_json::json!({"net": {"ms": {"egret": 2.0, "ort": ms}, "egret": {"threads": 1}}, "refused": {"ms": {"ort": 1.0}}});
        let mut rows = measured(&json(3.0), "abc", "CPU, fast").unwrap();
        assert_eq!(print(&rows), format!("{HEAD}\nabc,CPU  fast,1,ort,net,1.50\n"));
        add(&mut rows, measured(&json(4.0), "abc", "CPU, fast").unwrap());
        add(&mut rows, measured(&json(4.0), "def", "CPU, fast").unwrap());
        let said: Vec<_> = rows.iter().map(|r| (r.commit.as_str(), r.ratio)).collect();
        assert_eq!(said, [("abc", 2.0), ("def", 2.0)]);
        assert!(table(&rows).contains("| model | abc | def |\n|---|---|---|\n| net | 2.00 | 2.00 |\n"));
        assert!(measured(&serde_json::json!({}), "abc", "CPU").is_err());
        assert!(parse("commit\n").is_err() && parse(&format!("{HEAD}\na,b,1,c,d,fast\n")).is_err());
    }
}
