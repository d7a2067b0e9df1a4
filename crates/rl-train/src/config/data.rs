//! Where rows come from: a dataset, several mixed by ratio, and what is held out of them.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use rl_data::{DatasetConfig, EndOfTurn, HashSplit, MixConfig, MixStop};
use rl_track::{ConfigError, ensure};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value as Json};

/// The data of a run: one dataset, or several in one epoch.
///
/// A dataset is a path or name alone, or a table as [`DatasetConfig`] reads it:
///
/// ```toml
/// data = "runs/demo/data/sft.jsonl"
/// data = { path = "HuggingFaceH4/ultrafeedback_binarized", split = "train_prefs", max_rows = 1000 }
/// data = { path = "questions.parquet", columns = { prompt = "question", completion = "answer" } }
/// ```
///
/// [`MixtureConfig`] is a table with `datasets`.
#[derive(Debug, Clone, PartialEq)]
pub enum DataConfig {
    /// One dataset.
    One(Box<DatasetConfig>),
    /// Several.
    Mix(MixtureConfig),
}

/// Several datasets in one epoch, by ratio.
///
/// ```toml
/// [data]
/// datasets = ["runs/demo/data/sft.jsonl", { path = "HuggingFaceTB/smol-smoltalk", split = "train" }]
/// weights = [3, 1]
/// stop = "first_exhausted"
/// ```
///
/// The counts of an epoch are exact: see [`rl_data::Mix`]. Rows are numbered through, those of the first dataset first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureConfig {
    /// The datasets.
    pub datasets: Vec<DatasetConfig>,
    /// Share of each in an epoch, up to a common factor.
    pub weights: Vec<f64>,
    /// When an epoch ends.
    pub stop: MixStop,
}

/// What an evaluation reads under a name.
#[derive(Debug, Clone, PartialEq)]
pub enum HeldOutConfig {
    /// A dataset of its own; same records as `data`.
    Dataset(Box<DatasetConfig>),
    /// A share of `data`, which is then not trained on.
    Share(ShareConfig),
}

/// A share of `data` that is held out, by a hash of what is asked: `held_out.validation = { share = 0.05, seed = 1 }`.
///
/// Rows with the same prompt (of a conversation, all before its first answer) are on one side. Other rows and their order
/// move nothing, and a larger share holds out what a smaller one did and more: see [`HashSplit`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// Of all different prompts, in expectation; above 0 and below 1.
    pub share: f64,
    /// Which prompts are held out. Runs that differ in their own seed hold out the same.
    pub seed: u64,
}

impl DataConfig {
    /// Its datasets, each with its key where `key` is that of all.
    pub fn datasets<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (String, &'a DatasetConfig)> + 'a {
        let (is_mix, datasets) = match self {
            DataConfig::One(dataset) => (false, std::slice::from_ref(dataset.as_ref())),
            DataConfig::Mix(mixture) => (true, mixture.datasets.as_slice()),
        };
        let name = move |index| if is_mix { format!("{key}.datasets.{index}") } else { key.to_owned() };
        datasets.iter().enumerate().map(move |(index, dataset)| (name(index), dataset))
    }

    /// Weights and stopping rule, where there is more than one dataset.
    pub(crate) fn mix(&self) -> Option<MixConfig> {
        match self {
            DataConfig::One(_) => None,
            DataConfig::Mix(MixtureConfig { weights, stop, .. }) => {
                Some(MixConfig { weights: weights.clone(), stop: *stop })
            }
        }
    }

    /// Checks what types cannot; `key` is its own.
    pub(crate) fn validate(&self, key: &str) -> Result<(), ConfigError> {
        for (key, dataset) in self.datasets(key) {
            validate_dataset(&key, dataset)?;
        }
        let DataConfig::Mix(MixtureConfig { datasets, weights, .. }) = self else { return Ok(()) };
        let (count, key) = (datasets.len(), format!("{key}.weights"));
        ensure(2 <= count, key.replace(".weights", ".datasets"), count, "a mix needs two datasets or more")?;
        let (found, message) =
            (format!("{weights:?}"), format!("there must be one weight for each of {count} datasets"));
        ensure(weights.len() == count, key.as_str(), found, message)?;
        for &weight in weights {
            let message = "must be positive and finite; leave a dataset of weight 0 out";
            ensure(0.0 < weight && weight.is_finite(), key.as_str(), weight, message)?;
        }
        Ok(())
    }
}

/// Checks the `held_out` of a configuration.
pub(crate) fn validate_held_out(held_out: &BTreeMap<String, HeldOutConfig>) -> Result<(), ConfigError> {
    let mut shares = 0;
    for (name, config) in held_out {
        let key = format!("held_out.{name}");
        match config {
            HeldOutConfig::Dataset(dataset) => validate_dataset(&key, dataset)?,
            HeldOutConfig::Share(ShareConfig { share, seed }) => {
                shares += 1;
                ensure(
                    shares == 1,
                    key.as_str(),
                    share,
                    "is the second share of `data`, and shares overlap; keep one",
                )?;
                let good = HashSplit::new(*seed, *share).is_ok();
                ensure(good, format!("{key}.share"), share, "must be above 0 and below 1")?;
            }
        }
    }
    Ok(())
}

pub(super) fn validate_dataset(key: &str, dataset: &DatasetConfig) -> Result<(), ConfigError> {
    let message = "must be positive; leave it out to read all rows";
    ensure(dataset.max_rows != Some(0), format!("{key}.max_rows"), 0, message)
}

/// For `skip_serializing_if`: the rule that holds where none is given.
pub(crate) fn is_required(end_of_turn: &EndOfTurn) -> bool {
    *end_of_turn == EndOfTurn::Required
}

impl From<DatasetConfig> for DataConfig {
    fn from(dataset: DatasetConfig) -> Self {
        DataConfig::One(Box::new(dataset))
    }
}

impl Serialize for DataConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            DataConfig::One(dataset) => dataset.serialize(serializer),
            DataConfig::Mix(mixture) => mixture.serialize(serializer),
        }
    }
}

impl Serialize for HeldOutConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            HeldOutConfig::Dataset(dataset) => dataset.serialize(serializer),
            HeldOutConfig::Share(share) => share.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for DataConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match deserializer.deserialize_any(DatasetOr::of(&["datasets", "weights", "stop"]))? {
            Found::Dataset(dataset) => DataConfig::One(dataset),
            Found::Other(mixture) => DataConfig::Mix(mixture),
        })
    }
}

impl<'de> Deserialize<'de> for HeldOutConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match deserializer.deserialize_any(DatasetOr::of(&["share", "seed"]))? {
            Found::Dataset(dataset) => HeldOutConfig::Dataset(dataset),
            Found::Other(share) => HeldOutConfig::Share(share),
        })
    }
}

enum Found<T> {
    Dataset(Box<DatasetConfig>),
    Other(T),
}

/// Reads a dataset, or a `T` where a table has one of `keys`.
struct DatasetOr<T> {
    keys: &'static [&'static str],
    other: PhantomData<T>,
}

impl<T> DatasetOr<T> {
    fn of(keys: &'static [&'static str]) -> Self {
        DatasetOr { keys, other: PhantomData }
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for DatasetOr<T> {
    type Value = Found<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the path or name of a dataset, or a table with `path` or `{}`", self.keys[0])
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<Found<T>, E> {
        DatasetConfig::deserialize(path.into_deserializer()).map(|dataset| Found::Dataset(Box::new(dataset)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Found<T>, A::Error> {
        let table: Map<String, Json> = Map::deserialize(MapAccessDeserializer::new(map))?;
        let is_other = self.keys.iter().any(|key| table.contains_key(*key));
        let table = Json::Object(table);
        let found = match is_other {
            true => T::deserialize(table).map(Found::Other),
            false => DatasetConfig::deserialize(table).map(|dataset| Found::Dataset(Box::new(dataset))),
        };
        found.map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn what_is_read_is_written() {
        let column = json!({"path": "q.parquet", "columns": {"prompt": "question"}});
        let mix = json!({"datasets": ["a.jsonl", column], "weights": [3.0, 1.0], "stop": "all_exhausted"});
        for value in [json!("a.jsonl"), column, mix] {
            let config: DataConfig = from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(&config).unwrap(), value);
        }
        let share = json!({"share": 0.25, "seed": 3});
        for value in [json!("b.jsonl"), json!({"path": "c", "split": "test"}), share] {
            let config: HeldOutConfig = from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(&config).unwrap(), value);
        }
    }

    #[test]
    fn datasets_of_a_mix_have_keys_of_their_own() {
        let one: DataConfig = from_value(json!("a")).unwrap();
        assert_eq!(one.datasets("data").map(|(key, _)| key).collect::<Vec<_>>(), ["data"]);
        let mix = json!({"datasets": ["a", "b"], "weights": [1, 2], "stop": "first_exhausted"});
        let mix: DataConfig = from_value(mix).unwrap();
        let keys: Vec<String> = mix.datasets("pretrain.data").map(|(key, _)| key).collect();
        assert_eq!(keys, ["pretrain.data.datasets.0", "pretrain.data.datasets.1"]);
    }
}
