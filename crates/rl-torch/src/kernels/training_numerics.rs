//! The switch by which a pass that records nothing gives the bits of one that does.

use std::cell::Cell;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// Runs `run` with the products of a recorded pass, on this thread: until it returns, [`super::linear`] and
/// [`super::linears`] are libtorch's whether or not a backward pass will follow.
///
/// A training step compares log-probabilities of passes that need no gradient (old, reference) with those of the pass that
/// is trained. Computed under `training_numerics(|| tch::no_grad(|| ...))`, with the same packing and number of threads,
/// they are those of the recorded pass to the bit and cost no graph. Outside, the kernels of [`super::linear`] are the
/// faster choice, and give rows that do not depend on each other. Nests, and ends when `run` panics.
pub fn training_numerics<T>(run: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ON.set(self.0);
        }
    }
    let _restore = Restore(ON.replace(true));
    run()
}

/// Whether [`training_numerics`] is running on this thread.
pub(super) fn is_on() -> bool {
    ON.get()
}

#[cfg(test)]
mod tests {
    use super::super::tests::numbers;
    use super::super::{instruction_set, linear, linears};
    use super::*;

    #[test]
    fn unrecorded_products_are_the_recorded_ones_to_the_bit() {
        let xs = numbers(&[300, 768], 1, 1.0);
        let weight = numbers(&[256, 768], 2, 1.0).set_requires_grad(true);
        let bias = numbers(&[256], 3, 1.0);
        for bias in [None, Some(&bias)] {
            let recorded = linear(&xs, &weight, bias).unwrap().detach();
            let unrecorded = || tch::no_grad(|| linear(&xs, &weight, bias).unwrap());
            assert!(training_numerics(unrecorded).equal(&recorded));
            let many =
                training_numerics(|| tch::no_grad(|| linears(&xs, &[(&weight, bias), (&weight, bias)]).unwrap()));
            assert!(many.iter().all(|ys| ys.equal(&recorded)));
            // 300 rows are more than the older instruction sets' kernels take: there both are libtorch's anyway.
            let differs = instruction_set().unwrap() == "AVX-512";
            assert_eq!(!unrecorded().equal(&recorded), differs);
        }
    }

    #[test]
    fn it_nests_and_ends_with_its_scope_even_by_a_panic() {
        assert!(!is_on());
        training_numerics(|| {
            training_numerics(|| assert!(is_on()));
            assert!(is_on());
            assert!(!std::thread::spawn(is_on).join().unwrap());
        });
        assert!(!is_on());
        assert!(std::panic::catch_unwind(|| training_numerics(|| panic!("inside"))).is_err());
        assert!(!is_on());
    }
}
