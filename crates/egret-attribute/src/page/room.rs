//! How much a page may hold: pictures within it, up to a limit, and a list of what is left out.

use egret::page::grouped;

/// The bytes that all pictures of a page may have, as they are written.
pub(super) const MOST: usize = 12 << 20;

/// What is left of a page's room.
pub(super) struct Room {
    most: usize,
    left: usize,
    /// What was left out or drawn smaller, in HTML.
    pub out: Vec<String>,
    refused: usize,
}

impl Room {
    /// With so many bytes for pictures.
    pub(super) fn of(most: usize) -> Room {
        Room { most, left: most, out: vec![], refused: 0 }
    }

    /// A PNG file as an address; `None` where there is no room for it.
    pub(super) fn url(&mut self, png: &[u8]) -> Option<String> {
        let url = format!("data:image/png;base64,{}", base64(png));
        if url.len() > self.left {
            self.refused += 1;
            return None;
        }
        self.left -= url.len();
        Some(url)
    }

    /// Say once what was left out.
    pub(super) fn note(&mut self, what: String) {
        if !self.out.contains(&what) {
            self.out.push(what);
        }
    }

    /// The list, with the pictures that found no room.
    pub(super) fn told(mut self) -> Vec<String> {
        if self.refused > 0 {
            self.out.push(format!(
                "{} maps: the pictures of a page have at most {} bytes",
                grouped(self.refused),
                grouped(self.most)
            ));
        }
        self.out
    }
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let six = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= three.len() { char::from(DIGITS[six as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let list = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let want = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(list.map(|t| base64(t.as_bytes())), want);
        assert_eq!(base64(&[0xff, 0xfb, 0xf0]), "//vw");
    }

    #[test]
    fn a_page_has_an_end() {
        let mut room = Room::of(1000);
        let half = vec![0; 500];
        assert!(room.url(&half).is_some() && room.url(&half).is_none() && room.url(&[1]).is_some());
        let told = room.told();
        assert!(told.len() == 1 && told[0].starts_with("1 maps: the pictures of a page"), "{told:?}");
    }
}
