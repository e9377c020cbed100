// SPDX-License-Identifier: Apache-2.0
//! Where an object was written: enough to find file, line and caret when somebody looks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// One document of a file.
///
/// Two documents are the same when their text is; where in the file it begins may change while
/// everything that was read from it stays.
pub struct Document {
    pub file: Arc<str>,
    pub text: Box<str>,
    /// Counted from 0.
    first_line: AtomicU32,
}

impl Document {
    pub fn new(file: Arc<str>, text: impl Into<Box<str>>, first_line: u32) -> Self {
        Self { file, text: text.into(), first_line: AtomicU32::new(first_line) }
    }

    /// Line of the file in which the document begins, counted from 0.
    pub fn first_line(&self) -> u32 {
        self.first_line.load(Ordering::Relaxed)
    }

    /// The same document, found at another line of its file.
    pub fn moved_to(&self, first_line: u32) {
        self.first_line.store(first_line, Ordering::Relaxed);
    }
}

/// Without the text: it may hold a Secret.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.first_line() + 1)
    }
}

/// Where an object comes from. Objects from an API server have no document.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub document: Option<Arc<Document>>,
    /// The object inside its document: empty, or `items[3]`.
    pub path: Box<str>,
    /// For an object inside a `getambassador.io/config` annotation: the document of the
    /// annotation's text; `document` and `path` are then the annotated object's.
    pub annotation: Option<Arc<Document>>,
}
