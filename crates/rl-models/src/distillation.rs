//! Distillation: the student's next-token distribution pulled to the teacher's, over the whole vocabulary.
//!
//! Both heads run in tiles on labelled rows only, and the tiles are made again in the backward pass: kept between the
//! passes are four numbers per label, and memory beyond that is a few tiles and the gradients themselves. Not here:
//! whether a step learns from the student's own answers or from given ones, and the loops (rl-train).

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::chunked_head::{ACCELERATOR_TILE_BYTES, TILE_BYTES};
use crate::decoder::Decoder;
use crate::{Error, Result};

mod tiled;

use tiled::{Projection, TiledDivergence};

/// What is measured between the student `s` and the teacher `t`, summed over the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Divergence {
    /// `KL(t || s)`: the student covers all that the teacher does.
    ForwardKl,
    /// `KL(s || t)`: the student keeps to what the teacher does.
    ReverseKl,
    /// `mix KL(t || m) + (1 - mix) KL(s || m)` with `m = mix t + (1 - mix) s`.
    ///
    /// Agarwal et al. 2023 (GKD), eq. 1: <https://arxiv.org/abs/2306.13649>; 0.5 there and in TRL's defaults. As `mix`
    /// nears 0 or 1 the value nears 0; TRL's `beta = 0` and `beta = 1` are [`Divergence::ForwardKl`] and
    /// [`Divergence::ReverseKl`] instead, so both ends are refused here.
    JensenShannon {
        /// The teacher's share of the mixture, inside `(0, 1)`.
        mix: f64,
    },
    /// `-sum(p_t log p_s)`: the forward divergence plus the teacher's entropy, so its gradient is the same. A column
    /// whose student logit is infinite adds nothing. It is OpenRLHF's distillation loss, at temperature 1.
    CrossEntropy,
}

/// How a student learns from a teacher.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillationSettings {
    /// The measure.
    pub divergence: Divergence,
    /// Divides the logits of both. The loss is not multiplied by its square.
    pub temperature: f64,
}

impl DistillationSettings {
    /// Checks the constants.
    ///
    /// # Errors
    /// [`Error::Argument`] for a temperature that is not positive and finite, or a mixture that is none.
    pub fn validate(&self) -> Result<()> {
        let refuse = |name, value: f64, reason: &str| {
            Err(Error::Argument { name, value: value.to_string(), reason: reason.into() })
        };
        if !(self.temperature.is_finite() && 0.0 < self.temperature) {
            return refuse("temperature", self.temperature, "must be positive and finite");
        }
        match self.divergence {
            Divergence::JensenShannon { mix } if !(0.0 < mix && mix < 1.0) => {
                refuse("mix", mix, "must be inside (0, 1); at its ends choose forward_kl or reverse_kl")
            }
            _ => Ok(()),
        }
    }
}

/// The divergence at the rows `label_rows` `[labels]` of both hidden states, divided by `num_labels`: a scalar, f32 (f64
/// for f64 weights), with gradients to `student_hidden` and, unless it is frozen, to the student's head.
///
/// `student_hidden` and `teacher_hidden` are `[tokens, hidden]` each with its own width, the outputs of
/// [`Decoder::hidden_states`] for the same packed tokens; row `r` predicts the token after `r`. `num_labels` counts the
/// labels of the whole step, so that losses of micro-batches and ranks are summed. Nothing of the teacher gets a gradient.
/// Sums over rows run in f64. A value that is not finite is not replaced: check it as any loss.
///
/// Memory beyond the gradients is about five tiles, whatever `labels` and `vocab` are, and four numbers per label.
///
/// # Errors
/// [`Error::Argument`] for bad settings, `num_labels` 0 or below the rows given, hidden states of different lengths, or
/// vocabularies of different sizes; [`Error::Tch`] when libtorch refuses an operation, as for a row outside the hidden
/// states.
pub fn distillation_loss(
    student: &Decoder,
    student_hidden: &Tensor,
    teacher: &Decoder,
    teacher_hidden: &Tensor,
    label_rows: &Tensor,
    settings: DistillationSettings,
    num_labels: usize,
) -> Result<Tensor> {
    settings.validate()?;
    let refuse = |name, value: String, reason: String| Err(Error::Argument { name, value, reason });
    let labels = label_rows.size1()?;
    if num_labels == 0 || (num_labels as i64) < labels {
        let reason =
            format!("must be positive and count the {labels} rows given here and those of the rest of the step");
        return refuse("num_labels", num_labels.to_string(), reason);
    }
    let ((student_tokens, _), (teacher_tokens, _)) = (student_hidden.size2()?, teacher_hidden.size2()?);
    if student_tokens != teacher_tokens {
        let reason = format!("the student has {student_tokens} rows; run both over the same packed tokens");
        return refuse("teacher_hidden", format!("{teacher_tokens} rows"), reason);
    }
    let (student_vocab, teacher_vocab) = (student.config().vocab_size, teacher.config().vocab_size);
    if student_vocab != teacher_vocab {
        let reason = format!("the student has {student_vocab} columns; both need one vocabulary, padding included");
        return refuse("teacher vocabulary", format!("{teacher_vocab} columns"), reason);
    }
    let divergence = TiledDivergence {
        student: Projection { hidden: student_hidden.shallow_clone(), weight: student.head_weight()?.shallow_clone() },
        teacher: Projection {
            hidden: teacher_hidden.f_detach()?,
            weight: teacher.head_weight()?.f_detach()?.f_to_device(student.device())?,
        },
        rows: label_rows.shallow_clone(),
        settings,
        divisor: num_labels as f64,
        tile_bytes: if student.device() == Device::Cpu { TILE_BYTES } else { ACCELERATOR_TILE_BYTES },
    };
    divergence.run()
}
