//! What a frame is for the system, as real clients and brokers write them.

use crate::chaos::proxy::{
    class::{Kind, Streams},
    frames::{Frames, Next},
};

fn class(bytes: &str) -> (Kind, Option<String>) {
    let bytes = bytes.as_bytes();
    let Next::Frame(frame) = Frames::default().next(bytes) else { panic!("not a frame") };
    let streams = Streams::of_system();
    let (kind, stream) = streams.classify(&frame, bytes);
    (kind, stream.map(ToOwned::to_owned))
}

fn of(kind: Kind, stream: &str) -> (Kind, Option<String>) {
    (kind, Some(stream.to_owned()))
}

fn message(line: &str, payload: &str) -> String {
    format!("{line} {}\r\n{payload}\r\n", payload.len())
}

#[test]
fn a_publish_belongs_to_the_stream_that_stores_its_subject() {
    for (subject, stream) in [
        ("ping.3", "PINGS"),
        ("driver.command.3.d", "DRIVER_CMD"),
        ("driver.timer.3.d.t", "DRIVER"),
        ("trip.event.3.t", "TRIP"),
        ("rider.event.3.r", "RIDER"),
        ("dlq.trip-driver-3.DRIVER.9", "DLQ"),
    ] {
        let line = format!("PUB {subject} _INBOX.a.b");
        assert_eq!(class(&message(&line, "x")), of(Kind::Publish, stream));
    }
}

#[test]
fn what_no_stream_stores_is_a_request_if_it_wants_an_answer() {
    for subject in ["trip.command.3.t", "location.query.candidates", "$JS.API.STREAM.INFO.TRIP"] {
        let line = format!("PUB {subject} _INBOX.a.b");
        assert_eq!(class(&message(&line, "x")), (Kind::Request, None));
    }
    assert_eq!(class(&message("MSG trip.command.3.t 4 _INBOX.a.b", "x")), (Kind::Request, None));
    assert_eq!(class(&message("PUB location.frame", "x")), (Kind::Other, None));
    assert_eq!(class(&message("MSG live.trip.event.3.t 4", "x")), (Kind::Other, None));
}

#[test]
fn acks_and_deliveries_belong_to_the_consumer_that_delivered() {
    let short = "$JS.ACK.TRIP.trip-process-3.1.7.7.1700000000000000000.0";
    let long = "$JS.ACK.hub.ACCOUNT.TRIP.trip-process-3.1.7.7.1700000000000000000.0";
    for subject in [short, long] {
        for answer in ["+ACK", "-NAK {\"delay\":1}", "+WPI", "+TERM", ""] {
            let ack = message(&format!("PUB {subject}"), answer);
            assert_eq!(class(&ack), of(Kind::Ack, "TRIP.trip-process-3"));
        }
        let delivery = message(&format!("MSG trip.event.3.t 9 {subject}"), "x");
        assert_eq!(class(&delivery), of(Kind::Delivery, "TRIP.trip-process-3"));
    }
}

#[test]
fn a_publish_ack_is_told_from_other_answers() {
    for ack in [
        r#"{"stream":"TRIP","seq":7}"#,
        r#"{"stream":"TRIP","seq":7,"duplicate":true}"#,
        r#"{"error":{"code":400,"err_code":10071},"stream":"TRIP","seq":0}"#,
    ] {
        assert_eq!(class(&message("MSG _INBOX.a.b 1", ack)), of(Kind::PublishAck, "TRIP"));
    }
    for answer in [r#"{"type":"io.nats.jetstream.api.v1.stream_info_response"}"#, "{", "\u{8}x"] {
        assert_eq!(class(&message("MSG _INBOX.a.b 1", answer)), (Kind::Answer, None));
    }
}

#[test]
fn what_keeps_the_connection_going_is_never_touched() {
    let heartbeat = "HMSG _INBOX.a.b 1 31 31\r\nNATS/1.0 100 Idle Heartbeat\r\n\r\n\r\n";
    let lines = ["PING\r\n", "PONG\r\n", "+OK\r\n", "SUB a 1\r\n", "INFO {}\r\n", heartbeat];
    for line in lines {
        let (kind, _) = class(line);
        assert_eq!((kind, kind.faults().len()), (Kind::Other, 0), "{line}");
    }
}
