//! How scarce cars are.

use common::{clock::Timestamp, id::TripId};
use uuid::Uuid;

use super::{
    super::surge::{Demand, Surge, index_cells, neighbourhood, surge_cell},
    at, north,
};

fn demand(count: u128, at: Timestamp) -> Demand {
    let mut demand = Demand::default();
    for trip in 0..count {
        let cell = surge_cell(north(0.0)).unwrap();
        demand.requested(TripId(Uuid::from_u128(trip)), at, cell, at);
    }
    demand
}

fn settled(demand: &Demand, cars: u32) -> u32 {
    let here = surge_cell(north(0.0)).unwrap();
    let mut surge = Surge::default();
    for _ in 0..100 {
        surge.update(demand, |cell| if cell == here { cars } else { 0 });
    }
    surge.percent(here)
}

#[test]
fn more_requests_than_cars_cost_more_in_steps_of_ten_up_to_two_and_a_half() {
    assert_eq!(settled(&demand(8, at(0)), 9), 100);
    assert_eq!(settled(&demand(12, at(0)), 9), 120);
    assert_eq!(settled(&demand(127, at(0)), 99), 130);
    assert_eq!(settled(&demand(90, at(0)), 9), 250);
}

#[test]
fn a_surge_comes_and_goes_slowly() {
    let here = surge_cell(north(0.0)).unwrap();
    let (busy, mut surge) = (demand(90, at(0)), Surge::default());
    surge.update(&busy, |_| 0);
    let first = surge.percent(here);
    assert!((110..=140).contains(&first), "{first}");
    for _ in 0..30 {
        surge.update(&busy, |_| 0);
    }
    assert_eq!(surge.percent(here), 250);
    surge.update(&Demand::default(), |_| 0);
    assert!(surge.percent(here) > 200);
    for _ in 0..60 {
        surge.update(&Demand::default(), |_| 0);
    }
    assert_eq!(surge.percent(here), 100);
}

#[test]
fn a_request_counts_once_and_for_five_minutes() {
    let cell = surge_cell(north(0.0)).unwrap();
    let trip = TripId(Uuid::from_u128(1));
    let mut demand = Demand::default();
    demand.requested(trip, at(0), cell, at(0));
    demand.requested(trip, at(0), cell, at(1));
    assert_eq!(demand.in_cell(cell), 1);
    demand.forget_before(at(300));
    assert_eq!(demand.in_cell(cell), 1);
    demand.forget_before(at(301));
    assert_eq!((demand.in_cell(cell), demand.cells().count()), (0, 0));
    demand.requested(TripId(Uuid::from_u128(2)), at(0), cell, at(400));
    assert_eq!(demand.in_cell(cell), 0);
}

#[test]
fn a_surge_cell_is_made_of_seven_cells_of_the_index() {
    let cell = surge_cell(north(0.0)).unwrap();
    assert_eq!(index_cells(cell).count(), 7);
    assert_eq!(neighbourhood(cell).len(), 7);
}
