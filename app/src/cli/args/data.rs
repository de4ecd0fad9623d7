//! Arguments of `data`.

use super::quality::{CardArgs, ContaminationArgs, DataVersionsCommand, ScoreArgs};
use super::teaching::{GenerateArgs, HelperArgs, LabelArgs, PersonaArgs, ReviewArgs};
use super::values;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `data`.
#[derive(Clone, Debug, Subcommand)]
pub enum DataCommand {
    /// Say what files hold, how good it is for training, and how it will be read
    Inspect(InspectArgs),
    /// Write examples in another format, cleaned and split if you like
    Convert(ConvertArgs),
    /// Cut documents into pieces that fit a model, each with its place
    Chunk(ChunkArgs),
    /// List the documents of a project, or take some of them out
    Documents(DocumentsArgs),
    /// Give the chunks of a project vectors, with a helper model: what they mean can then be searched
    Embed(EmbedArgs),
    /// Find the chunks of a project by words, and by meaning where they have vectors
    Search(SearchChunksArgs),
    /// Score each row for training, with the reasons
    Score(ScoreArgs),
    /// Find training rows that give the questions of an evaluation away
    Contamination(ContaminationArgs),
    /// Keep versions of a project's rows, compare them, go back
    #[command(subcommand)]
    Versions(DataVersionsCommand),
    /// Write the card of a dataset: what is in it, where it is from, how good it is
    Card(CardArgs),
    /// Read the documents whose paths come in, for the process that asks
    #[command(hide = true)]
    ReadFiles,
    /// Download a dataset from Hugging Face; goes on where an earlier download stopped
    #[command(after_help = "Example:\n  peft-studio data download hub:owner/name --file train.jsonl")]
    Download {
        /// Its Hugging Face id (with @revision, if you like), with or without `hub:` before it
        id: String,
        /// Only this file; repeat it for several [default: every file with rows]
        #[arg(long, value_name = "PATH")]
        file: Vec<String>,
    },
    /// List the models of a helper service, with their prices and what is left to spend
    #[command(after_help = "Example:\n  peft-studio data helpers --provider openrouter")]
    Helpers(HelperArgs),
    /// Write training rows from chunks of documents, or from a wish, with a helper model
    Generate(Box<GenerateArgs>),
    /// Look at generated rows, and take, change or refuse them
    Review(ReviewArgs),
    /// Let a teacher answer rows that have no answer
    Label(LabelArgs),
    /// Make conversations of one person from chats, journals and memories
    Persona(PersonaArgs),
    /// Write the four tasks of this program as example rows, for training and for search
    #[command(after_help = "Example:\n  peft-studio data reference --out tasks.jsonl")]
    Reference {
        /// File to write
        #[arg(long, value_name = "FILE.jsonl", alias = "output")]
        out: PathBuf,
    },
}

/// `data inspect`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example:\n  peft-studio data inspect examples.csv --columns user=question --columns assistant=reply"
)]
pub struct InspectArgs {
    /// Files with examples (JSONL, JSON, CSV, TSV, Parquet, text, Markdown), folders, or hub:OWNER/NAME
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Count tokens as this model does: a folder, or `starter`
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Which column is what (user, assistant, system, text, messages); repeat it for several
    #[arg(long, value_name = "PART=COLUMN", value_delimiter = ',', value_parser = values::column)]
    pub columns: Vec<(String, String)>,
    /// Read the files as this format instead of detecting it
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `data chunk`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio data chunk handbook.docx notes/ --out chunks.jsonl\n  \
                        peft-studio data chunk notes/ --project notes --chunk-size 400t --overlap 40 --model starter")]
pub struct ChunkArgs {
    /// Documents (text, Markdown, HTML, JSON, JSONL, CSV, PDF, DOCX, EPUB) or folders of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// File to write the chunks to
    #[arg(long, value_name = "FILE.jsonl", alias = "output", required_unless_present = "project")]
    pub out: Option<PathBuf>,
    /// Longest chunk, in characters (1500 or 1500c) or in tokens of --model (400t)
    #[arg(long, value_name = "N[t|c]", default_value = "1500c", value_parser = values::length)]
    pub chunk_size: values::Length,
    /// How much of the end of a chunk the next one repeats, in the same unit
    #[arg(long, value_name = "N", default_value = "150", value_parser = values::count)]
    pub overlap: usize,
    /// The model whose tokens are counted: a folder, or `starter`
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Also keep documents and chunks in this project; what has not changed stays as it is
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
}

/// `data documents`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio data documents --project notes\n  \
                        peft-studio data documents --project notes --remove old/handbook.docx")]
pub struct DocumentsArgs {
    /// Whose documents
    #[arg(long, value_name = "NAME")]
    pub project: String,
    /// Take this document, or all of this folder, out of the project, with chunks and vectors; repeat it for several.
    /// The files themselves are left alone
    #[arg(long, value_name = "PATH")]
    pub remove: Vec<PathBuf>,
    /// Also take out the rows that were made from them; the rows as they were are kept as a version
    #[arg(long, requires = "remove")]
    pub with_rows: bool,
}

/// `data embed`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  peft-studio data embed --project notes\n  \
                        peft-studio data embed --project notes --provider local --embedding-model starter")]
pub struct EmbedArgs {
    /// Whose chunks
    #[arg(long, value_name = "NAME")]
    pub project: String,
    /// Who runs the model; local is this program
    #[arg(long, value_name = "NAME", value_parser = ["ollama", "openrouter", "openai", "local"], default_value = "ollama")]
    pub provider: String,
    /// The model that makes the vectors
    #[arg(long, value_name = "MODEL", default_value = "embeddinggemma:latest")]
    pub embedding_model: String,
    /// Where it is, such as `http://127.0.0.1:8080/v1` [default: the provider's own place]
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// Texts in a request
    #[arg(long, value_name = "N", default_value = "32", value_parser = values::positive)]
    pub batch_size: usize,
}

/// `data search`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio data search --project notes \"opening hours\"")]
pub struct SearchChunksArgs {
    /// What to look for
    #[arg(required_unless_present = "lines")]
    pub query: Option<String>,
    /// Look for each line of the standard input, until it ends; what was opened for one stays open for the next
    #[arg(long, conflicts_with = "query")]
    pub lines: bool,
    /// Where
    #[arg(long, value_name = "NAME")]
    pub project: String,
    /// How many pieces to show
    #[arg(long, value_name = "N", default_value = "5", value_parser = values::positive)]
    pub top_k: usize,
    /// Look for words only, also where chunks have vectors
    #[arg(long)]
    pub words: bool,
    /// Where the model of the vectors is [default: its provider's own place]
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
}

/// `data convert`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  peft-studio data convert examples.csv --to messages --out clean.jsonl \
                        --deduplicate --validation-split 0.1")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct ConvertArgs {
    /// Files with examples (JSONL, JSON, CSV, TSV, Parquet, text, Markdown), folders, or hub:OWNER/NAME
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Format to write
    #[arg(long, value_name = "FORMAT", value_parser = ["messages", "alpaca", "sharegpt", "text"])]
    pub to: String,
    /// File to write
    #[arg(long, value_name = "FILE.jsonl", alias = "output")]
    pub out: PathBuf,
    /// Share of the examples to hold out in a second file, such as 0.1
    #[arg(long, value_name = "SHARE", value_parser = values::held_out_share)]
    pub validation_split: Option<f64>,
    /// Leave out copies of earlier examples
    #[arg(long)]
    pub deduplicate: bool,
    /// Also leave out examples that nearly repeat an earlier one
    #[arg(long)]
    pub deduplicate_near: bool,
    /// Put garbled characters right, such as Ã¼ for ü
    #[arg(long)]
    pub repair: bool,
    /// Replace keys, card and account numbers, e-mail addresses and telephone numbers by placeholders
    #[arg(long)]
    pub redact: bool,
    /// Leave out examples with more characters
    #[arg(long, value_name = "N", value_parser = values::positive)]
    pub max_characters: Option<usize>,
    /// Leave out examples with fewer characters
    #[arg(long, value_name = "N", value_parser = values::positive)]
    pub min_characters: Option<usize>,
    /// Leave out examples in other languages than these, such as en,de
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    pub languages: Vec<String>,
    /// Leave out examples with these defects
    #[arg(long, value_name = "DEFECTS", value_delimiter = ',', value_parser = values::defect())]
    pub drop: Vec<String>,
    /// Leave out examples with a lower score (0 to 100), as `data score` gives it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub min_score: Option<u32>,
    /// Leave out examples that give the questions of this evaluation file away
    #[arg(long, value_name = "FILE")]
    pub evaluation: Vec<PathBuf>,
    /// Leave out examples that are not good for training
    #[arg(long)]
    pub quality_filter: bool,
    /// Put this system prompt before every conversation that has none
    #[arg(long, value_name = "TEXT")]
    pub include_system: Option<String>,
    /// Which column is what (user, assistant, system, text, messages); repeat it for several
    #[arg(long, value_name = "PART=COLUMN", value_delimiter = ',', value_parser = values::column)]
    pub columns: Vec<(String, String)>,
    /// Read the files as this format instead of detecting it
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}
