//! The page of attributions: what was explained, and a panel for each method with its maps, how far to believe them, and its largest features.

use super::figure::{figure, own_image};
use super::plot::plot;
use super::room::{MOST, Room};
use super::{About, left_out, tile, whole};
use crate::explanation::Explanation;
use crate::map::Top;
use crate::method::Method;
use crate::numbers::short;
use egret::Result;
use egret::page::{escape, text};
use std::fmt::Write;

const SCRIPT: &str = include_str!("attributions.js");
/// Features in the table of a method.
const FEATURES: usize = 15;

/// The page of one score, explained by one or several methods.
///
/// # Errors
/// A picture that cannot be encoded.
pub fn attributions(about: &About, list: &[(Method, Explanation)]) -> Result<String> {
    within(Room::of(MOST), about, list)
}

/// The page, of pictures for which there is room.
pub(super) fn within(mut room: Room, about: &About, list: &[(Method, Explanation)]) -> Result<String> {
    let mut panels = String::new();
    panels.push_str(&input_panel(list, &mut room)?);
    for (method, found) in list {
        panels.push_str(&panel(method, found, &mut room)?);
    }
    let mut body = tiles(list);
    body.push_str(&left_out(&room.told()));
    body.push_str(
        "<div class=\"controls\"><label id=\"opacity\">Map over the input \
         <input type=\"range\" id=\"over\" min=\"0\" max=\"100\" value=\"60\" aria-label=\"Opacity of the map\"></label>\
         <span><span class=\"swatch for\"></span>speaks for the target</span>\
         <span><span class=\"swatch against\"></span>against it</span>\
         <span class=\"quiet\">each map has its own scale: the strongest colour is its largest attribution</span></div>\n",
    );
    let _ = writeln!(body, "<div class=\"methods\">{panels}</div>");
    let target = list.first().map_or_else(String::new, |(_, f)| f.target.spelt());
    let what = format!("egret attribute: why {}", text(&target));
    Ok(whole(about, &what, &body, &serde_json::Value::Null, SCRIPT))
}

fn tiles(list: &[(Method, Explanation)]) -> String {
    let Some((_, first)) = list.first() else { return String::new() };
    let target = &first.target;
    let mut out = String::from("<div class=\"tiles\">");
    let rank = match &target.largest_of {
        Some((count, _)) => format!("the score, the largest of {count}"),
        None => "the score".into(),
    };
    out.push_str(&tile(&format!("{} = {}", text(&target.spelt()), short(target.score)), &rank));
    if let Some((_, Some((next, score)))) = &target.largest_of {
        out.push_str(&tile(&format!("{} = {}", text(next), short(*score)), "the next largest"));
    }
    let names: Vec<String> = list.iter().map(|(m, _)| escape(&m.to_string())).collect();
    out.push_str(&tile(
        &list.len().to_string(),
        &format!("method{}: {}", if list.len() == 1 { "" } else { "s" }, names.join("; ")),
    ));
    out + "</div>\n"
}

/// The images among the inputs, alone.
fn input_panel(list: &[(Method, Explanation)], room: &mut Room) -> Result<String> {
    let mut figures = String::new();
    let maps = list.first().map_or(&[][..], |(_, f)| &f.maps);
    for map in maps {
        let Some((_, shape, data)) = &map.input else { continue };
        let Some(png) = own_image(shape, data)? else { continue };
        if let Some(url) = room.url(&png) {
            let name = text(&map.name);
            let _ = write!(
                figures,
                "<figure class=\"figure\"><figcaption>{name} {shape:?}</figcaption><div class=\"stack\"><img alt=\"{}\" src=\"{url}\"></div></figure>",
                escape(&map.name)
            );
        }
    }
    Ok(match figures.is_empty() {
        true => figures,
        false => format!("<section class=\"method\" data-input><h2>The input</h2>{figures}</section>"),
    })
}

fn panel(method: &Method, found: &Explanation, room: &mut Room) -> Result<String> {
    let mut out = format!("<section class=\"method\" data-method><h2>{}</h2>", escape(&method.to_string()));
    for map in &found.maps {
        out.push_str(&figure(map, room)?);
    }
    let mut facts = String::new();
    let mut fact = |name: &str, words: &str| {
        let _ = write!(facts, "<dt>{name}</dt><dd>{}</dd>", text(words));
    };
    for note in &found.notes {
        fact("note", note);
    }
    if let Some((name, words)) = found.adds_up(method) {
        fact(if name == "completeness" { "adds up" } else { name }, &words);
    }
    if let (Some(curves), Some([deletion, insertion])) = (&found.curves, found.against_chance()) {
        fact("deletion", &deletion);
        fact("insertion", &insertion);
        fact("curves", &curves.note);
    }
    if let Some(r) = &found.randomised {
        let (words, warning) = r.told();
        fact("permuted", &words);
        warning.iter().for_each(|w| fact("", w));
    }
    if !facts.is_empty() {
        let _ = write!(out, "<dl class=\"facts\">{facts}</dl>");
    }
    if let Some(curves) = &found.curves {
        let _ = write!(
            out,
            "<h3>The score while features are taken away and put back; grey: random orders</h3><div class=\"curves\">{}{}</div>",
            plot("deletion", &curves.deletion),
            plot("insertion", &curves.insertion)
        );
    }
    out.push_str(&features(&found.top(FEATURES)));
    Ok(out + "</section>\n")
}

/// The largest features.
fn features(list: &[Top]) -> String {
    if list.is_empty() {
        return "<p class=\"quiet\">no feature has an attribution other than 0</p>".into();
    }
    let errors = list.iter().any(|t| t.error.is_some());
    let mut out = format!(
        "<h3>Largest attributions</h3><table class=\"list\"><thead><tr><th>feature</th><th class=\"num\">attribution</th><th class=\"num\">value</th>{}</tr></thead><tbody>",
        if errors { "<th class=\"num\">std error</th>" } else { "" }
    );
    for t in list {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"num {}\">{}</td><td class=\"num\">{}</td>{}</tr>",
            text(&t.feature),
            if t.attribution < 0.0 { "neg" } else { "pos" },
            short(t.attribution),
            t.value.map_or_else(|| "-".into(), short),
            match errors {
                true => format!("<td class=\"num\">{}</td>", t.error.map_or_else(|| "-".into(), short)),
                false => String::new(),
            }
        );
    }
    out + "</tbody></table>"
}
