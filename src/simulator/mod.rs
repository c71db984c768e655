//! Vendors that verify what the real ones verify and misbehave on demand; imports nothing that is under test.
