//! The page of attention: maps by layer and head, what a chosen query takes from tokens or patches of an image, entropies, rollout, and what
//! the maps had to do with a score.

use super::figure::own_image;
use super::room::{MOST, Room};
use super::{About, left_out, tile, whole};
use crate::attention::{Layer, Patches, Rollout, Weighted, patches_of};
use crate::numbers::short;
use crate::picture::encode_as;
use egret::ir::{DType, Value};
use egret::page::text;
use egret::source::Prepared;
use egret::{Result, compare};
use serde_json::{Value as Json, json};
use std::fmt::Write;

const SCRIPT: &str = include_str!("attention.js");
/// Tokens a side from which on a map is drawn smaller, a cell the largest of a block.
const SIDE: usize = 512;
/// Layers and heads of the table, and tokens with a label.
const LAYERS: usize = 200;
const HEADS: usize = 64;
const LABELS: usize = 2048;

/// What was seen in a model.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The model and its inputs.
    pub model: &'a Prepared,
    /// Its attentions.
    pub layers: &'a [Layer],
    /// Its rollout, where it has one.
    pub rollout: Option<&'a Rollout>,
    /// Maps by the gradient of a score with their relevance, where it has one.
    pub weighted: Option<(&'a Weighted, Option<&'a Rollout>)>,
}

/// The page of a model's attention.
///
/// # Errors
/// A picture that cannot be encoded.
pub fn attention(about: &About, seen: &Seen) -> Result<String> {
    let Seen { model, layers, rollout, weighted } = *seen;
    let mut room = Room::of(MOST);
    let tokens = layers.first().map_or(0, Layer::keys);
    // What says most of the whole model first, then means, then heads: what comes last may find no room.
    let mut groups: Vec<Json> = vec![];
    if let Some(r) = rollout {
        let map = map("rollout", "all", r.size, r.size, &r.shares, &mut room)?;
        groups.push(group("rollout", "rollout through all layers", map));
    }
    let mut query = 0;
    if let Some((w, Some(r))) = weighted {
        // What tokens have of themselves would outshine all else.
        let others = (0..r.shares.len())
            .map(|i| r.shares[i] - f64::from(i / r.size == i % r.size))
            .collect::<Vec<_>>();
        let map = map("relevance", "all", r.size, r.size, &others, &mut room)?;
        groups.push(group("relevance", &format!("relevance for {}", w.target.spelt()), map));
        query = most(&others, r.size);
    }
    let of_gradients = weighted.map_or(&[][..], |w| &w.0.maps);
    let kinds = [("attention", layers), ("weighted", of_gradients)];
    let first = groups.len();
    for (kind, list) in kinds {
        for (i, layer) in list.iter().enumerate() {
            let mean = map(&layer.name, "mean", layer.queries(), layer.keys(), &layer.mean(), &mut room)?;
            let name = match kind {
                "weighted" => format!("{i} {} by gradient", layer.name),
                _ => format!("{i} {}", layer.name),
            };
            let mut group = group(kind, &name, mean);
            group["layer"] = json!(i);
            groups.push(group);
        }
    }
    let of_groups = kinds.iter().flat_map(|(_, list)| list.iter());
    for (layer, group) in of_groups.zip(&mut groups[first..]) {
        for h in 0..layer.heads() {
            let one =
                map(&layer.name, &h.to_string(), layer.queries(), layer.keys(), layer.head(h)?, &mut room)?;
            if let (Some(one), Some(list)) = (one, group["heads"].as_array_mut()) {
                list.push(one);
            }
        }
    }
    groups.retain(|g| g["heads"].as_array().is_some_and(|h| !h.is_empty()));
    let image = patches_of(model, tokens).map(|p| image(model, p, &mut room)).transpose()?.flatten();
    let labels = labels(model, tokens);
    if tokens > LABELS {
        room.note(format!("labels of tokens after the first {LABELS}"));
    }
    // First the map that tells of all layers, if there is one.
    let data = json!({
        "groups": groups, "tokens": tokens, "labels": labels, "image": image, "start": first.saturating_sub(1), "query": query,
    });
    let body = [
        &tiles(layers, weighted),
        &left_out(&room.told()),
        VIEWER,
        &weights(of_gradients),
        &entropies(layers),
        MEANING,
    ];
    let what = match weighted {
        Some((w, _)) => format!("egret attention: what it had to do with {}", text(&w.target.spelt())),
        None => "egret attention".into(),
    };
    Ok(whole(about, &what, &body.concat(), &data, SCRIPT))
}

/// A layer, or what is of all layers, with its maps.
fn group(kind: &str, name: &str, map: Option<Json>) -> Json {
    json!({ "kind": kind, "name": name, "heads": map.into_iter().collect::<Vec<_>>() })
}

/// The row of the largest sum.
fn most(map: &[f64], columns: usize) -> usize {
    let sums = map.chunks(columns.max(1)).map(|row| row.iter().sum::<f64>()).enumerate();
    sums.fold((0, f64::NEG_INFINITY), |best, (i, sum)| if sum > best.1 { (i, sum) } else { best }).0
}

const VIEWER: &str = r#"<section><div class="controls">
<label>Map <select id="group" aria-label="Layer"></select></label>
<label>Head <select id="head" aria-label="Head"></select></label>
<label>Query <input id="query" type="range" min="0" value="0" aria-label="Query"><span id="query-name" class="num"></span></label>
<label id="opacity">Map over the image <input type="range" id="over" min="0" max="100" value="60" aria-label="Opacity of the map"></label>
</div>
<noscript><p class="note">Maps are drawn by a script that is part of this page; it loads nothing from anywhere.</p></noscript>
<div class="viewer">
<div><h3 id="map-name"></h3><div class="map"><canvas id="map" tabindex="0" aria-label="Map: a row per query, a column per key"></canvas><span id="row"></span></div><p class="axis">down: query, across: key. A click chooses the query. <span id="under-pointer" class="num"></span></p></div>
<div><h3 id="taken"></h3><div id="image" class="stack" hidden><img id="own" alt="The image" class="under"><canvas id="patches" class="over"></canvas></div><p id="image-axis" class="axis" hidden>A click on a patch chooses its token as the query.</p><div id="tokens" class="cells"></div>
<table class="list"><thead><tr><th>key</th><th class="num">takes</th></tr></thead><tbody id="largest"></tbody></table></div>
</div></section>
"#;

const MEANING: &str = "<section><h2>What the numbers mean</h2><p class=\"quiet\">A share is how much of a key's value a query takes; those of a query \
    sum to 1. Maps on this page are rounded to a byte: by 1 % near a map's \
    largest number, by 8 % where it is a ten-thousandth of that. A map by gradient is max(0, share x gradient of the \
    score), not a share: where it is 0, more attention would not have raised the score. Rollout adds to each token the mean of what its heads take, through all layers; \
    relevance does the same with maps by gradient (Chefer, Gur &amp; Wolf 2021), \
    and is shown without the 1 that each token has of itself. Rollout tells where information can flow, relevance where it counted.</p></section>\n";

fn tiles(layers: &[Layer], weighted: Option<(&Weighted, Option<&Rollout>)>) -> String {
    let mut out = String::from("<div class=\"tiles\">");
    let heads: usize = layers.iter().map(Layer::heads).sum();
    let shape = layers
        .first()
        .map_or_else(String::new, |l| format!("the first {:?}: .., heads, queries, keys", l.shape));
    out.push_str(&tile(&format!("{} layers, {heads} heads", layers.len()), &shape));
    if let Some((w, _)) = weighted {
        let spelt = text(&w.target.spelt());
        out.push_str(&tile(
            &format!("{spelt} = {}", short(w.target.score)),
            "the score whose gradient weights maps",
        ));
    }
    let blind: usize = layers.iter().map(Layer::blind).sum();
    if blind > 0 {
        out.push_str(&tile(&blind.to_string(), "queries see no key; they count nowhere"));
    }
    out + "</div>\n"
}

/// A map as JSON: a grey PNG whose pixel of p stands for largest * (p / 255)^4.
fn map(
    layer: &str,
    head: &str,
    queries: usize,
    keys: usize,
    shares: &[f64],
    room: &mut Room,
) -> Result<Option<Json>> {
    if shares.is_empty() {
        return Ok(None);
    }
    let (down, across) = (queries.div_ceil(SIDE), keys.div_ceil(SIDE));
    let (h, w) = (queries.div_ceil(down), keys.div_ceil(across));
    if down * across > 1 {
        room.note(format!("{}: maps of {queries} x {keys} are drawn as {h} x {w}, a cell of which is the largest of {down} x {across}", text(layer)));
    }
    let mut cells = vec![0f64; h * w];
    for (i, &share) in shares.iter().enumerate() {
        let cell = &mut cells[i / keys / down * w + i % keys / across];
        // What sees nothing takes nothing.
        *cell = cell.max(share);
    }
    let largest = cells.iter().copied().fold(0.0, f64::max);
    let byte = |v: &f64| if largest > 0.0 { ((v / largest).powf(0.25) * 255.0).round() as u8 } else { 0 };
    let png = encode_as(png::ColorType::Grayscale, w, h, &cells.iter().map(byte).collect::<Vec<u8>>())?;
    Ok(room.url(&png).map(|url| {
        json!({ "name": head, "png": url, "largest": largest, "rows": h, "columns": w, "down": down, "across": across })
    }))
}

/// The image that tokens are patches of.
fn image(model: &Prepared, found: Patches, room: &mut Room) -> Result<Option<Json>> {
    let Some(own) = model.inputs[found.input].as_tensor() else { return Ok(None) };
    let data = compare::to_f64(own).map_err(egret::Error::user)?;
    let Some(url) = own_image(own.shape(), &data)?.and_then(|png| room.url(&png)) else { return Ok(None) };
    let name = &model.graph.value(model.graph.inputs()[found.input]).name;
    Ok(Some(json!({
        "name": name, "png": url, "extra": found.extra,
        "across": found.width / found.side, "down": found.height / found.side,
    })))
}

/// The ids of tokens: those of the first input of integers that has one for each.
fn labels(model: &Prepared, tokens: usize) -> Option<Vec<String>> {
    let ids = model.inputs.iter().find_map(|value| {
        let Value::Tensor(own) = value else { return None };
        let integer = matches!(own.dtype(), DType::I64 | DType::I32);
        (integer && own.shape().last() == Some(&tokens) && own.len() == tokens)
            .then(|| compare::to_f64(own).ok())?
    })?;
    Some(ids.iter().take(LABELS).map(|id| format!("{id}")).collect())
}

/// Entropies by layer and head; a cell chooses its map.
fn entropies(layers: &[Layer]) -> String {
    let cell = |layer: &Layer, h: usize| {
        let part = layer.entropy(h)? / layer.most_entropy().max(f64::MIN_POSITIVE);
        let part = part.clamp(0.0, 1.0);
        Some((part, format!("{:.0}", 100.0 * part)))
    };
    table(
        "Entropy",
        "in % of that of equal shares: at 0 a head takes all from one token, at 100 the mean of all",
        "attention",
        layers,
        cell,
    )
}

/// Of the sum of all maps by gradient, what each head has.
fn weights(maps: &[Layer]) -> String {
    if maps.is_empty() {
        return String::new();
    }
    let of = |l: &Layer, h: usize| l.head(h).map_or(0.0, |m| m.iter().sum::<f64>());
    let sums = || maps.iter().flat_map(|l| (0..l.heads()).map(move |h| of(l, h)));
    let (all, most) = (sums().sum::<f64>(), sums().fold(0.0, f64::max));
    let cell = |layer: &Layer, h: usize| {
        (all > 0.0).then(|| (of(layer, h) / most, format!("{:.1}", 100.0 * of(layer, h) / all)))
    };
    table(
        "What each head had to do with the score",
        "in % of the sum of all maps by gradient",
        "weighted",
        maps,
        cell,
    )
}

fn table(
    title: &str,
    what: &str,
    kind: &str,
    layers: &[Layer],
    cell: impl Fn(&Layer, usize) -> Option<(f64, String)>,
) -> String {
    let heads = layers.iter().map(Layer::heads).max().unwrap_or(0).min(HEADS);
    let mut out = format!(
        "<section><h2>{title}</h2><p class=\"quiet\">{what}</p><div class=\"wide\"><table class=\"heads\"><thead><tr><th></th>"
    );
    (0..heads).for_each(|h| out.push_str(&format!("<th>h{h}</th>")));
    out.push_str("<th class=\"layer\">layer</th></tr></thead><tbody>");
    for (i, layer) in layers.iter().enumerate().take(LAYERS) {
        let _ = write!(out, "<tr><th>{i}</th>");
        for h in 0..heads {
            match cell(layer, h).filter(|_| h < layer.heads()) {
                Some((part, words)) => {
                    let _ = write!(
                        out,
                        "<td><button type=\"button\" data-kind=\"{kind}\" data-layer=\"{i}\" data-head=\"{h}\" style=\"--t:{part:.3}\">{words}</button></td>"
                    );
                }
                None => out.push_str("<td></td>"),
            }
        }
        let apart = if layer.fused { "" } else { " (a softmax apart)" };
        let _ = write!(out, "<td class=\"layer\">{}{apart}</td></tr>", text(&layer.name));
    }
    out.push_str("</tbody></table></div>");
    if layers.len() > LAYERS || layers.iter().any(|l| l.heads() > HEADS) {
        let _ = write!(
            out,
            "<p class=\"quiet\">the first {LAYERS} layers and {HEADS} heads; <code>--format json</code> has all</p>"
        );
    }
    out + "</section>\n"
}
