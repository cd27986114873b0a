//! The command line of `xtask`, for the tests beside it to run.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::main()
}
