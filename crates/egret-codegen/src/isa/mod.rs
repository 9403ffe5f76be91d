//! Targets: an architecture and the CPU features that code may use.

pub(crate) mod x86;

use cranelift::codegen::isa::{self, OwnedTargetIsa};
use cranelift::codegen::settings::{self, Configurable};
use std::fmt;
use target_lexicon::Triple;

use crate::error::{CodegenError, Result};

/// Architecture of a target.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64 with at least SSE4.2 (`x86-64-v2`).
    X86_64,
    /// 64-bit ARM with its base vector instructions.
    Aarch64,
}

/// A register of `cpuid`'s answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum CpuidReg {
    Ebx,
    Ecx,
}

/// Where `cpuid` reports a feature.
#[derive(Copy, Clone, Debug)]
pub(crate) struct CpuidBit {
    pub leaf: u32,
    pub reg: CpuidReg,
    pub bit: u32,
}

macro_rules! features {
    ($($variant:ident $name:tt $clif:expr, $leaf:literal $reg:ident $bit:literal;)*) => {
        /// An instruction set extension of x86-64.
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are the CPU vendors'")]
        pub enum Feature { $($variant),* }

        impl Feature {
            /// Every feature that the code generator knows.
            pub const ALL: &'static [Feature] = &[$(Feature::$variant),*];

            /// Its usual name.
            pub fn name(self) -> &'static str {
                match self { $(Feature::$variant => $name),* }
            }

            fn clif(self) -> Option<&'static str> {
                match self { $(Feature::$variant => $clif),* }
            }

            pub(crate) fn cpuid(self) -> CpuidBit {
                match self { $(Feature::$variant => CpuidBit { leaf: $leaf, reg: CpuidReg::$reg, bit: $bit }),* }
            }

            #[cfg(target_arch = "x86_64")]
            fn detect(self) -> bool {
                match self { $(Feature::$variant => std::is_x86_feature_detected!($name)),* }
            }
        }
    };
}

features! {
    Sse3 "sse3" Some("has_sse3"), 1 Ecx 0;
    Ssse3 "ssse3" Some("has_ssse3"), 1 Ecx 9;
    Sse41 "sse4.1" Some("has_sse41"), 1 Ecx 19;
    Sse42 "sse4.2" Some("has_sse42"), 1 Ecx 20;
    Popcnt "popcnt" Some("has_popcnt"), 1 Ecx 23;
    Avx "avx" Some("has_avx"), 1 Ecx 28;
    Fma "fma" Some("has_fma"), 1 Ecx 12;
    Avx2 "avx2" Some("has_avx2"), 7 Ebx 5;
    Bmi1 "bmi1" Some("has_bmi1"), 7 Ebx 3;
    Bmi2 "bmi2" Some("has_bmi2"), 7 Ebx 8;
    Lzcnt "lzcnt" Some("has_lzcnt"), 0x8000_0001 Ecx 5;
    Avx512f "avx512f" Some("has_avx512f"), 7 Ebx 16;
    Avx512dq "avx512dq" Some("has_avx512dq"), 7 Ebx 17;
    Avx512cd "avx512cd" None, 7 Ebx 28;
    Avx512bw "avx512bw" None, 7 Ebx 30;
    Avx512vl "avx512vl" Some("has_avx512vl"), 7 Ebx 31;
}

/// What code is generated for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    arch: Arch,
    level: &'static str,
    features: Vec<Feature>,
}

/// How many of [`Feature::ALL`] each x86-64 level has: they are listed in the order of the levels.
const LEVELS: [(&str, usize); 3] = [("x86-64-v2", 5), ("x86-64-v3", 11), ("x86-64-v4", 16)];

impl Target {
    /// The names that [`Target::parse`] accepts.
    pub const NAMES: [&'static str; 5] = ["native", "x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"];

    /// A target by name: see [`Target::NAMES`]; `v2`, `v3`, `v4` and `arm64` are understood too.
    ///
    /// # Errors
    /// An unknown name; `native` on a machine that is none of the others.
    pub fn parse(name: &str) -> Result<Target> {
        let level = |i: usize| {
            let (level, n) = LEVELS[i];
            Ok(Target { arch: Arch::X86_64, level, features: Feature::ALL[..n].to_vec() })
        };
        match name {
            "native" => Target::native(),
            "x86-64-v2" | "v2" => level(0),
            "x86-64-v3" | "v3" => level(1),
            "x86-64-v4" | "v4" => level(2),
            "aarch64" | "arm64" => Ok(Target { arch: Arch::Aarch64, level: "aarch64", features: vec![] }),
            _ => Err(CodegenError::Target(format!(
                "unknown target `{name}`; known are {}",
                Target::NAMES.join(", ")
            ))),
        }
    }

    /// This machine.
    ///
    /// # Errors
    /// The machine is neither x86-64 with SSE4.2 nor 64-bit ARM.
    pub fn native() -> Result<Target> {
        #[cfg(target_arch = "x86_64")]
        {
            let features: Vec<_> = Feature::ALL.iter().copied().filter(|f| f.detect()).collect();
            if Feature::ALL[..LEVELS[0].1].iter().any(|f| !features.contains(f)) {
                return Err(CodegenError::Target(
                    "this CPU lacks SSE4.2, which generated code needs".into(),
                ));
            }
            Ok(Target { arch: Arch::X86_64, level: "x86-64", features })
        }
        #[cfg(target_arch = "aarch64")]
        {
            Target::parse("aarch64")
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            Err(CodegenError::Target(
                "no code can be generated for this machine; name another target".into(),
            ))
        }
    }

    /// The architecture.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// May code use this feature?
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    /// The most demanding of [`Target::NAMES`] whose features code may use.
    pub fn baseline(&self) -> &'static str {
        match self.arch {
            Arch::X86_64 => LEVELS
                .iter()
                .rev()
                .find(|(_, n)| Feature::ALL[..*n].iter().all(|f| self.has(*f)))
                .map_or(LEVELS[0].0, |(level, _)| level),
            Arch::Aarch64 => "aarch64",
        }
    }

    /// The features that code may use.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Does `fma` become one instruction?
    pub fn has_fma(&self) -> bool {
        self.arch == Arch::Aarch64 || self.has(Feature::Fma)
    }

    /// 128-bit vector registers that generated code can use.
    pub(crate) fn vector_registers(&self) -> usize {
        match self.arch {
            Arch::X86_64 => 16,
            Arch::Aarch64 => 32,
        }
    }

    /// The triple: this machine's operating system where it has this architecture, else Linux.
    pub fn triple(&self) -> Triple {
        let host = Triple::host();
        let linux = |text: &str| text.parse().unwrap_or_else(|_| Triple::host());
        match (self.arch, host.architecture) {
            (Arch::X86_64, target_lexicon::Architecture::X86_64)
            | (Arch::Aarch64, target_lexicon::Architecture::Aarch64(_)) => host,
            (Arch::X86_64, _) => linux("x86_64-unknown-linux-gnu"),
            (Arch::Aarch64, _) => linux("aarch64-unknown-linux-gnu"),
        }
    }

    /// Cranelift's view of the target. `pic`: for objects. `optimize`: or leave instructions in the order in which they are
    /// written.
    pub(crate) fn isa(&self, pic: bool, optimize: bool) -> Result<OwnedTargetIsa> {
        let failed = |e: &dyn fmt::Display| {
            CodegenError::Target(format!("no code can be generated for {self}: {e}"))
        };
        let mut flags = settings::builder();
        for (name, value) in [
            ("opt_level", if optimize { "speed" } else { "none" }),
            ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
            ("enable_probestack", "false"),
            ("unwind_info", "false"),
            ("is_pic", if pic { "true" } else { "false" }),
        ] {
            flags.set(name, value).map_err(|e| failed(&e))?;
        }
        let mut builder = isa::lookup(self.triple()).map_err(|e| match e {
            isa::LookupError::SupportDisabled => {
                failed(&"this build of Egret lacks that architecture; build it with the feature `aarch64`")
            }
            isa::LookupError::Unsupported => failed(&e),
        })?;
        for flag in self.features.iter().filter_map(|f| f.clif()) {
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
