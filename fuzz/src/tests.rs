// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::path::Path;

use super::{TARGETS, Target};
use crate::segments::Random;

/// What mutation alone would take long to write.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\t",
    b" ",
    b":",
    b";",
    b"\"",
    b"0\r\n\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: ",
    b"chunked",
    b"Expect: 100-continue\r\n",
    b"Trailer: x\r\n",
    b"18446744073709551616",
    b"ffffffffffffffff",
];

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(input.len() + 1);
        let len = random.below((input.len() - at).min(32) + 1);
        match random.below(6) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.below(256) as u8,
            2 => drop(input.drain(at..at + len)),
            3 => drop(input.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            4 => {
                let copy = input[at..at + len].to_vec();
                let to = random.below(input.len() + 1);
                drop(input.splice(to..to, copy));
            }
            _ => {
                let other = &others[random.below(others.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
        }
    }
}

/// Runs one input; a panic names it.
fn run(name: &str, target: fn(&[u8]), input: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target(input));
    assert!(outcome.is_ok(), "{name} fails on {:?}", String::from_utf8_lossy(input));
}

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    for &Target { name, run: target, mutations } in TARGETS {
        let files = corpus(name);
        assert!(files.len() >= 5, "{name} has no corpus");
        for file in &files {
            run(name, target, file);
        }
        let mut random = Random::new(7);
        for _ in 0..mutations {
            let mut input = files[random.below(files.len())].clone();
            mutate(&mut input, &files, &mut random);
            run(name, target, &input);
        }
    }
}

#[test]
fn every_target_has_a_shim_and_every_shim_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets");
    let mut shims: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    shims.sort();
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(shims, names);
}
