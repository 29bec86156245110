//! The PNG beside the page.
//!
//! plotters' bitmap backend draws polygons with hard edges, so the picture is
//! drawn several times too large and averaged down.

use plotters::prelude::{BitMapBackend, DrawingBackend};

use super::{Pen, TextPlacing, paint};
use crate::{
    drawing::{Drawing, Mark},
    fonts::prepare_fonts,
    palette::Paint,
};

/// Pixels of a chart's file per logical pixel, as on a screen of high density.
pub const DENSITY: f64 = 2.0;
/// Pixels drawn per pixel of the file, in each direction.
const OVERSAMPLING: u32 = 3;
/// Pixels of the file in a span that is looked at as a whole.
const SPAN: usize = 8;

/// A PNG that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    /// The face for the text can't be read.
    #[error("the built-in font can't be read")]
    Font,
    /// Drawing failed: what plotters said.
    #[error("a chart can't be drawn: {0}")]
    Draw(String),
}

/// Draws a PNG with `density` pixels per logical pixel. It is encoded in memory: plotters
/// writes files through a buffer whose last error is lost.
///
/// # Errors
/// When it can't be drawn.
pub fn png(drawing: &Drawing, density: f64) -> Result<Vec<u8>, PngError> {
    if !prepare_fonts() {
        return Err(PngError::Font);
    }
    let pixels_of = |length: f64| ((length * density).round() as u32).max(1);
    let (width, height) = (pixels_of(drawing.width), pixels_of(drawing.height));
    let large = (width * OVERSAMPLING, height * OVERSAMPLING);
    let mut pixels = ground(large);
    {
        let mut backend = BitMapBackend::with_buffer(&mut pixels, large);
        let pen = Pen {
            scale: density * f64::from(OVERSAMPLING),
            colour: Paint::light,
            text: TextPlacing::Bitmap,
        };
        let marks: Vec<Mark> =
            drawing.groups.iter().flat_map(|group| group.marks.iter().cloned()).collect();
        paint(&marks, &mut backend, &pen).map_err(PngError::Draw)?;
        backend.present().map_err(|error| PngError::Draw(error.to_string()))?;
    }
    encode(&average(&pixels, (width, height)), (width, height))
        .map_err(|error| PngError::Draw(error.to_string()))
}

/// A PNG of `pixels`, three bytes each, row by row.
fn encode(pixels: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

fn ground((width, height): (u32, u32)) -> Vec<u8> {
    let (red, green, blue) = Paint::Paper.light();
    [red, green, blue].repeat(width as usize * height as usize)
}

/// Each pixel of the result is the mean of the square it covers. Most of a chart is of one
/// colour, which is found by whole spans.
fn average(pixels: &[u8], (width, height): (u32, u32)) -> Vec<u8> {
    let side = OVERSAMPLING as usize;
    let row = width as usize * side * 3;
    let span = SPAN * side * 3;
    let mut result = Vec::with_capacity((width * height * 3) as usize);
    for rows in pixels.chunks_exact(row * side) {
        for start in (0..row).step_by(span) {
            let end = (start + span).min(row);
            let first = &rows[start..end];
            let is_plain = first[3..] == first[..first.len() - 3]
                && (1..side).all(|line| rows[line * row..][start..end] == *first);
            if is_plain {
                result.extend_from_slice(&first[..first.len() / side]);
                continue;
            }
            for square in (start..end).step_by(side * 3) {
                for channel in square..square + 3 {
                    let of_line = |line: usize| {
                        let first = line * row + channel;
                        (0..side).map(|at| u32::from(rows[first + at * 3])).sum::<u32>()
                    };
                    let sum: u32 = (0..side).map(of_line).sum();
                    result.push((sum / (side * side) as u32) as u8);
                }
            }
        }
    }
    result
}
