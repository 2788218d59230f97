//! In which order segments are refreshed: one that reads another's table comes after it.

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

/// What an item of a run reads: the numbers of the items it must come after.
pub type Reads = Vec<usize>;

/// A place in the order.
#[derive(Debug, PartialEq, Eq)]
pub struct Placed {
    pub item: usize,
    /// The items that read each other, this one among them; empty where it is in no cycle.
    pub cycle: Vec<usize>,
}

/// Puts items into an order in which each comes after what it reads. Otherwise their order stays.
/// An item that reads itself is in no cycle; one that reads members of a cycle is not in it.
pub fn order(reads: &[Reads]) -> Vec<Placed> {
    let mut graph = DiGraph::<(), ()>::with_capacity(reads.len(), 0);
    let nodes: Vec<_> = reads.iter().map(|_| graph.add_node(())).collect();
    for (item, read) in reads.iter().enumerate() {
        // The newest edge is followed first.
        for &other in read.iter().rev() {
            graph.add_edge(nodes[item], nodes[other], ());
        }
    }
    // Strongly connected components, each after those it reads.
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

    fn items(reads: &[Reads]) -> Vec<usize> {
        order(reads).iter().map(|placed| placed.item).collect()
    }

    #[test]
    fn what_is_read_comes_first_and_the_rest_stays() {
        assert_eq!(items(&[vec![], vec![], vec![]]), [0, 1, 2]);
        assert_eq!(items(&[vec![2], vec![], vec![1]]), [1, 2, 0]);
        assert_eq!(items(&[vec![1, 2], vec![3], vec![3], vec![]]), [3, 1, 2, 0]);
        assert_eq!(items(&[]), [0; 0]);
    }

    #[test]
    fn a_cycle_concerns_its_members_only() {
        let placed = order(&[vec![1], vec![2], vec![1], vec![]]);
        let cycle = |item: usize| {
            placed.iter().find(|placed| placed.item == item).map(|placed| placed.cycle.clone())
        };
        assert_eq!(cycle(0), Some(vec![]));
        assert_eq!(cycle(1), Some(vec![1, 2]));
        assert_eq!(cycle(2), Some(vec![1, 2]));
        assert_eq!(cycle(3), Some(vec![]));
    }

    #[test]
    fn reading_oneself_is_no_cycle() {
        assert_eq!(order(&[vec![0]]), [Placed { item: 0, cycle: vec![] }]);
    }
}
