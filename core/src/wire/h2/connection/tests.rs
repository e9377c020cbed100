// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::limits::STREAM_WINDOW_BYTES;
use crate::wire::h2::meter::Kind;

const HEAD_BYTES_MAX: usize = 64 * 1024;

fn client() -> Connection<u32> {
    connection(Role::Client)
}

fn server() -> Connection<u32> {
    connection(Role::Server)
}

fn connection(role: Role) -> Connection<u32> {
    Connection::new(Config { role, streams_max: 100, head_bytes_max: HEAD_BYTES_MAX })
}

/// An event, owned; a body's pieces in one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Request(Vec<(String, String)>, bool),
    Answer(u32, Vec<(String, String)>, bool),
    Data(u32, Vec<u8>, bool),
    Trailers(u32, Vec<(String, String)>),
    Failed(u32, Failure),
    Room(u32),
}

fn pairs(fields: &Fields) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// Hands bytes over in one piece. Users are the numbers of their streams; what comes is released.
fn hear(to: &mut Connection<u32>, mut bytes: &[u8], seen: &mut Vec<Seen>) -> Vec<Key> {
    let mut keys = Vec::new();
    loop {
        let mut attached = None;
        let event = match to.next(&mut bytes) {
            None => break,
            Some(Event::Request { key, fields, ended }) => {
                attached = Some(key);
                Seen::Request(pairs(fields), ended)
            }
            Some(Event::Answer { user, fields, ended, .. }) => {
                Seen::Answer(*user, pairs(fields), ended)
            }
            Some(Event::Data { user, data, ended }) => match seen.last_mut() {
                Some(Seen::Data(of, bytes, over)) if of == user => {
                    bytes.extend_from_slice(data);
                    *over = ended;
                    continue;
                }
                _ => Seen::Data(*user, data.to_vec(), ended),
            },
            Some(Event::Trailers { user, fields, .. }) => Seen::Trailers(*user, pairs(fields)),
            Some(Event::Failed { user, failure }) => Seen::Failed(user, failure),
            Some(Event::Room { user }) => Seen::Room(*user),
        };
        seen.push(event);
        if let Some(key) = attached {
            to.attach(key, key.stream, None);
            keys.push(key);
        }
    }
    assert!(bytes.is_empty());
    keys
}

fn said(from: &mut Connection<u32>) -> Vec<u8> {
    std::mem::take(&mut from.out)
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nhost: h\r\nX-A: b\r\nconnection: close\r\n\r\n";
const POST: &[u8] = b"POST /a HTTP/1.1\r\nhost: h\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nserver: s\r\n\r\n";

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A client and a server that have greeted each other.
fn pair() -> (Connection<u32>, Connection<u32>) {
    let (mut client, mut server) = (client(), server());
    for _ in 0..2 {
        hear(&mut server, &said(&mut client), &mut Vec::new());
        hear(&mut client, &said(&mut server), &mut Vec::new());
    }
    assert!(client.out.is_empty() && server.out.is_empty());
    (client, server)
}

#[test]
fn a_request_and_its_answer() {
    let (mut client, mut server) = pair();
    let key = client.request(1, GET, true, true).unwrap();
    let mut seen = Vec::new();
    let keys = hear(&mut server, &said(&mut client), &mut seen);
    let head = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/a"),
        (":authority", "h"),
        ("x-a", "b"),
    ];
    assert_eq!(seen, [Seen::Request(owned(&head), true)]);

    server.send_head(keys[0], b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", false).unwrap();
    server.send_head(keys[0], OK, false).unwrap();
    assert_eq!(server.room(keys[0]), Ok(OWN_WINDOW_BYTES as usize));
    server.send_data(keys[0], b"hello", false).unwrap();
    server.send_trailers(keys[0], b"grpc-status: 0\r\n").unwrap();
    assert_eq!(server.send_data(keys[0], b"more", false), Err(Gone));
    server.close(keys[0], Code::CANCEL);
    assert_eq!(server.live(), 0);
    let mut seen = Vec::new();
    hear(&mut client, &said(&mut server), &mut seen);
    assert_eq!(
        seen,
        [
            Seen::Answer(1, owned(&[(":status", "103"), ("link", "x")]), false),
            Seen::Answer(1, owned(&[(":status", "200"), ("server", "s")]), false),
            Seen::Data(1, b"hello".to_vec(), false),
            Seen::Trailers(1, owned(&[("grpc-status", "0")])),
        ]
    );
    client.close(key, Code::CANCEL);
    assert_eq!((client.live(), client.index.len(), client.out.len()), (0, 0, 0));
}

/// A conversation with everything in it, cut at every place: the same events.
#[test]
fn where_bytes_are_cut_makes_no_difference() {
    let (mut talker, _) = pair();
    talker.out.extend_from_slice(&client().out);
    let bytes = {
        let out = &mut talker.out;
        frame::write_ping(out, 0, *b"12345678");
        talker.request(1, GET, false, true).unwrap();
        let post = talker.request(2, POST, false, false).unwrap();
        talker.send_data(post, b"hello", false).unwrap();
        // Padded, with one byte of content.
        let header = FrameHeader { len: 4, kind: frame::DATA, flags: frame::PADDED, stream: 3 };
        header.write(&mut talker.out);
        talker.out.extend_from_slice(&[2, b'!', 0, 0]);
        FrameHeader { len: 1, kind: 0xfa, flags: 0, stream: 9 }.write(&mut talker.out);
        talker.out.push(7);
        frame::write_window_update(&mut talker.out, 3, 5);
        talker.send_trailers(post, b"x: y\r\n").unwrap();
        let long = [&POST[..POST.len() - 2], b"x: ", &[b'v'; 20_000], b"\r\n\r\n"].concat();
        talker.request(3, &long, false, true).unwrap();
        frame::write_reset(&mut talker.out, 1, Code::CANCEL);
        said(&mut talker)
    };
    let mut whole = Vec::new();
    let mut to = server();
    hear(&mut to, &bytes, &mut whole);
    assert_eq!((whole.len(), to.over()), (7, None), "{whole:?}");
    let out = said(&mut to);
    // Within the long value every place is like the others.
    let places = (1..1_000).chain((1_000..bytes.len()).step_by(97));
    for at in places.filter(|at| *at < bytes.len()) {
        let (one, other) = bytes.split_at(at);
        let (mut to, mut seen) = (server(), Vec::new());
        hear(&mut to, one, &mut seen);
        hear(&mut to, other, &mut seen);
        assert_eq!((seen == whole, said(&mut to) == out), (true, true), "cut at {at}");
    }
    let (mut to, mut seen) = (server(), Vec::new());
    for byte in &bytes {
        hear(&mut to, std::slice::from_ref(byte), &mut seen);
    }
    assert_eq!(seen, whole);
}

/// Many streams with bodies of all sizes through small windows, cut anywhere: nothing is lost, no
/// window is passed, and both sides end up with nothing.
#[test]
fn bodies_come_whole_through_windows() {
    let mut state = 3_u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    let (mut client, mut server) = pair();
    struct Sending {
        key: Key,
        body: Vec<u8>,
        sent: usize,
    }
    let mut sending: Vec<Sending> = Vec::new();
    let mut expected = std::collections::HashMap::new();
    let mut got: std::collections::HashMap<u32, Vec<u8>> = std::collections::HashMap::new();
    let mut waiting: Vec<Key> = Vec::new();
    let (mut begun, mut ended) = (0, 0);
    while ended < 200 {
        if begun < 200 && client.live() < 50 {
            let body: Vec<u8> = (0..random(600_000)).map(|n| (n + begun) as u8).collect();
            let key = client.request(begun as u32, POST, false, false).unwrap();
            expected.insert(key.stream, body.clone());
            sending.push(Sending { key, body, sent: 0 });
            begun += 1;
        }
        for one in &mut sending {
            let room = client.room(one.key).unwrap();
            let left = one.body.len() - one.sent;
            let n = if left == 0 { 0 } else { room.min(random(left) + 1) };
            let last = n == left;
            if n > 0 || last {
                client.send_data(one.key, &one.body[one.sent..][..n], last).unwrap();
                one.sent += n;
            }
        }
        let (done, rest): (Vec<_>, _) = sending.into_iter().partition(|s| s.sent == s.body.len());
        sending = rest;
        waiting.extend(done.into_iter().map(|one| one.key));
        let bytes = said(&mut client);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at((random(40_000) + 1).min(rest.len()));
            rest = later;
            let mut seen = Vec::new();
            hear(&mut server, now, &mut seen);
            for event in seen {
                match event {
                    Seen::Data(stream, bytes, over) => {
                        got.entry(stream).or_default().extend_from_slice(&bytes);
                        let place = server.find(stream).unwrap();
                        let key = Key { place, stream };
                        server.release(key, bytes.len());
                        if over {
                            assert_eq!(got.remove(&stream), expected.remove(&stream));
                            server.send_head(key, OK, true).unwrap();
                            server.close(key, Code::CANCEL);
                        }
                    }
                    Seen::Request(_, false) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!((client.over(), server.over()), (None, None));
        let mut seen = Vec::new();
        hear(&mut client, &said(&mut server), &mut seen);
        for event in seen {
            let Seen::Answer(user, _, true) = event else { continue };
            let at = waiting.iter().position(|key| key.stream == 2 * user + 1).unwrap();
            client.close(waiting.swap_remove(at), Code::CANCEL);
            ended += 1;
        }
    }
    assert_eq!((client.index.len(), server.index.len()), (0, 0));
}

#[test]
fn more_than_the_window_is_an_error() {
    let (mut client, mut server) = pair();
    let key = client.request(1, POST, false, false).unwrap();
    client.send_window = i64::MAX / 2;
    client.streams[key.place as usize].as_mut().unwrap().send_window = i64::MAX / 2;
    client.send_data(key, &vec![0; OWN_WINDOW_BYTES as usize + 1], false).unwrap();
    let mut seen = Vec::new();
    hear(&mut server, &said(&mut client), &mut seen);
    assert_eq!(seen.last(), Some(&Seen::Failed(1, Failure::Malformed)));
    assert_eq!(server.over(), None);
    for user in 2..20 {
        let key = client.request(user, POST, false, false).unwrap();
        client.streams[key.place as usize].as_mut().unwrap().send_window = i64::MAX / 2;
        client.send_data(key, &vec![0; OWN_WINDOW_BYTES as usize], false).unwrap();
    }
    hear(&mut server, &said(&mut client), &mut seen);
    assert_eq!(server.over(), Some(Code::FLOW_CONTROL_ERROR));
}

/// Half a connection's window is there for streams that each hold no more than their own.
#[test]
fn uploads_that_are_not_passed_on_hold_up_no_other() {
    let (mut client, mut server) = pair();
    let held = CONNECTION_WINDOW_BYTES / OWN_WINDOW_BYTES / 2 - 1;
    let all: Vec<Key> =
        (0..=held + 2).map(|user| client.request(user, POST, false, false).unwrap()).collect();
    let keys = hear(&mut server, &said(&mut client), &mut Vec::new());
    hear(&mut client, &said(&mut server), &mut Vec::new());
    let (held, taken) = all.split_at(held as usize);
    let (mut sent, mut most) = (0, 0);
    for _ in 0..200 {
        for key in held {
            let room = client.room(*key).unwrap();
            client.send_data(*key, &vec![0; room], false).unwrap();
        }
        for (key, theirs) in taken.iter().zip(&keys[held.len()..]) {
            let room = client.room(*key).unwrap();
            most = most.max(room);
            sent += room;
            client.send_data(*key, &vec![0; room], false).unwrap();
            hear(&mut server, &said(&mut client), &mut Vec::new());
            server.release(*theirs, room);
            hear(&mut client, &said(&mut server), &mut Vec::new());
        }
    }
    assert!(sent > 64 << 20, "{sent} bytes");
    assert_eq!(most, STREAM_WINDOW_BYTES as usize);
    assert!(held.iter().all(|key| client.room(*key) == Ok(0)));
}

/// Of the streams of one connection each is another client's.
#[test]
fn streams_to_an_upstream_that_nobody_reads_hold_up_no_other() {
    let (mut client, mut server) = pair();
    let user = |n: usize| n as u32;
    let all: Vec<Key> = (0..UPSTREAM_STREAMS_MAX)
        .map(|n| client.request(user(n), GET, false, true).unwrap())
        .collect();
    let keys = hear(&mut server, &said(&mut client), &mut Vec::new());
    for key in &keys {
        server.send_head(*key, OK, false).unwrap();
    }
    // One is read as fast as it comes, and may be sent more and more; the others not at all.
    let (read, rest) = keys.split_first().unwrap();
    let mut most = 0;
    for _ in 0..50 {
        let room = server.room(*read).unwrap();
        most = most.max(room);
        server.send_data(*read, &vec![0; room], false).unwrap();
        for key in rest {
            let room = server.room(*key).unwrap();
            if room > 0 {
                server.send_data(*key, &vec![0; room], false).unwrap();
            }
        }
        hear(&mut client, &said(&mut server), &mut Vec::new());
        client.release(all[0], room);
        hear(&mut server, &said(&mut client), &mut Vec::new());
    }
    assert_eq!((most, server.room(*read)), (STREAM_WINDOW_BYTES as usize, Ok(most)));
    assert!(rest.iter().all(|key| server.room(*key) == Ok(0)));
    assert!(server.has_room() && client.over().is_none());
    server.send_data(*read, b"", true).unwrap();
    hear(&mut client, &said(&mut server), &mut Vec::new());
    client.close(all[0], Code::CANCEL);
    assert_eq!(client.spare, CONNECTION_WINDOW_BYTES);
}

#[test]
fn who_leaves_serves_what_was_sent_by_then() {
    let (mut client, mut server) = pair();
    server.leave();
    assert!(!server.is_done());
    let late = client.request(1, GET, false, true).unwrap();
    let mut seen = Vec::new();
    hear(&mut client, &said(&mut server), &mut seen);
    assert!(seen.is_empty() && !client.is_open());
    let keys = hear(&mut server, &said(&mut client), &mut seen);
    assert_eq!((keys.len(), server.leaving), (1, Leaving::Final));
    server.send_head(keys[0], OK, true).unwrap();
    server.close(keys[0], Code::CANCEL);
    assert!(server.is_done());
    let mut seen = Vec::new();
    hear(&mut client, &said(&mut server), &mut seen);
    assert!(matches!(seen[..], [Seen::Answer(1, _, true)]), "{seen:?}");
    client.close(late, Code::CANCEL);
}

#[test]
fn streams_beyond_a_goaway_were_not_acted_on() {
    let (mut client, _) = pair();
    for user in 0..3 {
        client.request(user, GET, false, true).unwrap();
    }
    let (mut bytes, mut seen) = (Vec::new(), Vec::new());
    frame::write_go_away(&mut bytes, 3, Code::NO_ERROR);
    hear(&mut client, &bytes, &mut seen);
    assert_eq!(seen, [Seen::Failed(2, Failure::Unprocessed)]);
    client.abort(Code::NO_ERROR);
    let mut seen = Vec::new();
    hear(&mut client, b"", &mut seen);
    assert_eq!(seen.len(), 2);
    assert_eq!(client.request(9, GET, false, true), Err(Gone));
}

/// What a peer sends on a stream that was given up is dropped, and its bytes are given back.
#[test]
fn an_answer_that_nobody_waits_for_is_dropped() {
    let (mut client, mut server) = pair();
    let mut seen = Vec::new();
    for _ in 0..200 {
        let key = client.request(1, GET, false, true).unwrap();
        let keys = hear(&mut server, &said(&mut client), &mut seen);
        client.close(key, Code::CANCEL);
        server.send_head(keys[0], OK, false).unwrap();
        server.send_data(keys[0], &[0; 16_384], false).unwrap();
        server.send_trailers(keys[0], b"x: y\r\n").unwrap();
        server.close(keys[0], Code::CANCEL);
        let mut heard = Vec::new();
        hear(&mut client, &said(&mut server), &mut heard);
        assert!(heard.is_empty(), "{heard:?}");
        hear(&mut server, &said(&mut client), &mut seen);
    }
    assert_eq!((client.over(), client.index.len(), server.index.len()), (None, 0, 0));
}

#[test]
fn silence_is_asked_about_once() {
    let (mut client, mut server) = pair();
    assert!(client.ask());
    assert!(!client.ask(), "no answer yet");
    hear(&mut server, &said(&mut client), &mut Vec::new());
    hear(&mut client, &said(&mut server), &mut Vec::new());
    assert!(client.ask(), "there was one");
}

/// What a client may send too much of once streams 1 and 3 are open, with what must come before it.
fn floods() -> Vec<(Vec<u8>, Vec<u8>, Kind)> {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut out = Vec::new();
        FrameHeader { len: payload.len() as u32, kind, flags, stream }.write(&mut out);
        out.extend_from_slice(payload);
        out
    };
    let begun = frame(frame::HEADERS, 0, 5, b"");
    vec![
        (begun, frame(frame::CONTINUATION, 0, 5, b""), Kind::Continuation),
        (vec![], frame(frame::DATA, 0, 1, b""), Kind::EmptyData),
        // Padding is no content.
        (vec![], frame(frame::DATA, frame::PADDED, 1, b"\x02\0\0"), Kind::EmptyData),
        (vec![], frame(frame::PRIORITY, 0, 1, b"\0\0\0\0\x10"), Kind::Priority),
        (vec![], frame(frame::RST_STREAM, 0, 3, b"\0\0\0\x08"), Kind::Reset),
        (vec![], frame(frame::SETTINGS, 0, 0, b""), Kind::Settings),
        (vec![], frame(frame::PING, 0, 0, b"01234567"), Kind::Ping),
        (vec![], frame(frame::WINDOW_UPDATE, 0, 1, b"\0\0\0\x01"), Kind::WindowUpdate),
        (vec![], frame(0xfe, 0, 0, b"abc"), Kind::Other),
    ]
}

#[test]
fn floods_end_the_connection_wherever_they_are_cut() {
    for (before, flood, kind) in floods() {
        let (mut client, _) = pair();
        for user in [1, 3] {
            client.request(user, POST, true, false).unwrap();
        }
        let opening = [said(&mut client), before].concat();
        let mut counts = Vec::new();
        for piece in [1, 7, usize::MAX] {
            let (_, mut server) = pair();
            let mut seen = Vec::new();
            hear(&mut server, &opening, &mut seen);
            let (before, mut sent) = (server.frames(), 0);
            while server.over().is_none() {
                sent += 1;
                assert!(sent < 100_000, "{kind:?}");
                for piece in flood.chunks(piece.min(flood.len())) {
                    hear(&mut server, piece, &mut seen);
                }
                server.out.clear();
            }
            assert_eq!(server.over(), Some(Code::ENHANCE_YOUR_CALM), "{kind:?}");
            assert_eq!(server.flood(), Some(Flood(kind)));
            assert!(seen.contains(&Seen::Failed(1, Failure::Connection)), "{kind:?}");
            assert_eq!(server.frames() - before, sent, "{kind:?}: each counts once");
            counts.push(sent);
        }
        assert!(counts.iter().all(|count| *count == counts[0]), "{kind:?}: {counts:?}");
        // Time brings more.
        let (_, mut server) = pair();
        hear(&mut server, &opening, &mut Vec::new());
        for second in 0..10 * counts[0] {
            server.tick(1000 * second);
            hear(&mut server, &flood, &mut Vec::new());
            server.out.clear();
        }
        assert_eq!(server.over(), None, "{kind:?}");
    }
}

/// Clients measure, open their windows, and give up every second request.
#[test]
fn useful_traffic_is_no_flood() {
    let (mut client, mut server) = pair();
    let mut seen = Vec::new();
    for user in 0..1_000 {
        let given_up = client.request(user, GET, true, true).unwrap();
        client.close(given_up, Code::CANCEL);
        let key = client.request(user, POST, true, false).unwrap();
        client.send_data(key, b"x", false).unwrap();
        frame::write_ping(&mut client.out, 0, *b"01234567");
        frame::write_window_update(&mut client.out, 0, 1);
        client.send_data(key, b"", true).unwrap();
        let keys = hear(&mut server, &said(&mut client), &mut seen);
        server.send_head(keys[1], OK, false).unwrap();
        server.send_data(keys[1], b"y", true).unwrap();
        server.close(keys[1], Code::CANCEL);
        hear(&mut client, &said(&mut server), &mut seen);
        client.close(key, Code::CANCEL);
    }
    for connection in [client, server] {
        assert_eq!((connection.over(), connection.flood()), (None, None));
    }
}

/// Each request is wrong in a way that has its stream reset.
#[test]
fn a_client_that_makes_us_reset_its_streams_is_a_flood() {
    let (mut client, mut server) = pair();
    let mut resets = 0;
    while server.over().is_none() {
        assert!(resets < 1000);
        let key = client.request(1, POST, true, false).unwrap();
        let mut seen = Vec::new();
        let keys = hear(&mut server, &said(&mut client), &mut seen);
        server.refuse(keys[0], Code::PROTOCOL_ERROR);
        server.out.clear();
        client.close(key, Code::CANCEL);
        client.out.clear();
        resets += 1;
    }
    assert_eq!(server.flood(), Some(Flood(Kind::Reset)));
    hear(&mut server, b"", &mut Vec::new());
}

#[test]
fn a_head_is_begun_from_its_first_frame_to_its_last() {
    let (mut client, _) = pair();
    let long = [&POST[..POST.len() - 2], b"x: ", &[b'v'; 40_000], b"\r\n\r\n"].concat();
    client.request(1, &long, true, false).unwrap();
    let request = said(&mut client);
    let first = frame::HEADER_BYTES + frame::PAYLOAD_BYTES_MAX;
    assert!(request.len() > first + frame::HEADER_BYTES);
    let within = [frame::HEADER_BYTES, first - 1, first, first + 1, request.len() - 1];
    for at in within {
        let (_, mut server) = pair();
        assert!(!server.is_in_head());
        hear(&mut server, &request[..at], &mut Vec::new());
        assert!(server.is_in_head(), "{at}");
        hear(&mut server, &request[at..], &mut Vec::new());
        assert!(!server.is_in_head(), "{at}");
        // Part of another frame is none of a head.
        let mut data = Vec::new();
        FrameHeader { len: 4, kind: frame::DATA, flags: frame::PADDED, stream: 1 }.write(&mut data);
        hear(&mut server, &data, &mut Vec::new());
        assert!(!server.is_in_head() && server.over().is_none());
    }
}
