//! L-BFGS: minimises a smooth function from its values and gradients.
//!
//! Two-loop recursion over the last m pairs (s, y), Nocedal & Wright, *Numerical Optimization* (2006), algorithm 7.4, with a line
//! search for the strong Wolfe conditions, algorithms 3.5 and 3.6:
//! `f(x + αp) ≤ f(x) + c₁·α·∇f(x)ᵀp` and `|∇f(x + αp)ᵀp| ≤ c₂·|∇f(x)ᵀp|`, c₁ = 10⁻⁴, c₂ = 0.9.
//! All sums are f64 and in one order, so the bits depend on the function alone.

use std::collections::VecDeque;

use crate::error::Result;

/// Pairs that are remembered.
const MEMORY: usize = 20;
const C1: f64 = 1e-4;
const C2: f64 = 0.9;
/// Evaluations that one line search may take.
const SEARCH: usize = 30;

/// Where the search ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Minimum {
    pub x: Vec<f64>,
    pub value: f64,
    /// Largest absolute component of the gradient.
    pub gradient: f64,
    pub iterations: usize,
    /// Whether `gradient` fell to the tolerance.
    pub converged: bool,
}

/// A place on the line, with its slope `∇f·p`.
struct Point {
    step: f64,
    x: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
    slope: f64,
}

/// Applies a guess of the inverse Hessian.
pub(crate) type Inverse<'a> = &'a dyn Fn(&[f64]) -> Vec<f64>;

/// Minimises `f`, which returns its value at `x` and writes its gradient, from `x` on, until no component of the gradient
/// exceeds `tolerance`, or `max_iterations` are done, or rounding allows no further descent. `guess` is the recursion's H₀
/// up to a factor, which the last pair gives; without it H₀ is a multiple of the identity.
pub(crate) fn minimize(
    mut x: Vec<f64>,
    tolerance: f64,
    max_iterations: usize,
    mut guess: Option<Inverse>,
    mut f: impl FnMut(&[f64], &mut [f64]) -> Result<f64>,
) -> Result<Minimum> {
    let mut gradient = vec![0.0; x.len()];
    let mut value = f(&x, &mut gradient)?;
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    let mut iterations = 0;
    while iterations < max_iterations && largest(&gradient) > tolerance {
        let direction = descent(&gradient, &pairs, guess);
        let first = if pairs.is_empty() && guess.is_none() {
            (1.0 / dot(&gradient, &gradient).sqrt()).min(1.0)
        } else {
            1.0
        };
        match search(&x, value, &gradient, &direction, first, &mut f)? {
            Some(found) => {
                let s: Vec<f64> = found.x.iter().zip(&x).map(|(a, b)| a - b).collect();
                let y: Vec<f64> = (found.gradient.iter().zip(&gradient))
                    .map(|(a, b)| a - b)
                    .collect();
                (x, value, gradient) = (found.x, found.value, found.gradient);
                // The strong Wolfe conditions give sᵀy > 0; rounding may not.
                if dot(&s, &y) > f64::EPSILON * dot(&y, &y) {
                    if pairs.len() == MEMORY {
                        pairs.pop_front();
                    }
                    pairs.push_back((s, y));
                }
                iterations += 1;
            }
            // What is remembered or guessed misleads: steepest descent, and if that fails too, this is as far as rounding
            // lets us.
            None if !pairs.is_empty() => pairs.clear(),
            None if guess.is_some() => guess = None,
            None => break,
        }
    }
    let gradient = largest(&gradient);
    Ok(Minimum {
        x,
        value,
        gradient,
        iterations,
        converged: gradient <= tolerance,
    })
}

/// `−H·∇f` by the two-loop recursion, H₀ = (sᵀy / yᵀGy)·G of the last pair, G the guess or I.
fn descent(
    gradient: &[f64],
    pairs: &VecDeque<(Vec<f64>, Vec<f64>)>,
    guess: Option<Inverse>,
) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for (s, y) in pairs.iter().rev() {
        let alpha = dot(s, &q) / dot(s, y);
        add(&mut q, -alpha, y);
        alphas.push(alpha);
    }
    if let Some(guess) = guess {
        q = guess(&q);
    }
    if let Some((s, y)) = pairs.back() {
        let scale = dot(s, y) / guess.map_or_else(|| dot(y, y), |guess| dot(y, &guess(y)));
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y), alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = dot(y, &q) / dot(s, y);
        add(&mut q, alpha - beta, s);
    }
    q
}

/// A step that satisfies the strong Wolfe conditions; none if there is none within reach.
fn search(
    x: &[f64],
    value: f64,
    gradient: &[f64],
    direction: &[f64],
    first: f64,
    f: &mut impl FnMut(&[f64], &mut [f64]) -> Result<f64>,
) -> Result<Option<Point>> {
    let slope = dot(gradient, direction);
    if !(slope.is_finite() && slope < 0.0) {
        return Ok(None);
    }
    let mut at = |step: f64| -> Result<Point> {
        let mut there = x.to_vec();
        add(&mut there, step, direction);
        let mut gradient = vec![0.0; x.len()];
        let value = f(&there, &mut gradient)?;
        let slope = dot(&gradient, direction);
        Ok(Point {
            step,
            x: there,
            value,
            gradient,
            slope,
        })
    };
    // Where a step changes f by no more than its rounding, the values say nothing, and the slopes decide (Hager & Zhang 2005,
    // the approximate Wolfe conditions).
    let rounding = 8.0 * f64::EPSILON * value.abs();
    let low_enough = |point: &Point| {
        point.value <= value + C1 * point.step * slope
            || (point.value <= value + rounding && point.slope <= (2.0 * C1 - 1.0) * slope)
    };
    let flat_enough = |point: &Point| point.slope.abs() <= C2 * slope.abs();
    let mut before = Point {
        step: 0.0,
        x: x.to_vec(),
        value,
        gradient: gradient.to_vec(),
        slope,
    };
    let mut step = first;
    let mut left = SEARCH;
    // Algorithm 3.5: enlarge until the interval holds a minimum.
    let (mut low, mut high) = loop {
        if left == 0 {
            return Ok(None);
        }
        left -= 1;
        let point = at(step)?;
        if !point.value.is_finite() {
            step = (before.step + step) / 2.0;
            continue;
        }
        if !low_enough(&point) || (before.step > 0.0 && point.value > before.value + rounding) {
            break (before, point);
        }
        if flat_enough(&point) {
            return Ok(Some(point));
        }
        if point.slope >= 0.0 {
            break (point, before);
        }
        step = 2.0 * point.step;
        before = point;
    };
    // Algorithm 3.6: `low` is the best point so far, and the minimum lies between it and `high`.
    while left > 0 {
        left -= 1;
        let step = between(&low, &high);
        if step == low.step || step == high.step {
            break;
        }
        let point = at(step)?;
        if !low_enough(&point) || point.value > low.value + rounding {
            high = point;
            continue;
        }
        if flat_enough(&point) {
            return Ok(Some(point));
        }
        if point.slope * (high.step - low.step) >= 0.0 {
            high = low;
        }
        low = point;
    }
    // Rounding ended the search: a lower point is still progress.
    Ok((low.step > 0.0 && low.value < value).then_some(low))
}

/// The minimum of the cubic through both ends (equation 3.59), kept a tenth of the interval away from them.
fn between(low: &Point, high: &Point) -> f64 {
    let width = high.step - low.step;
    let d1 = low.slope + high.slope - 3.0 * (low.value - high.value) / (low.step - high.step);
    let root = (d1 * d1 - low.slope * high.slope).sqrt() * width.signum();
    let cubic =
        high.step - width * (high.slope + root - d1) / (high.slope - low.slope + 2.0 * root);
    let (from, to) = (low.step + 0.1 * width, low.step + 0.9 * width);
    if cubic.is_finite() {
        cubic.clamp(from.min(to), from.max(to))
    } else {
        low.step + width / 2.0
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += factor * what;
    }
}

fn largest(values: &[f64]) -> f64 {
    // NaN must not pass as small.
    values.iter().fold(0.0, |most, x| {
        if x.abs() > most || x.is_nan() {
            x.abs()
        } else {
            most
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `½ Σᵢ scaleᵢ·(xᵢ − i)²`
    fn quadratic(scales: &[f64]) -> impl FnMut(&[f64], &mut [f64]) -> Result<f64> {
        move |x, gradient| {
            let mut value = 0.0;
            for (i, (x, scale)) in x.iter().zip(scales).enumerate() {
                let apart = x - i as f64;
                value += 0.5 * scale * apart * apart;
                gradient[i] = scale * apart;
            }
            Ok(value)
        }
    }

    #[test]
    fn a_quadratic_is_solved_to_its_centre() {
        // Condition number 100.
        let scales: Vec<f64> = (0..20)
            .map(|i| 10f64.powf(f64::from(i) / 19.0 * 2.0))
            .collect();
        let found = minimize(vec![0.0; 20], 1e-9, 500, None, quadratic(&scales)).unwrap();
        assert!(found.converged && found.gradient <= 1e-9, "{found:?}");
        for (i, x) in found.x.iter().enumerate() {
            assert!((x - i as f64).abs() < 1e-8, "{i}: {x}");
        }
    }

    #[test]
    fn a_good_guess_of_the_curvature_saves_iterations_and_ends_at_the_same_place() {
        // Condition number 10⁴, known up to a factor of 3.
        let scales: Vec<f64> = (0..40)
            .map(|i| 10f64.powf(f64::from(i) * 4.0 / 39.0))
            .collect();
        let iterations = |guess: Option<Inverse>| {
            let found = minimize(vec![0.0; 40], 1e-7, 2000, guess, quadratic(&scales)).unwrap();
            assert!(found.converged, "{found:?}");
            for (i, x) in found.x.iter().enumerate() {
                assert!((x - i as f64).abs() < 1e-6, "{i}: {x}");
            }
            found.iterations
        };
        let guess = |g: &[f64]| -> Vec<f64> {
            let each = g.iter().zip(&scales).enumerate();
            each.map(|(i, (g, scale))| g / scale * [0.3, 1.0][i % 2])
                .collect()
        };
        let (with, without) = (iterations(Some(&guess)), iterations(None));
        let nonsense = |g: &[f64]| vec![f64::NAN; g.len()];
        assert_eq!(iterations(Some(&nonsense)), without);
        assert!(with <= 10 && without > 3 * with, "{with} {without}");
    }

    #[test]
    fn rosenbrocks_valley_is_followed_to_its_end() {
        let found = minimize(vec![-1.2, 1.0], 1e-10, 200, None, |x, gradient| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            gradient[0] = -2.0 * a - 400.0 * x[0] * b;
            gradient[1] = 200.0 * b;
            Ok(a * a + 100.0 * b * b)
        })
        .unwrap();
        assert!(found.converged && found.iterations < 60, "{found:?}");
        assert!((found.x[0] - 1.0).abs() < 1e-8 && (found.x[1] - 1.0).abs() < 1e-8);
    }

    #[test]
    fn what_is_not_reached_is_not_called_converged() {
        let steps = |limit| {
            minimize(vec![-1.2, 1.0], 1e-10, limit, None, |x, gradient| {
                let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
                gradient[0] = -2.0 * a - 400.0 * x[0] * b;
                gradient[1] = 200.0 * b;
                Ok(a * a + 100.0 * b * b)
            })
            .unwrap()
        };
        let short = steps(3);
        assert!(!short.converged && short.iterations == 3 && short.gradient > 1e-10);
        assert!(short.value < 24.2, "three steps descend: {short:?}");
        // A tolerance below what rounding allows ends, too, and says so.
        let endless = minimize(vec![3.0], 0.0, 1000, None, |x, gradient| {
            gradient[0] = (x[0] - 0.1).tanh() + 0.3 * (x[0] - 0.1).powi(3);
            Ok((x[0] - 0.1).cosh().ln() + 0.075 * (x[0] - 0.1).powi(4))
        })
        .unwrap();
        assert!(endless.gradient < 1e-7, "{endless:?}");
    }
}
