//! What all newtypes around a checked text have in common.

/// For each type: its text, by reference, by value and displayed.
macro_rules! text {
    ($($name:ident),*) => {$(
        impl From<$name> for String {
            fn from(n: $name) -> Self {
                n.0
            }
        }

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
pub(super) use text;
