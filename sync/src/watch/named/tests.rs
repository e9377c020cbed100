// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::os::unix::fs::symlink;

use ringway_core::snapshot::Settings;

use super::*;
use crate::scratch::Scratch;

fn named_by(paths: &[&Path]) -> BTreeSet<Arc<str>> {
    paths.iter().map(|path| path.to_str().unwrap().into()).collect()
}

fn later() -> SystemTime {
    SystemTime::now() + limits::FILE_SETTLE_TIME
}

fn content(files: &NamedFiles, path: &Path) -> Result<String, String> {
    match &files.files[path.to_str().unwrap()].content {
        Ok(pem) => Ok(String::from_utf8(pem.0.to_vec()).unwrap()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn a_file_is_read_when_it_is_there_and_when_it_changes() {
    let scratch = Scratch::new();
    let path = scratch.path().join("tls.crt");
    let named = named_by(&[&path]);
    let mut files = NamedFiles::default();
    assert!(files.look(&named, later()));
    assert_eq!(content(&files, &path).unwrap_err(), "No such file or directory (os error 2)");
    assert!(!files.look(&named, later()), "no news");
    scratch.write("tls.crt", "one");
    assert!(files.look(&named, SystemTime::now()), "nothing is lost by reading at once");
    assert_eq!(content(&files, &path).unwrap(), "one");
    assert!(!files.look(&named, later()));
    // What is good is not given up for what is half written.
    scratch.write("tls.crt", "two, longer");
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    assert!(!files.look(&named, written));
    assert_eq!(files.again_in(), Some(limits::FILE_SETTLE_TIME));
    assert!(files.look(&named, later()));
    assert_eq!(content(&files, &path).unwrap(), "two, longer");
    assert_eq!(files.again_in(), None);
    fs::remove_file(&path).unwrap();
    assert!(files.look(&named, later()));
    assert!(content(&files, &path).is_err());
    assert!(files.look(&BTreeSet::new(), later()), "nobody names it any more");
    assert!(files.files.is_empty());
}

#[test]
fn a_swapped_link_is_another_file() {
    let scratch = Scratch::new();
    scratch.write("..1/tls.crt", "same");
    scratch.write("..2/tls.crt", "size");
    symlink("..1", scratch.path().join("..data")).unwrap();
    symlink("..data/tls.crt", scratch.path().join("tls.crt")).unwrap();
    let path = scratch.path().join("tls.crt");
    let named = named_by(&[&path]);
    let mut files = NamedFiles::default();
    assert!(files.look(&named, later()));
    symlink("..2", scratch.path().join("..new")).unwrap();
    fs::rename(scratch.path().join("..new"), scratch.path().join("..data")).unwrap();
    assert!(files.look(&named, later()));
    assert_eq!(content(&files, &path).unwrap(), "size");
}

#[test]
fn what_is_no_file_of_moderate_size_is_not_read() {
    let scratch = Scratch::new();
    let large = scratch.path().join("large");
    let most = limits::TLS_FILE_BYTES_MAX;
    fs::File::create(&large).unwrap().set_len(most + 1).unwrap();
    let exact = scratch.path().join("exact");
    fs::File::create(&exact).unwrap().set_len(most).unwrap();
    let device = Path::new("/dev/zero");
    let mut files = NamedFiles::default();
    files.look(&named_by(&[&large, &exact, device, scratch.path()]), later());
    assert_eq!(content(&files, &large).unwrap_err(), "larger than 1 MiB");
    assert_eq!(content(&files, &exact).unwrap().len() as u64, most);
    for path in [device, scratch.path()] {
        assert_eq!(content(&files, path).unwrap_err(), "it is no regular file");
    }
}

#[test]
fn folders_of_named_files_are_watched() {
    let scratch = Scratch::new();
    let manifest = format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: TLSContext\nmetadata: {{name: c}}\n\
         spec: {{cert_chain_file: {0}/tls.crt, private_key_file: {0}/tls.key}}\n",
        scratch.path().display()
    );
    let mut store = Store::new(Settings::default(), BTreeMap::new());
    store.set_file(Path::new("a.yaml"), &manifest);
    let (wake, woken) = crossbeam_channel::bounded(1);
    let mut files = NamedFiles::watched(wake);
    assert!(files.read_for(&mut store));
    let read = |store: &Store| store.snapshot().files().values().filter(|f| f.is_ok()).count();
    assert_eq!((store.snapshot().files().len(), read(&store)), (2, 0));
    scratch.write("tls.crt", "one");
    woken.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(files.read_for(&mut store));
    assert_eq!(read(&store), 1);
}
