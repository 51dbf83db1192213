//! x
/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// y
    #[error("the server does not answer")]
    Silent,
}
