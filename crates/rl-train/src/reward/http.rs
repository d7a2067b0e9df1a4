//! Scores from a web service: one POST of a JSON object per sample, over plain HTTP.
//!
//! The body is the [`RewardRequest`]; the reply is `{"score": 1.0}` or `{"error": "why not"}` with status 200. No proxy
//! is asked and no redirect followed. Not here: TLS; a service beyond the own network wants a local proxy that speaks it.

use std::time::{Duration, Instant};

use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::http::Uri;

use super::config::positive_seconds;
use super::reply::{MAX_REPLY, Reply};
use super::request::RewardRequest;
use super::score::{Score, reason};
use super::source::Attempt;

/// A web service that scores answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where the samples go, beginning with `http://`.
    pub url: String,
    /// Seconds for one attempt, so that a retry has time left; without it an attempt may use the whole deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    /// Name of an environment variable; its content is sent as `Authorization: Bearer ...`. The token itself never stands
    /// in a config or a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_variable: Option<String>,
}

/// A web service and its open connections.
pub(super) struct HttpReward {
    agent: Agent,
    url: String,
    timeout: Option<Duration>,
    authorization: Option<String>,
}

impl HttpConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let uri: Option<Uri> = self.url.parse().ok();
        let plain = uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        ensure(plain, "url", &self.url, "must be a whole address that begins with http://")?;
        positive_seconds("timeout_seconds", self.timeout_seconds)
    }
}

impl HttpReward {
    /// Reads the token; connections are opened when needed. The error is the reason.
    pub(super) fn new(config: &HttpConfig, num_connections: usize) -> Result<Self, String> {
        let authorization = match &config.token_variable {
            None => None,
            Some(variable) => match std::env::var(variable) {
                Ok(token) => Some(format!("Bearer {token}")),
                Err(error) => return Err(format!("the environment variable {variable}: {error}")),
            },
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_idle_connections(num_connections)
            .max_idle_connections_per_host(num_connections)
            .build()
            .new_agent();
        let timeout = config.timeout_seconds.map(Duration::from_secs_f64);
        Ok(HttpReward { agent, url: config.url.clone(), timeout, authorization })
    }

    /// One attempt, over before `until`.
    pub(super) fn attempt(&self, request: &RewardRequest, until: Instant) -> Attempt {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Attempt::Done(Score::TimedOut);
        }
        let limit = self.timeout.map_or(left, |timeout| timeout.min(left));
        match self.post(request, limit) {
            Ok(attempt) => attempt,
            Err(ureq::Error::Timeout(_)) if until <= Instant::now() || limit == left => Attempt::Done(Score::TimedOut),
            Err(ureq::Error::BodyExceedsLimit(limit)) => {
                Attempt::Done(Score::invalid("too long", format!("a body of more than {limit} bytes")))
            }
            Err(error) => Attempt::may_pass(reason("connection", &error.to_string())),
        }
    }

    fn post(&self, request: &RewardRequest, limit: Duration) -> Result<Attempt, ureq::Error> {
        let mut post = self.agent.post(&self.url).config().timeout_global(Some(limit)).build();
        if let Some(authorization) = &self.authorization {
            post = post.header("Authorization", authorization);
        }
        let mut response = post.send_json(request)?;
        let status = response.status().as_u16();
        let pause = response
            .headers()
            .get("Retry-After")
            .and_then(|value| value.to_str().ok())
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs);
        let text = response.body_mut().with_config().limit(MAX_REPLY as u64).read_to_string()?;
        let refused = || reason(&format!("status {status}"), &text);
        Ok(match status {
            200 => Attempt::Done(Reply::parse(&text).map_or_else(Score::Invalid, Reply::into_score)),
            429 | 500..=599 => Attempt::MayPass { reason: refused(), pause },
            _ => Attempt::Done(Score::Invalid(refused())),
        })
    }
}
