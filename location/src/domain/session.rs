//! Classes of pings. A phone's clock is measured, never trusted: what orders pings is their number
//! within a session, and what dates them is the phone's clock corrected by the offset that its
//! batches reveal.

use std::time::Duration;

use common::{
    clock::Timestamp,
    geo::Point,
    id::SessionId,
    ping::{Ping, PingBatch},
};

use super::{Class, Counts};

/// Batches by which a session's clock offset is judged.
const OFFSET_SAMPLES: usize = 5;
/// Numbers below a session's highest of which is known whether they were read.
const WINDOW: u64 = 64 * WINDOW_WORDS as u64;
const WINDOW_WORDS: usize = 4;
/// Sessions of one driver that are remembered: the app that runs, and what older runs still send.
const SESSIONS_MAX: usize = 3;
/// So many implausible pings that agree with each other prove that the one before them was wrong.
const DOUBTS_MAX: u32 = 5;
/// Two pings closer in time than this are taken to be this far apart: positions jitter.
const JITTER: Duration = Duration::from_secs(1);

/// What separates the classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// No car drives faster, km/h.
    pub speed_max_kmh: f64,
    /// A worse position says nothing, metres.
    pub accuracy_max_m: f64,
    /// A ping that is older when it comes says where a driver was, not where he is.
    pub age_max: Duration,
    /// How far ahead of its reception a ping may claim to be.
    pub ahead_max: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            speed_max_kmh: 200.0,
            accuracy_max_m: 100.0,
            age_max: Duration::from_secs(15),
            ahead_max: Duration::from_secs(5),
        }
    }
}

/// What is kept of a driver's pings: a few hundred bytes, however many there were.
#[derive(Debug, Clone, Default)]
pub struct Track {
    counts: Counts,
    /// The one heard last is the last.
    sessions: Vec<Session>,
    anchor: Option<Anchor>,
    doubt: Option<Doubt>,
}

/// The ping that moved the index last.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    session: SessionId,
    at: Timestamp,
    position: Point,
}

/// Implausible pings in a row that are plausible as seen from one another.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    at: Timestamp,
    position: Point,
    count: u32,
}

impl Track {
    /// How this driver's pings were classed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What has to be added to the phone's clock to get broker time, microseconds; by the session
    /// heard last.
    #[must_use]
    pub fn clock_offset_us(&self) -> i64 {
        self.sessions.last().map_or(0, |session| session.offset.us())
    }

    /// Classes the pings of one batch, each once, and says which of them is where the driver is
    /// now, if any.
    pub fn read<'a>(&mut self, batch: &'a PingBatch, rules: &Rules) -> (Counts, Option<&'a Ping>) {
        self.begin(batch);
        let mut counts = Counts::default();
        let mut newest = None;
        for ping in &batch.pings {
            let class = self.judge(batch, ping, rules);
            counts.count(class);
            if matches!(class, Class::Fresh | Class::Clamped) {
                newest = Some(ping);
            }
        }
        self.counts += counts;
        (counts, newest)
    }

    /// Takes a batch's measure of the phone's clock.
    fn begin(&mut self, batch: &PingBatch) {
        let known = self.sessions.iter().position(|session| session.id == batch.session);
        let mut session = match known {
            Some(at) => self.sessions.remove(at),
            None => Session::new(batch.session),
        };
        let sample = batch.received_at.micros().saturating_sub(batch.sent_at.micros());
        session.offset.learn(sample);
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.remove(0);
        }
        self.sessions.reserve_exact(1);
        self.sessions.push(session);
    }

    fn judge(&mut self, batch: &PingBatch, ping: &Ping, rules: &Rules) -> Class {
        let Some(session) = self.sessions.last_mut() else { return Class::Late };
        let is_newest = match session.window.take(ping.seq) {
            Taken::Again => return Class::Duplicate,
            Taken::Behind => return Class::Late,
            Taken::Highest => true,
        };
        let corrected = ping.at.micros().saturating_add(session.offset.us());
        let claimed = Timestamp::from_micros(corrected);
        let is_ahead = claimed.since(batch.received_at) > rules.ahead_max;
        let at = if is_ahead { batch.received_at } else { claimed };
        let is_old = batch.received_at.since(at) > rules.age_max;
        // Within a session numbers order; between two only corrected times can.
        let is_behind =
            self.anchor.is_some_and(|anchor| anchor.session != batch.session && at < anchor.at);
        if !is_newest || is_old || is_behind {
            return Class::Late;
        }
        let accuracy_m = ping.accuracy_dm.map(|decimetres| f64::from(decimetres) / 10.0);
        if accuracy_m.is_some_and(|accuracy_m| accuracy_m > rules.accuracy_max_m)
            || !self.is_plausible(at, ping.position, rules)
        {
            return Class::Implausible;
        }
        self.anchor = Some(Anchor { session: batch.session, at, position: ping.position });
        self.doubt = None;
        if is_ahead { Class::Clamped } else { Class::Fresh }
    }

    /// Whether a car can have come here from where it was last. A wrong anchor must not make
    /// everything after it implausible for ever, so what is implausible is remembered too.
    fn is_plausible(&mut self, at: Timestamp, position: Point, rules: &Rules) -> bool {
        let Some(anchor) = self.anchor else { return true };
        if is_drivable((anchor.at, anchor.position), (at, position), rules) {
            return true;
        }
        let count = match self.doubt {
            Some(doubt) if is_drivable((doubt.at, doubt.position), (at, position), rules) => {
                doubt.count.saturating_add(1)
            }
            Some(_) | None => 1,
        };
        self.doubt = Some(Doubt { at, position, count });
        count >= DOUBTS_MAX
    }
}

fn is_drivable(from: (Timestamp, Point), to: (Timestamp, Point), rules: &Rules) -> bool {
    let elapsed = to.0.since(from.0).max(from.0.since(to.0)).max(JITTER);
    from.1.distance_m(to.1) <= rules.speed_max_kmh / 3.6 * elapsed.as_secs_f64()
}

#[derive(Debug, Clone)]
struct Session {
    id: SessionId,
    offset: Offset,
    window: Window,
}

impl Session {
    fn new(id: SessionId) -> Self {
        Self { id, offset: Offset::default(), window: Window::default() }
    }
}

/// Received minus sent is the clock's offset plus the time under way, and a batch that was sent
/// again was under way for long. So the least of the last few samples is the best of them.
#[derive(Debug, Clone, Copy, Default)]
struct Offset {
    samples_us: [i64; OFFSET_SAMPLES],
    next: usize,
    count: usize,
}

impl Offset {
    fn learn(&mut self, sample_us: i64) {
        if let Some(place) = self.samples_us.get_mut(self.next) {
            *place = sample_us;
        }
        self.next = (self.next + 1) % OFFSET_SAMPLES;
        self.count = OFFSET_SAMPLES.min(self.count + 1);
    }

    fn us(&self) -> i64 {
        self.samples_us.iter().take(self.count).copied().min().unwrap_or(0)
    }
}

enum Taken {
    Highest,
    Behind,
    Again,
}

/// Which numbers of a session were read: the highest, and a bit for each of those below it. A
/// number that is farther behind than the window counts as not read: late then, not duplicate.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    highest: Option<u64>,
    /// Bit i: `highest - i` was read.
    bits: [u64; WINDOW_WORDS],
}

impl Window {
    fn take(&mut self, seq: u64) -> Taken {
        let Some(highest) = self.highest.filter(|highest| seq <= *highest) else {
            let ahead = self.highest.map_or(WINDOW, |highest| seq.abs_diff(highest));
            self.shift(ahead);
            self.highest = Some(seq);
            self.set(0);
            return Taken::Highest;
        };
        let behind = highest.abs_diff(seq);
        if behind >= WINDOW {
            Taken::Behind
        } else if self.set(behind) {
            Taken::Again
        } else {
            Taken::Behind
        }
    }

    /// Sets a bit and says whether it was set.
    fn set(&mut self, behind: u64) -> bool {
        let word = usize::try_from(behind / 64).ok().and_then(|at| self.bits.get_mut(at));
        let mask = 1_u64 << (behind % 64);
        word.is_some_and(|word| {
            let was_set = *word & mask != 0;
            *word |= mask;
            was_set
        })
    }

    fn shift(&mut self, by: u64) {
        let words = usize::try_from(by / 64).unwrap_or(WINDOW_WORDS).min(WINDOW_WORDS);
        self.bits.rotate_right(words);
        self.bits.iter_mut().take(words).for_each(|word| *word = 0);
        let rest = by % 64;
        if rest != 0 {
            let mut carried = 0;
            for word in &mut self.bits {
                let next = *word >> (64 - rest);
                *word = (*word << rest) | carried;
                carried = next;
            }
        }
    }
}
