//! A map over its input: pictures, tokens and small tables as cells, series and large tables as strips.

use super::room::Room;
use crate::map::Map;
use crate::numbers::{short, spelt};
use crate::picture::{AGAINST, FOR, encode_as, gray, places, stretched};
use egret::Result;
use egret::compare::unravel;
use egret::ir::DType;
use egret::page::{escape, text};
use png::ColorType;
use std::fmt::Write;

/// The longest side of a picture: larger ones are drawn smaller by a whole factor.
const SIDE: usize = 640;
/// Elements up to which an input that is no image is drawn as cells.
const CELLS: usize = 1000;
/// Columns from which on rows are drawn as a series with a line, and the most such rows.
const SERIES: usize = 48;
const LINES: usize = 8;

/// A map as HTML.
///
/// # Errors
/// A picture that cannot be encoded.
pub(super) fn figure(map: &Map, room: &mut Room) -> Result<String> {
    let body = match image(map, room)? {
        Some(body) => body,
        None if map.values.len() <= CELLS && !is_series(map) => cells(map),
        None => strip(map, room)?,
    };
    let shape = &map.shape;
    Ok(format!(
        "<figure class=\"figure\"><figcaption>{} {shape:?}, sum {}</figcaption>{body}</figure>",
        text(&map.name),
        short(map.sum())
    ))
}

/// An image input alone, in its colours where it has three; `None` for what is no image.
pub(super) fn own_image(shape: &[usize], data: &[f64]) -> Result<Option<Vec<u8>>> {
    let Some(axes) = places(shape).filter(|p| p.len() == 2) else { return Ok(None) };
    let (height, width) = (shape[axes[0]], shape[axes[1]]);
    let pixels = height * width;
    if shape[0] != 1 || pixels == 0 {
        return Ok(None);
    }
    let channels = data.len() / pixels;
    let shown = if channels == 3 { 3 } else { 1 };
    let last = axes[0] == 1;
    let at = |c: usize, p: usize| data[if last { p * channels + c } else { c * pixels + p }];
    let planes: Vec<Vec<f64>> = match shown {
        3 => (0..3).map(|c| (0..pixels).map(|p| at(c, p)).collect()).collect(),
        _ => {
            let mean = |p: usize| (0..channels).map(|c| at(c, p)).sum::<f64>() / channels.max(1) as f64;
            vec![(0..pixels).map(mean).collect()]
        }
    };
    let factor = factor(height, width);
    let (mut small, mut size) = (vec![], (height, width));
    for plane in &planes {
        let (plane, h, w) = reduced(plane, height, width, factor);
        (small, size) = ([small, plane].concat(), (h, w));
    }
    // One scale for all channels, so that colours stay.
    let grey = stretched(&small);
    let count = size.0 * size.1;
    let bytes: Vec<u8> = (0..count)
        .flat_map(|p| (0..shown).map(move |c| c * count + p))
        .map(|i| (grey[i] * 255.0).round() as u8)
        .collect();
    let colours = if shown == 3 { ColorType::Rgb } else { ColorType::Grayscale };
    encode_as(colours, size.1, size.0, &bytes).map(Some)
}

/// By how much a picture is drawn smaller.
pub(super) fn factor(height: usize, width: usize) -> usize {
    height.max(width).div_ceil(SIDE).max(1)
}

/// Means over blocks.
fn reduced(data: &[f64], height: usize, width: usize, factor: usize) -> (Vec<f64>, usize, usize) {
    let (h, w) = (height.div_ceil(factor), width.div_ceil(factor));
    let mean = |i: usize| {
        let (rows, columns) = (
            i / w * factor..height.min((i / w + 1) * factor),
            i % w * factor..width.min((i % w + 1) * factor),
        );
        let count = rows.len() * columns.len();
        rows.flat_map(|y| columns.clone().map(move |x| data[y * width + x])).sum::<f64>() / count as f64
    };
    ((0..h * w).map(mean).collect(), h, w)
}

/// Colours for and against, the clearer the smaller.
fn heat(data: &[f64], height: usize, width: usize) -> Result<Vec<u8>> {
    let largest = data.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
    let pixel = |v: &f64| {
        let t = strength(*v, largest);
        let [r, g, b] = if *v >= 0.0 { FOR } else { AGAINST };
        [r, g, b, t * 255.0].map(|c| c.round() as u8)
    };
    encode_as(ColorType::Rgba, width, height, &data.iter().flat_map(pixel).collect::<Vec<u8>>())
}

fn strength(v: f64, largest: f64) -> f64 {
    if largest > 0.0 { (v.abs() / largest).powf(0.7) } else { 0.0 }
}

fn image(map: &Map, room: &mut Room) -> Result<Option<String>> {
    if places(&map.shape).is_none_or(|p| p.len() != 2) {
        return Ok(None);
    }
    if map.shape[0] != 1 {
        return Ok(None);
    }
    let Some(sums) = gray(&map.name, &map.shape, &map.values, false)? else { return Ok(None) };
    let factor = factor(sums.height, sums.width);
    let (data, h, w) = reduced(&sums.data, sums.height, sums.width, factor);
    if factor > 1 {
        room.note(format!(
            "{}: drawn as {h} x {w}, a pixel of which is the mean of {factor} x {factor}",
            text(&map.name)
        ));
    }
    let own = match &map.input {
        Some((_, shape, data)) => own_image(shape, data)?,
        None => None,
    };
    let name = escape(&map.name);
    let mut out = String::from("<div class=\"stack\">");
    if let Some(url) = own.and_then(|png| room.url(&png)) {
        let _ = write!(out, "<img class=\"under\" alt=\"{name}\" src=\"{url}\">");
    }
    let Some(url) = room.url(&heat(&data, h, w)?) else {
        return Ok(Some("<p class=\"quiet\">no room for this map</p>".into()));
    };
    // Without its image the map alone makes the height.
    let class = if out.contains("<img") { "over" } else { "alone" };
    let _ = write!(out, "<img class=\"{class}\" alt=\"attributions to {name}\" src=\"{url}\"></div>");
    Ok(Some(out))
}

/// Rows and columns of what is no image.
fn table(map: &Map) -> (usize, usize) {
    let columns = map.shape.last().copied().unwrap_or(1).max(1);
    (map.values.len() / columns, columns)
}

fn is_series(map: &Map) -> bool {
    let (rows, columns) = table(map);
    let float = map
        .input
        .as_ref()
        .is_some_and(|(dtype, ..)| matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64));
    float && columns >= SERIES && rows <= LINES
}

/// An element each, with its own value where the map has the input's shape.
fn cells(map: &Map) -> String {
    let own = map.input.as_ref().filter(|(_, shape, _)| *shape == map.shape);
    let largest = map.values.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
    let mut out = String::from("<div class=\"cells\">");
    for (i, v) in map.values.iter().enumerate() {
        let value = own.map(|(_, _, data)| short(data[i]));
        let name = spelt(&map.name, &unravel(i, &map.shape));
        let _ = write!(
            out,
            "<span class=\"cell {}\" title=\"{}{}: {}\"><i style=\"--t:{:.3}\"></i>{}</span>",
            if *v >= 0.0 { 'f' } else { 'a' },
            escape(&name),
            value.as_ref().map_or_else(String::new, |v| format!(" = {v}")),
            short(*v),
            0.85 * strength(*v, largest),
            value.unwrap_or_else(|| i.to_string())
        );
    }
    out + "</div>"
}

/// Rows of colours; over few rows the lines of the values.
fn strip(map: &Map, room: &mut Room) -> Result<String> {
    let (rows, columns) = table(map);
    let mut out = String::new();
    if map.values.is_empty() {
        return Ok(out);
    }
    if !is_series(map) {
        let factor = factor(rows, columns);
        let (data, h, w) = reduced(&map.values, rows, columns, factor);
        if factor > 1 {
            room.note(format!(
                "{}: drawn as {h} x {w}, a cell of which is the mean of {factor} x {factor}",
                text(&map.name)
            ));
        }
        let Some(url) = room.url(&heat(&data, h, w)?) else { return Ok(out) };
        let _ = write!(
            out,
            "<div class=\"stack\"><img class=\"alone\" alt=\"attributions\" src=\"{url}\"></div>"
        );
        return Ok(out);
    }
    let factor = columns.div_ceil(SIDE).max(1);
    if factor > 1 {
        room.note(format!(
            "{}: drawn as {} columns, each the mean of {factor}",
            text(&map.name),
            columns.div_ceil(factor)
        ));
    }
    let means = |row: &[f64]| -> Vec<f64> {
        row.chunks(factor).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect()
    };
    let heats: Vec<f64> = map.values.chunks(columns).flat_map(means).collect();
    let width = columns.div_ceil(factor);
    let largest = heats.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
    let own = map.input.as_ref().filter(|(_, shape, _)| *shape == map.shape);
    for row in 0..rows {
        // All rows have one scale: a pixel of the largest attribution would tell it, so colours are made here.
        let pixel = |v: &f64| {
            let [r, g, b] = if *v >= 0.0 { FOR } else { AGAINST };
            [r, g, b, strength(*v, largest) * 255.0].map(|c| c.round() as u8)
        };
        let rgba: Vec<u8> = heats[row * width..(row + 1) * width].iter().flat_map(pixel).collect();
        let Some(url) = room.url(&encode_as(ColorType::Rgba, width, 1, &rgba)?) else { continue };
        let line = own.map_or_else(String::new, |(_, _, data)| {
            let values = stretched(&means(&data[row * columns..(row + 1) * columns]));
            let points: Vec<String> =
                values.iter().enumerate().map(|(i, v)| format!("{}.5 {:.2}", i, 38.0 - 36.0 * v)).collect();
            format!(
                "<svg class=\"line\" viewBox=\"0 0 {width} 40\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path d=\"M{}\"/></svg>",
                points.join("L")
            )
        });
        let _ = write!(
            out,
            "<div class=\"stack strip\"><img alt=\"attributions, row {row}\" src=\"{url}\">{line}</div>"
        );
    }
    Ok(out)
}
