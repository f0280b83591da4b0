//! Code generated from `proto/`; nothing is written by hand here.

#![forbid(unsafe_code)]

/// `proto/flightpath/v1`
pub mod v1 {
    tonic::include_proto!("flightpath.v1");

    /// `query_api.proto` as a serialized `FileDescriptorSet`, for reflection.
    pub const QUERY_API_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/query_api.bin"));
}
