//! Every source of images, against real files and a server of our own.

mod corrupt;
mod formats;
mod hub;
mod refusals;
mod server;
mod support;
