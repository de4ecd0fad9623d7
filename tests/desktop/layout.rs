//! No text is cut or painted over another, on any page, at four sizes of the window; and every page is painted, in the
//! dark and in the light, by a painter of our own: no renderer has to be installed.

use crate::paint::{Painter, Picture};
use crate::tour::{self, Stop};
use crate::trial::Window;
use eframe::egui::epaint::ClippedShape;
use eframe::egui::{Color32, Rect, Shape};
use peft_studio::gui::command::Command;
use peft_studio::gui::theme::ThemeChoice;
use std::collections::HashSet;
use std::path::PathBuf;

/// A line of text as it is painted.
struct Painted {
    text: String,
    rect: Rect,
    clip: Rect,
    /// Which text it is a line of.
    of: usize,
}

fn collect(shape: &Shape, clip: Rect, into: &mut Vec<Painted>) {
    match shape {
        Shape::Vec(all) => all.iter().for_each(|shape| collect(shape, clip, into)),
        Shape::Text(text) if text.angle == 0.0 => {
            // What is faded away nearly is not meant to be read: marks of axes that are about to appear.
            let is_faint = text.opacity_factor < 0.5 || text.override_text_color.is_some_and(|color| color.a() < 100);
            let of = into.last().map_or(0, |last| last.of + 1);
            for row in text.galley.rows.iter().filter(|_| !is_faint) {
                let words = row.text();
                if !words.trim().is_empty() {
                    let rect = row.visuals.mesh_bounds.translate(text.pos.to_vec2() + row.pos.to_vec2());
                    into.push(Painted { text: words, rect, clip, of });
                }
            }
        }
        _ => {}
    }
}

/// What is wrong with the texts of a window.
fn faults(shapes: &[ClippedShape], window: Rect) -> Vec<String> {
    let mut texts = Vec::new();
    for ClippedShape { clip_rect, shape, .. } in shapes {
        collect(shape, *clip_rect, &mut texts);
    }
    // Where pages end that are scrolled; what is cut there is seen after scrolling.
    let ends = texts.iter().map(|text| text.clip.bottom()).filter(|end| *end < window.bottom()).fold(0.0, f32::max);
    let mut found = Vec::new();
    for (i, Painted { text: words, rect, clip, of }) in texts.iter().enumerate() {
        let clip = clip.intersect(window);
        let seen = rect.intersect(clip);
        let is_seen = seen.width() > 0.5 && seen.height() > 0.5;
        if is_seen && (rect.left() < clip.left() - 1.5 || rect.right() > clip.right() + 1.5) {
            found.push(format!("cut at a side: `{words}` {rect:?} in {clip:?}"));
        }
        if clip.height() > 8.0
            && clip.height() < 200.0
            && clip.bottom() < ends - 24.0
            && rect.bottom() > clip.bottom() + 2.0
        {
            found.push(format!("cut below: `{words}` {rect:?} in {clip:?}"));
        }
        for other in texts[..i].iter().filter(|other| other.of != *of) {
            let both = seen.intersect(other.rect).intersect(other.clip);
            if both.width() > 2.0 && both.height() > 3.0 {
                found.push(format!("`{words}` {rect:?} over `{}` {:?}", other.text, other.rect));
            }
        }
    }
    found
}

/// Brightness of the pixels, 0 to 255, and how many colours there are.
fn measured(picture: &Picture) -> (f64, usize) {
    let light = |pixel: &Color32| (f64::from(pixel.r()) + f64::from(pixel.g()) + f64::from(pixel.b())) / 3.0;
    let all: f64 = picture.pixels.iter().map(light).sum();
    let colors: HashSet<_> = picture.pixels.iter().map(Color32::to_array).collect();
    (all / picture.pixels.len() as f64, colors.len())
}

#[test]
fn no_text_is_cut_or_over_another_at_any_size_and_every_page_is_painted_dark_and_light() {
    let painter = Painter::default();
    let mut window = Window::painted([1280.0, 800.0], painter.clone());
    let runs = tour::prepare(&mut window);
    let mut found: Vec<String> = Vec::new();
    for size in [[960.0, 600.0], [1280.0, 800.0], [1920.0, 1080.0], [2560.0, 1440.0]] {
        window.harness.set_size(size.into());
        for stop in tour::stops(&runs) {
            stop.go(&mut window);
            let screen = window.harness.ctx.content_rect();
            let all = faults(&window.harness.output().shapes, screen).into_iter();
            // Lines of the log are scrolled sideways.
            let all = all.filter(|fault| !(stop.scrolls_sideways && fault.starts_with("cut at a side")));
            found.extend(all.map(|fault| format!("{} at {}: {fault}", stop.name, size[0])));
        }
    }
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found[..found.len().min(60)].join("\n"));
    window.harness.set_size([960.0, 600.0].into());
    for (theme, is_dark) in [(ThemeChoice::Dark, true), (ThemeChoice::Light, false)] {
        window.send(Command::Theme(theme));
        let mut seen: HashSet<Vec<[u8; 4]>> = HashSet::new();
        let folder = std::env::var_os("PEFT_PICTURES").map(PathBuf::from);
        let is_wanted = |stop: &Stop| folder.is_some() || !stop.name.contains(':') || stop.name == "run: charts";
        for stop in tour::stops(&runs).into_iter().filter(is_wanted) {
            stop.go(&mut window);
            if let Some(folder) = &folder {
                let word = if is_dark { "dark" } else { "light" };
                let name = format!("{}-{word}.png", stop.name.replace([' ', ':'], "-")).to_lowercase();
                crate::pictures::write(
                    &folder.join(name),
                    &painter.paint(&window.harness.ctx, window.harness.output()),
                );
            }
            let picture = painter.paint_small(&window.harness.ctx, window.harness.output());
            let (light, colors) = measured(&picture);
            assert!(colors > 60, "{} is empty: {colors} colours", stop.name);
            assert!(if is_dark { light < 90.0 } else { light > 165.0 }, "{}: {light} in {theme:?}", stop.name);
            let is_new = seen.insert(picture.pixels.iter().map(Color32::to_array).collect());
            assert!(is_new || stop.name.contains(':') || folder.is_some(), "{} looks like another page", stop.name);
        }
    }
}
