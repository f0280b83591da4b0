use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::*;

fn limits() -> OutgoingLimits {
    OutgoingLimits { message_rows: 64 << 10, message_bytes: 2 << 20, row_bytes: 64 << 20, client_stall: Duration::from_secs(60) }
}

fn result_of(batches: Vec<Result<RecordBatch>>, schema: SchemaRef) -> ResultStream {
    ResultStream { schema, batches: futures::stream::iter(batches).boxed(), ends: Ends::default() }
}

fn texts(lengths: impl IntoIterator<Item = usize>) -> RecordBatch {
    let array = StringArray::from_iter_values(lengths.into_iter().map(|n| "x".repeat(n)));
    RecordBatch::try_from_iter([("t", Arc::new(array) as ArrayRef)]).unwrap()
}

/// What a client would get.
async fn received(stream: MessageStream) -> Result<Vec<FlightData>, Status> {
    stream.map_ok(|message| message.decoded()).try_collect().await
}

#[tokio::test]
async fn skewed_rows_are_split_by_their_own_bytes_and_arrive_whole_and_in_order() {
    let lengths: Vec<usize> = (0..3000).map(|i| if i % 100 == 0 { 700_000 } else { 10 }).collect();
    let batch = texts(lengths.clone());
    let stream = start(result_of(vec![Ok(batch.clone())], batch.schema()), limits()).await.unwrap();
    let messages = received(stream).await.unwrap();
    assert!(messages.iter().all(|m| m.data_body.len() < 4 << 20));
    assert!(messages.len() < 40, "{} messages", messages.len());
    let decoded: Vec<RecordBatch> =
        FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(messages.into_iter().map(Ok))).try_collect().await.unwrap();
    let got: Vec<usize> =
        decoded.iter().flat_map(|b| b.column(0).as_string::<i32>().iter().map(|v| v.unwrap().len()).collect::<Vec<_>>()).collect();
    assert_eq!(got, lengths);
}

#[tokio::test]
async fn slices_of_one_big_batch_are_not_shattered() {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..200_000i64).map(|i| Some(vec![Some(i), Some(i)])));
    let batch = RecordBatch::try_from_iter([("l", Arc::new(lists) as ArrayRef)]).unwrap();
    let small: Vec<Result<RecordBatch>> = (0..100).map(|i| Ok(batch.slice(i * 2000, 2000))).collect();
    let messages = received(start(result_of(small, batch.schema()), limits()).await.unwrap()).await.unwrap();
    assert_eq!(messages.len(), 101);
}

#[tokio::test]
async fn an_empty_result_is_its_schema() {
    let schema = texts([]).schema();
    let messages = received(start(result_of(vec![Ok(texts([]))], schema), limits()).await.unwrap()).await.unwrap();
    assert_eq!(messages.len(), 1);
}

#[tokio::test]
async fn an_error_before_the_first_batch_is_the_calls_and_one_later_ends_the_stream() {
    let schema = texts([]).schema();
    let raise = || Err(Error::raised("DIVIDE_BY_ZERO", "22012", "Division by zero."));
    let at_once = start(result_of(vec![raise()], schema.clone()), limits()).await.err().unwrap();
    assert_eq!(at_once.code(), Code::InvalidArgument);
    let later = start(result_of(vec![Ok(texts([1])), raise()], schema), limits()).await.unwrap();
    let failed = received(later).await;
    assert_eq!(failed.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_panicking_source_is_an_error_not_an_end() {
    let schema = texts([]).schema();
    let batches = futures::stream::iter([1, 2]).map(|n| if n == 1 { Ok(texts([1])) } else { panic!("a defect in a source") }).boxed();
    let stream = start(ResultStream { schema, batches, ends: Ends::default() }, limits()).await.unwrap();
    let failed = received(stream).await;
    assert_eq!(failed.unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn a_row_over_the_limit_is_refused_and_one_below_goes_out_whole() {
    let small = OutgoingLimits { message_bytes: 1 << 10, row_bytes: 1 << 20, ..limits() };
    let whole = texts([1 << 19]);
    let messages = received(start(result_of(vec![Ok(whole.clone())], whole.schema()), small).await.unwrap()).await.unwrap();
    assert_eq!(messages.len(), 2);
    let huge = texts([1 << 21]);
    let refused = start(result_of(vec![Ok(huge.clone())], huge.schema()), small).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_few_batches_and_loses_the_result() {
    let asked = Arc::new(Mutex::new(0));
    let counter = asked.clone();
    let (dropped, source_dropped) = tokio::sync::oneshot::channel::<()>();
    let batches = futures::stream::repeat_with(move || {
        let _lives_in_the_source = &dropped;
        *counter.lock() += 1;
        Ok(texts([1000]))
    });
    let result = ResultStream { schema: texts([]).schema(), batches: batches.boxed(), ends: Ends::default() };
    let mut stream = start(result, OutgoingLimits { client_stall: Duration::from_millis(50), ..limits() }).await.unwrap();
    // Nobody reads: the encoder gives up and lets go of the query.
    let gone = tokio::time::timeout(Duration::from_secs(30), source_dropped).await.expect("the query is dropped");
    assert!(gone.is_err());
    assert!(*asked.lock() <= CHANNEL_MESSAGES + 3);
    let status = loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(status)) => break status,
            None => panic!("a cut result must not end as a success"),
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn dropping_the_stream_drops_a_query_that_waits() {
    let (dropped, source_dropped) = tokio::sync::oneshot::channel::<()>();
    let waiting = futures::stream::poll_fn(move |_| {
        let _lives_in_the_source = &dropped;
        Poll::Pending
    });
    let batches = futures::stream::iter([Ok(texts([1]))]).chain(waiting).boxed();
    let stream = start(ResultStream { schema: texts([]).schema(), batches, ends: Ends::default() }, limits()).await.unwrap();
    drop(stream);
    let gone = tokio::time::timeout(Duration::from_secs(30), source_dropped).await.expect("the query is dropped");
    assert!(gone.is_err());
}

#[tokio::test]
async fn the_deadline_ends_a_result_in_mid_stream() {
    let deadline = Instant::now() + Duration::from_millis(50);
    let pending = futures::stream::iter([Ok(texts([1]))]).chain(futures::stream::pending()).boxed();
    let ends = Ends { deadline: Some(deadline), ..Ends::default() };
    let stream = start(ResultStream { schema: texts([]).schema(), batches: pending, ends }, limits()).await.unwrap();
    let failed = received(stream).await;
    assert_eq!(failed.unwrap_err().code(), Code::DeadlineExceeded);
}

/// Long before the client's stall would end it.
#[tokio::test]
async fn a_cancel_and_a_time_limit_end_a_result_whose_client_reads_nothing() {
    let cancelled = CancellationToken::new();
    let by_cancel = Ends { cancelled: cancelled.clone(), ..Ends::default() };
    let by_time = Ends { deadline: Some(Instant::now() + Duration::from_millis(50)), ..Ends::default() };
    for (ends, code) in [(by_cancel, Code::Cancelled), (by_time, Code::DeadlineExceeded)] {
        let (dropped, source_dropped) = tokio::sync::oneshot::channel::<()>();
        let batches = futures::stream::repeat_with(move || {
            let _lives_in_the_source = &dropped;
            Ok(texts([1000]))
        });
        let result = ResultStream { schema: texts([]).schema(), batches: batches.boxed(), ends };
        let stream = start(result, limits()).await.unwrap();
        cancelled.cancel();
        let gone = tokio::time::timeout(Duration::from_secs(30), source_dropped).await.expect("the query is dropped");
        assert!(gone.is_err());
        assert_eq!(received(stream).await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn a_source_that_knows_of_its_cancel_says_how_it_ended() {
    let cancelled = CancellationToken::new();
    let seen = cancelled.clone();
    let batches = futures::stream::repeat_with(move || match seen.is_cancelled() {
        true => Err(Error::new(ErrorKind::Cancelled, "as the record says")),
        false => Ok(texts([1000])),
    });
    let ends = Ends { cancelled: cancelled.clone(), ..Ends::default() };
    let stream = start(ResultStream { schema: texts([]).schema(), batches: batches.boxed(), ends }, limits()).await.unwrap();
    cancelled.cancel();
    let status = received(stream).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Cancelled, "as the record says"));
}

#[tokio::test]
async fn metadata_batches_decode_as_they_were() {
    let batch = texts([1, 2, 3]);
    let messages: Vec<Result<FlightData, FlightError>> =
        of_batch(batch.clone(), limits()).unwrap().map(|m| Ok(m.unwrap().decoded())).collect().await;
    let decoded: Vec<RecordBatch> =
        FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(messages)).try_collect().await.unwrap();
    assert_eq!(decoded, vec![batch]);
}

#[tokio::test]
async fn slices_of_every_layout_arrive_as_they_are() {
    use arrow::array::{BooleanArray, Decimal128Array, Int32Builder, LargeListBuilder, MapBuilder, NullArray, StringBuilder, StructArray};
    use arrow::datatypes::Field;

    let rows = 5000;
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    let mut large = LargeListBuilder::new(StringBuilder::new());
    for i in 0..rows {
        for k in 0..i % 3 {
            map.keys().append_value(format!("key {k}"));
            map.values().append_option((i % 5 != 0).then_some(i));
            large.values().append_option((k > 0).then(|| format!("value {i}")));
        }
        map.append(i % 7 != 0).unwrap();
        large.append(i % 11 != 0);
    }
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter((0..rows).map(|i| (i % 4 != 0).then_some(i64::from(i)))));
    let struct_array = StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), numbers.clone())]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("numbers", numbers),
        ("flags", Arc::new(BooleanArray::from_iter((0..rows).map(|i| (i % 3 != 0).then_some(i % 2 == 0))))),
        ("decimals", Arc::new(Decimal128Array::from_iter_values((0..rows).map(i128::from)).with_precision_and_scale(20, 3).unwrap())),
        ("nulls", Arc::new(NullArray::new(rows as usize))),
        ("structs", Arc::new(struct_array)),
        ("maps", Arc::new(map.finish())),
        ("lists", Arc::new(large.finish())),
    ];
    let whole = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    for (message_bytes, offset, length) in [(2 << 20, 0, 5000), (2 << 20, 1003, 2001), (9_999, 13, 4000), (2 << 20, 77, 1)] {
        let sent = whole.slice(offset, length);
        let stream = start(result_of(vec![Ok(sent.clone())], whole.schema()), OutgoingLimits { message_bytes, ..limits() }).await.unwrap();
        let messages = received(stream).await.unwrap();
        let decoded: Vec<RecordBatch> =
            FlightRecordBatchStream::new_from_flight_data(futures::stream::iter(messages.into_iter().map(Ok))).try_collect().await.unwrap();
        let decoded = arrow::compute::concat_batches(&decoded[0].schema(), &decoded).unwrap();
        assert_eq!(decoded.num_rows(), length);
        for (got, expected) in decoded.columns().iter().zip(sent.columns()) {
            assert_eq!(got, expected);
        }
    }
}
