//! Supervised fine-tuning, and training from scratch.

use rl_data::Renderer;
use rl_models::ModelConfig;
use tch::Device;

use super::{chosen, num_steps, row_passes};
use crate::batch::TrainingRow;
use crate::config::SftConfig;
use crate::new_model::{new_config, new_parts};
use crate::plan::measure::{Measured, measure};
use crate::plan::models::{PlannedModel, check_tokens, policy};
use crate::plan::passes::largest_pass;
use crate::plan::{FilePlan, HeadKind, Models, Planned, Work};
use crate::sft::{Sft, load_rows};
use crate::{Error, Result};

impl SftConfig {
    fn lay_out(&self, config: &ModelConfig, renderer: &Renderer) -> Result<(Work, Vec<TrainingRow>)> {
        let loaded = load_rows(self, renderer)?;
        let files = FilePlan::all(&loaded, |row| vec![row])?;
        let rows = loaded.into_train();
        let steps = num_steps(&self.training, rows.epochs()?.epoch_rows(), self.batch_size);
        let budget = self.training.micro_batch_tokens;
        let largest =
            largest_pass(&rows, self.seed, self.batch_size, steps, config, |batch| row_passes(batch, budget))?;
        let work = Work {
            files,
            unit: "rows",
            per_step: self.batch_size,
            steps,
            largest: largest.shape,
            rollout: None,
            new_config: None,
        };
        let step = chosen(&rows, &largest);
        Ok((work, step))
    }
}

impl Planned for SftConfig {
    fn method(&self) -> &'static str {
        "sft"
    }

    fn models(&self) -> Result<Models> {
        if let Some(shape) = &self.model.new {
            let config = new_config(shape, i64::try_from(shape.vocab_size).unwrap_or(i64::MAX));
            let invalid = |error: rl_models::Error| rl_track::ConfigError {
                key: "model.new".into(),
                value: "as given".into(),
                message: error.to_string(),
            };
            config.validate().map_err(invalid)?;
            return Ok(Models { list: vec![PlannedModel::trained("policy", &config, &self.model)?], renderer: None });
        }
        let (policy, renderer) = policy(&self.model)?;
        Ok(Models { list: vec![policy], renderer: Some(renderer) })
    }

    fn head(&self) -> HeadKind {
        HeadKind::LogProbs
    }

    fn max_length(&self) -> Option<(&'static str, usize)> {
        Some(("selection.max_length", self.selection.max_length))
    }

    fn unit_bound(&self) -> Option<(usize, usize)> {
        Some((self.selection.max_length, self.batch_size))
    }

    fn work(&self, models: &Models) -> Result<Work> {
        match (&models.renderer, &self.model.new) {
            (Some(renderer), _) => Ok(self.lay_out(&models.list[0].config, renderer)?.0),
            (None, Some(shape)) => {
                let (config, renderer) = new_parts(shape, self)?;
                check_tokens(&config, &renderer)?;
                let work = self.lay_out(&config, &renderer)?.0;
                Ok(Work { new_config: Some(config), ..work })
            }
            (None, None) => Err(Error::NothingToTrain),
        }
    }

    fn measure(&self, device: Device) -> Result<Measured> {
        let models = self.models()?;
        let Some(renderer) = &models.renderer else {
            let reason = "a model that does not exist yet cannot be measured on its largest step; train it for a step";
            return Err(Error::UnsuitableData { what: "`model.new`".into(), reason });
        };
        let (_, rows) = self.lay_out(&models.list[0].config, renderer)?;
        measure(Sft::from_rows(self, rows, Vec::new(), device, None)?)
    }
}
