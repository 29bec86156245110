//! HTML that escapes by default.
//!
//! Text and attribute values of any origin go through [`escape`]; only what the
//! compiler sees as a constant, or what this crate drew itself ([`Svg`]), is
//! written as it is. So no name from a run folder can become markup.

use crate::render::Svg;

/// A page or a part of one under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Html(String);

/// Attributes of an element, by name.
pub(crate) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Html {
    /// Writes markup that is part of the program.
    pub(crate) fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Writes text.
    pub(crate) fn text(&mut self, text: &str) {
        self.0.push_str(&escape(text));
    }

    /// Writes an element, with what `inner` writes inside.
    pub(crate) fn tag(
        &mut self,
        name: &'static str,
        attributes: Attributes<'_>,
        inner: impl FnOnce(&mut Self),
    ) {
        self.0.push('<');
        self.0.push_str(name);
        for (key, value) in attributes {
            self.0.push(' ');
            self.0.push_str(key);
            self.0.push_str("=\"");
            self.0.push_str(&escape(value));
            self.0.push('"');
        }
        self.0.push('>');
        inner(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
        if BLOCKS.contains(&name) {
            self.0.push('\n');
        }
    }

    /// Writes an element that holds text only.
    pub(crate) fn leaf(&mut self, name: &'static str, attributes: Attributes<'_>, text: &str) {
        self.tag(name, attributes, |html| html.text(text));
    }

    /// Writes a drawing.
    pub(crate) fn svg(&mut self, svg: &Svg) {
        self.0.push_str(svg.as_str());
    }

    /// Writes a style sheet. `css` is made by this crate; a record's text never
    /// gets into it.
    pub(crate) fn style(&mut self, css: &str) {
        self.0.push_str("<style>\n");
        self.0.push_str(css);
        self.0.push_str("</style>\n");
    }

    /// The finished text.
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// Elements after which a line ends, so that the page's source can be read.
const BLOCKS: [&str; 18] = [
    "section",
    "p",
    "h1",
    "h2",
    "h3",
    "table",
    "thead",
    "tbody",
    "tr",
    "figure",
    "figcaption",
    "details",
    "ul",
    "li",
    "div",
    "dl",
    "header",
    "footer",
];

/// Text as it may stand in an element or between the quotes of an attribute.
/// Characters that end a document or are no text at all are shown as `�`.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let mut html = Html::default();
        let hostile = "\"><script>alert('x')</script>\u{0}&amp;";
        html.tag("p", &[("title", hostile)], |html| html.text(hostile));
        let text = html.into_string();
        assert_eq!(text.matches('<').count(), 2, "{text}");
        assert_eq!(text.matches('"').count(), 2, "{text}");
        assert!(!text.contains('\u{0}') && text.contains("&amp;amp;"));
    }
}
