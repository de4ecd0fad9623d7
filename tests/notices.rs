//! What a run tells the desktop (S4.12), on a session bus of its own with a desktop that writes everything down.

#![cfg(target_os = "linux")]

use peft_tests::home::{Home, text};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};
use zbus::blocking::{Connection, MessageIterator};
use zbus::zvariant::OwnedValue;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/qwen2/model");

/// One call of `Notify`.
#[derive(Clone, Debug)]
struct Shown {
    replaces: u32,
    summary: String,
    body: String,
    hints: HashMap<String, OwnedValue>,
}

impl Shown {
    fn urgency(&self) -> u8 {
        u8::try_from(self.hints["urgency"].clone()).expect("a byte")
    }

    fn sound(&self) -> Option<String> {
        String::try_from(self.hints.get("sound-name")?.clone()).ok()
    }

    fn is_silent(&self) -> bool {
        self.hints.get("suppress-sound").is_some_and(|value| bool::try_from(value.clone()).unwrap_or(false))
    }
}

/// What happened on the desktop, and how it behaves.
#[derive(Default)]
struct Record {
    shown: Mutex<Vec<Shown>>,
    /// Progress, whether it is visible, and whether somebody should look.
    launcher: Mutex<Vec<(f64, bool, bool)>>,
    is_quiet: AtomicBool,
    hangs: AtomicBool,
}

struct Notifications(Arc<Record>);

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Notifications {
    #[allow(clippy::unused_self, reason = "the interface has methods")]
    fn get_capabilities(&self) -> Vec<String> {
        ["body", "body-markup", "sound"].map(str::to_owned).to_vec()
    }

    #[allow(clippy::too_many_arguments, reason = "the protocol has so many")]
    #[allow(clippy::needless_pass_by_value, reason = "what arrives is owned")]
    fn notify(
        &self,
        app_name: &str,
        replaces: u32,
        icon: &str,
        summary: String,
        body: String,
        actions: Vec<String>,
        hints: HashMap<String, OwnedValue>,
        expires: i32,
    ) -> u32 {
        assert_eq!((app_name, icon, expires), ("PEFT Studio", "peft-studio", -1));
        assert!(actions.is_empty(), "{actions:?}");
        if self.0.hangs.load(Ordering::SeqCst) {
            sleep(Duration::from_secs(20));
        }
        let mut shown = self.0.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.push(Shown { replaces, summary, body, hints });
        7
    }

    #[zbus(property)]
    fn inhibited(&self) -> bool {
        self.0.is_quiet.load(Ordering::SeqCst)
    }
}

/// A session bus of its own.
struct Bus {
    process: Child,
    address: String,
}

impl Bus {
    /// `None`, said aloud, where there is no such program.
    fn start() -> Option<Self> {
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--print-address=1"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let Ok(mut process) = command.spawn() else {
            let _told = writeln!(std::io::stderr(), "SKIPPED: there is no dbus-daemon; no notification was looked at");
            return None;
        };
        let mut address = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut address).expect("an address");
        Some(Self { process, address: address.trim().to_owned() })
    }

    fn connect(&self) -> Connection {
        zbus::blocking::connection::Builder::address(self.address.as_str())
            .and_then(zbus::blocking::connection::Builder::build)
            .expect("a connection")
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A desktop on the bus; it is there as long as the connection.
fn desktop(bus: &Bus) -> (Arc<Record>, Connection) {
    let record = Arc::new(Record::default());
    let connection = bus.connect();
    let notifications = Notifications(Arc::clone(&record));
    connection.object_server().at("/org/freedesktop/Notifications", notifications).expect("served");
    connection.request_name("org.freedesktop.Notifications").expect("named");
    let rule = zbus::MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .interface("com.canonical.Unity.LauncherEntry")
        .expect("a name")
        .build();
    let launcher = bus.connect();
    let signals = MessageIterator::for_match_rule(rule, &launcher, Some(1000)).expect("subscribed");
    let heard = Arc::clone(&record);
    std::thread::spawn(move || {
        for message in signals.flatten() {
            let body = message.body();
            let (uri, properties): (String, HashMap<String, OwnedValue>) = body.deserialize().expect("the protocol");
            assert_eq!(uri, "application://peft-studio.desktop");
            let flag = |name: &str| bool::try_from(properties[name].clone()).expect("a flag");
            let progress = f64::try_from(properties["progress"].clone()).expect("a number");
            let entry = (progress, flag("progress-visible"), flag("urgent"));
            heard.launcher.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        }
    });
    (record, connection)
}

impl Record {
    /// Everything since the last time.
    fn take(&self) -> (Vec<Shown>, Vec<(f64, bool, bool)>) {
        // Signals need nobody's answer; the last one may still be on its way.
        sleep(Duration::from_millis(300));
        let shown = std::mem::take(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        let launcher = std::mem::take(&mut *self.launcher.lock().unwrap_or_else(PoisonError::into_inner));
        (shown, launcher)
    }
}

fn run(home: &Home, address: &str, arguments: &[&str]) -> Output {
    home.command(arguments).env("DBUS_SESSION_BUS_ADDRESS", address).output().expect("starts")
}

fn train(home: &Home, address: &str, name: &str, more: &[&str]) -> Output {
    let rows: Vec<String> = (0..12).map(|n| format!(r#"{{"instruction":"Say {n}","output":"It is {n}"}}"#)).collect();
    let data = home.write("rows.jsonl", rows.join("\n"));
    let arguments = ["train", "--json", "--model", MODEL, "--data", &data, "--name", name, "--threads", "1"];
    let output = run(home, address, &[&arguments, &["--set", "training.max_steps=40"][..], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    output
}

fn summaries(shown: &[Shown]) -> Vec<&str> {
    shown.iter().map(|notice| notice.summary.as_str()).collect()
}

#[test]
fn a_run_tells_the_desktop_what_was_asked_for_and_nothing_else_s4_12() {
    let Some(bus) = Bus::start() else { return };
    let (record, _service) = desktop(&bus);
    let home = Home::new();

    // Each quarter, then the end with its summary and a sound; progress on the launcher, cleared at the end.
    train(&home, &bus.address, "bot", &[]);
    let (shown, launcher) = record.take();
    assert_eq!(summaries(&shown), ["bot: 25 % done", "bot: 50 % done", "bot: 75 % done", "bot is finished"]);
    assert_eq!(shown.iter().map(Shown::urgency).collect::<Vec<_>>(), [0, 0, 0, 1]);
    assert_eq!(
        shown.iter().map(|notice| notice.replaces).collect::<Vec<_>>(),
        [0, 7, 7, 7],
        "one takes another's place"
    );
    assert!(shown[0].body.contains("Step 10 of 40, loss ") && shown[0].is_silent(), "{shown:?}");
    let end = &shown[3];
    assert_eq!(end.sound().as_deref(), Some("complete"));
    assert!(end.body.contains("40 steps, loss ") && end.body.contains("quality "), "{}", end.body);
    let visible: Vec<f64> =
        launcher.iter().filter(|(_, visible, _)| *visible).map(|(progress, ..)| *progress).collect();
    assert!(visible.len() >= 40 && visible.is_sorted() && visible.last() == Some(&1.0), "{launcher:?}");
    assert_eq!(launcher.last(), Some(&(0.0, false, false)));

    // One run can be silent, and each kind can be.
    train(&home, &bus.address, "silent", &["--no-notify"]);
    let (shown, launcher) = record.take();
    assert!(shown.is_empty() && launcher.is_empty(), "{shown:?} {launcher:?}");
    for kind in ["progress", "sound", "launcher"] {
        home.json(&["notifications", "set", kind, "off"]);
    }
    train(&home, &bus.address, "less", &[]);
    let (shown, launcher) = record.take();
    assert_eq!((summaries(&shown), launcher.len()), (vec!["less is finished"], 0));
    assert!(shown[0].sound().is_none() && shown[0].is_silent());
    home.json(&["notifications", "set", "enabled", "off"]);
    train(&home, &bus.address, "none", &[]);
    assert!(record.take().0.is_empty());
    train(&home, &bus.address, "wanted", &["--notify"]);
    assert_eq!(summaries(&record.take().0), ["wanted is finished"], "what is said for one run wins");
}

#[test]
fn an_error_is_urgent_unless_nobody_wants_to_be_disturbed_s4_12_2_s4_12_5() {
    let Some(bus) = Bus::start() else { return };
    let (record, _service) = desktop(&bus);
    let home = Home::new();
    let rows = r#"{"instruction":"Say it","output":"It is <b>it</b>"}"#;
    let data = home.write("rows.jsonl", [rows; 8].join("\n"));
    let out = home.path("bot");
    let arguments = ["runs", "queue", "add", "--model", MODEL, "--data", &data, "--name", "bot", "--out", &out];
    let settings = ["--set", "training.max_steps=40", "--set", "checkpoint.every_steps=4", "--threads", "1"];
    home.json(&[&arguments[..], &settings].concat());
    // Its first checkpoint has no place to go.
    std::fs::write(std::path::Path::new(&out).join("checkpoints"), "in the way").expect("written");
    for is_quiet in [false, true] {
        record.is_quiet.store(is_quiet, Ordering::SeqCst);
        let output = run(&home, &bus.address, &["resume", "bot", "--json"]);
        assert_ne!(output.status.code(), Some(0));
        let error: Value = serde_json::from_str(text(&output.stderr).lines().last().expect("a fault")).expect("JSON");
        let (shown, launcher) = record.take();
        let failure = shown.iter().find(|notice| notice.summary == "bot stopped with an error").expect("told");
        assert!(failure.body.starts_with(error["error"]["title"].as_str().expect("a title")), "{failure:?}");
        assert_eq!((failure.urgency(), failure.is_silent()), if is_quiet { (1, true) } else { (2, false) });
        assert_eq!(launcher.last(), Some(&(0.0, false, true)));
    }
    home.json(&["notifications", "set", "errors", "off"]);
    run(&home, &bus.address, &["resume", "bot", "--json"]);
    assert!(record.take().0.iter().all(|notice| !notice.summary.contains("error")));
}

#[test]
fn without_a_desktop_a_run_is_as_it_is_with_one() {
    let home = Home::new();
    for address in ["", "unix:path=/nowhere/at/all", "tcp:host=127.0.0.1,port=9", "nonsense"] {
        let output = train(&home, address, "r", &["--notify"]);
        assert!(!text(&output.stderr).contains("error"), "{address}: {}", text(&output.stderr));
        let refused = run(&home, address, &["notifications", "test", "--json"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("PS-NOTE-001"), "{address}: {}", text(&refused.stderr));
    }
    assert_eq!(home.fault(1, &["notifications", "test"])["code"], "PS-NOTE-001");
    let Some(bus) = Bus::start() else { return };
    // A bus where nobody shows notifications.
    train(&home, &bus.address, "r", &[]);
    assert!(text(&run(&home, &bus.address, &["notifications", "test"]).stderr).contains("PS-NOTE-001"));
    let (record, _service) = desktop(&bus);
    assert_eq!(run(&home, &bus.address, &["notifications", "test"]).status.code(), Some(0));
    assert_eq!(summaries(&record.take().0), ["Notifications arrive"]);
    // A desktop that does not answer costs a run no more than a moment at its end.
    record.hangs.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    train(&home, &bus.address, "patient", &["--no-notify"]);
    let alone = begun.elapsed();
    let begun = Instant::now();
    train(&home, &bus.address, "patient", &[]);
    assert!(begun.elapsed() < alone * 3 + Duration::from_secs(6), "{:?}, {alone:?} alone", begun.elapsed());
}
