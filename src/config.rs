//! The configuration file, collected from the settings of each room.
