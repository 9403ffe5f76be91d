//! What is asked of the ends of models: wires, shared inputs, outputs to keep and to drop, and that no wires run in a circle.

use crate::part::Part;
use egret::{Error, Result, near};
use std::collections::{BTreeMap, BTreeSet};

/// A value of a part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    /// The part's index.
    pub(crate) part: usize,
    /// The value's name there.
    pub(crate) value: String,
}

impl End {
    /// As the user writes it.
    pub(crate) fn text(&self, parts: &[Part]) -> String {
        format!("{}:{}", parts[self.part].name, self.value)
    }
}

/// A value that is an input of another part.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) from: End,
    pub(crate) to: End,
}

/// One input for several.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) name: String,
    pub(crate) to: Vec<End>,
}

/// Where an input of a part comes from.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Source {
    /// A wire, by its index.
    Wire(usize),
    /// A shared input, by its index.
    Share(usize),
}

/// All of it, checked.
pub(crate) struct Wiring {
    pub(crate) wires: Vec<Wire>,
    pub(crate) shares: Vec<Share>,
    /// Inputs that are given, and by what.
    pub(crate) sources: BTreeMap<End, Source>,
    /// Outputs of the whole, in order.
    pub(crate) outputs: Vec<End>,
}

/// The two ends of a wire as they are written: `a:emb=head:x`. Values may have `=` and `:` in their names.
///
/// # Errors
/// No such models.
pub(crate) fn wire(text: &str, names: &[&str]) -> Result<Wire> {
    let places = text.match_indices('=').map(|(at, _)| text.split_at(at));
    let known: Vec<Wire> = places
        .filter_map(|(from, to)| {
            Some(Wire { from: end(from, names).ok()?, to: end(&to[1..], names).ok()? })
        })
        .collect();
    if let Some(wire) = known.into_iter().next() {
        return Ok(wire);
    }
    let Some((from, to)) = text.split_once('=') else {
        return Err(Error::user("write MODEL:OUTPUT=MODEL:INPUT, e.g. image:features=head:x"));
    };
    end(from, names)?;
    Err(end(to, names).err().unwrap_or_else(|| Error::internal("both ends of the wire are known")))
}

/// `MODEL:VALUE`
pub(crate) fn end(text: &str, names: &[&str]) -> Result<End> {
    let (model, value) = text
        .split_once(':')
        .ok_or_else(|| Error::user(format!("`{text}` is no end of a wire: write MODEL:VALUE")))?;
    let part = names.iter().position(|n| *n == model).ok_or_else(|| {
        Error::user(format!("there is no model `{model}`{}", choice(model, names.iter().copied())))
    })?;
    Ok(End { part, value: value.to_owned() })
}

/// `; there are a, b`, what is nearest first.
fn choice<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let list: Vec<String> = near(wanted, names.iter().copied()).iter().map(|n| format!("`{n}`")).collect();
    let more = if names.len() > list.len() { ", ..." } else { "" };
    if list.is_empty() { String::new() } else { format!("; there are {}{more}", list.join(", ")) }
}

fn inputs_of(part: &Part) -> impl Iterator<Item = &str> {
    part.inputs().iter().map(|i| i.name.as_str())
}

impl Wiring {
    /// Check wires between parts, shared inputs (`image=a:pixels,b:pixels`), and outputs to keep and to drop (`a:emb`).
    ///
    /// # Errors
    /// What does not exist, is given twice or runs in a circle.
    pub(crate) fn new(
        parts: &[Part],
        wires: Vec<(String, Wire)>,
        shares: &[String],
        keep: &[String],
        drop: &[String],
    ) -> Result<Wiring> {
        let names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
        let mut out = Wiring { wires: vec![], shares: vec![], sources: BTreeMap::new(), outputs: vec![] };
        for (text, wire) in wires {
            let place = || format!("--wire {text}");
            has_value(parts, &wire.from).map_err(|e| e.at(place()))?;
            out.give(parts, &wire.to, Source::Wire(out.wires.len())).map_err(|e| e.at(place()))?;
            out.wires.push(wire);
        }
        for text in shares {
            let place = || format!("--share {text}");
            let share = share(text, &names, parts).map_err(|e| e.at(place()))?;
            if out.shares.iter().any(|s| s.name == share.name) {
                let what = format!("two shared inputs are called `{}`; rename one", share.name);
                return Err(Error::user(what).at(place()));
            }
            for to in &share.to {
                out.give(parts, to, Source::Share(out.shares.len())).map_err(|e| e.at(place()))?;
            }
            out.shares.push(share);
        }
        let ends = |list: &[String], option: &str| {
            let one = |text: &String| {
                let end = end(text, &names)?;
                has_value(parts, &end).map(|()| end)
            };
            let all = list.iter().map(|t| one(t).map_err(|e| e.at(format!("{option} {t}"))));
            all.collect::<Result<Vec<End>>>()
        };
        let (keep, drop) = (ends(keep, "--keep")?, ends(drop, "--drop")?);
        for end in &drop {
            let what = match (keep.contains(end), parts[end.part].is_output(&end.value)) {
                (true, _) => "--keep names it too",
                (_, false) => "it is no output, so that there is nothing to drop",
                _ => continue,
            };
            return Err(Error::user(what).at(format!("--drop {}", end.text(parts))));
        }
        out.no_circle(parts)?;
        out.outputs(parts, &keep, &drop)?;
        Ok(out)
    }

    /// Say where an input comes from.
    fn give(&mut self, parts: &[Part], to: &End, source: Source) -> Result<()> {
        let part = &parts[to.part];
        if !part.is_input(&to.value) {
            let why = if part.has(&to.value) { ": it is computed there" } else { "" };
            return Err(Error::user(format!(
                "`{}` has no input `{}`{why}{}",
                part.name,
                to.value,
                choice(&to.value, inputs_of(part))
            )));
        }
        if self.sources.insert(to.clone(), source).is_some() {
            return Err(Error::user(format!(
                "the input `{}` is given twice; one wire or one shared input can give it",
                to.text(parts)
            )));
        }
        Ok(())
    }

    /// What the whole gives: outputs that are not wired, and what is kept.
    fn outputs(&mut self, parts: &[Part], keep: &[End], drop: &[End]) -> Result<()> {
        for (part, p) in parts.iter().enumerate() {
            for o in p.outputs() {
                let end = End { part, value: o.name.clone() };
                let wired = self.wires.iter().any(|w| w.from == end);
                if keep.contains(&end) || !(wired || drop.contains(&end)) {
                    self.outputs.push(end);
                }
            }
            let inner = keep.iter().filter(|e| e.part == part && !p.is_output(&e.value));
            let inner: BTreeSet<End> = inner.cloned().collect();
            self.outputs.extend(inner);
        }
        match self.outputs.is_empty() {
            true => Err(Error::user(
                "nothing is left that the whole gives: all outputs are wired or dropped; --keep MODEL:VALUE keeps one",
            )),
            false => Ok(()),
        }
    }

    /// No value depends on itself.
    fn no_circle(&self, parts: &[Part]) -> Result<()> {
        // The wires that a wire's value depends on.
        let mut before: Vec<Vec<usize>> = vec![];
        for wire in &self.wires {
            let inputs = parts[wire.from.part].behind(&wire.from.value);
            let given = inputs.into_iter().filter_map(|i| {
                match self.sources.get(&End { part: wire.from.part, value: i.to_owned() }) {
                    Some(Source::Wire(w)) => Some(*w),
                    _ => None,
                }
            });
            before.push(given.collect());
        }
        let mut done = vec![false; before.len()];
        for start in 0..before.len() {
            let mut path: Vec<(usize, usize)> = vec![(start, 0)];
            while let Some(&mut (at, ref mut next)) = path.last_mut() {
                match before[at].get(*next) {
                    Some(&wire) => {
                        *next += 1;
                        if let Some(from) = path.iter().position(|(w, _)| *w == wire) {
                            let mut circle: Vec<usize> = path[from..].iter().rev().map(|p| p.0).collect();
                            let first = circle.iter().enumerate().min_by_key(|c| c.1).map_or(0, |c| c.0);
                            circle.rotate_left(first);
                            let wires = circle.into_iter().map(|w| self.wire_text(w, parts));
                            return Err(Error::user(format!(
                                "the wires run in a circle, so that a value depends on itself: {}; leave one out",
                                wires.collect::<Vec<_>>().join(", ")
                            )));
                        }
                        if !done[wire] {
                            path.push((wire, 0));
                        }
                    }
                    None => {
                        done[at] = true;
                        path.pop();
                    }
                }
            }
        }
        Ok(())
    }

    /// A wire as the user writes it.
    pub(crate) fn wire_text(&self, wire: usize, parts: &[Part]) -> String {
        let Wire { from, to } = &self.wires[wire];
        format!("{}={}", from.text(parts), to.text(parts))
    }
}

/// That a part has a value.
pub(crate) fn has_value(parts: &[Part], end: &End) -> Result<()> {
    let part = &parts[end.part];
    if part.has(&end.value) {
        return Ok(());
    }
    Err(Error::user(format!(
        "`{}` has no output `{}`{}",
        part.name,
        end.value,
        choice(&end.value, part.outputs().iter().map(|o| o.name.as_str()))
    )))
}

/// `image=a:pixels,b:pixels`; the names of values may have commas, so that a piece without a model belongs to the one before.
fn share(text: &str, names: &[&str], parts: &[Part]) -> Result<Share> {
    let wrong = || Error::user("write NAME=MODEL:INPUT,MODEL:INPUT, e.g. image=left:pixels,right:pixels");
    let (name, list) =
        text.split_once('=').filter(|(n, l)| !n.is_empty() && !l.is_empty()).ok_or_else(wrong)?;
    let mut pieces: Vec<String> = vec![];
    for piece in list.split(',') {
        match pieces.last_mut() {
            Some(last)
                if !names.iter().any(|n| piece.starts_with(&format!("{n}:")))
                    && inner(last, names, parts) =>
            {
                *last += &format!(",{piece}");
            }
            _ => pieces.push(piece.to_owned()),
        }
    }
    let to = pieces.iter().map(|p| end(p, names)).collect::<Result<Vec<End>>>()?;
    Ok(Share { name: name.to_owned(), to })
}

/// Whether a piece of a list is not the whole of an end.
fn inner(piece: &str, names: &[&str], parts: &[Part]) -> bool {
    end(piece, names).is_ok_and(|e| !parts[e.part].is_input(&e.value))
}
