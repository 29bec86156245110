//! What a chart looks like, before anything draws it.
//!
//! A [`Drawing`] is a list of marks in groups, in logical pixels from the upper
//! left, with paints instead of colours. [`crate::render`] puts it onto plotters
//! backends: the SVG of the page and the PNG beside it come from the same list,
//! and can't differ in what they show. plotters' own chart builder is not used:
//! it knows neither the percentile axis nor labels at the end of a line.

use crate::{fonts::text_width, palette::Paint};

/// Points in logical pixels.
pub type Point = (f64, f64);

/// A picture of given size.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// Width in logical pixels.
    pub width: f64,
    /// Height in logical pixels.
    pub height: f64,
    /// From back to front.
    pub groups: Vec<Group>,
}

/// Marks that belong together: hidden with their peer, and with one text for
/// the pointer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// The peer they show.
    pub peer: Option<String>,
    /// What the pointer is told.
    pub tip: Option<String>,
    /// From back to front.
    pub marks: Vec<Mark>,
}

/// One thing to draw.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// A line through points.
    Path {
        /// At least two.
        points: Vec<Point>,
        /// How it is drawn.
        stroke: Stroke,
    },
    /// A filled polygon.
    Area {
        /// At least three.
        points: Vec<Point>,
        /// What it is filled with.
        fill: Fill,
    },
    /// A filled rectangle.
    Rect {
        /// Left, top, width, height.
        bounds: Bounds,
        /// What it is filled with.
        fill: Fill,
    },
    /// A filled circle.
    Dot {
        /// Its centre.
        at: Point,
        /// In logical pixels.
        radius: f64,
        /// What it is filled with.
        fill: Fill,
    },
    /// A line of text.
    Text {
        /// Where its base line starts, is centred, or ends.
        at: Point,
        /// The text.
        text: String,
        /// How it is set.
        font: Font,
    },
}

/// A rectangle.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Bounds {
    /// Right edge.
    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    /// Lower edge.
    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    /// Its colour.
    pub paint: Paint,
    /// In logical pixels.
    pub width: f64,
    /// Opacity, 0 to 1.
    pub alpha: f64,
    /// Length of dashes and of the gaps between them; whole without.
    pub dash: Option<(f64, f64)>,
}

impl Stroke {
    /// A whole, opaque line.
    pub fn new(paint: Paint, width: f64) -> Self {
        Self { paint, width, alpha: 1.0, dash: None }
    }

    /// The same line in dashes.
    pub(crate) fn dashed(self, on: f64, off: f64) -> Self {
        Self { dash: Some((on, off)), ..self }
    }

    /// The same line, paler.
    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }
}

/// What a shape is filled with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fill {
    /// Its colour.
    pub paint: Paint,
    /// Opacity, 0 to 1.
    pub alpha: f64,
}

impl Fill {
    /// An opaque fill.
    pub fn new(paint: Paint) -> Self {
        Self { paint, alpha: 1.0 }
    }

    /// The same, paler.
    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }
}

/// How text is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Font {
    /// In logical pixels.
    pub size: f64,
    /// Its colour.
    pub paint: Paint,
    /// Which end the position is.
    pub anchor: Anchor,
    /// Whether it is bold.
    pub bold: bool,
    /// Whether it runs upwards.
    pub upwards: bool,
}

/// Which end of a text its position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The text goes to the right of it.
    Start,
    /// The text is centred on it.
    Middle,
    /// The text ends there.
    End,
}

impl Font {
    /// Text of the usual kind: in ink, from its start.
    pub const fn new(size: f64) -> Self {
        Self { size, paint: Paint::Ink, anchor: Anchor::Start, bold: false, upwards: false }
    }

    /// In another colour.
    pub(crate) const fn paint(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }

    /// Ending at its position.
    pub fn end(self) -> Self {
        Self { anchor: Anchor::End, ..self }
    }

    /// Centred on its position.
    pub fn middle(self) -> Self {
        Self { anchor: Anchor::Middle, ..self }
    }

    /// In bold.
    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// Running upwards.
    pub fn upwards(self) -> Self {
        Self { upwards: true, ..self }
    }

    /// Room a text needs, in logical pixels. A browser sets it in a font of its
    /// own choice, so a tenth is added.
    pub fn width(&self, text: &str) -> f64 {
        text_width(text, self.size) * if self.bold { 1.18 } else { 1.1 }
    }
}

impl Drawing {
    /// An empty one.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, groups: Vec::new() }
    }

    /// Adds a group that was filled by `fill`.
    pub fn group(&mut self, mut group: Group, fill: impl FnOnce(&mut Group)) {
        fill(&mut group);
        self.groups.push(group);
    }

    /// The group for marks of no peer and without a text.
    pub(crate) fn ground(&mut self) -> &mut Group {
        let anonymous = Group::default();
        let open = self
            .groups
            .last()
            .is_some_and(|last| last.peer == anonymous.peer && last.tip == anonymous.tip);
        if !open {
            self.groups.push(anonymous);
        }
        let last = self.groups.len() - 1;
        &mut self.groups[last]
    }

    /// Takes over all marks of another drawing, moved.
    pub fn place(&mut self, other: Drawing, dx: f64, dy: f64) {
        for mut group in other.groups {
            group.marks.iter_mut().for_each(|mark| mark.shift(dx, dy));
            self.groups.push(group);
        }
    }
}

impl Group {
    /// Marks of a peer.
    pub fn of(peer: &str) -> Self {
        Self { peer: Some(peer.to_owned()), ..Self::default() }
    }

    /// The same with a text for the pointer.
    pub(crate) fn tip(self, tip: impl Into<String>) -> Self {
        Self { tip: Some(tip.into()), ..self }
    }

    /// Adds a line through points; nothing below two.
    pub fn path(&mut self, points: Vec<Point>, stroke: Stroke) {
        if points.len() >= 2 {
            self.marks.push(Mark::Path { points, stroke });
        }
    }

    /// Adds a straight line.
    pub fn line(&mut self, from: Point, to: Point, stroke: Stroke) {
        self.path(vec![from, to], stroke);
    }

    /// Adds a filled polygon; nothing below three points.
    pub fn area(&mut self, points: Vec<Point>, fill: Fill) {
        if points.len() >= 3 {
            self.marks.push(Mark::Area { points, fill });
        }
    }

    /// Adds a filled rectangle.
    pub(crate) fn rect(&mut self, bounds: Bounds, fill: Fill) {
        self.marks.push(Mark::Rect { bounds, fill });
    }

    /// Adds a dot.
    pub fn dot(&mut self, at: Point, radius: f64, fill: Fill) {
        self.marks.push(Mark::Dot { at, radius, fill });
    }

    /// Adds a line of text.
    pub fn text(&mut self, at: Point, text: impl Into<String>, font: Font) {
        self.marks.push(Mark::Text { at, text: text.into(), font });
    }
}

impl Mark {
    fn shift(&mut self, dx: f64, dy: f64) {
        let shift = |point: &mut Point| {
            point.0 += dx;
            point.1 += dy;
        };
        match self {
            Self::Path { points, .. } | Self::Area { points, .. } => {
                points.iter_mut().for_each(shift);
            }
            Self::Rect { bounds, .. } => {
                bounds.x += dx;
                bounds.y += dy;
            }
            Self::Dot { at, .. } | Self::Text { at, .. } => shift(at),
        }
    }
}
