//! The pictures of one segment. Their colours are those of Okabe and Ito, which people with any colour vision can
//! tell apart; the style sheet replaces them on a dark page. Outcomes differ in form, too.

use std::io;

use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Bucket, Point, Segment, Status, words};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

pub(super) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
pub(super) const ORANGE: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
pub(super) const GREEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
pub(super) const VERMILION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
pub(super) const PURPLE: RGBColor = RGBColor(0xcc, 0x79, 0xa7);
pub(super) const INK: RGBColor = RGBColor(0x1c, 0x25, 0x2d);
pub(super) const MUTED: RGBColor = RGBColor(0x5d, 0x68, 0x73);
pub(super) const GRID: RGBColor = RGBColor(0xdd, 0xe2, 0xe7);
pub(super) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// The largest number that is drawn: the marks of an axis are computed without a check for overflow.
const LARGEST: i64 = 1_000_000_000_000_000;

/// Marks of an axis, at most.
const MARKS: usize = 4;

/// The width of one outcome in a strip.
const CELL: u32 = 20;

/// A picture of a size, with a text in place of it.
pub(super) fn picture(
    (width, height): (u32, u32),
    class: &str,
    label: &str,
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Markup {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
    // Writing to memory does not fail; what could not be drawn is missing.
    let is_drawn = draw(&area).and_then(|()| area.present()).is_ok();
    drop(area);
    // Its first and its last tag are written below, with what people need who do not see it.
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let body = body.trim_end().trim_end_matches("</svg>").replace(">\n", ">");
    html! {
        svg class=(class) role="img" width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } {
            title { (label) }
            @if is_drawn { (PreEscaped(body)) }
        }
    }
}

/// The size of a segment as a line without axes.
pub(super) fn spark(segment: &Segment, buckets: usize) -> Markup {
    let sizes = drawn(segment, buckets);
    let (low, high) = bounds(&sizes);
    let (width, height) = (110, 22);
    let place = |bucket: usize, size: i64| {
        let x = 3.0 + (width - 6) as f64 * bucket as f64 / (buckets.max(2) - 1) as f64;
        let share = (size - low) as f64 / (high - low).max(1) as f64;
        (x.round() as i32, (f64::from(height - 4) - share * f64::from(height - 7)).round() as i32)
    };
    let line: Vec<(i32, i32)> = sizes
        .iter()
        .enumerate()
        .filter_map(|(bucket, size)| Some(place(bucket, (*size)?)))
        .collect();
    let label = format!("from {} to {} members", words::number(low), words::number(high));
    picture((width, height as u32), "spark", &label, |area| {
        if let Some(last) = line.last() {
            area.draw(&Circle::new(*last, 2, BLUE.filled()))?;
        }
        area.draw(&PathElement::new(line, BLUE.stroke_width(1)))
    })
}

/// The sizes of a segment, as they are drawn.
fn drawn(segment: &Segment, buckets: usize) -> Vec<Option<i64>> {
    segment.sizes(buckets).into_iter().map(|size| size.map(|size| size.clamp(0, LARGEST))).collect()
}

/// The smallest and the largest size.
fn bounds(sizes: &[Option<i64>]) -> (i64, i64) {
    let low = sizes.iter().flatten().min().copied().unwrap_or_default();
    (low, sizes.iter().flatten().max().copied().unwrap_or_default())
}

/// The size of a segment over time, and below it who came and who left.
pub(super) fn sizes(segment: &Segment, buckets: usize) -> Markup {
    let sizes = drawn(segment, buckets);
    let (low, high) = bounds(&sizes);
    let label = format!(
        "{}: between {} and {} members; {} came, {} left",
        words::clipped(&segment.name, 80),
        words::number(low),
        words::number(high),
        words::number(segment.came()),
        words::number(segment.left()),
    );
    picture((330, 130), "sizes", &label, |area| {
        let (upper, lower) = area.split_vertically(84);
        let width = buckets.max(1) as f64;
        let room = ((high - low) / 10).max(1);
        let bottom = if low < room { 0 } else { low - room };
        let mut chart = ChartBuilder::on(&upper)
            .margin_top(6)
            .margin_bottom(4)
            .margin_right(6)
            .set_label_area_size(LabelAreaPosition::Left, 44)
            .build_cartesian_2d(0.0..width, bottom..high + room)?;
        let number = |value: &i64| words::short(*value);
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_x_axis()
            .y_labels(MARKS)
            .y_label_formatter(&number)
            .label_style(("sans-serif", 11).into_font().color(&MUTED))
            .axis_style(TRANSPARENT)
            .draw()?;
        let marks =
            plotters::coord::types::RangedCoordi64::from(bottom..high + room).key_points(MARKS);
        let rule = |mark: i64| PathElement::new(vec![(0.0, mark), (width, mark)], GRID);
        chart.draw_series(marks.into_iter().map(rule))?;
        let line: Vec<(f64, i64)> = sizes
            .iter()
            .enumerate()
            .filter_map(|(bucket, size)| Some((bucket as f64 + 0.5, (*size)?)))
            .collect();
        let last = line.last().copied();
        chart.draw_series(LineSeries::new(line, BLUE.stroke_width(2)))?;
        chart.draw_series(last.map(|last| Circle::new(last, 3, BLUE.filled())))?;

        // The first load would make all that follows it small: its bar is cut off.
        let is_first_load = |point: &&Point| point.before == Some(0);
        let most = |count: fn(&Point) -> i64| {
            let later =
                segment.points.iter().filter(|point| !is_first_load(point)).map(count).max();
            later
                .or_else(|| segment.points.iter().map(count).max())
                .unwrap_or_default()
                .clamp(1, LARGEST)
        };
        let (came, left) = (most(|point| point.came), most(|point| point.left));
        let mut chart = ChartBuilder::on(&lower)
            .margin_bottom(3)
            .margin_right(6)
            .set_label_area_size(LabelAreaPosition::Left, 44)
            .build_cartesian_2d(0.0..width, -left..came)?;
        chart.draw_series([PathElement::new(vec![(0.0, 0), (width, 0)], GRID.stroke_width(1))])?;
        let bars = segment.points.iter().flat_map(|point| {
            let at = point.bucket as f64;
            [(point.came.min(came), BLUE), (-point.left.min(left), ORANGE)]
                .into_iter()
                .filter(|(height, _)| *height != 0)
                .map(move |(height, colour)| {
                    Rectangle::new([(at + 0.15, 0), (at + 0.85, height)], colour.filled())
                })
        });
        chart.draw_series(bars)?;
        Ok(())
    })
}

/// How the refreshes of a segment ended, bucket by bucket.
pub(super) fn strip(segment: &Segment, buckets: usize) -> Markup {
    let outcomes = segment.outcomes(buckets);
    let count = |status| outcomes.iter().filter(|outcome| **outcome == Some(status)).count();
    let counts: Vec<String> = [Status::Ok, Status::Waiting, Status::Refused, Status::Failed]
        .into_iter()
        .filter(|status| count(*status) > 0)
        .map(|status| format!("{} {}", count(status), status.as_str()))
        .collect();
    let counts = if counts.is_empty() { "no refresh".to_owned() } else { counts.join(", ") };
    let label = format!("{}: {counts}", words::clipped(&segment.name, 80));
    picture((CELL * buckets.max(1) as u32, CELL), "strip", &label, |area| {
        for (bucket, outcome) in outcomes.iter().enumerate() {
            let x = (CELL * bucket as u32 + CELL / 2) as i32;
            match outcome {
                None => area.draw(&Circle::new((x, 10), 1, GRID.filled()))?,
                Some(status) => mark(area, (x, 10), *status)?,
            }
        }
        Ok(())
    })
}

/// The axis of strips: the begins of some buckets, one of which is the first.
pub(super) fn axis(buckets: &[Bucket]) -> Markup {
    let count = buckets.len().max(1);
    let step = count.div_ceil(5);
    let width = CELL * count as u32;
    picture((width, CELL), "strip axis", "Axis of time", |area| {
        let top = Pos::new(HPos::Left, VPos::Top);
        let style = ("sans-serif", 13).into_font().color(&MUTED).pos(top);
        for (place, bucket) in buckets.iter().enumerate().step_by(step) {
            let x = CELL as i32 * place as i32;
            // Not where it would be cut off.
            if place == 0 || x + 60 <= width as i32 {
                area.draw(&PathElement::new(vec![(x, 0), (x, 18)], GRID))?;
                area.draw(&Text::new(bucket.short.clone(), (x + 5, 4), style.clone()))?;
            }
        }
        Ok(())
    })
}

/// The mark of an outcome, for a legend.
pub(super) fn sign(status: Status) -> Markup {
    picture((14, 16), "sign", status.as_str(), |area| mark(area, (7, 8), status))
}

fn mark(area: &Area<'_>, (x, y): (i32, i32), status: Status) -> Drawn {
    match status {
        Status::Ok => area.draw(&Circle::new((x, y), 4, GREEN.filled())),
        Status::Waiting => area.draw(&Circle::new((x, y), 5, ORANGE.stroke_width(2))),
        Status::Refused => {
            let corners = vec![(x - 6, y + 5), (x + 6, y + 5), (x, y - 6)];
            area.draw(&Polygon::new(corners, PURPLE.filled()))
        }
        Status::Failed | Status::Interrupted => {
            for (dx, dy) in [(5, 5), (5, -5)] {
                let line = vec![(x - dx, y - dy), (x + dx, y + dy)];
                area.draw(&PathElement::new(line, VERMILION.stroke_width(3)))?;
            }
            Ok(())
        }
    }
}
