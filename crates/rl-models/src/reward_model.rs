//! A decoder that scores sequences: the sequence-classification layout of Hugging Face checkpoints.

use std::path::Path;

use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use crate::checkpoint::{
    CONFIG_FILE, SideFiles, WEIGHTS_FILE, check_tensors, publish, read_config, read_tensors, save_tensors, write_file,
};
use crate::heads::RewardHead;
use crate::{Decoder, Error, ModelConfig, Packed, Result};

const SCORE: &str = "score.weight";

/// A decoder without output projection, and the head that reads each sequence's last token.
#[derive(Debug)]
pub struct RewardModel {
    /// The layers; it has no logits.
    pub decoder: Decoder,
    /// The scores' projection.
    pub head: RewardHead,
}

impl RewardModel {
    /// A reward model with one score from a language model: its output projection goes, a fresh head comes, drawn from
    /// `N(0, initializer_range^2)` as a function of `seed` alone.
    pub fn new(mut decoder: Decoder, seed: u64) -> Self {
        decoder.remove_head();
        let config = decoder.config();
        let (hidden, std) = (config.hidden_size as usize, config.initializer_range);
        let head = RewardHead::new(1, hidden, std, seed, decoder.device());
        RewardModel { decoder, head }
    }

    /// Loads a sequence-classification folder with weights of type `kind`, such as transformers'
    /// `AutoModelForSequenceClassification` saves.
    ///
    /// # Errors
    /// [`Error::TensorMismatch`] unless the tensors are those of the config, with `score.weight` `[labels, hidden]`
    /// instead of `lm_head.weight`; else as [`read_config`] and [`read_tensors`].
    pub fn load(folder: &Path, kind: Kind, device: Device) -> Result<Self> {
        let config = read_config(folder)?;
        let mut tensors = read_tensors(folder, Device::Cpu)?;
        let mut expected = Decoder::expected_without_head(&config);
        expected.push((SCORE.to_owned(), vec![num_labels(&config) as i64, config.hidden_size]));
        check_tensors(&tensors, &expected).map_err(|error| error.in_file(folder))?;
        let head = RewardHead::from_weight(&crate::take(&mut tensors, SCORE)?, device)?;
        Ok(RewardModel { decoder: Decoder::without_head(config, tensors, kind, device)?, head })
    }

    /// Scores of the packed sequences, f32 `[sequences]`, each read at its sequence's last token; with shared prefixes, one
    /// for each continuation.
    ///
    /// transformers skips trailing padding ids instead; a sequence that really ends in one is scored here at that token.
    ///
    /// # Errors
    /// [`Error::Argument`] for a head with more than one label (see [`RewardModel::label_scores`]); [`Error::Tch`] when
    /// libtorch refuses an operation, as for want of memory.
    pub fn scores(&self, packed: &Packed) -> Result<Tensor> {
        let scores = self.label_scores(packed)?;
        let labels = scores.size()[1];
        if labels != 1 {
            let reason = "a reward is one number; this head tells classes apart, use `label_scores`".to_owned();
            return Err(Error::Argument { name: "num_labels", value: labels.to_string(), reason });
        }
        Ok(scores.f_squeeze_dim(1)?)
    }

    /// Scores for every label, f32 `[sequences, labels]`.
    ///
    /// # Errors
    /// [`Error::Tch`] when libtorch refuses an operation, as for want of memory.
    pub fn label_scores(&self, packed: &Packed) -> Result<Tensor> {
        let hidden = self.decoder.hidden_states(packed)?;
        let last = Tensor::from_slice(&packed.last_rows()).f_to_device(self.decoder.device())?;
        self.head.forward(&hidden.f_index_select(0, &last)?) // [sequences, labels]
    }

    /// What training changes: [`Decoder::trainable_parameters`] and `score.weight`.
    pub fn trainable_parameters(&self) -> Vec<(String, Tensor)> {
        let mut parameters = self.decoder.trainable_parameters();
        parameters.push((SCORE.to_owned(), self.head.weight()));
        parameters
    }

    /// Writes a new folder that transformers' `AutoModelForSequenceClassification` loads.
    ///
    /// # Errors
    /// [`Error::Argument`] while adapters are not merged; [`Error::Checkpoint`] when the folder exists; [`Error::Io`].
    pub fn save(&self, folder: &Path, side_files: &SideFiles) -> Result<()> {
        publish(folder, |folder| self.write_into(folder, side_files))
    }

    /// As [`RewardModel::save`], into a folder that exists; not atomic.
    ///
    /// # Errors
    /// As [`RewardModel::save`], apart from the check that the folder is new.
    pub fn write_into(&self, folder: &Path, side_files: &SideFiles) -> Result<()> {
        let mut named = self.decoder.checkpoint_tensors()?;
        named.push((SCORE.to_owned(), self.head.weight()));
        let tensors: Vec<(&str, &Tensor)> = named.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let config = classification_config(self.decoder.config(), self.head.weight().size()[0] as usize);
        write_file(&folder.join(CONFIG_FILE), config.to_json()?.as_bytes())?;
        for (name, contents) in side_files.iter() {
            write_file(&folder.join(name), contents)?;
        }
        save_tensors(&folder.join(WEIGHTS_FILE), &tensors)
    }
}

/// Labels that a configuration declares; transformers' default is two.
fn num_labels(config: &ModelConfig) -> usize {
    let names = config.extra.get("id2label").and_then(Value::as_object).map(Map::len);
    let number = config.extra.get("num_labels").and_then(Value::as_u64).map(|labels| labels as usize);
    names.or(number).unwrap_or(2)
}

/// `config` under the name of the sequence-classification model of its family, with names for `labels` labels.
fn classification_config(config: &ModelConfig, labels: usize) -> ModelConfig {
    let mut config = config.clone();
    let mut letters = config.model_type.chars();
    let family: String = letters.next().iter().flat_map(|first| first.to_uppercase()).chain(letters).collect();
    config.extra.insert("architectures".to_owned(), json!([format!("{family}ForSequenceClassification")]));
    if !config.extra.contains_key("id2label") || num_labels(&config) != labels {
        let name = |label: usize| format!("LABEL_{label}");
        let names: Map<String, Value> = (0..labels).map(|label| (label.to_string(), json!(name(label)))).collect();
        let ids: Map<String, Value> = (0..labels).map(|label| (name(label), json!(label))).collect();
        config.extra.insert("id2label".to_owned(), Value::Object(names));
        config.extra.insert("label2id".to_owned(), Value::Object(ids));
    }
    config
}
