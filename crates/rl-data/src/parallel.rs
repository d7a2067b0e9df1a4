//! Work on many items in parallel, results in order, memory bounded: what lies between a stream of records and a stream
//! of examples.

use rayon::prelude::*;

/// Results of `map`, in the order of `items`; see [`map_in_order`].
#[derive(Debug)]
pub struct InOrder<I: Iterator, U, F> {
    items: I,
    map: F,
    window: usize,
    ready: std::vec::IntoIter<U>,
}

/// Applies `map` to all items, `window` of them at a time over rayon's threads, and gives the results in order.
///
/// Lazy: the next `window` items are taken when the results of the last are used up, and no more than those are held.
/// Give the result to [`crate::Prefetch`] to work ahead of the consumer, and take the items from another one where
/// reading them takes time. A window of 0 counts as 1.
pub fn map_in_order<I, U, F>(items: I, window: usize, map: F) -> InOrder<I::IntoIter, U, F>
where
    I: IntoIterator,
    I::Item: Send,
    U: Send,
    F: Fn(I::Item) -> U + Sync,
{
    InOrder { items: items.into_iter(), map, window: window.max(1), ready: Vec::new().into_iter() }
}

impl<I, U, F> Iterator for InOrder<I, U, F>
where
    I: Iterator,
    I::Item: Send,
    U: Send,
    F: Fn(I::Item) -> U + Sync,
{
    type Item = U;

    fn next(&mut self) -> Option<U> {
        if let Some(result) = self.ready.next() {
            return Some(result);
        }
        let items: Vec<I::Item> = self.items.by_ref().take(self.window).collect();
        let results: Vec<U> = items.into_par_iter().map(&self.map).collect();
        self.ready = results.into_iter();
        self.ready.next()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn results_are_in_order_and_few_items_are_held() {
        let taken = Cell::new(0);
        let items = (0..100).inspect(|_| taken.set(taken.get() + 1));
        let mut results = map_in_order(items, 8, |item: i32| item * item);
        for place in 0..100 {
            assert_eq!(results.next(), Some(place * place));
            assert!(taken.get() <= (place + 8).min(100), "{} taken at {place}", taken.get());
        }
        assert_eq!(results.next(), None);
        assert_eq!(map_in_order(0..3, 0, |item| item).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
