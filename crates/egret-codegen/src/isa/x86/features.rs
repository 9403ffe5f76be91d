//! Instruction set extensions of x86-64: what they are called, and how a CPU is asked for them.

/// A register of `cpuid`'s answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum CpuidReg {
    Ebx,
    Ecx,
    Edx,
}

/// Where `cpuid` reports a feature.
#[derive(Copy, Clone, Debug)]
pub(crate) struct CpuidBit {
    pub leaf: u32,
    pub reg: CpuidReg,
    pub bit: u32,
}

/// Has this machine a feature?
#[cfg(target_arch = "x86_64")]
macro_rules! detected {
    (AmxTile $name:tt) => {
        amx_detected(Feature::AmxTile)
    };
    (AmxInt8 $name:tt) => {
        amx_detected(Feature::AmxInt8)
    };
    ($variant:ident $name:tt) => {
        std::is_x86_feature_detected!($name)
    };
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
                match self { $(Feature::$variant => detected!($variant $name)),* }
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
    AmxTile "amx-tile" None, 7 Edx 24;
    AmxInt8 "amx-int8" None, 7 Edx 25;
}

/// Linux gives a process the tile registers of AMX when it asks: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
pub(crate) mod permission {
    /// The number of `arch_prctl`.
    pub const SYSTEM_CALL: u32 = 158;
    /// `ARCH_REQ_XCOMP_PERM`.
    pub const REQUEST: u32 = 0x1023;
    /// `XFEATURE_XTILEDATA`.
    pub const TILE_DATA: u32 = 18;
}

/// Has this CPU such a feature of AMX, and does Linux let this process use it? The standard library does not tell yet. It asks as the
/// artifact will (`abi::cpu`): what is `native` here is then not refused by the same process.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx_detected(feature: Feature) -> bool {
    let bit = feature.cpuid();
    let has = std::arch::x86_64::__cpuid(0).eax >= bit.leaf
        && std::arch::x86_64::__cpuid_count(bit.leaf, 0).edx >> bit.bit & 1 == 1;
    has && {
        let mut result = i64::from(permission::SYSTEM_CALL);
        // SAFETY: a system call that reads and writes no memory of this process; `syscall` itself changes RCX and R11.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") result,
                in("rdi") u64::from(permission::REQUEST),
                in("rsi") u64::from(permission::TILE_DATA),
                lateout("rcx") _,
                lateout("r11") _,
                options(nomem, nostack)
            );
        }
        result == 0
    }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn amx_detected(_: Feature) -> bool {
    false
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
