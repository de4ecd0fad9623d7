//! A Linux desktop, over its session bus: `org.freedesktop.Notifications`, and the Unity launcher protocol that docks
//! of several desktops understand.
//!
//! Do not disturb is the desktop's to enforce, and it does for everything but what is critical. Where it says that it
//! is on, an error is not critical either: it waits in the list of notifications.

use super::Message;
use crate::jobs::notices::{Kind, Notice};
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use zbus::blocking::Connection;
use zbus::zvariant::Value;

/// Name of our entry among the applications, without `.desktop`.
const ENTRY: &str = "peft-studio";
const SERVICE: &str = "org.freedesktop.Notifications";
const PLACE: &str = "/org/freedesktop/Notifications";
/// A service that is asked must answer by then.
const LONGEST_ANSWER: Duration = Duration::from_secs(3);

/// A connection to the desktop.
pub struct Session {
    connection: Connection,
    /// Bodies are markup.
    has_markup: bool,
    /// The notification of this run, which later ones replace.
    shown: u32,
}

impl Session {
    /// What connects; `None` where this process belongs to no desktop.
    pub fn opener() -> Option<impl FnOnce() -> Result<Self, String> + Send + 'static> {
        let address = address()?;
        Some(move || Self::open(&address).map_err(|error| error.to_string()))
    }

    fn open(address: &str) -> zbus::Result<Self> {
        let builder = zbus::blocking::connection::Builder::address(address)?;
        let connection = builder.method_timeout(LONGEST_ANSWER).build()?;
        let mut session = Self { connection, has_markup: false, shown: 0 };
        // Where nobody shows notifications there may still be a launcher.
        if let Ok(answer) = session.ask(SERVICE, "GetCapabilities", &())
            && let Ok(capabilities) = answer.body().deserialize::<Vec<String>>()
        {
            session.has_markup = capabilities.iter().any(|capability| capability == "body-markup");
        }
        Ok(session)
    }

    /// Takes one message to the desktop.
    pub fn deliver(&mut self, message: &Message) -> Result<(), String> {
        match message {
            Message::Notice(notice) => self.show(notice),
            Message::Progress(percent) => self.launcher(Some(*percent), false),
            Message::Over { urgent } => self.launcher(None, *urgent),
        }
        .map_err(|error| error.to_string())
    }

    fn show(&mut self, notice: &Notice) -> zbus::Result<()> {
        let is_quiet = self.is_quiet();
        let body = if self.has_markup { escaped(&notice.body) } else { notice.body.clone() };
        let (urgency, category) = match notice.kind {
            Kind::Error if is_quiet => (1_u8, "transfer.error"),
            Kind::Error => (2, "transfer.error"),
            Kind::Progress => (0, "transfer"),
            Kind::Completion => (1, "transfer.complete"),
        };
        let mut hints: HashMap<&str, Value> = HashMap::from([
            ("urgency", Value::from(urgency)),
            ("desktop-entry", Value::from(ENTRY)),
            ("category", Value::from(category)),
        ]);
        if notice.sound && !is_quiet {
            hints.insert("sound-name", Value::from("complete"));
        } else if notice.kind != Kind::Error || is_quiet {
            hints.insert("suppress-sound", Value::from(true));
        }
        let actions: [&str; 0] = [];
        // An expiry of -1 is the desktop's own.
        let call = ("PEFT Studio", self.shown, ENTRY, &notice.summary, body, &actions[..], hints, -1_i32);
        self.shown = self.ask(SERVICE, "Notify", &call)?.body().deserialize()?;
        Ok(())
    }

    /// Whether the person does not want to be disturbed, as far as the desktop says so.
    fn is_quiet(&self) -> bool {
        let inhibited = self.ask("org.freedesktop.DBus.Properties", "Get", &(SERVICE, "Inhibited"));
        let inhibited = inhibited.ok().and_then(|answer| {
            let body = answer.body();
            body.deserialize::<Value>().ok().and_then(|value| bool::try_from(value).ok())
        });
        inhibited.unwrap_or_else(hides_banners)
    }

    fn ask<B>(&self, interface: &str, method: &str, body: &B) -> zbus::Result<zbus::Message>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
    {
        self.connection.call_method(Some(SERVICE), PLACE, Some(interface), method, body)
    }

    /// Progress on the launcher's icon, or none.
    fn launcher(&self, percent: Option<u8>, urgent: bool) -> zbus::Result<()> {
        let properties: HashMap<&str, Value> = HashMap::from([
            ("progress", Value::from(f64::from(percent.unwrap_or(0)) / 100.0)),
            ("progress-visible", Value::from(percent.is_some())),
            ("urgent", Value::from(urgent)),
        ]);
        let uri = format!("application://{ENTRY}.desktop");
        self.connection.emit_signal(
            None::<&str>,
            "/com/peft_studio/LauncherEntry",
            "com.canonical.Unity.LauncherEntry",
            "Update",
            &(uri, properties),
        )
    }
}

/// Where the session bus of this process is. Only sockets of this machine: an address can also name another one.
fn address() -> Option<String> {
    let named = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|address| !address.is_empty());
    let usual = || {
        let bus = Path::new(&std::env::var_os("XDG_RUNTIME_DIR")?).join("bus");
        bus.exists().then(|| format!("unix:path={}", bus.display()))
    };
    let addresses = named.or_else(usual)?;
    addresses.split(';').find(|address| address.starts_with("unix:")).map(str::to_owned)
}

/// GNOME keeps its switch in its settings and nowhere else.
fn hides_banners() -> bool {
    let is_gnome = std::env::var("XDG_CURRENT_DESKTOP").is_ok_and(|desktop| desktop.to_uppercase().contains("GNOME"));
    if !is_gnome {
        return false;
    }
    let mut command = Command::new("gsettings");
    command.args(["get", "org.gnome.desktop.notifications", "show-banners"]).stdin(Stdio::null());
    command.output().is_ok_and(|output| output.stdout.trim_ascii() == b"false")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_text_whatever_data_says() {
        assert_eq!(escaped("<b>5 & 6</b>"), "&lt;b&gt;5 &amp; 6&lt;/b&gt;");
    }
}
