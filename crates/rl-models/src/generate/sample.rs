//! Chooses the next token of every row of logits: the work over the vocabulary on the device, one small transfer.
//!
//! - Greedy: the greatest score, the lowest id of equals.
//! - Untruncated: a row's uniform number picks a block of the vocabulary by the blocks' sums; the block comes to the host,
//!   which finds the token in it in f64. Together: the inverse of the cumulative distribution in the order of ids.
//! - Truncated: the most probable candidates come to the host ([`super::truncate`]). A row whose nucleus is larger than
//!   that comes to the host as a whole; such rows are counted.
//!
//! Every choice is a function of the row's logits and its uniform number: other rows are never looked at.

use tch::{Device, Kind, TchError, Tensor};

use super::config::SamplingConfig;
use super::truncate::Candidates;
use crate::{Error, Result};

/// Tokens of one block of the vocabulary.
const BLOCK: i64 = 256;
/// Candidates that a truncated row brings to the host at first.
const CANDIDATES: i64 = 128;
/// How many times as many are sorted on the host when those do not suffice, before all are.
const WIDER: usize = 16;

/// What the choice of one row needs besides the logits.
pub(super) struct Row<'a> {
    /// Uniform on `[0, 1)`.
    pub uniform: f64,
    /// Distinct ids that the repetition penalty applies to.
    pub seen: &'a [i64],
    /// Whether the response is still too short to end.
    pub is_too_short: bool,
}

/// The token of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Chosen {
    pub id: i64,
    /// Of the distribution drawn from.
    pub log_prob: f64,
    /// Of log-softmax of the logits over the temperature.
    pub full_log_prob: f64,
}

pub(super) struct Sampler {
    config: SamplingConfig,
    /// Ids that cannot be drawn while a response is too short, all inside the vocabulary.
    stop_ids: Vec<i64>,
    /// Rows that needed more than the first candidates.
    pub wide_rows: u64,
}

impl Sampler {
    pub fn new(config: SamplingConfig, stop_ids: Vec<i64>) -> Self {
        Sampler { config, stop_ids, wide_rows: 0 }
    }

    /// One token per row of `logits` `[rows, vocab]`, which this changes.
    ///
    /// [`Error::NonFinite`] when a row holds NaN or plus infinity, or leaves nothing to draw.
    pub fn choose(&mut self, logits: Tensor, rows: &[Row]) -> Result<Vec<Chosen>> {
        let mut scores = logits.f_to_kind(Kind::Float)?;
        if self.config.divisor() != 1.0 {
            // Penalty and masks come before the temperature; both scale with it, so dividing first is the same.
            let _ = scores.f_div_scalar_(self.config.divisor())?;
        }
        let full = if self.config.reweighs() {
            let full = scores.f_log_softmax(-1, Kind::Float)?;
            self.reweigh(&scores, rows)?;
            Some(full)
        } else {
            None
        };
        let drawn = Drawn { probabilities: scores.f_softmax(-1, Kind::Float)?, scores, full };
        if self.config.temperature == 0.0 {
            drawn.greatest()
        } else if self.config.truncates() {
            self.truncated(&drawn, rows)
        } else {
            drawn.by_inverse_cdf(rows)
        }
    }

    /// Repetition penalty and minimum length, in place on `scores` `[rows, vocab]`.
    fn reweigh(&self, scores: &Tensor, rows: &[Row]) -> Result<()> {
        let (vocab, device) = (scores.size2()?.1, scores.device());
        let mut flat = scores.f_view([-1])?;
        let cells = |ids_of: &dyn Fn(&Row) -> Vec<i64>| -> Vec<i64> {
            let rows = rows.iter().enumerate();
            rows.flat_map(|(index, row)| ids_of(row).into_iter().map(move |id| index as i64 * vocab + id)).collect()
        };
        let penalty = self.config.repetition_penalty;
        if penalty != 1.0 {
            let seen = Tensor::from_slice(&cells(&|row| row.seen.to_vec())).f_to_device(device)?;
            let old = flat.f_index_select(0, &seen)?;
            let new = old.f_mul_scalar(penalty)?.f_where_self(&old.f_lt(0.0)?, &old.f_div_scalar(penalty)?)?;
            let _ = flat.f_index_copy_(0, &seen, &new)?;
        }
        let stops = cells(&|row| if row.is_too_short { self.stop_ids.clone() } else { Vec::new() });
        if !stops.is_empty() {
            let _ = flat.f_index_fill_(0, &Tensor::from_slice(&stops).f_to_device(device)?, f64::NEG_INFINITY)?;
        }
        Ok(())
    }

    fn truncated(&mut self, drawn: &Drawn, rows: &[Row]) -> Result<Vec<Chosen>> {
        let Drawn { scores, probabilities, full } = drawn;
        let (num_rows, vocab) = scores.size2()?;
        let wanted = CANDIDATES.max(i64::try_from(self.config.top_k).unwrap_or(vocab).saturating_add(1)).min(vocab);
        let (values, ids) = scores.f_topk(wanted, -1, true, true)?; // [rows, wanted]
        let top = ids.f_narrow(1, 0, 1)?;
        let mut columns = vec![values.f_to_kind(Kind::Double)?, ids.f_to_kind(Kind::Double)?];
        columns.push(probabilities.f_gather(1, &top, false)?.f_to_kind(Kind::Double)?);
        if let Some(full) = full {
            columns.push(full.f_gather(1, &ids, false)?.f_to_kind(Kind::Double)?);
        }
        let host = to_host(&columns)?;
        let wanted = wanted as usize;
        let width = host.len() / (num_rows as usize).max(1);
        let mut chosen = Vec::with_capacity(rows.len());
        for (index, (row, numbers)) in rows.iter().zip(host.chunks_exact(width)).enumerate() {
            let (values, rest) = numbers.split_at(wanted);
            let (ids, rest) = rest.split_at(wanted);
            let top = rest[0];
            if !(0.0 < top && top <= 1.5) {
                return Err(non_finite());
            }
            let tokens: Vec<(f64, i64)> = values.iter().zip(ids).map(|(&value, &id)| (value, id as i64)).collect();
            let full_of = |id: i64| ids.iter().position(|&other| other as i64 == id).map(|at| rest[1 + at]);
            let first = Candidates::new(tokens, wanted as i64 == vocab, 1.0 / top);
            let (id, log_prob, score) = match first.kept(&self.config) {
                Some(kept) => first.draw(kept, row.uniform),
                None => {
                    self.wide_rows += 1;
                    self.draw_wide(&scores.f_get(index as i64)?, wanted, 1.0 / top, row.uniform)?
                }
            };
            let full_log_prob = match full {
                None => score - first.tokens[0].0 + top.ln(),
                Some(full) => full_of(id).map_or_else(|| full.f_double_value(&[index as i64, id]), Ok)?,
            };
            chosen.push(Chosen { id, log_prob, full_log_prob });
        }
        Ok(chosen)
    }

    /// The draw of a row whose first `tried` candidates do not hold all that truncation keeps; `scores` is `[vocab]`.
    fn draw_wide(&self, scores: &Tensor, tried: usize, total: f64, uniform: f64) -> Result<(i64, f64, f64)> {
        let scores = Vec::<f32>::try_from(scores)?;
        let mut tokens: Vec<(f64, i64)> = scores.iter().map(|&score| f64::from(score)).zip(0..).collect();
        let wanted = tried.saturating_mul(WIDER);
        if wanted < tokens.len() {
            tokens.select_nth_unstable_by(wanted - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let wider = Candidates::new(tokens[..wanted].to_vec(), false, total);
            if let Some(kept) = wider.kept(&self.config) {
                return Ok(wider.draw(kept, uniform));
            }
        }
        let all = Candidates::new(tokens, true, total);
        let kept = all.kept(&self.config).ok_or_else(non_finite)?;
        Ok(all.draw(kept, uniform))
    }
}

/// The distributions of one step, `[rows, vocab]` each.
struct Drawn {
    /// Logits over temperature, after penalty and masks.
    scores: Tensor,
    /// Softmax of `scores`.
    probabilities: Tensor,
    /// Log-softmax before penalty and masks, where they change anything.
    full: Option<Tensor>,
}

impl Drawn {
    fn greatest(&self) -> Result<Vec<Chosen>> {
        let blocks = Blocks::of(&self.scores)?;
        // The first block with the greatest score, then the first place in it: the lowest id. Much faster than one
        // `argmax` over the vocabulary, which libtorch does not vectorise on the CPU.
        let found = blocks.reduce(|block| block.f_amax(-1, false))?.f_argmax(-1, true)?; // [rows, 1]
        let ids = blocks.ids(&found)?; // [rows, block]
        let within = self.scores.f_gather(1, &ids, false)?.f_argmax(-1, true)?;
        let ids = ids.f_gather(1, &within, false)?; // [rows, 1]
        let log_probs = self.probabilities.f_gather(1, &ids, false)?.f_to_kind(Kind::Double)?.f_log()?;
        let full = match &self.full {
            Some(full) => full.f_gather(1, &ids, false)?.f_to_kind(Kind::Double)?,
            None => log_probs.shallow_clone(),
        };
        let host = to_host(&[ids.f_to_kind(Kind::Double)?, log_probs, full])?;
        let chosen = host.chunks_exact(3).map(|row| {
            let chosen = Chosen { id: row[0] as i64, log_prob: row[1], full_log_prob: row[2] };
            if chosen.log_prob.is_finite() { Ok(chosen) } else { Err(non_finite()) }
        });
        chosen.collect()
    }

    fn by_inverse_cdf(&self, rows: &[Row]) -> Result<Vec<Chosen>> {
        let blocks = Blocks::of(&self.probabilities)?;
        let sums = blocks.reduce(|block| block.f_sum_dim_intlist(-1, false, Kind::Float))?;
        let cumulative = sums.f_cumsum(1, Kind::Double)?; // [rows, blocks]
        let (num_rows, num_blocks) = cumulative.size2()?;
        let total = cumulative.f_narrow(1, num_blocks - 1, 1)?; // [rows, 1]
        // Strictly below the total, so that the block found has a positive sum.
        let below_one = 1.0 - 2.0 * f64::EPSILON;
        let uniforms: Vec<f64> = rows.iter().map(|row| row.uniform * below_one).collect();
        let targets = Tensor::from_slice(&uniforms).f_to_device(total.device())?.f_unsqueeze(1)?.f_mul(&total)?; // [rows, 1]
        let found = cumulative.f_le_tensor(&targets)?.f_sum_dim_intlist(-1, true, Kind::Int64)?; // [rows, 1]
        let found = found.f_clamp_max(num_blocks - 1)?;
        let padded = Tensor::f_cat(&[Tensor::f_zeros_like(&total)?, cumulative], 1)?;
        let before = padded.f_gather(1, &found, false)?;
        let ids = blocks.ids(&found)?; // [rows, block]
        let mut columns = vec![found.f_to_kind(Kind::Double)?, targets.f_sub(&before)?, total];
        columns.push(self.probabilities.f_gather(1, &ids, false)?.f_to_kind(Kind::Double)?);
        if let Some(full) = &self.full {
            columns.push(full.f_gather(1, &ids, false)?.f_to_kind(Kind::Double)?);
        }
        let host = to_host(&columns)?;
        let width = host.len() / (num_rows as usize).max(1);
        let chosen = host.chunks_exact(width).map(|numbers| {
            let (found, mut rest, total) = (numbers[0] as i64, numbers[1], numbers[2]);
            if !(0.0 < total && total.is_finite()) {
                return Err(non_finite());
            }
            let start = found * blocks.size;
            let len = blocks.size.min(blocks.vocab - start) as usize;
            let weights = &numbers[3..3 + len];
            let mut offset = None;
            for (index, &weight) in weights.iter().enumerate() {
                if 0.0 < weight {
                    offset = Some(index); // rounding at the far end leaves the last possible token
                    if rest < weight {
                        break;
                    }
                    rest -= weight;
                }
            }
            let offset = offset.ok_or_else(non_finite)?;
            let log_prob = (weights[offset] / total).ln();
            let full_log_prob = if self.full.is_some() { numbers[3 + blocks.size as usize + offset] } else { log_prob };
            Ok(Chosen { id: start + offset as i64, log_prob, full_log_prob })
        });
        chosen.collect()
    }
}

/// A vocabulary cut into blocks of equal size, the last one possibly smaller.
struct Blocks<'a> {
    /// `[rows, vocab]`.
    rows: &'a Tensor,
    vocab: i64,
    size: i64,
}

impl<'a> Blocks<'a> {
    fn of(rows: &'a Tensor) -> Result<Self> {
        let vocab = rows.size2()?.1;
        Ok(Blocks { rows, vocab, size: BLOCK.min(vocab) })
    }

    /// `reduce` over the last dimension of every block, `[rows, blocks]`.
    fn reduce(&self, reduce: impl Fn(&Tensor) -> std::result::Result<Tensor, TchError>) -> Result<Tensor> {
        let whole = self.vocab / self.size;
        let body = self.rows.f_narrow(1, 0, whole * self.size)?.f_view([-1, whole, self.size])?;
        let reduced = reduce(&body)?;
        let rest = self.vocab % self.size;
        if rest == 0 {
            return Ok(reduced);
        }
        let tail = reduce(&self.rows.f_narrow(1, whole * self.size, rest)?.f_unsqueeze(1)?)?;
        Ok(Tensor::f_cat(&[reduced, tail], 1)?)
    }

    /// Ids of the block `found` `[rows, 1]` of each row, `[rows, block]`; past the vocabulary its last id again.
    fn ids(&self, found: &Tensor) -> Result<Tensor> {
        let offsets = Tensor::f_arange(self.size, (Kind::Int64, self.rows.device()))?;
        Ok(found.f_mul_scalar(self.size)?.f_add(&offsets)?.f_clamp_max(self.vocab - 1)?)
    }
}

/// Puts columns `[rows, _]` in f64 side by side and brings them to the host in one transfer.
fn to_host(columns: &[Tensor]) -> Result<Vec<f64>> {
    let joined = Tensor::f_cat(columns, 1)?.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?;
    Ok(Vec::<f64>::try_from(joined)?)
}

fn non_finite() -> Error {
    Error::NonFinite { what: "logits of the next token".into() }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// f32 on our side, f64 after f32 logits on the other.
    const LOG_PROB: f64 = 2e-6;
    /// Uniform numbers on an even grid.
    const GRID: usize = 4096;

    #[derive(Deserialize)]
    struct Golden {
        prompt_ids: Vec<i64>,
        stop_ids: Vec<i64>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        settings: serde_json::Map<String, serde_json::Value>,
        logits: Vec<f32>,
        probabilities: Vec<f64>,
        full_log_probs: Vec<f64>,
    }

    fn golden() -> Golden {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/logits_processors.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// The configuration of a case, read as a file's table would be.
    fn config(case: &Case) -> SamplingConfig {
        let mut settings = case.settings.clone();
        settings.insert("max_new_tokens".into(), 8.into());
        settings.insert("num_slots".into(), 1.into());
        let config: SamplingConfig = serde_json::from_value(settings.into()).unwrap();
        config.validate().unwrap();
        config
    }

    fn distinct(ids: &[i64]) -> Vec<i64> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// What `sampler` draws from `logits` at every number of the grid, all in one batch.
    fn draw_grid(sampler: &mut Sampler, logits: &[f32], seen: &[i64]) -> Vec<Chosen> {
        let uniforms = (0..GRID).map(|index| (index as f64 + 0.5) / GRID as f64);
        let is_too_short = 0 < sampler.config.min_new_tokens;
        let rows: Vec<Row> = uniforms.map(|uniform| Row { uniform, seen, is_too_short }).collect();
        let batch = Tensor::from_slice(logits).unsqueeze(0).repeat([GRID as i64, 1]);
        sampler.choose(batch, &rows).unwrap()
    }

    #[test]
    fn distributions_equal_those_of_transformers_processors() {
        let Golden { prompt_ids, stop_ids, cases } = golden();
        assert_eq!(cases.len(), 13);
        for case in cases {
            let config = config(&case);
            let mut sampler = Sampler::new(config.clone(), stop_ids.clone());
            let mut counts = vec![0_usize; case.logits.len()];
            for chosen in draw_grid(&mut sampler, &case.logits, &distinct(&prompt_ids)) {
                let id = chosen.id as usize;
                counts[id] += 1;
                let expected = case.probabilities[id].ln();
                assert!(
                    (chosen.log_prob - expected).abs() < LOG_PROB,
                    "{config:?} {id}: {} {expected}",
                    chosen.log_prob
                );
                let expected = case.full_log_probs[id];
                assert!((chosen.full_log_prob - expected).abs() < LOG_PROB, "{config:?} {id} full");
            }
            // An interval of length p holds p * GRID points of the grid, one more or less at each of its ends.
            for (id, (&count, &probability)) in counts.iter().zip(&case.probabilities).enumerate() {
                let expected = probability * GRID as f64;
                assert!((count as f64 - expected).abs() <= 1.0 + 1e-3, "{config:?} {id}: {count} of {expected}");
            }
        }
    }

    #[test]
    fn greedy_takes_the_first_of_equals_after_penalty_and_mask() {
        for vocab in [7_usize, 256, 300, 1000] {
            let mut logits = vec![-1.0_f32; vocab];
            (logits[vocab - 1], logits[vocab - 2], logits[3]) = (2.0, 2.0, 1.5);
            let choose = |config: SamplingConfig, seen: &[i64], is_too_short| {
                let mut sampler = Sampler::new(config, vec![vocab as i64 - 2]);
                let row = Row { uniform: 0.9, seen, is_too_short };
                sampler.choose(Tensor::from_slice(&logits).unsqueeze(0), &[row]).unwrap()[0]
            };
            let plain = SamplingConfig::greedy(4, 1);
            let others = (vocab - 3) as f64 * f64::exp(-3.0) + f64::exp(-0.5);
            let chosen = choose(plain.clone(), &[], false);
            assert_eq!(chosen.id, vocab as i64 - 2, "{vocab}");
            assert!((chosen.log_prob + (2.0 + others).ln()).abs() < LOG_PROB);
            assert_eq!(chosen.log_prob, chosen.full_log_prob);
            let short = SamplingConfig { min_new_tokens: 2, ..plain.clone() };
            let chosen = choose(short.clone(), &[], true);
            assert_eq!(chosen.id, vocab as i64 - 1);
            assert!((chosen.log_prob + (1.0 + others).ln()).abs() < LOG_PROB, "without the masked one");
            assert!((chosen.full_log_prob + (2.0 + others).ln()).abs() < LOG_PROB, "with it");
            assert_eq!(choose(short, &[], false).id, vocab as i64 - 2);
            let penalised = SamplingConfig { repetition_penalty: 2.0, ..plain };
            assert_eq!(choose(penalised, &[vocab as i64 - 1, vocab as i64 - 2], false).id, 3);
        }
    }

    /// A flat distribution over 5000 tokens: the nucleus is far larger than the first candidates.
    #[test]
    fn a_nucleus_larger_than_the_candidates_is_found_whole() {
        const VOCAB: usize = 5000;
        let logits: Vec<f32> = (0..VOCAB).map(|id| (id * 7919 % VOCAB) as f32 / 2500.0).collect();
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        for top_p in [0.05, 0.3, 0.9] {
            let config = SamplingConfig { top_p, ..SamplingConfig::sampled(1, 1.0, 1) };
            let mut ranked: Vec<f64> = logits.iter().map(|&logit| f64::from(logit).exp() / total).collect();
            ranked.sort_unstable_by(|a, b| b.total_cmp(a));
            let mut mass = 0.0;
            let size = 1 + ranked
                .iter()
                .take_while(|&&p| {
                    mass += p;
                    mass < top_p
                })
                .count();
            let mut sampler = Sampler::new(config, Vec::new());
            let uniform = 1.0 - 1e-9;
            let row = Row { uniform, seen: &[], is_too_short: false };
            let last = sampler.choose(Tensor::from_slice(&logits).unsqueeze(0), &[row]).unwrap()[0];
            let rank = logits.iter().filter(|&&logit| logits[last.id as usize] < logit).count();
            assert_eq!(rank, size - 1, "the far end of {top_p}");
            let kept: f64 = ranked[..size].iter().sum();
            assert!((last.log_prob - (ranked[size - 1] / kept).ln()).abs() < LOG_PROB);
            assert_eq!(sampler.wide_rows, u64::from(CANDIDATES < size as i64), "{size}");
        }
    }

    #[test]
    fn logits_that_are_not_numbers_are_errors_in_every_mode() {
        let greedy = SamplingConfig::greedy(1, 1);
        let plain = SamplingConfig::sampled(1, 1.0, 1);
        let truncated = SamplingConfig { top_p: 0.9, ..plain.clone() };
        let penalised = SamplingConfig { repetition_penalty: 1.1, ..plain.clone() };
        for config in [greedy, plain, truncated, penalised] {
            for bad in [f32::NAN, f32::INFINITY] {
                let logits = Tensor::from_slice(&[0.0_f32, 1.0, 0.5, 0.0, bad, 1.0]).view([2, 3]);
                let row = || Row { uniform: 0.5, seen: &[0], is_too_short: false };
                let result = Sampler::new(config.clone(), Vec::new()).choose(logits, &[row(), row()]);
                assert!(matches!(result, Err(Error::NonFinite { .. })), "{config:?} {bad}");
            }
        }
    }
}
