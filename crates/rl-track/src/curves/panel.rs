//! Which curves share a picture: those that measure the same thing on different data.

use std::collections::{BTreeMap, BTreeSet};

/// The tags of one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Panel {
    /// What is measured; the whole tag where it stands alone.
    pub name: String,
    /// The tags, that of the training split first.
    pub tags: Vec<String>,
}

const TRAIN: &str = "train";

/// Groups tags `SPLIT/NAME` by name where one of the splits is `train`; every other tag stands alone. Sorted by name.
///
/// A name that begins with its own split, as in `eval/eval loss` or `eval/eval_loss`, counts without it.
pub(super) fn panels<'a>(tags: impl Iterator<Item = &'a str>) -> Vec<Panel> {
    let tags: BTreeSet<&str> = tags.collect();
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tag in &tags {
        groups.entry(base_name(tag)).or_default().push(tag);
    }
    let mut panels = Vec::new();
    for (name, mut tags) in groups {
        let is_training = |tag: &str| tag.split_once('/').is_some_and(|(split, _)| split == TRAIN);
        if tags.iter().any(|tag| is_training(tag)) {
            tags.sort_by_key(|tag| (!is_training(tag), *tag));
            let name = if tags.len() == 1 { tags[0] } else { name };
            panels.push(Panel { name: name.to_owned(), tags: tags.into_iter().map(str::to_owned).collect() });
        } else {
            panels.extend(tags.into_iter().map(|tag| Panel { name: tag.to_owned(), tags: vec![tag.to_owned()] }));
        }
    }
    panels.sort_by(|left, right| left.name.cmp(&right.name));
    panels
}

/// The split of a tag; empty where it has none.
pub(super) fn split_name(tag: &str) -> &str {
    tag.split_once('/').map_or("", |(split, _)| split)
}

fn base_name(tag: &str) -> &str {
    let Some((split, rest)) = tag.split_once('/') else { return tag };
    let own = rest.strip_prefix(split).and_then(|rest| rest.strip_prefix([' ', '_']));
    own.filter(|name| !name.is_empty()).unwrap_or(rest)
}

/// True if `text` has the form of `pattern`, in which `*` stands for any letters, `/` included, and `?` for one.
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // The last star and where in the text it was met: a mismatch gives it one letter more.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(letter) if *letter == '?' || *letter == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((star_p, star_t)) => {
                    star = Some((star_p, star_t + 1));
                    (p, t) = (star_p + 1, star_t + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

/// File names for `names`: letters that are not safe in one become `_`, and a name that then stands twice gets a number.
pub(super) fn file_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let is_safe = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    names
        .map(|name| {
            let safe: String = name.chars().map(|letter| if is_safe(letter) { letter } else { '_' }).collect();
            let safe = if safe.starts_with('.') { format!("_{safe}") } else { safe };
            // Some file systems do not tell capitals from small letters.
            let mut candidates = std::iter::once(safe.clone()).chain((2..).map(|count| format!("{safe}-{count}")));
            candidates.find(|name| taken.insert(name.to_ascii_lowercase())).unwrap_or(safe)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn train_and_eval_share_a_panel_where_their_names_match() {
        let tags = [
            "train/gpt_loss",
            "eval/eval gpt_loss",
            "train/lr",
            "id/loss",
            "ood/loss",
            "train/loss",
            "objective/kl",
            "policy/kl",
            "eval/eval_acc",
            "train/reward/judge/mean",
            "loss",
        ];
        let found = panels(tags.into_iter());
        let found: Vec<(&str, Vec<&str>)> =
            found.iter().map(|panel| (panel.name.as_str(), panel.tags.iter().map(String::as_str).collect())).collect();
        let expected = [
            ("eval/eval_acc", vec!["eval/eval_acc"]),
            ("gpt_loss", vec!["train/gpt_loss", "eval/eval gpt_loss"]),
            ("loss", vec!["train/loss", "id/loss", "loss", "ood/loss"]),
            ("objective/kl", vec!["objective/kl"]),
            ("policy/kl", vec!["policy/kl"]),
            ("train/lr", vec!["train/lr"]),
            ("train/reward/judge/mean", vec!["train/reward/judge/mean"]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn globs_match_as_in_a_shell_but_across_slashes() {
        let table = [
            ("*", "train/loss", true),
            ("train/*", "train/reward/judge/mean", true),
            ("*loss*", "eval/eval gpt_loss", true),
            ("*/kl", "train/kl_coef", false),
            ("t?ain/*s", "train/loss", true),
            ("train/loss", "train/loss", true),
            ("", "", true),
            ("?", "", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(glob_matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn file_names_are_safe_and_distinct() {
        let names = file_names(["eval/eval loss", "eval_eval/loss", "Eval/eval loss", "../x"].into_iter());
        assert_eq!(names, ["eval_eval_loss", "eval_eval_loss-2", "Eval_eval_loss-3", "_.._x"]);
    }
}
