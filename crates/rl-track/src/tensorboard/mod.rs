//! TensorBoard event files: scalars only, written and read without protobuf or TensorFlow.
//!
//! A record is `length: u64 LE, masked CRC-32C of those 8 bytes, payload, masked CRC-32C of the payload`; the payload
//! is one `Event` message (`tensorboard/compat/proto/event.proto`).

mod read;
mod write;

pub use read::{Point, Scalar, read_file, read_folder};
pub use write::EventWriter;

/// First record of every file.
const FILE_VERSION: &str = "brain.Event:2";

/// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), table-driven.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    let step = |crc: u32, byte: &u8| TABLE[usize::from((crc as u8) ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

/// [`crc32c`] rotated and offset, as stored in records, so that the CRC of data that holds CRCs stays a good check.
pub fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_matches_the_standard_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc32c(b"123456789"), 0xc78a_b0e5);
    }
}
