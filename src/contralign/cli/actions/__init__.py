"""What verbs do once their arguments are read, where that takes more than a call."""
