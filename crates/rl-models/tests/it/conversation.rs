//! A model converses: token ids of a dialogue, turn by turn, and episodes that do not depend on their neighbours.

use rl_core::random::RandomKey;
use rl_data::{CHATML, ChatTemplate, Renderer, Tokenizer, train_tokenizer};
use rl_envs::general_points::{GeneralPoints, GeneralPointsConfig, TemplateKind};
use rl_envs::{Environment, Observation, Step};
use rl_models::checkpoint::SideFiles;
use rl_models::generate::{FinishReason, SamplingConfig};
use rl_models::{ChatModel, Decoder, Dialogue, Episode, Error, ModelConfig, play_episodes};
use serde_json::json;
use tch::Device;

const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

fn tokenizer() -> Tokenizer {
    train_tokenizer(&["Cards: 10. Use each once to make 10. That answer failed: Please try again."], 280, &SPECIAL)
        .unwrap()
}

pub fn model_of(vocab_size: usize, max_position_embeddings: usize) -> rl_models::Result<ChatModel> {
    // Tests run beside each other; with threads of their own, tiny tensors would mostly wait.
    rl_torch::set_num_threads(1);
    let config: ModelConfig = serde_json::from_value(json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "vocab_size": vocab_size, "max_position_embeddings": max_position_embeddings, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        "initializer_range": 0.3,
    }))
    .unwrap();
    let renderer = Renderer::new(tokenizer(), ChatTemplate::new(CHATML, Some(SPECIAL[1]), Some(SPECIAL[2])).unwrap());
    ChatModel::new(Decoder::random(config, 4, Device::Cpu)?, renderer.unwrap(), SideFiles::default())
}

pub fn model() -> ChatModel {
    model_of(tokenizer().vocab_size(), 512).unwrap()
}

fn games(count: usize) -> Vec<GeneralPoints> {
    let config = GeneralPointsConfig {
        num_cards: 1,
        target: 10,
        max_attempts: 3,
        template: TemplateKind::Compact,
        ..GeneralPointsConfig::default()
    };
    (0..count).map(|_| GeneralPoints::new(config.clone()).unwrap()).collect()
}

fn play(model: &ChatModel, indices: &[u64], num_slots: usize) -> Vec<Episode> {
    let keys: Vec<RandomKey> = indices.iter().map(|&index| RandomKey::new(2, "episodes").at(index)).collect();
    let sampling = SamplingConfig::sampled(12, 1.5, num_slots);
    play_episodes(model, &mut games(indices.len()), 7, indices, &keys, &sampling, &mut |_| ()).unwrap()
}

#[test]
fn a_dialogue_is_prompt_then_sampled_turns_and_feedback_between_them() {
    let model = model();
    let renderer = &model.renderer;
    let mut reasons = Vec::new();
    let wide = |ids: Vec<u32>| -> Vec<i64> { ids.into_iter().map(i64::from).collect() };
    for Episode { dialogue, steps, .. } in play(&model, &(0..24).collect::<Vec<_>>(), 8) {
        let Dialogue { messages, ids, turns, .. } = &dialogue;
        // An untrained model never answers rightly: three attempts, with feedback after the first two.
        assert_eq!((turns.len(), steps.len(), messages.len()), (3, 3, 6));
        let mut expected = wide(renderer.prompt_ids(&messages[..1]).unwrap());
        for (index, turn) in turns.iter().enumerate() {
            assert_eq!(turn.start, expected.len());
            let sampled = &ids[turn.range()];
            expected.extend_from_slice(sampled);
            let stopped = turn.finish_reason == FinishReason::StopId;
            assert_eq!(stopped, model.stop_ids().contains(&sampled[sampled.len() - 1]));
            assert!(stopped || sampled.len() == 12);
            let narrow: Vec<u32> = sampled.iter().map(|&id| id as u32).collect();
            assert_eq!(turn.text, renderer.tokenizer().decode(&narrow, true).unwrap());
            assert_eq!(messages[2 * index + 1].content, turn.text);
            if index < 2 {
                let (so_far, feedback) = (&messages[..2 * index + 2], &messages[2 * index + 2]);
                expected.extend(wide(renderer.feedback_ids(so_far, feedback, stopped).unwrap()));
            }
            reasons.push(stopped);
        }
        assert_eq!(*ids, expected);
    }
    assert!(reasons.contains(&true) && reasons.contains(&false), "both ends of an answer were seen");
}

#[test]
fn an_episode_does_not_depend_on_its_neighbours() {
    let model = model();
    let together = play(&model, &[3, 8, 1, 40, 2], 3);
    for episode in &together {
        let alone = &play(&model, &[episode.index], 1)[0];
        assert_eq!(alone.dialogue.ids, episode.dialogue.ids);
        assert_eq!(alone.dialogue.messages, episode.dialogue.messages);
        assert_eq!(alone.total_reward(), episode.total_reward());
    }
}

#[test]
fn slices_of_different_lengths_are_refused() {
    let model = model();
    let key = RandomKey::new(0, "test");
    let sampling = SamplingConfig::greedy(4, 2);
    for (num_games, indices, keys) in
        [(2, vec![0], vec![key; 2]), (1, vec![0, 1], vec![key; 2]), (2, vec![0, 1], vec![key])]
    {
        let result = play_episodes(&model, &mut games(num_games), 7, &indices, &keys, &sampling, &mut |_| ());
        assert!(matches!(result, Err(Error::Argument { .. })), "{num_games} {indices:?}");
    }
    let mut dialogue = model.dialogue(vec![rl_data::Message::user("10")]).unwrap();
    let result = model.respond(&mut [&mut dialogue], &[], &sampling, &mut |_| ());
    assert!(matches!(result, Err(Error::Argument { name: "keys", .. })));
    assert!(dialogue.turns.is_empty());
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let message = model_of(tokenizer().vocab_size() - 1, 512).unwrap_err().to_string();
    assert!(message.contains("this tokenizer does not belong to this model"), "{message}");
    // Rows that no token uses are common: embeddings are padded to a round size.
    model_of(tokenizer().vocab_size() + 5, 512).unwrap();
}

#[test]
fn an_episode_that_outgrows_the_context_is_truncated() {
    let whole = play(&model(), &[5], 1).remove(0);
    let second = whole.dialogue.turns[1].start;
    // Room for the first feedback and one token after it; and for one token less.
    for (context, turns) in [(second + 1, 2), (second, 1)] {
        let model = model_of(tokenizer().vocab_size(), context).unwrap();
        let Episode { dialogue, steps, .. } = play(&model, &[5], 1).remove(0);
        assert_eq!((dialogue.turns.len(), steps.len()), (turns, turns));
        let last = &steps[turns - 1];
        assert!(last.truncated && !last.terminated);
        assert_eq!(dialogue.ids, whole.dialogue.ids[..dialogue.ids.len()]);
        assert_eq!(dialogue.turns[turns - 1].range().end, dialogue.ids.len(), "no feedback that nobody answers");
        assert_eq!(dialogue.messages.len(), 2 * turns);
    }
}

/// Three rooms with a conversation each; in the first `retries` rooms, only the second answer opens the door.
struct Rooms {
    retries: usize,
    room: usize,
    attempt: usize,
}

impl Rooms {
    /// Later rooms say more.
    fn prompt(room: usize) -> String {
        "Use each once to make 10. ".repeat(room + 1)
    }
}

impl Environment for Rooms {
    fn name(&self) -> &'static str {
        "rooms"
    }

    fn reset(&mut self, _: u64, _: u64) -> rl_envs::Result<Observation> {
        (self.room, self.attempt) = (0, 0);
        Ok(Observation { messages: vec![rl_envs::Message::user(Rooms::prompt(0))] })
    }

    fn step(&mut self, _: &str) -> rl_envs::Result<Step> {
        self.attempt += 1;
        let is_open = usize::from(self.room < self.retries) < self.attempt;
        if is_open {
            (self.room, self.attempt) = (self.room + 1, 0);
        }
        let success = self.room == 3;
        let feedback = if is_open { Rooms::prompt(self.room) } else { "Please try again.".into() };
        Ok(Step {
            outcome: if is_open { "open" } else { "shut" },
            reward: 1.0,
            success,
            feedback: (!success).then(|| rl_envs::Message::user(feedback)),
            terminated: success,
            truncated: false,
        })
    }

    fn info(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn starts_over(&self) -> bool {
        self.attempt == 0
    }
}

fn play_rooms(model: &ChatModel, retries: usize) -> Episode {
    let mut rooms = [Rooms { retries, room: 0, attempt: 0 }];
    let key = RandomKey::new(5, "rooms");
    let sampling = SamplingConfig::sampled(12, 1.5, 1);
    play_episodes(model, &mut rooms, 0, &[0], &[key], &sampling, &mut |_| ()).unwrap().remove(0)
}

#[test]
fn an_episode_may_start_new_conversations() {
    let model = model();
    for retries in [0, 1, 3] {
        let episode = play_rooms(&model, retries);
        let lengths: Vec<usize> = episode.dialogues().map(|dialogue| dialogue.turns.len()).collect();
        let expected: Vec<usize> = (0..3).map(|room| if room < retries { 2 } else { 1 }).collect();
        assert_eq!(lengths, expected);
        assert_eq!(episode.steps.len(), 3 + retries);
        assert_eq!((episode.earlier.len(), episode.total_reward()), (2, 3.0 + retries as f64));
        assert_eq!((episode.is_success(), episode.is_first_attempt_success()), (true, retries == 0));
        for (room, dialogue) in episode.dialogues().enumerate() {
            let prompt = rl_data::Message::user(Rooms::prompt(room));
            assert_eq!(dialogue.messages[0], prompt);
            // Nothing of the rooms before stands in it.
            let alone = model.dialogue(vec![prompt]).unwrap();
            assert_eq!(dialogue.ids[..dialogue.turns[0].start], alone.ids);
        }
    }
    // No room for an answer in the second conversation: we stop.
    let whole = play_rooms(&model, 0);
    let context = whole.earlier[1].turns[0].start;
    let short = model_of(tokenizer().vocab_size(), context).unwrap();
    let episode = play_rooms(&short, 0);
    assert!(!episode.is_success() && episode.steps.last().unwrap().truncated);
    assert_eq!((episode.earlier.len(), episode.dialogue.turns.len()), (0, 1));
}
