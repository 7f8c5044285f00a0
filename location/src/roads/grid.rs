//! Which road is nearest: road pieces in square cells, searched ring by ring from the middle.

#![expect(clippy::indexing_slicing, reason = "cells and pieces are numbered here, when built")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "cell numbers are whole, clamped to the grid, and bounded by CELLS_MAX"
)]

use super::plane::Xy;

/// A few streets wide: small enough that a cell holds few pieces.
const CELL_M: f64 = 100.0;
/// A country gets wider cells instead of more.
const CELLS_MAX: f64 = 4e6;

/// A straight piece of a segment's shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) segment: u32,
    /// Index of the piece's first point among all shape points.
    pub(super) start: u32,
}

/// The nearest place on any road.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nearest {
    pub(super) piece: Piece,
    /// How far along the piece, 0 to 1.
    pub(super) along: f64,
    pub(super) distance: f64,
}

#[derive(Debug)]
pub(super) struct Grid {
    west: f64,
    south: f64,
    cell_m: f64,
    columns: i64,
    rows: i64,
    /// For each cell, where its pieces begin; one entry more than there are cells.
    first: Vec<u32>,
    pieces: Vec<Piece>,
}

impl Grid {
    pub(super) fn new(shape: &[Xy], all: &[Piece]) -> Self {
        let lowest = |axis: fn(&Xy) -> f64| shape.iter().map(axis).fold(f64::INFINITY, f64::min);
        let highest =
            |axis: fn(&Xy) -> f64| shape.iter().map(axis).fold(f64::NEG_INFINITY, f64::max);
        let (west, south) = (lowest(|xy| xy.x), lowest(|xy| xy.y));
        let width = (highest(|xy| xy.x) - west).max(0.0);
        let height = (highest(|xy| xy.y) - south).max(0.0);
        let cell_m =
            CELL_M.max((width * height / CELLS_MAX).sqrt()).max(width.max(height) / CELLS_MAX);
        let columns = (width / cell_m) as i64 + 1;
        let rows = (height / cell_m) as i64 + 1;
        let mut grid = Self { west, south, cell_m, columns, rows, first: vec![], pieces: vec![] };
        let mut placed: Vec<(u32, u32)> = Vec::new();
        for (at, piece) in (0_u32..).zip(all) {
            let (from, to) = (shape[piece.start as usize], shape[piece.start as usize + 1]);
            let (column_a, row_a) = grid.cell_of(from);
            let (column_b, row_b) = grid.cell_of(to);
            for row in row_a.min(row_b)..=row_a.max(row_b) {
                for column in column_a.min(column_b)..=column_a.max(column_b) {
                    placed.extend(grid.index(column, row).map(|cell| (cell as u32, at)));
                }
            }
        }
        placed.sort_unstable();
        let mut count = vec![0_u32; (columns * rows) as usize + 1];
        placed.iter().for_each(|(cell, _)| count[*cell as usize + 1] += 1);
        grid.first = count
            .iter()
            .scan(0, |sum, count| {
                *sum += count;
                Some(*sum)
            })
            .collect();
        grid.pieces = placed.into_iter().map(|(_, at)| all[at as usize]).collect();
        grid
    }

    /// The nearest place within `limit_m` of `from`; of equally near ones the first.
    pub(super) fn nearest(&self, shape: &[Xy], from: Xy, limit_m: f64) -> Option<Nearest> {
        let (column, row) = self.cell_of(from);
        // To the nearest edge of the middle cell; what lies outside a ring is farther by its width.
        let inset = |metres: f64| {
            let within = metres.rem_euclid(self.cell_m);
            within.min(self.cell_m - within)
        };
        let to_edge = inset(from.x - self.west).min(inset(from.y - self.south));
        let mut best: Option<Nearest> = None;
        let mut reach_squared = limit_m * limit_m;
        for ring in 0..=((limit_m / self.cell_m).ceil() as i64) {
            let at_least = to_edge + (ring - 1) as f64 * self.cell_m;
            if ring > 0 && reach_squared < at_least * at_least {
                break;
            }
            for y in (row - ring)..=(row + ring) {
                let is_edge = (y - row).abs() == ring;
                let step = if is_edge { 1 } else { 2 * ring };
                for x in ((column - ring)..=(column + ring)).step_by(step as usize) {
                    for piece in self.index(x, y).map_or(&[][..], |cell| self.pieces_in(cell)) {
                        let start = piece.start as usize;
                        let (along, squared) = from.nearest_on(shape[start], shape[start + 1]);
                        if squared < reach_squared {
                            reach_squared = squared;
                            best = Some(Nearest { piece: *piece, along, distance: squared.sqrt() });
                        }
                    }
                }
            }
        }
        best
    }

    fn cell_of(&self, place: Xy) -> (i64, i64) {
        // Saturates for what is far away, and stays clear of overflow when rings are added.
        let cell = |metres: f64| (metres / self.cell_m).floor().clamp(-1e9, 1e9) as i64;
        (cell(place.x - self.west), cell(place.y - self.south))
    }

    fn index(&self, column: i64, row: i64) -> Option<usize> {
        ((0..self.columns).contains(&column) && (0..self.rows).contains(&row))
            .then(|| (row * self.columns + column) as usize)
    }

    fn pieces_in(&self, cell: usize) -> &[Piece] {
        &self.pieces[self.first[cell] as usize..self.first[cell + 1] as usize]
    }
}
