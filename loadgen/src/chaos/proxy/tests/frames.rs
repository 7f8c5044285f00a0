//! Frames come out the same wherever the stream of bytes is cut, and everything comes out.

use bytes::BytesMut;
use proptest::prelude::*;

use crate::chaos::proxy::frames::{Frame, Frames, Next};

/// What a reader makes of chunks: its frames, the bytes after them, and whether it gave up.
fn read(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
    let (mut frames, mut buffer, mut read) = (Frames::default(), BytesMut::new(), Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            match frames.next(&buffer) {
                Next::Frame(frame) => read.push(buffer.split_to(frame.len).to_vec()),
                Next::More => break,
                Next::Opaque => return (read, rest(&buffer, chunks), true),
            }
        }
    }
    (read, buffer.to_vec(), false)
}

/// What was not read as frames: all that is left when a reader gives up in the middle.
fn rest(buffer: &[u8], chunks: &[&[u8]]) -> Vec<u8> {
    let whole = chunks.concat();
    let at = (0..=whole.len()).find(|at| whole[*at..].starts_with(buffer)).unwrap_or_default();
    whole[at..].to_vec()
}

fn one(bytes: &[u8]) -> Frame {
    match Frames::default().next(bytes) {
        Next::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

fn word() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-zA-Z0-9_$*>-]{1,8}", 1..5).prop_map(|words| words.join("."))
}

prop_compose! {
    fn with_payload()(
        verb in prop::sample::select(vec!["PUB", "HPUB", "MSG", "HMSG", "pub", "hMsg"]),
        subject in word(),
        reply in prop::option::of(word()),
        headers in prop::collection::vec(any::<u8>(), 0..40),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) -> Vec<u8> {
        let mut line = format!("{verb} {subject}");
        if verb.to_ascii_uppercase().ends_with("MSG") {
            line.push_str(" 17");
        }
        if let Some(reply) = reply {
            line.push_str(&format!(" {reply}"));
        }
        let has_headers = verb.to_ascii_uppercase().starts_with('H');
        let headers = if has_headers { headers } else { Vec::new() };
        if has_headers {
            line.push_str(&format!(" {}", headers.len()));
        }
        line.push_str(&format!(" {}\r\n", headers.len() + payload.len()));
        [line.as_bytes(), &headers, &payload, b"\r\n"].concat()
    }
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "PING\r\n".to_owned(),
        "PONG\r\n".to_owned(),
        "+OK\r\n".to_owned(),
        "-ERR 'Slow Consumer'\r\n".to_owned(),
        "SUB live.trip.event.> 4\r\n".to_owned(),
        "UNSUB 4 1\r\n".to_owned(),
        "CONNECT {\"verbose\":false}\r\n".to_owned(),
        "INFO {\"server_id\":\"X\"}\r\n".to_owned(),
        "WHATEVER comes next 5\r\n".to_owned(),
        "\r\n".to_owned(),
    ]);
    prop_oneof![3 => with_payload(), 1 => line.prop_map(String::into_bytes)]
}

/// The same bytes, cut at these places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn frames_are_the_same_wherever_the_stream_is_cut(
        frames in prop::collection::vec(frame(), 1..12),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let bytes = frames.concat();
        let (read, rest, gave_up) = read(&cut(&bytes, &places));
        prop_assert_eq!(read, frames);
        prop_assert!(rest.is_empty() && !gave_up);
    }

    #[test]
    fn no_byte_is_lost_whatever_comes(
        frames in prop::collection::vec(frame(), 0..4),
        noise in prop::collection::vec(any::<u8>(), 0..300),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let bytes = [frames.concat(), noise].concat();
        let (read, rest, _) = read(&cut(&bytes, &places));
        prop_assert_eq!([read.concat(), rest].concat(), bytes);
    }
}

#[test]
fn the_words_of_a_line_are_told_apart() {
    let bytes = b"HPUB trip.event.3.x _INBOX.a.b 12 17\r\nNATS/1.0\r\n\r\nhello\r\n";
    let frame = one(bytes);
    assert_eq!(frame.len, bytes.len());
    assert_eq!(frame.subject(bytes), "trip.event.3.x");
    assert_eq!(frame.reply(bytes), "_INBOX.a.b");
    assert_eq!(frame.headers(bytes), b"NATS/1.0\r\n\r\n");
    assert_eq!(frame.payload(bytes), b"hello");
    let bytes = b"MSG a.b 9 2\r\nhi\r\n";
    let frame = one(bytes);
    assert_eq!((frame.subject(bytes), frame.reply(bytes)), ("a.b", ""));
    assert_eq!(frame.payload(bytes), b"hi");
}

#[test]
fn a_payload_may_look_like_frames() {
    let bytes = b"PUB a 12\r\nPING\r\nPONG\r\n\r\nPING\r\n";
    let (read, rest, gave_up) = read(&[bytes]);
    assert_eq!(read.len(), 2);
    assert!(rest.is_empty() && !gave_up);
}

#[test]
fn what_cannot_be_held_or_makes_no_sense_is_passed_on_unread() {
    let endless = vec![b'x'; 70_000];
    for bytes in [
        b"PUB a 99999999999999999999999\r\n".as_slice(),
        b"PUB a 999999999\r\n",
        b"PUB a b c 5\r\nhello\r\n",
        b"PUB a\r\n",
        b"HPUB a 9 5\r\nhello\r\n",
        b"PUB a 5\r\nhello, and more\r\n",
        &endless,
    ] {
        let (read, rest, gave_up) = read(&[bytes]);
        assert!(read.is_empty() && gave_up, "{:?}", &bytes[..bytes.len().min(40)]);
        assert_eq!(rest, bytes);
    }
}
