//! Adapter folders in PEFT's layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::{Device, Tensor};

use super::{LoraConfig, TargetModules};
use crate::checkpoint::{
    CONFIG_FILE as MODEL_CONFIG_FILE, check_finite, check_tensors, folder_or_repository, load_tensors, save_tensors,
    write_file,
};
use crate::linear::Linear;
use crate::{Error, Result};

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// Fields of the settings that do not change what the adapters compute.
const HARMLESS: [&str; 16] = [
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "eva_config",
    "inference_mode",
    "init_lora_weights",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "target_modules",
    "task_type",
];

/// Name of `lora_A` or `lora_B` (`part` `A` or `B`) of the projection `module`.
pub(super) fn tensor_name(module: &str, part: &str) -> String {
    format!("base_model.model.{module}.lora_{part}.weight")
}

/// Reads the settings of a folder.
///
/// A field that is not known must be neutral (null, false, empty): it may change the numbers.
pub(super) fn read_config(folder: &Path) -> Result<LoraConfig> {
    let path = folder.join(CONFIG_FILE);
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let json_error = |source| Error::Json { path: path.clone(), source };
    let fields: Map<String, Value> = serde_json::from_slice(&bytes).map_err(json_error)?;
    let refuse = |key: &str, value: &Value, reason: &str| Error::Checkpoint {
        path: path.clone(),
        reason: format!("`{key}` is {value}: {reason}"),
    };
    let get = |key: &str| fields.get(key).unwrap_or(&Value::Null);
    if get("peft_type") != "LORA" {
        return Err(refuse("peft_type", get("peft_type"), "only LORA adapters can be read"));
    }
    if !matches!(get("bias"), Value::Null) && get("bias") != "none" {
        return Err(refuse("bias", get("bias"), "trained biases are not supported; only `none` is"));
    }
    // Other ways to begin move the base weights too, so the file alone does not say what the model is.
    let beginning = get("init_lora_weights");
    if !(beginning.is_null()
        || beginning.is_boolean()
        || ["gaussian", "eva", "orthogonal"].iter().any(|w| beginning == w))
    {
        return Err(refuse("init_lora_weights", beginning, "this one changes the base weights; convert the adapter"));
    }
    for (key, value) in &fields {
        let neutral = match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if !neutral && !HARMLESS.contains(&key.as_str()) && key != "use_rslora" {
            return Err(refuse(key, value, "is not supported and may change the numbers"));
        }
    }
    let number = |key: &str| get(key).as_f64().ok_or_else(|| refuse(key, get(key), "must be a number"));
    let target_modules: TargetModules = serde_json::from_value(get("target_modules").clone())
        .map_err(|_| refuse("target_modules", get("target_modules"), "must be a list of names or `all-linear`"))?;
    let config = LoraConfig {
        rank: get("r").as_i64().ok_or_else(|| refuse("r", get("r"), "must be a whole number"))?,
        alpha: number("lora_alpha")?,
        dropout: if get("lora_dropout").is_null() { 0.0 } else { number("lora_dropout")? },
        target_modules,
        use_rslora: get("use_rslora") == &Value::Bool(true),
    };
    config.validate().map_err(|error| error.in_file(&path))?;
    Ok(config)
}

/// The plain model below a folder, and the folders of adapters from it up to `folder`; none when that is a plain model.
pub(crate) fn base_and_adapters(folder: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let (mut base, mut adapters) = (folder_or_repository(folder)?, Vec::new());
    while base.join(CONFIG_FILE).exists() && !base.join(MODEL_CONFIG_FILE).exists() {
        let below = folder_or_repository(&base_model(&base)?)?;
        adapters.insert(0, base);
        if adapters.contains(&below) {
            let reason = "`base_model_name_or_path` leads back to this folder: name the model below it".to_owned();
            return Err(Error::Checkpoint { path: below.join(CONFIG_FILE), reason });
        }
        base = below;
    }
    Ok((base, adapters))
}

/// The model that the adapters of a folder belong to, as its settings name it.
fn base_model(folder: &Path) -> Result<PathBuf> {
    let path = folder.join(CONFIG_FILE);
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let fields: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.clone(), source })?;
    match fields.get("base_model_name_or_path") {
        Some(Value::String(base)) if !base.is_empty() => Ok(PathBuf::from(base)),
        _ => {
            let reason = "`base_model_name_or_path` is missing: load the base model and call `load_adapter`".to_owned();
            Err(Error::Checkpoint { path, reason })
        }
    }
}

/// Reads the tensors of a folder, which must be exactly an `A` and a `B` of each targeted projection.
pub(super) fn read_tensors(
    folder: &Path,
    config: &LoraConfig,
    linears: &[(String, &Linear)],
) -> Result<BTreeMap<String, Tensor>> {
    let path = folder.join(WEIGHTS_FILE);
    let tensors = load_tensors(&path, Device::Cpu)?;
    let mut expected = Vec::new();
    for (name, linear) in linears.iter().filter(|(name, _)| config.targets(name)) {
        let (outputs, inputs) = linear.weight().size2()?;
        expected.push((tensor_name(name, "A"), vec![config.rank, inputs]));
        expected.push((tensor_name(name, "B"), vec![outputs, config.rank]));
    }
    check_tensors(&tensors, &expected).map_err(|error| error.in_file(&path))?;
    check_finite(&tensors).map_err(|error| error.in_file(&path))?;
    Ok(tensors)
}

/// Writes both files into a folder that exists.
pub(super) fn write(folder: &Path, config: &LoraConfig, base_model: &str, linears: &[(String, &Linear)]) -> Result<()> {
    let names = match &config.target_modules {
        TargetModules::Names(names) => names.clone(),
        // Spelled out, so that a reader's idea of "all" does not matter.
        TargetModules::Word(_) => {
            let last = |name: &String| name.rsplit('.').next().unwrap_or_default().to_owned();
            let all: std::collections::BTreeSet<String> = linears.iter().map(|(name, _)| last(name)).collect();
            all.into_iter().collect()
        }
    };
    let alpha = if config.alpha.fract() == 0.0 && config.alpha < 1e15 {
        json!(config.alpha as i64)
    } else {
        json!(config.alpha)
    };
    let settings = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": true,
        "r": config.rank,
        "lora_alpha": alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.use_rslora,
        "target_modules": names,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
    });
    let path = folder.join(CONFIG_FILE);
    let text = serde_json::to_string_pretty(&settings).map_err(|source| Error::Json { path: path.clone(), source })?;
    write_file(&path, (text + "\n").as_bytes())?;
    let adapters = linears.iter().filter_map(|(name, linear)| Some((name, linear.lora()?)));
    let tensors: Vec<(String, &Tensor)> = adapters
        .flat_map(|(name, lora)| [(tensor_name(name, "A"), &lora.a), (tensor_name(name, "B"), &lora.b)])
        .collect();
    let tensors: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor)).collect();
    save_tensors(&folder.join(WEIGHTS_FILE), &tensors)
}
