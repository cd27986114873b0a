//! The same tests again with narrower instruction sets, in processes of their own: the choice is made once.

use std::process::Command;

use kernels::{Isa, cpu_features};

use crate::support::DEVICE;

const WISH: &str = "KERNELS_CPU";

#[test]
fn narrower_sets_pass_every_other_test() {
    if std::env::var_os(WISH).is_some() {
        return; // already one of those processes
    }
    for wish in ["avx512bf16", "avx512", "avx2", "portable"] {
        let exe = std::env::current_exe().expect("this test's path");
        let output = Command::new(exe)
            .env(WISH, wish)
            .env_remove(DEVICE)
            .output()
            .expect("this test runs again");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "with {WISH}={wish}:\n{text}");
    }
}

#[test]
fn the_report_says_what_is_used() {
    let features = cpu_features();
    match std::env::var(WISH).ok().as_deref() {
        Some("portable") => assert_eq!(features.used, Isa::Portable),
        Some("avx2") => assert!(features.used <= Isa::Avx2),
        Some("avx512") => assert!(features.used <= Isa::Avx512),
        Some("avx512bf16") => assert!(features.used <= Isa::Avx512Bf16),
        _ => assert_eq!(features.used, features.detected),
    }
    assert!(features.threads > 0 && features.to_string().contains("thread"));
}
