//! The roof: puts the rooms together, the only place that knows every concrete type.
