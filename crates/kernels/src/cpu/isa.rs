//! Which vector instructions are used: detected once, narrowed by the environment variable `KERNELS_CPU`.

use std::sync::OnceLock;

/// The instruction sets with kernels of their own, each wider than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust; the compiler uses what the target guarantees (NEON on aarch64, SSE2 on x86-64).
    Portable,
    /// 8 lanes, 16 registers (x86-64 with AVX2 and FMA).
    Avx2,
    /// 16 lanes, 32 registers (x86-64 with AVX-512F, VL, BW and DQ).
    Avx512,
    /// The same, products of bf16 pairs, and rounding to bf16 (AVX512-BF16).
    Avx512Bf16,
    /// The same, and bf16 products of whole tiles (AMX-TILE and AMX-BF16, Linux).
    Amx,
}

impl Isa {
    const ALL: [Self; 5] = [
        Self::Portable,
        Self::Avx2,
        Self::Avx512,
        Self::Avx512Bf16,
        Self::Amx,
    ];

    /// As `KERNELS_CPU` names it.
    fn wish(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        }
    }
}

/// What the kernels found and use on this machine; `Display` gives one line for a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuFeatures {
    /// The widest set that the processor offers.
    pub detected: Isa,
    /// The set in use: `detected`, unless `KERNELS_CPU` asks for less.
    pub used: Isa,
    /// Threads of the current pool.
    pub threads: usize,
}

impl std::fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", name(self.used))?;
        if self.used != self.detected {
            write!(f, " ({} switched off by KERNELS_CPU)", name(self.detected))?;
        }
        let plural = if self.threads == 1 { "" } else { "s" };
        write!(f, ", {} thread{plural}", self.threads)
    }
}

/// The instruction sets found and used, and the number of threads.
///
/// The environment variable `KERNELS_CPU` (`amx`, `avx512bf16`, `avx512`, `avx2` or `portable`), read once, narrows the choice; a set that
/// the processor lacks is never used.
///
/// # Panics
/// Here, or in the first fast operator, where `KERNELS_CPU` holds anything else.
///
/// ```
/// println!("CPU features: {}", kernels::cpu_features());
/// ```
pub fn cpu_features() -> CpuFeatures {
    CpuFeatures {
        detected: detect(),
        used: isa(),
        threads: rayon::current_num_threads(),
    }
}

/// The set in use.
pub fn isa() -> Isa {
    static USED: OnceLock<Isa> = OnceLock::new();
    *USED.get_or_init(|| wished().unwrap_or_else(|problem| panic!("{problem}")))
}

/// Whether `KERNELS_CPU` holds something that is understood; a program that calls this first can refuse it in its own way.
///
/// # Errors
/// One sentence with the value and those that are accepted.
pub fn check_environment() -> Result<(), String> {
    wished().map(drop)
}

fn wished() -> Result<Isa, String> {
    let wish = std::env::var_os("KERNELS_CPU");
    narrow(
        detect(),
        wish.map(|w| w.to_string_lossy().into_owned()).as_deref(),
    )
}

fn narrow(detected: Isa, wish: Option<&str>) -> Result<Isa, String> {
    let Some(wish) = wish else {
        return Ok(detected);
    };
    match Isa::ALL.into_iter().find(|isa| isa.wish() == wish) {
        Some(wished) => Ok(wished.min(detected)),
        None => Err(format!(
            "KERNELS_CPU must be amx, avx512bf16, avx512, avx2 or portable, got {wish:?}"
        )),
    }
}

fn detect() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("fma")
        {
            return match is_x86_feature_detected!("avx512bf16") {
                true if super::amx::available() => Isa::Amx,
                true => Isa::Avx512Bf16,
                false => Isa::Avx512,
            };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Isa::Avx2;
        }
    }
    Isa::Portable
}

fn name(isa: Isa) -> &'static str {
    match isa {
        Isa::Amx => "AMX, AVX-512, BF16",
        Isa::Avx512Bf16 => "AVX-512, BF16",
        Isa::Avx512 => "AVX-512",
        Isa::Avx2 => "AVX2",
        Isa::Portable if cfg!(target_arch = "aarch64") => "portable (NEON)",
        Isa::Portable => "portable",
    }
}

/// Defines a function compiled once per instruction set and dispatched at run time.
///
/// The body is ordinary safe Rust whose loops the compiler vectorises; there is nothing to gain from intrinsics in it. One thing alone the
/// compiler does not see: that a processor rounds to bf16 by itself. Where a body's time goes into rounding, `[rounding]` names what it hands
/// to [`Value::round`](super::value::Value::round).
macro_rules! vectorised {
    ($(#[$doc:meta])* pub fn $name:ident<$t:ident: $bound:path>[$rounding:ident]($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub fn $name<$t: $bound>($($arg: $ty),*) {
            use $crate::cpu::value::Rounding;

            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<$t: $bound, const BF16: bool>($rounding: Rounding<BF16>, $($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                // SAFETY: called where the processor has the instruction set alone.
                $crate::cpu::isa::return_compiled!(Avx512Bf16, <$t: $bound>($($arg: $ty),*), body::<$t, true>(unsafe { Rounding::by_processor() }, $($arg),*));
                $crate::cpu::isa::return_compiled!(Avx512, <$t: $bound>($($arg: $ty),*), body::<$t, false>(Rounding::BY_CODE, $($arg),*));
                $crate::cpu::isa::return_compiled!(Avx2, <$t: $bound>($($arg: $ty),*), body::<$t, false>(Rounding::BY_CODE, $($arg),*));
            }
            body::<$t, false>(Rounding::BY_CODE, $($arg),*)
        }
    };
    ($(#[$doc:meta])* pub fn $name:ident$(<$t:ident: $bound:path>)?($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub fn $name$(<$t: $bound>)?($($arg: $ty),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body$(<$t: $bound>)?($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                $crate::cpu::isa::return_compiled!(Avx512, $(<$t: $bound>)?($($arg: $ty),*), body$(::<$t>)?($($arg),*));
                $crate::cpu::isa::return_compiled!(Avx2, $(<$t: $bound>)?($($arg: $ty),*), body$(::<$t>)?($($arg),*));
            }
            body$(::<$t>)?($($arg),*)
        }
    };
}
pub(crate) use vectorised;

/// Returns from the function around it with a call that is compiled for an instruction set, where that set is in use.
#[cfg(target_arch = "x86_64")]
macro_rules! return_compiled {
    (Avx512Bf16, $($rest:tt)*) => {
        $crate::cpu::isa::return_compiled!(@ Avx512Bf16, "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,fma", $($rest)*)
    };
    (Avx512, $($rest:tt)*) => {
        $crate::cpu::isa::return_compiled!(@ Avx512, "avx512f,avx512vl,avx512bw,avx512dq,fma", $($rest)*)
    };
    (Avx2, $($rest:tt)*) => {
        $crate::cpu::isa::return_compiled!(@ Avx2, "avx2,fma", $($rest)*)
    };
    (@ $isa:ident, $features:literal, $(<$t:ident: $bound:path>)?($($arg:ident: $ty:ty),*), $call:expr) => {
        if $crate::cpu::isa::isa() >= $crate::cpu::isa::Isa::$isa {
            #[target_feature(enable = $features)]
            #[allow(clippy::too_many_arguments)]
            fn compiled$(<$t: $bound>)?($($arg: $ty),*) {
                $call
            }
            // SAFETY: `isa` returns a set only where the processor has every feature enabled here.
            return unsafe { compiled$(::<$t>)?($($arg),*) };
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use return_compiled;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_only_narrows() {
        for detected in Isa::ALL {
            assert_eq!(narrow(detected, None), Ok(detected));
            for wished in Isa::ALL {
                assert_eq!(
                    narrow(detected, Some(wished.wish())),
                    Ok(detected.min(wished))
                );
            }
        }
    }

    #[test]
    fn other_values_are_refused_with_what_is_accepted() {
        let problem = narrow(Isa::Avx512, Some("typo")).unwrap_err();
        assert!(
            problem.contains("typo") && problem.contains("portable"),
            "{problem}"
        );
    }
}
