//! V-IRL: walk a route through a city by a list of instructions, in the language variant.
//!
//! An episode stands on a rail of points along a route; at each one the policy must name the next action. [`geodesy`] and
//! [`direction`] measure, [`route`] and [`milestone`] hold a route and read the published layout, [`panorama`] moves points to
//! where photographs exist, [`city`] and [`synthetic`] invent streets and routes, [`rail`] lays the points, [`prompt`] asks,
//! [`answer`] reads, [`verifier`] grades, [`env`](mod@env) plays, [`expert`] shows how and [`dataset`] fills training files.
//! The task, its numbers and its rewards follow Chu et al. 2025, "SFT Memorizes, RL Generalizes":
//! <https://arxiv.org/abs/2501.17161>, on the platform of Yang et al. 2024: <https://arxiv.org/abs/2402.03310>; where we
//! depart from the published behaviour a `legacy_*` switch restores it. The visual variant is not here.
//!
//! ```
//! use rl_envs::Environment;
//! use rl_envs::virl::{Virl, VirlConfig};
//!
//! fn main() -> rl_envs::Result<()> {
//!     let mut walk = Virl::new(VirlConfig::default())?;
//!     let mut prompt = walk.reset(42, 0)?.messages; // seed, episode index
//!     while let Some(answer) = walk.expert_answer() {
//!         let step = walk.step(&answer)?;
//!         assert_eq!((step.outcome, step.reward), ("correct", 1.0));
//!         if let Some(next) = step.feedback {
//!             assert!(walk.starts_over()); // the history is inside the prompt
//!             prompt = vec![next];
//!         }
//!     }
//!     println!("{}", prompt[0].content);
//!     Ok(())
//! }
//! ```

pub mod answer;
pub mod city;
pub mod config;
pub mod dataset;
pub mod direction;
pub mod env;
pub mod expert;
pub mod geodesy;
pub mod landmark;
pub mod milestone;
pub mod outcome;
pub mod panorama;
pub mod prompt;
pub mod rail;
pub mod route;
pub mod route_set;
pub mod synthetic;
pub mod verifier;

pub use answer::{Answer, ParseMode};
pub use city::City;
pub use config::{EpisodeKind, RewardTable, RouteOrder, RouteSource, TemplateKind, VirlConfig};
pub use dataset::{DatasetConfig, DatasetPart, DatasetRow, RowKind};
pub use direction::{Action, ActionSpace, Compass, Relation, Turn};
pub use env::Virl;
pub use expert::{Expert, ExpertExample, expert_example};
pub use geodesy::Geocode;
pub use outcome::Outcome;
pub use panorama::PanoramaMap;
pub use rail::{Rail, RailPoint};
pub use route::{Place, Route, Segment};
pub use route_set::RouteSet;
pub use synthetic::SyntheticConfig;
pub use verifier::{Verdict, Verifier};
