//! One message of a result as it goes onto the connection: gRPC's frame around a `FlightData`, in
//! pieces that share the arrays' own memory. tonic's encoder would copy each batch twice; here big
//! buffers aren't copied at all, and small ones once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow_flight::{FlightData, SchemaAsIpc};
use bytes::{BufMut, Bytes, BytesMut};
use flightpath_types::{Error, Result};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderMap;
use http_body::{Body, Frame};
use parking_lot::Mutex;
use prost::Message as _;
use prost::encoding::encode_varint;
use tonic::Status;

/// Buffers below this are copied together: a frame of its own costs more.
const SHARED_BYTES_MIN: usize = 8 << 10;
/// Messages that wait already leave together up to this.
const GATHERED_BYTES_MAX: usize = 64 << 10;
/// Field 2 of `FlightData`, `data_header`, and field 1000, `data_body`; both length-delimited.
const DATA_HEADER_KEY: u64 = (2 << 3) | 2;
const DATA_BODY_KEY: u64 = (1000 << 3) | 2;
/// Not compressed, and the length of what follows.
const FRAME_PREFIX_BYTES: usize = 5;
/// Arrow's stream format opens each message with a marker and the length of its metadata.
const IPC_PREFIX_BYTES: usize = 8;

pub(crate) type MessageStream = BoxStream<'static, Result<WireMessage, Status>>;

/// The pieces of one framed `FlightData`, in order.
#[derive(Debug, Clone)]
pub(crate) struct WireMessage {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl WireMessage {
    pub fn of_schema(schema: &Schema) -> Result<Self> {
        let data: FlightData = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).into();
        let mut out = BytesMut::with_capacity(FRAME_PREFIX_BYTES + data.encoded_len());
        put_prefix(&mut out, data.encoded_len())?;
        data.encode(&mut out).map_err(|e| Error::internal(format!("encoding a schema message: {e}")))?;
        Ok(Self { bytes: out.len(), pieces: vec![out.freeze()] })
    }

    fn of_parts(data_header: &[u8], body: VecDeque<Buffer>) -> Result<Self> {
        let body_bytes: usize = body.iter().map(Buffer::len).sum();
        let mut keys = BytesMut::with_capacity(data_header.len() + 32);
        encode_varint(DATA_HEADER_KEY, &mut keys);
        encode_varint(data_header.len() as u64, &mut keys);
        keys.put_slice(data_header);
        if body_bytes > 0 {
            encode_varint(DATA_BODY_KEY, &mut keys);
            encode_varint(body_bytes as u64, &mut keys);
        }
        let mut copied = BytesMut::with_capacity(FRAME_PREFIX_BYTES + keys.len() + SHARED_BYTES_MIN);
        put_prefix(&mut copied, keys.len() + body_bytes)?;
        copied.put_slice(&keys);
        let mut pieces = Vec::with_capacity(body.len());
        for buffer in body {
            if buffer.len() < SHARED_BYTES_MIN {
                copied.put_slice(&buffer);
            } else {
                pieces.push(copied.split().freeze());
                pieces.push(Bytes::from_owner(SharedBuffer(buffer)));
            }
        }
        pieces.push(copied.freeze());
        pieces.retain(|piece| !piece.is_empty());
        Ok(Self { bytes: pieces.iter().map(Bytes::len).sum(), pieces })
    }

    /// What a client decodes.
    #[cfg(test)]
    pub fn decoded(&self) -> FlightData {
        let whole: Vec<u8> = self.pieces.iter().flat_map(|p| p.to_vec()).collect();
        assert_eq!(whole[0], 0);
        assert_eq!(u32::from_be_bytes([whole[1], whole[2], whole[3], whole[4]]) as usize, whole.len() - FRAME_PREFIX_BYTES);
        FlightData::decode(&whole[FRAME_PREFIX_BYTES..]).unwrap()
    }
}

/// Encodes the batches of one result.
pub(crate) struct BatchEncoder {
    encoder: StreamEncoder,
    schema_passed: bool,
}

impl BatchEncoder {
    /// `schema` has no dictionaries.
    pub fn new(schema: &Schema) -> Result<Self> {
        let encoder = StreamEncoder::try_new(schema).map_err(|e| Error::internal(format!("a result's schema can't be encoded: {e}")))?;
        Ok(Self { encoder, schema_passed: false })
    }

    pub fn encode(&mut self, batch: &RecordBatch) -> Result<WireMessage> {
        let buffers = self.encoder.encode(batch).map_err(|e| Error::internal(format!("encoding a batch: {e}")))?;
        let mut buffers = VecDeque::from(buffers);
        if !self.schema_passed {
            // The encoder's first answer opens with the schema, which went out as a message of its own.
            take_metadata(&mut buffers)?;
            self.schema_passed = true;
        }
        let data_header = take_metadata(&mut buffers)?;
        WireMessage::of_parts(&data_header, buffers)
    }
}

/// The metadata of the message that `buffers` open with; its body is what is left.
fn take_metadata(buffers: &mut VecDeque<Buffer>) -> Result<Vec<u8>> {
    let prefix = take(buffers, IPC_PREFIX_BYTES)?;
    let length: [u8; 4] = crate::sign::fixed(&prefix[4..]);
    let length = usize::try_from(i32::from_le_bytes(length)).map_err(|_| Error::internal("an Arrow message has a negative length"))?;
    take(buffers, length)
}

fn take(buffers: &mut VecDeque<Buffer>, bytes: usize) -> Result<Vec<u8>> {
    let mut taken = Vec::with_capacity(bytes);
    while taken.len() < bytes {
        let buffer = buffers.pop_front().ok_or_else(|| Error::internal("an Arrow message is shorter than it says"))?;
        let wanted = (bytes - taken.len()).min(buffer.len());
        taken.extend_from_slice(&buffer[..wanted]);
        if wanted < buffer.len() {
            buffers.push_front(buffer.slice(wanted));
        }
    }
    Ok(taken)
}

fn put_prefix(out: &mut BytesMut, message_bytes: usize) -> Result<()> {
    let length = u32::try_from(message_bytes).map_err(|_| Error::internal("a message has more than 4 GB"))?;
    out.put_u8(0);
    out.put_u32(length);
    Ok(())
}

/// An array's buffer as the owner of [`Bytes`].
struct SharedBuffer(Buffer);

impl AsRef<[u8]> for SharedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// A result on its way from its handler to the gate, which makes it the response's body. It travels
/// in the response's extensions, because the generated service can only send what it encodes itself.
#[derive(Clone)]
pub(crate) struct Handoff(Arc<Mutex<Option<MessageStream>>>);

impl Handoff {
    pub fn new(messages: MessageStream) -> Self {
        Self(Arc::new(Mutex::new(Some(messages))))
    }

    pub fn into_body(self) -> Option<tonic::body::Body> {
        let messages = self.0.lock().take()?;
        Some(tonic::body::Body::new(ResultBody { messages, waiting: VecDeque::new(), end: None, done: false }))
    }
}

/// A response's body: the messages, then the status as trailers.
struct ResultBody {
    messages: MessageStream,
    /// Pieces that leave next.
    waiting: VecDeque<Bytes>,
    /// How the messages ended.
    end: Option<Status>,
    done: bool,
}

impl ResultBody {
    /// Takes what is ready: one message, and more as long as all are small.
    fn gather(&mut self, context: &mut Context<'_>) {
        let mut small = BytesMut::new();
        while self.end.is_none() && small.len() < GATHERED_BYTES_MAX {
            match self.messages.poll_next_unpin(context) {
                Poll::Pending => break,
                Poll::Ready(None) => self.end = Some(Status::ok("")),
                Poll::Ready(Some(Err(status))) => self.end = Some(status),
                Poll::Ready(Some(Ok(message))) if message.bytes < SHARED_BYTES_MIN => {
                    message.pieces.iter().for_each(|piece| small.put_slice(piece));
                }
                Poll::Ready(Some(Ok(message))) => {
                    self.waiting.extend((!small.is_empty()).then(|| small.split().freeze()));
                    self.waiting.extend(message.pieces);
                    break;
                }
            }
        }
        if !small.is_empty() {
            self.waiting.push_back(small.freeze());
        }
    }
}

impl Body for ResultBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.waiting.is_empty() && self.end.is_none() {
            self.gather(context);
        }
        if let Some(piece) = self.waiting.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if self.done {
            return Poll::Ready(None);
        }
        let Some(status) = &self.end else { return Poll::Pending };
        let mut trailers = HeaderMap::new();
        let written = status.add_header(&mut trailers);
        self.done = true;
        Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}
