//! PNG files of 24-bit pixels, without a library.
//!
//! The zlib stream is one deflate block with the fixed codes (RFC 1951, 3.2.6). Matches are sought at two distances only, the
//! pixel before and the row above: pictures of lines on white hold little else, and the encoder stays small.

const BYTES_PER_PIXEL: usize = 3;
const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];
const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
/// Longest distance that deflate knows.
const WINDOW: usize = 32_768;

/// A PNG file of `pixels`, `[height, width, 3]` row by row.
pub(super) fn encode(width: u32, height: u32, pixels: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    header.extend_from_slice(&[8, 2, 0, 0, 0]); // bits per sample, true colour, deflate, no interlace
    let row_bytes = width as usize * BYTES_PER_PIXEL;
    let mut rows = Vec::with_capacity(pixels.len() + height as usize);
    for row in pixels.chunks_exact(row_bytes.max(1)) {
        rows.push(0); // no filter
        rows.extend_from_slice(row);
    }
    let mut file = SIGNATURE.to_vec();
    put_chunk(&mut file, *b"IHDR", &header);
    put_chunk(&mut file, *b"IDAT", &zlib(&rows, row_bytes + 1));
    put_chunk(&mut file, *b"IEND", &[]);
    file
}

fn put_chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    file.extend_from_slice(&(data.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend_from_slice(&kind);
    file.extend_from_slice(data);
    let crc = crc32(&file[start..]);
    file.extend_from_slice(&crc.to_be_bytes());
}

fn zlib(bytes: &[u8], row_bytes: usize) -> Vec<u8> {
    let mut bits = Bits { out: vec![0x78, 0x01], buffer: 0, count: 0 };
    bits.put(1, 1); // the last block
    bits.put(0b01, 2); // fixed codes
    let distances = [BYTES_PER_PIXEL, row_bytes];
    let mut at = 0;
    while at < bytes.len() {
        let length = |distance: usize| {
            if distance > at.min(WINDOW) {
                return 0;
            }
            let ahead = bytes[at..].iter().take(MAX_MATCH).zip(&bytes[at - distance..]);
            ahead.take_while(|(left, right)| left == right).count()
        };
        // Of equal lengths the shorter distance, whose code is shorter.
        let (length, distance) = match distances.map(|distance| (length(distance), distance)) {
            [near, far] if far.0 > near.0 => far,
            [near, _] => near,
        };
        if length < MIN_MATCH {
            bits.put_symbol(u32::from(bytes[at]));
            at += 1;
        } else {
            bits.put_length(length as u32);
            bits.put_distance(distance as u32);
            at += length;
        }
    }
    bits.put_symbol(256);
    let mut out = bits.finish();
    out.extend_from_slice(&adler32(bytes).to_be_bytes());
    out
}

/// Bits from the low end of each byte on, as deflate has them.
struct Bits {
    out: Vec<u8>,
    buffer: u64,
    count: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        self.buffer |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.buffer as u8);
            self.buffer >>= 8;
            self.count -= 8;
        }
    }

    /// A Huffman code, whose bits go in from its high end.
    fn put_code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }

    /// A literal, the end of the block, or a length, in the fixed code.
    fn put_symbol(&mut self, symbol: u32) {
        match symbol {
            0..=143 => self.put_code(0x30 + symbol, 8),
            144..=255 => self.put_code(0x190 + symbol - 144, 9),
            256..=279 => self.put_code(symbol - 256, 7),
            _ => self.put_code(0xc0 + symbol - 280, 8),
        }
    }

    /// A length of 3 to 258: after eight plain codes, groups of four with one more extra bit each.
    fn put_length(&mut self, length: u32) {
        let rest = length - 3;
        if length == 258 {
            return self.put_symbol(285);
        }
        if rest < 8 {
            return self.put_symbol(257 + rest);
        }
        let extra = rest.ilog2() - 2;
        self.put_symbol(257 + 4 * extra + (rest >> extra));
        self.put(rest & ((1 << extra) - 1), extra);
    }

    /// A distance of 1 to 32768: after four plain codes, groups of two with one more extra bit each.
    fn put_distance(&mut self, distance: u32) {
        let rest = distance - 1;
        if rest < 4 {
            return self.put_code(rest, 5);
        }
        let extra = rest.ilog2() - 1;
        self.put_code(2 * extra + (rest >> extra), 5);
        self.put(rest & ((1 << extra) - 1), extra);
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
        self.out
    }
}

/// CRC-32 of ISO 3309 (reflected polynomial 0xedb88320).
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    !bytes.iter().fold(!0, |crc: u32, byte| TABLE[usize::from((crc as u8) ^ byte)] ^ (crc >> 8))
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    // So many bytes cannot overflow the sums.
    const BLOCK: usize = 5_552;
    let (mut low, mut high) = (1_u32, 0_u32);
    for block in bytes.chunks(BLOCK) {
        for byte in block {
            low += u32::from(*byte);
            high += low;
        }
        low %= MODULUS;
        high %= MODULUS;
    }
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_match_the_standard_check_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn an_independent_decoder_gives_the_pixels_back() {
        // noise (literals of both code lengths), runs of every length, and rows that repeat
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for (width, height) in [(1, 1), (7, 3), (300, 40), (2000, 5)] {
            let mut pixels = vec![255; width * height * BYTES_PER_PIXEL];
            for (index, byte) in pixels.iter_mut().enumerate() {
                if index % 1_500 < index / 1_500 * 20 || index < 60 {
                    *byte = noise();
                }
            }
            let file = encode(width as u32, height as u32, &pixels);
            let mut reader = ::png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
            let mut decoded = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut decoded).unwrap();
            assert_eq!((info.width as usize, info.height as usize), (width, height));
            assert!(decoded == pixels, "{width}x{height}");
        }
    }

    #[test]
    fn white_pictures_are_small() {
        let file = encode(1_440, 800, &vec![255; 1_440 * 800 * BYTES_PER_PIXEL]);
        assert!(file.len() < 40_000, "{}", file.len());
    }
}
