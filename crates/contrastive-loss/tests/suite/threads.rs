//! The same bits at any number of threads: this test runs itself anew with other settings of `RAYON_NUM_THREADS`.

use std::process::Command;

use crate::support::{mean_and_gradient, noise, tensor};
use crate::tiled::losses;
use candle_core::{DType, Tensor};
use contrastive_loss::tiled::Execution;

/// FNV-1a over the bits of every loss and gradient.
fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (rows, columns) in [(512, 128), (333, 77), (1300, 32)] {
        let x = tensor(&noise(3, rows, columns), columns, DType::F32);
        let labels: Vec<u32> = (0..rows as u32).map(|row| row % 10).collect();
        for loss in losses() {
            let views = if loss.needs_views() { 2 } else { 1 };
            let (labels, x) = (
                &labels[..rows / views],
                x.narrow(0, 0, rows / views * views),
            );
            let x = x.unwrap();
            for execution in [Execution::Dense, Execution::Tiled] {
                let forward = |x: &Tensor| loss.forward_by(execution, x, labels, views).unwrap();
                let (mean, gradient) = mean_and_gradient(&x, forward);
                for number in gradient.iter().chain([&mean]) {
                    hash = (hash ^ number.to_bits()).wrapping_mul(0x100_0000_01b3);
                }
            }
        }
    }
    hash
}

#[test]
fn one_two_and_seven_threads_give_the_same_bits() {
    const INNER: &str = "CONTRASTIVE_LOSS_PRINT_FINGERPRINT";
    if std::env::var_os(INNER).is_some() {
        println!("fingerprint {:016x}", fingerprint());
        return;
    }
    let outputs: Vec<String> = ["1", "2", "7"]
        .iter()
        .map(|threads| {
            let output = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "threads::one_two_and_seven_threads_give_the_same_bits",
                    "--nocapture",
                ])
                .env(INNER, "1")
                .env("RAYON_NUM_THREADS", threads)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            let text = String::from_utf8(output.stdout).unwrap();
            let start = text.find("fingerprint ").expect("a fingerprint");
            text[start..start + 28].to_owned()
        })
        .collect();
    assert!(
        outputs.iter().all(|output| *output == outputs[0]),
        "{outputs:?}"
    );
}
