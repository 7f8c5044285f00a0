//! The largest part of a network where every node can be reached from every other, so that no
//! driver is sent where there is no way out. Iterative: a city is deeper than a call stack.

#![expect(clippy::indexing_slicing, reason = "tables of one entry per node, indexed by its nodes")]

use super::survey::Link;

/// For each node, whether it belongs to the largest strongly connected component.
pub(super) fn largest_component(node_count: usize, links: &[Link]) -> Vec<bool> {
    let mut leaving = vec![Vec::new(); node_count];
    let mut entering = vec![Vec::new(); node_count];
    for link in links {
        for (from, to, is_open) in [(link.a, link.b, link.ahead), (link.b, link.a, link.back)] {
            if is_open {
                leaving[from as usize].push(to);
                entering[to as usize].push(from);
            }
        }
    }
    // Kosaraju: finish order going forward, then the components are the trees going backward.
    let mut member = vec![false; node_count];
    let mut assigned = vec![false; node_count];
    let mut largest: Vec<u32> = Vec::new();
    for root in finish_order(&leaving).into_iter().rev() {
        let component = reach(root, &entering, &mut assigned);
        if component.len() > largest.len() {
            largest = component;
        }
    }
    // A lone node is a component too, but no road.
    if largest.len() > 1 {
        for node in largest {
            member[node as usize] = true;
        }
    }
    member
}

/// Whether `node` is a member.
pub(super) fn holds(member: &[bool], node: u32) -> bool {
    member[node as usize]
}

fn finish_order(leaving: &[Vec<u32>]) -> Vec<u32> {
    let mut seen = vec![false; leaving.len()];
    let mut order = Vec::with_capacity(leaving.len());
    for root in (0_u32..).take(leaving.len()) {
        if seen[root as usize] {
            continue;
        }
        seen[root as usize] = true;
        let mut path = vec![(root, 0)];
        while let Some((node, next)) = path.last_mut() {
            match leaving[*node as usize].get(*next) {
                Some(to) => {
                    *next += 1;
                    if !seen[*to as usize] {
                        seen[*to as usize] = true;
                        path.push((*to, 0));
                    }
                }
                None => {
                    order.push(*node);
                    path.pop();
                }
            }
        }
    }
    order
}

fn reach(root: u32, entering: &[Vec<u32>], assigned: &mut [bool]) -> Vec<u32> {
    if assigned[root as usize] {
        return Vec::new();
    }
    assigned[root as usize] = true;
    let mut component = vec![root];
    let mut at = 0;
    while let Some(node) = component.get(at) {
        at += 1;
        for from in &entering[*node as usize] {
            if !assigned[*from as usize] {
                assigned[*from as usize] = true;
                component.push(*from);
            }
        }
    }
    component
}
