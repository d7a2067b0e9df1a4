//! Rotary position embedding in the layout of Hugging Face checkpoints (halves, not interleaved pairs).

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::config::ModelConfig;

/// Cosines and sines of every position, `[max_positions, head_dim]`.
///
/// Su et al. 2021, section 3.4.2: <https://arxiv.org/abs/2104.09864>. Angle `i` of position `p` is
/// `p * theta^(-2i / head_dim)`; the second half of a row repeats the first.
#[derive(Debug)]
pub struct RotaryTable {
    cos: Tensor,
    sin: Tensor,
}

impl RotaryTable {
    /// The table of a model, computed in f64 and stored in f32 on `device`.
    pub fn new(config: &ModelConfig, device: Device) -> Self {
        let head_dim = config.head_dim();
        let positions = Tensor::arange(config.max_position_embeddings, (Kind::Double, Device::Cpu));
        let exponents = Tensor::arange_start_step(0, head_dim, 2, (Kind::Double, Device::Cpu)) / head_dim as f64;
        let frequencies = (exponents * -config.rope_theta.ln()).exp();
        let angles = positions.outer(&frequencies); // [max_positions, head_dim / 2]
        let angles = Tensor::cat(&[&angles, &angles], 1); // [max_positions, head_dim]
        let on_device = |table: Tensor| table.to_kind(Kind::Float).to_device(device);
        RotaryTable { cos: on_device(angles.cos()), sin: on_device(angles.sin()) }
    }

    /// Cosines and sines of `positions` `[tokens]`, each `[tokens, 1, head_dim]`, to be used by every layer.
    pub fn at(&self, positions: &Tensor) -> Result<(Tensor, Tensor)> {
        let row = |table: &Tensor| table.f_index_select(0, positions)?.f_unsqueeze(1);
        Ok((row(&self.cos)?, row(&self.sin)?))
    }
}

/// Rotates `xs` `[tokens, heads, head_dim]` by the angles of [`RotaryTable::at`].
pub fn rotate(xs: &Tensor, (cos, sin): (&Tensor, &Tensor)) -> Result<Tensor> {
    let half = xs.size3()?.2 / 2;
    let (first, second) = (xs.f_narrow(2, 0, half)?, xs.f_narrow(2, half, half)?);
    let turned = Tensor::f_cat(&[second.f_neg()?, first], 2)?;
    Ok(xs.f_mul(cos)?.f_add(&turned.f_mul(sin)?)?)
}
