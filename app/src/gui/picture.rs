//! A part of the window as a PNG file: what is kept is what was seen.

use super::worker::{Reply, Teller, spawn};
use eframe::egui::{Color32, ColorImage, Context, Rect};
use peft_plan::Fault;
use std::path::PathBuf;

/// Keep `part` of the window in `path`: asked for now, written when the frame was drawn.
pub(super) fn keep(ctx: &Context, path: PathBuf, part: Rect, teller: Teller) {
    let scale = ctx.pixels_per_point();
    let part = part.intersect(ctx.content_rect());
    if !part.is_positive() {
        return;
    }
    ctx.request_screenshot(move |image| {
        spawn("picture", move || {
            let Some(bytes) = png_of(&image.region(&part, Some(scale))) else { return };
            teller.tell(match durable::write_file(&path, &bytes) {
                Ok(()) => Reply::Done(format!("Written: {}", path.display())),
                Err(error) => Reply::Failed((&Fault::io("write", &path, error)).into()),
            });
        });
    });
}

fn png_of(image: &ColorImage) -> Option<Vec<u8>> {
    let [width, height] = image.size;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    let pixels: Vec<u8> = image.pixels.iter().flat_map(Color32::to_srgba_unmultiplied).collect();
    encoder.write_header().ok()?.write_image_data(&pixels).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_png_of_its_pixels() {
        let image = ColorImage::filled([3, 2], Color32::WHITE);
        let bytes = png_of(&image).expect("made");
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
        reader.next_frame(&mut pixels).expect("read");
        assert_eq!(pixels, [255; 24]);
    }
}
