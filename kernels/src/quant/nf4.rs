//! `NormalFloat4` (Dettmers et al. 2023, appendix E): 16 quantiles of a normal distribution, with a zero.

/// Code to value, ascending.
pub const TABLE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

#[cfg(test)]
mod tests {
    use super::TABLE;

    /// The values as bitsandbytes prints them, an f32 widened to f64.
    #[test]
    fn table_has_the_bits_of_bitsandbytes() {
        let printed: [f64; 16] = [
            -1.0,
            -0.696_192_800_998_687_7,
            -0.525_073_051_452_636_7,
            -0.394_917_488_098_144_53,
            -0.284_441_381_692_886_35,
            -0.184_773_430_228_233_34,
            -0.091_050_036_251_545_5,
            0.0,
            0.079_580_299_556_255_34,
            0.160_930_201_411_247_25,
            0.246_112_301_945_686_34,
            0.337_915_241_718_292_24,
            0.440_709_829_330_444_34,
            0.562_617_003_917_694_1,
            0.722_956_836_223_602_3,
            1.0,
        ];
        for (code, (&ours, theirs)) in TABLE.iter().zip(printed).enumerate() {
            assert_eq!(ours.to_bits(), (theirs as f32).to_bits(), "code {code}");
        }
    }
}
