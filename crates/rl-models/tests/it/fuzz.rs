//! Attacks on the readers of files: whatever the bytes are, a typed error or a value, and bounded memory.
//!
//! Each property runs 2,000 cases; `PROPTEST_CASES=100000` asks for more.

use std::path::Path;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rl_models::checkpoint::tensors_from_bytes;
use rl_models::error::Error;
use rl_models::gguf::Gguf;
use rl_torch::CountingAllocator;
use tch::Device;

use crate::tiny::golden;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Bytes that may be allocated at once per byte of a file. A metadata array of bytes comes nearest to it.
const BYTES_PER_BYTE: usize = 64;
/// Bytes that may be allocated whatever the file is: an error's message, the constant parts of tokenizer files.
const BYTES_AT_LEAST: usize = 64 << 10;

const CASES: u32 = 2_000;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

static GGUF: LazyLock<[Vec<u8>; 2]> =
    LazyLock::new(|| ["gguf/llama3.gguf", "tiny.gguf"].map(|name| std::fs::read(golden(name)).unwrap()));
static SAFETENSORS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    ["tiny-tied/model.safetensors", "quant_blocks.safetensors"].map(|name| std::fs::read(golden(name)).unwrap())
});

/// Reads everything that a conversion would read.
fn attack_gguf(bytes: &[u8]) -> usize {
    let read = || -> Result<(), Error> {
        let gguf = Gguf::parse(bytes)?;
        let mut first_error = Ok(());
        for tensor in &gguf.tensors {
            first_error =
                first_error.and(gguf.read(tensor).map(|values| assert_eq!(values.len(), tensor.num_elements())));
        }
        first_error.and(gguf.config().map(drop)).and(gguf.side_files(16).map(drop))
    };
    let (result, peak) = CountingAllocator::peak_of(read);
    if let Err(error) = result {
        assert!(matches!(error, Error::Gguf { .. } | Error::GgufKey { .. }), "{error:?}");
        assert!(!error.to_string().is_empty());
    }
    peak
}

fn attack_safetensors(bytes: &[u8]) -> usize {
    let (result, peak) = CountingAllocator::peak_of(|| tensors_from_bytes(bytes, Path::new("memory"), Device::Cpu));
    match result {
        Ok(tensors) => {
            // libtorch's memory is not counted, but it is no more than the numbers.
            let data: usize = tensors.values().map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum();
            assert!(data <= bytes.len());
        }
        Err(error) => {
            assert!(matches!(error, Error::Safetensors { .. } | Error::TensorType { .. }), "{error:?}");
            assert!(!error.to_string().is_empty());
        }
    }
    peak
}

#[track_caller]
fn assert_bounded(peak: usize, bytes: &[u8]) {
    let limit = BYTES_PER_BYTE * bytes.len() + BYTES_AT_LEAST;
    assert!(peak <= limit, "{peak} bytes allocated for {}, at most {limit} allowed", bytes.len());
}

/// One change of a valid file.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Write(Index, Vec<u8>),
    Copy(Index, Index, usize),
    Insert(Index, Vec<u8>),
    Cut(Index, usize),
    Truncate(Index),
}

/// Numbers that break sums, products and signs.
fn hostile() -> impl Strategy<Value = u64> {
    prop_oneof![
        select(vec![0, 1, 2, 8, 31, 32, 33, 255, 256, 1 << 16, u64::from(u32::MAX), 1 << 32, 1 << 40]),
        select(vec![(1 << 61) - 1, 1 << 61, 1 << 62, i64::MAX as u64, 1 << 63, u64::MAX - 31, u64::MAX - 7, u64::MAX]),
        any::<u64>(),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = || {
        prop_oneof![
            hostile().prop_map(|x| x.to_le_bytes().to_vec()),
            hostile().prop_map(|x| (x as u32).to_le_bytes().to_vec()),
            vec(any::<u8>(), 1..12),
            select(vec![&b"\xff\xfe"[..], b"{", b"[", b"\"", b"-1", b"1e9", b"null"]).prop_map(<[u8]>::to_vec),
        ]
    };
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        4 => (at(), bytes()).prop_map(|(at, bytes)| Damage::Write(at, bytes)),
        2 => (at(), at(), 1usize..64).prop_map(|(from, to, len)| Damage::Copy(from, to, len)),
        1 => (at(), bytes()).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (at(), 1usize..64).prop_map(|(at, len)| Damage::Cut(at, len)),
        1 => at().prop_map(Damage::Truncate),
    ]
}

/// Applies damage to a copy of `file`, within its first `head` bytes, where the structure is.
fn damaged(file: &[u8], head: usize, damages: &[Damage]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for damage in damages {
        let len = bytes.len().min(head);
        if len == 0 {
            break;
        }
        match damage {
            Damage::Flip(at, bit) => bytes[at.index(len)] ^= 1 << (bit % 8),
            Damage::Write(at, new) => {
                let at = at.index(len);
                let end = (at + new.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&new[..end - at]);
            }
            Damage::Copy(from, to, count) => {
                let (from, to) = (from.index(len), to.index(len));
                let count = (*count).min(bytes.len() - from.max(to));
                bytes.copy_within(from..from + count, to);
            }
            Damage::Insert(at, new) => drop(bytes.splice(at.index(len)..at.index(len), new.iter().copied())),
            Damage::Cut(at, count) => {
                let at = at.index(len);
                let end = (at + count).min(bytes.len());
                bytes.drain(at..end);
            }
            Damage::Truncate(at) => bytes.truncate(at.index(len)),
        }
    }
    bytes
}

/// A metadata value of type `kind`, or bytes that only claim to be one; arrays nest.
fn value(kind: u32, depth: u32) -> BoxedStrategy<Vec<u8>> {
    let width = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        _ => 8,
    };
    match kind {
        8 => text().boxed(),
        9 if depth < 5 => (0u32..14, prop_oneof![4 => 0u64..4, 1 => hostile()], 0usize..4)
            .prop_flat_map(move |(inner, claimed, count)| {
                vec(value(inner, depth + 1), count).prop_map(move |values| {
                    [&inner.to_le_bytes()[..], &claimed.to_le_bytes(), &values.concat()].concat()
                })
            })
            .boxed(),
        _ => vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], width).boxed(),
    }
}

/// A length and its text; now and then the length lies or the text is not UTF-8.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let names = vec![
        "a",
        "b",
        "general.architecture",
        "general.alignment",
        "llama",
        "qwen3",
        "llama.block_count",
        "llama.context_length",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.model",
        "gpt2",
        "rope_freqs.weight",
        "",
    ];
    let honest =
        select(names).prop_map(|text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat());
    let lying = (hostile(), vec(any::<u8>(), 0..8)).prop_map(|(len, text)| [&len.to_le_bytes()[..], &text].concat());
    let not_utf8 = Just([&2u64.to_le_bytes()[..], b"\xc3\x28"].concat());
    prop_oneof![12 => honest, 1 => lying, 1 => not_utf8]
}

/// A file made of pieces that look right one by one.
fn built_gguf() -> impl Strategy<Value = Vec<u8>> {
    let pair = (text(), 0u32..14).prop_flat_map(|(key, kind)| {
        value(kind, 0).prop_map(move |value| [&key[..], &kind.to_le_bytes(), &value].concat())
    });
    let size = || prop_oneof![4 => select(vec![1u64, 2, 32, 256]), 1 => hostile()];
    let kind = prop_oneof![6 => select(vec![0u32, 1, 2, 3, 6, 7, 8, 12, 13, 14, 30]), 1 => any::<u32>()];
    let offset = prop_oneof![4 => select(vec![0u64, 32, 64, 128]), 1 => hostile()];
    let tensor = (text(), vec(size(), 0..6), kind, offset).prop_map(|(name, sizes, kind, offset)| {
        let mut bytes = [&name[..], &(sizes.len() as u32).to_le_bytes()].concat();
        sizes.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes
    });
    let lie = || prop_oneof![9 => Just(None), 1 => hostile().prop_map(Some)];
    (vec(pair, 0..5), vec(tensor, 0..4), lie(), lie(), 0usize..700).prop_map(
        |(pairs, tensors, lie, other_lie, rest)| {
            let num_tensors = lie.unwrap_or(tensors.len() as u64);
            let num_pairs = other_lie.unwrap_or(pairs.len() as u64);
            let head =
                [&b"GGUF"[..], &3u32.to_le_bytes(), &num_tensors.to_le_bytes(), &num_pairs.to_le_bytes()].concat();
            [head, pairs.concat(), tensors.concat(), vec![0x3c; rest]].concat()
        },
    )
}

/// A header of entries that look right one by one, and data that may or may not fit them.
fn built_safetensors() -> impl Strategy<Value = Vec<u8>> {
    let number = || {
        prop_oneof![6 => (0u64..9).prop_map(|x| x.to_string()), 2 => hostile().prop_map(|x| x.to_string()),
        1 => select(vec!["-1", "1.5", "1e30", "null", "\"1\"", "99999999999999999999999"]).prop_map(str::to_owned)]
    };
    let dtype = select(vec!["F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "I8", "F8_E4M3", "F4", "X", "f32"]);
    let name = select(vec!["a", "a", "b", "c", "__metadata__", "\\ud800", "\\u0000"]);
    let entry = (name, dtype, vec(number(), 0..4), number(), number(), 0u32..12).prop_map(
        |(name, dtype, shape, begin, end, twist)| {
            let shape = shape.join(",");
            let extra = match twist {
                0 => r#","more":{"deep":[[[[]]]]}"#.to_owned(),
                1 => r#","dtype":"F32""#.to_owned(),
                2 => format!(r#","shape":{}1{}"#, "[".repeat(200), "]".repeat(200)),
                _ => String::new(),
            };
            format!(r#""{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{begin},{end}]{extra}}}"#)
        },
    );
    let lie = prop_oneof![9 => Just(None), 1 => hostile().prop_map(Some)];
    (vec(entry, 0..4), lie, 0usize..80, any::<bool>()).prop_map(|(entries, lie, rest, bools)| {
        let header = format!("{{{}}}", entries.join(","));
        let length = lie.unwrap_or(header.len() as u64);
        [&length.to_le_bytes()[..], header.as_bytes(), &vec![u8::from(!bools) + 1; rest]].concat()
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_damaged_gguf_is_an_error_or_a_value(
        which in 0usize..8, head in select(vec![24usize, 400, 3_000, usize::MAX]), damages in vec(damage(), 1..6),
    ) {
        let bytes = damaged(&GGUF[usize::from(which == 0)], head, &damages);
        assert_bounded(attack_gguf(&bytes), &bytes);
    }

    #[test]
    fn a_hostile_gguf_is_an_error_or_a_value(bytes in built_gguf()) {
        assert_bounded(attack_gguf(&bytes), &bytes);
    }

    #[test]
    fn a_damaged_safetensors_file_is_an_error_or_a_value(
        which in 0usize..2, head in select(vec![8usize, 200, 2_000, usize::MAX]), damages in vec(damage(), 1..6),
    ) {
        let bytes = damaged(&SAFETENSORS[which], head, &damages);
        assert_bounded(attack_safetensors(&bytes), &bytes);
    }

    #[test]
    fn a_hostile_safetensors_file_is_an_error_or_a_value(bytes in built_safetensors()) {
        assert_bounded(attack_safetensors(&bytes), &bytes);
    }
}

/// A reader that stops early would be bounded too: undamaged files are read to the end.
#[test]
fn whole_files_are_read_and_the_bound_holds_for_them() {
    for bytes in GGUF.iter() {
        assert_bounded(attack_gguf(bytes), bytes);
        let gguf = Gguf::parse(bytes).unwrap();
        gguf.config().unwrap();
        gguf.side_files(16).unwrap();
        // Every truncation is noticed, whichever byte the file ends at.
        (0..bytes.len()).step_by(7).for_each(|len| assert!(Gguf::parse(&bytes[..len]).is_err(), "{len}"));
    }
    for bytes in SAFETENSORS.iter() {
        assert_bounded(attack_safetensors(bytes), bytes);
        let read = |bytes: &[u8]| tensors_from_bytes(bytes, Path::new("memory"), Device::Cpu);
        assert!(!read(bytes).unwrap().is_empty());
        (0..bytes.len()).step_by(97).for_each(|len| assert!(read(&bytes[..len]).is_err(), "{len}"));
    }
}

/// The inputs that make readers allocate most: the bound holds, and it is not far above what is needed.
#[test]
fn the_worst_files_stay_under_the_bound() {
    // A metadata array of a million bytes.
    let count = 1u64 << 20;
    let head = [&b"GGUF"[..], &3u32.to_le_bytes(), &0u64.to_le_bytes(), &1u64.to_le_bytes()].concat();
    let key = [&1u64.to_le_bytes()[..], b"a", &9u32.to_le_bytes(), &0u32.to_le_bytes(), &count.to_le_bytes()].concat();
    let bytes = [head, key, vec![7; count as usize]].concat();
    let peak = attack_gguf(&bytes);
    assert_bounded(peak, &bytes);
    assert!(8 * bytes.len() < peak, "the allocator counts nothing: {peak}");

    // Many small entries, and one shape of very many dimensions.
    let entries: Vec<String> =
        (0..20_000).map(|i| format!(r#""{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#)).collect();
    let shape = vec!["1"; 1 << 19].join(",");
    let wide = format!(r#"{{"a":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,1]}}}}"#);
    for header in [format!("{{{}}}", entries.join(",")), wide] {
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0]].concat();
        let peak = attack_safetensors(&bytes);
        assert_bounded(peak, &bytes);
        assert!(bytes.len() < peak, "the allocator counts nothing: {peak}");
    }
}

/// Sums that overflow in a reader that adds before it checks.
#[test]
fn sizes_that_wrap_around_are_errors() {
    let read = |entry: &str| {
        let header = format!(r#"{{"a":{entry}}}"#);
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        tensors_from_bytes(&bytes, Path::new("memory"), Device::Cpu).unwrap_err().to_string()
    };
    let huge = u64::MAX;
    let message = read(&format!(r#"{{"dtype":"U8","shape":[{huge}],"data_offsets":[0,{huge}]}}"#));
    assert!(message.contains("tensor `a` lies at 0..18446744073709551615 of 0 bytes"), "{message}");
    let message = read(r#"{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}"#);
    assert!(message.contains("does not fit in 63 bits"), "{message}");
    let message = read(r#"{"dtype":"F32","shape":[4611686018427387904,2],"data_offsets":[0,0]}"#);
    assert!(message.contains("does not fit in 63 bits"), "{message}");
}

#[test]
fn what_contradicts_itself_names_the_tensor() {
    let read = |header: &str, data: usize| {
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![2; data]].concat();
        tensors_from_bytes(&bytes, Path::new("memory"), Device::Cpu).unwrap_err().to_string()
    };
    let entry = |name: &str, dtype: &str, shape: &str, place: &str| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{place}}}"#)
    };
    let both = |a: String, b: String| format!("{{{a},{b}}}");
    let a = entry("a", "U8", "[4]", "[0,4]");
    let cases = [
        (both(a.clone(), a.clone()), 4, "tensor `a` is listed twice"),
        (
            both(a.clone(), entry("b", "U8", "[4]", "[2,6]")),
            6,
            "tensor `b` begins at 2, and the one before it ends at 4",
        ),
        (both(a.clone(), entry("b", "U8", "[4]", "[5,9]")), 9, "tensor `b` begins at 5"),
        (format!("{{{a}}}"), 5, "1 bytes after the last tensor belong to none"),
        (format!("{{{a}}}"), 3, "tensor `a` lies at 0..4 of 3 bytes"),
        (format!("{{{}}}", entry("a", "F32", "[4]", "[0,4]")), 4, "does not take 4 bytes"),
        (format!("{{{}}}", entry("a", "BOOL", "[4]", "[0,4]")), 4, "booleans that are neither 0 nor 1"),
        (format!("{{{}}}", entry("a", "I8", "[4]", "[0,4]")), 4, "`a` has type I8"),
        ("{".repeat(100_000), 0, "its header"),
    ];
    for (header, data, expected) in cases {
        let message = read(&header, data);
        assert!(message.contains(expected), "`{message}` should contain `{expected}`");
    }
}
