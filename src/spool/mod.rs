//! Local scratch: files in flight, their limit, and the journal of notices for when the database is away.
