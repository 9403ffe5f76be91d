//! Targets: an instruction set, the CPU features that code may use beyond it, and an operating system.

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use std::fmt;
use target_lexicon::{Architecture, OperatingSystem, Triple};

use super::{Arch, Feature, ISAS, Isa, System, no_machine_code};
use crate::error::{CodegenError, Result};

/// What code is generated for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As messages call it.
    level: &'static str,
    /// The most demanding one whose features there are.
    isa: &'static Isa,
    features: Vec<Feature>,
    /// This machine's where it is not named, if this machine has the architecture, else Linux.
    system: Option<System>,
}

/// The most demanding instruction set of an architecture with these features; `wide`: among those with an encoder too.
fn best(arch: Arch, features: &[Feature], wide: bool) -> Option<&'static Isa> {
    let fits = |isa: &&Isa| {
        isa.arch == arch
            && (wide || isa.encode_tile.is_none())
            && isa.features.iter().all(|f| features.contains(f))
    };
    ISAS.iter().rev().find(fits)
}

/// Refuses systems that code cannot be generated for on an architecture.
fn supported(isa: &Isa, system: Option<System>) -> Result<()> {
    match system {
        Some(system) if system.triple(isa.arch).is_none() => {
            let others = System::ALL.into_iter().filter(|(_, s)| s.triple(isa.arch).is_some());
            let others: Vec<String> = others.map(|(name, _)| format!("{}-{name}", isa.name)).collect();
            let instead = if others.is_empty() { isa.name.to_owned() } else { others.join(" or ") };
            Err(CodegenError::Unsupported(format!(
                "no code can be generated for {} on {}; name the target {instead}",
                isa.name,
                system.name()
            )))
        }
        _ => Ok(()),
    }
}

/// What is wrong with this machine's CPU on a system that is named.
fn native_elsewhere(system: System) -> CodegenError {
    let level =
        ISAS.iter().find(|isa| system.triple(isa.arch).is_some()).map_or("x86-64-v2", |isa| isa.name);
    let system = system.name();
    CodegenError::Target(format!(
        "`native` is this machine, with its system; for -{system} name a level, e.g. {level}-{system}"
    ))
}

/// Refuses AMX where it is not known how a process comes by its tile registers.
fn allows_amx(target: &Target) -> Result<()> {
    let triple = target.triple();
    if !target.has(Feature::AmxTile) || triple.operating_system == OperatingSystem::Linux {
        return Ok(());
    }
    Err(CodegenError::Unsupported(format!(
        "no code with AMX can be generated for {triple}: Egret asks Linux alone for its registers; name the target {}{}",
        super::x86::V4_VNNI.name,
        target.system.map_or_else(String::new, |system| format!("-{}", system.name()))
    )))
}

impl Target {
    /// The names that [`Target::parse`] accepts: `native`, and those of [`ISAS`].
    pub const NAMES: [&'static str; ISAS.len() + 1] = {
        let mut names = ["native"; ISAS.len() + 1];
        let mut i = 0;
        while i < ISAS.len() {
            names[i + 1] = ISAS[i].name;
            i += 1;
        }
        names
    };

    /// A target by name: see [`Target::NAMES`]; the aliases of [`ISAS`] are understood too, with a [`System`] behind them (`x86-64-v3-windows`), and
    /// triples of Windows and macOS (`aarch64-apple-darwin`), which are any CPU of theirs.
    ///
    /// # Errors
    /// An unknown name; `native` on a machine that is none of the others; a system that no code can be generated for.
    pub fn parse(name: &str) -> Result<Target> {
        if name == "native" {
            return Target::native();
        }
        let (name, system) = System::split(name);
        if let ("native", Some(system)) = (name, system) {
            return Err(native_elsewhere(system));
        }
        let isa = ISAS.iter().find(|isa| isa.name == name || isa.alias == name).ok_or_else(|| {
            CodegenError::Target(format!("unknown target `{name}`; known are {}", Target::NAMES.join(", ")))
        })?;
        Target::new(isa.name, isa, isa.features.to_vec(), system)
    }

    fn new(
        level: &'static str,
        isa: &'static Isa,
        features: Vec<Feature>,
        system: Option<System>,
    ) -> Result<Target> {
        supported(isa, system)?;
        let target = Target { level, isa, features, system };
        allows_amx(&target)?;
        Ok(target)
    }

    /// This machine.
    ///
    /// # Errors
    /// The machine is neither x86-64 with SSE4.2 nor 64-bit ARM, or runs Windows.
    pub fn native() -> Result<Target> {
        if Triple::host().operating_system == OperatingSystem::Windows {
            return Err(CodegenError::Target(
                "no code can be run in a process of Windows; name a target that ends with -windows and compile an object".into(),
            ));
        }
        let (arch, level, features) = match Triple::host().architecture {
            Architecture::X86_64 => (Arch::X86_64, "x86-64", super::x86::features::native()),
            Architecture::Aarch64(_) => (Arch::Aarch64, "aarch64", vec![]),
            _ => {
                return Err(CodegenError::Target(
                    "no code can be generated for this machine; name another target".into(),
                ));
            }
        };
        let isa = best(arch, &features, true).ok_or_else(|| {
            CodegenError::Target("this CPU lacks SSE4.2, which generated code needs".into())
        })?;
        Target::new(level, isa, features, None)
    }

    /// The architecture.
    pub fn arch(&self) -> Arch {
        self.isa.arch
    }

    /// The most demanding instruction set whose features code may use; without `wide`, the most demanding of those that have
    /// no encoder of tiles.
    pub fn isa(&self, wide: bool) -> &'static Isa {
        best(self.isa.arch, &self.features, wide).unwrap_or(self.isa)
    }

    /// May code use this feature?
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// The features that code may use.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Does `fma` become one instruction?
    pub fn has_fma(&self) -> bool {
        self.isa.fma || self.has(Feature::Fma)
    }

    /// 128-bit vector registers that Cranelift can use.
    pub(crate) fn vector_registers(&self) -> usize {
        self.isa(false).registers
    }

    /// The triple: of the system that the target names; else this machine's where it has this architecture, else that of Linux.
    pub fn triple(&self) -> Triple {
        let host = Triple::host();
        let same = matches!(
            (self.arch(), host.architecture),
            (Arch::X86_64, Architecture::X86_64) | (Arch::Aarch64, Architecture::Aarch64(_))
        );
        let system = match self.system {
            None if same => return host,
            None => System::Linux,
            Some(system) => system,
        };
        // WebAssembly has no system.
        let triple = system.triple(self.arch()).unwrap_or("wasm32-unknown-unknown");
        triple.parse().unwrap_or(host)
    }

    /// The system that the target names behind its instruction set.
    pub fn system(&self) -> Option<System> {
        self.system
    }

    /// Is this the system of this machine, so that its linker takes the objects?
    pub fn is_of_this_system(&self) -> bool {
        self.triple().operating_system == Triple::host().operating_system
    }

    /// Cranelift's view of the target. `pic`: for objects. `optimize`: or leave instructions in the order in which they are
    /// written.
    pub(crate) fn clif(&self, pic: bool, optimize: bool) -> Result<OwnedTargetIsa> {
        if self.arch() == Arch::Wasm32 {
            return Err(no_machine_code());
        }
        let failed = |e: &dyn fmt::Display| {
            CodegenError::Target(format!("no code can be generated for {self}: {e}"))
        };
        let mut flags = settings::builder();
        for (name, value) in [
            ("opt_level", if optimize { "speed" } else { "none" }),
            ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
            // A frame larger than a page touches each of them, so that a full stack ends in the guard page and not beyond it.
            ("enable_probestack", "true"),
            ("probestack_strategy", "inline"),
            // Profilers and crash reporters find the way through generated code by frame pointers: it has no unwind tables.
            ("preserve_frame_pointers", "true"),
            ("unwind_info", "false"),
            ("is_pic", if pic { "true" } else { "false" }),
        ] {
            flags.set(name, value).map_err(|e| failed(&e))?;
        }
        let mut builder = isa::lookup(self.triple()).map_err(|e| failed(&e))?;
        let always = if self.arch() == Arch::Riscv64 { super::riscv64::CLIF } else { &[] };
        for flag in self.features.iter().filter_map(|f| f.clif()).chain(always.iter().copied()) {
            builder.enable(flag).map_err(|e| failed(&e))?;
        }
        builder.finish(settings::Flags::new(flags)).map_err(|e| failed(&e))
    }
}

/// The triple and the features, as in the artifact's description of itself.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.triple(), self.level)?;
        self.features.iter().try_for_each(|x| write!(f, " +{}", x.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_loop::BASE_VECTOR_BYTES;
    use egret_machine::Machine;

    #[test]
    fn each_isa_has_the_features_of_those_before_it_and_names_of_its_own() {
        for (i, isa) in ISAS.iter().enumerate() {
            let before = ISAS[..i].iter().filter(|b| b.arch == isa.arch);
            for b in before {
                assert!(b.features.iter().all(|f| isa.features.contains(f)), "{} in {}", b.name, isa.name);
            }
            let machine = Machine::of(isa.name).expect("a file of ir-spec/targets");
            assert_eq!(
                (machine.vector_bytes, machine.registers),
                (isa.vector_bytes, isa.registers),
                "{}",
                isa.name
            );
            assert_eq!(isa.encode_tile.is_some(), isa.vector_bytes > BASE_VECTOR_BYTES, "{}", isa.name);
            let kernels = if isa.encode_kernel.is_some() { isa.vector_bytes } else { BASE_VECTOR_BYTES };
            assert_eq!(machine.kernel_bytes, kernels, "{}", isa.name);
            assert_eq!(
                machine.tile_registers > 0,
                isa.features.contains(&Feature::AmxTile),
                "{}",
                isa.name
            );
            for name in [isa.name, isa.alias] {
                assert_eq!(Target::parse(name).unwrap().isa(true), isa);
                assert_eq!(ISAS.iter().filter(|o| o.name == name || o.alias == name).count(), 1);
            }
        }
    }

    #[test]
    fn each_file_of_targets_is_of_an_isa() {
        let named = |m: &&Machine| ISAS.iter().any(|isa| isa.name == m.name);
        assert_eq!(Machine::targets().iter().find(|m| !named(m)), None);
    }

    /// Some virtual machines offer AVX-512 F alone.
    #[test]
    fn an_isa_is_had_whole_or_not_at_all() {
        let v3 = Target::parse("v3").unwrap();
        let features = [v3.features(), &[Feature::Avx512f]].concat();
        assert_eq!(best(Arch::X86_64, &features, true).unwrap().name, "x86-64-v3");
        assert_eq!(best(Arch::X86_64, &features, false).unwrap().name, "x86-64-v2");
        assert!(best(Arch::X86_64, &[], true).is_none());
    }

    #[test]
    fn systems_are_named_behind_an_instruction_set() {
        use target_lexicon::BinaryFormat::{Coff, Elf, Macho};
        for (name, format) in [
            ("v2-linux", Elf),
            ("x86-64-v3-windows", Coff),
            ("x86-64-v4-vnni-macos", Macho),
            ("x86_64-pc-windows-msvc", Coff),
            ("aarch64-apple-darwin", Macho),
            ("riscv64-linux", Elf),
        ] {
            assert_eq!(Target::parse(name).unwrap().triple().binary_format, format, "{name}");
        }
        for (name, instead) in [
            ("aarch64-windows", "aarch64-linux or aarch64-macos"),
            ("riscv64-macos", "riscv64-linux"),
            ("wasm32-linux", "name the target wasm32"),
            ("x86-64-v4-amx-windows", "x86-64-v4-vnni-windows"),
        ] {
            match Target::parse(name) {
                Err(CodegenError::Unsupported(m)) => assert!(m.contains(instead), "{m}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn this_machine_has_its_own_system() {
        for name in ["native-windows", "native-linux", "native-macos"] {
            let said = Target::parse(name).unwrap_err().to_string();
            let (_, system) = name.split_once('-').unwrap();
            assert!(said.contains(&format!("e.g. x86-64-v2-{system}")), "{said}");
        }
    }

    #[test]
    fn frames_are_probed_and_have_pointers() {
        for optimize in [false, true] {
            let isa = Target::native().unwrap().clif(true, optimize).unwrap();
            assert!(isa.flags().enable_probestack() && isa.flags().preserve_frame_pointers());
            assert_eq!(isa.flags().probestack_strategy(), settings::ProbestackStrategy::Inline);
        }
    }
}
