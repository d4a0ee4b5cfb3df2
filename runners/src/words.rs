//! The words of a setting as a type: each is written once, and code that asks for a setting gets an enum.

/// Declares an enum with the words that a suite uses for its values.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// As a suite writes them.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The value of a setting whose kind is a choice of [`Self::WORDS`].
            pub fn of(settings: &workloads::settings::Settings, name: &str) -> Self {
                match settings.get(name) {
                    $($word => Self::$variant,)+
                    other => unreachable!("`{name}` is `{other}`, which resolving had to refuse"),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self { $(Self::$variant => $word),+ })
            }
        }
    };
}

pub(crate) use words;
