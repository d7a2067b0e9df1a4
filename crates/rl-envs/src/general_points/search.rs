//! Search for expressions over up to six numbers by halves: every tree splits its numbers in two, the smaller part has at
//! most three, and what the larger part must be worth follows from the target.

use std::collections::BTreeSet;

use rl_core::random::RandomKey;

use super::expression::Operator;
use super::rational::Rational;
use super::table::Values;
use crate::error::EvaluationError;

/// Numbers of a part whose expressions are all written down.
const SMALL: u32 = 3;

/// A set of positions of numbers, one bit each.
type Part = usize;

/// An expression with the fewest brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Written {
    text: String,
    binds: Binds,
}

/// How strongly the outermost operator of an expression holds it together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binds {
    Sum,
    Product,
    Number,
}

/// What is known about the parts of a hand.
pub(super) struct Search {
    numbers: Vec<u8>,
    /// By part, for parts of up to [`SMALL`] numbers: the distinct values, sorted by [`order`].
    reached: Vec<Vec<Rational>>,
}

impl Search {
    pub fn new(values: Values) -> Self {
        let numbers = values.as_slice().to_vec();
        let mut reached: Vec<Vec<Rational>> = Vec::with_capacity(1 << numbers.len());
        for part in 0..1 << numbers.len() {
            reached.push(match Part::count_ones(part) {
                1 => vec![Rational::integer(numbers[part.trailing_zeros() as usize].into())],
                2..=SMALL => {
                    let mut values = Vec::new();
                    for (a, b) in splits(part) {
                        for (&x, &y) in reached[a].iter().flat_map(|x| reached[b].iter().map(move |y| (x, y))) {
                            values.extend(joined(x, y).into_iter().flatten());
                        }
                    }
                    values.sort_unstable_by_key(order);
                    values.dedup();
                    values
                }
                _ => Vec::new(),
            });
        }
        Search { numbers, reached }
    }

    /// Whether some expression over all numbers has the value `target`.
    pub fn reaches(&self, target: Rational) -> bool {
        self.part_reaches(self.all(), target)
    }

    /// Every expression over all numbers with the value `target`, with the fewest brackets, in byte order.
    pub fn solutions(&self, target: Rational) -> Vec<String> {
        // Equal numbers make equal strings, and so do trees that differ in brackets which change nothing.
        let found = self.written(self.all(), target);
        found.into_iter().map(|written| written.text).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// One of them, met first when the order is shuffled by `key`.
    pub fn find(&self, target: Rational, key: RandomKey) -> Option<String> {
        self.find_in(self.all(), target, key).map(|written| written.text)
    }

    fn all(&self) -> Part {
        (1 << self.numbers.len()) - 1
    }

    fn part_reaches(&self, part: Part, target: Rational) -> bool {
        if part.count_ones() <= SMALL {
            return self.reached[part].binary_search_by_key(&order(&target), order).is_ok();
        }
        splits(part).any(|(small, large)| {
            self.reached[small].iter().any(|&value| match missing(value, target) {
                Missing::Anything => true,
                Missing::OneOf(wanted) => {
                    wanted.into_iter().flatten().any(|(_, wanted)| self.part_reaches(large, wanted))
                }
            })
        })
    }

    /// All expressions over a part with this value; some may come twice.
    fn written(&self, part: Part, target: Rational) -> BTreeSet<Written> {
        let mut found = BTreeSet::new();
        if part.count_ones() == 1 {
            let number = self.numbers[part.trailing_zeros() as usize];
            if Rational::integer(number.into()) == target {
                found.insert(Written { text: number.to_string(), binds: Binds::Number });
            }
            return found;
        }
        if !self.part_reaches(part, target) {
            return found;
        }
        for (small, large) in splits(part) {
            for &value in &self.reached[small] {
                match missing(value, target) {
                    Missing::OneOf(wanted) => {
                        for (join, wanted) in wanted.into_iter().flatten() {
                            self.join_all(&mut found, (small, value), (large, wanted), join);
                        }
                    }
                    Missing::Anything => {
                        for wanted in self.values_of(large) {
                            for join in Join::all_with(value, wanted, target) {
                                self.join_all(&mut found, (small, value), (large, wanted), join);
                            }
                        }
                    }
                }
            }
        }
        found
    }

    fn join_all(
        &self,
        found: &mut BTreeSet<Written>,
        (small, value): (Part, Rational),
        (large, wanted): (Part, Rational),
        join: Join,
    ) {
        let larger = self.written(large, wanted);
        if larger.is_empty() {
            return;
        }
        for a in self.written(small, value) {
            found.extend(larger.iter().map(|b| join.write(&a, b)));
        }
    }

    fn find_in(&self, part: Part, target: Rational, key: RandomKey) -> Option<Written> {
        if part.count_ones() == 1 {
            return self.written(part, target).into_iter().next();
        }
        if !self.part_reaches(part, target) {
            return None;
        }
        let mut ways = Vec::new();
        for (small, large) in splits(part) {
            for &value in &self.reached[small] {
                match missing(value, target) {
                    Missing::OneOf(wanted) => {
                        let wanted = wanted.into_iter().flatten();
                        ways.extend(wanted.map(|(join, wanted)| (small, value, large, wanted, join)));
                    }
                    Missing::Anything => {
                        // Whatever the larger part is worth, zero times that is zero: its plain sum is as good as any.
                        let wanted = self.sum(large);
                        let joins = Join::all_with(value, wanted, target);
                        ways.extend(joins.map(|join| (small, value, large, wanted, join)));
                    }
                }
            }
        }
        key.shuffle(&mut ways);
        ways.into_iter().enumerate().find_map(|(place, (small, value, large, wanted, join))| {
            let key = key.at(place as u64);
            let b = self.find_in(large, wanted, key.at(0))?;
            let a = self.find_in(small, value, key.at(1))?;
            Some(join.write(&a, &b))
        })
    }

    fn sum(&self, part: Part) -> Rational {
        let numbers = self.numbers.iter().enumerate().filter(|(place, _)| part >> place & 1 == 1);
        Rational::integer(numbers.map(|(_, &number)| i64::from(number)).sum())
    }

    /// The distinct values of a part of any size; only for the rare targets of zero.
    fn values_of(&self, part: Part) -> Vec<Rational> {
        if part.count_ones() <= SMALL {
            return self.reached[part].clone();
        }
        let mut values = Vec::new();
        for (small, large) in splits(part) {
            for y in self.values_of(large) {
                values.extend(self.reached[small].iter().flat_map(|&x| joined(x, y)).flatten());
            }
        }
        values.sort_unstable_by_key(order);
        values.dedup();
        values
    }
}

/// An operator and which side the smaller part stands on.
#[derive(Debug, Clone, Copy)]
struct Join {
    operator: Operator,
    small_first: bool,
}

impl Join {
    /// Every way to join a smaller and a larger part; sums and products in both orders, since they are written differently.
    fn all() -> impl Iterator<Item = Join> {
        Operator::ALL.into_iter().flat_map(|operator| [true, false].map(|small_first| Join { operator, small_first }))
    }

    /// Those ways in which `small` and `large` make `target`.
    fn all_with(small: Rational, large: Rational, target: Rational) -> impl Iterator<Item = Join> {
        Join::all().filter(move |join| join.apply(small, large) == Ok(target))
    }

    fn apply(self, small: Rational, large: Rational) -> Result<Rational, EvaluationError> {
        let (a, b) = if self.small_first { (small, large) } else { (large, small) };
        match self.operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::Divide => a.checked_div(b),
        }
    }

    fn write(self, small: &Written, large: &Written) -> Written {
        let (a, b) = if self.small_first { (small, large) } else { (large, small) };
        // On the right of `-` a sum, and on the right of `/` a product too, would be read otherwise.
        let (binds, left, right) = match self.operator {
            Operator::Add => (Binds::Sum, Binds::Sum, Binds::Sum),
            Operator::Subtract => (Binds::Sum, Binds::Sum, Binds::Product),
            Operator::Multiply => (Binds::Product, Binds::Product, Binds::Product),
            Operator::Divide => (Binds::Product, Binds::Product, Binds::Number),
        };
        let side = |side: &Written, weakest: Binds| match side.binds < weakest {
            true => format!("({})", side.text),
            false => side.text.clone(),
        };
        Written { text: format!("{}{}{}", side(a, left), self.operator.symbol(), side(b, right)), binds }
    }
}

/// What a larger part must be worth.
enum Missing {
    /// Any value will do in some join: zero times anything is zero.
    Anything,
    /// One of these, each with its join; `None` where a join has no such value.
    OneOf([Option<(Join, Rational)>; 8]),
}

/// What must be joined with `value` to make `target`.
fn missing(value: Rational, target: Rational) -> Missing {
    if value == Rational::ZERO && target == Rational::ZERO {
        return Missing::Anything;
    }
    let way = |operator, small_first, wanted: Result<Rational, EvaluationError>| {
        // Divisions by zero and values beyond 64 bits drop out; so must a wanted divisor of zero.
        let join = Join { operator, small_first };
        wanted.ok().filter(|&wanted| join.apply(value, wanted) == Ok(target)).map(|wanted| (join, wanted))
    };
    Missing::OneOf([
        way(Operator::Add, true, target.checked_sub(value)),
        way(Operator::Add, false, target.checked_sub(value)),
        way(Operator::Subtract, true, value.checked_sub(target)),
        way(Operator::Subtract, false, target.checked_add(value)),
        way(Operator::Multiply, true, target.checked_div(value)),
        way(Operator::Multiply, false, target.checked_div(value)),
        way(Operator::Divide, true, value.checked_div(target)),
        way(Operator::Divide, false, target.checked_mul(value)),
    ])
}

/// The values of two numbers under every operator and order.
fn joined(a: Rational, b: Rational) -> [Result<Rational, EvaluationError>; 6] {
    [a.checked_add(b), a.checked_sub(b), b.checked_sub(a), a.checked_mul(b), a.checked_div(b), b.checked_div(a)]
}

/// Every way to part `part` in two, the first not larger than the second; each way once.
fn splits(part: Part) -> impl Iterator<Item = (Part, Part)> {
    // The subsets of `part`, by counting in the bits that it has.
    let subsets = std::iter::successors(Some(part & part.wrapping_neg()), move |&subset: &Part| {
        let next = subset.wrapping_sub(part) & part;
        (next != 0 && next != part).then_some(next)
    });
    let size = part.count_ones();
    subsets.filter_map(move |small| {
        let (large, count) = (part ^ small, small.count_ones());
        let first_of_two = 2 * count < size || (2 * count == size && small < large);
        (first_of_two && large != 0).then_some((small, large))
    })
}

/// A total order of values; not that of their size.
fn order(value: &Rational) -> (i64, i64) {
    (value.numerator(), value.denominator())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_complete() {
        for (part, count) in [(0b11, 1), (0b1011, 3), (0b1111, 7), (0b11111, 15), (0b111111, 31)] {
            let mut found: Vec<(Part, Part)> = splits(part).collect();
            assert!(found.iter().all(|&(a, b)| a | b == part && a & b == 0 && a.count_ones() <= b.count_ones()));
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), count, "{part:b}");
        }
    }
}
