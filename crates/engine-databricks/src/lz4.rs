//! Bodies of one or more LZ4 frames. The decoder takes an input that ends between two blocks for
//! the end of its frame; so each frame's end is found first, and one that has none is an error.

use std::io::Read;

use lz4_flex::frame::FrameDecoder;

const MAGIC: [u8; 4] = 0x184D_2204u32.to_le_bytes();
/// `0x184D2A50` to `0x184D2A5F`: to be skipped.
const SKIPPABLE: u32 = 0x184D_2A50;

pub(crate) fn is_lz4(body: &[u8]) -> bool {
    body.starts_with(&MAGIC)
}

/// All frames of `body` together, at most `bytes_max` bytes.
pub(crate) fn decompress(body: &[u8], expected_bytes: usize, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(expected_bytes.min(bytes_max));
    let mut rest = body;
    while !rest.is_empty() {
        let length = frame_length(rest).ok_or("an LZ4 frame is cut off or broken")?;
        let (frame, after) = rest.split_at(length);
        rest = after;
        if frame.starts_with(&MAGIC) {
            let left = (bytes_max - out.len()) as u64;
            let read = FrameDecoder::new(frame).take(left + 1).read_to_end(&mut out).map_err(|e| format!("an LZ4 frame is broken: {e}"))?;
            if read as u64 > left {
                return Err(format!("it is larger than {bytes_max} bytes"));
            }
        }
    }
    Ok(out)
}

/// The length of the frame at the start of `input`; `None` when it doesn't end within.
fn frame_length(input: &[u8]) -> Option<usize> {
    let magic = word(input, 0)?;
    if magic & 0xFFFF_FFF0 == SKIPPABLE {
        let end = 8usize.checked_add(word(input, 4)? as usize)?;
        return (end <= input.len()).then_some(end);
    }
    if magic.to_le_bytes() != MAGIC {
        return None;
    }
    let flags = *input.get(4)?;
    let (block_checksum, content_size, content_checksum, dictionary) = (flags & 0x10, flags & 0x08, flags & 0x04, flags & 0x01);
    let width = |flag: u8, bytes: usize| if flag == 0 { 0 } else { bytes };
    // Magic, flags, block descriptor, and the header's own checksum.
    let mut at = 4 + 2 + width(content_size, 8) + width(dictionary, 4) + 1;
    loop {
        let size = word(input, at)?;
        at += 4;
        if size == 0 {
            at += width(content_checksum, 4);
            return (at <= input.len()).then_some(at);
        }
        // The highest bit says that the block isn't compressed.
        at = at.checked_add((size & 0x7FFF_FFFF) as usize)?.checked_add(width(block_checksum, 4))?;
    }
}

fn word(input: &[u8], at: usize) -> Option<u32> {
    let bytes = input.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    fn frame(data: &[u8], checksums: bool) -> Vec<u8> {
        let info = FrameInfo::new().block_size(BlockSize::Max64KB).content_checksum(checksums).block_checksums(checksums);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u32;
        let step = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(step).collect()
    }

    #[test]
    fn frames_follow_one_another() {
        let parts = [noise(200_000), vec![7; 300_000], Vec::new()];
        let mut body: Vec<u8> = parts.iter().zip([true, false, true]).flat_map(|(part, sums)| frame(part, sums)).collect();
        body.extend(SKIPPABLE.to_le_bytes());
        body.extend([2, 0, 0, 0, 9, 9]);
        assert_eq!(decompress(&body, 0, 1 << 20).unwrap(), parts.concat());
        assert!(decompress(&body, 0, 400_000).is_err());
    }

    #[test]
    fn a_body_cut_off_anywhere_is_an_error() {
        let first = frame(&noise(150_000), false);
        let body = [first.clone(), frame(&[1; 100], true)].concat();
        for cut in (1..body.len()).filter(|cut| *cut != first.len()).rev().step_by(97).chain([1, 4, 7, 11]) {
            assert!(decompress(&body[..cut], 0, 1 << 20).is_err(), "{cut}");
        }
    }
}
