//! Bradley-Terry reward models.

use tch::Device;

use super::{pair_work, renderer};
use crate::config::RewardModelConfig;
use crate::plan::measure::{Measured, measure};
use crate::plan::models::{ModelFiles, PlannedModel};
use crate::plan::{HeadKind, Models, Planned, Work};
use crate::reward_model::{RewardModel, load_pairs};
use crate::{Error, Result};

impl Planned for RewardModelConfig {
    fn method(&self) -> &'static str {
        "reward model"
    }

    fn models(&self) -> Result<Models> {
        let path = self.model.path.as_deref().ok_or(Error::NothingToTrain)?;
        let files = ModelFiles::open("model.path", path)?;
        let model = PlannedModel::trained("reward model", &files.config, &self.model)?.with_score(true);
        Ok(Models { list: vec![model], renderer: Some(files.renderer) })
    }

    fn head(&self) -> HeadKind {
        HeadKind::Score
    }

    fn max_length(&self) -> Option<(&'static str, usize)> {
        Some(("selection.max_length", self.selection.max_length))
    }

    fn unit_bound(&self) -> Option<(usize, usize)> {
        Some((self.selection.max_length.saturating_mul(2), self.batch_size))
    }

    fn work(&self, models: &Models) -> Result<Work> {
        let pairs = load_pairs(self, renderer(models)?)?;
        Ok(pair_work(pairs, self.seed, self.batch_size, &self.training, &models.list[0].config)?.0)
    }

    fn measure(&self, device: Device) -> Result<Measured> {
        let models = self.models()?;
        let pairs = load_pairs(self, renderer(&models)?)?;
        let (_, pairs) = pair_work(pairs, self.seed, self.batch_size, &self.training, &models.list[0].config)?;
        measure(RewardModel::from_pairs(self, pairs, Vec::new(), device, None)?)
    }
}
