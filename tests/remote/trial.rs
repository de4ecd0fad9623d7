//! One download from a hub of our own, and what came of it.

use peft_plan::Result;
use peft_remote::{Downloaded, Event, Hub, Outcome, Patience, RepositoryId, Revision, Settings, Token, Wanted};
use peft_tests::hub::MockHub;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The repository of most trials.
pub(crate) const NAME: &str = "owner/model";
/// Its key in the mock.
pub(crate) const KEY: &str = "models/owner/model";
/// The token of most trials, and what must never be seen elsewhere.
pub(crate) const TOKEN: &str = "hf_verysecrettoken";

/// Settings of a trial: the hub at `endpoint`, the cache in `folder`, the token, and little patience.
pub(crate) fn settings(endpoint: &str, folder: &Path) -> Settings {
    let variables = |name: &str| match name {
        "HF_ENDPOINT" => Some(endpoint.into()),
        "HF_HUB_CACHE" => Some(folder.into()),
        _ => None,
    };
    let mut settings = Settings::read(variables, None).expect("settings");
    settings.token = Token::new(TOKEN);
    settings.patience = Patience {
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
        stall: Duration::from_millis(500),
        ..Patience::default()
    };
    settings
}

/// A hub and an empty cache.
pub(crate) struct Trial {
    pub(crate) hub: MockHub,
    pub(crate) cache: TempDir,
    pub(crate) settings: Settings,
}

impl Trial {
    /// With a model whose weights are `weights`.
    pub(crate) fn with_weights(weights: &[u8]) -> Self {
        let trial = Self::empty();
        trial.hub.publish(KEY, &files(weights));
        trial
    }

    /// With nothing.
    pub(crate) fn empty() -> Self {
        let hub = MockHub::new();
        let cache = tempfile::tempdir().expect("a directory");
        let settings = settings(&hub.endpoint(), cache.path());
        Self { hub, cache, settings }
    }

    pub(crate) fn connect(&self) -> Hub {
        Hub::new(self.settings.clone()).expect("a hub")
    }

    pub(crate) fn wanted() -> Wanted {
        Wanted::model(RepositoryId::new(NAME).expect("an id"), Revision::default())
    }

    /// Download the model to the end.
    pub(crate) fn download(&self) -> Result<Downloaded> {
        self.download_telling(&mut |_| {})
    }

    pub(crate) fn download_telling(&self, tell: &mut dyn FnMut(&Event)) -> Result<Downloaded> {
        let outcome = self.connect().download(&Self::wanted(), &mut |event| {
            tell(event);
            ControlFlow::Continue(())
        })?;
        match outcome {
            Outcome::Done(done) => Ok(done),
            Outcome::Cancelled => panic!("nobody asked for that"),
        }
    }

    /// The weights' place as a blob.
    pub(crate) fn blob(&self) -> PathBuf {
        self.cache.path().join("models--owner--model/blobs").join(self.hub.etag(KEY, "model.safetensors"))
    }

    pub(crate) fn incomplete(&self) -> PathBuf {
        PathBuf::from(format!("{}.incomplete", self.blob().display()))
    }

    /// Whether the snapshot can be seen.
    pub(crate) fn is_linked(&self) -> bool {
        let snapshots = self.cache.path().join("models--owner--model/snapshots");
        std::fs::read_dir(snapshots)
            .is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join("model.safetensors").exists()))
    }
}

/// The files of a model with these weights.
pub(crate) fn files(weights: &[u8]) -> [(&'static str, &[u8]); 3] {
    [("config.json", b"{}"), ("model.safetensors", weights), ("tokenizer.json", b"{ }")]
}

/// Bytes that are nowhere the same.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}

/// The content of the weights that were linked.
pub(crate) fn linked(done: &Downloaded) -> Vec<u8> {
    std::fs::read(Path::new(&done.path).join("model.safetensors")).expect("readable")
}
