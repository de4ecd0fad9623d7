//! The real program in a real window on a virtual screen: a file is dropped on it as file managers do it (XDND), and what
//! it costs to open and to leave alone. `cargo test --test desktop -- --ignored screen --nocapture`; needs Xvfb.

#![expect(clippy::print_stdout, reason = "numbers are for people")]

use crate::rows;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use x11rb::connection::Connection;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConnectionExt as _, CreateWindowAux, EventMask, ImageFormat, PropMode,
    SELECTION_NOTIFY_EVENT, SelectionNotifyEvent, Window, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

/// Longest that anything takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A process that ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A screen, and its name; none where Xvfb is not installed.
fn screen() -> Option<(Ending, String)> {
    let mut child = Command::new("Xvfb")
        .args(["-displayfd", "1", "-screen", "0", "1280x800x24"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    Some((Ending(child), format!(":{}", line.trim())))
}

fn studio(display: &str, home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peft-studio"));
    command.env("DISPLAY", display).env_remove("WAYLAND_DISPLAY").arg("--data-dir").arg(home).arg("--offline");
    command
}

/// What is on the screen, as bytes of blue, green, red.
fn seen(x: &RustConnection, root: Window) -> Vec<u8> {
    x.get_image(ImageFormat::Z_PIXMAP, root, 0, 0, 1280, 800, !0).expect("asked").reply().expect("an image").data
}

fn keep(name: &str, data: &[u8]) {
    let Some(folder) = std::env::var_os("PEFT_PICTURES") else { return };
    let pixels = data.chunks_exact(4).map(|p| eframe::egui::Color32::from_rgb(p[2], p[1], p[0])).collect();
    let picture = crate::paint::Picture { width: 1280, height: 800, pixels };
    crate::pictures::write(&Path::new(&folder).join(name), &picture);
}

/// The window that takes drops, below `of`.
fn taker(x: &RustConnection, of: Window, aware: u32) -> Option<Window> {
    let has = |window| {
        let property = x.get_property(false, window, aware, AtomEnum::ANY, 0, 1).ok()?.reply().ok()?;
        (property.type_ != 0).then_some(window)
    };
    has(of).or_else(|| {
        let below = x.query_tree(of).ok()?.reply().ok()?.children;
        below.into_iter().find_map(|window| taker(x, window, aware))
    })
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Drop `path` on `window`, as the protocol has it.
fn drop_on(x: &RustConnection, root: Window, window: Window, path: &Path) {
    let atom = |name: &str| x.intern_atom(false, name.as_bytes()).expect("asked").reply().expect("an atom").atom;
    let list = atom("text/uri-list");
    let selection = atom("XdndSelection");
    let source = x.generate_id().expect("an id");
    x.create_window(0, source, root, 0, 0, 1, 1, 0, WindowClass::INPUT_OUTPUT, 0, &CreateWindowAux::new())
        .expect("created");
    x.set_selection_owner(source, selection, 0_u32).expect("owned");
    let send = |kind: &str, data: [u32; 5]| {
        let message = ClientMessageEvent::new(32, window, atom(kind), data);
        x.send_event(false, window, EventMask::NO_EVENT, message).expect("sent");
        x.flush().expect("flushed");
    };
    send("XdndEnter", [source, 5 << 24, list, 0, 0]);
    send("XdndPosition", [source, 0, 640 * 0x1_0000 + 400, 0, atom("XdndActionCopy")]);
    let mut is_dropped = false;
    until("the file is taken", || match x.poll_for_event().expect("connected")? {
        Event::SelectionRequest(asked) => {
            let uri = format!("file://{}\r\n", path.display());
            x.change_property8(PropMode::REPLACE, asked.requestor, asked.property, list, uri.as_bytes()).expect("told");
            let told = SelectionNotifyEvent {
                response_type: SELECTION_NOTIFY_EVENT,
                sequence: 0,
                time: asked.time,
                requestor: asked.requestor,
                selection: asked.selection,
                target: asked.target,
                property: asked.property,
            };
            x.send_event(false, asked.requestor, EventMask::NO_EVENT, told).expect("sent");
            x.flush().expect("flushed");
            None
        }
        Event::ClientMessage(message) if message.type_ == atom("XdndStatus") => {
            if !std::mem::replace(&mut is_dropped, true) {
                send("XdndDrop", [source, 0, 0, 0, 0]);
            }
            None
        }
        Event::ClientMessage(message) if message.type_ == atom("XdndFinished") => Some(()),
        _ => None,
    });
}

#[test]
#[ignore = "needs a virtual screen"]
fn screen_takes_a_dropped_file() {
    let Some((_screen, display)) = screen() else {
        println!("skipped: Xvfb is not installed");
        return;
    };
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("sums.jsonl");
    std::fs::write(&data, rows(20)).expect("written");
    let _studio = Ending(studio(&display, home.path()).spawn().expect("started"));
    let (x, number) = x11rb::connect(Some(&display)).expect("connected");
    let root = x.setup().roots[number].root;
    let aware = x.intern_atom(false, b"XdndAware").expect("asked").reply().expect("an atom").atom;
    let window = until("there is a window", || taker(&x, root, aware));
    // Home has many colours; an empty window has one.
    let colors = |data: &[u8]| data.chunks_exact(4).collect::<std::collections::HashSet<_>>().len();
    until("it is painted", || (colors(&seen(&x, root)) > 100).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    let before = seen(&x, root);
    keep("screen-home.png", &before);
    drop_on(&x, root, window, &data);
    let changed = |after: &[u8]| before.chunks_exact(4).zip(after.chunks_exact(4)).filter(|(a, b)| a != b).count();
    until("the examples are shown", || (changed(&seen(&x, root)) > 20_000).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    let after = seen(&x, root);
    keep("screen-dropped.png", &after);
    println!("{} of {} pixels changed after the drop", changed(&after), 1280 * 800);
}

#[test]
#[ignore = "needs a virtual screen and a quiet machine"]
fn screen_opens_soon_and_costs_nothing_when_left_alone() {
    let Some((_screen, display)) = screen() else {
        println!("skipped: Xvfb is not installed");
        return;
    };
    let home = tempfile::tempdir().expect("a directory");
    // The first start reads the program from the disk; the others are warm.
    for seconds in ["1", "1", "1", "10"] {
        let mut command = studio(&display, home.path());
        let output = command.env("PEFT_STUDIO_MEASURE", seconds).output().expect("started");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("first frame"), "{said}");
        print!("{said}");
    }
}
