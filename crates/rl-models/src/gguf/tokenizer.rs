//! Tokenizer files rebuilt from a GGUF vocabulary.
//!
//! Only byte-level BPE (`tokenizer.ggml.model` = `gpt2`). How text is cut before merging is not in the file; its name is
//! (`tokenizer.ggml.pre`), and a name that is not known here is an error, because a guess would change the ids.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::metadata::{Metadata, key_error, required};
use crate::checkpoint::SideFiles;
use crate::error::{Error, Result};

/// Tokenizer, chat template and generation defaults, as a checkpoint folder holds them.
pub(super) struct TokenizerFiles {
    pub(super) side_files: SideFiles,
    pub(super) vocab_size: usize,
    pub(super) num_added_tokens: usize,
    pub(super) has_chat_template: bool,
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// Builds the files. `max_length` is the model's longest sequence in tokens.
pub(super) fn tokenizer_files(metadata: &Metadata, max_length: i64) -> Result<TokenizerFiles> {
    let vocabulary = Vocabulary::read(metadata)?;
    let special = special_tokens(metadata, &vocabulary)?;
    let tokenizer = vocabulary.tokenizer_json(metadata)?;

    let mut config = json!({
        // The class that takes everything from tokenizer.json; a named class may rebuild parts of it by its own rules.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": false,
        "add_prefix_space": false,
    });
    for (name, token, _) in &special {
        config[format!("{name}_token")] = json!(token);
    }
    let chat_template = metadata.string(CHAT_TEMPLATE)?;
    if let Some(template) = chat_template {
        config["chat_template"] = json!(template);
    }
    let tokens_map = special.iter().map(|(name, token, _)| (format!("{name}_token"), json!(token)));
    let generation = special.iter().filter(|(name, _, _)| *name != "unk");
    let generation = generation.map(|(name, _, id)| (format!("{name}_token_id"), json!(id)));

    let mut side_files = SideFiles::default();
    side_files.insert("tokenizer.json", pretty(&tokenizer)?)?;
    side_files.insert("tokenizer_config.json", pretty(&config)?)?;
    side_files.insert("special_tokens_map.json", pretty(&Value::Object(tokens_map.collect()))?)?;
    side_files.insert("generation_config.json", pretty(&Value::Object(generation.collect()))?)?;
    if let Some(template) = chat_template {
        side_files.insert("chat_template.jinja", template.as_bytes().to_vec())?;
    }
    Ok(TokenizerFiles {
        side_files,
        vocab_size: vocabulary.tokens.len(),
        num_added_tokens: vocabulary.added_tokens().count(),
        has_chat_template: chat_template.is_some(),
    })
}

struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<TokenKind>,
    merges: Vec<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Normal,
    /// Matched whole in text and skipped when decoding for people.
    Control,
    /// Matched whole in text, otherwise ordinary.
    UserDefined,
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &'a Metadata) -> Result<Self> {
        let model = required("tokenizer.ggml.model", metadata.string("tokenizer.ggml.model")?)?;
        if model != "gpt2" {
            let reason = format!("is `{model}`; only byte-level BPE (`gpt2`) is supported");
            return Err(key_error("tokenizer.ggml.model", reason));
        }
        let tokens = required(TOKENS, metadata.strings(TOKENS)?)?;
        let merges = required(MERGES, metadata.strings(MERGES)?)?;
        let types = required(TOKEN_TYPES, metadata.integers(TOKEN_TYPES)?)?;
        if types.len() != tokens.len() {
            let reason = format!("has {} entries for {} tokens", types.len(), tokens.len());
            return Err(key_error(TOKEN_TYPES, reason));
        }
        let kinds = types.iter().zip(&tokens).map(|(kind, token)| match kind {
            1 | 5 => Ok(TokenKind::Normal), // 5 marks unused rows: no merge leads to them
            2 | 3 => Ok(TokenKind::Control),
            4 => Ok(TokenKind::UserDefined),
            _ => {
                Err(key_error(TOKEN_TYPES, format!("gives `{token}` type {kind}, which byte-level BPE does not have")))
            }
        });
        let vocabulary = Vocabulary { kinds: kinds.collect::<Result<_>>()?, tokens, merges };
        vocabulary.check()?;
        Ok(vocabulary)
    }

    /// Tokens are distinct; every merge joins two tokens into a third.
    fn check(&self) -> Result<()> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(first) = ids.insert(*token, id) {
                return Err(key_error(TOKENS, format!("holds `{token}` twice, as {first} and {id}")));
            }
        }
        for merge in &self.merges {
            let pair = merge.split_once(' ').filter(|(_, right)| !right.contains(' '));
            let known = pair.is_some_and(|(left, right)| {
                ids.contains_key(left) && ids.contains_key(right) && ids.contains_key(&*format!("{left}{right}"))
            });
            if !known {
                return Err(key_error(MERGES, format!("holds `{merge}`, which does not join two tokens into a third")));
            }
        }
        Ok(())
    }

    fn added_tokens(&self) -> impl Iterator<Item = (usize, &str, TokenKind)> {
        let numbered = self.tokens.iter().zip(&self.kinds).enumerate();
        numbered.filter(|(_, (_, kind))| **kind != TokenKind::Normal).map(|(id, (token, kind))| (id, *token, *kind))
    }

    fn tokenizer_json(&self, metadata: &Metadata) -> Result<Value> {
        let pre = required("tokenizer.ggml.pre", metadata.string("tokenizer.ggml.pre")?)?;
        let scheme = Scheme::named(pre)?;
        let added = self.added_tokens().map(|(id, token, kind)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind == TokenKind::Control,
            })
        });
        let vocab: Map<String, Value> =
            self.tokens.iter().enumerate().map(|(id, t)| ((*t).to_owned(), json!(id))).collect();
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": scheme.normalizer,
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": scheme.pretokenizers },
            "post_processor": self.post_processor(metadata, scheme.adds_bos)?,
            "decoder": byte_level(true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": scheme.ignore_merges, "vocab": vocab, "merges": self.merges,
            },
        }))
    }

    /// A template that puts bos before and eos after the text, where the file asks for it.
    fn post_processor(&self, metadata: &Metadata, adds_bos: bool) -> Result<Value> {
        let add_bos = metadata.boolean("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos);
        let add_eos = metadata.boolean("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
        if !add_bos && !add_eos {
            return Ok(Value::Null);
        }
        let mut special = Map::new();
        let mut piece = |add: bool, key: &str| -> Result<Vec<String>> {
            if !add {
                return Ok(Vec::new());
            }
            let (id, token) = self.token(key, required(key, metadata.integer(key)?)?)?;
            special.insert(token.to_owned(), json!({ "id": token, "ids": [id], "tokens": [token] }));
            Ok(vec![token.to_owned()])
        };
        let before = piece(add_bos, "tokenizer.ggml.bos_token_id")?;
        let after = piece(add_eos, "tokenizer.ggml.eos_token_id")?;
        let around = |sequence: &str, type_id: u32| {
            let special = |tokens: &[String]| {
                tokens.iter().map(|t| json!({ "SpecialToken": { "id": t, "type_id": type_id } })).collect::<Vec<_>>()
            };
            let text = vec![json!({ "Sequence": { "id": sequence, "type_id": type_id } })];
            [special(&before), text, special(&after)].concat()
        };
        let pair = [around("A", 0), around("B", 1)].concat();
        Ok(json!({
            "type": "TemplateProcessing", "single": around("A", 0), "pair": pair, "special_tokens": special,
        }))
    }

    fn token(&self, key: &str, id: i64) -> Result<(usize, &'a str)> {
        let index = usize::try_from(id).ok().filter(|&id| id < self.tokens.len());
        let index = index.ok_or_else(|| {
            let size = self.tokens.len();
            key_error(key, format!("is {id}, and the vocabulary has {size} tokens (0 to {})", size.saturating_sub(1)))
        })?;
        Ok((index, self.tokens[index]))
    }
}

/// How text is cut into words, and what else goes with the name.
struct Scheme {
    normalizer: Value,
    pretokenizers: Vec<Value>,
    ignore_merges: bool,
    /// Whether the family begins every text with bos when the file does not say.
    adds_bos: bool,
}

impl Scheme {
    fn named(pre: &str) -> Result<Self> {
        let plain =
            |pretokenizers| Scheme { normalizer: Value::Null, pretokenizers, ignore_merges: false, adds_bos: false };
        match pre {
            "gpt-2" => Ok(plain(vec![byte_level(true)])),
            "smollm" => Ok(plain(vec![json!({ "type": "Digits", "individual_digits": true }), byte_level(true)])),
            "llama-bpe" => Ok(Scheme {
                ignore_merges: true,
                adds_bos: true,
                ..plain(vec![split(r"\p{N}{1,3}"), byte_level(false)])
            }),
            "qwen2" => {
                Ok(Scheme { normalizer: json!({ "type": "NFC" }), ..plain(vec![split(r"\p{N}"), byte_level(false)]) })
            }
            other => Err(key_error(
                "tokenizer.ggml.pre",
                format!(
                    "is `{other}`; known are `gpt-2`, `smollm`, `llama-bpe` and `qwen2`, and a guess would change token ids"
                ),
            )),
        }
    }
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

/// The word pattern that Llama 3 and Qwen 2 share; they differ in how many digits stay together.
fn split(digits: &str) -> Value {
    let pattern = [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        digits,
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
    .join("|");
    json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
}

/// Role, token and id of the tokens with a role.
fn special_tokens<'a>(metadata: &Metadata, vocabulary: &Vocabulary<'a>) -> Result<Vec<(&'static str, &'a str, usize)>> {
    let roles = [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")];
    let mut special = Vec::new();
    for (role, word) in roles {
        let key = format!("tokenizer.ggml.{word}_token_id");
        if let Some(id) = metadata.integer(&key)? {
            let (id, token) = vocabulary.token(&key, id)?;
            special.push((role, token, id));
        }
    }
    Ok(special)
}

fn pretty(value: &Value) -> Result<Vec<u8>> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|e| Error::Argument { name: "value", value: "JSON".to_owned(), reason: e.to_string() })?;
    Ok((text + "\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::MetadataValue::{self, Array, Signed, String as Text, Unsigned};

    fn metadata(pre: &str) -> Metadata {
        let texts = |texts: &[&str]| Array(texts.iter().map(|t| Text((*t).to_owned())).collect());
        let tokens = texts(&["<s>", "1", "2", "Ġ", "i", "n", "12", "in", "Ġin", "</s>"]);
        let types = [3, 1, 1, 1, 1, 1, 1, 1, 1, 3].map(Signed);
        let pairs: [(&str, MetadataValue); 7] = [
            ("tokenizer.ggml.model", Text("gpt2".to_owned())),
            ("tokenizer.ggml.pre", Text(pre.to_owned())),
            (TOKENS, tokens),
            (TOKEN_TYPES, Array(types.to_vec())),
            (MERGES, texts(&["1 2", "i n", "Ġ in"])),
            ("tokenizer.ggml.bos_token_id", Unsigned(0)),
            ("tokenizer.ggml.eos_token_id", Unsigned(9)),
        ];
        Metadata { values: pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
    }

    fn ids(metadata: &Metadata) -> Vec<u32> {
        let files = tokenizer_files(metadata, 16).unwrap();
        let json = files.side_files.get("tokenizer.json").unwrap();
        let tokenizer = tokenizers::Tokenizer::from_bytes(json).unwrap();
        tokenizer.encode("1212 in", true).unwrap().get_ids().to_vec()
    }

    #[test]
    fn each_scheme_cuts_digits_its_own_way() {
        // Alone; as one word, 12|12; at most three together, 12 1|2, after bos; alone.
        assert_eq!(ids(&metadata("smollm")), [1, 2, 1, 2, 8]);
        assert_eq!(ids(&metadata("gpt-2")), [6, 6, 8]);
        assert_eq!(ids(&metadata("llama-bpe")), [0, 6, 1, 2, 8]);
        assert_eq!(ids(&metadata("qwen2")), [1, 2, 1, 2, 8]);
    }

    #[test]
    fn the_file_decides_about_bos_and_eos() {
        let mut metadata = metadata("llama-bpe");
        metadata.values.insert("tokenizer.ggml.add_bos_token".to_owned(), MetadataValue::Bool(false));
        metadata.values.insert("tokenizer.ggml.add_eos_token".to_owned(), MetadataValue::Bool(true));
        assert_eq!(ids(&metadata), [6, 1, 2, 8, 9]);
    }

    #[test]
    fn what_would_change_ids_is_refused() {
        let refused = |key: &str, value: MetadataValue, expected: &str| {
            let mut metadata = metadata("smollm");
            metadata.values.insert(key.to_owned(), value);
            let message = tokenizer_files(&metadata, 16).err().unwrap().to_string();
            assert!(message.contains(expected), "`{message}` should contain `{expected}`");
        };
        refused("tokenizer.ggml.pre", Text("default".to_owned()), "is `default`; known are");
        refused("tokenizer.ggml.model", Text("llama".to_owned()), "only byte-level BPE");
        refused("tokenizer.ggml.eos_token_id", Unsigned(10), "is 10, and the vocabulary has 10 tokens (0 to 9)");
        refused(TOKEN_TYPES, Array(vec![Signed(1)]), "has 1 entries for 10 tokens");
        refused(TOKEN_TYPES, Array(vec![Signed(6); 10]), "type 6, which byte-level BPE does not have");
        refused(MERGES, Array(vec![Text("1 1".to_owned())]), "`1 1`, which does not join two tokens");
        refused(TOKENS, Array(vec![Text("1".to_owned()); 10]), "holds `1` twice, as 0 and 1");
    }
}
