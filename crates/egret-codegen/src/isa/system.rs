//! Operating systems: what decides the format of objects, the names of symbols and how foreign functions are called.

use cranelift_codegen::isa::CallConv;
use target_lexicon::{CallingConvention, OperatingSystem, Triple};

use super::Arch;

/// An operating system that a target may name behind its instruction set (`x86-64-v3-windows`).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum System {
    /// Objects are ELF.
    Linux,
    /// Objects are Mach-O, with an underscore before each symbol.
    MacOs,
    /// Objects are COFF, for the linkers of Microsoft and of MinGW.
    Windows,
}

/// Triples as compilers of C and Rust call them: the targets that are any CPU of theirs.
const TRIPLES: [(&str, &str); 5] = [
    ("x86_64-pc-windows-msvc", "x86-64-v2-windows"),
    ("x86_64-pc-windows-gnu", "x86-64-v2-windows"),
    ("x86_64-apple-darwin", "x86-64-v2-macos"),
    ("aarch64-apple-darwin", "aarch64-macos"),
    ("arm64-apple-darwin", "aarch64-macos"),
];

impl System {
    /// Every one, by the name that stands behind an instruction set.
    pub const ALL: [(&'static str, System); 3] =
        [("linux", System::Linux), ("macos", System::MacOs), ("windows", System::Windows)];

    /// A target's name without its system, and the system where it names one.
    pub(super) fn split(name: &str) -> (&str, Option<System>) {
        let name = TRIPLES.iter().find(|(triple, _)| *triple == name).map_or(name, |(_, target)| *target);
        let behind =
            |(system, it): (&str, System)| Some((name.strip_suffix(system)?.strip_suffix('-')?, Some(it)));
        System::ALL.into_iter().find_map(behind).unwrap_or((name, None))
    }

    /// Its name behind an instruction set.
    pub fn name(self) -> &'static str {
        match self {
            System::Linux => "linux",
            System::MacOs => "macos",
            System::Windows => "windows",
        }
    }

    /// The triple of its machines of an architecture, where code can be generated for these.
    pub(super) fn triple(self, arch: Arch) -> Option<&'static str> {
        match (self, arch) {
            (System::Linux, Arch::X86_64) => Some("x86_64-unknown-linux-gnu"),
            (System::Linux, Arch::Aarch64) => Some("aarch64-unknown-linux-gnu"),
            (System::Linux, Arch::Riscv64) => Some("riscv64gc-unknown-linux-gnu"),
            (System::MacOs, Arch::X86_64) => Some("x86_64-apple-darwin"),
            (System::MacOs, Arch::Aarch64) => Some("aarch64-apple-darwin"),
            (System::Windows, Arch::X86_64) => Some("x86_64-pc-windows-msvc"),
            _ => None,
        }
    }
}

/// How functions are called that others call, or that others give: Windows on x86-64 has a convention of its own, all else that Egret compiles for calls
/// functions of these parameters as System V does (macOS on 64-bit ARM too: no argument is on the stack).
pub(crate) fn foreign(triple: &Triple) -> CallConv {
    match triple.default_calling_convention() {
        Ok(CallingConvention::WindowsFastcall) => CallConv::WindowsFastcall,
        _ => CallConv::SystemV,
    }
}

/// Whether code may reach what another object defines by a table of addresses that the linker makes; COFF has none.
pub(crate) fn has_table(triple: &Triple) -> bool {
    triple.operating_system != OperatingSystem::Windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_triples_name_systems() {
        for (name, want) in [
            ("x86-64-v3-windows", ("x86-64-v3", Some(System::Windows))),
            ("v4-macos", ("v4", Some(System::MacOs))),
            ("aarch64-linux", ("aarch64", Some(System::Linux))),
            ("x86-64-v3", ("x86-64-v3", None)),
            ("windows", ("windows", None)),
        ] {
            assert_eq!(System::split(name), want);
        }
        for (triple, _) in TRIPLES {
            let (isa, system) = System::split(triple);
            let parsed: Triple = triple.parse().unwrap();
            let own: Triple = crate::Target::parse(triple).unwrap().triple();
            assert_eq!(
                (own.architecture, own.operating_system),
                (parsed.architecture, parsed.operating_system)
            );
            assert!(system.is_some() && !isa.is_empty());
        }
    }

    #[test]
    fn windows_alone_calls_in_another_way() {
        for (triple, want) in [
            ("x86_64-pc-windows-msvc", CallConv::WindowsFastcall),
            ("x86_64-pc-windows-gnu", CallConv::WindowsFastcall),
            ("x86_64-unknown-linux-musl", CallConv::SystemV),
            ("x86_64-apple-darwin", CallConv::SystemV),
            ("aarch64-apple-darwin", CallConv::SystemV),
            ("x86_64-unknown-freebsd", CallConv::SystemV),
        ] {
            assert_eq!(foreign(&triple.parse().unwrap()), want, "{triple}");
        }
    }
}
