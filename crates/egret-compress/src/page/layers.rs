//! The layers of the page: what was done to each and what was left, the largest first, the others folded, and of very many the sum.

use crate::joint::{Level, Tried};
use crate::page::words::{bar, decibels, error, percent};
use crate::report::{Entry, Reason, Report, Verdict};
use egret::page::{grouped, text};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Layers that stand open.
const OPEN: usize = 40;
/// Layers behind them that a click shows.
const FOLDED: usize = 1000;

/// A contraction with what the search tried of it.
type Row<'a> = (&'a Entry, Option<&'a Tried>);

/// Bytes before and now; of what is not known none.
fn bytes(entry: &Entry) -> [usize; 2] {
    entry.bytes.unwrap_or_default()
}

/// The largest first; of equal ones as they stand in the model.
fn rows<'a>(report: &'a Report, tried: &'a [Tried], which: impl Fn(&Entry) -> bool) -> Vec<Row<'a>> {
    let tried: BTreeMap<usize, &Tried> = tried.iter().map(|t| (t.index, t)).collect();
    let mut out: Vec<Row<'_>> = (report.entries.iter().enumerate())
        .filter(|(_, e)| which(e))
        .map(|(i, e)| (e, tried.get(&i).copied()))
        .collect();
    out.sort_by_key(|(e, _)| std::cmp::Reverse(bytes(e)[0]));
    out
}

/// A column of layers that something was done to: its head, its class, and its cell.
struct Column<'a> {
    head: &'static str,
    class: &'static str,
    cell: Box<dyn Fn(&Row<'_>) -> String + 'a>,
}

/// What stands where a number was not measured.
const NOTHING: &str = "–";

/// What was done to the layers, if anything was. Columns that would be empty are left out.
pub fn done(report: &Report, tried: &[Tried]) -> Option<String> {
    let rows = rows(report, tried, |e| !matches!(e.verdict, Verdict::Left { .. }));
    let largest = rows.first().map(|(e, _)| bytes(e)[0])?;
    let column = |head, class, cell| Column { head, class, cell };
    let mut columns = vec![
        column("layer", "", Box::new(|row: &Row<'_>| name(row.0)) as Box<dyn Fn(&Row<'_>) -> String>),
        column("bytes", "num right", Box::new(|row: &Row<'_>| size(row.0))),
        column("", "", Box::new(move |row: &Row<'_>| bars(row.0, largest))),
        column("what was done", "", Box::new(|row: &Row<'_>| what(row.0, row.1))),
        column("SQNR of weights, dB", "num right", Box::new(|row: &Row<'_>| of_weights(row.0))),
        column("output error", "num right", Box::new(|row: &Row<'_>| of_outputs(row.0)[0].clone())),
        column("SQNR of outputs, dB", "num right", Box::new(|row: &Row<'_>| of_outputs(row.0)[1].clone())),
        column("why not more", "why", Box::new(|row: &Row<'_>| why(row.0, row.1))),
    ];
    columns.retain(|c| rows.iter().any(|row| !["", NOTHING].contains(&(c.cell)(row).as_str())));
    let head: String =
        columns.iter().map(|c| format!("<th class=\"{}\">{}</th>", c.class, c.head)).collect();
    let cells = |row: &Row<'_>| {
        let cell = |c: &Column<'_>| format!("<td class=\"{}\">{}</td>", c.class, (c.cell)(row));
        format!("<tr>{}</tr>\n", columns.iter().map(cell).collect::<String>())
    };
    Some(folded(&rows, OPEN, &format!("<tr>{head}</tr>"), &cells))
}

fn size(entry: &Entry) -> String {
    let Some([before, now]) = entry.bytes else { return "not known".to_owned() };
    if before == now {
        return grouped(now);
    }
    let part = percent(now, before);
    format!("{} → {}<br><span class=\"quiet\">{part}</span>", grouped(before), grouped(now))
}

fn bars(entry: &Entry, largest: usize) -> String {
    entry.bytes.map_or(String::new(), |[before, now]| bar(before, now, largest))
}

fn of_weights(entry: &Entry) -> String {
    match &entry.verdict {
        Verdict::Quantised { .. } | Verdict::Pruned { .. } if entry.weight.is_some() => {
            decibels(entry.verdict.sqnr())
        }
        _ => NOTHING.to_owned(),
    }
}

/// Error and SQNR.
fn of_outputs(entry: &Entry) -> [String; 2] {
    match entry.verdict.output() {
        Some(q) => [error(q.error), decibels(q.sqnr())],
        None => [NOTHING; 2].map(str::to_owned),
    }
}

/// The node's name, its operator, its weight.
fn name(entry: &Entry) -> String {
    let mut out = format!(
        "<div class=\"name\"><b>{}</b></div><span class=\"quiet\">{}",
        text(&entry.name),
        text(&entry.op)
    );
    if let Some((_, count, _)) = &entry.weight {
        let _ = write!(out, ", {} weights", grouped(*count));
    }
    out + "</span>"
}

fn what(entry: &Entry, tried: Option<&Tried>) -> String {
    let level = tried.and_then(|t| t.levels.get(t.chosen)).map(|(l, _)| format!("<b>{l}</b><br>"));
    let change = |a: usize, b: usize| match a == b {
        true => grouped(a),
        false => format!("{} → {}", grouped(a), grouped(b)),
    };
    let words = match &entry.verdict {
        Verdict::Quantised { form, .. } => text(form),
        Verdict::Pruned { pattern, before, after, .. } => {
            format!("{pattern}: {} weights that are not 0", change(*before, *after))
        }
        Verdict::Narrowed { was, is, .. } => format!(
            "outputs {}, inputs {}, multiply-adds {}",
            change(was.outputs, is.outputs),
            change(was.inputs, is.inputs),
            change(was.products, is.products)
        ),
        Verdict::Left { .. } => String::new(),
    };
    level.unwrap_or_default() + &words
}

fn why(entry: &Entry, tried: Option<&Tried>) -> String {
    let stays = match &entry.verdict {
        Verdict::Narrowed { stays: Some(stays), .. } => format!("outputs stay: {}", text(stays)),
        _ => String::new(),
    };
    tried.map_or(stays, levels)
}

/// Why it has no smaller level, and what each level came to.
fn levels(tried: &Tried) -> String {
    let mut out = text(&tried.why_not_smaller());
    let _ = write!(
        out,
        "<details class=\"more\"><summary>{} levels tried</summary><table class=\"list\"><tr><th>level</th><th>bytes</th>\
         <th>output error, alone</th><th>SQNR, dB</th></tr>",
        tried.levels.len()
    );
    for (i, (level, cost)) in tried.levels.iter().enumerate() {
        let class = if i == tried.chosen { " class=\"chosen\"" } else { "" };
        let sqnr = (cost.error > 0.0).then(|| -10.0 * cost.error.log10());
        let mark = if *level == Level::Dense { " (as it was)" } else { "" };
        let _ = write!(
            out,
            "<tr{class}><td>{level}{mark}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>",
            grouped(cost.bytes),
            error(cost.error),
            decibels(sqnr)
        );
    }
    out + "</table></details>"
}

/// What was left alone, by reason, those with the most bytes first.
pub fn left(report: &Report, tried: &[Tried]) -> Option<String> {
    let mut reasons: BTreeMap<Reason, Vec<Row<'_>>> = BTreeMap::new();
    for row in rows(report, tried, |e| matches!(e.verdict, Verdict::Left { .. })) {
        if let Verdict::Left { reason, .. } = row.0.verdict {
            reasons.entry(reason).or_default().push(row);
        }
    }
    let sum = |rows: &[Row<'_>]| rows.iter().map(|(e, _)| bytes(e)[0]).sum::<usize>();
    let mut reasons: Vec<(Reason, Vec<Row<'_>>)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, rows)| std::cmp::Reverse(sum(rows)));
    let mut out = String::new();
    let few = report.left(false).values().sum::<usize>() <= OPEN;
    for (reason, rows) in &reasons {
        let head = "<tr><th>layer</th><th class=\"right\">bytes</th><th>why</th></tr>";
        let bytes = match sum(rows) {
            0 => String::new(),
            n => format!(", {} bytes", grouped(n)),
        };
        let _ = writeln!(
            out,
            "<details class=\"fold\"{}><summary><b>{}</b> <span class=\"quiet\">{} left{bytes}</span></summary>{}</details>",
            if few { " open" } else { "" },
            reason.name(),
            grouped(rows.len()),
            folded(rows, OPEN, head, &left_row)
        );
    }
    (!out.is_empty()).then_some(out)
}

fn left_row((entry, tried): &Row<'_>) -> String {
    let Verdict::Left { text: reason, .. } = &entry.verdict else { return String::new() };
    let size = entry.bytes.map_or("not known".to_owned(), |[before, _]| grouped(before));
    let more = tried.map_or(String::new(), |t| format!(": {}", levels(t)));
    format!(
        "<tr><td>{}</td><td class=\"num right\">{size}</td><td class=\"why\">{}{more}</td></tr>\n",
        name(entry),
        text(reason)
    )
}

/// A table of the first rows, the next behind a fold, and the sum of what is behind those.
fn folded<'a>(rows: &[Row<'a>], open: usize, head: &str, row: &dyn Fn(&Row<'a>) -> String) -> String {
    let table = |rows: &[Row<'a>]| {
        let body: String = rows.iter().map(row).collect();
        format!(
            "<div class=\"wide\"><table class=\"list\"><thead>{head}</thead><tbody>\n{body}</tbody></table></div>"
        )
    };
    // One more is not worth a fold.
    let (first, rest) = rows.split_at(if rows.len() <= open + open / 8 { rows.len() } else { open });
    let (next, others) = rest.split_at(rest.len().min(FOLDED));
    let mut out = table(first);
    let sum = |rows: &[Row<'_>]| {
        let [before, now] = [0, 1].map(|k| rows.iter().map(|(e, _)| bytes(e)[k]).sum::<usize>());
        if before == now {
            format!("{} bytes", grouped(now))
        } else {
            format!("{} → {} bytes", grouped(before), grouped(now))
        }
    };
    if !next.is_empty() {
        let _ = write!(
            out,
            "<details class=\"more rest\"><summary>the next {} layers, {}</summary>{}</details>",
            grouped(next.len()),
            sum(next),
            table(next)
        );
    }
    if !others.is_empty() {
        let _ = write!(
            out,
            "<p class=\"rest quiet\">and {} smaller layers, {}: --format json has all</p>",
            grouped(others.len()),
            sum(others)
        );
    }
    out
}
