//! Charts over steps: thinned so that every spike stays, smoothed with the raw curve behind, zoomable.

use super::curve::Kept;
use crate::gui::theme::{Tokens, of, text, tokens};
use eframe::egui::{Align2, Color32, Context, Id, Ui};
use egui_plot::{FilledArea, HoverPosition, Line, LineStyle, MarkerShape, Plot, PlotPoint, Points, Text, VLine};
use peft_plan::zones::Limits;
use std::sync::{Arc, Mutex, PoisonError};

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

/// Most points of the edges of zones.
const ZONE_POINTS: usize = 160;

/// The span that curves cover upright, with a little air.
fn span(curves: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (low, high) = curves.fold((f64::INFINITY, f64::NEG_INFINITY), |a, b| (a.0.min(b.0), a.1.max(b.1)));
    if low > high {
        return (0.0, 1.0);
    }
    let air = ((high - low) * 0.08).max(high.abs() * 1e-6).max(1e-12);
    (low - air, high + air)
}

/// Bring what is kept of a curve up to date, and look at it.
fn with_kept<T>(ctx: &Context, id: Id, series: &Series, look: Look, read: impl FnOnce(&mut Kept) -> T) -> T {
    let smoothing = if series.marks { 0.0 } else { look.smoothing };
    let kept: Arc<Mutex<Kept>> = ctx.data_mut(|data| data.get_temp_mut_or_default::<Arc<Mutex<Kept>>>(id).clone());
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.follow(series.points, smoothing);
    read(&mut kept)
}

/// Draw it.
pub fn chart(ui: &mut Ui, chart: &Chart, series: &[Series]) -> eframe::egui::Response {
    let t = of(ui);
    let ctx = ui.ctx().clone();
    let ids: Vec<Id> = series.iter().map(|s| ui.scope_id().with((chart.name, s.name))).collect();
    let Chart { name, height, look, zones, flags, write } = *chart;
    let up = move |value: f64| if look.log { value.max(1e-12).log10() } else { value };
    let down = move |value: f64| if look.log { 10_f64.powf(value) } else { value };
    let last = series.iter().filter_map(|s| s.points.last()).map(|p| p[0]).fold(1.0, f64::max);
    let (low, high) =
        span(series.iter().zip(&ids).filter_map(|(s, id)| with_kept(&ctx, *id, s, look, |kept| kept.span())));
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
        for (s, id) in series.iter().zip(&ids) {
            let color = t.series[s.order % t.series.len()];
            let (faint, smooth) = with_kept(&ctx, *id, s, look, |kept| kept.painted(s.points, (from, to)));
            let place = |mut points: Vec<[f64; 2]>| -> Vec<[f64; 2]> {
                if look.log {
                    for point in &mut points {
                        point[1] = up(point[1]);
                    }
                }
                points
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
        let area = FilledArea::new("", &xs, bottom, top).fill_color(tokens::faded(t.zones[i], 0.75)).allow_hover(false);
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
}
