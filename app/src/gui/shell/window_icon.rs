//! The icon of the window, drawn as `icons/peft-studio.svg` describes it: rounded squares, nothing more.

use eframe::egui::IconData;

const SIDE: usize = 64;

/// Left, top, width, height, corner and colour: the rectangles of the file.
const PARTS: [([f32; 5], [u8; 3]); 5] = [
    ([0.0, 0.0, 64.0, 64.0, 14.0], [0x14, 0x21, 0x3d]),
    ([22.0, 22.0, 32.0, 32.0, 4.0], [0x3d, 0x5a, 0x80]),
    ([10.0, 22.0, 7.0, 32.0, 3.0], [0xff, 0xb7, 0x03]),
    ([22.0, 10.0, 32.0, 7.0, 3.0], [0xff, 0xb7, 0x03]),
    ([10.0, 10.0, 7.0, 7.0, 3.5], [0xfb, 0x85, 0x00]),
];

/// Draw it.
pub fn icon() -> IconData {
    let mut rgba = vec![0; SIDE * SIDE * 4];
    for (index, pixel) in rgba.chunks_exact_mut(4).enumerate() {
        let at = [(index % SIDE) as f32 + 0.5, (index / SIDE) as f32 + 0.5];
        for (shape, color) in &PARTS {
            let cover = (0.5 - distance(at, *shape)).clamp(0.0, 1.0);
            for (byte, part) in pixel.iter_mut().zip(color) {
                *byte = (f32::from(*byte) * (1.0 - cover) + f32::from(*part) * cover).round() as u8;
            }
            pixel[3] = (f32::from(pixel[3]).max(255.0 * cover)) as u8;
        }
    }
    IconData { rgba, width: SIDE as u32, height: SIDE as u32 }
}

/// How far a point is outside of a rounded rectangle.
fn distance([x, y]: [f32; 2], [left, top, width, height, corner]: [f32; 5]) -> f32 {
    let reach = |at: f32, begin: f32, length: f32| (at - begin - length / 2.0).abs() - length / 2.0 + corner;
    let (dx, dy) = (reach(x, left, width), reach(y, top, height));
    dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0) - corner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_clear_and_the_middle_is_not() {
        let icon = icon();
        let pixel = |x: usize, y: usize| &icon.rgba[4 * (y * SIDE + x)..][..4];
        assert_eq!(pixel(0, 0)[3], 0);
        assert_eq!(pixel(38, 38), [0x3d, 0x5a, 0x80, 255]);
        assert_eq!(pixel(13, 40), [0xff, 0xb7, 0x03, 255]);
    }
}
