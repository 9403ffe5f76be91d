//! Every format gives the pixels that it was made of, or those that Pillow, which ONNX's reference calls, has of it; and no bytes panic.

use egret_image::{Channels, DecodeError, MAX_PIXELS, Pixels, decode, luma};
use image::{ExtendedColorType, ImageFormat};
use std::io::Cursor;

const WIDTH: usize = 21;
const HEIGHT: usize = 14;

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!("data/", $name)).as_slice()
    };
}

/// The picture that the files are made of.
const PICTURE: &[u8] = data!("lossless.rgb");

fn rgb(bytes: &[u8]) -> Result<Pixels, DecodeError> {
    decode(bytes, Channels::Rgb)
}

/// The picture in a format that loses nothing.
fn encoded(format: ImageFormat, samples: &[u8], color: ExtendedColorType) -> Vec<u8> {
    let mut out = Cursor::new(vec![]);
    image::write_buffer_with_format(&mut out, samples, WIDTH as u32, HEIGHT as u32, color, format)
        .expect("the encoder takes it");
    out.into_inner()
}

const LOSSLESS: [ImageFormat; 5] =
    [ImageFormat::Bmp, ImageFormat::Png, ImageFormat::Pnm, ImageFormat::Tiff, ImageFormat::WebP];

/// A file of every format.
fn files() -> Vec<Vec<u8>> {
    let lossless = LOSSLESS.iter().map(|&f| encoded(f, PICTURE, ExtendedColorType::Rgb8));
    let others = [data!("lossless.jp2"), data!("s420.jpg"), data!("progressive.jpg"), data!("gray.jpg")];
    lossless.chain(others.map(<[u8]>::to_vec)).collect()
}

#[test]
fn lossless_formats_give_what_they_were_made_of() {
    for bytes in &files()[..6] {
        let got = rgb(bytes).unwrap();
        assert_eq!((got.height, got.width), (HEIGHT, WIDTH));
        assert!(got.samples == PICTURE, "{:?}", &bytes[..8]);
    }
}

#[test]
fn jpegs_are_exact_to_the_bit() {
    for (name, bytes, want) in [
        ("4:4:4", data!("s444.jpg"), data!("s444.rgb")),
        ("4:2:2", data!("s422.jpg"), data!("s422.rgb")),
        ("4:2:0", data!("s420.jpg"), data!("s420.rgb")),
        ("progressive", data!("progressive.jpg"), data!("progressive.rgb")),
    ] {
        assert!(rgb(bytes).unwrap().samples == want, "{name}");
    }
    let gray = data!("gray.gray");
    assert!(decode(data!("gray.jpg"), Channels::Grayscale).unwrap().samples == gray);
    let want: Vec<u8> = gray.iter().flat_map(|&y| [y; 3]).collect();
    assert!(rgb(data!("gray.jpg")).unwrap().samples == want);
}

/// The file is `s420.jpg` with an EXIF orientation of 6.
#[test]
fn an_orientation_turns_nothing() {
    assert_eq!(rgb(data!("turned.jpg")).unwrap(), rgb(data!("s420.jpg")).unwrap());
}

#[test]
fn channels_are_as_asked_for() {
    let png = encoded(ImageFormat::Png, PICTURE, ExtendedColorType::Rgb8);
    let bgr: Vec<u8> = PICTURE.chunks(3).flat_map(|p| [p[2], p[1], p[0]]).collect();
    assert!(decode(&png, Channels::Bgr).unwrap().samples == bgr);
    let gray: Vec<u8> = PICTURE.chunks(3).map(|p| luma(p[0], p[1], p[2])).collect();
    assert!(decode(&png, Channels::Grayscale).unwrap().samples == gray);
    // 76.245, 149.685 and 29.07.
    assert_eq!([luma(255, 0, 0), luma(0, 255, 0), luma(0, 0, 255)], [76, 150, 29]);
    assert!((0..=255).all(|y| luma(y, y, y) == y));
}

#[test]
fn alpha_is_dropped_and_gray_is_spread() {
    let with_alpha: Vec<u8> = PICTURE.chunks(3).flat_map(|p| [p[0], p[1], p[2], p[0]]).collect();
    let png = encoded(ImageFormat::Png, &with_alpha, ExtendedColorType::Rgba8);
    assert!(rgb(&png).unwrap().samples == PICTURE);
    let gray: Vec<u8> = PICTURE.iter().copied().step_by(3).collect();
    let png = encoded(ImageFormat::Png, &gray, ExtendedColorType::L8);
    assert!(rgb(&png).unwrap().samples == gray.iter().flat_map(|&y| [y; 3]).collect::<Vec<u8>>());
}

/// A file that says it has 65,535 by 65,535 pixels, or as many as its format can say, is refused by its header.
#[test]
fn huge_pictures_are_refused_before_memory_is_taken() {
    let [bmp, png, _, tiff, webp, jp2, jpeg, _, _]: [Vec<u8>; 9] = files().try_into().unwrap();
    let with = |mut bytes: Vec<u8>, patches: &[(usize, &[u8])]| {
        for (at, patch) in patches {
            bytes[*at..at + patch.len()].copy_from_slice(patch);
        }
        bytes
    };
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what).unwrap();
    let (le, be) = (65_535u32.to_le_bytes(), 65_535u32.to_be_bytes());
    let sof = find(&jpeg, &[0xff, 0xc0]) + 5;
    let (ihdr, siz) = (find(&jp2, b"ihdr") + 4, find(&jp2, &[0xff, 0x51]) + 6);
    let tile = siz + 16;
    let header = [&be[..], &be, &[8, 2, 0, 0, 0]].concat();
    let crc = crc32(&[&b"IHDR"[..], &header].concat()).to_be_bytes();
    // Entries of a TIFF directory, of width, height and rows of a strip: tag, type, count, value.
    let [wide, high, strip] = [256u16, 257, 278].map(|tag| {
        let start = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize + 2;
        let entry = (start..).step_by(12).find(|&at| tiff[at..at + 2] == tag.to_le_bytes()).unwrap();
        entry + 8
    });
    // 14 bits each of width - 1 and height - 1, behind the signature of a lossless stream: 16,383 of both.
    let vp8l = find(&webp, b"VP8L") + 9;
    for bytes in [
        with(bmp, &[(18, &le), (22, &le)]),
        with(png, &[(16, &header), (29, &crc)]),
        b"P6 65535 65535 255\n".to_vec(),
        with(tiff, &[(wide, &le), (high, &le), (strip, &le)]),
        with(webp, &[(vp8l, &[0xfe, 0xbf, 0xff, 0x0f])]),
        with(
            jp2,
            &[(ihdr, &be), (ihdr + 4, &be), (siz, &be), (siz + 4, &be), (tile, &be), (tile + 4, &be)],
        ),
        with(jpeg, &[(sof, &[0xff, 0xdc, 0xff, 0xdc])]),
    ] {
        let error = rgb(&bytes).unwrap_err();
        let DecodeError::TooLarge { width, height } = error else { panic!("{error}") };
        assert!(width * height > MAX_PIXELS);
    }
}

/// The CRC of a chunk of a PNG.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}

#[test]
fn what_is_no_image_is_said_to_be_none() {
    for bytes in [&[][..], b"no image", &[0xff, 0xd8], b"GIF89a\x01\0\x01\0\0\0\0"] {
        assert_eq!(rgb(bytes), Err(DecodeError::Unknown));
    }
    let said = DecodeError::Unknown.to_string();
    assert!(said.contains("no image of a known format"), "{said}");
}

/// Half of a file is an error that names the format.
#[test]
fn truncated_files_are_refused() {
    for bytes in files() {
        let said = rgb(&bytes[..bytes.len() / 2]).unwrap_err().to_string();
        assert!(said.contains("image cannot be decoded: "), "{said}");
        for n in 0..bytes.len() {
            let _ = rgb(&bytes[..n]);
        }
    }
}

/// Every byte of every file changed in three ways: any answer will do, but there is one.
#[test]
fn broken_files_do_not_panic() {
    for bytes in files() {
        for i in 0..bytes.len() {
            for mask in [0xff, 0x01, 0x80] {
                let mut broken = bytes.clone();
                broken[i] ^= mask;
                if let Ok(pixels) = rgb(&broken) {
                    assert_eq!(pixels.samples.len(), pixels.width * pixels.height * 3);
                }
            }
        }
    }
}
