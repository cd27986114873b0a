//! The program as a user meets it, one file per subject.

mod bad_input;
#[cfg(unix)]
mod bench_peer;
mod data;
mod folders;
mod run_all;
mod small;
mod stages;
mod stop_and_resume;
mod support;
mod weights;
