//! A run as a screen of text: what `cargo xtask watch` shows.
//!
//! A [`Record`] reads a run's folder and nothing else, so it works for a run that is going, done, killed, or not yet begun. A
//! [`frame`] makes a screen of records, as text alone; terminals, keys and clocks are the caller's.

mod chart;
mod frame;
mod record;
mod text;

pub use frame::{Look, frame};
pub use record::{Activity, Record};
