// SPDX-License-Identifier: Apache-2.0
//! Request heads: our parser, what it adds to httparse (framing, known names, exact bounds), and
//! the decoder of monoio-http.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use ringway_core::limits::HEAD_FIELDS_MAX;
use ringway_core::wire::h1::framing::{RequestRules, request_meta};
use ringway_core::wire::h1::parse::{self, Limits, Parsed};
use ringway_core::wire::{Head, HeadView};

use crate::sample;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request head");
    let requests = [
        ("minimal", sample::minimal()),
        ("browser", sample::browser("bench.example", "/catalog/items?page=4", "")),
        ("64 headers", sample::many_headers()),
    ];
    for (name, bytes) in &requests {
        let name = format!("{name} ({} B)", bytes.len());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{name}: ringway"), |bencher| {
            let (limits, mut head) = (Limits::default(), Head::default());
            bencher.iter(|| {
                let parsed = parse::request(black_box(bytes), &mut head, &limits, &mut 0);
                assert_eq!(parsed, Ok(Parsed::Complete));
                head.fields.len()
            });
        });
        group.bench_function(format!("{name}: ringway, framing too"), |bencher| {
            let (limits, rules) = (Limits::default(), RequestRules::default());
            let mut head = Head::default();
            bencher.iter(|| {
                let parsed = parse::request(black_box(bytes), &mut head, &limits, &mut 0);
                assert_eq!(parsed, Ok(Parsed::Complete));
                request_meta(HeadView::new(&head, bytes), &rules).unwrap().framing
            });
        });
        group.bench_function(format!("{name}: httparse"), |bencher| {
            bencher.iter(|| {
                let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
                let mut request = httparse::Request::new(&mut fields);
                assert!(request.parse(black_box(bytes)).unwrap().is_complete());
                request.headers.len()
            });
        });
        #[cfg(feature = "monoio-http")]
        group.bench_function(format!("{name}: monoio-http"), |bencher| {
            use monoio_codec::{Decoded, Decoder as _};
            use monoio_http::h1::codec::decoder::RequestHeadDecoder;

            // What is read for it: the decoder takes the bytes away.
            let fresh = || bytes::BytesMut::from(&bytes[..]);
            bencher.iter_batched(
                fresh,
                |mut bytes| {
                    let decoded = RequestHeadDecoder.decode(black_box(&mut bytes));
                    let Ok(Decoded::Some(head)) = decoded else { panic!("it is whole") };
                    (head, bytes)
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}
