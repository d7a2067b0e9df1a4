//! Losses over preferences: pairs of answers, and single answers judged good or bad.
//!
//! Everything is at the level of sequences: the caller gives the sum of the log-probabilities of each answer's response
//! tokens and its length, and gets the gradient with respect to those sums, which is the gradient of every response token
//! of the answer. Per token are only the weights of [`ld_dpo_token_weights`], the probabilities behind [`wpo_weights`] and
//! the supervised term, [`NllTerm`], whose value is [`cross_entropy_loss`](crate::cross_entropy::cross_entropy_loss).
//!
//! Words: `log_probs` are sums over an answer, `ratio` is `log_prob - ref_log_prob`, `c` and `r` are the ratios of the
//! chosen and the rejected answer, `score` is what an f-divergence makes of a ratio (the ratio itself by default).
//!
//! Losses are means over the pairs of the whole step, all micro-batches and ranks together: gradients of the parts add up.
//!
//! ```
//! use rl_core::preference_loss::{PreferenceBatch, PreferenceLoss, ReferenceLogProbs, preference_loss};
//!
//! # fn main() -> rl_core::Result<()> {
//! let batch = PreferenceBatch {
//!     chosen_log_probs: &[-3.2],
//!     rejected_log_probs: &[-9.4],
//!     reference: Some(ReferenceLogProbs { chosen: &[-4.0], rejected: &[-9.0] }),
//!     chosen_lengths: &[5],
//!     rejected_lengths: &[8],
//!     pair_weights: None,
//! };
//! let dpo = preference_loss(&batch, &PreferenceLoss::Sigmoid { beta: 0.1 }.into(), 1)?;
//! assert!((dpo.loss - 0.634946).abs() < 1e-6);
//! // Then per token: (log_probs * gradient of its answer).sum().backward()
//! assert!(dpo.grad_chosen_log_probs[0] < 0.0 && dpo.grad_rejected_log_probs[0] > 0.0);
//! # Ok(())
//! # }
//! ```

mod divergence;
mod evaluate;
pub(crate) mod logistic;
mod loss;
mod objective;
mod pair;
mod reference_update;
mod token_weights;
mod transport;
mod unpaired;

pub use divergence::{FDivergence, MAX_SCORE_EXPONENT};
pub use evaluate::{PreferenceBatch, PreferenceOutput, PreferenceStatistics, ReferenceLogProbs, preference_loss};
pub use loss::{PreferenceLoss, RatioScale};
pub use objective::{NllTerm, NllTokens, PreferenceObjective, WeightedLoss};
pub use reference_update::ReferenceUpdate;
pub use token_weights::{ld_dpo_token_weights, wpo_weights};
pub use unpaired::{KtoBaseline, UnpairedLoss, UnpairedObjective, UnpairedOutput, unpaired_loss};
