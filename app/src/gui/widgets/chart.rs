//! Charts over steps: thinned so that every spike stays, smoothed with the raw curve behind, zoomable.

use crate::gui::theme::{Tokens, of, text, tokens};
use eframe::egui::{Align2, Color32, Context, Id, Ui};
use egui_plot::{FilledArea, HoverPosition, Line, LineStyle, MarkerShape, Plot, PlotPoint, Points, Text, VLine};
use peft_plan::zones::{Limits, smoothed};
use std::sync::Arc;

/// How curves are looked at; the same for all charts of a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// 0 to 0.99.
    pub smoothing: f64,
    /// Logarithmic upright axis.
    pub log: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self { smoothing: 0.6, log: false }
    }
}

/// One curve.
pub struct Series<'a> {
    /// Its name.
    pub name: &'a str,
    /// Steps and values.
    pub points: &'a [[f64; 2]],
    /// Place in the order of colours, dashes and markers.
    pub order: usize,
    /// Markers instead of a line.
    pub marks: bool,
}

/// What a chart shows.
pub struct Chart<'a> {
    /// What screen readers and its memory call it.
    pub name: &'a str,
    /// Height in points.
    pub height: f32,
    /// How curves are looked at.
    pub look: Look,
    /// Zones behind the curves.
    pub zones: &'a [Limits],
    /// Steps with a mark, and its word.
    pub flags: &'a [(f64, String)],
    /// Writes a value.
    pub write: fn(f64) -> String,
}

/// Most points of a curve that are handed to the painter.
const DRAWN: usize = 1200;
/// Most points of the edges of zones.
const ZONE_POINTS: usize = 160;

/// `points` in at most `most` points: of each stretch the lowest and the highest stay, so no spike is lost.
pub fn thin(points: &[[f64; 2]], most: usize) -> Vec<[f64; 2]> {
    if points.len() <= most.max(4) {
        return points.iter().copied().filter(|p| p[1].is_finite()).collect();
    }
    let mut kept = Vec::with_capacity(most + 2);
    for stretch in points.chunks(points.len().div_ceil(most / 2)) {
        let finite = || stretch.iter().enumerate().filter(|(_, p)| p[1].is_finite());
        let low = finite().min_by(|a, b| a.1[1].total_cmp(&b.1[1]));
        let high = finite().max_by(|a, b| a.1[1].total_cmp(&b.1[1]));
        let (Some(low), Some(high)) = (low, high) else { continue };
        let (first, second) = if low.0 <= high.0 { (low, high) } else { (high, low) };
        kept.push(*first.1);
        if first.0 != second.0 {
            kept.push(*second.1);
        }
    }
    kept
}

/// The points between two steps, with one more on either side.
fn within(points: &[[f64; 2]], from: f64, to: f64) -> &[[f64; 2]] {
    let begin = points.partition_point(|p| p[0] < from).saturating_sub(1);
    let end = (points.partition_point(|p| p[0] <= to) + 1).min(points.len());
    points.get(begin..end).unwrap_or(&[])
}

/// The lowest and the highest value.
fn extremes(curve: &[[f64; 2]]) -> (f64, f64) {
    let finite = curve.iter().map(|p| p[1]).filter(|value| value.is_finite());
    finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// The span that curves cover upright, with a little air.
fn span(curves: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (low, high) = curves.fold((f64::INFINITY, f64::NEG_INFINITY), |a, b| (a.0.min(b.0), a.1.max(b.1)));
    if low > high {
        return (0.0, 1.0);
    }
    let air = ((high - low) * 0.08).max(high.abs() * 1e-6).max(1e-12);
    (low - air, high + air)
}

/// What tells whether a curve is still the one that was prepared.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Key {
    count: usize,
    ends: [f64; 4],
    smoothing: f64,
    window: (f64, f64),
}

impl Key {
    fn of(points: &[[f64; 2]], smoothing: f64, window: (f64, f64)) -> Self {
        let nothing = [0.0; 2];
        let [a, b] = *points.first().unwrap_or(&nothing);
        let [c, d] = *points.last().unwrap_or(&nothing);
        // Something that is not a number is never the same.
        let ends = [a, b, c, d].map(|value| if value.is_nan() { f64::MAX } else { value });
        Self { count: points.len(), ends, smoothing, window }
    }
}

/// A curve as it is painted: each step faint, and smoothed.
type Prepared = Arc<(Vec<[f64; 2]>, Vec<[f64; 2]>)>;

/// Thin and smooth a curve, or take what was prepared for an earlier frame.
fn prepared(ctx: &Context, id: Id, points: &[[f64; 2]], smoothing: f64, (from, to): (f64, f64)) -> Prepared {
    let key = Key::of(points, smoothing, (from, to));
    let known: Option<(Key, Prepared)> = ctx.data(|data| data.get_temp(id));
    if let Some((of, known)) = known
        && of == key
    {
        return known;
    }
    let faint = thin(within(points, from, to), DRAWN);
    let smooth = if smoothing > 0.0 && points.len() > 2 {
        let values = smoothed(points.iter().map(|p| p[1]), smoothing);
        let whole: Vec<[f64; 2]> = points.iter().zip(values).map(|(p, v)| [p[0], v]).collect();
        thin(within(&whole, from, to), DRAWN)
    } else {
        Vec::new()
    };
    let made = Arc::new((faint, smooth));
    ctx.data_mut(|data| data.insert_temp(id, (key, made.clone())));
    made
}

/// The span of a curve, worked out when it changes.
fn known_span(ctx: &Context, id: Id, points: &[[f64; 2]]) -> (f64, f64) {
    let key = Key::of(points, 0.0, (0.0, 0.0));
    let known: Option<(Key, (f64, f64))> = ctx.data(|data| data.get_temp(id));
    match known {
        Some((of, known)) if of == key => known,
        _ => {
            let made = extremes(points);
            ctx.data_mut(|data| data.insert_temp(id, (key, made)));
            made
        }
    }
}

/// Draw it.
pub fn chart(ui: &mut Ui, chart: &Chart, series: &[Series]) -> eframe::egui::Response {
    let t = of(ui);
    let ctx = ui.ctx().clone();
    let id = |what: &str, s: &Series| ui.scope_id().with((chart.name, s.name, what));
    let ids: Vec<[Id; 2]> = series.iter().map(|s| ["span", "curve"].map(|what| id(what, s))).collect();
    let Chart { name, height, look, zones, flags, write } = *chart;
    let up = move |value: f64| if look.log { value.max(1e-12).log10() } else { value };
    let down = move |value: f64| if look.log { 10_f64.powf(value) } else { value };
    let last = series.iter().filter_map(|s| s.points.last()).map(|p| p[0]).fold(1.0, f64::max);
    let (low, high) = span(series.iter().zip(&ids).map(|(s, ids)| known_span(&ctx, ids[0], s.points)));
    let (low, high) = if look.log { (up(low.max(high * 1e-6)), up(high)) } else { (low, high) };
    let plot = Plot::new(name)
        .height(height)
        .show_background(false)
        .grid_color(tokens::faded(t.border, 0.9))
        .cursor_color(t.text3)
        .include_x(0.0)
        .include_x(last)
        .include_y(low)
        .include_y(high)
        .set_margin_fraction(eframe::egui::vec2(0.01, 0.02))
        .allow_scroll(false)
        .y_axis_min_width(46.0)
        .y_axis_formatter(move |mark, _| write(down(mark.value)))
        .x_axis_formatter(|mark, _| whole(mark.value))
        .label_formatter(move |at: &HoverPosition| match at {
            HoverPosition::NearDataPoint { plot_name, position, .. } => {
                Some(format!("{plot_name}\nstep {:.0}\n{}", position.x, write(down(position.y))))
            }
            HoverPosition::Elsewhere { .. } => None,
        });
    let shown = plot.show(ui, |plot| {
        let bounds = plot.plot_bounds();
        let is_seen = bounds.width() > 0.0 && bounds.width().is_finite();
        let (from, to) = if is_seen { (bounds.min()[0], bounds.max()[0]) } else { (0.0, last) };
        zone_areas(plot, t, zones, (low, high), &up);
        for (s, ids) in series.iter().zip(&ids) {
            let color = t.series[s.order % t.series.len()];
            let smoothing = if s.marks { 0.0 } else { look.smoothing };
            let curve = prepared(&ctx, ids[1], s.points, smoothing, (from, to));
            let (faint, smooth) = &*curve;
            let place = |points: &[[f64; 2]]| -> Vec<[f64; 2]> {
                points.iter().map(|p| [p[0], up(p[1])]).filter(|p| p[1].is_finite()).collect()
            };
            if s.marks {
                let marks = Points::new(s.name, place(faint)).color(color).radius(4.5);
                plot.points(marks.shape(MarkerShape::Diamond));
            } else if smooth.is_empty() {
                plot.line(styled(s, place(faint), color));
            } else {
                let each = Line::new(format!("{} (each step)", s.name), place(faint));
                plot.line(each.color(tokens::faded(color, 0.3)).width(1.0).allow_hover(false));
                plot.line(styled(s, place(smooth), color));
            }
        }
        for (step, word) in flags {
            plot.vline(VLine::new(word, *step).color(tokens::faded(t.warn.fg, 0.8)).style(LineStyle::dashed_dense()));
            let at = PlotPoint::new(*step, high);
            plot.text(Text::new("", at, text::hint(t, format!(" {word}"))).anchor(Align2::LEFT_TOP).allow_hover(false));
        }
    });
    let summary = summary(name, series, write);
    shown.response.widget_info(|| eframe::egui::WidgetInfo::labeled(eframe::egui::Role::Image, true, summary.clone()));
    shown.response
}

fn styled<'a>(series: &Series, points: Vec<[f64; 2]>, color: Color32) -> Line<'a> {
    let style = match series.order % 4 {
        0 => LineStyle::Solid,
        1 => LineStyle::Dashed { length: 8.0 },
        2 => LineStyle::Dotted { spacing: 5.0 },
        _ => LineStyle::Dashed { length: 14.0 },
    };
    Line::new(series.name, points).color(color).width(2.0).style(style)
}

/// Good below, acceptable between, attention above; each with its word.
fn zone_areas(
    plot: &mut egui_plot::PlotUi,
    t: &Tokens,
    zones: &[Limits],
    (low, high): (f64, f64),
    up: &impl Fn(f64) -> f64,
) {
    if zones.len() < 2 {
        return;
    }
    let step = zones.len().div_ceil(ZONE_POINTS).max(1);
    let mut picked: Vec<&Limits> = zones.iter().step_by(step).collect();
    if !zones.len().is_multiple_of(step) || step > 1 {
        picked.extend(zones.last());
    }
    let xs: Vec<f64> = picked.iter().map(|l| l.step).collect();
    let edge =
        |value: fn(&Limits) -> f64| -> Vec<f64> { picked.iter().map(|l| up(value(l)).clamp(low, high)).collect() };
    let (good, acceptable) = (edge(|l| l.good), edge(|l| l.acceptable));
    let flat = |value: f64| vec![value; xs.len()];
    let bands = [(flat(low), good.clone()), (good, acceptable.clone()), (acceptable, flat(high))];
    let words = ["Good", "Acceptable", "Needs attention"];
    for (i, (bottom, top)) in bands.iter().enumerate() {
        let area = FilledArea::new("", &xs, bottom, top).fill_color(t.zones[i]).allow_hover(false);
        plot.add(area);
        let (Some(x), Some(b), Some(u)) = (xs.last(), bottom.last(), top.last()) else { continue };
        // A word needs room.
        if u - b > (high - low) * 0.09 {
            let at = PlotPoint::new(*x, f64::midpoint(*b, *u));
            plot.text(
                Text::new("", at, text::hint(t, format!("{} ", words[i])))
                    .anchor(Align2::RIGHT_CENTER)
                    .allow_hover(false),
            );
        }
    }
}

/// A chart in a sentence, for those who cannot see it.
fn summary(name: &str, series: &[Series], write: fn(f64) -> String) -> String {
    let mut words = vec![name.to_owned()];
    for s in series {
        if let (Some(first), Some(last)) = (s.points.first(), s.points.last()) {
            let way = if last[1] < first[1] { "falling" } else { "rising" };
            words.push(format!("{} {} to {}, {way}", s.name, write(first[1]), write(last[1])));
        }
    }
    words.join(": ")
}

/// A step on an axis.
fn whole(value: f64) -> String {
    if value < 0.0 || value.fract().abs() > 1e-6 { String::new() } else { crate::cli::quantity::count(value as u64) }
}

/// A loss.
pub fn plain(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "–".to_owned(),
        s if s >= 1e6 => format!("{:.1} M", value / 1e6),
        s if s >= 1e4 => format!("{:.0} k", value / 1e3),
        s if s >= 100.0 => format!("{value:.0}"),
        s if s >= 1.0 => format!("{value:.2}"),
        s if s >= 0.01 || s == 0.0 => format!("{value:.3}"),
        // Two digits that mean something, without powers of ten: 0.00060.
        s if s >= 1e-7 => format!("{value:.*}", (1.0 - s.log10().floor()) as usize),
        _ => "under 0.0000001".to_owned(),
    }
}

/// A size.
pub fn sized(value: f64) -> String {
    if value.is_finite() && value >= 0.0 { crate::cli::quantity::bytes(value as u64) } else { "–".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let written = [(6.0e-4, "0.00060"), (0.0123, "0.012"), (0.0, "0.000"), (1.234, "1.23"), (2e-5, "0.000020")];
        for (value, text) in written {
            assert_eq!(plain(value), text);
        }
        assert_eq!(
            (plain(1e-12).as_str(), plain(f64::NAN).as_str(), plain(-0.0005).as_str()),
            ("under 0.0000001", "–", "-0.00050")
        );
    }

    #[test]
    fn thinning_keeps_spikes_and_order_whatever_the_size() {
        let mut line: Vec<[f64; 2]> = (0..100_000).map(|i| [f64::from(i), 1.0]).collect();
        line[54_321][1] = 9.0;
        line[77][1] = -3.0;
        line[500][1] = f64::NAN;
        let kept = thin(&line, 500);
        assert!(kept.len() <= 502 && kept.contains(&[54_321.0, 9.0]) && kept.contains(&[77.0, -3.0]));
        assert!(kept.windows(2).all(|w| w[0][0] < w[1][0]), "in order");
        for n in 0..40 {
            assert!(thin(&line[..n], 4).len() <= n);
        }
    }

    #[test]
    fn the_window_of_a_curve_reaches_one_point_past_its_edges() {
        let line: Vec<[f64; 2]> = (0..10).map(|i| [f64::from(i), 0.0]).collect();
        let seen = within(&line, 3.5, 5.5);
        assert_eq!((seen[0][0], seen[seen.len() - 1][0]), (3.0, 6.0));
        assert!(within(&[], 0.0, 1.0).is_empty());
    }
}
