//! The adapter of one projection.

use std::cell::{Cell, RefCell};

use rl_core::random::RandomKey;
use tch::{Kind, Tensor};

use super::LoraConfig;
use super::dropout::drop_elements;
use crate::Result;

/// `A` `[rank, in]`, `B` `[out, rank]`, and whether they take part.
///
/// Half-precision projections have f32 adapters: updates smaller than a half's last bit are not lost.
#[derive(Debug)]
pub(crate) struct Lora {
    pub a: Tensor,
    pub b: Tensor,
    scaling: f64,
    dropout: f64,
    /// Number of the projection in its model: no two share dropout masks.
    module: u64,
    enabled: Cell<bool>,
    dropout_key: Cell<Option<RandomKey>>,
    /// The projection's weight before a merge, while merged.
    base: RefCell<Option<Tensor>>,
}

impl Lora {
    /// A fresh adapter of `weight` `[out, in]`: `A` uniform within `1 / sqrt(in)` (Kaiming's bound with `a = sqrt(5)`, as
    /// in PEFT), drawn from `key` and `module`; `B` zero, so that the projection does not change.
    pub fn new(config: &LoraConfig, weight: &Tensor, module: u64, key: RandomKey) -> Result<Self> {
        let (outputs, inputs) = weight.size2()?;
        let key = key.at(module);
        let bound = 1.0 / (inputs as f64).sqrt();
        let a: Vec<f64> = (0..(config.rank * inputs) as u64).map(|i| bound * (2.0 * key.uniform(i) - 1.0)).collect();
        let options = (Self::kind_for(weight), weight.device());
        let a = Tensor::from_slice(&a).f_view([config.rank, inputs])?.f_to_kind(options.0)?.f_to_device(options.1)?;
        let b = Tensor::f_zeros([outputs, config.rank], options)?;
        Self::from_tensors(config, a, b, module)
    }

    /// An adapter of given tensors, which become its parameters.
    pub fn from_tensors(config: &LoraConfig, a: Tensor, b: Tensor, module: u64) -> Result<Self> {
        Ok(Lora {
            a: a.f_set_requires_grad(true)?,
            b: b.f_set_requires_grad(true)?,
            scaling: config.scaling(),
            dropout: config.dropout,
            module,
            enabled: Cell::new(true),
            dropout_key: Cell::new(None),
            base: RefCell::new(None),
        })
    }

    /// The type of adapters of `weight`.
    pub fn kind_for(weight: &Tensor) -> Kind {
        if weight.kind() == Kind::Double { Kind::Double } else { Kind::Float }
    }

    /// The same tensors, shared, with the switches as they are now: what happens to the original later does not show.
    pub fn shallow_clone(&self) -> Self {
        let base = self.base.borrow().as_ref().map(Tensor::shallow_clone);
        Lora {
            a: self.a.shallow_clone(),
            b: self.b.shallow_clone(),
            enabled: self.enabled.clone(),
            dropout_key: self.dropout_key.clone(),
            base: RefCell::new(base),
            ..*self
        }
    }

    /// Whether the update is added by [`Lora::add_update`]: not while disabled, nor while it is part of the weight.
    pub fn is_active(&self) -> bool {
        self.enabled.get() && !self.is_merged()
    }

    pub fn is_merged(&self) -> bool {
        self.base.borrow().is_some()
    }

    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.set(enabled);
    }

    pub fn set_dropout_key(&self, key: Option<RandomKey>) {
        self.dropout_key.set(key.map(|key| key.at(self.module)));
    }

    /// `ys + scaling * dropout(xs) A^T B^T`, of the type of `ys` `[tokens, out]`; `xs` `[tokens, in]`.
    pub fn add_update(&self, xs: &Tensor, ys: Tensor) -> Result<Tensor> {
        let mut xs = xs.f_to_kind(self.a.kind())?;
        let mut scaling = self.scaling;
        if let (Some(key), true) = (self.dropout_key.get(), 0.0 < self.dropout) {
            xs = drop_elements(&xs, self.dropout, key)?;
            scaling /= 1.0 - self.dropout;
        }
        let inner = xs.f_linear(&self.a, None::<&Tensor>)?.f_mul_scalar(scaling)?; // [tokens, rank]
        Ok(ys.f_add(&inner.f_linear(&self.b, None::<&Tensor>)?.f_to_kind(ys.kind())?)?)
    }

    /// Adds the update to `weight` in place and keeps a copy of what it was.
    pub fn merge(&self, weight: &Tensor) -> Result<()> {
        if self.is_merged() {
            return Ok(());
        }
        tch::no_grad(|| {
            let kind = self.a.kind();
            let update = self.b.f_matmul(&self.a)?.f_mul_scalar(self.scaling)?;
            let merged = weight.f_to_kind(kind)?.f_add(&update)?;
            let copy = weight.f_empty_like()?;
            copy.shallow_clone().f_copy_(&weight.f_detach()?)?;
            weight.f_detach()?.f_copy_(&merged)?;
            *self.base.borrow_mut() = Some(copy);
            Ok(())
        })
    }

    /// Puts back what `weight` was before [`Lora::merge`], to the bit.
    pub fn unmerge(&self, weight: &Tensor) -> Result<()> {
        let Some(base) = self.base.borrow_mut().take() else { return Ok(()) };
        Ok(tch::no_grad(|| weight.f_detach()?.f_copy_(&base))?)
    }
}
