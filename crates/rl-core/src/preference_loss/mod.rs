//! Losses over preferences: pairs, and single answers judged good or bad.

pub(crate) mod logistic;
