//! The layout, as Hugging Face's own library reads and writes it.

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn id() -> RepositoryId {
    RepositoryId::new("a/b").expect("an id")
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("created");
    fs::write(path, content).expect("written");
}

/// A model of two files, one of them in a folder of the repository.
fn filled(without_links: bool) -> (tempfile::TempDir, Cache) {
    let place_of_cache = tempfile::tempdir().expect("a directory");
    let cache = Cache::new(place_of_cache.path());
    let blobs = cache.blobs(Kind::Model, &id());
    write(&blobs.join("aa"), "{}");
    write(&blobs.join("bb"), "weights");
    let snapshot = cache.snapshot_path(Kind::Model, &id(), COMMIT);
    place(&blobs, "aa", &snapshot, "config.json", without_links).expect("placed");
    place(&blobs, "bb", &snapshot, "deep/er/model.safetensors", without_links).expect("placed");
    cache.write_ref(Kind::Model, &id(), &Revision::default(), COMMIT).expect("written");
    (place_of_cache, cache)
}

#[test]
fn links_are_relative_and_lead_to_the_blobs() {
    let (_place, cache) = filled(false);
    let snapshot = cache.find(Kind::Model, &id(), None).expect("found");
    let link = |path: &str| fs::read_link(snapshot.join(path)).expect("a link");
    assert_eq!(link("config.json"), Path::new("../../blobs/aa"));
    assert_eq!(link("deep/er/model.safetensors"), Path::new("../../../../blobs/bb"));
    assert_eq!(fs::read_to_string(snapshot.join("deep/er/model.safetensors")).expect("read"), "weights");
    assert_eq!(fs::read_to_string(cache.repository(Kind::Model, &id()).join("refs/main")).expect("read"), COMMIT);
    assert!(entries(&snapshot).all(|entry| !entry.to_string_lossy().contains(".tmp-")));
}

#[test]
fn without_links_the_content_is_there_once_and_placing_again_changes_nothing() {
    let (_place, cache) = filled(true);
    let snapshot = cache.find(Kind::Model, &id(), None).expect("found");
    assert!(fs::read_link(snapshot.join("config.json")).is_err());
    let blobs = cache.blobs(Kind::Model, &id());
    place(&blobs, "aa", &snapshot, "config.json", true).expect("placed again");
    assert_eq!(fs::read_to_string(snapshot.join("config.json")).expect("read"), "{}");
    assert_eq!(cache.list(Kind::Model)[0].bytes, 9);
    // Where there are not even second names, the blob itself was moved.
    fs::remove_file(blobs.join("aa")).expect("removed");
    place(&blobs, "aa", &snapshot, "config.json", true).expect("it is here already");
    assert_eq!(fs::read_to_string(snapshot.join("config.json")).expect("read"), "{}");
}

#[test]
fn a_revision_is_found_by_branch_by_commit_and_not_by_another_name() {
    let (_place, cache) = filled(false);
    let find = |name: &str| cache.find(Kind::Model, &id(), Some(&Revision::new(name).expect("a revision")));
    assert!(find("main").is_some() && find(COMMIT).is_some());
    assert!(find("v2").is_none() && find(&"f".repeat(40)).is_none());
    // A branch that means something that is not a commit leads nowhere.
    write(&cache.repository(Kind::Model, &id()).join("refs/v2"), "../../../..");
    assert!(find("v2").is_none());
}

#[test]
fn what_is_listed_can_be_removed_and_is_gone() {
    let (_place, cache) = filled(false);
    write(&cache.blobs(Kind::Model, &id()).join("cc.incomplete"), "half");
    write(&cache.root().join("datasets--x--y/blobs/dd"), "rows");
    let listed = cache.list(Kind::Model);
    assert_eq!(listed.len(), 1);
    let CachedRepository { bytes, unfinished_bytes, snapshots, .. } = &listed[0];
    assert_eq!((*bytes, *unfinished_bytes), (13, 4));
    assert_eq!(snapshots[0].refs, ["main"]);
    let removed = cache.remove(Kind::Model, &id()).expect("removed").expect("it was there");
    assert_eq!(removed, Removed { bytes: 13, snapshots: 1 });
    assert!(cache.list(Kind::Model).is_empty() && cache.list(Kind::Dataset).len() == 1);
    assert_eq!(cache.remove(Kind::Model, &id()).expect("no fault"), None);
}

#[test]
fn nothing_is_removed_under_the_hands_of_a_download() {
    let (_place, cache) = filled(false);
    let lock = cache.lock(Kind::Model, &id(), "aa");
    write(&lock, "");
    let file = File::options().write(true).open(&lock).expect("opened");
    file.lock().expect("locked");
    assert_eq!(cache.remove(Kind::Model, &id()).expect_err("held").code, "PS-DB-001");
    drop(file);
    assert!(cache.remove(Kind::Model, &id()).expect("removed").is_some());
}

#[test]
fn a_folder_says_what_it_lacks() {
    let place = tempfile::tempdir().expect("a directory");
    let folder = place.path();
    assert_eq!(holds(folder), Holds::Nothing);
    write(&folder.join("a.gguf"), "");
    assert_eq!(holds(folder), Holds::Gguf);
    fs::remove_file(folder.join("a.gguf")).expect("removed");
    write(&folder.join("config.json"), "{}");
    assert_eq!(holds(folder), Holds::Incomplete("model.safetensors".into()));
    write(&folder.join("pytorch_model.bin"), "");
    assert_eq!(holds(folder), Holds::Pickle);
    write(&folder.join(INDEX), r#"{"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}"#);
    write(&folder.join("x.safetensors"), "");
    assert_eq!(holds(folder), Holds::Incomplete("y.safetensors".into()));
    write(&folder.join("y.safetensors"), "");
    assert_eq!(holds(folder), Holds::Model);
    #[cfg(unix)]
    {
        fs::remove_file(folder.join("y.safetensors")).expect("removed");
        symlink(Path::new("nowhere"), &folder.join("y.safetensors")).expect("linked");
        assert_eq!(holds(folder), Holds::Incomplete("y.safetensors".into()));
    }
}
