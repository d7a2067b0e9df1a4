//! Preference optimisation on pairs.

use tch::Device;

use super::{pair_work, renderer};
use crate::Result;
use crate::config::{PreferenceConfig, ReferencePasses};
use crate::plan::measure::{Measured, measure};
use crate::plan::models::{policy, reference};
use crate::plan::{HeadKind, Models, Planned, Work};
use crate::preference::{Preference, load_pairs};

impl Planned for PreferenceConfig {
    fn method(&self) -> &'static str {
        "preference"
    }

    fn models(&self) -> Result<Models> {
        let (policy, renderer) = policy(&self.model)?;
        let mut list = vec![policy];
        if let Some(settings) = &self.reference {
            let found = reference("reference.path", settings.path.as_deref(), &self.model, &list[0].config)?;
            // A precomputed reference is gone before the first gradient.
            list.extend(found.filter(|_| settings.log_probs == ReferencePasses::Live));
        }
        Ok(Models { list, renderer: Some(renderer) })
    }

    fn head(&self) -> HeadKind {
        HeadKind::LogProbs
    }

    fn reads_reference_in_pass(&self) -> bool {
        self.reference.as_ref().is_some_and(|reference| reference.log_probs == ReferencePasses::Live)
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
        measure(Preference::from_pairs(self, pairs, Vec::new(), device, None)?)
    }
}
