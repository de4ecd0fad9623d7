//! Uploads to a hub that behaves and to hubs that do not.

use super::trial::{self, TOKEN};
use peft_remote::upload::{LocalFile, Upload, Uploaded};
use peft_remote::{Hub, RepositoryId, Settings};
use peft_tests::uploads::{LARGE, Manner, MockUploads, PART};
use std::ops::ControlFlow;
use tempfile::TempDir;

const WRITE: Manner = Manner { exists: None, role: "write", first: Vec::new(), in_parts: false, leaks: false };

struct Trial {
    hub: MockUploads,
    folder: TempDir,
    settings: Settings,
    upload: Upload,
}

impl Trial {
    fn new(manner: Manner) -> Self {
        let hub = MockUploads::new(manner);
        let folder = tempfile::tempdir().expect("a folder");
        let settings = trial::settings(&hub.endpoint(), folder.path());
        let large: Vec<u8> = (0..LARGE * 3 + 17).map(|i| (i * 7 % 251) as u8).collect();
        let files = [("README.md", b"# card".to_vec()), ("empty.txt", Vec::new()), ("more/weights.gguf", large)];
        let files = files.into_iter().map(|(path, content)| {
            let from = folder.path().join(path.replace('/', "-"));
            std::fs::write(&from, &content).expect("written");
            let digest = durable::sha256_file(&from).expect("read");
            LocalFile { path: path.to_owned(), from, bytes: digest.bytes, sha256: digest.sha256 }
        });
        let id = RepositoryId::new("me/bot").expect("an id");
        let upload = Upload { id, private: true, summary: "A test".to_owned(), files: files.collect() };
        Self { hub, folder, settings, upload }
    }

    fn send(&self) -> peft_plan::Result<Uploaded> {
        let hub = Hub::new(self.settings.clone())?;
        Ok(hub.upload(&self.upload, &mut |_| ControlFlow::Continue(()))?.expect("nobody stopped it"))
    }

    fn code(&self) -> &'static str {
        self.send().expect_err("it is refused").code
    }

    /// All of it is there, and the second host never saw the token.
    fn check(&self) {
        let large = &self.upload.files[2];
        assert_eq!(self.hub.large(&large.sha256), Some(std::fs::read(&large.from).expect("read")));
        let commits = self.hub.commits();
        let paths: Vec<_> =
            commits.last().expect("a commit").iter().map(|l| (l["key"].clone(), l["value"]["path"].clone())).collect();
        let wanted = [("file", "README.md"), ("file", "empty.txt"), ("lfsFile", "more/weights.gguf")];
        assert_eq!(paths, wanted.map(|(key, path)| (key.into(), path.into())));
        let (_, foreign) = self.hub.take_logs();
        for heard in foreign {
            assert!(
                !format!("{heard:?}").contains(TOKEN),
                "the token went to another host: {} {}",
                heard.method,
                heard.path
            );
        }
    }
}

#[test]
fn files_arrive_whole_and_the_token_stays_with_the_hub() {
    for (in_parts, leaks) in [(false, false), (true, false), (false, true)] {
        let trial = Trial::new(Manner { in_parts, leaks, ..WRITE });
        let done = trial.send().expect("uploaded");
        assert_eq!((done.id.as_str(), done.commit.len()), ("me/bot", 40));
        assert_eq!(done.sent_bytes, trial.upload.files[2].bytes);
        assert!(trial.upload.files[2].bytes > 5 * PART as u64);
        trial.check();
        assert_eq!(trial.hub.created()[0]["private"], true);
        // Once more: nothing large travels.
        assert_eq!(trial.send().expect("again").sent_bytes, 0);
        trial.check();
        assert!(trial.folder.path().is_dir());
    }
}

#[test]
fn what_breaks_on_the_way_is_tried_again_and_what_was_sent_is_kept() {
    for manner in [Manner { in_parts: true, ..WRITE }, WRITE] {
        let trial = Trial::new(manner);
        trial.hub.script(vec![
            ("GET /api/whoami", 503, "busy"),
            ("POST /api/repos/create", 0, ""),
            ("PUT /", 0, ""),
            ("PUT /", 403, "Request has expired"),
            ("POST /verify", 500, "busy"),
            ("POST /complete", 500, "busy"),
            ("POST /api/models/me/bot/commit", 502, "busy"),
        ]);
        trial.send().expect("uploaded in the end");
        trial.check();
    }
    let trial = Trial::new(WRITE);
    trial.hub.script((0..20).map(|_| ("POST /api/models/me/bot/commit", 503, "busy")).collect());
    let fault = trial.send().expect_err("never");
    assert!(fault.code == "PS-EXP-003" && fault.detail.contains("goes on"), "{fault:?}");
    trial.hub.script(Vec::new());
    assert_eq!(trial.send().expect("goes on").sent_bytes, 0);
}

#[test]
fn a_part_that_broke_is_sent_again_and_the_others_are_not() {
    let trial = Trial::new(Manner { in_parts: true, ..WRITE });
    let fourth: &'static str = format!("PUT /part/{}/4", trial.upload.files[2].sha256).leak();
    trial.hub.script(vec![(fourth, 0, ""), (fourth, 503, "busy")]);
    assert_eq!(trial.send().expect("uploaded").sent_bytes, trial.upload.files[2].bytes);
    let (_, foreign) = trial.hub.take_logs();
    let puts = foreign.iter().filter(|heard| heard.method == "PUT");
    let numbers: Vec<&str> = puts.filter_map(|heard| heard.path.rsplit('/').next()).collect();
    assert_eq!(numbers, ["1", "2", "3", "4", "4", "4", "5", "6", "7"]);
    trial.check();
}

#[test]
fn refusals_are_told_for_what_they_are_and_nothing_is_committed() {
    assert_eq!(Trial::new(Manner { role: "read", ..WRITE }).code(), "PS-AUTH-004");
    for (line, status, code) in [
        ("GET /api/whoami", 401, "PS-AUTH-003"),
        ("POST /api/repos/create", 401, "PS-AUTH-003"),
        ("POST /api/repos/create", 403, "PS-AUTH-004"),
        ("POST /api/models/me/bot/preupload", 403, "PS-AUTH-004"),
        ("POST /me/bot.git/info/lfs", 403, "PS-AUTH-004"),
        ("POST /me/bot.git/info/lfs", 409, "PS-EXP-003"),
        ("PUT /", 413, "PS-EXP-003"),
        ("POST /api/models/me/bot/commit", 403, "PS-AUTH-004"),
        ("POST /api/models/me/bot/commit", 412, "PS-EXP-003"),
        ("POST /api/models/me/bot/commit", 200, "PS-EXP-003"),
    ] {
        let trial = Trial::new(WRITE);
        let reason = "{\"error\":\"because of a reason\"}";
        trial.hub.script((0..10).map(|_| (line, status, reason)).collect());
        assert_eq!(trial.code(), code, "{line} {status}");
        assert!(trial.hub.commits().is_empty());
    }
    let mut trial = Trial::new(WRITE);
    trial.settings.token = None;
    assert_eq!(trial.code(), "PS-AUTH-002");
    assert!(trial.hub.take_logs().0.is_empty(), "nobody is asked without a token");
}

#[test]
fn nothing_private_goes_into_a_repository_that_everybody_reads() {
    let trial = Trial::new(Manner { exists: Some(false), ..WRITE });
    let fault = trial.send().expect_err("public");
    assert!(fault.code == "PS-CFG-001" && fault.detail.contains("everybody"), "{fault:?}");
    assert!(trial.hub.commits().is_empty());
    let private = Trial::new(Manner { exists: Some(true), ..WRITE });
    private.send().expect("uploaded");
    private.check();
    let mut public = Trial::new(Manner { exists: Some(false), ..WRITE });
    public.upload.private = false;
    public.send().expect("uploaded");
}

#[test]
fn whoever_had_enough_is_heard() {
    let trial = Trial::new(WRITE);
    let hub = Hub::new(trial.settings.clone()).expect("a hub");
    // The first event may come after it is done, where the machine is fast: then it is done.
    let outcome = hub.upload(&trial.upload, &mut |_| ControlFlow::Break(())).expect("no fault");
    assert!(outcome.is_none() || !trial.hub.commits().is_empty());
}
