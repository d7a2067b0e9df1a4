//! Every evaluation that is shipped is read and valid.

use std::path::Path;

use rl_eval::EvaluationConfig;

#[test]
fn evaluation_configs_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/evaluate");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        assert!(file.extension().is_some_and(|extension| extension == "toml"), "{}", file.display());
        let config: EvaluationConfig = rl_track::config::load(&file, &[]).unwrap();
        config.validate().unwrap();
        count += 1;
    }
    assert!(2 <= count, "{count} files in {}", folder.display());
}
