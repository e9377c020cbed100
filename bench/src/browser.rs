// SPDX-License-Identifier: Apache-2.0
//! What a browser sends beside its request line and Host.

/// About 0.9 KB with the request line and Host.
pub(crate) const FIELDS: &str = "\
connection: keep-alive\r\n\
sec-ch-ua: \"Chromium\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\n\
sec-ch-ua-mobile: ?0\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
upgrade-insecure-requests: 1\r\n\
user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
sec-fetch-site: same-origin\r\n\
sec-fetch-mode: navigate\r\n\
sec-fetch-dest: document\r\n\
referer: http://bench.example/catalog/items?page=3&sort=price\r\n\
accept-encoding: gzip, deflate, br, zstd\r\n\
accept-language: en-GB,en;q=0.9,de;q=0.8\r\n\
x-debug: 1\r\n\
cookie: session=3f1c9a7e5b2d4860a1c3e5f7092b4d6e; theme=dark; consent=analytics.0-marketing.0-necessary.1; cart=eyJpdGVtcyI6W3siaWQiOjE3LCJxIjoyfV19; _ga=GA1.1.1184739205.1763900000; experiment=checkout-b.search-a; csrf=Zk3vQe7PpW1sT9xYb2Lr\r\n";
