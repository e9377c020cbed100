// SPDX-License-Identifier: Apache-2.0

use super::*;

#[test]
fn everything_is_shared_once_and_in_order() {
    for n in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
        let all: Vec<Arc<usize>> = (0..n).map(Arc::new).collect();
        let mut into = Vec::new();
        share(&all, &mut into);
        assert_eq!(into, all);
        assert!(all.iter().all(|one| Arc::strong_count(one) == 2));
    }
}
