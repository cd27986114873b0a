//! The thread that trains. Candle sorts its graph by recursion: a deep network needs a large stack.

use crate::{Error, Result};
use std::thread;

/// Address space set aside for the stack; touched only as deep as the recursion goes.
const STACK: usize = 256 << 20;

/// Runs `work` on a thread whose stack is deep enough for `backward` through any network of the family.
pub fn training_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("training".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|e| Error::Thread(format!("could not be started: {e}")))?;
        thread.join().unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(Error::Thread(format!("panicked: {message}")))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        let error = training_thread::<()>(|| panic!("too deep")).unwrap_err();
        assert!(error.to_string().contains("too deep"));
        assert_eq!(training_thread(|| Ok(7)).unwrap(), 7);
    }
}
