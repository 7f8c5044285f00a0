//! Frames of the NATS client protocol, cut out of a byte stream wherever its chunks end. Nothing
//! is trusted: what does not read as a frame is passed on unread.

use std::ops::Range;

/// The longest control line that is read: a server's `INFO` with the addresses of a large cluster.
const LINE_MAX: usize = 64 * 1024;
/// The longest frame that is held in memory to be read whole.
pub(super) const FRAME_MAX: usize = 16 * 1024 * 1024;
/// The most words that a line of interest has.
const WORDS_MAX: usize = 6;

/// What a frame says, as far as faults care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// `PUB` or `HPUB`.
    Publish,
    /// `MSG` or `HMSG`.
    Message,
    /// `INFO`.
    Info,
    /// Any other line: it has no payload.
    Line,
}

/// A frame at the front of the bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) verb: Verb,
    /// How many bytes it takes, line ends included.
    pub(super) len: usize,
    subject: Range<usize>,
    reply: Range<usize>,
    headers: Range<usize>,
    payload: Range<usize>,
}

impl Frame {
    fn line(verb: Verb, len: usize) -> Self {
        Self { verb, len, subject: 0..0, reply: 0..0, headers: 0..0, payload: 0..0 }
    }

    pub(super) fn subject<'a>(&self, bytes: &'a [u8]) -> &'a str {
        text(bytes, &self.subject)
    }

    /// Empty when there is none.
    pub(super) fn reply<'a>(&self, bytes: &'a [u8]) -> &'a str {
        text(bytes, &self.reply)
    }

    pub(super) fn headers<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.headers.clone()).unwrap_or_default()
    }

    pub(super) fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.payload.clone()).unwrap_or_default()
    }
}

fn text<'a>(bytes: &'a [u8], range: &Range<usize>) -> &'a str {
    bytes.get(range.clone()).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
}

/// What stands at the front of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Frame(Frame),
    /// The beginning of a frame.
    More,
    /// Not this protocol, or too long to be held: from here on nothing can be told apart.
    Opaque,
}

/// Reads one direction of one connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// So many bytes at the front hold no line end.
    scanned: usize,
    /// With fewer bytes the frame at the front is not whole.
    needed: usize,
    is_opaque: bool,
}

impl Frames {
    /// Reads the front of `bytes`. Until it returns a frame, each call must come with the same
    /// bytes and perhaps more; after that, with what follows the frame.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Next {
        if self.is_opaque {
            return Next::Opaque;
        }
        if bytes.len() < self.needed.max(1) {
            return Next::More;
        }
        let Some(end) = self.line_end(bytes) else {
            self.scanned = bytes.len();
            return if bytes.len() > LINE_MAX { self.give_up() } else { Next::More };
        };
        match read(bytes, end) {
            Some(frame) if frame.len > FRAME_MAX => self.give_up(),
            Some(frame) if frame.len > bytes.len() => {
                (self.scanned, self.needed) = (end, frame.len);
                Next::More
            }
            Some(frame) if is_closed(bytes, &frame) => {
                (self.scanned, self.needed) = (0, 0);
                Next::Frame(frame)
            }
            Some(_) | None => self.give_up(),
        }
    }

    fn line_end(&self, bytes: &[u8]) -> Option<usize> {
        let rest = bytes.get(self.scanned..)?;
        rest.iter().position(|byte| *byte == b'\n').map(|at| self.scanned + at)
    }

    fn give_up(&mut self) -> Next {
        self.is_opaque = true;
        Next::Opaque
    }
}

/// A payload ends with a line end of its own.
fn is_closed(bytes: &[u8], frame: &Frame) -> bool {
    match frame.verb {
        Verb::Publish | Verb::Message => bytes.get(frame.payload.end..frame.len) == Some(b"\r\n"),
        Verb::Info | Verb::Line => true,
    }
}

/// The frame whose line ends at `end`; its payload need not be there yet. `None`: a line that
/// announces a payload in a way that nobody can read.
fn read(bytes: &[u8], end: usize) -> Option<Frame> {
    let line = bytes.get(..end)?;
    let words = Words::of(line);
    let whole = end + 1;
    let (verb, has_headers, has_sid) = match words.first(line) {
        verb if verb.eq_ignore_ascii_case(b"PUB") => (Verb::Publish, false, false),
        verb if verb.eq_ignore_ascii_case(b"HPUB") => (Verb::Publish, true, false),
        verb if verb.eq_ignore_ascii_case(b"MSG") => (Verb::Message, false, true),
        verb if verb.eq_ignore_ascii_case(b"HMSG") => (Verb::Message, true, true),
        verb if verb.eq_ignore_ascii_case(b"INFO") => return Some(Frame::line(Verb::Info, whole)),
        _ => return Some(Frame::line(Verb::Line, whole)),
    };
    let before_reply = if has_sid { 3 } else { 2 };
    let sizes = if has_headers { 2 } else { 1 };
    let has_reply = match words.count.checked_sub(before_reply + sizes)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let total = words.number(line, words.count - 1)?;
    let headers = if has_headers { words.number(line, words.count - 2)? } else { 0 };
    if headers > total || total > FRAME_MAX {
        return None;
    }
    let payload = whole + headers..whole + total;
    Some(Frame {
        verb,
        len: payload.end + 2,
        subject: words.range(1),
        reply: if has_reply { words.range(before_reply) } else { 0..0 },
        headers: whole..whole + headers,
        payload,
    })
}

/// Where the words of a line stand, without allocating.
struct Words {
    ranges: [(usize, usize); WORDS_MAX],
    /// May exceed what `ranges` holds: then the line has more words than any that is of interest.
    count: usize,
}

impl Words {
    fn of(line: &[u8]) -> Self {
        let mut words = Self { ranges: [(0, 0); WORDS_MAX], count: 0 };
        let mut start = None;
        for (at, byte) in line.iter().chain(b" ").enumerate() {
            match (start, matches!(byte, b' ' | b'\t' | b'\r')) {
                (None, false) => start = Some(at),
                (Some(from), true) => {
                    if let Some(place) = words.ranges.get_mut(words.count) {
                        *place = (from, at);
                    }
                    words.count += 1;
                    start = None;
                    // The rest of such a line is a JSON text, an error's or nothing of interest.
                    if words.count > WORDS_MAX {
                        break;
                    }
                }
                (None, true) | (Some(_), false) => (),
            }
        }
        words
    }

    fn range(&self, word: usize) -> Range<usize> {
        let (from, to) = self.ranges.get(word).copied().unwrap_or_default();
        from..to
    }

    fn first<'a>(&self, line: &'a [u8]) -> &'a [u8] {
        line.get(self.range(0)).unwrap_or_default()
    }

    fn number(&self, line: &[u8], word: usize) -> Option<usize> {
        str::from_utf8(line.get(self.range(word))?).ok()?.parse().ok()
    }
}
