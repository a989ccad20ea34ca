//! What a user may write: the text's own shape, key by key.
