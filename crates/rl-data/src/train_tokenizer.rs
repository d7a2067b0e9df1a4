//! A small byte-level BPE vocabulary for models trained from scratch.
//!
//! Every text can be encoded, because all 256 bytes are tokens; every digit stands alone, so that numbers are read
//! digit by digit.

use std::collections::HashSet;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer as Inner};

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Number of byte tokens.
const NUM_BYTES: usize = 256;

/// Learns merges from `texts`, a function of its arguments alone.
///
/// Ids are: `special_tokens` in order, the 256 bytes, then the merges, most frequent first. `vocab_size` is an upper
/// bound: a small corpus runs out of merges, so size the model by [`Tokenizer::vocab_size`]. Special tokens that stand
/// in the texts are cut out first. Errors: [`Error::VocabularyTooSmall`], [`Error::SpecialToken`].
///
/// Sennrich et al. 2016, "Neural machine translation of rare words with subword units", algorithm 1, over bytes.
pub fn train_tokenizer<S: AsRef<str>>(texts: &[S], vocab_size: usize, special_tokens: &[&str]) -> Result<Tokenizer> {
    check_special_tokens(special_tokens)?;
    let (special, minimum) = (special_tokens.len(), special_tokens.len() + NUM_BYTES);
    if vocab_size < minimum {
        return Err(Error::VocabularyTooSmall { vocab_size, minimum, special });
    }

    let mut inner = Inner::new(BPE::default());
    inner.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, true)),
    ])));
    inner.with_decoder(Some(ByteLevel::default()));

    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size)
        .special_tokens(special_tokens.iter().map(|&token| AddedToken::from(token, true)).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let pieces: Vec<&str> = texts.iter().flat_map(|text| cut_out(text.as_ref(), special_tokens)).collect();
    inner
        .train(&mut TrainerWrapper::BpeTrainer(trainer), pieces.into_iter())
        .map_err(|e| Error::tokenizer("train", e))?;
    Tokenizer::from_inner(inner)
}

fn check_special_tokens(special_tokens: &[&str]) -> Result<()> {
    let mut seen = HashSet::new();
    for &token in special_tokens {
        let problem = if token.is_empty() {
            "empty"
        } else if !seen.insert(token) {
            "named twice"
        } else {
            continue;
        };
        return Err(Error::SpecialToken { token: token.to_string(), problem });
    }
    Ok(())
}

fn cut_out<'a>(text: &'a str, special_tokens: &[&str]) -> Vec<&'a str> {
    special_tokens.iter().fold(vec![text], |pieces, &token| {
        pieces.into_iter().flat_map(|piece| piece.split(token)).filter(|piece| !piece.is_empty()).collect()
    })
}
