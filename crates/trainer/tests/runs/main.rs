//! Whole runs on a tiny network: every stage, interruption at any step, collapse, trouble.

mod common;
mod measures;
mod resume;
mod stages;
mod threads;
mod trouble;
