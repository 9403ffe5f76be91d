//! The page is the same twice, loads nothing, stays short, and nothing in a model breaks out of its place.

use super::*;
use crate::joint::Metric;
use crate::joint::{Cost, Level, Point, Score, Tried};
use crate::report::{Entry, Quality, Range, Reason, Verdict};

const HOSTILE: &str =
    "\"'></td><script>alert(1)</script><!--BODY--><style>*{}</style><img src=x onerror=y>&amp;";

fn entry(name: &str, bytes: usize, verdict: Verdict) -> Entry {
    let weight = Some((format!("{name}.weight"), bytes / 4, 0));
    Entry { name: name.to_owned(), op: "Conv".to_owned(), weight, bytes: Some([bytes, bytes / 4]), verdict }
}

fn quantised(name: &str, bytes: usize) -> Entry {
    let output = Some(Quality { error: 1e-4, deviation: 1.0 });
    let form = "int8, a scale per output".to_owned();
    entry(
        name,
        bytes,
        Verdict::Quantised { form, before: bytes, after: bytes / 4, sqnr: Some(42.0), output },
    )
}

fn left(name: &str, bytes: usize, text: &str) -> Entry {
    let mut out = entry(name, bytes, Verdict::Left { reason: Reason::NotDone, text: text.to_owned() });
    out.bytes = None;
    out
}

fn report(entries: Vec<Entry>) -> Report {
    Report {
        what: "w8".to_owned(),
        entries,
        ranges: vec![Range { name: HOSTILE.to_owned(), low: -1.0, high: 1.0, method: "minmax" }],
        quantisers: vec![],
        products: None,
        bytes: 100,
        bytes_before: 400,
    }
}

fn about() -> About {
    About {
        title: "m.onnx".to_owned(),
        action: "compress".to_owned(),
        command: format!("egret compress '{HOSTILE}'"),
        again: Some("egret compress --recipe".to_owned()),
    }
}

fn joint(name: &str) -> Joint {
    let level = |text: &str| text.parse::<Level>().expect("a level");
    let cost = |bytes, error| Cost { bytes, error };
    let point = |bytes, loss, met| Point {
        bytes,
        time: None,
        kept: 0,
        planned: cost(bytes, loss),
        score: Score { value: 0.9 - loss, loss },
        channels: None,
        levels: vec![level("w8")],
        fits: true,
        met,
    };
    Joint {
        metric: Metric::Top1,
        base: 0.9,
        points: vec![point(60, 0.2, false), point(100, 0.001, true), point(90, f64::NAN, false)],
        chosen: 1,
        untried: vec![cost(300, 0.0), cost(200, 1e-6)],
        tried: vec![Tried {
            index: 1,
            name: name.to_owned(),
            levels: vec![
                (level("dense"), cost(400, 0.0)),
                (level("w8"), cost(110, 1e-4)),
                (level("w4:32"), cost(60, 2e-2)),
            ],
            before: 400,
            chosen: 1,
        }],
        allowed: Some(0.005),
        limit: Some(120),
        pace: None,
        zeros: None,
    }
}

fn searched(report: &Report, joint: &Joint, unmet: Option<&str>) -> String {
    page(&about(), Found { report, joint: Some(joint), recipe: None, unmet })
}

/// The tags of a page, those that begin and those that end.
fn tags(page: &str, name: &str) -> [usize; 2] {
    [format!("<{name}"), format!("</{name}>")].map(|t| {
        page.match_indices(&t)
            .filter(|(at, t)| !page[at + t.len()..].starts_with(|c: char| c.is_ascii_alphanumeric()))
            .count()
    })
}

#[test]
fn equal_outcomes_give_equal_bytes_and_load_nothing() {
    let (report, joint) = (report(vec![left("x", 8, "why"), quantised("a", 400)]), joint("a"));
    let page = searched(&report, &joint, None);
    assert!(page == searched(&report, &joint, None));
    let plain = page.replace(&escape(HOSTILE), "");
    for part in [
        "src=", "href=", "@import", "url(", "http:", "https:", "fetch(", "<script", "<!--", "NaN.",
        "onerror",
    ] {
        assert!(!plain.contains(part), "the page has `{part}`");
    }
    assert!(page.contains("default-src 'none'; style-src 'unsafe-inline'"));
    for name in [
        "table", "tr", "td", "th", "details", "summary", "section", "svg", "text", "div", "span", "pre",
        "p", "b",
    ] {
        let [begin, end] = tags(&page, name);
        // Tables of a head and a body have both apart.
        assert_eq!(begin, end, "{name}");
    }
}

#[test]
fn names_cannot_leave_their_place() {
    let report = report(vec![left(HOSTILE, 8, HOSTILE), quantised(HOSTILE, 400)]);
    let title = About { title: HOSTILE.to_owned(), ..about() };
    let joint = joint(HOSTILE);
    let found = Found { report: &report, joint: Some(&joint), recipe: None, unmet: Some(HOSTILE) };
    let page = page(&title, found);
    for part in ["<script", "<img", "<style>*", "<!--", "'></td><"] {
        assert!(!page.contains(part), "the page has `{part}`");
    }
    assert_eq!(tags(&page, "style"), [1, 1]);
    assert_eq!(tags(&page, "script"), [0, 0]);
    assert!(page.contains(&format!("<title>{} · Egret</title>", escape(HOSTILE))));
    // The layer that was done, the one that was left and why, the value, the command, the heading, the goal.
    assert!(
        page.matches("&lt;script&gt;alert(1)").count() >= 7,
        "{}",
        page.matches("&lt;script&gt;").count()
    );
}

#[test]
fn the_page_tells_what_the_outcome_knows() {
    let (report, joint) =
        (report(vec![left("x", 8, "it is inside a function"), quantised("a", 400)]), joint("a"));
    let page = searched(&report, &joint, None);
    for part in [
        "The goal is met.",
        "top1 89.90 %",
        "the original 90.00 %",
        "budget met",
        "0.50 points of top1 allowed, 0.10 points of top1 lost",
        "size met",
        "at most 120 bytes",
        "400 → 100",
        "<b>w8</b><br>int8, a scale per output",
        "42.0",
        "1.000e-4",
        "40.0",
        "w4:32 takes 50 bytes less",
        "3 levels tried",
        "no, not on the curve: 60 bytes lose no more",
        "yes, this one",
        "<td>dense (as it was)</td>",
        "it is inside a function",
        "not done yet",
        "egret compress --recipe",
    ] {
        assert!(page.contains(part), "no `{part}`");
    }
    // The original and two copies; the third has no value. Of the sums one copy has none, and no error has no logarithm.
    assert_eq!(page.matches("<circle").count(), 3 + 3);
    let unmet = searched(&report, &joint, Some("1 bytes are not reached"));
    assert!(
        unmet.contains("The goal is not met</b>: 1 bytes are not reached.") && !unmet.contains("is met.<")
    );
    // Without a search there is neither a goal nor a curve.
    let plain = super::page(&about(), &report);
    assert!(plain.contains("SQNR of outputs") && !plain.contains("why not more"), "no column is empty");
    assert!(!plain.contains("<svg") && !plain.contains("goal") && plain.contains("400 → 100"));
}

#[test]
fn of_very_many_layers_the_largest_stand_open_and_the_smallest_are_a_sum() {
    let many = 200_000;
    let mut entries: Vec<Entry> = (0..many).map(|i| quantised(&format!("q{i}."), 4 * (1 + i))).collect();
    entries.extend((0..many).map(|i| left(&format!("l{i}."), 8, "it is inside a function")));
    let page = super::page(&about(), &report(entries));
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    let open = page.split("the next 1,000 layers").next().expect("a part");
    assert!(open.contains("<b>q199999.</b>") && !open.contains("<b>q199000.</b>"));
    assert!(page.contains("<b>q199000.</b>") && !page.contains("<b>q0.</b>"));
    assert!(page.contains("and 198,960 smaller layers, ") && page.contains("200,000 left"));
    assert!(page.contains("400,000 contractions"));
    // A few more than stand open need no fold.
    let few = super::page(&about(), &report((0..44).map(|i| quantised(&format!("q{i}."), 8)).collect()));
    assert!(few.contains("<b>q43.</b>") && !few.contains("the next"));
}
