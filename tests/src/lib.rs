//! End-to-end tests across crates and of the command line; see the files in `tests`.
//!
//! | test | what it holds |
//! |---|---|
//! | `command_line` | the program as a user meets it: runs, stops, resumes, refuses |
//! | `parity` | the first 20 losses of both arms, against PyTorch |

#![forbid(unsafe_code)]

/// The examples of the project's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
