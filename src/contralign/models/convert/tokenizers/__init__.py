"""SentencePiece vocabularies as fast tokenizers that give the original ids."""
