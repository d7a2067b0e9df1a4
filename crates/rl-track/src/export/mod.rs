//! A run in the forms that other trackers take up by their own documented importers.
//!
//! | tracker | what it takes | how |
//! | --- | --- | --- |
//! | TensorBoard | the run's folder | `tensorboard --logdir FOLDER` |
//! | Weights & Biases | the run's folder | `wandb.Api().sync_tensorboard(FOLDER, run_id, project)` |
//! | Trackio | [`table`] | `trackio.import_csv(FILE, project, name)` |
//! | | the run's folder | `trackio.import_tf_events(FOLDER, project, name)` |
//! | MLflow | [`mlflow`] | `mlflow ui --backend-store-uri FOLDER`, or copied into a database by MLflow itself |
//!
//! Nothing here needs a network or an account; the feature `mlflow` has a sender for a run that is going.

mod mlflow;
mod table;

pub use mlflow::mlflow;
#[cfg(feature = "mlflow")]
pub(crate) use mlflow::{flat, safe_key, tags};
pub use table::table;
