//! One binary for tests of the workspace as a whole.

mod architecture;
mod slt;
mod tidy;
