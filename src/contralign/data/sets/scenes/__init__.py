"""The built-in set of drawn scenes, in which the kind of every word is known and difficulty is a setting."""
