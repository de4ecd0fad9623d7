//! Paints what egui draws without any graphics card: textured triangles, blended in order.

use eframe::egui::{self, ClippedPrimitive, Color32, ImageData, TextureId, TexturesDelta, epaint::Primitive};
use egui_kittest::TestRenderer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A picture of premultiplied colours.
#[derive(Clone, Default)]
pub(crate) struct Picture {
    /// Pixels of a row.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
    /// Row after row.
    pub(crate) pixels: Vec<Color32>,
}

/// Keeps textures; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Painter(Arc<Mutex<HashMap<TextureId, Picture>>>);

impl TestRenderer for Painter {
    fn handle_delta(&mut self, delta: &mut TexturesDelta) {
        let mut textures = self.0.lock().expect("nobody panics while holding it");
        for (id, change) in
            delta.set.drain().flat_map(|(id, changes)| changes.into_iter().map(move |change| (id, change)))
        {
            let ImageData::Color(image) = &change.image;
            let [width, height] = image.size;
            match change.pos {
                None => {
                    textures.insert(id, Picture { width, height, pixels: image.pixels.clone() });
                }
                Some([x, y]) => {
                    let Some(texture) = textures.get_mut(&id) else { continue };
                    for row in 0..height {
                        let to = (y + row) * texture.width + x;
                        texture.pixels[to..to + width].copy_from_slice(&image.pixels[row * width..(row + 1) * width]);
                    }
                }
            }
        }
        for id in delta.free.drain() {
            textures.remove(&id);
        }
    }
}

impl Painter {
    /// What a window shows.
    pub(crate) fn paint(&self, ctx: &egui::Context, output: &egui::FullOutput) -> Picture {
        self.paint_at(ctx, output, output.pixels_per_point)
    }

    /// The same at half the size, which takes a quarter of the time.
    pub(crate) fn paint_small(&self, ctx: &egui::Context, output: &egui::FullOutput) -> Picture {
        self.paint_at(ctx, output, output.pixels_per_point / 2.0)
    }

    fn paint_at(&self, ctx: &egui::Context, output: &egui::FullOutput, scale: f32) -> Picture {
        let size = ctx.content_rect().size() * scale;
        let (width, height) = (size.x.round() as usize, size.y.round() as usize);
        let mut picture = Picture { width, height, pixels: vec![Color32::BLACK; width * height] };
        let textures = self.0.lock().expect("nobody panics while holding it");
        for ClippedPrimitive { clip_rect, primitive } in ctx.tessellate(output.shapes.clone(), output.pixels_per_point)
        {
            let Primitive::Mesh(mesh) = primitive else { continue };
            let Some(texture) = textures.get(&mesh.texture_id) else { continue };
            let clip = egui::Rect::from_min_max(
                (clip_rect.min.to_vec2() * scale).to_pos2(),
                (clip_rect.max.to_vec2() * scale).to_pos2(),
            );
            for corners in mesh.indices.chunks_exact(3) {
                let corner = |i: usize| mesh.vertices[corners[i] as usize];
                triangle(&mut picture, texture, clip, scale, [corner(0), corner(1), corner(2)]);
            }
        }
        picture
    }
}

fn triangle(picture: &mut Picture, texture: &Picture, clip: egui::Rect, scale: f32, v: [egui::epaint::Vertex; 3]) {
    let p = v.map(|v| v.pos * scale);
    let area = (p[1] - p[0]).x * (p[2] - p[0]).y - (p[1] - p[0]).y * (p[2] - p[0]).x;
    if area == 0.0 || !area.is_finite() {
        return;
    }
    let low = |f: fn(&egui::Pos2) -> f32, edge: f32| p.iter().map(f).fold(f32::INFINITY, f32::min).max(edge).max(0.0);
    let high = |f: fn(&egui::Pos2) -> f32, edge: f32| p.iter().map(f).fold(f32::NEG_INFINITY, f32::max).min(edge);
    let (x0, y0) = (low(|p| p.x, clip.min.x).floor() as usize, low(|p| p.y, clip.min.y).floor() as usize);
    let x1 = (high(|p| p.x, clip.max.x).ceil().max(0.0) as usize).min(picture.width);
    let y1 = (high(|p| p.y, clip.max.y).ceil().max(0.0) as usize).min(picture.height);
    let colors = v.map(|v| v.color.to_array().map(f32::from));
    for y in y0..y1 {
        for x in x0..x1 {
            let at = egui::pos2(x as f32 + 0.5, y as f32 + 0.5);
            if !clip.contains(at) {
                continue;
            }
            let edge = |a: egui::Pos2, b: egui::Pos2| ((b - a).x * (at - a).y - (b - a).y * (at - a).x) / area;
            let w = [edge(p[1], p[2]), edge(p[2], p[0]), edge(p[0], p[1])];
            if w.iter().any(|w| *w < 0.0) {
                continue;
            }
            let mix = |value: [f32; 3]| value[0] * w[0] + value[1] * w[1] + value[2] * w[2];
            let texel = sample(texture, mix([0, 1, 2].map(|i| v[i].uv.x)), mix([0, 1, 2].map(|i| v[i].uv.y)));
            let over = [0, 1, 2, 3].map(|c| mix([0, 1, 2].map(|i| colors[i][c])) * texel[c] / 255.0);
            let under = &mut picture.pixels[y * picture.width + x];
            let rest = 1.0 - over[3] / 255.0;
            let below = under.to_array().map(f32::from);
            let [r, g, b, _] = [0, 1, 2, 3].map(|c| (over[c] + below[c] * rest).round().clamp(0.0, 255.0) as u8);
            *under = Color32::from_rgb(r, g, b);
        }
    }
}

/// The texture between its pixels.
fn sample(texture: &Picture, u: f32, v: f32) -> [f32; 4] {
    let (x, y) = (u * texture.width as f32 - 0.5, v * texture.height as f32 - 0.5);
    let (fx, fy) = (x - x.floor(), y - y.floor());
    let pixel = |dx: f32, dy: f32| {
        let x = ((x.floor() + dx).max(0.0) as usize).min(texture.width.saturating_sub(1));
        let y = ((y.floor() + dy).max(0.0) as usize).min(texture.height.saturating_sub(1));
        texture.pixels[y * texture.width + x].to_array().map(f32::from)
    };
    let (a, b, c, d) = (pixel(0.0, 0.0), pixel(1.0, 0.0), pixel(0.0, 1.0), pixel(1.0, 1.0));
    [0, 1, 2, 3].map(|i| (a[i] * (1.0 - fx) + b[i] * fx) * (1.0 - fy) + (c[i] * (1.0 - fx) + d[i] * fx) * fy)
}
