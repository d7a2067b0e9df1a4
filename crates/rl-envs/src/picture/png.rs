//! PNG for pictures with large even areas: rows as differences to the row above, runs by fixed Huffman codes.
//!
//! ISO/IEC 15948 (PNG) with RFC 1950 (zlib) and RFC 1951 (deflate, section 3.2.6). Nothing but runs of one byte or of one
//! pixel is looked for, which is most of what there is in a drawing; a photograph would hardly get smaller.

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];
/// 8 bits per channel, RGB, deflate, adaptive filters, not interlaced.
const FORMAT: [u8; 5] = [8, 2, 0, 0, 0];
/// Filter type: each byte less the byte above it.
const UP: u8 = 2;
/// Bytes of a pixel.
const PIXEL: usize = 3;
const SHORTEST_RUN: usize = 3;
const LONGEST_RUN: usize = 258;

pub(super) fn encode(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(13);
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend(FORMAT);

    let mut file = SIGNATURE.to_vec();
    push_chunk(&mut file, b"IHDR", &header);
    push_chunk(&mut file, b"IDAT", &zlib(&filtered(width as usize * PIXEL, rgb)));
    push_chunk(&mut file, b"IEND", &[]);
    file
}

fn filtered(row_length: usize, rgb: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rgb.len() + rgb.len() / row_length.max(1));
    let mut above = vec![0; row_length];
    for row in rgb.chunks_exact(row_length.max(1)) {
        bytes.push(UP);
        bytes.extend(row.iter().zip(&above).map(|(byte, above)| byte.wrapping_sub(*above)));
        above.copy_from_slice(row);
    }
    bytes
}

fn push_chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend(kind);
    file.extend(data);
    let checksum = crc32(&file[start..]);
    file.extend(checksum.to_be_bytes());
}

/// `bytes` as a zlib stream of one deflate block.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x78, 0x01], buffer: 0, count: 0 };
    bits.push(0b011, 3); // the last block, fixed codes
    let mut position = 0;
    while position < bytes.len() {
        let (byte, pixel) = (run(bytes, position, 1), run(bytes, position, PIXEL));
        let (distance, length) = if byte < pixel { (PIXEL, pixel) } else { (1, byte) };
        if SHORTEST_RUN <= length {
            bits.push_length(length);
            // Distances 1 to 4 are symbols 0 to 3 of five bits, without further bits.
            bits.push_code(distance as u32 - 1, 5);
            position += length;
        } else {
            bits.push_symbol(u32::from(bytes[position]));
            position += 1;
        }
    }
    bits.push_symbol(END);
    let mut stream = bits.finish();
    stream.extend(adler32(bytes).to_be_bytes());
    stream
}

/// For how many bytes `bytes` at `position` repeats what stood `distance` before.
fn run(bytes: &[u8], position: usize, distance: usize) -> usize {
    let Some(before) = position.checked_sub(distance) else { return 0 };
    let pairs = bytes[position..].iter().zip(&bytes[before..]);
    pairs.take(LONGEST_RUN).take_while(|(byte, source)| byte == source).count()
}

/// Symbol that ends a block.
const END: u32 = 256;

/// Bits, the first of each byte lowest.
struct Bits {
    bytes: Vec<u8>,
    buffer: u64,
    count: u32,
}

impl Bits {
    /// The low `count` bits of `value`, lowest first.
    fn push(&mut self, value: u32, count: u32) {
        self.buffer |= u64::from(value) << self.count;
        self.count += count;
        while 8 <= self.count {
            self.bytes.push(self.buffer as u8);
            self.buffer >>= 8;
            self.count -= 8;
        }
    }

    /// A Huffman code, highest bit first.
    fn push_code(&mut self, code: u32, length: u32) {
        self.push(code.reverse_bits() >> (32 - length), length);
    }

    /// A literal byte or a length symbol by the fixed code.
    fn push_symbol(&mut self, symbol: u32) {
        match symbol {
            0..=143 => self.push_code(0x30 + symbol, 8),
            144..=255 => self.push_code(0x190 + symbol - 144, 9),
            256..=279 => self.push_code(symbol - 256, 7),
            _ => self.push_code(0xc0 + symbol - 280, 8),
        }
    }

    /// The length of a run, 3 to 258: a symbol and up to five further bits.
    fn push_length(&mut self, length: usize) {
        if length == LONGEST_RUN {
            return self.push_symbol(285);
        }
        let past = (length - SHORTEST_RUN) as u32;
        // Eight symbols without further bits, then four each with one more.
        let further = if past < 8 { 0 } else { past.ilog2() - 2 };
        let symbol = 257 + 4 * further + (past >> further);
        self.push_symbol(symbol);
        self.push(past & ((1 << further) - 1), further);
    }

    fn finish(mut self) -> Vec<u8> {
        if 0 < self.count {
            self.bytes.push(self.buffer as u8);
        }
        self.bytes
    }
}

fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65521;
    let (mut a, mut b) = (1_u32, 0_u32);
    // So many additions cannot overflow.
    for block in bytes.chunks(5552) {
        for &byte in block {
            a += u32::from(byte);
            b += a;
        }
        (a, b) = (a % MODULUS, b % MODULUS);
    }
    b << 16 | a
}

fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut remainder = n as u32;
            let mut bit = 0;
            while bit < 8 {
                remainder = if remainder & 1 == 1 { 0xedb8_8320 ^ (remainder >> 1) } else { remainder >> 1 };
                bit += 1;
            }
            table[n] = remainder;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(u32::MAX, |crc, &byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check values of the two checksums for the nine digits, as their catalogues give them.
    #[test]
    fn checksums_have_their_check_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"123456789"), 0x091e_01de);
    }
}
