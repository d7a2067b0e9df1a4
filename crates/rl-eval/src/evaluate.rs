//! All models of an evaluation, one after the other; what is done is kept, so that an interrupted one goes on.

use std::path::{Path, PathBuf};

use rl_models::ChatModel;
use rl_torch::{keep_freed_memory, parse_device};
use rl_track::{Manifest, Progress, Run, atomic::write_atomically};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::EvaluationConfig;
use crate::protocol::{AnswerScorer, Protocol};
use crate::result::SplitResult;
use crate::{Error, Result};

/// Name of the result file in the evaluation's folder.
const SUMMARY_FILE: &str = "evaluation.json";

/// One model's results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Name of the model: its checkpoint's folder, or the key in the config.
    pub name: String,
    /// Training step of a checkpoint.
    pub step: Option<u64>,
    /// Folder of the weights.
    pub path: PathBuf,
    /// Results per split and decoding.
    pub results: Vec<SplitResult>,
}

impl Evaluation {
    /// The result of one split and decoding.
    pub fn result(&self, split: &str, decoding: &str) -> Option<&SplitResult> {
        self.results.iter().find(|result| result.split == split && result.decoding == decoding)
    }
}

/// Results of all models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Tasks per split.
    pub num_tasks: u64,
    /// Named models by name, then checkpoints in the order of training.
    pub evaluations: Vec<Evaluation>,
    /// Name of the best model by the config's `select`.
    pub best: String,
    /// Name of the last model.
    pub last: String,
}

impl Summary {
    /// The evaluation of a model.
    pub fn evaluation(&self, name: &str) -> Option<&Evaluation> {
        self.evaluations.iter().find(|evaluation| evaluation.name == name)
    }
}

/// Evaluates every model of `config`, writes `evaluation.json`, and links `best` and `last` to their weights. `scorer` is
/// the config's reward model, given exactly when it names one. From here on the process keeps the memory of freed tensors
/// ([`keep_freed_memory`]).
///
/// # Errors
/// Config, model and file errors; results of finished models stay and are not computed again.
pub fn evaluate(config: &EvaluationConfig, scorer: Option<&dyn AnswerScorer>, progress: &Progress) -> Result<Summary> {
    let protocol = Protocol::new(config, scorer)?;
    keep_freed_memory();
    let device = parse_device(&config.device)?;
    let models = models(config)?;
    let mut manifest = Manifest::new().seed("seed", config.seed);
    for (name, _, path) in &models {
        manifest = manifest.input_path(name.as_str(), path)?;
    }
    if let Some(path) = &config.reward_model {
        manifest = manifest.input_path("reward_model", path)?;
    }
    let run = Run::open(&config.run, config, manifest)?;

    let per_model = config.num_tasks * (config.splits.len() * config.decodings.len()) as u64;
    let bar = progress.bar("evaluate", models.len() as u64);
    let mut evaluations = Vec::new();
    for (name, step, path) in models {
        let file = run.folder().join("models").join(format!("{name}.json"));
        bar.set_message(format!("{name}: {per_model} episodes"));
        let evaluation = if file.exists() {
            read_json(&file)?
        } else {
            let model = ChatModel::load(&path, device)?;
            let results = protocol.play(&model, &mut |_| ())?;
            let evaluation = Evaluation { name, step, path, results };
            write_json(&file, &evaluation)?;
            evaluation
        };
        evaluations.push(evaluation);
        bar.inc(1);
    }
    bar.finish();
    let (best, last) = choose(&evaluations, config)?;
    let summary = Summary {
        num_tasks: config.num_tasks,
        best: evaluations[best].name.clone(),
        last: evaluations[last].name.clone(),
        evaluations,
    };
    for (link, index) in [("best", best), ("last", last)] {
        link_to(&run.folder().join(link), &summary.evaluations[index].path)?;
    }
    write_json(&run.folder().join(SUMMARY_FILE), &summary)?;
    Ok(summary)
}

/// Reads the `evaluation.json` that [`evaluate`] wrote into `folder`.
///
/// # Errors
/// [`Error::File`] when it is missing or not what [`evaluate`] writes.
pub fn read_summary(folder: &Path) -> Result<Summary> {
    read_json(&folder.join(SUMMARY_FILE))
}

/// Name, step and folder of every model: named ones first, then checkpoints in the order of training.
fn models(config: &EvaluationConfig) -> Result<Vec<(String, Option<u64>, PathBuf)>> {
    let named = config.models.iter().map(|(name, path)| (name.clone(), None, path.clone()));
    let mut models: Vec<_> = named.collect();
    if let Some(run) = &config.checkpoints_of {
        let checkpoints = rl_track::run::checkpoints(run)?;
        if checkpoints.is_empty() {
            return Err(Error::File { path: run.clone(), reason: "has no checkpoints; train first".into() });
        }
        models.extend(checkpoints.into_iter().map(|(step, path)| (format!("step-{step:06}"), Some(step), path)));
    }
    Ok(models)
}

/// Indices of the best and of the last model: among the checkpoints of a run when one is evaluated, named models then
/// stand beside it for comparison only.
fn choose(evaluations: &[Evaluation], config: &EvaluationConfig) -> Result<(usize, usize)> {
    let rate = |index: usize| {
        let result = evaluations[index].result(&config.select.split, &config.select.decoding);
        result.map_or(f64::NEG_INFINITY, |result| result.first_attempt.rate)
    };
    let candidates: Vec<usize> = (0..evaluations.len())
        .filter(|&index| config.checkpoints_of.is_none() || evaluations[index].step.is_some())
        .collect();
    let no_model = || Error::File { path: config.run.clone(), reason: "no model was evaluated".into() };
    let (&first, &last) = (candidates.first().ok_or_else(no_model)?, candidates.last().ok_or_else(no_model)?);
    let best = candidates.iter().fold(first, |best, &index| if rate(best) < rate(index) { index } else { best });
    Ok((best, last))
}

/// Makes `link` a relative link to `target`, so that a moved project keeps it.
fn link_to(link: &Path, target: &Path) -> Result<()> {
    let file_error = |error: std::io::Error| Error::File { path: link.to_path_buf(), reason: error.to_string() };
    let absolute = std::fs::canonicalize(target).map_err(file_error)?;
    let folder = link.parent().unwrap_or(Path::new("."));
    let base = std::fs::canonicalize(folder).map_err(file_error)?;
    let shared = base.components().zip(absolute.components()).take_while(|(a, b)| a == b).count();
    let mut relative: PathBuf = base.components().skip(shared).map(|_| "..").collect();
    relative.extend(absolute.components().skip(shared));
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(link).map_err(file_error)?;
    }
    std::os::unix::fs::symlink(relative, link).map_err(file_error)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let file_error = |reason: String| Error::File { path: path.to_path_buf(), reason };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| file_error(error.to_string()))?;
    }
    let json = serde_json::to_vec_pretty(value).map_err(|error| file_error(error.to_string()))?;
    Ok(write_atomically(path, &json)?)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file_error = |reason: String| Error::File { path: path.to_path_buf(), reason };
    let bytes = std::fs::read(path).map_err(|error| file_error(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| file_error(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Decoding, Select, Split};
    use crate::{AnswerLength, Proportion};

    /// A model that solved so many of ten tasks.
    fn evaluation(name: &str, step: Option<u64>, solved: u64) -> Evaluation {
        let share = |successes| Proportion::new(successes, 10).unwrap();
        // Another split stands first and says the opposite.
        let results = [("ood", 10 - solved), ("id", solved)].map(|(split, solved)| SplitResult {
            split: split.into(),
            decoding: "greedy".into(),
            first_attempt: share(solved),
            within_attempts: share(10 - solved),
            max_attempts: 2,
            by_kind: BTreeMap::new(),
            process_accuracy: None,
            outcomes: BTreeMap::new(),
            reward_mean: 0.0,
            answer_length: AnswerLength { mean_tokens: 1.0, truncated: share(0) },
            model_rewards: None,
            seen_in_training: None,
            first_attempt_unseen: None,
            solved_first: Vec::new(),
            transcripts: Vec::new(),
        });
        Evaluation { name: name.into(), step, path: name.into(), results: results.into() }
    }

    fn config(checkpoints_of: Option<&str>) -> EvaluationConfig {
        EvaluationConfig {
            run: "run".into(),
            device: "cpu".into(),
            seed: 0,
            num_tasks: 10,
            checkpoints_of: checkpoints_of.map(PathBuf::from),
            models: BTreeMap::new(),
            splits: Vec::<Split>::new(),
            decodings: Vec::<Decoding>::new(),
            training_data: None,
            reward_model: None,
            transcripts: 0,
            select: Select { split: "id".into(), decoding: "greedy".into() },
        }
    }

    #[test]
    fn the_best_checkpoint_is_the_first_of_equals_and_never_a_named_model() {
        let evaluations = [
            evaluation("base", None, 9),
            evaluation("step-000001", Some(1), 2),
            evaluation("step-000002", Some(2), 7),
            evaluation("step-000003", Some(3), 7),
            evaluation("step-000004", Some(4), 1),
        ];
        assert_eq!(choose(&evaluations, &config(Some("train"))).unwrap(), (2, 4));
    }

    #[test]
    fn among_named_models_alone_all_are_candidates() {
        let evaluations = [evaluation("a", None, 3), evaluation("b", None, 8), evaluation("c", None, 8)];
        assert_eq!(choose(&evaluations, &config(None)).unwrap(), (1, 2));
        choose(&[], &config(None)).unwrap_err();
    }
}
