//! Which vector instructions are used: detected once, narrowed by the environment variable `KERNELS_CPU`.

use std::sync::OnceLock;

/// The instruction sets with kernels of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// 16 lanes, 32 registers (x86-64 with AVX-512F, VL, BW and DQ).
    Avx512,
    /// 8 lanes, 16 registers (x86-64 with AVX2 and FMA).
    Avx2,
    /// Plain Rust; the compiler uses what the target guarantees (NEON on aarch64, SSE2 on x86-64).
    Portable,
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
/// The environment variable `KERNELS_CPU` (`avx512`, `avx2` or `portable`), read once, narrows the choice; a set that
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
    match wish {
        None | Some("avx512") => Ok(detected),
        Some("avx2") if detected == Isa::Avx512 => Ok(Isa::Avx2),
        Some("avx2") => Ok(detected),
        Some("portable") => Ok(Isa::Portable),
        Some(other) => Err(format!(
            "KERNELS_CPU must be avx512, avx2 or portable, got {other:?}"
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
            return Isa::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Isa::Avx2;
        }
    }
    Isa::Portable
}

fn name(isa: Isa) -> &'static str {
    match isa {
        Isa::Avx512 => "AVX-512",
        Isa::Avx2 => "AVX2",
        Isa::Portable if cfg!(target_arch = "aarch64") => "portable (NEON)",
        Isa::Portable => "portable",
    }
}

/// Defines a function compiled once per instruction set and dispatched at run time.
///
/// The body is ordinary safe Rust whose loops the compiler vectorises; there is nothing to gain from intrinsics in it.
macro_rules! vectorised {
    ($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub fn $name($($arg: $ty),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) { body($($arg),*) }
                match $crate::cpu::isa::isa() {
                    // SAFETY: `isa` returns a set only where the processor has every feature enabled here.
                    $crate::cpu::isa::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::cpu::isa::Isa::Portable => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use vectorised;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_only_narrows() {
        assert_eq!(narrow(Isa::Avx512, None), Ok(Isa::Avx512));
        assert_eq!(narrow(Isa::Avx512, Some("avx2")), Ok(Isa::Avx2));
        assert_eq!(narrow(Isa::Avx2, Some("avx512")), Ok(Isa::Avx2));
        assert_eq!(narrow(Isa::Portable, Some("avx2")), Ok(Isa::Portable));
        assert_eq!(narrow(Isa::Avx2, Some("portable")), Ok(Isa::Portable));
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
