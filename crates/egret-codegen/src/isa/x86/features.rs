//! Instruction set extensions of x86-64: what they are called, and how a CPU is asked for them.

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

            pub(crate) fn clif(self) -> Option<&'static str> {
                match self { $(Feature::$variant => $clif),* }
            }

            pub(crate) fn cpuid(self) -> CpuidBit {
                match self { $(Feature::$variant => CpuidBit { leaf: $leaf, reg: CpuidReg::$reg, bit: $bit }),* }
            }

            /// Has this machine it?
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
    F16c "f16c" None, 1 Ecx 29;
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
    Avx512vnni "avx512vnni" None, 7 Ecx 11;
}

/// The features of this machine.
pub(crate) fn native() -> Vec<Feature> {
    #[cfg(target_arch = "x86_64")]
    {
        Feature::ALL.iter().copied().filter(|f| f.detect()).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        vec![]
    }
}
