//! Text to token ids and back, over a `tokenizer.json`.
//!
//! Encoding never adds special tokens (the chat template writes them as text) and never truncates or pads, whatever
//! the file says. Not here: training a vocabulary (`train_tokenizer`), decoding token by token
//! (`text_stream`) and chat layout (`render`).

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetType, PostProcessorWrapper, PreTokenizedString, PreTokenizer,
    Tokenizer as Inner,
};

use crate::byte_level::ByteLevel;
use crate::error::{Error, Result};
use crate::jsonl::write_atomic;
use crate::text_stream::TextStream;

/// A vocabulary with its rules for splitting, merging and decoding. A clone shares it, so clones cost nothing.
#[derive(Clone)]
pub struct Tokenizer {
    /// Without its post-processor, which would trim white space off the offsets.
    inner: Arc<Inner>,
    /// Kept for [`Tokenizer::to_json`] only.
    post_processor: Option<PostProcessorWrapper>,
    vocab_size: usize,
    /// A faster way to the same ids, where there is one.
    byte_level: Option<Arc<ByteLevel>>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::file("read", path, source))?;
        let inner = Inner::from_bytes(bytes).map_err(|e| Error::tokenizer(format!("read `{}`", path.display()), e))?;
        Tokenizer::from_inner(inner)
    }

    /// Reads `tokenizer.json` in a checkpoint folder.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        Tokenizer::from_file(folder.as_ref().join("tokenizer.json"))
    }

    /// Reads the content of a `tokenizer.json`.
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Self> {
        let inner = Inner::from_bytes(bytes).map_err(|e| Error::tokenizer("read the given bytes", e))?;
        Tokenizer::from_inner(inner)
    }

    /// Takes over a tokenizer of the `tokenizers` crate; its truncation and padding settings are dropped.
    pub(crate) fn from_inner(mut inner: Inner) -> Result<Self> {
        inner.with_truncation(None).map_err(|e| Error::tokenizer("switch truncation off", e))?;
        inner.with_padding(None);
        let post_processor = inner.get_post_processor().cloned();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let vocab_size = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let byte_level = ByteLevel::new(&inner).map(Arc::new);
        Ok(Tokenizer { inner: Arc::new(inner), post_processor, vocab_size, byte_level })
    }

    /// The content of a `tokenizer.json` that this crate, Python `tokenizers` and `transformers` open.
    pub fn to_json(&self) -> Result<String> {
        let mut whole = Inner::clone(&self.inner);
        whole.with_post_processor(self.post_processor.clone());
        whole.to_string(true).map_err(|e| Error::tokenizer("write as JSON", e))
    }

    /// Writes a `tokenizer.json`, all or nothing.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        use std::io::Write;
        let (path, json) = (path.as_ref(), self.to_json()?);
        write_atomic(path, |out| out.write_all(json.as_bytes()).map_err(|source| Error::file("write", path, source)))
    }

    /// Ids of `text`. No token is added; the text of a special token becomes that token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        if let Some(byte_level) = &self.byte_level {
            let mut ids = Vec::new();
            if byte_level.encode(&self.inner, text, |id, _| ids.push(id)) {
                return Ok(ids);
            }
        }
        let encoding = self.inner.encode_fast(text, false).map_err(|e| Error::tokenizer("encode", e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of `text`, each with the range of bytes of `text` it covers.
    ///
    /// Tokens that share one character (its UTF-8 bytes are split) all carry the range of the whole character.
    pub fn encode_with_offsets(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>> {
        if let Some(byte_level) = &self.byte_level {
            let mut tokens = Vec::new();
            if byte_level.encode(&self.inner, text, |id, bytes| tokens.push((id, bytes))) {
                return Ok(tokens);
            }
        }
        let encoding = self.inner.encode(text, false).map_err(|e| Error::tokenizer("encode", e))?;
        Ok(encoding.get_ids().iter().zip(encoding.get_offsets()).map(|(&id, &(from, to))| (id, from..to)).collect())
    }

    /// Ids of `text` as if the vocabulary had no added tokens, special or not, each with its bytes of `text`.
    pub(crate) fn encode_literally(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>> {
        let encode = || {
            let mut normalized = NormalizedString::from(text);
            if let Some(normalizer) = self.inner.get_normalizer() {
                normalizer.normalize(&mut normalized)?;
            }
            let mut pieces = PreTokenizedString::from(normalized);
            if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            pieces.tokenize(|piece| self.inner.get_model().tokenize(piece.get()))?;
            pieces.into_encoding(None, 0, OffsetType::Byte)
        };
        let encoding = encode().map_err(|e| Error::tokenizer("encode", e))?;
        Ok(encoding.get_ids().iter().zip(encoding.get_offsets()).map(|(&id, &(from, to))| (id, from..to)).collect())
    }

    /// Text of every added token, and whether it is special.
    pub(crate) fn added_tokens(&self) -> impl Iterator<Item = (&str, bool)> {
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        added.values().map(|token| (token.content.as_str(), token.special))
    }

    /// Text of `ids`; bytes that are not UTF-8 become U+FFFD. `skip_special` leaves special tokens out.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        for &id in ids {
            self.known_token(id)?;
        }
        // Some of the library's decoders cannot take an empty list.
        if ids.iter().all(|&id| skip_special && self.is_special(id)) {
            return Ok(String::new());
        }
        self.inner.decode(ids, skip_special).map_err(|e| Error::tokenizer("decode", e))
    }

    /// A decoder that takes ids one by one and never shows half a character. It shares this vocabulary.
    pub fn stream(&self, skip_special: bool) -> TextStream {
        TextStream::new(self.clone(), skip_special)
    }

    /// Largest id plus one, added tokens included: the number of rows an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Id of a token as written in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token as written in the vocabulary (byte-level tokens in their printable alphabet).
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether `id` is an added token marked special.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// Whether text before and after this token is encoded independently: it is cut out of the text before anything else.
    pub(crate) fn is_barrier(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        added.get(&id).is_some_and(|token| token.special && !token.normalized)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The token as decoding sees it, or [`Error::UnknownId`].
    pub(crate) fn known_token(&self, id: u32) -> Result<String> {
        self.inner.id_to_token(id).ok_or(Error::UnknownId { id, vocab_size: self.vocab_size })
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size).finish_non_exhaustive()
    }
}
