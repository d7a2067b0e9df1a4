//! Distillation.

use tch::Device;

use super::{num_steps, renderer, row_passes};
use crate::Result;
use crate::batch::TrainingRow;
use crate::config::DistillConfig;
use crate::distill::{Distill, load_tasks};
use crate::plan::measure::{Measured, measure};
use crate::plan::models::{ModelFiles, PlannedModel, policy, same_vocabulary};
use crate::plan::passes::largest_pass;
use crate::plan::{FilePlan, HeadKind, Models, PassShape, Planned, RolloutShape, Work};
use crate::trainer::Method;

impl Planned for DistillConfig {
    fn method(&self) -> &'static str {
        "distill"
    }

    fn models(&self) -> Result<Models> {
        let (student, renderer) = policy(&self.model)?;
        let teacher = ModelFiles::open_language_model("teacher.path", &self.teacher.path)?.config;
        same_vocabulary("teacher.path", &self.teacher.path, &teacher, &student.config)?;
        let teacher = PlannedModel::new("teacher", &teacher, self.teacher.dtype, false);
        Ok(Models { list: vec![student, teacher], renderer: Some(renderer) })
    }

    fn head(&self) -> HeadKind {
        HeadKind::Divergence
    }

    fn max_length(&self) -> Option<(&'static str, usize)> {
        Some(("selection.max_length", self.selection.max_length))
    }

    fn unit_bound(&self) -> Option<(usize, usize)> {
        let answers_itself = 0.0 < self.on_policy_fraction;
        (!answers_itself).then_some((self.selection.max_length, self.batch_size))
    }

    /// A step on the student's own answers is taken to have the longest prompts, each answered in full.
    fn work(&self, models: &Models) -> Result<Work> {
        let config = &models.list[0].config;
        let loaded = load_tasks(self, renderer(models)?)?;
        let files = FilePlan::all(&loaded, |task| vec![&task.row])?;
        let tasks = loaded.into_train();
        let steps = num_steps(&self.training, tasks.epochs()?.epoch_rows(), self.batch_size);
        let budget = self.training.micro_batch_tokens;
        let mut largest = largest_pass(&tasks, self.seed, self.batch_size, steps, config, |batch| {
            let rows: Vec<&TrainingRow> = batch.iter().map(|task| &task.row).collect();
            row_passes(&rows, budget)
        })?
        .shape;
        let mut rollout = None;
        if let Some(sampling) = self.sampling.as_ref().filter(|_| 0.0 < self.on_policy_fraction) {
            let prompt = tasks.items.iter().map(|task| task.prompt.len()).max().unwrap_or(1);
            let longest = (prompt + sampling.max_new_tokens).min(config.max_positions().unsigned_abs() as usize);
            let row = |id: usize| TrainingRow {
                id: id as u64,
                ids: vec![0; longest],
                trainable: (0..longest).map(|place| prompt <= place).collect(),
                group: None,
            };
            let rows: Vec<TrainingRow> = (0..self.batch_size.min(budget / longest.max(1) + 1)).map(row).collect();
            let rows: Vec<&TrainingRow> = rows.iter().collect();
            for pass in row_passes(&rows, budget) {
                let shape = PassShape::of(&pass, config)?;
                largest = if largest.tokens < shape.tokens { shape } else { largest };
            }
            let count = self.batch_size as u64;
            let slots = (sampling.num_slots as u64).min(count);
            rollout = Some(RolloutShape { slots, prompt: prompt as u64, longest: longest as u64, prompts: count });
        }
        Ok(Work { files, unit: "rows", per_step: self.batch_size, steps, largest, rollout, new_config: None })
    }

    /// The first steps of the run: answers of the student's own are not known before.
    fn measure(&self, device: Device) -> Result<Measured> {
        measure(Distill::build(self, device, None)?)
    }
}
