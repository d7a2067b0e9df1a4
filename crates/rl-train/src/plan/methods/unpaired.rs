//! Preference optimisation on single answers.

use rl_models::ModelConfig;
use tch::Device;

use super::{chosen, num_steps, renderer, row_passes};
use crate::Result;
use crate::batch::TrainingRow;
use crate::config::UnpairedConfig;
use crate::data::Loaded;
use crate::plan::measure::{Measured, measure};
use crate::plan::models::{policy, reference};
use crate::plan::passes::{LargestPass, largest_pass};
use crate::plan::{FilePlan, HeadKind, Models, Planned, Work};
use crate::unpaired::answer::units;
use crate::unpaired::{TrainingAnswer, Unpaired, check_suitable, load_answers, unit_size, units_per_step};

impl UnpairedConfig {
    /// The files' work, and the answers of its largest step.
    fn lay_out(&self, loaded: Loaded<TrainingAnswer>, config: &ModelConfig) -> Result<(Work, Vec<TrainingAnswer>)> {
        let all = loaded.train.iter().chain(&loaded.held_out).flat_map(|file| &file.items);
        all.into_iter().try_for_each(TrainingAnswer::check)?;
        let files = FilePlan::all(&loaded, |answer| vec![&answer.row])?;
        let (answers, held_out) = loaded.into_parts();
        check_suitable(self, &answers, held_out.iter().map(|(_, answers)| answers.as_slice()))?;
        let units = answers.map_datasets(|answers| units(answers, 1 < unit_size(self)))?;
        let per_step = units_per_step(self);
        let steps = num_steps(&self.training, units.epochs()?.epoch_rows(), per_step);
        let largest: LargestPass = largest_pass(&units, self.seed, per_step, steps, config, |batch| {
            let rows: Vec<&TrainingRow> = batch.iter().flat_map(|unit| unit.iter()).map(|answer| &answer.row).collect();
            row_passes(&rows, self.training.micro_batch_tokens)
        })?;
        let work = Work {
            files,
            unit: "answers",
            per_step: self.batch_size,
            steps,
            largest: largest.shape,
            rollout: None,
            new_config: None,
        };
        let step = chosen(&units, &largest).into_iter().flatten().collect();
        Ok((work, step))
    }
}

impl Planned for UnpairedConfig {
    fn method(&self) -> &'static str {
        "unpaired preference"
    }

    fn models(&self) -> Result<Models> {
        let (policy, renderer) = policy(&self.model)?;
        let mut list = vec![policy];
        list.extend(reference("reference", self.reference.as_deref(), &self.model, &list[0].config)?);
        Ok(Models { list, renderer: Some(renderer) })
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
        let files = load_answers(self, renderer(models)?)?;
        Ok(self.lay_out(files, &models.list[0].config)?.0)
    }

    fn measure(&self, device: Device) -> Result<Measured> {
        let models = self.models()?;
        let files = load_answers(self, renderer(&models)?)?;
        let (_, answers) = self.lay_out(files, &models.list[0].config)?;
        measure(Unpaired::from_answers(self, answers, Vec::new(), device, None)?)
    }
}
