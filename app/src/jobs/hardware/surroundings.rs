//! The system around the process: which one, inside WSL or a container, and what of a graphics card can be seen.

use serde::Serialize;
use std::path::Path;

/// The system around the process.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own, and a field of what scripts read")]
pub struct Surroundings {
    /// Name and version.
    pub os: String,
    /// Inside the Windows Subsystem for Linux.
    pub wsl: bool,
    /// Inside a container, and of which kind.
    pub container: Option<String>,
    /// The device through which WSL reaches the graphics card.
    #[serde(skip)]
    pub has_dxg: bool,
    /// Device files of a card.
    #[serde(skip)]
    pub has_device_files: bool,
    /// A card of NVIDIA is built in, whoever may use it.
    #[serde(skip)]
    pub has_card: bool,
    /// `CUDA_VISIBLE_DEVICES` hides every card.
    pub cards_hidden: bool,
}

pub(super) fn look() -> Surroundings {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease").to_lowercase();
    let visible = std::env::var("CUDA_VISIBLE_DEVICES");
    Surroundings {
        os: sysinfo::System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
        wsl: release.contains("microsoft"),
        container: container(),
        has_dxg: Path::new("/dev/dxg").exists(),
        has_device_files: Path::new("/dev/nvidiactl").exists() || Path::new("/dev/nvidia0").exists(),
        has_card: built_in(Path::new("/sys/bus/pci/devices")),
        cards_hidden: visible.is_ok_and(|value| matches!(value.trim(), "" | "-1" | "NoDevFiles")),
    }
}

fn container() -> Option<String> {
    if Path::new("/.dockerenv").exists() {
        return Some("docker".to_owned());
    }
    if Path::new("/run/.containerenv").exists() {
        return Some("podman".to_owned());
    }
    if let Ok(kind) = std::env::var("container")
        && !kind.is_empty()
    {
        return Some(kind);
    }
    let groups = std::fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    ["kubepods", "docker", "lxc"].into_iter().find(|kind| groups.contains(kind)).map(str::to_owned)
}

/// Whether the machine lists a display device of NVIDIA.
fn built_in(devices: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(devices) else { return false };
    entries.flatten().any(|entry| {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        read("vendor").trim() == "0x10de" && read("class").trim().starts_with("0x03")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_known_by_its_vendor_and_class() {
        let devices = tempfile::tempdir().expect("a directory");
        assert!(!built_in(devices.path()));
        let card = devices.path().join("0000:01:00.0");
        std::fs::create_dir_all(&card).expect("created");
        std::fs::write(card.join("vendor"), "0x10de\n").expect("written");
        std::fs::write(card.join("class"), "0x040300\n").expect("written");
        assert!(!built_in(devices.path()), "its sound device is not a card");
        std::fs::write(card.join("class"), "0x030000\n").expect("written");
        assert!(built_in(devices.path()));
    }

    #[test]
    fn the_system_has_a_name() {
        assert!(!look().os.is_empty());
    }
}
