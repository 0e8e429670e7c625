"""Files and records of any layout to samples (`messages.Sample`): readers, mixtures, pictures, bad records by name."""
