//! The proxies without a broker: frames, their kinds, chance and counts.

mod chance;
mod classes;
mod frames;
