//! Best-fit decreasing bin packing.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Assigns items to rows of `capacity`, longest item first, each into the row with the least room that holds it.
///
/// Of equal lengths the earlier item goes first; of equal rooms the row that has had that room longest is taken. Every
/// length is in `1..=capacity`. Time is n log n: the sort, and one look-up among at most `min(rows, capacity)` rooms
/// for every item.
pub(crate) fn best_fit_decreasing(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&item| Reverse(lengths[item]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut rooms = Rooms::default();
    for item in order {
        let length = lengths[item];
        let (room, row) = rooms.take(length).unwrap_or_else(|| {
            rows.push(Vec::new());
            (capacity, rows.len() - 1)
        });
        rows[row].push(item);
        rooms.put(room - length, row);
    }
    rows
}

/// Rows that are not full, by the room they have left.
#[derive(Default)]
struct Rooms {
    queues: BTreeMap<usize, Queue>,
    /// The row behind each row in its queue, `[rows]`; the last of a queue has anything here.
    behind: Vec<usize>,
}

/// Rows of equal room, the longest waiting first.
struct Queue {
    first: usize,
    last: usize,
}

impl Rooms {
    /// Takes out a row of the least room that is at least `length`.
    fn take(&mut self, length: usize) -> Option<(usize, usize)> {
        let (&room, queue) = self.queues.range_mut(length..).next()?;
        let row = queue.first;
        if queue.first == queue.last {
            self.queues.remove(&room);
        } else {
            queue.first = self.behind[row];
        }
        Some((room, row))
    }

    fn put(&mut self, room: usize, row: usize) {
        if self.behind.len() <= row {
            self.behind.resize(row + 1, row);
        }
        if room == 0 {
            return;
        }
        match self.queues.entry(room) {
            Entry::Vacant(place) => {
                place.insert(Queue { first: row, last: row });
            }
            Entry::Occupied(mut queue) => {
                let queue = queue.get_mut();
                self.behind[queue.last] = row;
                queue.last = row;
            }
        }
    }
}
