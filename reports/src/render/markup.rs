//! Text of HTML and of SVG that nothing unescaped can get into.
//!
//! Text from the store is whatever an environment said. A [`Markup`] is made by `markup!` and grows by `add!`, which take a
//! literal and put values into it; a value that is a string is escaped there, and a value that is markup is not escaped again.

use std::fmt;

use super::escape::visible;

/// Text that a browser may read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Markup(String);

impl Markup {
    /// A file of ours, as it stands.
    pub(super) fn file(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// Text that another program has escaped already, as it stands. There is one, plotters, and one place that asks for this.
    pub(super) fn escaped_elsewhere(text: String) -> Self {
        Self(text)
    }

    /// For the macros, which see to it that the arguments are escaped.
    pub(super) fn append(&mut self, escaped: fmt::Arguments<'_>) {
        fmt::Write::write_fmt(&mut self.0, escaped)
            .expect("a string takes all that is written, and values show themselves");
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, for a file.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<I: IntoIterator<Item = Markup>>(parts: I) -> Self {
        Self(parts.into_iter().map(|part| part.0).collect())
    }
}

/// A value as it may stand in markup.
pub(super) trait Show {
    /// Writes it, escaped where that is needed.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// A value in a macro's arguments, shown by [`Show`] and by nothing else.
pub(super) struct Shown<'a, T: ?Sized>(pub &'a T);

impl<T: Show + ?Sized> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }
}

impl<T: Show + ?Sized> Show for &T {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).show(f)
    }
}

impl Show for Markup {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Show for String {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().show(f)
    }
}

/// For element content and double-quoted attributes. Control characters, which XML can't hold, become `·`.
impl Show for str {
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            other => fmt::Write::write_char(f, visible(other)),
        })
    }
}

macro_rules! show_numbers {
    ($($number:ty)*) => {
        $(impl Show for $number {
            fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        })*
    };
}

show_numbers!(f64 i32 u32 u64 usize);

/// Puts values into a literal, escaped, at the end of a [`Markup`]. `concat!` keeps `{name}` from catching a variable, which
/// would get in as it is: that does not compile.
macro_rules! add {
    ($out:expr, $text:literal $(, $value:expr)* $(,)?) => {
        $out.append(format_args!(concat!($text) $(, $crate::render::markup::Shown(&$value))*))
    };
}

/// A [`Markup`] from a literal and values, which are escaped.
macro_rules! markup {
    ($text:literal $(, $value:expr)* $(,)?) => {{
        let mut out = $crate::render::markup::Markup::default();
        $crate::render::markup::add!(out, $text $(, $value)*);
        out
    }};
}

pub(super) use {add, markup};

#[cfg(test)]
mod tests {
    #[test]
    fn html_can_not_be_broken_out_of() {
        let html = |text: &str| markup!("{}", text).0;
        assert_eq!(html(r#"<script a="b" c='d'>&"#), "&lt;script a=&quot;b&quot; c=&#39;d&#39;&gt;&amp;");
        assert_eq!(html("\u{1b}[31mred\0"), "·[31mred·");
        assert_eq!(html("abc\u{202e}def"), "abc·def");
    }

    #[test]
    fn markup_is_escaped_once_and_numbers_keep_their_form() {
        let inner = markup!("<b>{}</b>", String::from("a<b"));
        assert_eq!(
            markup!("<p class=\"{}\">{} {:.1}</p>", "x\"y", inner, 2.0).0,
            "<p class=\"x&quot;y\"><b>a&lt;b</b> 2.0</p>"
        );
    }
}
