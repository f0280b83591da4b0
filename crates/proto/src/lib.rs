//! Code generated from `proto/`; nothing is written by hand here.

#![forbid(unsafe_code)]

/// `proto/flightpath/v1`
pub mod v1 {
    tonic::include_proto!("flightpath.v1");
}
