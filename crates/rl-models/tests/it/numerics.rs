//! Log-probabilities of passes with and without gradients, to the bit.

use rl_core::random::RandomKey;
use rl_models::{Decoder, LoraConfig, ModelConfig, TargetModules, token_log_probs};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::tiny::numbers;

/// Wide and long enough that libtorch's product would differ from the kernel's.
fn decoder(kind: Kind) -> Decoder {
    rl_torch::set_num_threads(1);
    let config: ModelConfig = serde_json::from_value(json!({
        "model_type": "llama", "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 3,
        "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 500, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    }))
    .unwrap();
    let random = Decoder::random(config.clone(), 3, Device::Cpu).unwrap();
    let decoder = Decoder::from_tensors(config, random.parameters().into_iter().collect(), kind, Device::Cpu).unwrap();
    decoder.set_trainable(true);
    decoder
}

fn with_adapters(kind: Kind) -> Decoder {
    let mut decoder = decoder(kind);
    let target_modules = TargetModules::Word("all-linear".to_owned());
    let config = LoraConfig { rank: 8, alpha: 16.0, dropout: 0.0, target_modules, use_rslora: false };
    decoder.add_lora(config, RandomKey::new(1, "adapters")).unwrap();
    for (index, (_, tensor)) in decoder.trainable_parameters().into_iter().enumerate() {
        let values: Vec<f32> = (0..tensor.numel()).map(|i| 0.1 * ((i * 7 + index) as f32 * 1.3).sin()).collect();
        tch::no_grad(|| tensor.shallow_clone().copy_(&Tensor::from_slice(&values).view(tensor.size().as_slice())));
    }
    decoder
}

fn log_probs(decoder: &Decoder) -> Tensor {
    let sequences: Vec<Vec<i64>> =
        [190, 83, 170, 7].map(|length| (0..length).map(|i| (i * i * 31 + length) % 500).collect()).into();
    let packed = decoder.pack(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for (ids, &start) in sequences.iter().zip(&packed.boundaries) {
        rows.extend((1..ids.len()).map(|position| (start + position - 1) as i64));
        labels.extend_from_slice(&ids[1..]);
    }
    let (rows, labels) = (Tensor::from_slice(&rows), Tensor::from_slice(&labels));
    token_log_probs(decoder, &decoder.hidden_states(&packed).unwrap(), &rows, &labels, 0.9).unwrap()
}

#[test]
fn a_pass_without_gradients_has_the_bits_of_one_with_them() {
    for kind in [Kind::Float, Kind::BFloat16] {
        for (name, decoder) in [("all weights", decoder(kind)), ("adapters", with_adapters(kind))] {
            let mut passes = Vec::new();
            for checkpointing in [false, true] {
                decoder.set_gradient_checkpointing(checkpointing);
                let recorded = log_probs(&decoder);
                let scored = tch::no_grad(|| log_probs(&decoder));
                assert!(recorded.requires_grad() && !scored.requires_grad());
                passes.extend([numbers(&recorded), numbers(&scored)]);
            }
            assert!(passes.iter().all(|pass| *pass == passes[0]), "{name}, {kind:?}");
        }
    }
}

/// With the old log-probabilities of a pass that is not recorded, the first update's ratios are exactly 1, and the
/// gradients are those of the values that the pass gave, though each layer is computed twice.
#[test]
fn a_layer_computed_again_gives_the_values_of_its_first_pass() {
    let gradients = |checkpointing: bool| -> Vec<Vec<f32>> {
        let decoder = decoder(Kind::Float);
        decoder.set_gradient_checkpointing(checkpointing);
        log_probs(&decoder).sum(Kind::Float).backward();
        // Of the first layer: its inputs are the same, and every later layer's output goes into them.
        let named = decoder.parameters().into_iter().filter(|(name, _)| name.contains("layers.0."));
        named.map(|(_, parameter)| numbers(&parameter.grad())).collect()
    };
    let plain = gradients(false);
    assert_eq!(plain.len(), 9);
    assert!(plain == gradients(true));
}
