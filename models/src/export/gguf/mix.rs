//! Which type each tensor of a GGUF file gets: what is asked for is a file type, and some tensors deserve better.
//!
//! The rules are those of llama.cpp's quantiser, so that a file of ours has the size and quality that its
//! name promises elsewhere. They depend on names, layer numbers and lengths of rows alone. A row that is no whole
//! number of blocks falls back to a type with shorter ones.

use peft_kernels::quant::GgmlType;

/// What a file is quantised to, by its name in file names and on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// All matrices in IEEE single.
    F32,
    /// All matrices in IEEE half.
    F16,
    /// All matrices in the upper half of an f32.
    BF16,
    /// 8 bits everywhere.
    Q8_0,
    /// 6 bits everywhere.
    Q6K,
    /// 5 bits, some tensors in 6.
    Q5KM,
    /// 5 bits.
    Q5KS,
    /// 5 bits in short blocks.
    Q5_0,
    /// 5 bits in short blocks with a minimum.
    Q5_1,
    /// 4 bits, some tensors in 6.
    Q4KM,
    /// 4 bits, a few tensors in 5.
    Q4KS,
    /// 4 bits in short blocks.
    Q4_0,
    /// 4 bits in short blocks with a minimum.
    Q4_1,
    /// 3 bits, many tensors in 5.
    Q3KL,
    /// 3 bits, many tensors in 4 or 5.
    Q3KM,
    /// 3 bits.
    Q3KS,
    /// 2 bits, many tensors in 3 or 4.
    Q2K,
    /// 4 bits that look values up.
    Iq4Nl,
}

/// File type, `general.file_type` of it, name, type of most tensors.
const ROWS: [(FileType, u32, &str, GgmlType); 18] = [
    (FileType::F32, 0, "F32", GgmlType::F32),
    (FileType::F16, 1, "F16", GgmlType::F16),
    (FileType::BF16, 32, "BF16", GgmlType::BF16),
    (FileType::Q8_0, 7, "Q8_0", GgmlType::Q8_0),
    (FileType::Q6K, 18, "Q6_K", GgmlType::Q6K),
    (FileType::Q5KM, 17, "Q5_K_M", GgmlType::Q5K),
    (FileType::Q5KS, 16, "Q5_K_S", GgmlType::Q5K),
    (FileType::Q5_0, 8, "Q5_0", GgmlType::Q5_0),
    (FileType::Q5_1, 9, "Q5_1", GgmlType::Q5_1),
    (FileType::Q4KM, 15, "Q4_K_M", GgmlType::Q4K),
    (FileType::Q4KS, 14, "Q4_K_S", GgmlType::Q4K),
    (FileType::Q4_0, 2, "Q4_0", GgmlType::Q4_0),
    (FileType::Q4_1, 3, "Q4_1", GgmlType::Q4_1),
    (FileType::Q3KL, 13, "Q3_K_L", GgmlType::Q3K),
    (FileType::Q3KM, 12, "Q3_K_M", GgmlType::Q3K),
    (FileType::Q3KS, 11, "Q3_K_S", GgmlType::Q3K),
    (FileType::Q2K, 10, "Q2_K", GgmlType::Q2K),
    (FileType::Iq4Nl, 25, "IQ4_NL", GgmlType::Iq4Nl),
];

impl FileType {
    /// All of them, most exact first.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.0)
    }

    /// The one of this name, in any case; `Q4_K`, `Q5_K` and `Q3_K` are what llama.cpp takes them for, the middle one.
    pub fn from_name(name: &str) -> Option<Self> {
        let named = |name: &str| ROWS.iter().find(|row| row.2.eq_ignore_ascii_case(name)).map(|row| row.0);
        named(name).or_else(|| named(&format!("{name}_M")))
    }

    /// Its name, as in file names.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// `general.file_type`.
    pub fn id(self) -> u32 {
        self.row().1
    }

    /// The type that most tensors get.
    pub fn base(self) -> GgmlType {
        self.row().3
    }

    fn row(self) -> &'static (Self, u32, &'static str, GgmlType) {
        // The rows are in the order of the variants; a test holds them to it.
        &ROWS[self as usize]
    }
}

/// What the rules want to know of a model.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// `general.architecture`.
    pub architecture: &'a str,
    /// Blocks of the model.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// The file has no `output.weight`: the embeddings serve as the head.
    pub tied: bool,
    /// The columns are weighed by an importance matrix.
    pub importance: bool,
}

/// The type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What it gets.
    pub kind: GgmlType,
    /// What the mix meant it to have: another type where rows are no whole blocks of it.
    pub meant: GgmlType,
}

/// The type of tensor `name`, whose rows have `cols` elements and which has `dims` dimensions.
pub fn choose(file: FileType, model: &Facts, name: &str, cols: usize, dims: usize) -> Choice {
    if dims < 2 || !name.ends_with(".weight") || name.ends_with("_norm.weight") || name.ends_with("ffn_gate_inp.weight")
    {
        return Choice { kind: GgmlType::F32, meant: GgmlType::F32 };
    }
    let meant = mixed(file, model, name, cols);
    Choice { kind: fitting(meant, cols), meant }
}

/// What the mix means a matrix to have.
fn mixed(file: FileType, model: &Facts, name: &str, cols: usize) -> GgmlType {
    use FileType as F;
    use GgmlType::{Q3K, Q4_1, Q4K, Q5_1, Q5K, Q6K, Q8_0};
    let base = file.base();
    if !base.quantized() {
        return base;
    }
    if name == "output.weight" || model.tied && name == "token_embd.weight" {
        // The head: six bits at least.
        return if base == Q8_0 || !cols.is_multiple_of(Q6K.block_len()) { Q8_0 } else { Q6K };
    }
    let Some((layer, part)) = part(name) else { return base };
    let (layers, grouped) = (model.layers, model.heads >= 4 * model.kv_heads.max(1));
    match (part, file) {
        ("attn_v" | "attn_qkv", _) => {
            let kind = match file {
                F::Q2K if grouped => Q4K,
                F::Q2K => Q3K,
                F::Q3KM if layer >= 2 => Q4K,
                F::Q3KM | F::Q3KL => Q5K,
                F::Q4KM | F::Q5KM if dense(layer, layers) => Q6K,
                F::Q4KS if layer < 4 => Q5K,
                F::Iq4Nl if grouped => Q5K,
                _ => base,
            };
            // Eight heads share these values: a bit more costs little and helps much.
            if large(model) && matches!(kind, Q3K | Q4K) { Q5K } else { kind }
        }
        ("ffn_down" | "attn_output", F::Q2K) => Q3K,
        ("ffn_down" | "attn_output", F::Q3KL) => Q5K,
        ("ffn_down", F::Q3KM) if layer < layers / 16 => Q5K,
        ("ffn_down" | "attn_output", F::Q3KM) => Q4K,
        ("ffn_down", F::Q4KM | F::Q5KM) if dense(layer, layers) => Q6K,
        ("ffn_down", F::Q4KS) if layer < layers / 8 => Q5K,
        ("ffn_down", F::Iq4Nl) if layer < layers / 8 && !model.importance => Q5K,
        ("ffn_down", F::Q4_0) if layer < layers / 8 && model.importance => Q4_1,
        ("ffn_down", F::Q5_0) if layer < layers / 8 && model.importance => Q5_1,
        _ => base,
    }
}

/// Layer and part of `blk.LAYER.PART.weight`.
fn part(name: &str) -> Option<(usize, &str)> {
    let (layer, part) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
    Some((layer.parse().ok()?, part))
}

/// The first and last eighth of the layers, and every third between them.
fn dense(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// The models of 70 billion parameters, as llama.cpp tells them apart.
fn large(model: &Facts) -> bool {
    let grouped = match model.architecture {
        "llama" => model.heads != model.kv_heads,
        architecture => architecture == "qwen2",
    };
    model.layers == 80 && grouped
}

/// `kind`, or the first type after it whose blocks make up rows of `cols` elements.
fn fitting(kind: GgmlType, cols: usize) -> GgmlType {
    use GgmlType::{F16, Q2K, Q3K, Q4_0, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let fits = |kind: GgmlType| cols.is_multiple_of(kind.block_len());
    let short = match kind {
        Q2K | Q3K => Q4_0,
        Q4K => Q5_0,
        Q5K => Q5_1,
        Q6K => Q8_0,
        kind => kind,
    };
    [kind, short].into_iter().find(|&kind| fits(kind)).unwrap_or(F16)
}

#[cfg(test)]
mod tests {
    use super::{Choice, Facts, FileType, ROWS, choose, fitting};
    use peft_kernels::quant::GgmlType;

    const MODEL: Facts<'static> =
        Facts { architecture: "llama", layers: 32, heads: 32, kv_heads: 8, tied: false, importance: false };

    #[test]
    fn every_file_type_is_found_by_its_name() {
        for (place, (file, id, name, base)) in ROWS.into_iter().enumerate() {
            assert_eq!(file as usize, place, "{name} is where its variant says");
            assert_eq!(FileType::from_name(&name.to_lowercase()), Some(file));
            assert_eq!((file.id(), file.base()), (id, base));
        }
        assert_eq!(FileType::from_name("q4_k"), Some(FileType::Q4KM));
        assert_eq!(FileType::from_name("q7_k"), None);
    }

    #[test]
    fn norms_biases_and_routers_stay_exact() {
        for name in ["blk.0.attn_norm.weight", "blk.0.attn_q.bias", "output_norm.weight", "rope_freqs.weight"] {
            assert_eq!(choose(FileType::Q2K, &MODEL, name, 256, 1).kind, GgmlType::F32, "{name}");
        }
        assert_eq!(choose(FileType::Q2K, &MODEL, "blk.0.ffn_gate_inp.weight", 256, 2).kind, GgmlType::F32);
    }

    #[test]
    fn a_fall_back_says_what_was_meant() {
        let got = choose(FileType::Q4KM, &MODEL, "blk.0.ffn_down.weight", 4864 / 2 + 32, 2);
        assert_eq!(got, Choice { kind: GgmlType::Q8_0, meant: GgmlType::Q6K });
    }

    #[test]
    fn whatever_is_chosen_fits_the_row() {
        for (kind, cols) in GgmlType::all().flat_map(|kind| (1..600).map(move |cols| (kind, cols))) {
            assert!(fitting(kind, cols).row_bytes(cols).is_some(), "{kind} of {cols}");
        }
    }
}
