//! Folds nodes where one can only drive on as before into the segments between junctions, and simplifies the
//! shape of what is left. Travel times and lengths are summed before anything is simplified.

#![expect(clippy::indexing_slicing, reason = "tables of one entry per node or link")]

use common::geo::Point;
use geo::{LineString, SimplifyIdx as _};

use super::map::{Micro, RoadSegment};
use super::plane::Plane;
use super::survey::{Link, SurveyError, nearness};

/// A bend closer than this to the straight line is not drawn.
const SIMPLIFY_M: f64 = 1.0;

/// Junctions and segments of a strongly connected set of links.
pub(super) fn fold(
    points: &[Point],
    links: &[Link],
) -> Result<(Vec<Micro>, Vec<RoadSegment>), SurveyError> {
    let mut incident: Vec<Vec<usize>> = vec![Vec::new(); points.len()];
    for (at, link) in links.iter().enumerate() {
        incident[link.a as usize].push(at);
        incident[link.b as usize].push(at);
    }
    let chains = Chains { links, incident: &incident };
    let mut junctions: Vec<u32> = (0_u32..)
        .take(points.len())
        .filter(|node| !incident[*node as usize].is_empty() && !chains.passes(*node))
        .collect();
    if junctions.is_empty() {
        // One ring and nothing else: it begins where its first link begins.
        junctions.extend(links.first().map(|link| link.a));
    }
    let place = |node: u32| Micro::from(points[node as usize]);
    junctions.sort_by_key(|node| (nearness(place(*node)), *node));
    let mut number: Vec<Option<u32>> = vec![None; points.len()];
    for (rank, node) in (0_u32..).zip(&junctions) {
        number[*node as usize] = Some(rank);
    }
    let mut is_used = vec![false; links.len()];
    let mut segments = Vec::new();
    for junction in &junctions {
        for start in &incident[*junction as usize] {
            if is_used[*start] {
                continue;
            }
            let chain = chains.follow(*junction, *start, &number);
            chain.links.iter().for_each(|link| is_used[*link] = true);
            segments.push(segment(points, links, &chain, &number)?);
        }
    }
    segments.sort_by(|left, right| {
        let key = |s: &RoadSegment| (s.tail, s.head, s.millis, s.decimetres, s.is_oneway, s.class);
        key(left).cmp(&key(right)).then_with(|| left.bends.cmp(&right.bends))
    });
    Ok((junctions.into_iter().map(place).collect(), segments))
}

struct Chains<'a> {
    links: &'a [Link],
    incident: &'a [Vec<usize>],
}

/// Nodes from junction to junction and the links between them.
struct Chain {
    nodes: Vec<u32>,
    links: Vec<usize>,
}

impl Chains<'_> {
    /// Whether all that one can do at a node is to drive on, on the same kind of road and at the
    /// same speed: so a segment has one class, and one speed all along.
    fn passes(&self, node: u32) -> bool {
        let [first, second] = self.incident[node as usize].as_slice() else { return false };
        let (first, second) = (&self.links[*first], &self.links[*second]);
        if first.class != second.class || first.kmh != second.kmh {
            return false;
        }
        match (first.is_oneway(), second.is_oneway()) {
            (false, false) => true,
            (true, true) => first.leaves(node) != second.leaves(node),
            (true, false) | (false, true) => false,
        }
    }

    fn follow(&self, junction: u32, start: usize, number: &[Option<u32>]) -> Chain {
        let mut chain = Chain { nodes: vec![junction], links: vec![start] };
        let (mut at, mut node) = (start, self.links[start].across(junction));
        // Ends at a junction at the latest where it began; a link is passed once.
        while number[node as usize].is_none() {
            chain.nodes.push(node);
            let Some(next) = self.incident[node as usize].iter().find(|link| **link != at) else {
                break;
            };
            at = *next;
            chain.links.push(at);
            node = self.links[at].across(node);
        }
        chain.nodes.push(node);
        chain
    }
}

fn segment(
    points: &[Point],
    links: &[Link],
    chain: &Chain,
    number: &[Option<u32>],
) -> Result<RoadSegment, SurveyError> {
    let mut nodes = chain.nodes.clone();
    let first = &links[chain.links[0]];
    let is_oneway = first.is_oneway();
    let end = |node: Option<&u32>| node.and_then(|n| number[*n as usize]).ok_or(SurveyError::Empty);
    let (tail, head) = (end(nodes.first())?, end(nodes.last())?);
    // A one-way segment runs as its traffic does, any other from the smaller junction.
    if (is_oneway && !first.leaves(nodes[0])) || (!is_oneway && head < tail) {
        nodes.reverse();
    }
    let metres: f64 = chain.links.iter().map(|at| links[*at].metres).sum();
    Ok(RoadSegment {
        tail: end(nodes.first())?,
        head: end(nodes.last())?,
        // Rounded up, so that nothing is faster than it is, and nothing takes no time.
        millis: whole(metres * 3600.0 / f64::from(first.kmh.max(1)))?.max(1),
        decimetres: whole(metres * 10.0)?,
        class: first.class,
        is_oneway,
        bends: bends(points, &nodes),
    })
}

/// The inner nodes that the shape needs.
fn bends(points: &[Point], nodes: &[u32]) -> Vec<Micro> {
    let plane = Plane::around(points[nodes[0] as usize]);
    let shape: LineString<f64> = nodes
        .iter()
        .map(|node| plane.project(points[*node as usize]))
        .map(|xy| (xy.x, xy.y))
        .collect();
    let kept = shape.simplify_idx(SIMPLIFY_M);
    let last = nodes.len() - 1;
    kept.into_iter()
        .filter(|at| *at != 0 && *at != last)
        .map(|at| Micro::from(points[nodes[at] as usize]))
        .collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
fn whole(value: f64) -> Result<u32, SurveyError> {
    let value = value.ceil();
    if (0.0..=f64::from(u32::MAX)).contains(&value) {
        Ok(value as u32)
    } else {
        Err(SurveyError::TooLarge)
    }
}
