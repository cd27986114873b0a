//! From results to the report, on invented figures.

mod invented;
mod report;
mod results;
mod seeds;
