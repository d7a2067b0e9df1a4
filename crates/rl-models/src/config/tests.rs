//! Reading, refusing and writing configurations.

use super::*;
use serde_json::json;

/// The shape of SmolLM2-135M, in the words of an older writer.
fn smollm2() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "attention_dropout": 0.0, "model_type": "llama",
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-05,
        "rope_theta": 100000, "rope_scaling": null, "tie_word_embeddings": true, "attention_bias": false,
        "mlp_bias": false, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
        "torch_dtype": "bfloat16", "initializer_range": 0.041666666666666664,
        "transformers.js_config": { "kv_cache_dtype": { "q4f16": "float16" } },
    })
}

fn changed(key: &str, value: Value) -> serde_json::Result<ModelConfig> {
    let mut config = smollm2();
    config[key] = value;
    serde_json::from_value(config)
}

#[test]
fn counts_parameters_and_tensors() {
    let config: ModelConfig = serde_json::from_value(smollm2()).unwrap();
    // 49152 * 576 + 30 * (2 * 576^2 + 2 * 192 * 576 + 3 * 1536 * 576 + 2 * 576) + 576
    assert_eq!(config.num_parameters(), 134_515_008);
    let tensors = config.expected_tensors();
    assert_eq!(tensors.len(), 1 + 30 * 9 + 1);
    let shape = |name: &str| tensors.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.clone());
    assert_eq!(shape("model.layers.29.self_attn.k_proj.weight"), Some(vec![192, 576]));
    assert_eq!(shape("model.layers.0.mlp.down_proj.weight"), Some(vec![576, 1536]));
    assert_eq!(shape("lm_head.weight"), None);
    let untied = changed("tie_word_embeddings", json!(false)).unwrap();
    assert_eq!(untied.expected_tensors().len(), 273);
    let biased = changed("attention_bias", json!(true)).unwrap();
    assert_eq!(biased.num_parameters() - config.num_parameters(), 30 * (576 + 192 + 192 + 576));
}

#[test]
fn a_round_trip_loses_nothing() {
    let config: ModelConfig = serde_json::from_value(smollm2()).unwrap();
    let written: Value = serde_json::from_str(&config.to_json().unwrap()).unwrap();
    let mut expected = smollm2();
    expected["rope_theta"] = json!(100000.0);
    assert_eq!(written, expected);
    assert_eq!(serde_json::from_value::<ModelConfig>(written).unwrap(), config);
    let several = changed("eos_token_id", json!([2, 0])).unwrap();
    assert_eq!(several.eos_token_id, [2, 0]);
    assert_eq!(serde_json::to_value(several).unwrap()["eos_token_id"], json!([2, 0]));
}

#[test]
fn newer_files_say_some_things_elsewhere() {
    let mut config = smollm2();
    let fields = config.as_object_mut().unwrap();
    fields.shift_remove("rope_theta");
    fields.shift_remove("torch_dtype");
    config["dtype"] = json!("float16");
    config["rope_parameters"] = json!({ "rope_type": "default", "rope_theta": 5000.0 });
    let mut config: ModelConfig = serde_json::from_value(config).unwrap();
    assert_eq!((config.rope_theta, config.torch_dtype), (5000.0, Some(Dtype::Float16)));
    config.rope_theta = 6000.0;
    let again: ModelConfig = serde_json::from_str(&config.to_json().unwrap()).unwrap();
    assert_eq!(again.rope_theta, 6000.0);
}

#[test]
fn values_that_cannot_be_used_name_the_key_and_the_limit() {
    let cases = [
        ("model_type", json!("mamba"), "`model_type` is mamba: only `llama`, `qwen2`, `qwen3` are supported"),
        ("hidden_act", json!("gelu"), "`hidden_act` is gelu"),
        ("num_key_value_heads", json!(2), "must divide num_attention_heads, which is 9"),
        ("num_attention_heads", json!(0), "must be between 1 and"),
        ("hidden_size", json!(-576), "`hidden_size` is -576"),
        ("num_hidden_layers", json!(1u64 << 40), "must be between 1 and 1024"),
        ("num_attention_heads", json!(15), "must divide hidden_size, which is 576"),
        ("head_dim", json!(63), "must be even"),
        ("rms_norm_eps", json!(0.0), "must be positive and finite"),
        ("bos_token_id", json!(49152), "between 0 and 49151"),
        ("eos_token_id", json!([2, 60000]), "between 0 and 49151"),
        (
            "rope_scaling",
            json!({ "type": "dynamic", "factor": 2.0 }),
            "`dynamic` is not supported; `default`, `linear`",
        ),
        ("rope_scaling", json!({ "rope_type": "yarn", "factor": 4.0 }), "the rotary type `yarn` is not supported"),
        ("rope_scaling", json!({ "rope_type": "linear" }), "must state `factor`, a number"),
        ("rope_scaling", json!({ "rope_type": "linear", "factor": 0.5 }), "factor 0.5: must be 1 or more"),
        ("rope_scaling", json!({ "factor": 2.0 }), "has a factor but no type that uses it"),
        ("rope_scaling", json!({ "rope_type": "llama3", "factor": 8.0 }), "must state `low_freq_factor`"),
        (
            "rope_scaling",
            json!({ "rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1 }),
            "low_freq_factor 4, high_freq_factor 1: both must be positive and the first the smaller",
        ),
        ("rope_parameters", json!({ "full_attention": { "rope_type": "default" } }), "per kind of layer"),
        ("rope_parameters", json!({ "rope_type": "default", "partial_rotary_factor": 0.5 }), "only whole heads"),
        ("partial_rotary_factor", json!(0.25), "only whole heads"),
        ("sliding_window", json!(4096), "`llama` has no sliding windows; only `qwen2` and `qwen3` have"),
        ("layer_types", json!(["full_attention"]), "must name each of the 30 layers"),
        ("layer_types", json!(["chunked_attention"]), "unknown variant `chunked_attention`"),
        ("rope_parameters", json!({ "rope_type": "default", "rope_theta": 1.0 }), "contradicts rope_parameters"),
        ("dtype", json!("float32"), "contradicts torch_dtype"),
    ];
    for (key, value, expected) in cases {
        let message = changed(key, value).unwrap_err().to_string();
        assert!(message.contains(expected), "`{message}` should contain `{expected}`");
    }
}

fn qwen(model_type: &str, differences: Value) -> Value {
    let mut config = json!({
        "architectures": ["QwenForCausalLM"], "model_type": model_type, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "tie_word_embeddings": true,
        "use_sliding_window": false, "sliding_window": 32, "max_window_layers": 2, "hidden_act": "silu",
        "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16", "initializer_range": 0.02,
    });
    config.as_object_mut().unwrap().extend(differences.as_object().unwrap().clone());
    config
}

fn read(config: Value) -> ModelConfig {
    serde_json::from_value(config).unwrap()
}

#[test]
fn families_differ_in_biases_and_norms() {
    let names = |config: &ModelConfig| -> Vec<String> {
        let all = config.expected_tensors().into_iter().map(|(name, _)| name);
        all.filter_map(|name| name.strip_prefix("model.layers.0.self_attn.").map(str::to_owned)).collect()
    };
    let weights = |rest: &[&str]| -> Vec<String> {
        let mut all: Vec<String> = ["q", "k", "v", "o"].iter().map(|p| format!("{p}_proj.weight")).collect();
        all.extend(rest.iter().map(|name| name.to_string()));
        all.sort();
        all
    };
    let cases = [
        (qwen("qwen2", json!({})), vec!["q_proj.bias", "k_proj.bias", "v_proj.bias"]),
        (qwen("qwen3", json!({ "head_dim": 32 })), vec!["q_norm.weight", "k_norm.weight"]),
        (
            qwen("qwen3", json!({ "head_dim": 32, "attention_bias": true })),
            vec!["q_norm.weight", "k_norm.weight", "q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"],
        ),
        (qwen("llama", json!({ "sliding_window": null })), vec![]),
    ];
    for (config, rest) in cases {
        let mut found = names(&read(config.clone()));
        found.sort();
        assert_eq!(found, weights(&rest), "{config}");
    }
    let qwen3 = read(qwen("qwen3", json!({ "head_dim": 32 })));
    // 100 * 64 + 4 * (64 * (128 + 64 + 64) + 128 * 64 + 3 * 64 * 96 + 2 * 64 + 2 * 32) + 64
    assert_eq!(qwen3.num_parameters(), 179_264);
}

/// The numbers are those of the signatures of `LlamaConfig`, `Qwen2Config` and `Qwen3Config` in transformers 5.23.
#[test]
fn absent_fields_have_the_familys_defaults() {
    let bare = |model_type: &str, heads: i64| {
        read(json!({
            "model_type": model_type, "hidden_size": 128, "intermediate_size": 8, "num_hidden_layers": 30,
            "num_attention_heads": heads, "vocab_size": 10,
        }))
    };
    let llama = bare("llama", 4);
    assert_eq!((llama.num_key_value_heads, llama.head_dim(), llama.max_position_embeddings), (4, 32, 2048));
    assert_eq!((llama.bos_token_id, &llama.eos_token_id[..], llama.pad_token_id), (Some(1), &[2][..], None));
    assert_eq!((llama.rms_norm_eps, llama.rope_theta, llama.initializer_range), (1e-6, 10_000.0, 0.02));
    assert_eq!((llama.tie_word_embeddings, llama.attention_bias, llama.mlp_bias), (false, false, false));
    let qwen2 = bare("qwen2", 32);
    assert_eq!((qwen2.num_key_value_heads, qwen2.head_dim(), qwen2.max_position_embeddings), (32, 4, 32768));
    assert_eq!((qwen2.bos_token_id, qwen2.eos_token_id.len()), (None, 0));
    assert_eq!((qwen2.sliding_window.sliding_window, qwen2.sliding_window.max_window_layers), (Some(4096), 28));
    assert!((0..30).all(|layer| qwen2.sliding_window.of_layer(layer).is_none()));
    assert_eq!(bare("qwen3", 32).head_dim(), 128);
    // `null` is not absence.
    let mut config =
        qwen("qwen2", json!({ "num_key_value_heads": null, "sliding_window": null, "eos_token_id": null }));
    config["use_sliding_window"] = json!(true);
    let config = read(config);
    assert_eq!((config.num_key_value_heads, config.eos_token_id.len()), (4, 0));
    assert_eq!(config.sliding_window.of_layer(3), None);
}

#[test]
fn windows_reach_the_layers_that_the_file_names() {
    let windows = |differences: Value| -> Vec<Option<i64>> {
        let config = read(qwen("qwen2", differences));
        (0..4).map(|layer| config.sliding_window.of_layer(layer)).collect()
    };
    assert_eq!(windows(json!({})), [None; 4]);
    assert_eq!(windows(json!({ "use_sliding_window": true })), [None, None, Some(32), Some(32)]);
    let types = json!(["sliding_attention", "full_attention", "full_attention", "sliding_attention"]);
    let listed = json!({ "use_sliding_window": true, "layer_types": types.clone() });
    assert_eq!(windows(listed), [Some(32), None, None, Some(32)]);
    let refused: std::result::Result<ModelConfig, _> =
        serde_json::from_value(qwen("qwen2", json!({ "layer_types": types })));
    assert!(refused.unwrap_err().to_string().contains("needs `use_sliding_window`"));
    for bad in [json!({ "sliding_window": 0 }), json!({ "max_window_layers": -1 })] {
        let mut config = qwen("qwen3", bad);
        config["use_sliding_window"] = json!(true);
        assert!(serde_json::from_value::<ModelConfig>(config).unwrap_err().to_string().contains("must"));
    }
}

#[test]
fn every_family_and_scaling_round_trips() {
    let llama3 = json!({
        "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    });
    let mut newer = llama3.clone();
    newer["rope_theta"] = json!(500000.0);
    let scaled = |key: &str, value: Value| {
        let mut config = smollm2();
        config.as_object_mut().unwrap().shift_remove("rope_scaling");
        config["rope_theta"] = json!(500000.0);
        config[key] = value;
        config
    };
    let types = json!(["full_attention", "full_attention", "full_attention", "sliding_attention"]);
    let cases = [
        qwen("qwen2", json!({})),
        qwen("qwen2", json!({ "sliding_window": null, "use_sliding_window": true, "layer_types": null })),
        qwen("qwen2", json!({ "use_sliding_window": true, "layer_types": types })),
        qwen("qwen3", json!({ "head_dim": 128, "attention_bias": false, "rope_scaling": null })),
        qwen("qwen3", json!({ "head_dim": null, "attention_bias": true })),
        scaled("rope_scaling", llama3.clone()),
        scaled("rope_parameters", newer),
        scaled("rope_scaling", json!({ "type": "linear", "factor": 4.0 })),
    ];
    for mut config in cases {
        let parsed = read(config.clone());
        let written: Value = serde_json::from_str(&parsed.to_json().unwrap()).unwrap();
        let fields = config.as_object_mut().unwrap();
        fields.retain(|key, value| key != "layer_types" || !value.is_null()); // an explicit "none" says nothing
        if fields["model_type"] == "qwen3" {
            fields.entry("attention_bias").or_insert(json!(false));
        }
        assert_eq!(written, config);
        assert_eq!(read(written), parsed);
    }
    // A change of the typed field replaces what the file said.
    let mut config =
        read(scaled("rope_parameters", json!({ "rope_type": "linear", "factor": 4.0, "rope_theta": 500000.0 })));
    assert_eq!((config.rope_scaling, config.max_positions()), (RopeScaling::Linear { factor: 4.0 }, 4 * 8192));
    config.rope_scaling = RopeScaling::Linear { factor: 2.0 };
    let written: Value = serde_json::from_str(&config.to_json().unwrap()).unwrap();
    assert_eq!(written["rope_scaling"], json!({ "rope_type": "linear", "factor": 2.0 }));
    assert_eq!(written.get("rope_parameters"), None);
    assert_eq!(read(written), ModelConfig { extra: read_extra(&config), ..config });
}

/// The untyped fields after one round of writing and reading.
fn read_extra(config: &ModelConfig) -> Map<String, Value> {
    read(serde_json::from_str(&config.to_json().unwrap()).unwrap()).extra
}

#[test]
fn the_original_context_may_stand_in_three_places() {
    let original = |top: Option<i64>, nested: Option<i64>| {
        let mut config = smollm2();
        config["rope_scaling"] =
            json!({ "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4 });
        if let Some(nested) = nested {
            config["rope_scaling"]["original_max_position_embeddings"] = json!(nested);
        }
        if let Some(top) = top {
            config["original_max_position_embeddings"] = json!(top);
        }
        match read(config).rope_scaling {
            RopeScaling::Llama3 { original_max_position_embeddings, .. } => original_max_position_embeddings,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(original(None, Some(1024)), 1024);
    assert_eq!(original(None, None), 8192);
    assert_eq!(original(Some(512), Some(1024)), 512);
}
