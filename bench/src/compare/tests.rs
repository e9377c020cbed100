// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

/// Every kind of measurement once, with the tests' build of the gateway: figures of no worth, from
/// start to page.
#[test]
fn a_comparison_runs_from_start_to_page() {
    let folder = Folder::create("compare-test").unwrap();
    let binary = ringway_tests::gateway::binary().unwrap();
    let scenarios = ["tiny", "h2c", "tls-handshakes", "rate-5k", "rss-10"];
    let options = Options {
        quick: false,
        rounds: 1,
        warm_up: Duration::from_millis(50),
        window: Duration::from_millis(100),
        scenarios: scenarios.map(str::to_owned).into(),
        wrk: false,
        places: Places {
            tools: folder.0.join("tools"),
            ringway: binary.to_owned(),
            other: None,
            peers: vec![Peer::Ringway],
        },
        results: folder.0.join("results"),
        proxy_core: None,
        load_core: None,
    };
    // A thread of its own: the load is pinned to a core, and stays there.
    std::thread::spawn(move || run(&options)).join().unwrap().unwrap();
    let page = fs::read_to_string(folder.0.join("results/README.md")).unwrap();
    for scenario in scenarios {
        let report = folder.0.join("results").join(scenario).with_extension("json");
        let report: Report = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
        let row = report.rows.iter().find(|row| row.peer == "ringway").unwrap();
        assert!(row.trouble().is_none() && !row.samples.is_empty(), "{row:?}");
        assert!(page.contains(&report.title), "{page}");
    }
}
