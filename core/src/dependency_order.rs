//! The order in which segments are refreshed: a segment that reads another segment's table, or leaves
//! out its members, comes after it. The work grows with the number of items, tables and reads, not with their product.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::rc::Rc;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, Reversed, Walker};

/// An item of a run, with the tables that it reads and the one that it is stored in, and the items that
/// it comes after whatever these are stored in.
#[derive(Debug, Clone)]
pub struct Item<'a, T> {
    pub stored_in: T,
    pub reads: &'a [T],
    pub after: &'a [usize],
    /// Whether it reads the mart, which has all items. It then comes after all items that do not
    /// depend on such an item themselves.
    pub reads_everything: bool,
}

/// A place in the order.
#[derive(Debug, PartialEq, Eq)]
pub struct Placed {
    pub item: usize,
    /// The items of its cycle, including itself. None: it is in no cycle.
    pub cycle: Option<Rc<[usize]>>,
}

/// Orders items so that each comes after what it reads; otherwise the given order is kept. An item
/// that reads only itself is not a cycle. An item that reads members of a cycle does not belong to
/// it.
pub fn order<T: Copy + Eq + Hash>(items: &[Item<'_, T>]) -> Vec<Placed> {
    let graph = graph(items);
    let components = kosaraju_scc(&graph);
    let mut component_of = vec![0; graph.node_count()];
    let mut members: Vec<Vec<usize>> = Vec::with_capacity(components.len());
    for (component, nodes) in components.iter().enumerate() {
        nodes.iter().for_each(|node| component_of[node.index()] = component);
        // The other nodes are tables.
        let mut found: Vec<_> =
            nodes.iter().map(|node| node.index()).filter(|node| *node < items.len()).collect();
        found.sort_unstable();
        members.push(found);
    }

    // A component is placed when all that it reads is: of several, the one with the first item.
    let mut unplaced = vec![0_usize; components.len()];
    let mut readers = vec![Vec::new(); components.len()];
    for edge in graph.raw_edges() {
        let [from, to] = [edge.source(), edge.target()].map(|node| component_of[node.index()]);
        if from != to {
            unplaced[from] += 1;
            readers[to].push(from);
        }
    }
    let entry = |component: usize| Reverse((members[component].first().copied(), component));
    let free = (0..components.len()).filter(|component| unplaced[*component] == 0);
    let mut ready: BinaryHeap<_> = free.map(entry).collect();
    let mut placed = Vec::with_capacity(items.len());
    while let Some(Reverse((_, component))) = ready.pop() {
        let items = &members[component];
        let cycle: Option<Rc<[usize]>> = (items.len() > 1).then(|| items.as_slice().into());
        placed.extend(items.iter().map(|&item| Placed { item, cycle: cycle.clone() }));
        for &reader in &readers[component] {
            unplaced[reader] -= 1;
            if unplaced[reader] == 0 {
                ready.push(entry(reader));
            }
        }
    }
    placed
}

/// The graph of what must be placed before what. The first nodes are the items; an item reads nodes
/// of tables, and these lead to the items that are stored there.
fn graph<T: Copy + Eq + Hash>(items: &[Item<'_, T>]) -> DiGraph<(), ()> {
    let mut graph = DiGraph::with_capacity(2 * items.len(), 2 * items.len());
    let nodes: Vec<_> = items.iter().map(|_| graph.add_node(())).collect();
    let mut tables: HashMap<T, (NodeIndex, usize)> = HashMap::new();
    for (item, node) in items.iter().zip(&nodes) {
        let table = tables.entry(item.stored_in).or_insert_with(|| (graph.add_node(()), 0));
        table.1 += 1;
        graph.add_edge(table.0, *node, ());
    }
    for (item, node) in items.iter().zip(&nodes) {
        for table in item.reads {
            let Some(&(table_node, stored)) = tables.get(table) else { continue };
            // What it stores itself it need not wait for.
            if *table != item.stored_in || stored > 1 {
                graph.add_edge(*node, table_node, ());
            }
        }
        for &other in item.after {
            graph.add_edge(*node, nodes[other], ());
        }
    }

    let reading_all = items.iter().zip(&nodes).filter(|(item, _)| item.reads_everything);
    let reading_all: Vec<_> = reading_all.map(|(_, node)| *node).collect();
    if reading_all.is_empty() {
        return graph;
    }
    let mut builds_on_everything = vec![false; graph.node_count()];
    let mut search = Dfs::empty(&graph);
    search.stack.clone_from(&reading_all);
    for reader in search.iter(Reversed(&graph)) {
        builds_on_everything[reader.index()] = true;
    }
    let everything = graph.add_node(());
    for reader in reading_all {
        graph.add_edge(reader, everything, ());
    }
    for node in nodes.into_iter().filter(|node| !builds_on_everything[node.index()]) {
        graph.add_edge(everything, node, ());
    }
    graph
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each item is stored in the table of its number.
    fn stored<'a>(reads: &[&'a [usize]]) -> Vec<Item<'a, usize>> {
        let item = |(stored_in, reads): (usize, &&'a [usize])| Item {
            stored_in,
            reads,
            after: &[],
            reads_everything: false,
        };
        reads.iter().enumerate().map(item).collect()
    }

    fn placed<T: Copy + Eq + Hash>(items: &[Item<'_, T>]) -> Vec<usize> {
        order(items).iter().map(|placed| placed.item).collect()
    }

    #[test]
    fn items_of_one_table_can_come_after_each_other() {
        let item = |after| Item { stored_in: 0, reads: &[], after, reads_everything: false };
        let items = [item(&[1, 2]), item(&[2]), item(&[])];
        assert_eq!(placed(&items), [2, 1, 0]);
        let cycle = order(&[item(&[1]), item(&[0])]);
        assert_eq!(cycle[0].cycle.as_deref(), Some(&[0, 1][..]));
    }

    #[test]
    fn items_come_after_what_they_read_and_keep_their_order() {
        assert_eq!(placed(&stored(&[&[], &[], &[]])), [0, 1, 2]);
        assert_eq!(placed(&stored(&[&[2], &[], &[1]])), [1, 2, 0]);
        assert_eq!(placed(&stored(&[&[1, 2], &[3], &[3], &[]])), [3, 1, 2, 0]);
        // Nothing is stored in table 9.
        assert_eq!(placed(&stored(&[&[9], &[0, 9]])), [0, 1]);
        assert_eq!(placed::<usize>(&[]), [0; 0]);
    }

    #[test]
    fn a_cycle_concerns_its_members_only() {
        let placed = order(&stored(&[&[1], &[2], &[1], &[]]));
        let cycle = |item: usize| {
            placed
                .iter()
                .find(|placed| placed.item == item)
                .and_then(|placed| placed.cycle.as_deref())
        };
        assert_eq!(cycle(0), None);
        assert_eq!(cycle(1), Some([1, 2].as_slice()));
        assert_eq!(cycle(2), Some([1, 2].as_slice()));
        assert_eq!(cycle(3), None);
    }

    #[test]
    fn an_item_that_reads_itself_is_no_cycle() {
        assert_eq!(order(&stored(&[&[0]])), [Placed { item: 0, cycle: None }]);
    }

    #[test]
    fn items_may_share_a_table() {
        // 0 and 1 are stored in one table, which 0 and 2 read.
        let mut items = stored(&[&[1], &[], &[1]]);
        items[0].stored_in = 1;
        assert_eq!(placed(&items), [1, 0, 2]);
        assert!(order(&items).iter().all(|placed| placed.cycle.is_none()));
        // Now both read it.
        items[1].reads = &[1];
        assert_eq!(order(&items)[0].cycle.as_deref(), Some([0, 1].as_slice()));
    }

    #[test]
    fn an_item_that_reads_everything_comes_before_its_dependents_only() {
        let mut items = stored(&[&[1], &[], &[], &[]]);
        items[1].reads_everything = true;
        items[3].reads_everything = true;
        assert_eq!(placed(&items), [2, 1, 0, 3]);
        assert!(order(&items).iter().all(|placed| placed.cycle.is_none()));
    }

    /// As many items as one role can write into a set, each of which reads the table of all.
    #[test]
    fn many_items_in_one_table_are_ordered() {
        let item = Item { stored_in: 0, reads: &[0], after: &[], reads_everything: false };
        let items = vec![item; 40_000];
        let placed = order(&items);
        assert_eq!(placed.len(), 40_000);
        assert_eq!(placed[0].cycle.as_ref().map(|cycle| cycle.len()), Some(40_000));
        // A chain as long: the search does not recurse.
        let reads: Vec<[usize; 1]> = (1..=40_000).map(|next| [next]).collect();
        let chain: Vec<&[usize]> = reads.iter().map(<[usize; 1]>::as_slice).collect();
        assert_eq!(order(&stored(&chain))[0].item, 39_999);
    }
}
