//! The program as a user meets it, one file per subject.

mod bad_input;
#[cfg(unix)]
mod bench_peer;
mod data;
mod export;
mod folders;
mod python;
mod run_all;
mod seeds;
mod small;
mod stages;
mod stop_and_resume;
mod support;
mod tensorboard;
mod using;
mod watch;
mod weights;
