//! Pictures: what a visual environment shows. Drawn by our own rasteriser, written as PNG by our own encoder, so that a
//! picture is the same bytes everywhere and needs no font, no codec and no dependency.

mod canvas;
mod png;

pub(crate) use canvas::{Outline, Pen, Place};

/// A colour: red, green, blue.
pub type Color = [u8; 3];

/// An RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    /// `[height, width, 3]`, rows from the top.
    pixels: Vec<u8>,
}

impl Picture {
    /// A picture of one colour.
    pub fn filled(width: u32, height: u32, color: Color) -> Self {
        Picture { width, height, pixels: color.repeat(width as usize * height as usize) }
    }

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Red, green and blue of every pixel, `[height, width, 3]`, rows from the top.
    pub fn rgb(&self) -> &[u8] {
        &self.pixels
    }

    /// The colour at column `x` of row `y`; `None` outside.
    pub fn pixel(&self, x: u32, y: u32) -> Option<Color> {
        let start = 3 * (y as usize * self.width as usize + x as usize);
        let inside = x < self.width && y < self.height;
        self.pixels.get(start..start + 3).filter(|_| inside).and_then(|color| color.try_into().ok())
    }

    /// The picture as a PNG file, 8 bits per channel.
    pub fn png(&self) -> Vec<u8> {
        png::encode(self.width, self.height, &self.pixels)
    }
}
