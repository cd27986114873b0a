//! The binary behind `cargo xtask`; everything it does lives in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::main()
}
