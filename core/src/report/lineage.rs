//! What segments read, and who gets them, as a picture: each thing is to the right of what it is made from.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maud::Markup;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::charts::{Area, BLUE, Drawn, GREEN, INK, MUTED, ORANGE, PAPER, picture};
use super::{Report, words};

/// Sizes in the picture.
const BOX: (i32, i32) = (148, 26);
const GAP: (i32, i32) = (58, 10);
const MARGIN: i32 = 6;
/// Characters of a name in a box.
const NAME: usize = 21;
/// Columns that say that a segment leaves out the members of another one.
const LEFT_OUT: [&str; 3] = ["exclude", "is_suppression", "priority_group"];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Node {
    /// segment, table, view, function or consumer.
    pub kind: &'static str,
    pub name: String,
}

pub(super) struct Graph {
    pub nodes: Vec<Node>,
    /// From what is read to what reads it; true: its members are left out.
    pub edges: BTreeSet<(usize, usize, bool)>,
    /// Segments that are in the report and not in the picture.
    pub left_out: usize,
}

fn kind(name: &str) -> &'static str {
    ["segment", "table", "view", "function"]
        .into_iter()
        .find(|kind| *kind == name)
        .unwrap_or("table")
}

/// The graph of the first segments, in the order of the report, as far as there is room for what they read.
pub(super) fn graph(report: &Report, longest: usize) -> Graph {
    let mut by_segment: HashMap<&str, Vec<(Node, Node, bool)>> = HashMap::new();
    for edge in &report.lineage {
        let node = |kind, name: &str| Node { kind, name: name.to_owned() };
        let segment = node("segment", &edge.segment);
        let reads = node(kind(&edge.kind), &edge.reads);
        let edges = by_segment.entry(&edge.segment).or_default();
        match edge.via.as_deref() {
            Some(column) if LEFT_OUT.contains(&column) => edges.push((reads, segment, true)),
            Some(via) => {
                let is_via =
                    |other: &&super::Edge| other.segment == edge.segment && other.reads == via;
                let of =
                    report.lineage.iter().find(is_via).map_or("view", |other| kind(&other.kind));
                let via = node(of, via);
                edges.push((reads, via.clone(), false));
                edges.push((via, segment, false));
            }
            None => edges.push((reads, segment, false)),
        }
    }
    for subscription in &report.subscriptions {
        let segment = Node { kind: "segment", name: subscription.segment.clone() };
        let consumer = Node { kind: "consumer", name: subscription.consumer.clone() };
        by_segment.entry(&subscription.segment).or_default().push((segment, consumer, false));
    }

    let mut places: BTreeMap<Node, usize> = BTreeMap::new();
    let mut nodes = Vec::new();
    let mut edges = BTreeSet::new();
    let mut left_out = 0;
    for segment in &report.segments {
        let own = Node { kind: "segment", name: segment.name.clone() };
        let links = by_segment.remove(segment.name.as_str()).unwrap_or_default();
        let mut wanted: BTreeSet<&Node> =
            links.iter().flat_map(|(from, to, _)| [from, to]).collect();
        wanted.insert(&own);
        let new: Vec<Node> =
            wanted.into_iter().filter(|node| !places.contains_key(node)).cloned().collect();
        if nodes.len() + new.len() > longest {
            left_out += 1;
            continue;
        }
        for node in new {
            places.insert(node.clone(), nodes.len());
            nodes.push(node);
        }
        edges.extend(links.iter().map(|(from, to, is_out)| (places[from], places[to], *is_out)));
    }
    edges.retain(|(from, to, _)| from != to);
    Graph { nodes, edges, left_out }
}

/// The column of each node: one more than that of what it is made from. Of segments that read each other, the one
/// that is looked at first comes first.
fn columns(graph: &Graph) -> Vec<usize> {
    fn column(
        node: usize,
        read: &[Vec<usize>],
        known: &mut [Option<usize>],
        open: &mut [bool],
    ) -> usize {
        if let Some(column) = known[node] {
            return column;
        }
        open[node] = true;
        let mut found = 0;
        for from in &read[node] {
            if !open[*from] {
                found = found.max(column(*from, read, known, open) + 1);
            }
        }
        open[node] = false;
        known[node] = Some(found);
        found
    }
    let count = graph.nodes.len();
    let mut read = vec![Vec::new(); count];
    for (from, to, _) in &graph.edges {
        read[*to].push(*from);
    }
    let (mut known, mut open) = (vec![None; count], vec![false; count]);
    let mut columns: Vec<usize> =
        (0..count).map(|node| column(node, &read, &mut known, &mut open)).collect();
    // Consumers in one column, the last.
    let last = columns.iter().max().copied().unwrap_or_default();
    for (column, node) in columns.iter_mut().zip(&graph.nodes) {
        if node.kind == "consumer" {
            *column = last;
        }
    }
    columns
}

/// The nodes of each column, from the top: each near the middle of what it is connected with.
fn rows(graph: &Graph, columns: &[usize]) -> Vec<Vec<usize>> {
    let count = columns.iter().max().map_or(0, |last| last + 1);
    let mut rows = vec![Vec::new(); count];
    for (node, column) in columns.iter().enumerate() {
        rows[*column].push(node);
    }
    for row in &mut rows {
        row.sort_by_key(|node| &graph.nodes[*node]);
    }
    let mut places = vec![0.0; columns.len()];
    let place = |row: &[usize], places: &mut [f64]| {
        for (place, node) in row.iter().enumerate() {
            places[*node] = (place as f64 + 0.5) / row.len() as f64;
        }
    };
    rows.iter().for_each(|row| place(row, &mut places));
    for sweep in 0..8 {
        let order: Vec<usize> = match sweep % 2 {
            0 => (0..count).collect(),
            _ => (0..count).rev().collect(),
        };
        for column in order {
            let middle = |node: usize| {
                let near = graph.edges.iter().filter_map(|(from, to, _)| match node {
                    _ if *from == node => Some(places[*to]),
                    _ if *to == node => Some(places[*from]),
                    _ => None,
                });
                let near: Vec<f64> = near.collect();
                match near.len() {
                    0 => places[node],
                    many => near.iter().sum::<f64>() / many as f64,
                }
            };
            let mut sorted: Vec<(f64, usize)> =
                rows[column].iter().map(|node| (middle(*node), *node)).collect();
            sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
            rows[column] = sorted.into_iter().map(|(_, node)| node).collect();
            place(&rows[column], &mut places);
        }
    }
    rows
}

pub(super) fn draw(graph: &Graph) -> Markup {
    let rows = rows(graph, &columns(graph));
    let tallest = rows.iter().map(Vec::len).max().unwrap_or_default() as i32;
    let width = 2 * MARGIN + rows.len() as i32 * (BOX.0 + GAP.0) - GAP.0;
    let height = 2 * MARGIN + tallest * (BOX.1 + GAP.1) - GAP.1;
    let mut corners = vec![(0, 0); graph.nodes.len()];
    for (column, row) in rows.iter().enumerate() {
        let free = height - 2 * MARGIN - row.len() as i32 * (BOX.1 + GAP.1) + GAP.1;
        for (place, node) in row.iter().enumerate() {
            let x = MARGIN + column as i32 * (BOX.0 + GAP.0);
            let y = MARGIN + free / 2 + place as i32 * (BOX.1 + GAP.1);
            corners[*node] = (x, y);
        }
    }
    let count = |kind| graph.nodes.iter().filter(|node| node.kind == kind).count() as i64;
    let label = format!(
        "Lineage of {}: {} and {} are drawn, from left to right; the table below says the same",
        words::counted(count("segment"), "segment"),
        words::counted(graph.nodes.len() as i64, "thing"),
        words::counted(graph.edges.len() as i64, "arrow"),
    );
    picture((width.max(1) as u32, height.max(1) as u32), "lineage", &label, |area| {
        for (from, to, is_out) in &graph.edges {
            arrow(area, corners[*from], corners[*to], *is_out)?;
        }
        for (node, corner) in graph.nodes.iter().zip(&corners) {
            name(area, node, *corner)?;
        }
        Ok(())
    })
}

/// A curve from the right of a box to the left of another one.
fn arrow(area: &Area<'_>, from: (i32, i32), to: (i32, i32), is_out: bool) -> Drawn {
    let colour = if is_out { ORANGE } else { MUTED };
    let (start, end) = ((from.0 + BOX.0, from.1 + BOX.1 / 2), (to.0, to.1 + BOX.1 / 2));
    let bend = ((end.0 - start.0).abs() / 2).max(24);
    let at = |step: i32| {
        let t = f64::from(step) / 14.0;
        let weights =
            [(1.0 - t).powi(3), 3.0 * t * (1.0 - t).powi(2), 3.0 * t * t * (1.0 - t), t.powi(3)];
        let along = |points: [i32; 4]| -> i32 {
            let parts = weights.iter().zip(points).map(|(weight, point)| weight * f64::from(point));
            parts.sum::<f64>().round() as i32
        };
        (
            along([start.0, start.0 + bend, end.0 - bend, end.0]),
            along([start.1, start.1, end.1, end.1]),
        )
    };
    area.draw(&PathElement::new((0..=14).map(at).collect::<Vec<_>>(), colour.stroke_width(1)))?;
    let tip = vec![(end.0 - 6, end.1 - 3), (end.0 - 6, end.1 + 3), end];
    area.draw(&Polygon::new(tip, colour.filled()))
}

fn name(area: &Area<'_>, node: &Node, corner: (i32, i32)) -> Drawn {
    let colour = match node.kind {
        "segment" => BLUE,
        "consumer" => GREEN,
        _ => MUTED,
    };
    let opposite = (corner.0 + BOX.0, corner.1 + BOX.1);
    area.draw(&Rectangle::new([corner, opposite], PAPER.filled()))?;
    area.draw(&Rectangle::new([corner, opposite], colour.stroke_width(1)))?;
    let mark = [corner, (corner.0 + 4, opposite.1)];
    area.draw(&Rectangle::new(mark, colour.filled()))?;
    let middle = Pos::new(HPos::Left, VPos::Center);
    let style = ("sans-serif", 12).into_font().color(&INK).pos(middle);
    let text = words::clipped(&node.name, NAME);
    area.draw(&Text::new(text, (corner.0 + 10, corner.1 + BOX.1 / 2), style))
}

#[cfg(test)]
mod tests {
    use super::super::{Edge, Segment, Subscription};
    use super::*;

    fn edge(segment: &str, reads: &str, kind: &str, via: Option<&str>) -> Edge {
        Edge {
            segment: segment.into(),
            reads: reads.into(),
            kind: kind.into(),
            via: via.map(str::to_owned),
        }
    }

    fn report(lineage: Vec<Edge>, segments: &[&str]) -> Report {
        let named = |name: &&str| Segment { name: (*name).to_owned(), ..Segment::default() };
        Report { lineage, segments: segments.iter().map(named).collect(), ..Report::default() }
    }

    #[test]
    fn what_is_read_stands_before_what_reads_it() {
        let mut report = report(
            vec![
                edge("a", "shop.orders", "table", Some("shop.recent")),
                edge("a", "shop.recent", "view", None),
                edge("b", "a", "segment", None),
                edge("b", "no consent", "segment", Some("exclude")),
            ],
            &["a", "b", "no consent"],
        );
        report.subscriptions = vec![Subscription {
            consumer: "mail".into(),
            segment: "a".into(),
            ..Subscription::default()
        }];
        let graph = graph(&report, 60);
        let columns = columns(&graph);
        let at =
            |name: &str| columns[graph.nodes.iter().position(|node| node.name == name).unwrap()];
        assert_eq!(
            ["shop.orders", "shop.recent", "a", "b", "no consent", "mail"].map(at),
            [0, 1, 2, 3, 0, 3]
        );
        assert_eq!(graph.edges.iter().filter(|(.., is_out)| *is_out).count(), 1);
        assert_eq!(graph.left_out, 0);
    }

    #[test]
    fn cycles_and_many_things_are_drawn_as_far_as_there_is_room() {
        let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut lineage: Vec<Edge> =
            names.iter().map(|name| edge(name, "shop.customers", "table", None)).collect();
        lineage.push(edge("s0", "s1", "segment", None));
        lineage.push(edge("s1", "s0", "segment", None));
        lineage.push(edge("s1", "s1", "segment", None));
        let graph = graph(&report(lineage, &names), 60);
        assert_eq!((graph.nodes.len(), graph.left_out), (60, 41));
        assert!(draw(&graph).into_string().matches("<text").count() == 60);
    }
}
