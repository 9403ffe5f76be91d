//! An `egret.toml` of what models take now, for who begins to hold them against budgets.

use crate::config::FILE;
use crate::gate::{Check, Figure, Gate, Place};
use crate::measure::measure;
use crate::settings::Settings;
use crate::units::Unit;
use egret::ir::Dim;
use egret::source::Request;
use egret::{Options, Result, shapes};
use std::fmt::Write;

/// What is asked of figures that follow from model, settings and compiler alone; a compile time is of a machine and a moment.
const FIGURES: [Figure; 5] =
    [Figure::Size, Figure::Arena, Figure::Kernels, Figure::Weights, Figure::EstimatedTime];

/// The part of an `egret.toml` about one model.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The model, by its path from the folder of the file.
    pub path: String,
    /// How it is compiled.
    pub settings: Settings,
    /// What it takes, in the units of the figures.
    pub figures: Vec<(Figure, u64)>,
}

impl Proposal {
    /// Compile a model and see what it takes: all that can have a budget, but for the memory of a run where that depends on free dims.
    ///
    /// # Errors
    /// What the compiler refuses.
    pub fn of(path: String, settings: Settings, request: &Request, options: &Options) -> Result<Proposal> {
        let any =
            |figure| Gate { check: Check::Budget { figure, limit: u64::MAX }, place: Place::CommandLine };
        let asked = FIGURES.into_iter().filter(|f| *f != Figure::Arena).map(any);
        let measured = measure(request, options, &asked.collect::<Vec<_>>())?;
        let known = |f: &Figure| *f != Figure::Arena || measured.free.is_empty();
        let found = FIGURES.into_iter().filter(known);
        let figures = found.filter_map(|f| Some((f, measured.figure(f)?))).collect();
        Ok(Proposal { path, settings, figures })
    }
}

/// The text of an `egret.toml` with budgets that have room for a twentieth more than models take.
pub fn propose(proposals: &[Proposal]) -> String {
    let mut out = format!(
        "# {FILE}: what the models beside it take, behind each budget, and a twentieth more.\n\
         # `egret gate` holds them against it; `egret compile` and egret-build take the settings before the budgets.\n"
    );
    for p in proposals {
        let path = quoted(&p.path);
        let _ = write!(out, "\n[model.{path}]\n{}\n[model.{path}.budget]\n", settings(&p.settings));
        for (figure, found) in &p.figures {
            let limit = figure.unit().above(with_room(*found));
            let limit = if figure.unit() == Unit::Count { limit } else { quoted(&limit) };
            let line = format!("{} = {limit}", figure.name());
            let _ = writeln!(out, "{line:<28} # {}", figure.unit().text(*found));
        }
    }
    out
}

fn with_room(found: u64) -> u64 {
    found.saturating_add(found.div_ceil(20))
}

/// The lines that say how a model is compiled.
fn settings(s: &Settings) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(out, "{key} = {value}");
    };
    s.target.iter().for_each(|target| line("target", quoted(target)));
    s.tier.iter().for_each(|tier| line("tier", quoted(tier.name())));
    s.denormals.iter().for_each(|denormals| line("denormals", quoted(denormals.name())));
    let table = |entries: Vec<String>| format!("{{ {} }}", entries.join(", "));
    if !s.dims.is_empty() {
        let one = |(name, size): (&String, &i64)| format!("{} = {size}", quoted(name));
        line("dims", table(s.dims.iter().map(one).collect()));
    }
    if !s.shapes.is_empty() {
        let one = |(name, shape): (&String, &Vec<Dim>)| {
            format!("{} = {}", quoted(name), quoted(&shapes::spelt(shape)))
        };
        line("shapes", table(s.shapes.iter().map(one).collect()));
    }
    if !s.at_most.is_empty() {
        let one =
            |(name, most): (&String, &Dim)| format!("{} = {}", quoted(name), quoted(&most.to_string()));
        line("at-most", table(s.at_most.iter().map(one).collect()));
    }
    out
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::{Proposal, propose};
    use crate::{Check, Config, Figure, Settings};
    use egret::ir::{Denormals, text};
    use egret::shapes;

    #[test]
    fn what_is_proposed_reads_back_with_room() {
        let settings = Settings {
            target: Some("x86-64-v3".into()),
            tier: Some(egret::Tier::Exact),
            denormals: Some(Denormals::Keep),
            dims: [("a \"b\"\\\u{1}\u{7f}ß".into(), 3)].into(),
            shapes: [("x y".into(), shapes::read("1,?,W").unwrap())].into(),
            at_most: [("u0".into(), text::parse_dim("20*seq + 1").unwrap())].into(),
        };
        let found = [(Figure::Size, 204_317), (Figure::Kernels, 7), (Figure::EstimatedTime, 999)];
        let path = "sub/a b.onnx".to_owned();
        let p = Proposal { path: path.clone(), settings: settings.clone(), figures: found.to_vec() };
        let none = Proposal {
            path: "z.onnx".into(),
            settings: Settings::default(),
            figures: vec![(Figure::Weights, 0)],
        };
        let text = propose(&[p, none]);
        let config = Config::parse("e.toml", &text).expect(&text);
        let rules = config.rules_for(Some(&path));
        assert_eq!(rules.settings, settings);
        let limits: Vec<_> = rules.gates.iter().map(|g| g.check.clone()).collect();
        let budget = |figure, limit| Check::Budget { figure, limit };
        assert_eq!(
            limits,
            [
                budget(Figure::Size, 215_000),
                budget(Figure::Kernels, 8),
                budget(Figure::EstimatedTime, 1_050)
            ],
            "{text}"
        );
        assert!(text.contains("size = \"215KB\"               # 204.32 KB"), "{text}");
        assert_eq!(config.rules_for(Some("z.onnx")).gates[0].check, budget(Figure::Weights, 0));
    }
}
