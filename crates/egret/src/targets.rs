//! What code is for: one target, or in an artifact several levels of its instruction set.

use crate::error::{Error, Result};
use crate::link::Cross;
use crate::options::Options;
use egret_codegen::{Arch, ISAS, System, Target};
use egret_machine::Machine;

/// The target, of which there is one everywhere but in artifacts.
pub(crate) fn target(options: &Options) -> Result<Target> {
    if options.lower.is_empty() {
        return Ok(Target::parse(&options.target)?);
    }
    let names = options.each_level().into_iter().map(|level| level.target).collect::<Vec<_>>().join(",");
    Err(Error::user(format!(
        "{names} are several targets, which only an artifact holds (egret compile, egret-build); name one with --target"
    )))
}

/// The target's full name: triple and CPU features; of several levels all of them.
pub fn target_name(options: &Options) -> Result<String> {
    let names = options.each_level().into_iter().map(|level| Ok(target(&level)?.to_string()));
    Ok(names.collect::<Result<Vec<_>>>()?.join("; "))
}

/// Refuse what is no target, and levels that are none of one instruction set, before anything is optimised for them.
pub fn check_target(options: &Options) -> Result<()> {
    let levels = options.each_level().iter().map(target).collect::<Result<Vec<_>>>()?;
    if levels.len() > 1 {
        check_order(options, &levels)?;
    }
    Ok(())
}

/// The options of a program in this process: of several levels that of the highest which this machine's CPU has, as binding an artifact chooses. One target stays
/// as it is.
///
/// # Errors
/// Levels that are none of one instruction set; the CPU has not even the lowest.
pub fn level_here(options: &Options) -> Result<Options> {
    if options.lower.is_empty() {
        return Ok(options.clone());
    }
    check_target(options)?;
    let here = Target::native()?;
    let mut lowest = "";
    for level in options.each_level().into_iter().rev() {
        let target = target(&level)?;
        if target.arch() == here.arch() && target.features().iter().all(|f| here.has(*f)) {
            return Ok(level);
        }
        lowest = target.isa(true).name;
    }
    let level = here.isa(true).name;
    Err(Error::user(format!(
        "this machine's CPU ({level}) lacks what {lowest} needs, the lowest of the targets; name a lower one"
    )))
}

/// Refuse levels that do not each ask for more than the one before.
fn check_order(options: &Options, levels: &[Target]) -> Result<()> {
    if options.each_level().iter().any(|level| level.target == "native") {
        let level = Target::native()?.isa(true).name;
        return Err(Error::user(format!(
            "`native` is no level of an artifact: it is what one machine has; name a level, e.g. that of this one, {level}"
        )));
    }
    let place = |target: &Target| ISAS.iter().position(|isa| isa == target.isa(true));
    for (i, level) in levels.iter().enumerate() {
        let name = level.isa(true).name;
        for before in &levels[..i] {
            let other = before.isa(true).name;
            if before.arch() != level.arch() {
                return Err(Error::user(format!(
                    "{other} and {name} are of different architectures, and an artifact is for one; compile it for each"
                )));
            }
            if before.triple() != level.triple() {
                return Err(Error::user(format!(
                    "{other} and {name} are for different systems ({} and {}), and an artifact is for one; compile it for each",
                    before.triple(),
                    level.triple()
                )));
            }
            if place(before) == place(level) {
                return Err(Error::user(format!("the target {name} is named twice; name each level once")));
            }
            if place(before) > place(level) {
                return Err(Error::user(format!(
                    "the target {name} is behind {other}, which asks the CPU for more; name the lowest first"
                )));
            }
        }
    }
    Ok(())
}

/// The operating system that a target names, behind its instruction set or by being a triple: `linux`, `macos` or `windows`.
pub fn named_system(target: &str) -> Option<&'static str> {
    match Target::parse(target) {
        Ok(target) => target.system().map(System::name),
        // What it is refused for may be the system.
        Err(_) => System::ALL
            .into_iter()
            .map(|(name, _)| name)
            .find(|name| target.strip_suffix(name).is_some_and(|before| before.ends_with('-'))),
    }
}

/// Refuse to link, with this machine's linker, what is for another operating system.
pub(crate) fn check_linked(options: &Options) -> Result<()> {
    for level in options.each_level() {
        let target = target(&level)?;
        // Cross compilers for Linux are on all systems.
        let linux = target.triple().to_string().contains("-linux");
        if !target.is_of_this_system() && !linux {
            return Err(Error::user(format!(
                "shared libraries and executables for {} are not linked here: use --emit obj or lib, and the linker of that system",
                target.triple()
            )));
        }
    }
    Ok(())
}

/// What it takes to link code, where that is for another architecture than this machine's.
pub(crate) fn foreign(options: &Options) -> Result<Option<Cross>> {
    let mut foreign = None;
    for level in options.each_level() {
        let target = target(&level)?;
        let compiler = match target.arch() {
            Arch::X86_64 if !cfg!(target_arch = "x86_64") => "x86_64-linux-gnu-gcc",
            Arch::Aarch64 if !cfg!(target_arch = "aarch64") => "aarch64-linux-gnu-gcc",
            Arch::Riscv64 if !cfg!(target_arch = "riscv64") => "riscv64-linux-gnu-gcc",
            _ => continue,
        };
        foreign = Some((target.triple().to_string(), compiler));
    }
    Ok(foreign)
}

/// The name of the instruction set that code is for; of `native`, the largest that this machine has all of.
pub fn target_level(options: &Options) -> Result<&'static str> {
    Ok(target(options)?.isa(true).name)
}

/// What code is for, in words: `native` is not what other machines can run.
pub fn target_words(options: &Options) -> Result<String> {
    let words = |options: &Options| -> Result<String> {
        let level = target_level(options)?;
        Ok(match options.target.as_str() {
            "native" => format!(
                "this machine's CPU ({level} and what else it has): another may refuse it; --target {level} runs on all of that level"
            ),
            _ => match &options.machine {
                Some(machine) => format!("{level}, with the tiles of {}", machine.name),
                None => match target(options)?.system() {
                    Some(system) => format!("{level} on {}", system.name()),
                    None => level.to_owned(),
                },
            },
        })
    };
    match &options.each_level()[..] {
        [one] => words(one),
        levels => Ok(levels.iter().map(words).collect::<Result<Vec<_>>>()?.join(" and ")),
    }
}

/// What code can be generated for, in lines of a heading and a text.
pub fn target_report() -> Vec<(&'static str, String)> {
    let names = Target::NAMES.iter().copied().filter(|name| Target::parse(name).is_ok());
    let mut out = vec![("targets", names.collect::<Vec<_>>().join(", "))];
    let systems = System::ALL.map(|(name, _)| format!("-{name}")).join(", ");
    out.push(("systems", format!("this machine's, or one behind a target: {systems}")));
    let machines = Machine::families().iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
    if !machines.is_empty() {
        out.push(("machines", machines));
    }
    match Target::native() {
        Ok(t) => {
            let features: Vec<&str> = t.features().iter().map(|f| f.name()).collect();
            let isa = t.isa(true);
            let tiles = Machine::of(isa.name).map_or(&[][..], |m| &m.tiles);
            let tiles = tiles.iter().map(|(rows, cols)| format!("{rows}x{cols}")).collect::<Vec<_>>();
            out.push(("native", t.to_string()));
            out.push(("features", features.join(" ")));
            out.push(("cost model", format!("ir-spec/targets/{}.toml", isa.name)));
            out.push(("tiles", format!("{} f32 contractions", tiles.join(", "))));
        }
        Err(e) => out.push(("native", format!("none: {e}"))),
    }
    out
}
