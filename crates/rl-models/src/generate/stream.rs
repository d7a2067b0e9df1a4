//! One response, token by token.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::config::SamplingConfig;
use super::engine::Engine;
use super::request::{Request, Response, Token};
use super::stats::Stats;
use crate::Result;
use crate::decoder::Decoder;

/// Iterator over the tokens of one response; made by [`stream`]. Dropping it ends the response.
#[derive(Debug)]
pub struct TokenStream<'a> {
    engine: Engine<'a>,
    ready: VecDeque<Token>,
    response: Option<Response>,
}

/// Answers `request` token by token; each token costs one step when it is asked for.
///
/// ```no_run
/// # use rl_core::random::RandomKey;
/// # use rl_models::{Decoder, generate::{Request, SamplingConfig, stream}};
/// # fn run(decoder: &Decoder) -> rl_models::Result<()> {
/// let request = Request::new(vec![1, 5, 9], RandomKey::new(0, "answer"));
/// for token in stream(decoder, request, &SamplingConfig::greedy(64, 1), &[2])? {
///     println!("{}", token?.id);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Engine::new`] and [`Engine::push`].
pub fn stream<'a>(
    decoder: &'a Decoder,
    request: Request,
    config: &SamplingConfig,
    stop_ids: &[i64],
) -> Result<TokenStream<'a>> {
    TokenStream::new(Engine::new(decoder, config, stop_ids)?, request)
}

impl<'a> TokenStream<'a> {
    /// Streams `request` from an engine that may have a tokenizer or a cancel token, and has no other requests.
    ///
    /// # Errors
    /// As [`Engine::push`].
    pub fn new(mut engine: Engine<'a>, request: Request) -> Result<Self> {
        engine.push(request)?;
        Ok(TokenStream { engine, ready: VecDeque::new(), response: None })
    }

    /// The whole response, once it has ended.
    pub fn response(&self) -> Option<&Response> {
        self.response.as_ref()
    }

    /// The whole response by value, once it has ended.
    pub fn into_response(self) -> Option<Response> {
        self.response
    }

    /// What the engine has done so far.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }
}

impl Iterator for TokenStream<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.engine.is_idle() {
            let ready = &mut self.ready;
            let step = self.engine.step_with(&mut |token| {
                ready.push_back(token.clone());
                ControlFlow::Continue(())
            });
            match step {
                Ok(finished) => self.response = finished.into_iter().next().map(|(_, response)| response),
                Err(error) => return Some(Err(error)),
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
