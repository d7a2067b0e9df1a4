//! What the `generate` program does: one answer as it comes, a conversation, or a file of prompts.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rl_core::random::RandomKey;
use rl_data::{Message, PromptRecord, Role, read_jsonl, write_jsonl};
use rl_models::generate::{Request, SamplingConfig, Stats};
use rl_models::{ChatModel, Dialogue};
use rl_track::Progress;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What holds without a file.
const BUILT_IN: &str = r#"
model = "data/models/smollm2-135m"
prompts = []
device = "auto"
seed = 0
sampling = { max_new_tokens = 128, temperature = 0.7, top_k = 0, top_p = 0.95, num_slots = 8 }
"#;

/// Which model answers what, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateConfig {
    /// Checkpoint folder.
    pub model: PathBuf,
    /// User messages, each a conversation of its own.
    pub prompts: Vec<String>,
    /// What conversations begin with that have no system message of their own; absent: what the template does.
    #[serde(default)]
    pub system: Option<String>,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Seed of the sampling.
    pub seed: u64,
    /// How tokens are chosen.
    pub sampling: SamplingConfig,
}

impl GenerateConfig {
    /// Reads `file`, or the built-in settings, with `overrides` of the form `key=value`.
    ///
    /// Greedy decoding (temperature 0) does not truncate, so `top_p` is then not read.
    ///
    /// # Errors
    /// Names the file, line or key.
    pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Self> {
        Ok(match file {
            Some(file) => rl_track::config::load(file, overrides)?,
            None => rl_track::config::parse(BUILT_IN, "built-in settings", overrides)?,
        })
    }
}

/// Flags that are short for `--set`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SamplingArgs {
    /// Takes the most probable token each time; short for --temperature 0.
    #[arg(long, conflicts_with = "temperature")]
    greedy: bool,
    /// Divides the logits.
    #[arg(long, value_name = "NUMBER")]
    temperature: Option<f64>,
    /// Keeps the N most probable tokens; 0 keeps all.
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Keeps the most probable tokens that have this share of the probability; 1 keeps all.
    #[arg(long, value_name = "SHARE")]
    top_p: Option<f64>,
    /// Keeps tokens at least this much as probable as the most probable one; 0 keeps all.
    #[arg(long, value_name = "SHARE")]
    min_p: Option<f64>,
    /// Makes tokens less probable that came before; 1 changes nothing.
    #[arg(long, value_name = "NUMBER")]
    repetition_penalty: Option<f64>,
    /// Longest answer in tokens.
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Shortest answer in tokens.
    #[arg(long, value_name = "N")]
    min_new_tokens: Option<usize>,
    /// Ends an answer where this text appears; may be given often.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Answers that are written together.
    #[arg(long, value_name = "N")]
    num_slots: Option<usize>,
}

impl SamplingArgs {
    /// The flags as `key=value`.
    pub fn overrides(&self) -> Vec<String> {
        let number = |value: f64| format!("{value:?}"); // with a point, as TOML's floats
        let values = [
            ("temperature", self.temperature.or(self.greedy.then_some(0.0)).map(number)),
            ("top_k", self.top_k.map(|value| value.to_string())),
            ("top_p", self.top_p.map(number)),
            ("min_p", self.min_p.map(number)),
            ("repetition_penalty", self.repetition_penalty.map(number)),
            ("max_new_tokens", self.max_new_tokens.map(|value| value.to_string())),
            ("min_new_tokens", self.min_new_tokens.map(|value| value.to_string())),
            ("stop_strings", (!self.stop.is_empty()).then(|| json!(self.stop).to_string())),
            ("num_slots", self.num_slots.map(|value| value.to_string())),
        ];
        values.into_iter().filter_map(|(key, value)| Some(format!("sampling.{key}={}", value?))).collect()
    }
}

/// A model with its settings, ready to answer.
#[derive(Debug)]
pub struct Generator {
    model: ChatModel,
    sampling: SamplingConfig,
    system: Option<String>,
    key: RandomKey,
}

/// One line of a file of prompts: `prompt` or `messages`, and fields that go along.
#[derive(Debug, Clone, Deserialize)]
struct PromptLine {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Generator {
    /// Loads the model of `config`.
    ///
    /// # Errors
    /// From the device, the checkpoint or the settings.
    pub fn load(config: &GenerateConfig) -> Result<Self> {
        config.sampling.validate()?;
        let model = ChatModel::load(&config.model, rl_torch::parse_device(&config.device)?)?;
        Ok(Self::new(model, config))
    }

    /// Takes the settings of `config`, with a model that is there already.
    pub fn new(model: ChatModel, config: &GenerateConfig) -> Self {
        let key = RandomKey::new(config.seed, "generate");
        Generator { model, sampling: config.sampling.clone(), system: config.system.clone(), key }
    }

    /// Writes the answer to one prompt as it comes, and a line feed.
    ///
    /// # Errors
    /// From the model or from writing.
    pub fn stream(&self, prompt: &str, out: &mut impl Write) -> Result<Stats> {
        let mut dialogue = self.dialogue(vec![Message::user(prompt)])?;
        self.reply(&mut dialogue, self.key.at(0), out)
    }

    /// Answers line after line of `input`: `/reset` begins anew, `/quit` ends, as the end of the input does.
    ///
    /// # Errors
    /// From the model, from reading or from writing.
    pub fn chat(&self, input: impl BufRead, out: &mut impl Write) -> Result<()> {
        let mut dialogue: Option<Dialogue> = None;
        let mut turn = 0;
        eprintln!("Type a message; /reset begins anew, /quit ends.");
        for line in input.lines() {
            let line = line.context("cannot read the input")?;
            match line.trim() {
                "" => continue,
                "/quit" => break,
                "/reset" => dialogue = None,
                text => {
                    let message = Message::user(text);
                    let fits = match &mut dialogue {
                        Some(dialogue) => self.model.add_feedback(dialogue, message)?,
                        None => {
                            dialogue = Some(self.dialogue(vec![message])?);
                            true
                        }
                    };
                    match dialogue.as_mut().filter(|_| fits) {
                        Some(dialogue) => {
                            let stats = self.reply(dialogue, self.key.at(turn), out)?;
                            eprintln!("{}", summary(&stats, 1));
                        }
                        None => eprintln!("The conversation fills the model's context; /reset begins anew."),
                    }
                    turn += 1;
                }
            }
        }
        Ok(())
    }

    /// Answers all `prompts` together; gives the texts in their order.
    ///
    /// # Errors
    /// From the model.
    pub fn answer_all(&self, prompts: &[String]) -> Result<(Vec<String>, Stats)> {
        let conversations = prompts.iter().map(PromptRecord::new).collect();
        let (answers, stats) = self.answer(conversations, &Progress::hidden())?;
        Ok((answers.into_iter().map(|answer| answer.text).collect(), stats))
    }

    /// Answers a file of JSON Lines with `prompt` or `messages`, maybe with `tools`; writes its other fields with `text`, `finish_reason`
    /// and `num_tokens` to `output`, or to standard output without one, in the order of the file.
    ///
    /// # Errors
    /// From the model, or names the file and the line.
    pub fn answer_file(&self, file: &Path, output: Option<&Path>, progress: &Progress) -> Result<(usize, Stats)> {
        let (mut conversations, mut records) = (Vec::<PromptRecord>::new(), Vec::new());
        for (index, line) in read_jsonl::<PromptLine>(file)?.into_iter().enumerate() {
            let mut record = Map::new();
            conversations.push(match (line.prompt, line.messages) {
                (Some(prompt), None) => {
                    record.insert("prompt".into(), json!(prompt));
                    PromptRecord::new(prompt)
                }
                (None, Some(messages)) if !messages.is_empty() => {
                    record.insert("messages".into(), serde_json::to_value(&messages)?);
                    PromptRecord::from(messages)
                }
                _ => bail!("{}, record {}: give either `prompt` or `messages`", file.display(), index + 1),
            });
            if let Some(last) = conversations.last_mut() {
                last.extra.clone_from(&line.extra);
            }
            record.extend(line.extra);
            records.push(record);
        }
        let (answers, stats) = self.answer(conversations, progress)?;
        for (record, answer) in records.iter_mut().zip(answers) {
            record.insert("text".into(), json!(answer.text));
            record.insert("finish_reason".into(), json!(answer.finish_reason));
            record.insert("num_tokens".into(), json!(answer.num_tokens));
        }
        let count = records.len();
        match output {
            Some(output) => {
                write_jsonl(output, records)?;
            }
            None => records.iter().for_each(|record| println!("{}", json!(record))),
        }
        Ok((count, stats))
    }

    fn answer(&self, conversations: Vec<PromptRecord>, progress: &Progress) -> Result<(Vec<Answer>, Stats)> {
        let bar = progress.bar("answers", conversations.len() as u64);
        let mut engine = self.model.engine(&self.sampling)?;
        for (row, prompt) in (0_u64..).zip(conversations) {
            let dialogue = self.dialogue(prompt).with_context(|| format!("prompt {}", row + 1))?;
            let request = Request::new(dialogue.ids, self.key.at(row));
            engine.push(request).with_context(|| format!("prompt {}", row + 1))?;
        }
        let responses = engine.run(&mut |_| bar.inc(1))?;
        bar.finish();
        let answers = responses.into_iter().map(|response| Answer {
            text: response.text.unwrap_or_default(),
            finish_reason: response.finish_reason.name(),
            num_tokens: response.ids.len(),
        });
        Ok((answers.collect(), engine.stats()))
    }

    fn dialogue(&self, prompt: impl Into<PromptRecord>) -> Result<Dialogue> {
        let mut record = prompt.into();
        let messages = &mut record.prompt;
        let has_system = messages.first().is_some_and(|message| message.role == Role::System);
        if let Some(system) = self.system.as_ref().filter(|_| !has_system) {
            messages.insert(0, Message::system(system.as_str()));
        }
        Ok(self.model.dialogue(record)?)
    }

    fn reply(&self, dialogue: &mut Dialogue, key: RandomKey, out: &mut impl Write) -> Result<Stats> {
        let mut reply = self.model.reply(dialogue, key, &self.sampling)?;
        for piece in reply.by_ref() {
            out.write_all(piece?.as_bytes())?;
            out.flush()?;
        }
        writeln!(out)?;
        Ok(reply.stats())
    }
}

/// One finished response.
struct Answer {
    text: String,
    finish_reason: &'static str,
    num_tokens: usize,
}

/// Tokens per second in one line.
pub fn summary(stats: &Stats, num_responses: usize) -> String {
    let prefill = stats.prefill_time.as_secs_f64();
    let read = stats.prompt_tokens_read;
    let decoded = stats.new_tokens.saturating_sub(num_responses);
    format!(
        "prefill: {read} tokens in {prefill:.2} s, {:.1} tokens per second ({} more shared); decode: {decoded} tokens in \
         {:.2} s, {:.1} tokens per second",
        read as f64 / prefill,
        stats.prompt_tokens_shared,
        stats.decode_time.as_secs_f64(),
        stats.decode_tokens_per_second(num_responses),
    )
}

#[cfg(test)]
mod tests {
    use rl_data::{CHATML, ChatTemplate, Renderer, train_tokenizer};
    use rl_models::checkpoint::SideFiles;
    use rl_models::{Decoder, ModelConfig};

    use super::*;

    const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

    fn generator(overrides: &[&str]) -> Generator {
        let tokenizer = train_tokenizer(&["one two three"], 270, &SPECIAL).unwrap();
        let config: ModelConfig = serde_json::from_value(json!({
            "model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": tokenizer.vocab_size(), "max_position_embeddings": 200,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "initializer_range": 0.3,
        }))
        .unwrap();
        let decoder = Decoder::random(config, 4, tch::Device::Cpu).unwrap();
        let template = ChatTemplate::new(CHATML, Some(SPECIAL[1]), Some(SPECIAL[2])).unwrap();
        let model = ChatModel::new(decoder, Renderer::new(tokenizer, template).unwrap(), SideFiles::default()).unwrap();
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        Generator::new(model, &GenerateConfig::load(None, &overrides).unwrap())
    }

    #[test]
    fn built_in_settings_take_overrides_and_refuse_unknown_keys() {
        let config = GenerateConfig::load(None, &["model=\"m\"".into(), "sampling.temperature=0.0".into()]).unwrap();
        assert_eq!((config.model, config.sampling.temperature), (PathBuf::from("m"), 0.0));
        let message = format!("{:#}", GenerateConfig::load(None, &["sampling.top=1".into()]).unwrap_err());
        assert!(message.contains("top_k") || message.contains("top_p"), "{message}");
    }

    #[test]
    fn flags_become_settings() {
        let flags = SamplingArgs {
            greedy: true,
            top_k: Some(5),
            min_p: Some(1.0),
            stop: vec!["a \"b\"\n".into(), "c".into()],
            ..SamplingArgs::default()
        };
        let sampling = GenerateConfig::load(None, &flags.overrides()).unwrap().sampling;
        assert_eq!((sampling.temperature, sampling.top_k, sampling.min_p, sampling.top_p), (0.0, 5, 1.0, 0.95));
        assert_eq!(sampling.stop_strings, ["a \"b\"\n", "c"]);
    }

    #[test]
    fn a_file_of_prompts_keeps_its_order_and_its_fields() {
        let folder = tempfile::tempdir().unwrap();
        let (file, output) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
        let lines =
            "{\"prompt\": \"one\", \"id\": 7}\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"two\"}]}\n";
        std::fs::write(&file, lines).unwrap();
        let generator = generator(&["sampling.max_new_tokens=9", "sampling.min_new_tokens=9"]);
        let (count, stats) = generator.answer_file(&file, Some(&output), &Progress::hidden()).unwrap();
        assert_eq!((count, stats.new_tokens), (2, 18));
        let answers: Vec<Value> = read_jsonl(&output).unwrap();
        let (texts, _) = generator.answer_all(&["one".into(), "two".into()]).unwrap();
        assert_eq!((&answers[0]["prompt"], &answers[0]["id"]), (&json!("one"), &json!(7)));
        assert_eq!(answers[1]["messages"][0]["content"], "two");
        for (answer, text) in answers.iter().zip(&texts) {
            assert_eq!((&answer["text"], &answer["num_tokens"]), (&json!(text), &json!(9)));
            assert_eq!(answer["finish_reason"], "length");
        }
        std::fs::write(&file, "{\"prompt\": \"one\"}\n{\"text\": \"two\"}\n").unwrap();
        let error = generator.answer_file(&file, None, &Progress::hidden()).unwrap_err().to_string();
        assert!(error.contains("record 2") && error.contains("`messages`"), "{error}");
    }

    #[test]
    fn a_chat_remembers_until_it_is_reset() {
        let generator = generator(&["sampling.max_new_tokens=8", "system=\"three\""]);
        let say = |input: &str| {
            let mut out = Vec::new();
            generator.chat(input.as_bytes(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let first = say("one\n");
        let two = say("one\n\ntwo\n/quit\none\n");
        let second = two.strip_prefix(&first).expect("the first answer is the same");
        assert!(second.ends_with('\n') && first.ends_with('\n'));
        // The second answer depends on the first turn: without it, it differs (the draws are those of turn 1 in both).
        let anew = say("one\n/reset\ntwo\n");
        assert_ne!(anew.strip_prefix(&first), Some(second));
        // A context of 200 tokens is full before a hundred turns have been taken; that is said, not an error.
        assert!(say(&"one\n".repeat(100)).len() < 100 * 8 * 12);
        let mut streamed = Vec::new();
        let stats = generator.stream("one", &mut streamed).unwrap();
        assert_eq!(String::from_utf8(streamed).unwrap(), first);
        assert!(stats.new_tokens <= 8 && 0 < stats.prompt_tokens_read);
    }
}
