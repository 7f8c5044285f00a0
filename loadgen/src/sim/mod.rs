//! The system in virtual time, from a seed: what real processes cannot be made to do on purpose.
//!
//! The services' own code runs on a simulated log (`jetstream`), in processes that die, stand still
//! and lose messages (`system`, `nemesis`), for people with phones (`phones`). One thread and one
//! seed decide everything (`engine`), so that what fails fails again. First there are faults, then
//! there are none and everything must settle; then the audit of the city looks at all that was
//! stored, charged and promised (`verdict`).

pub mod coverage;
pub mod engine;
pub mod faults;
pub mod jetstream;
pub mod nemesis;
pub mod phones;
#[cfg(feature = "planted")]
mod planted;
pub mod report;
pub mod run;
pub mod system;
pub mod verdict;
pub mod witness;

pub use coverage::Coverage;
pub use faults::{Mishap, Options, Weather, Wire};
pub use report::{SimArgs, print};
pub use run::{Outcome, run};
pub use verdict::Finding;
