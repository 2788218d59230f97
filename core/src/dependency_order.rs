//! The order in which segments are refreshed: a segment that reads another segment's table comes
//! after it.

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;
use petgraph::visit::{Dfs, Reversed};

/// What an item of a run reads.
#[derive(Debug, Clone, Default)]
pub struct Dependencies {
    /// The items that it must come after, by their indexes.
    pub items: Vec<usize>,
    /// Whether it reads the mart, which has all items. It then comes after all items that do not
    /// depend on such an item themselves.
    pub everything: bool,
}

/// A place in the order.
#[derive(Debug, PartialEq, Eq)]
pub struct Placed {
    pub item: usize,
    /// The items of its cycle, including itself; empty if it is in no cycle.
    pub cycle: Vec<usize>,
}

/// Orders items so that each comes after what it reads; otherwise the given order is kept. An item
/// that reads only itself is not a cycle. An item that reads members of a cycle does not belong to
/// it.
pub fn order(reads: &[Dependencies]) -> Vec<Placed> {
    let mut graph = DiGraph::<(), ()>::with_capacity(reads.len(), 0);
    let nodes: Vec<_> = reads.iter().map(|_| graph.add_node(())).collect();
    for (item, read) in reads.iter().enumerate() {
        // The search follows a node's newest edge first.
        for &other in read.items.iter().rev() {
            graph.add_edge(nodes[item], nodes[other], ());
        }
    }

    let mut builds_on_everything = vec![false; reads.len()];
    for (item, _) in reads.iter().enumerate().filter(|(_, read)| read.everything) {
        let mut readers = Dfs::new(Reversed(&graph), nodes[item]);
        while let Some(reader) = readers.next(Reversed(&graph)) {
            builds_on_everything[reader.index()] = true;
        }
    }
    for (item, _) in reads.iter().enumerate().filter(|(_, read)| read.everything) {
        for (other, builds) in builds_on_everything.iter().enumerate().rev() {
            if !builds {
                graph.add_edge(nodes[item], nodes[other], ());
            }
        }
    }

    // The strongly connected components; each comes after those that it reads.
    tarjan_scc(&graph)
        .into_iter()
        .flat_map(|component| {
            let mut items: Vec<_> = component.into_iter().map(|node| node.index()).collect();
            items.sort_unstable();
            let cycle = if items.len() > 1 { items.clone() } else { Vec::new() };
            items.into_iter().map(move |item| Placed { item, cycle: cycle.clone() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(items: &[&[usize]]) -> Vec<Dependencies> {
        items
            .iter()
            .map(|items| Dependencies { items: items.to_vec(), everything: false })
            .collect()
    }

    fn items(reads: &[Dependencies]) -> Vec<usize> {
        order(reads).iter().map(|placed| placed.item).collect()
    }

    #[test]
    fn items_come_after_what_they_read_and_keep_their_order() {
        assert_eq!(items(&reads(&[&[], &[], &[]])), [0, 1, 2]);
        assert_eq!(items(&reads(&[&[2], &[], &[1]])), [1, 2, 0]);
        assert_eq!(items(&reads(&[&[1, 2], &[3], &[3], &[]])), [3, 1, 2, 0]);
        assert_eq!(items(&[]), [0; 0]);
    }

    #[test]
    fn a_cycle_concerns_its_members_only() {
        let placed = order(&reads(&[&[1], &[2], &[1], &[]]));
        let cycle = |item: usize| {
            placed.iter().find(|placed| placed.item == item).map(|placed| placed.cycle.clone())
        };
        assert_eq!(cycle(0), Some(vec![]));
        assert_eq!(cycle(1), Some(vec![1, 2]));
        assert_eq!(cycle(2), Some(vec![1, 2]));
        assert_eq!(cycle(3), Some(vec![]));
    }

    #[test]
    fn an_item_that_reads_itself_is_no_cycle() {
        assert_eq!(order(&reads(&[&[0]])), [Placed { item: 0, cycle: vec![] }]);
    }

    #[test]
    fn an_item_that_reads_everything_comes_before_its_dependents_only() {
        let mut reads = reads(&[&[1], &[], &[], &[]]);
        reads[1].everything = true;
        reads[3].everything = true;
        assert_eq!(items(&reads), [2, 1, 0, 3]);
        assert!(order(&reads).iter().all(|placed| placed.cycle.is_empty()));
    }
}
