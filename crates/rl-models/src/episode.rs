//! A chat model plays environments: the one loop that rollouts and evaluation share.

use rl_core::random::RandomKey;
use rl_data::{Message, Role};
use rl_envs::{Environment, Step};

use crate::chat_model::check_len;
use crate::generate::SamplingConfig;
use crate::{ChatModel, Dialogue, Result};

/// One episode, as tokens and as judged turns.
#[derive(Debug, Clone)]
pub struct Episode {
    /// Index by which the environment made the task.
    pub index: u64,
    /// Conversations before the last one, where the environment starts over within an episode; else none.
    pub earlier: Vec<Dialogue>,
    /// The last conversation. The turns of all conversations in order were judged as `steps`.
    pub dialogue: Dialogue,
    /// What the environment said to each turn.
    pub steps: Vec<Step>,
}

impl Episode {
    /// All conversations, in order.
    pub fn dialogues(&self) -> impl Iterator<Item = &Dialogue> {
        self.earlier.iter().chain([&self.dialogue])
    }

    /// Sum of the rewards.
    pub fn total_reward(&self) -> f64 {
        self.steps.iter().map(|step| step.reward).sum()
    }

    /// Whether some turn solved the task.
    pub fn is_success(&self) -> bool {
        self.steps.iter().any(|step| step.success)
    }

    /// Whether the task was solved with one answer in each conversation. Where an episode is one conversation, that is success
    /// at the first attempt; where it has several, no part of the task took a second one.
    pub fn is_first_attempt_success(&self) -> bool {
        self.is_success() && self.steps.len() == self.dialogues().count()
    }
}

/// Plays one episode in each environment, all together: every round answers the episodes that still go on.
///
/// Episode `i` is reset to (`seed`, `indices[i]`) and draws by `keys[i].at(turn)`, so an episode depends on its own key
/// and index alone. The three slices have one entry per episode. `on_finish` receives the tokens of each response. An
/// episode whose next prompt does not fit the context is truncated; [`Step::feedback`] is taken into the dialogue, or into a
/// new one where the environment starts over.
///
/// # Errors
/// [`crate::Error::Argument`] unless the three slices have equal lengths; from the environments, the chat template, or
/// generation (a first prompt longer than the context).
pub fn play_episodes<E: Environment>(
    model: &ChatModel,
    environments: &mut [E],
    seed: u64,
    indices: &[u64],
    keys: &[RandomKey],
    sampling: &SamplingConfig,
    on_finish: &mut dyn FnMut(usize),
) -> Result<Vec<Episode>> {
    check_len("indices", indices.len(), environments.len())?;
    check_len("keys", keys.len(), environments.len())?;
    let mut episodes = Vec::with_capacity(environments.len());
    for (environment, &index) in environments.iter_mut().zip(indices) {
        let messages: Vec<Message> = environment.reset(seed, index)?.messages.into_iter().map(message).collect();
        episodes.push(Episode { index, earlier: Vec::new(), dialogue: model.dialogue(messages)?, steps: Vec::new() });
    }
    let mut going: Vec<usize> = (0..episodes.len()).collect();
    for turn in 0.. {
        if going.is_empty() {
            break;
        }
        let turn_keys: Vec<RandomKey> = going.iter().map(|&episode| keys[episode].at(turn)).collect();
        let mut dialogues = pick(&mut episodes, &going);
        model.respond(&mut dialogues, &turn_keys, sampling, on_finish)?;
        let mut next = Vec::with_capacity(going.len());
        for index in going {
            let Episode { earlier, dialogue, steps, .. } = &mut episodes[index];
            let response = dialogue.turns.last().map_or("", |turn| turn.text.as_str());
            let mut step = environments[index].step(response)?;
            if let Some(feedback) = step.feedback.take() {
                // An episode that outgrows the context is stopped by us, as any other limit would stop it.
                step.truncated = if environments[index].starts_over() {
                    let next = model.dialogue(vec![message(feedback)])?;
                    let fits = model.has_room(&next);
                    if fits {
                        earlier.push(std::mem::replace(dialogue, next));
                    }
                    !fits
                } else {
                    !model.add_feedback(dialogue, message(feedback))?
                };
                if !step.truncated {
                    next.push(index);
                }
            }
            steps.push(step);
        }
        going = next;
    }
    Ok(episodes)
}

/// Mutable dialogues of the chosen episodes; `chosen` is ascending.
fn pick<'a>(episodes: &'a mut [Episode], chosen: &[usize]) -> Vec<&'a mut Dialogue> {
    let mut chosen = chosen.iter().peekable();
    let numbered = episodes.iter_mut().enumerate();
    numbered
        .filter(|(index, _)| chosen.next_if(|&&wanted| wanted == *index).is_some())
        .map(|(_, episode)| &mut episode.dialogue)
        .collect()
}

fn message(message: rl_envs::Message) -> Message {
    let role = match message.role {
        rl_envs::Role::System => Role::System,
        rl_envs::Role::User => Role::User,
        rl_envs::Role::Assistant => Role::Assistant,
    };
    Message::new(role, message.content)
}
