//! Everything that can go wrong between a file of conversations and a batch of token ids.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure that names the value, the limit and, where there is one, the mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} `{path}`: {source}")]
    File {
        /// What was tried: `open`, `read`, `write`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a JSON Lines file does not hold the expected record.
    #[error("`{path}` line {line}: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What was wrong with it.
        source: serde_json::Error,
    },
    /// A field of a row that does not hold what the record needs. In a file it comes inside [`Error::Line`].
    #[error("field `{field}`: {problem}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A row that is no row, or not as a whole what the record needs.
    #[error("`{path}` {place}: {problem}")]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// What is wrong with it.
        problem: String,
    },
    /// A cell that does not hold what the record needs.
    #[error("`{path}` {place}, column `{column}`: {problem}")]
    Cell {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// The column by its name in the file.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A Parquet file that cannot be read or written.
    #[error("`{path}`: {problem}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that only a cargo feature of this crate reads or writes.
    #[error("`{path}` needs the cargo feature `{feature}` of rl-data, which this program was built without")]
    FeatureOff {
        /// The file.
        path: PathBuf,
        /// The feature.
        feature: &'static str,
    },
    /// A dataset that was not found, or whose files do not say which of them are meant.
    #[error("dataset `{name}`: {problem}")]
    Dataset {
        /// The path or name that was asked for.
        name: String,
        /// What was found or not, and the mend.
        problem: String,
    },
    /// The columns of a dataset do not hold the record that is wanted.
    #[error("dataset `{name}` holds no {record}: {problem}")]
    Columns {
        /// The path or name of the dataset.
        name: String,
        /// The record that is wanted.
        record: &'static str,
        /// What is missing, what is there, and the mend.
        problem: String,
    },
    /// A record could not be written as JSON, or a configuration file is not JSON.
    #[error("`{path}`: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: serde_json::Error,
    },
    /// The tokenizer library refused a file, a text or a setting.
    #[error("tokenizer: cannot {action}: {message}")]
    Tokenizer {
        /// What was tried.
        action: String,
        /// What the library said.
        message: String,
    },
    /// A token id that the vocabulary does not hold.
    #[error("token id {id} is not in the vocabulary of {vocab_size} ids; the ids come from another tokenizer")]
    UnknownId {
        /// The id.
        id: u32,
        /// Largest id of the vocabulary plus one.
        vocab_size: usize,
    },
    /// A vocabulary too small for the bytes and the special tokens.
    #[error("vocab_size {vocab_size} is below {minimum}: 256 bytes and {special} special tokens")]
    VocabularyTooSmall {
        /// Asked for.
        vocab_size: usize,
        /// Smallest possible.
        minimum: usize,
        /// Number of special tokens.
        special: usize,
    },
    /// A special token that is empty, named twice or missing.
    #[error("special token `{token}` is {problem}")]
    SpecialToken {
        /// The token.
        token: String,
        /// `empty`, `named twice` or `not in the vocabulary`.
        problem: &'static str,
    },
    /// A folder holds no chat template.
    #[error("`{folder}` has neither chat_template.jinja nor `chat_template` in tokenizer_config.json")]
    NoTemplate {
        /// The folder.
        folder: PathBuf,
    },
    /// No built-in chat template has this name.
    #[error("there is no built-in chat template `{name}`; the names are `{known}`")]
    UnknownTemplate {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A chat template that does not parse or refuses the conversation.
    #[error("chat template: {message}")]
    Template {
        /// What the template engine said, or what the template raised.
        message: String,
    },
    /// No special token follows an assistant's answer, so sampling could not stop.
    #[error("no special token of the vocabulary follows the assistant's answer in the chat template; found {found:?}")]
    NoStopToken {
        /// The text that stands there.
        found: String,
    },
    /// The prompt of an answer is not the beginning of the rendered conversation.
    #[error(
        "message {message}: the prompt rendered before it is not a prefix of the rendered conversation; \
         the chat template rewrites earlier text, so train one answer per record"
    )]
    PromptNotPrefix {
        /// Index of the assistant message.
        message: usize,
    },
    /// A conversation that begins with the assistant, under a template that needs something before it.
    #[error(
        "message 0: the chat template prints no prompt without a message before the answer ({reason}); begin with a user"
    )]
    AnswerFirst {
        /// What the template engine said, or what the template raised.
        reason: String,
    },
    /// The end-of-turn token of a trained answer is not where the template puts it.
    #[error("message {message}: the end-of-turn text `{stop}` does not follow the answer, so it would not be trained")]
    StopNotCovered {
        /// Index of the assistant message.
        message: usize,
        /// Text of the end-of-turn token.
        stop: String,
    },
    /// A trained answer holds the end-of-turn text itself.
    #[error("message {message}: the answer holds the end-of-turn text `{stop}`; remove it from the record")]
    StopInsideAnswer {
        /// Index of the assistant message.
        message: usize,
        /// Text of the end-of-turn token.
        stop: String,
    },
    /// The template decides by control tokens in a message, so keeping them as text changes what it prints.
    #[error(
        "the chat template reads control tokens in the messages, so its text changes when they are kept as text; \
         remove them from the record or let them be recognised"
    )]
    ControlTextRead,
    /// Tokens merge over the seam between prompt and answer, so training would see other ids than sampling.
    #[error(
        "message {message}: the answer's first characters merge with the prompt's last token, so training and \
         sampling would see different ids; remove white space from the start of the answer"
    )]
    Seam {
        /// Index of the message whose boundary is inside a token.
        message: usize,
    },
    /// A call of a tool that the chat template does not print, so that it would be lost unseen.
    #[error(
        "message {message}: the chat template does not print its tool call; use a template of a model that calls tools"
    )]
    ToolCallNotPrinted {
        /// Index of the assistant message.
        message: usize,
    },
    /// A row brings tools, but the chat template prints the same without them.
    #[error("the chat template prints nothing of the row's `tools`; use a template of a model that calls tools")]
    ToolsNotPrinted,
    /// The text begins twice with the template's first token.
    #[error("the conversation begins twice with `{token}`; remove it from the first message or from the template")]
    RepeatedFirstToken {
        /// The token.
        token: String,
    },
    /// Training by generation blocks with a template that has none.
    #[error(
        "the chat template has no {{% generation %}} blocks, so nothing would be trained; choose `train_on` assistant or \
         a template with blocks"
    )]
    NoGenerationBlocks,
    /// A weight of 1 on a message that is not the assistant's.
    #[error("message {message}: weight 1 on a {role} message, but only answers are trained; remove it or train on all")]
    WeightOfOther {
        /// Index of the message.
        message: usize,
        /// Its role.
        role: crate::record::Role,
    },
    /// A message of weight 0 that cannot be found in the text, while all other tokens are trained.
    #[error(
        "message {message}: the chat template rewrites it, so its weight 0 cannot be placed; train on answers alone"
    )]
    WeightNotPlaced {
        /// Index of the message.
        message: usize,
    },
    /// A conversation without a message that could be trained.
    #[error("the conversation has no assistant message to train on")]
    NoAnswer,
    /// `feedback_ids` was asked about a conversation that does not end with an assistant's answer.
    #[error("feedback needs a conversation that ends with the assistant's answer; it ends with {found}")]
    NotAnAnswer {
        /// Role of the last message, or `nothing`.
        found: String,
    },
    /// A row is longer than the limit.
    #[error("row {row} has {length} tokens, above the limit {limit}; raise the limit or choose a truncation policy")]
    TooLong {
        /// Index of the row.
        row: usize,
        /// Its length in tokens.
        length: usize,
        /// The limit in tokens.
        limit: usize,
    },
    /// A row without a token.
    #[error("row {row} has no tokens")]
    EmptyRow {
        /// Index of the row.
        row: usize,
    },
    /// A row number that the data does not have.
    #[error("there is no row {row} among {rows}; the order belongs to other data")]
    NoSuchRow {
        /// Index of the row.
        row: usize,
        /// Rows there are.
        rows: usize,
    },
    /// A piece of a document that the examples do not have.
    #[error(
        "document {document} has no tokens {start}..{end}, but {}; rows and examples belong to different data",
        .length.map_or("is missing".to_string(), |length| format!("{length} tokens"))
    )]
    NoSuchPiece {
        /// Index of the document.
        document: usize,
        /// First token.
        start: usize,
        /// One past the last token.
        end: usize,
        /// Tokens of the document; none if there is no such document.
        length: Option<usize>,
    },
    /// The thread that makes items ahead panicked.
    #[error("the thread that reads ahead panicked: {message}")]
    Producer {
        /// What it said.
        message: String,
    },
    /// The system gives no thread.
    #[error("cannot start a thread: {source}; lower the number of threads or raise the limit (ulimit -u)")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
    /// A content that has no JSON form and so no hash.
    #[error("the content cannot be written as JSON to be hashed: {source}")]
    Content {
        /// What was wrong.
        source: serde_json::Error,
    },
    /// Scores that do not belong to the answers.
    #[error("row {row}: the scorer gave {scores} scores for {answers} answers")]
    ScoreCount {
        /// Index of the row.
        row: usize,
        /// Scores given.
        scores: usize,
        /// Answers there are.
        answers: usize,
    },
    /// A score that is no number to compare by.
    #[error("row {row}: the score of answer {answer} is {score}; it must be finite")]
    Score {
        /// Index of the row.
        row: usize,
        /// Index of the answer.
        answer: usize,
        /// The score.
        score: f64,
    },
    /// A statistic that cannot be computed from the numbers given.
    #[error(transparent)]
    Statistic(#[from] rl_core::Error),
    /// A row on which there is nothing to learn.
    #[error("row {row} has no trainable token after its first; drop such rows or check the roles")]
    Untrainable {
        /// Index of the row.
        row: usize,
    },
    /// A pair whose two responses are the same tokens, so that neither can be preferred.
    #[error("row {row}: the chosen and the rejected response are the same; drop such rows")]
    IdenticalPair {
        /// Index of the row.
        row: usize,
    },
    /// A row whose conversation could not be turned into an example.
    #[error("row {row}: {source}")]
    Row {
        /// Index of the row.
        row: usize,
        /// What went wrong.
        source: Box<Error>,
    },
    /// A setting outside its range.
    #[error("{name} = {value}: {rule}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
}

/// Where in a file a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Line of a JSON Lines file, from 1.
    Line(usize),
    /// Row of a Parquet file or of a JSON array, from 0.
    Row(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Line(line) => write!(formatter, "line {line}"),
            Place::Row(row) => write!(formatter, "row {row}"),
        }
    }
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Error::File { action, path: path.to_path_buf(), source }
    }

    pub(crate) fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Error::Field { field, problem: problem.into() }
    }

    pub(crate) fn tokenizer(action: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Error::Tokenizer { action: action.into(), message: error.to_string() }
    }
}
