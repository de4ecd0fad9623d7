//! Our icon set: the stroked SVG files of `icons/`, read once and painted as lines, sharp at every size.
//!
//! The files use what they need of SVG: `path` with `M L H V C Z` in capital or small letters, `circle` and `rect`.

use eframe::egui::{Color32, Painter, Pos2, Rect, Shape, Stroke, epaint::PathShape, pos2, vec2};
use std::sync::OnceLock;

macro_rules! icons {
    ($($name:ident = $file:literal),* $(,)?) => {
        /// An icon.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "a name says what its picture shows")]
        pub enum Icon { $($name),* }

        const FILES: &[(Icon, &str)] = &[
            $((Icon::$name, include_str!(concat!("../../../../icons/", $file, ".svg")))),*
        ];
    };
}

icons! {
    ArrowLeft = "arrow-left", ArrowRight = "arrow-right", Box = "box", Camera = "camera", Chart = "chart",
    Chat = "chat", Check = "check", ChevronDown = "chevron-down", ChevronRight = "chevron-right", Clock = "clock",
    Code = "code", Compare = "compare", Copy = "copy", Cross = "cross", Database = "database",
    Download = "download", Feather = "feather", File = "file", Flag = "flag", Folder = "folder", Gear = "gear",
    Help = "help", Home = "home", Info = "info", Lines = "lines", List = "list", Person = "person", Pause = "pause",
    Play = "play", Plus = "plus", Refresh = "refresh", Search = "search", Send = "send", Sliders = "sliders",
    Spark = "spark", Star = "star", Stop = "stop", Tag = "tag", Trash = "trash", Upload = "upload",
    Warning = "warning", Book = "book", Braces = "braces", Globe = "globe", Chip = "chip", Pulse = "pulse",
}

/// Side of the square in which the files are drawn.
const SIDE: f32 = 24.0;
/// Straight pieces of a curve.
const PIECES: usize = 10;

/// One line of an icon.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    points: Vec<Pos2>,
    is_closed: bool,
}

impl Icon {
    /// Paint in the middle of `rect`, `size` points large.
    pub fn paint(self, painter: &Painter, rect: Rect, size: f32, color: Color32) {
        let scale = size / SIDE;
        let origin = rect.center() - vec2(size, size) / 2.0;
        let stroke = Stroke::new((1.6 * scale).max(1.2), color);
        for line in &drawn()[self as usize] {
            let points = line.points.iter().map(|p| origin + p.to_vec2() * scale).collect();
            painter.add(Shape::Path(PathShape {
                points,
                closed: line.is_closed,
                fill: super::tokens::NOTHING,
                stroke: stroke.into(),
            }));
        }
    }
}

fn drawn() -> &'static [Vec<Line>] {
    static DRAWN: OnceLock<Vec<Vec<Line>>> = OnceLock::new();
    DRAWN.get_or_init(|| FILES.iter().map(|(_, svg)| lines_of(svg)).collect())
}

/// The lines of a file; what it does not understand is left out.
fn lines_of(svg: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for element in svg.split('<').skip(1) {
        let name = element.split([' ', '/', '>']).next().unwrap_or_default();
        let number = |key| attribute(element, key).and_then(|text| text.parse::<f32>().ok()).unwrap_or(0.0);
        match name {
            "path" => lines.extend(path(attribute(element, "d").unwrap_or_default())),
            "circle" => lines.push(circle(pos2(number("cx"), number("cy")), number("r"))),
            "rect" => {
                let at = Rect::from_min_size(pos2(number("x"), number("y")), vec2(number("width"), number("height")));
                lines.push(rounded(at, number("rx")));
            }
            _ => {}
        }
    }
    lines
}

fn attribute<'a>(element: &'a str, key: &str) -> Option<&'a str> {
    let rest = element.split_once(&format!(" {key}=\""))?.1;
    rest.split_once('"').map(|(value, _)| value)
}

fn arc(center: Pos2, radius: f32, from: f32, to: f32, pieces: usize) -> impl Iterator<Item = Pos2> {
    (0..=pieces).map(move |i| {
        let angle = from + (to - from) * i as f32 / pieces as f32;
        center + radius * vec2(angle.cos(), angle.sin())
    })
}

fn circle(center: Pos2, radius: f32) -> Line {
    let mut points: Vec<Pos2> = arc(center, radius, 0.0, std::f32::consts::TAU, 3 * PIECES).collect();
    points.pop();
    Line { points, is_closed: true }
}

fn rounded(at: Rect, radius: f32) -> Line {
    use std::f32::consts::FRAC_PI_2 as QUARTER;
    let inner = at.shrink(radius);
    let corners =
        [(inner.right_top(), 3.0), (inner.right_bottom(), 0.0), (inner.left_bottom(), 1.0), (inner.left_top(), 2.0)];
    let corner = |(center, turn): (Pos2, f32)| arc(center, radius, turn * QUARTER, (turn + 1.0) * QUARTER, 4);
    Line { points: corners.into_iter().flat_map(corner).collect(), is_closed: true }
}

/// Numbers and letters of a path.
fn words(d: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut number = String::new();
    for c in d.chars() {
        let begins = c.is_ascii_alphabetic() || c.is_whitespace() || c == ',' || (c == '-' && !number.is_empty());
        if begins && !number.is_empty() {
            words.push(std::mem::take(&mut number));
        }
        if c.is_ascii_alphabetic() {
            words.push(c.to_string());
        } else if !(c.is_whitespace() || c == ',') {
            number.push(c);
        }
    }
    if !number.is_empty() {
        words.push(number);
    }
    words
}

fn path(d: &str) -> Vec<Line> {
    let words = words(d);
    let mut lines: Vec<Line> = Vec::new();
    let mut at = pos2(0.0, 0.0);
    let mut command = 'M';
    let mut i = 0;
    while i < words.len() {
        if let Some(letter) = words[i].chars().next().filter(char::is_ascii_alphabetic) {
            command = letter;
            i += 1;
            if command.eq_ignore_ascii_case(&'z') {
                if let Some(line) = lines.last_mut() {
                    line.is_closed = true;
                    at = line.points.first().copied().unwrap_or(at);
                }
                continue;
            }
        }
        let base = if command.is_ascii_lowercase() { at.to_vec2() } else { vec2(0.0, 0.0) };
        let number = |k: usize| words.get(i + k).and_then(|word| word.parse::<f32>().ok()).unwrap_or(0.0);
        let point = |k: usize| pos2(number(k), number(k + 1)) + base;
        let taken = match command.to_ascii_uppercase() {
            'M' => {
                at = point(0);
                lines.push(Line { points: vec![at], is_closed: false });
                command = if command == 'm' { 'l' } else { 'L' };
                2
            }
            'H' => {
                at.x = number(0) + base.x;
                1
            }
            'V' => {
                at.y = number(0) + base.y;
                1
            }
            'C' => {
                let (from, a, b, to) = (at, point(0), point(2), point(4));
                let curve = (1..PIECES).map(|k| {
                    let t = k as f32 / PIECES as f32;
                    let u = 1.0 - t;
                    let weigh = |p: Pos2, w: f32| p.to_vec2() * w;
                    let sum = weigh(from, u * u * u)
                        + weigh(a, 3.0 * u * u * t)
                        + weigh(b, 3.0 * u * t * t)
                        + weigh(to, t * t * t);
                    sum.to_pos2()
                });
                if let Some(line) = lines.last_mut() {
                    line.points.extend(curve);
                }
                at = to;
                6
            }
            _ => {
                at = point(0);
                2
            }
        };
        if let Some(line) = lines.last_mut()
            && line.points.last() != Some(&at)
        {
            line.points.push(at);
        }
        i += taken;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_icon_is_drawn_inside_its_square() {
        for (icon, svg) in FILES {
            let lines = lines_of(svg);
            assert!(!lines.is_empty(), "{icon:?} is empty");
            for point in lines.iter().flat_map(|line| &line.points) {
                assert!((0.5..=23.5).contains(&point.x) && (0.5..=23.5).contains(&point.y), "{icon:?}: {point:?}");
            }
        }
    }

    #[test]
    fn paths_are_read_as_svg_says() {
        let lines = path("M1 2h3v-1l-3,0z M5-6L7 8");
        assert_eq!(lines[0].points, [pos2(1.0, 2.0), pos2(4.0, 2.0), pos2(4.0, 1.0), pos2(1.0, 1.0)]);
        assert!(lines[0].is_closed && !lines[1].is_closed);
        assert_eq!(lines[1].points, [pos2(5.0, -6.0), pos2(7.0, 8.0)]);
    }
}
