// SPDX-License-Identifier: Apache-2.0
//! The code of RFC 7541 appendix B. It is canonical: codes count up through the symbols sorted by
//! the lengths of their codes, so that the lengths say everything.

/// Bits of each byte's code. The end of a string, which is no byte, has 30 ones.
#[rustfmt::skip]
pub const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The longest code.
const BITS_MAX: usize = 30;
/// Inner nodes of the code's tree: one fewer than it has leaves, the end included.
const NODES: usize = 256;
/// In a tree, and in [`Step::next`]: no code leads there.
const NOWHERE: u16 = u16::MAX;

/// What four more bits come to.
#[derive(Clone, Copy)]
struct Step {
    /// The node that they lead to.
    next: u16,
    /// The byte whose code they end, if they end one: no code is shorter than five bits.
    symbol: Option<u8>,
}

/// By node, and by the next four bits.
static STEPS: [[Step; 16]; NODES] = steps();
/// Nodes at which a string may end: all ones so far, and fewer than eight.
static ENDS: [bool; NODES] = ends();

/// By node and bit: an inner node, [`NODES`] and more for a leaf.
const TREE: [[u16; 2]; NODES] = tree();

const fn tree() -> [[u16; 2]; NODES] {
    let mut tree = [[NOWHERE; 2]; NODES];
    let (mut nodes, mut code, mut bits) = (1, 0_u32, 1);
    while bits <= BITS_MAX {
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == bits {
                let (mut node, mut left) = (0, bits);
                while left > 1 {
                    left -= 1;
                    let bit = (code >> left & 1) as usize;
                    if tree[node][bit] == NOWHERE {
                        tree[node][bit] = nodes;
                        nodes += 1;
                    }
                    node = tree[node][bit] as usize;
                }
                tree[node][(code & 1) as usize] = (NODES + symbol) as u16;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        bits += 1;
    }
    assert!(nodes as usize == NODES, "the lengths are those of another code");
    tree
}

const fn steps() -> [[Step; 16]; NODES] {
    let mut steps = [[Step { next: NOWHERE, symbol: None }; 16]; NODES];
    let mut from = 0;
    while from < NODES {
        let mut bits = 0;
        while bits < 16 {
            let (mut node, mut left, mut symbol) = (from as u16, 4, None);
            while left > 0 && node != NOWHERE {
                left -= 1;
                node = TREE[node as usize][bits >> left & 1];
                if node != NOWHERE && node as usize >= NODES {
                    symbol = Some((node as usize - NODES) as u8);
                    node = 0;
                }
            }
            steps[from][bits] = Step { next: node, symbol };
            bits += 1;
        }
        from += 1;
    }
    steps
}

const fn ends() -> [bool; NODES] {
    let mut ends = [false; NODES];
    let (mut node, mut bits) = (0, 0);
    while bits < 8 {
        ends[node] = true;
        node = TREE[node][1] as usize;
        bits += 1;
    }
    ends
}

/// Appends what these bytes stand for; false: they are no text (RFC 7541 §5.2).
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    // No code is shorter than five bits.
    out.reserve(coded.len() * 8 / 5);
    let mut node = 0;
    for &byte in coded {
        for bits in [byte >> 4, byte & 15] {
            let Some(steps) = STEPS.get(usize::from(node)) else { return false };
            let step = steps[usize::from(bits)];
            if let Some(symbol) = step.symbol {
                out.push(symbol);
            }
            node = step.next;
        }
    }
    ENDS.get(usize::from(node)).is_some_and(|&ends| ends)
}
