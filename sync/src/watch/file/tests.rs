// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::os::unix::fs::symlink;

use super::*;
use crate::scratch::Scratch;

fn nothing() -> HashSet<PathBuf> {
    HashSet::new()
}

/// Looks until a file that is being written has settled.
#[track_caller]
fn settle(folder: &mut Folder, now: &mut Instant) -> Scan {
    let first = folder.scan(&nothing(), *now).unwrap();
    if first.again_in.is_none() {
        return first;
    }
    *now += limits::FILE_SETTLE_TIME;
    folder.scan(&nothing(), *now).unwrap()
}

fn names(paths: &[PathBuf], scratch: &Scratch) -> Vec<String> {
    let relative = |path: &PathBuf| path.strip_prefix(scratch.path()).unwrap().to_owned();
    paths.iter().map(|p| relative(p).to_str().unwrap().to_owned()).collect()
}

#[test]
fn manifests_are_found_in_path_order_and_dot_files_are_not() {
    let scratch = Scratch::new();
    for name in ["b.yaml", "a/z.yml", "a/b/c.JSON", ".hidden.yaml", ".git/x.yaml", "notes.txt"] {
        scratch.write(name, "text");
    }
    let mut folder = Folder::new(scratch.path());
    let scan = folder.scan(&nothing(), Instant::now()).unwrap();
    assert_eq!(names(&scan.changed, &scratch), ["a/b/c.JSON", "a/z.yml", "b.yaml"]);
    let scan = folder.scan(&nothing(), Instant::now()).unwrap();
    assert!(scan.is_empty(), "{scan:?}");
}

#[test]
fn a_single_file_is_a_folder_of_one() {
    let scratch = Scratch::new();
    let path = scratch.write("only.yaml", "one");
    let mut folder = Folder::new(&path);
    assert_eq!(
        folder.scan(&nothing(), Instant::now()).unwrap().changed,
        std::slice::from_ref(&path)
    );
    assert_eq!(folder.take_text(&path).unwrap(), "one");
}

#[test]
fn a_rename_over_a_file_is_taken_at_once() {
    let scratch = Scratch::new();
    let path = scratch.write("a.yaml", "old");
    let mut folder = Folder::new(scratch.path());
    folder.scan(&nothing(), Instant::now()).unwrap();
    scratch.write(".a.yaml.tmp", "new");
    fs::rename(scratch.path().join(".a.yaml.tmp"), &path).unwrap();
    let scan = folder.scan(&HashSet::from([path.clone()]), Instant::now()).unwrap();
    assert_eq!(scan.changed, std::slice::from_ref(&path));
    assert_eq!(folder.take_text(&path).unwrap(), "new");
}

#[test]
fn a_file_being_written_keeps_its_text_until_it_settles() {
    let scratch = Scratch::new();
    let path = scratch.write("a.yaml", "whole");
    let mut folder = Folder::new(scratch.path());
    let mut now = Instant::now();
    folder.scan(&nothing(), now).unwrap();
    fs::write(&path, "").unwrap();
    let scan = folder.scan(&nothing(), now).unwrap();
    assert_eq!(scan.again_in, Some(limits::FILE_SETTLE_TIME));
    assert!(scan.is_empty());
    // Still growing: the clock starts again.
    now += limits::FILE_SETTLE_TIME - Duration::from_millis(1);
    fs::write(&path, "whole, and more").unwrap();
    assert!(folder.scan(&nothing(), now).unwrap().is_empty());
    assert_eq!(folder.take_text(&path).unwrap(), "whole");
    assert_eq!(settle(&mut folder, &mut now).changed, std::slice::from_ref(&path));
    assert_eq!(folder.take_text(&path).unwrap(), "whole, and more");
}

#[test]
fn a_closed_file_is_read_even_if_it_looks_the_same() {
    let scratch = Scratch::new();
    let path = scratch.write("a.yaml", "one");
    let mut folder = Folder::new(scratch.path());
    folder.scan(&nothing(), Instant::now()).unwrap();
    let mtime = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "two").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
    assert!(folder.scan(&nothing(), Instant::now()).unwrap().is_empty());
    let scan = folder.scan(&HashSet::from([path.clone()]), Instant::now()).unwrap();
    assert_eq!(scan.changed, [path]);
}

#[test]
fn the_swap_of_a_mounted_config_map_is_taken_at_once() {
    let scratch = Scratch::new();
    scratch.write("..2026_1/a.yaml", "one");
    scratch.write("..2026_2/a.yaml", "two");
    symlink("..2026_1", scratch.path().join("..data")).unwrap();
    symlink("..data/a.yaml", scratch.path().join("a.yaml")).unwrap();
    let path = scratch.path().join("a.yaml");
    let mut folder = Folder::new(scratch.path());
    let scan = folder.scan(&nothing(), Instant::now()).unwrap();
    assert_eq!(scan.changed, std::slice::from_ref(&path), "once, at its visible name");
    symlink("..2026_2", scratch.path().join("..data_tmp")).unwrap();
    fs::rename(scratch.path().join("..data_tmp"), scratch.path().join("..data")).unwrap();
    let scan = folder.scan(&nothing(), Instant::now()).unwrap();
    assert_eq!(scan.changed, std::slice::from_ref(&path));
    assert_eq!(folder.take_text(&path).unwrap(), "two");
}

#[test]
fn loops_of_links_end() {
    let scratch = Scratch::new();
    let path = scratch.write("sub/a.yaml", "one");
    symlink("..", scratch.path().join("sub/up")).unwrap();
    let mut folder = Folder::new(scratch.path());
    assert_eq!(folder.scan(&nothing(), Instant::now()).unwrap().changed, [path]);
}

#[test]
fn what_is_gone_is_removed_and_what_cannot_be_read_is_kept() {
    let scratch = Scratch::new();
    let gone = scratch.write("gone.yaml", "one");
    let garbled = scratch.write("garbled.yaml", "fine");
    let mut folder = Folder::new(scratch.path());
    folder.scan(&nothing(), Instant::now()).unwrap();
    assert_eq!(folder.take_text(&garbled).unwrap(), "fine");
    fs::remove_file(&gone).unwrap();
    fs::write(&garbled, b"\xff\xfe").unwrap();
    let scan = folder.scan(&HashSet::from([garbled.clone()]), Instant::now()).unwrap();
    assert_eq!(scan.removed, [gone]);
    assert!(scan.faults_changed);
    assert!(scan.changed.is_empty());
    assert!(folder.take_text(&garbled).is_none());
    assert!(folder.faults()[&garbled].contains("UTF-8"));
    let scan = folder.scan(&nothing(), Instant::now()).unwrap();
    assert!(scan.is_empty() && scan.again_in.is_none(), "the fault stays, quietly: {scan:?}");
    fs::write(&garbled, "mended").unwrap();
    assert!(folder.scan(&nothing(), Instant::now()).unwrap().faults_changed);
    assert_eq!(folder.take_text(&garbled).unwrap(), "mended");
}

#[test]
fn a_missing_folder_is_an_error_and_removes_nothing() {
    let scratch = Scratch::new();
    let path = scratch.write("sub/a.yaml", "one");
    let mut folder = Folder::new(scratch.path().join("sub"));
    folder.scan(&nothing(), Instant::now()).unwrap();
    fs::rename(scratch.path().join("sub"), scratch.path().join("away")).unwrap();
    assert!(folder.scan(&nothing(), Instant::now()).is_err());
    assert!(folder.files.contains_key(&path));
}

#[test]
fn notifications_name_the_files_that_are_complete() {
    let scratch = Scratch::new();
    let (mut notifier, woken) = Notifier::new(scratch.path());
    let path = scratch.write("sub/a.yaml", "one");
    let mut complete = HashSet::new();
    // The folder is new as well, so its watch may begin only after the file is closed.
    for round in 0.. {
        assert!(round < 100, "never told of {}", path.display());
        woken.recv_timeout(Duration::from_secs(5)).unwrap();
        complete.extend(notifier.take_news().complete);
        if complete.contains(&path) {
            break;
        }
        fs::write(&path, format!("round {round}")).unwrap();
    }
    let other = scratch.write("other.tmp", "two");
    fs::rename(&other, scratch.path().join("b.yaml")).unwrap();
    while !complete.contains(&scratch.path().join("b.yaml")) {
        woken.recv_timeout(Duration::from_secs(5)).unwrap();
        complete.extend(notifier.take_news().complete);
    }
}

/// What a look finds that is told of these paths, and whether it walked.
#[track_caller]
fn told(folder: &mut Folder, touched: &[&Path], complete: &[&Path]) -> (Scan, bool) {
    let set = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
    let news = News { touched: set(touched), complete: set(complete), unclear: false };
    let now = Instant::now();
    let scan = folder.look(&news, now).unwrap();
    (scan, folder.walked == Some(now))
}

#[test]
fn a_look_goes_to_the_files_that_are_named() {
    let scratch = Scratch::new();
    let (a, b) = (scratch.write("a.yaml", "one"), scratch.write("b.yaml", "two"));
    let mut folder = Folder::new(scratch.path());
    folder.scan(&nothing(), Instant::now()).unwrap();
    let next = scratch.write("a.tmp", "new");
    fs::rename(&next, &a).unwrap();
    fs::write(&b, "not told").unwrap();
    let (scan, walked) = told(&mut folder, &[&next], &[&a]);
    assert_eq!((scan.changed, walked), (vec![a.clone()], false));
    assert_eq!(folder.take_text(&a).unwrap(), "new");
    // Written in place, and settled.
    let (scan, walked) = told(&mut folder, &[&b], &[]);
    assert_eq!(
        (scan.changed, scan.again_in, walked),
        (vec![], Some(limits::FILE_SETTLE_TIME), false)
    );
    let later = Instant::now() + limits::FILE_SETTLE_TIME;
    let scan = folder.look(&News::default(), later).unwrap();
    assert_eq!((scan.changed, scan.again_in), (vec![b.clone()], None));
    let c = scratch.write("sub/c.yaml", "three");
    let (scan, walked) = told(&mut folder, &[], &[&c]);
    assert_eq!((scan.changed, walked), (vec![c.clone()], false));
    fs::remove_file(&b).unwrap();
    let (scan, walked) = told(&mut folder, &[&b], &[]);
    assert_eq!((scan.removed, walked), (vec![b], false));
}

#[test]
fn a_look_walks_where_a_path_does_not_say_enough() {
    let scratch = Scratch::new();
    let c = scratch.write("sub/c.yaml", "three");
    let mut folder = Folder::new(scratch.path());
    folder.scan(&nothing(), Instant::now()).unwrap();
    let walks = |folder: &mut Folder, path: &Path| told(folder, &[path], &[]).1;
    let sub = scratch.path().join("sub");
    assert!(walks(&mut folder, &sub), "a folder");
    assert!(walks(&mut folder, &scratch.path().join("..data")), "what links may go through");
    assert!(walks(&mut folder, Path::new("/elsewhere")));
    fs::remove_dir_all(&sub).unwrap();
    let (scan, walked) = told(&mut folder, &[&sub], &[]);
    assert_eq!((scan.removed, walked), (vec![c], true));
    let link = scratch.path().join("l.yaml");
    symlink("/dev/null", &link).unwrap();
    assert!(walks(&mut folder, &link), "a link");
}
