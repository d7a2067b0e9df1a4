//! One set of numerics for passes with and without gradients.

/// Runs `run`. Passes with and without gradients run the same products ([`super::linear`]), so log-probabilities computed
/// under [`tch::no_grad`] are those of the trained pass to the bit, with the same packing and number of threads, without
/// more ado; this marks where a caller relies on it.
pub fn training_numerics<T>(run: impl FnOnce() -> T) -> T {
    run()
}
