//! Rotary position embedding in the layout of Hugging Face checkpoints (halves, not interleaved pairs).

mod scaling;

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::config::ModelConfig;
pub use scaling::RopeScaling;
pub(crate) use scaling::{read_scaling, write_scaling};

/// The frequencies of a model's rotations.
///
/// Su et al. 2021, section 3.4.2: <https://arxiv.org/abs/2104.09864>. Frequency `i` is `theta^(-2i / head_dim)`, then
/// scaled by [`RopeScaling`]; position `p` turns pair `i` by `p` times that. Nothing is tabulated, so no position is too
/// far and a long context costs no memory.
#[derive(Debug)]
pub(crate) struct RotaryEmbedding {
    /// Radians per token, f32 `[head_dim / 2]`.
    inv_freq: Tensor,
    kind: Kind,
}

impl RotaryEmbedding {
    /// The rotations of a model whose activations have type `kind`.
    ///
    /// The frequencies are computed in f32, step by step as transformers does: at position 100,000 the rounding of a
    /// frequency is a visible angle, and it is the one the model was trained with.
    pub fn new(config: &ModelConfig, kind: Kind, device: Device) -> Result<Self> {
        let head_dim = config.head_dim();
        let exponents = Tensor::f_arange_start_step(0, head_dim, 2, (Kind::Float, Device::Cpu))?;
        let powers = Tensor::f_pow_scalar(config.rope_theta, &exponents.f_div_scalar(head_dim as f64)?)?;
        let frequencies = Vec::<f32>::try_from(powers.f_reciprocal()?)?;
        let scaled: Vec<f32> = frequencies.iter().map(|&f| config.rope_scaling.scale(f64::from(f)) as f32).collect();
        Ok(RotaryEmbedding { inv_freq: Tensor::f_from_slice(&scaled)?.f_to_device(device)?, kind })
    }

    /// Cosines and sines of `positions` `[tokens]`, each `[tokens, 1, head_dim]`, to be used by every layer.
    ///
    /// Angles and their functions are f32, then cast to the activations' type; the second half of a row repeats the
    /// first.
    pub fn at(&self, positions: &Tensor) -> Result<(Tensor, Tensor)> {
        let angles = positions.f_to_kind(Kind::Float)?.f_unsqueeze(1)?.f_mul(&self.inv_freq)?; // [tokens, head_dim / 2]
        let row = |half: Tensor| -> Result<Tensor> {
            let half = half.f_to_kind(self.kind)?;
            Ok(Tensor::f_cat(&[&half, &half], 1)?.f_unsqueeze(1)?)
        };
        Ok((row(angles.f_cos()?)?, row(angles.f_sin()?)?))
    }
}

/// Rotates `xs` `[tokens, heads, head_dim]` by the angles of [`RotaryEmbedding::at`].
pub(crate) fn rotate(xs: &Tensor, (cos, sin): (&Tensor, &Tensor)) -> Result<Tensor> {
    Ok(rl_torch::kernels::rotary(xs, cos, sin)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::load_tensors;
    use serde_json::Value;
    use std::path::Path;

    /// One rounding of a scaled frequency, 131,071 positions out. Frequencies computed in f64 would be off by 4e-3 there.
    const COSINE: f64 = 1e-5;

    #[test]
    fn far_positions_turn_as_in_transformers() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("families.json")).unwrap()).unwrap();
        let tensors = load_tensors(&folder.join("families.safetensors"), Device::Cpu).unwrap();
        let cases = golden["rotary"].as_object().unwrap();
        assert_eq!(cases.len(), 3);
        for (name, case) in cases {
            let config: ModelConfig = serde_json::from_value(case["config"].clone()).unwrap();
            assert_eq!(config.rope_scaling == RopeScaling::Default, name == "default");
            let positions: Vec<i64> = serde_json::from_value(case["positions"].clone()).unwrap();
            let rope = RotaryEmbedding::new(&config, Kind::Float, Device::Cpu).unwrap();
            let (cos, sin) = rope.at(&Tensor::from_slice(&positions)).unwrap();
            for (found, part) in [(cos, "cos"), (sin, "sin")] {
                let expected = &tensors[&format!("rotary.{name}.{part}")];
                assert_eq!(found.size(), [7, 1, 64]);
                let apart = f64::try_from((found.squeeze_dim(1) - expected).abs().max()).unwrap();
                assert!(apart <= COSINE, "{name} {part}: {apart}");
            }
        }
    }
}
