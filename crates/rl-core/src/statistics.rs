//! Statistics of samples: moments, distributions, and proportions with their intervals and tests.

mod distribution;
mod moments;
mod normalizer;
mod proportion;

pub use distribution::{Histogram, histogram, quantile};
pub use moments::{
    RunningStatistics, Variance, excess_kurtosis, explained_variance, mean, skewness, standard_deviation, variance,
};
pub use normalizer::RunningNormalizer;
pub use proportion::{Interval, McNemar, Z_90, Z_95, Z_99, mcnemar, wilson_interval};
