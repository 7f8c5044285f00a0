//! Drivable connections as a search sees them: flat tables, small words.

#![expect(clippy::indexing_slicing, reason = "junctions were checked when the network was made")]

/// A way to drive through a segment: its number, and whether against its direction. One word,
/// because every arc and every label of a search holds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heading(u32);

impl Heading {
    /// `segment` is below half of what an `u32` holds; the layout of a network checks it.
    pub(super) const fn new(segment: u32, is_against: bool) -> Self {
        Self(segment << 1 | is_against as u32)
    }

    pub(super) fn segment(self) -> u32 {
        self.0 >> 1
    }

    pub(super) fn is_against(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A drivable connection as one junction sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arc {
    pub(super) junction: u32,
    pub(super) cost: Cost,
    pub(super) heading: Heading,
}

/// Free-flow travel time and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    pub(super) millis: u32,
    pub(super) decimetres: u32,
}

impl Cost {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            millis: self.millis.saturating_add(other.millis),
            decimetres: self.decimetres.saturating_add(other.decimetres),
        }
    }

    /// The share (0 to 1) of a cost that a part of a segment takes.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is less")]
    pub(super) fn share(self, share: f64) -> Self {
        let part = |whole: u32| (f64::from(whole) * share.clamp(0.0, 1.0)).round() as u32;
        Self { millis: part(self.millis), decimetres: part(self.decimetres) }
    }
}

/// For each junction the arcs that leave it (or, reversed, that lead to it).
#[derive(Debug)]
pub(super) struct Adjacency {
    first: Vec<u32>,
    arcs: Vec<Arc>,
}

impl Adjacency {
    pub(super) fn new(junction_count: usize, mut arcs: Vec<(u32, Arc)>) -> Self {
        arcs.sort_by_key(|(from, _)| *from);
        let mut first = vec![0_u32; junction_count + 1];
        arcs.iter().for_each(|(from, _)| first[*from as usize + 1] += 1);
        let mut sum = 0;
        for count in &mut first {
            sum += *count;
            *count = sum;
        }
        Self { first, arcs: arcs.into_iter().map(|(_, arc)| arc).collect() }
    }

    pub(super) fn of(&self, junction: u32) -> &[Arc] {
        let at = junction as usize;
        &self.arcs[self.first[at] as usize..self.first[at + 1] as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.arcs.len()
    }
}
