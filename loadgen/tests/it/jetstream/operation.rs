//! What is done to both brokers, and how chance chooses it. An operation says what it wants in terms of
//! what is there (the right sequence, the second message in hand), so that it means something in any
//! sequence that is cut down to find out what failed.

use rand::{RngExt, seq::IndexedRandom};

use super::settings::{EVENTS, NEW, OLD, PER, PINNED, QUEUE, SHORT};

/// A stream and a subject of it.
pub(crate) type Place = (&'static str, &'static str);

const PLACES: [Place; 17] = [
    (EVENTS, "e.event.a"),
    (EVENTS, "e.event.a"),
    (EVENTS, "e.event.b"),
    (EVENTS, "e.event.c.d"),
    (EVENTS, "e.due.a"),
    (EVENTS, "e.timer.1"),
    (QUEUE, "q.a.1"),
    (QUEUE, "q.a.2"),
    (QUEUE, "q.b.1"),
    (QUEUE, "q.c.1"),
    (NEW, "n.1"),
    (NEW, "n.2"),
    (PER, "p.1"),
    (PER, "p.2"),
    (OLD, "o.1"),
    (OLD, "o.2"),
    ("", "nobody.reads.this"),
];
const FILTERS: [Place; 12] = [
    (EVENTS, "e.event.a"),
    (EVENTS, "e.event.*"),
    (EVENTS, "e.event.>"),
    (EVENTS, "e.timer.1"),
    (EVENTS, "e.timer.>"),
    (EVENTS, "e.due.>"),
    (QUEUE, "q.a.1"),
    (QUEUE, "q.>"),
    (NEW, "n.>"),
    (PER, "p.1"),
    (OLD, "o.2"),
    (OLD, ">"),
];
const TIMERS: [&str; 3] = ["e.timer.1", "e.timer.2", "e.timer.3"];

/// What a publish expects to be the last sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expect {
    Nothing,
    Right,
    Zero,
    Stale,
    /// Of another subject, or of all that a filter takes.
    RightOf(&'static str),
    StaleOf(&'static str),
    /// A subject without a sequence.
    SubjectOnly(&'static str),
    RightOfStream,
    StaleOfStream,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Publish {
    pub(crate) place: Place,
    pub(crate) expect: Expect,
    pub(crate) id: Option<u8>,
    pub(crate) ttl: Option<&'static str>,
    pub(crate) rollup: Option<&'static str>,
    pub(crate) bytes: usize,
    /// The timer that ends with this message.
    pub(crate) purges: Option<&'static str>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Timer {
    pub(crate) publish: Publish,
    /// What stands for the time: `None` is an hour from now.
    pub(crate) pattern: Option<&'static str>,
    pub(crate) target: Option<&'static str>,
    pub(crate) fires_ttl: Option<&'static str>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Ack,
    Term,
    Nak,
    Progress,
}

/// What a reader of the pinned consumer shows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shows {
    Nothing,
    Newest,
    Oldest,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Publish(Publish),
    Timer(Timer),
    Purge(Place),
    Read(Place),
    CreateStream(usize),
    CreateConsumer(usize),
    /// A pull that does not wait.
    Fetch {
        consumer: usize,
        batch: u32,
    },
    /// Of what was handed out lately, answered or not.
    Answer {
        consumer: usize,
        which: usize,
        kind: Kind,
    },
    /// A pull that waits, of the pinned consumer.
    Pull {
        reader: u64,
        batch: u32,
        shows: Shows,
        group: Option<&'static str>,
    },
    Unpin,
    Disconnect {
        reader: u64,
    },
    /// Timers that are due soon or were due long ago, until they fired.
    Fire {
        timers: usize,
        late: bool,
    },
    /// Messages that live a second, until they are gone.
    Expire {
        messages: usize,
    },
    /// An id that is used again when the window is over.
    Window,
    /// Messages that nobody answers, until they come back.
    AckWait {
        messages: u32,
        answered: u32,
    },
    /// Messages handed back with different delays.
    NakDelays,
    /// An owner that does not pull any more, until another one has the pin.
    PinLapse,
    /// The broker stops in order and starts again.
    Restart,
}

/// How often each kind comes up; episodes that take real time are rare.
pub(crate) fn random(rng: &mut impl RngExt, episodes: bool) -> Operation {
    match rng.random_range(0..if episodes { 1_000 } else { 964 }) {
        0..400 => Operation::Publish(publish(rng)),
        400..490 => Operation::Timer(timer(rng)),
        490..520 => Operation::Purge(pick(rng, &FILTERS)),
        520..580 => Operation::Read(pick(rng, &FILTERS)),
        580..590 => Operation::CreateStream(rng.random_range(0..5)),
        590..610 => Operation::CreateConsumer(rng.random_range(0..10)),
        610..730 => {
            let (consumer, batch) = (rng.random_range(0..PINNED), rng.random_range(1..5));
            Operation::Fetch { consumer, batch }
        }
        730..880 => answer(rng, 0..PINNED),
        880..910 => answer(rng, PINNED..PINNED + 1),
        910..950 => pull(rng),
        950..956 => Operation::Unpin,
        956..964 => Operation::Disconnect { reader: rng.random_range(1..3) },
        964..984 => Operation::Fire { timers: rng.random_range(1..4), late: rng.random_bool(0.3) },
        984..987 => Operation::Expire { messages: rng.random_range(1..4) },
        987..989 => Operation::Window,
        989..992 => {
            let messages = rng.random_range(2..5);
            Operation::AckWait { messages, answered: rng.random_range(0..messages) }
        }
        992..995 => Operation::NakDelays,
        995..997 => Operation::PinLapse,
        _ => Operation::Restart,
    }
}

fn pick<T: Copy>(rng: &mut impl RngExt, from: &[T]) -> T {
    *from.choose(rng).expect("something to choose from")
}

fn expect(rng: &mut impl RngExt, place: Place) -> Expect {
    let other = if place.0 == EVENTS { "e.event.*" } else { place.1 };
    match rng.random_range(0..20) {
        0..6 => Expect::Right,
        6..8 => Expect::Zero,
        8..10 => Expect::Stale,
        10 => Expect::RightOf(other),
        11 => Expect::StaleOf(other),
        12 => Expect::SubjectOnly(other),
        13 => Expect::RightOfStream,
        14 => Expect::StaleOfStream,
        _ => Expect::Nothing,
    }
}

fn publish(rng: &mut impl RngExt) -> Publish {
    let place = pick(rng, &PLACES);
    Publish {
        place,
        expect: expect(rng, place),
        id: rng.random_bool(0.25).then(|| rng.random_range(0..6)),
        ttl: rng
            .random_bool(0.06)
            .then(|| pick(rng, &["3600", "never", "1h30m", "90s", "0", "x", "-1"])),
        rollup: rng.random_bool(0.04).then(|| pick(rng, &["sub", "nonsense"])),
        bytes: rng.random_range(0..200),
        purges: rng.random_bool(0.15).then(|| pick(rng, &TIMERS)),
    }
}

fn timer(rng: &mut impl RngExt) -> Timer {
    let place = if rng.random_bool(0.9) { (EVENTS, pick(rng, &TIMERS)) } else { (NEW, "n.1") };
    let publish = Publish { place, ttl: None, ..publish(rng) };
    let is_odd = rng.random_bool(0.2);
    Timer {
        publish: Publish {
            expect: expect(rng, place),
            rollup: rng.random_bool(0.05).then_some("sub"),
            ..publish
        },
        pattern: rng.random_bool(0.1).then(|| pick(rng, &["@at soon", "soon", "@at"])),
        target: if is_odd {
            pick(rng, &[None, Some("x.y"), Some("e.due.*"), Some(place.1), Some("e..due")])
        } else {
            Some("e.due.a")
        },
        fires_ttl: rng.random_bool(0.1).then(|| pick(rng, &["3600", "90s", "x"])),
    }
}

fn answer(rng: &mut impl RngExt, consumers: std::ops::Range<usize>) -> Operation {
    let kind = match rng.random_range(0..10) {
        0..5 => Kind::Ack,
        5..8 => Kind::Nak,
        8 => Kind::Term,
        _ => Kind::Progress,
    };
    let consumer = rng.random_range(consumers);
    Operation::Answer { consumer, which: rng.random_range(0..6), kind }
}

fn pull(rng: &mut impl RngExt) -> Operation {
    Operation::Pull {
        reader: rng.random_range(1..3),
        batch: rng.random_range(1..4),
        shows: pick(rng, &[Shows::Nothing, Shows::Nothing, Shows::Newest, Shows::Oldest]),
        group: pick(rng, &[Some("owner"), Some("owner"), Some("owner"), Some("other"), None]),
    }
}

/// The subjects of episodes.
pub(crate) const WAITS: Place = (SHORT, "s.wait");
pub(crate) const NAKS: Place = (SHORT, "s.nak");
pub(crate) const PINS: Place = (SHORT, "s.pin");
pub(crate) const MORTAL: Place = (SHORT, "s.mortal");
pub(crate) const REPEATED: Place = (SHORT, "s.repeated");
