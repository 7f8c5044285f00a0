//! What can be asked of a trip in any phase.

use common::clock::Timestamp;

use super::{
    Arrived, Assigned, Assignment, Cancelled, Completed, InProgress, Matching, Phase, Progress,
    Request, Search, TimerKind, Trip, Unfulfilled, Withdrawn,
};

impl Progress {
    /// Who drove, if anybody did.
    #[must_use]
    pub fn assignment(&self) -> Option<&Assignment> {
        match self {
            Self::Matching => None,
            Self::Assigned(assignment)
            | Self::Arrived(assignment, _)
            | Self::InProgress(assignment, ..) => Some(assignment),
        }
    }

    /// The phase in which it ended.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::Matching => Phase::Matching,
            Self::Assigned(_) => Phase::Assigned,
            Self::Arrived(..) => Phase::Arrived,
            Self::InProgress(..) => Phase::InProgress,
        }
    }
}

impl Trip {
    /// Where it stands; none before anything happened.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Self::Unknown => None,
            Self::Withdrawn(_) | Self::Cancelled(_) => Some(Phase::Cancelled),
            Self::Matching(_) => Some(Phase::Matching),
            Self::Assigned(_) => Some(Phase::Assigned),
            Self::Arrived(_) => Some(Phase::Arrived),
            Self::InProgress(_) => Some(Phase::InProgress),
            Self::Completed(_) => Some(Phase::Completed),
            Self::Unfulfilled(_) => Some(Phase::Unfulfilled),
        }
    }

    /// Whether nothing but a rating can follow.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Unknown
            | Self::Matching(_)
            | Self::Assigned(_)
            | Self::Arrived(_)
            | Self::InProgress(_) => false,
            Self::Withdrawn(_) | Self::Completed(_) | Self::Cancelled(_) | Self::Unfulfilled(_) => {
                true
            }
        }
    }

    /// From when on nothing happens to it any more, not even a rating; none while it goes on.
    #[must_use]
    pub fn settled_at(&self) -> Option<Timestamp> {
        match self {
            Self::Unknown
            | Self::Matching(_)
            | Self::Assigned(_)
            | Self::Arrived(_)
            | Self::InProgress(_) => None,
            Self::Completed(Completed { at, request, .. }) => {
                Some(at.plus(request.terms.rating_window))
            }
            Self::Withdrawn(Withdrawn { at, .. })
            | Self::Cancelled(Cancelled { at, .. })
            | Self::Unfulfilled(Unfulfilled { at, .. }) => Some(*at),
        }
    }

    /// What was asked for.
    #[must_use]
    pub fn request(&self) -> Option<&Request> {
        match self {
            Self::Unknown | Self::Withdrawn(_) => None,
            Self::Matching(Matching { request, .. })
            | Self::Assigned(Assigned { request, .. })
            | Self::Arrived(Arrived { request, .. })
            | Self::InProgress(InProgress { request, .. })
            | Self::Completed(Completed { request, .. })
            | Self::Cancelled(Cancelled { request, .. })
            | Self::Unfulfilled(Unfulfilled { request, .. }) => Some(request),
        }
    }

    /// What was done to find a driver.
    #[must_use]
    pub fn search(&self) -> Option<&Search> {
        match self {
            Self::Unknown | Self::Withdrawn(_) => None,
            Self::Matching(Matching { search, .. })
            | Self::Assigned(Assigned { search, .. })
            | Self::Arrived(Arrived { search, .. })
            | Self::InProgress(InProgress { search, .. })
            | Self::Completed(Completed { search, .. })
            | Self::Cancelled(Cancelled { search, .. })
            | Self::Unfulfilled(Unfulfilled { search, .. }) => Some(search),
        }
    }

    /// Who drives, or drove to the end.
    #[must_use]
    pub fn assignment(&self) -> Option<&Assignment> {
        match self {
            Self::Unknown | Self::Withdrawn(_) | Self::Matching(_) | Self::Unfulfilled(_) => None,
            Self::Assigned(Assigned { assignment, .. })
            | Self::Arrived(Arrived { assignment, .. })
            | Self::InProgress(InProgress { assignment, .. })
            | Self::Completed(Completed { assignment, .. }) => Some(assignment),
            Self::Cancelled(Cancelled { progress, .. }) => progress.assignment(),
        }
    }

    /// Whether a timer of this kind still means something.
    #[must_use]
    pub fn waits_for(&self, kind: TimerKind) -> bool {
        match kind {
            TimerKind::MatchDeadline => matches!(self, Self::Matching(_)),
            TimerKind::OfferLease => match self {
                Self::Matching(matching) => matching.search.open().is_some(),
                Self::Unknown
                | Self::Withdrawn(_)
                | Self::Assigned(_)
                | Self::Arrived(_)
                | Self::InProgress(_)
                | Self::Completed(_)
                | Self::Cancelled(_)
                | Self::Unfulfilled(_) => false,
            },
            TimerKind::PickupWatchdog => matches!(self, Self::Assigned(_)),
            TimerKind::NoShowWait => {
                matches!(self, Self::Arrived(Arrived { arrival, .. }) if !arrival.wait_over)
            }
            TimerKind::RideWatchdog => {
                matches!(self, Self::InProgress(InProgress { stalled: false, .. }))
            }
        }
    }
}
