//! Back-propagation without Candle's detour for parameters.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId};

thread_local! {
    static COLLECTED: RefCell<Option<HashMap<TensorId, Tensor>>> = const { RefCell::new(None) };
}

/// `loss.backward()`, and the same gradients, with less traffic.
///
/// Candle adds every gradient that an operator returns to a tensor of zeros: four passes over each parameter. Here a
/// [`Network`](crate::Network) hands the gradients of its variables over as they are. All other operators behave as ever.
///
/// # Errors
/// What `loss.backward()` reports.
///
/// ```
/// use candle_core::{Device, Var};
///
/// # fn main() -> candle_core::Result<()> {
/// let x = Var::new(&[3f32], &Device::Cpu)?;
/// let gradients = kernels::backward(&x.sqr()?.sum_all()?)?;
/// assert_eq!(gradients.get(&x).map(|g| g.to_vec1::<f32>()).transpose()?, Some(vec![6.0]));
/// # Ok(())
/// # }
/// ```
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    /// Collects on this thread while it lives.
    struct Collecting;
    impl Drop for Collecting {
        fn drop(&mut self) {
            COLLECTED.take();
        }
    }
    COLLECTED.set(Some(HashMap::new()));
    let collecting = Collecting;
    let mut store = loss.backward()?;
    let collected = COLLECTED.take().unwrap_or_default();
    drop(collecting);
    for (id, gradient) in collected {
        let sum = match store.get_id(id) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        store.insert_id(id, sum);
    }
    Ok(store)
}

/// Takes a variable's gradient, if [`backward`] is running on this thread; gives it back otherwise.
pub(crate) fn collect(parameter: &Tensor, gradient: Tensor) -> Result<Option<Tensor>> {
    COLLECTED.with_borrow_mut(|collected| {
        let Some(collected) = collected.as_mut().filter(|_| parameter.is_variable()) else {
            return Ok(Some(gradient));
        };
        let sum = match collected.remove(&parameter.id()) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        collected.insert(parameter.id(), sum);
        Ok(None)
    })
}
