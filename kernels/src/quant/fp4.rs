//! A 4-bit float: a sign, then eight magnitudes that are not in numeric order.

/// Code to value; bit 3 is the sign.
pub const TABLE: [f32; 16] = [
    0.0,
    0.005_208_333_5,
    0.666_666_7,
    1.0,
    0.333_333_34,
    0.5,
    0.166_666_67,
    0.25,
    -0.0,
    -0.005_208_333_5,
    -0.666_666_7,
    -1.0,
    -0.333_333_34,
    -0.5,
    -0.166_666_67,
    -0.25,
];

#[cfg(test)]
mod tests {
    use super::TABLE;

    /// The values as bitsandbytes prints them, an f32 widened to f64.
    #[test]
    fn table_has_the_bits_of_bitsandbytes() {
        let printed: [f64; 8] = [
            0.0,
            0.005_208_333_488_553_762,
            0.666_666_686_534_881_6,
            1.0,
            0.333_333_343_267_440_8,
            0.5,
            0.166_666_671_633_720_4,
            0.25,
        ];
        for (code, &theirs) in printed.iter().enumerate() {
            assert_eq!(TABLE[code].to_bits(), (theirs as f32).to_bits(), "code {code}");
            assert_eq!(TABLE[code + 8].to_bits(), (-TABLE[code]).to_bits(), "code {}", code + 8);
        }
    }
}
