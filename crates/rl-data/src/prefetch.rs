//! Items made ahead on a thread of their own, never more than a given number of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::error::{Error, Result};

/// The items of an iterator, in its order, made on another thread while the consumer works.
///
/// The thread waits while `ahead` items lie ready and one more is made, so memory is bounded by `ahead + 1` items and the
/// one in the consumer's hands. An error of the iterator arrives at its place, like any item. A panic of the iterator
/// arrives as [`Error::Producer`] after the items made before it, and is the last. Dropping this ends the thread and
/// waits until it has ended; that takes as long as the item it is making.
#[derive(Debug)]
pub struct Prefetch<T, E = Error> {
    /// None once the items have ended.
    items: Option<Receiver<std::result::Result<T, E>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T, E> Prefetch<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    /// Starts the thread. With `ahead` 0 an item is made while the consumer holds the one before it, but none lies ready.
    ///
    /// [`Error::Thread`] if the system gives no thread.
    pub fn new<I>(ahead: usize, items: I) -> Result<Self>
    where
        I: IntoIterator<Item = std::result::Result<T, E>> + Send + 'static,
    {
        let (sender, receiver) = sync_channel(ahead);
        let produce = move || {
            let mut items = match catch_unwind(AssertUnwindSafe(|| items.into_iter())) {
                Ok(items) => items,
                Err(panic) => {
                    // Nobody listening is no failure: the consumer was dropped.
                    let _ = sender.send(Err(panicked(&*panic).into()));
                    return;
                }
            };
            loop {
                // After a panic the iterator is not used again, so that it may be left half-way is not seen.
                let (item, last) = match catch_unwind(AssertUnwindSafe(|| items.next())) {
                    Ok(Some(item)) => (item, false),
                    Ok(None) => return,
                    Err(panic) => (Err(panicked(&*panic).into()), true),
                };
                if sender.send(item).is_err() || last {
                    return;
                }
            }
        };
        let thread =
            Builder::new().name("prefetch".into()).spawn(produce).map_err(|source| Error::Thread { source })?;
        Ok(Prefetch { items: Some(receiver), thread: Some(thread) })
    }
}

impl<T, E> Prefetch<T, E> {
    fn end(&mut self) -> std::thread::Result<()> {
        // Without a receiver a send that waits for room fails, and the thread ends.
        self.items = None;
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl<T, E: From<Error>> Iterator for Prefetch<T, E> {
    type Item = std::result::Result<T, E>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.items.as_ref()?.recv() {
            Ok(item) => Some(item),
            // A panic that was not caught is one of a destructor.
            Err(_) => self.end().err().map(|panic| Err(panicked(&*panic).into())),
        }
    }
}

impl<T, E> Drop for Prefetch<T, E> {
    fn drop(&mut self) {
        // Whoever drops this asked for no more items, nor for the error of one.
        let _ = self.end();
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Error::Producer { message: message.unwrap_or_else(|| "no message".into()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    /// Long enough for a thread to do what it is about to do; nothing fails if it is slower.
    const WAIT: Duration = Duration::from_millis(20);
    /// A thread that has not come so far by then never will.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn wait_until(reached: impl Fn() -> bool) {
        let start = Instant::now();
        while !reached() {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }

    #[test]
    fn items_come_in_order_and_then_end() {
        for ahead in [0, 1, 7] {
            let mut items = Prefetch::<usize>::new(ahead, (0..100).map(Ok)).unwrap();
            let all: Vec<usize> = items.by_ref().map(Result::unwrap).collect();
            assert_eq!(all, (0..100).collect::<Vec<_>>());
            assert!(items.next().is_none());
        }
    }

    #[test]
    fn the_thread_waits_for_the_consumer() {
        for ahead in [0, 3] {
            let made = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&made);
            let items = (0..100).map(move |item| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(item)
            });
            let mut items = Prefetch::<usize>::new(ahead, items).unwrap();
            for taken in 1..=5 {
                assert_eq!(items.next().unwrap().unwrap(), taken - 1);
                // `ahead` lie ready and one waits to be put there.
                wait_until(|| made.load(Ordering::SeqCst) == taken + ahead + 1);
                std::thread::sleep(WAIT);
                assert_eq!(made.load(Ordering::SeqCst), taken + ahead + 1);
            }
        }
    }

    #[test]
    fn errors_and_panics_arrive_in_their_place() {
        let failing = |row: usize| match row {
            3 => Err(Error::EmptyRow { row }),
            5 => panic!("row {row} is broken"),
            row => Ok(row),
        };
        let mut items = Prefetch::<usize>::new(2, (0..9).map(failing)).unwrap();
        let firsts: Vec<_> = items.by_ref().take(3).map(Result::unwrap).collect();
        assert_eq!(firsts, [0, 1, 2]);
        assert!(matches!(items.next(), Some(Err(Error::EmptyRow { row: 3 }))));
        assert!(matches!(items.next(), Some(Ok(4))));
        let error = items.next().unwrap().unwrap_err();
        assert!(matches!(&error, Error::Producer { message } if message == "row 5 is broken"), "{error}");
        assert!(items.next().is_none());
        assert!(items.next().is_none());
    }

    #[test]
    fn a_drop_while_full_ends_the_thread() {
        struct Ends(Arc<AtomicUsize>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        for taken in [0, 1, 4] {
            let ended = Arc::new(AtomicUsize::new(0));
            let alive = Ends(Arc::clone(&ended));
            let endless = (0_usize..).map(move |item| {
                let _ = &alive;
                Ok(item)
            });
            let mut items = Prefetch::<usize>::new(2, endless).unwrap();
            assert_eq!(items.by_ref().take(taken).count(), taken);
            std::thread::sleep(WAIT);
            drop(items);
            // The thread was waited for, so what it owned is gone.
            assert_eq!(ended.load(Ordering::SeqCst), 1);
        }
    }
}
