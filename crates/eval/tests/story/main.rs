//! From results to the report, on invented figures.

mod invented;
mod odd;
mod pages;
mod report;
mod results;
mod seeds;
