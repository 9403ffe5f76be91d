//! Explanations as one self-contained HTML page each: maps over what was explained, by several methods side by side, and attention by layer
//! and head. A page loads nothing and needs no server; equal explanations give equal bytes.

mod attention;
mod attributions;
mod facts;
mod figure;
mod plot;
mod room;

pub use attention::{Seen, attention};
pub use attributions::attributions;

use egret::page::{Page, SHEET, escape, sheet};

const OWN: &str = include_str!("page.css");

/// What a page is about, beside what was found.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The model, in a word: the name of its file.
    pub title: String,
    /// The command that made the page.
    pub command: String,
}

/// The whole page: `data` is JSON that `script` reads.
fn whole(about: &About, what: &str, body: &str, data: &serde_json::Value, script: &str) -> String {
    let run = format!(
        "<section><h2>What was run</h2><pre class=\"command\">{}</pre></section>\n",
        escape(&about.command)
    );
    let style = [SHEET, OWN].concat();
    let body = sheet(&about.title, what, &[body, &run].concat());
    Page { title: &about.title, style: &style, body: &body, pictures: true, script: Some((data, script)) }
        .html()
}

/// A number at the top, and what it is.
fn tile(head: &str, under: &str) -> String {
    format!("<div class=\"tile\"><b>{head}</b><span class=\"quiet\">{under}</span></div>")
}

/// What found no place on a page.
fn left_out(list: &[String]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let items: Vec<String> = list.iter().map(|l| format!("<li>{l}</li>")).collect();
    format!(
        "<div class=\"note warn\" id=\"left-out\"><b>Left out or drawn smaller</b><ul>{}</ul></div>\n",
        items.concat()
    )
}

#[cfg(test)]
mod tests;
