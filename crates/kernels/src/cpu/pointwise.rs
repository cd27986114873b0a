//! The rectifier, value by value.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::buffer::{Shared, written};
use super::isa::vectorised;
use super::norm::rectify;
use super::team::OnTeam;
use super::value::Value;

/// Values of one task.
const STEP: usize = 32 * 1024;

/// max(0, x); a NaN stays.
pub fn relu_forward(x: &[f32]) -> Vec<f32> {
    let fill = |out: Shared<'_, f32>| {
        x.par_chunks(STEP).enumerate().on_team(|(i, x)| {
            // SAFETY: steps do not overlap.
            let y = unsafe { out.part(i * STEP, i * STEP + x.len()) };
            rectify_all(x, y);
        });
    };
    // SAFETY: the steps cover the output and every value is written.
    unsafe { written(x.len(), fill) }
}

vectorised! {
    pub fn rectify_all(x: &[f32], y: &mut [MaybeUninit<f32>]) {
        for (x, y) in x.iter().zip(y) {
            y.write(rectify(*x));
        }
    }
}

/// dy where y > 0, else 0.
pub fn relu_backward(y: &[f32], dy: &[f32]) -> Vec<f32> {
    let fill = |out: Shared<'_, f32>| {
        y.par_chunks(STEP).enumerate().on_team(|(i, y)| {
            let (from, to) = (i * STEP, i * STEP + y.len());
            // SAFETY: steps do not overlap.
            let dx = unsafe { out.part(from, to) };
            open_gates(&dy[from..to], y, dx);
        });
    };
    // SAFETY: the steps cover the output and every value is written.
    unsafe { written(y.len(), fill) }
}

vectorised! {
    pub fn open_gates(dy: &[f32], y: &[f32], g: &mut [MaybeUninit<f32>]) {
        for ((dy, y), g) in dy.iter().zip(y).zip(g) {
            g.write(if *y > 0.0 { *dy } else { 0.0 });
        }
    }
}

/// to += x
pub fn add<T: Value>(to: &mut [T], x: &[T]) {
    to.par_chunks_mut(STEP)
        .zip(x.par_chunks(STEP))
        .on_team(|(to, x)| add_all(to, x));
}

vectorised! {
    pub fn add_all<T: Value>(to: &mut [T], x: &[T]) {
        for (to, x) in to.iter_mut().zip(x) {
            *to = T::of(to.get() + x.get());
        }
    }
}
