//! Sliding windows: which layers see only the latest tokens.

use serde::{Deserialize, Serialize};

use super::{config_error, ensure};
use crate::error::Result;
use crate::family::Family;

/// The window fields of a `config.json`, under their own names.
///
/// A token of a windowed layer sees the last `sliding_window` tokens of its sequence, itself included (Beltagy et al.
/// 2020, section 3.1: <https://arxiv.org/abs/2004.05150>). The default is no window anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlidingWindow {
    /// Whether there are windows at all; the other fields wait behind it. Absent in the file: false.
    pub use_sliding_window: bool,
    /// Tokens that a windowed layer sees.
    pub sliding_window: Option<i64>,
    /// Layers from this one on have the window, unless `layer_types` says which. Absent in the file: 28.
    pub max_window_layers: i64,
    /// The kind of every layer, where the file lists them.
    pub layer_types: Option<Vec<LayerType>>,
}

/// What a layer's attention sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerType {
    /// All tokens up to its own.
    FullAttention,
    /// The last `sliding_window` tokens.
    SlidingAttention,
}

impl SlidingWindow {
    /// Tokens that `layer` sees, its own included; none when it sees all.
    pub fn of_layer(&self, layer: usize) -> Option<i64> {
        let windowed = match &self.layer_types {
            Some(types) => types.get(layer) == Some(&LayerType::SlidingAttention),
            None => usize::try_from(self.max_window_layers).is_ok_and(|first| first <= layer),
        };
        self.sliding_window.filter(|_| self.use_sliding_window && windowed)
    }

    pub(super) fn validate(&self, family: &Family, num_hidden_layers: i64) -> Result<()> {
        ensure(0 <= self.max_window_layers, "max_window_layers", self.max_window_layers, "must not be negative")?;
        let active = self.sliding_window.filter(|_| self.use_sliding_window);
        if let Some(window) = active {
            ensure(0 < window, "sliding_window", window, "must be positive, or null for no window")?;
        }
        let types = self.layer_types.as_deref().unwrap_or_default();
        if let Some(types) = &self.layer_types {
            ensure(
                types.len() as i64 == num_hidden_layers,
                "layer_types",
                format!("a list of {}", types.len()),
                &format!("must name each of the {num_hidden_layers} layers"),
            )?;
        }
        ensure(
            active.is_some() || !types.contains(&LayerType::SlidingAttention),
            "layer_types",
            "`sliding_attention` for some layers",
            "needs `use_sliding_window` and the size of the window in `sliding_window`",
        )?;
        if let (Some(window), false) = (active, family.has_sliding_window) {
            let reason = format!("`{}` has no sliding windows; only `qwen2` and `qwen3` have", family.model_type);
            return Err(config_error("sliding_window", window, reason));
        }
        Ok(())
    }
}
