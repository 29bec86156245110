//! Run folder to HTML, PNG and text. Starts nothing.
