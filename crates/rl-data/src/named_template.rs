//! Chat templates that come with the crate, for models that ship none.
//!
//! They are written for this crate and print what the published templates of the families print; what they leave out they
//! refuse with an [`Error::Template`]. Each marks the assistant's answers with `{% generation %}` blocks, end of turn
//! included, so that a saved checkpoint can be trained on its answers in `transformers` and TRL too. Not here: templates
//! of checkpoints (`chat_template`).

use crate::chat_template::{CHATML, ChatTemplate};
use crate::error::{Error, Result};

struct Named {
    name: &'static str,
    source: &'static str,
    bos_token: Option<&'static str>,
    eos_token: &'static str,
}

const NAMED: [Named; 5] = [
    Named { name: "chatml", source: CHATML, bos_token: None, eos_token: "<|im_end|>" },
    Named {
        name: "smollm2",
        source: include_str!("chat_templates/smollm2.jinja"),
        bos_token: Some("<|im_start|>"),
        eos_token: "<|im_end|>",
    },
    Named {
        name: "llama3",
        source: include_str!("chat_templates/llama3.jinja"),
        bos_token: Some("<|begin_of_text|>"),
        eos_token: "<|eot_id|>",
    },
    Named {
        name: "qwen2.5",
        source: include_str!("chat_templates/qwen2.5.jinja"),
        bos_token: None,
        eos_token: "<|im_end|>",
    },
    Named {
        name: "qwen3",
        source: include_str!("chat_templates/qwen3.jinja"),
        bos_token: None,
        eos_token: "<|im_end|>",
    },
];

impl ChatTemplate {
    /// A built-in template, for a base model that ships none; [`Error::UnknownTemplate`] lists the names.
    ///
    /// | name | prints what | variables |
    /// | --- | --- | --- |
    /// | `chatml` | ChatML does, no system message of its own | |
    /// | `smollm2` | SmolLM2-Instruct does, with its default system message | |
    /// | `llama3` | Llama 3.1, 3.2 and 3.3 Instruct do, dates included | `tools`, `tools_in_user_message`; `date_string`, else the date of [`ChatTemplate::with_date`] |
    /// | `qwen2.5` | Qwen2.5-Instruct does, with its default system message | `tools` |
    /// | `qwen3` | the hybrid Qwen3 models do: thoughts of earlier turns are dropped | `tools`, `enable_thinking` |
    ///
    /// Llama 3.1 always prints 26 Jul 2024 unless `date_string` is set, and that is the default date here.
    ///
    /// Refused with [`Error::Template`] are documents by all; tools and their calls by `chatml` and `smollm2`; by `llama3`
    /// more than one call in a message, built-in tools, and tools where the conversation does not begin with a user. The
    /// tokenizer must hold the family's special tokens, or `Renderer::new` refuses the pair.
    pub fn named(name: &str) -> Result<Self> {
        let found = NAMED.iter().find(|named| named.name == name);
        let named = found.ok_or_else(|| Error::UnknownTemplate {
            name: name.to_string(),
            known: ChatTemplate::names().collect::<Vec<_>>().join("`, `"),
        })?;
        ChatTemplate::new(named.source, named.bos_token, Some(named.eos_token))
    }

    /// Names that [`ChatTemplate::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|named| named.name)
    }
}
