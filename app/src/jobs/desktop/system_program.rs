//! Desktops that are reached through a program of theirs: macOS with `osascript`, Windows with PowerShell.
//!
//! Both respect do not disturb by themselves. Progress belongs to a window there (the dock tile, the button on the task
//! bar), which a process without one does not have.

use crate::jobs::notices::Notice;

#[cfg(not(target_os = "linux"))]
pub use session::Session;

/// A program, its arguments, and what is added to its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    program: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

/// The text travels as arguments: no script is made of it.
#[cfg(any(test, target_os = "macos"))]
fn apple(notice: &Notice) -> Call {
    let display = "display notification (item 2 of argv) with title (item 1 of argv)";
    let sound = if notice.sound { " sound name \"Glass\"" } else { "" };
    let script = ["on run argv".to_owned(), format!("{display}{sound}"), "end run".to_owned()];
    let mut arguments: Vec<String> = script.into_iter().flat_map(|line| ["-e".to_owned(), line]).collect();
    arguments.extend([notice.summary.clone(), notice.body.clone()]);
    Call { program: "osascript", arguments, environment: Vec::new() }
}

/// The text travels in the environment: no script is made of it.
#[cfg(any(test, windows))]
fn windows(notice: &Notice) -> Call {
    const TOAST: &str = "\
        $null = [Windows.UI.Notifications.ToastNotificationManager, Windows.UI.Notifications, ContentType = WindowsRuntime];\
        $template = [Windows.UI.Notifications.ToastTemplateType]::ToastText02;\
        $toast = [Windows.UI.Notifications.ToastNotificationManager]::GetTemplateContent($template);\
        $lines = $toast.GetElementsByTagName('text');\
        $null = $lines.Item(0).AppendChild($toast.CreateTextNode($env:PEFT_SUMMARY));\
        $null = $lines.Item(1).AppendChild($toast.CreateTextNode($env:PEFT_BODY));\
        if ($env:PEFT_SILENT) {\
            $audio = $toast.CreateElement('audio'); $audio.SetAttribute('silent', 'true');\
            $null = $toast.DocumentElement.AppendChild($audio) };\
        $application = '{1AC14E77-02E7-4E5D-B744-2EB1AE5198B7}\\WindowsPowerShell\\v1.0\\powershell.exe';\
        $notifier = [Windows.UI.Notifications.ToastNotificationManager]::CreateToastNotifier($application);\
        $notifier.Show([Windows.UI.Notifications.ToastNotification]::new($toast))";
    let mut environment = vec![("PEFT_SUMMARY", notice.summary.clone()), ("PEFT_BODY", notice.body.clone())];
    if !notice.sound {
        environment.push(("PEFT_SILENT", "1".to_owned()));
    }
    let arguments = ["-NoProfile", "-NonInteractive", "-Command", TOAST].map(str::to_owned).to_vec();
    Call { program: "powershell", arguments, environment }
}

#[cfg(not(target_os = "linux"))]
mod session {
    use super::Call;
    use crate::jobs::desktop::Message;
    use std::process::{Command, Stdio};

    /// A desktop that is reached through a program.
    pub struct Session;

    impl Session {
        /// What connects; `None` where there is no such program.
        pub fn opener() -> Option<impl FnOnce() -> Result<Self, String> + Send + 'static> {
            cfg!(any(target_os = "macos", windows)).then_some(|| Ok(Self))
        }

        /// Takes one message to the desktop.
        pub fn deliver(&mut self, message: &Message) -> Result<(), String> {
            let Message::Notice(notice) = message else { return Ok(()) };
            #[cfg(target_os = "macos")]
            let call = super::apple(notice);
            #[cfg(windows)]
            let call = super::windows(notice);
            #[cfg(not(any(target_os = "macos", windows)))]
            let call = Call { program: "", arguments: vec![notice.summary.clone()], environment: Vec::new() };
            let Call { program, arguments, environment } = call;
            let mut command = Command::new(program);
            command.args(arguments).envs(environment).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let status = command.status().map_err(|error| error.to_string())?;
            if status.success() { Ok(()) } else { Err(format!("`{program}` ended with {status}")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::notices::Kind;

    #[test]
    fn no_script_is_made_of_what_a_run_is_called() {
        let summary = "a\" & (do shell script \"id\") & $(id)".to_owned();
        let notice = Notice { kind: Kind::Completion, summary, body: "b'`;".to_owned(), sound: true };
        let call = apple(&notice);
        let [scripts @ .., summary, body] = &call.arguments[..] else { panic!("{call:?}") };
        assert_eq!((summary, body), (&notice.summary, &notice.body));
        assert!(scripts.iter().all(|line| !line.contains("shell")) && scripts[3].ends_with("sound name \"Glass\""));
        let call = windows(&Notice { sound: false, ..notice.clone() });
        assert!(!call.arguments.iter().any(|argument| argument.contains("do shell")));
        let environment = [("PEFT_SUMMARY", notice.summary), ("PEFT_BODY", notice.body), ("PEFT_SILENT", "1".into())];
        assert_eq!(call.environment, environment);
    }
}
