//! Models by name in a Hugging Face cache, built by hand in the layout that its tools use.

use std::path::{Path, PathBuf};

use rl_models::ChatModel;
use rl_models::checkpoint::{CacheRoots, resolve_model, resolve_model_in};
use tch::Device;

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A cache with two snapshots of `org/name`: `aaa` is main, `bbb` the pull request's.
fn cache(root: &Path) -> PathBuf {
    let repository = root.join("models--org--name");
    write(&repository.join("refs/main"), "aaa\n");
    write(&repository.join("refs/refs/pr/1"), "bbb");
    write(&repository.join("snapshots/aaa/config.json"), "{}");
    write(&repository.join("snapshots/bbb/config.json"), "{}");
    repository.join("snapshots")
}

#[test]
fn each_root_is_used_and_the_first_that_has_the_model_wins() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| Some(folder.path().join(name));
    let roots = CacheRoots { hf_hub_cache: at("a"), hf_home: at("b"), xdg_cache_home: at("c"), home: at("d") };
    let places = ["d/.cache/huggingface/hub", "c/huggingface/hub", "b/hub", "a"].map(|place| folder.path().join(place));
    assert!(roots.folders().iter().eq(places.iter().rev()));
    for place in places {
        let snapshots = cache(&place);
        assert_eq!(resolve_model_in("org/name", &roots).unwrap(), snapshots.join("aaa"));
    }
}

#[test]
fn a_revision_is_a_branch_a_tag_or_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = cache(folder.path());
    let roots = CacheRoots { hf_hub_cache: Some(folder.path().to_path_buf()), ..CacheRoots::default() };
    let found = |name: &str| resolve_model_in(name, &roots).map_err(|error| error.to_string());
    assert_eq!(found("org/name@main"), Ok(snapshots.join("aaa")));
    assert_eq!(found("org/name@refs/pr/1"), Ok(snapshots.join("bbb")));
    assert_eq!(found("org/name@bbb"), Ok(snapshots.join("bbb")));
    let message = found("org/name@v2").unwrap_err();
    assert!(message.contains("has no snapshot of `v2`"), "{message}");
    assert!(message.contains("hf download org/name --revision v2"), "{message}");
}

#[test]
fn a_path_that_exists_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(resolve_model_in(path, &CacheRoots::default()).unwrap(), folder.path());
    assert_eq!(resolve_model("src/checkpoint").unwrap(), Path::new("src/checkpoint")); // tests run in the crate's folder
}

#[test]
fn a_model_that_is_not_there_says_where_it_was_looked_for_and_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let roots = CacheRoots {
        hf_hub_cache: Some(folder.path().join("one")),
        hf_home: Some(folder.path().join("two")),
        ..CacheRoots::default()
    };
    let message = resolve_model_in("org/other", &roots).unwrap_err().to_string();
    for part in ["model `org/other` is not here", "one/models--org--other", "two/hub/models--org--other"] {
        assert!(message.contains(part), "`{message}` should contain `{part}`");
    }
    assert!(message.ends_with("download it with `hf download org/other`, or give the path of a checkpoint folder"));

    // A download that was interrupted, and a reference that leads out of the cache.
    let snapshots = cache(&folder.path().join("one"));
    std::fs::remove_file(snapshots.join("aaa/config.json")).unwrap();
    let message = resolve_model_in("org/name", &roots).unwrap_err().to_string();
    assert!(message.contains("lacks config.json; the download is not complete"), "{message}");
    write(&snapshots.with_file_name("refs").join("main"), "../../../secret");
    let message = resolve_model_in("org/name", &roots).unwrap_err().to_string();
    assert!(message.contains("does not hold the name of a snapshot"), "{message}");
}

#[test]
fn names_that_lead_elsewhere_are_never_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    cache(folder.path());
    let roots = CacheRoots { hf_hub_cache: Some(folder.path().to_path_buf()), ..CacheRoots::default() };
    for name in ["", "a/b/c", "../name", "org/..", "org/name@../aaa", "org/name@", "org/na me", "/nowhere"] {
        let message = resolve_model_in(name, &roots).unwrap_err().to_string();
        assert!(message.contains("ORG/NAME") && !message.contains("models--"), "{name}: {message}");
    }
}

#[test]
fn loading_takes_a_name_where_no_folder_is() {
    let message = ChatModel::load(Path::new("reins-tests/absent"), Device::Cpu).unwrap_err().to_string();
    assert!(
        message.starts_with("model `reins-tests/absent` is not here (reins-tests/absent: no such folder"),
        "{message}"
    );
    // Anything else is a path, and the message is about its files.
    let message = ChatModel::load(Path::new("no/such/folder"), Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("no/such/folder/config.json"), "{message}");
}
