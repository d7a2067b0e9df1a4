//! The pipeline file: what may stand in it, `${run}`, and overrides from the command line.

use std::collections::HashSet;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// A pipeline as read from `configs/pipelines/*.toml`, with `${run}` replaced.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineFile {
    pub name: String,
    /// One sentence for people.
    pub title: String,
    /// The run folder, relative to the project root; `${run}` below stands for it.
    pub run: String,
    /// What must be there first: `"model smollm2-135m"`.
    #[serde(default)]
    pub needs: Vec<String>,
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

/// One call of one example program.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub name: String,
    /// One sentence for people; a change of it reruns nothing.
    #[serde(default)]
    pub about: String,
    /// The program: an example of rl-examples.
    pub example: String,
    /// Its `--config`.
    #[serde(default)]
    pub config: Option<String>,
    /// Each a `--set key=value`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Further arguments, as they stand.
    #[serde(default)]
    pub args: Vec<String>,
    /// Files and folders whose contents decide whether the stage runs again.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Files and folders that the stage makes. When it must start from nothing, those in the run folder are removed
    /// first, so name whole folders.
    pub outputs: Vec<String>,
}

impl PipelineFile {
    /// Reads the text of a pipeline file; `overrides` are `stage.key=value`.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self> {
        let mut file: Self = toml::from_str(text)?;
        for text in overrides {
            let parts = text.split_once('.').filter(|(_, set)| set.contains('='));
            let Some((name, set)) = parts else { bail!("--set {text:?}: the form is STAGE.KEY=VALUE") };
            file.stage_mut(name).with_context(|| format!("--set {text:?}"))?.set.push(set.to_string());
        }
        let run = file.run.clone();
        for stage in &mut file.stages {
            let lists = [&mut stage.set, &mut stage.args, &mut stage.inputs, &mut stage.outputs];
            for value in lists.into_iter().flatten().chain(stage.config.as_mut()) {
                *value = expand(value, &run).with_context(|| format!("stage {:?}", stage.name))?;
            }
        }
        file.validate()?;
        Ok(file)
    }

    fn stage_mut(&mut self, name: &str) -> Result<&mut Stage> {
        let names = self.stage_names();
        match self.stages.iter_mut().find(|stage| stage.name == name) {
            Some(stage) => Ok(stage),
            None => bail!("there is no stage {name:?}; there are: {names}"),
        }
    }

    /// For messages.
    pub fn stage_names(&self) -> String {
        self.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn validate(&self) -> Result<()> {
        let inside = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if self.run.is_empty() || !inside(&self.run) {
            bail!("run = {:?} must be a folder inside the project, such as \"runs/demo\"", self.run);
        }
        if self.stages.is_empty() {
            bail!("there is no [[stage]]");
        }
        let mut names = HashSet::new();
        let mut outputs = HashSet::new();
        for stage in &self.stages {
            let name = &stage.name;
            for word in [name, &stage.example] {
                if word.is_empty() || !word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                    bail!("stage {name:?}: {word:?} may hold only letters, digits, - and _");
                }
            }
            if name == "all" || !names.insert(name) {
                bail!("stage {name:?}: the name is taken");
            }
            if stage.outputs.is_empty() {
                bail!("stage {name:?}: outputs is empty, so nothing would show that it is finished");
            }
            if let Some(set) = stage.set.iter().find(|set| !set.contains('=')) {
                bail!("stage {name:?}: set = {set:?} must have the form key=value");
            }
            for path in stage.outputs.iter().chain(&stage.inputs) {
                if path.trim_end_matches('/') == self.run.trim_end_matches('/') {
                    bail!("stage {name:?}: {path:?} is the whole run folder; name what is in it");
                }
            }
            if let Some(output) = stage.outputs.iter().find(|output| !outputs.insert(output.trim_end_matches('/'))) {
                bail!("stage {name:?}: output {output:?} belongs to an earlier stage");
            }
        }
        Ok(())
    }
}

/// Replaces `${run}`; any other `${...}` is an error.
fn expand(text: &str, run: &str) -> Result<String> {
    let expanded = text.replace("${run}", run);
    match expanded.split_once("${") {
        Some((_, rest)) => {
            bail!("{text:?}: only ${{run}} is known, not ${{{}", rest.split_inclusive('}').next().unwrap_or(""))
        }
        None => Ok(expanded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "p"
        title = "a pipeline"
        run = "runs/p"
        needs = ["model smollm2-135m"]
        [[stage]]
        name = "data"
        example = "make_dataset"
        config = "configs/data.toml"
        set = ["out=${run}/data"]
        outputs = ["${run}/data"]
        [[stage]]
        name = "sft"
        about = "train"
        example = "sft"
        args = ["--resume"]
        inputs = ["${run}/data"]
        outputs = ["${run}/sft", "${run}/sft-${run}"]
    "#;

    #[test]
    fn the_run_folder_is_filled_in_and_overrides_come_last() {
        let file = PipelineFile::parse(GOOD, &["data.seed=3".into(), "data.path.to=a.b=c".into()]).unwrap();
        assert_eq!(file.stages[0].set, ["out=runs/p/data", "seed=3", "path.to=a.b=c"]);
        assert_eq!(file.stages[1].inputs, ["runs/p/data"]);
        assert_eq!(file.stages[1].outputs, ["runs/p/sft", "runs/p/sft-runs/p"]);
    }

    #[test]
    fn each_mistake_names_its_place() {
        let check = |text: &str, overrides: &[&str], expected: &str| {
            let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
            let error = format!("{:#}", PipelineFile::parse(text, &overrides).unwrap_err());
            assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        };
        check(&GOOD.replace("about", "abuot"), &[], "unknown field `abuot`");
        check(&GOOD.replace("needs", "need"), &[], "unknown field `need`");
        check(&GOOD.replace("outputs = [\"${run}/data\"]", "outputs = []"), &[], "outputs is empty");
        check(&GOOD.replace("outputs = [\"${run}/data\"]", ""), &[], "missing field `outputs`");
        check(&GOOD.replace("\"${run}/sft\"", "\"${run}/data/\""), &[], "belongs to an earlier stage");
        check(&GOOD.replace("inputs = [\"${run}/data\"]", "inputs = [\"${run}\"]"), &[], "whole run folder");
        check(&GOOD.replace("name = \"sft\"", "name = \"data\""), &[], "\"data\": the name is taken");
        check(&GOOD.replace("name = \"sft\"", "name = \"../sft\""), &[], "\"../sft\" may hold only letters");
        check(&GOOD.replace("runs/p", "../p"), &[], "run = \"../p\"");
        check(&GOOD.replace("${run}/sft-", "${rum}/sft-"), &[], "not ${rum}");
        check(&GOOD.replace("out=", "out:"), &[], "key=value");
        check(GOOD, &["rl.seed=3"], "no stage \"rl\"; there are: data, sft");
        check(GOOD, &["sft=3"], "STAGE.KEY=VALUE");
    }
}
