//! Reads an answer's body up to a limit.

use bytes::{Bytes, BytesMut};
use reqwest::Response;

/// Why a body couldn't be read.
pub(crate) enum BodyError {
    TooLarge,
    Broken(reqwest::Error),
}

pub(crate) async fn read(mut response: Response, bytes_max: usize) -> Result<Bytes, BodyError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > bytes_max as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut body = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
    while let Some(part) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + part.len() > bytes_max {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}
